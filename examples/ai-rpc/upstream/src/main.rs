//! The application: an AI backend that is spoken to by JSON-RPC. Who may call it, how often and at what price is not its
//! business.

mod model;
mod rpc;

use std::process::ExitCode;

use axum::Router;
use axum::routing::post;

/// As in `envoy.yaml`.
const PORT: u16 = 18303;

#[tokio::main]
async fn main() -> ExitCode {
    example_listen::serve("ai-rpc-upstream", PORT, Router::new().route("/rpc", post(rpc::answer))).await
}
