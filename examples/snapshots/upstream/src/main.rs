//! The application: it knows nothing of tiers, tokens or limits.

use std::process::ExitCode;

use axum::Router;

/// As in `envoy.yaml`.
const PORT: u16 = 18503;

#[tokio::main]
async fn main() -> ExitCode {
    example_listen::serve("snapshots-upstream", PORT, Router::new()).await
}
