//! The application behind the quickstart's Envoy: it answers what it was asked, and which identity headers came with
//! it. It knows nothing of tiers, tokens or limits.

use std::collections::BTreeMap;
use std::process::ExitCode;

use axum::extract::Request;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::any;
use axum::{Json, Router};
use serde_json::Value;

/// As in `envoy.yaml`.
const PORT: u16 = 18003;

#[tokio::main]
async fn main() -> ExitCode {
    example_listen::serve("quickstart-upstream", PORT, application()).await
}

fn application() -> Router {
    Router::new().route("/fail", any(|| async { StatusCode::INTERNAL_SERVER_ERROR })).fallback(echo)
}

async fn echo(request: Request) -> Json<BTreeMap<&'static str, Value>> {
    Json(BTreeMap::from([
        ("method", request.method().as_str().into()),
        ("path", request.uri().to_string().into()),
        ("identity", identity(request.headers())),
    ]))
}

/// What Tollgate says of the caller. Header values need not be UTF-8; JSON must be.
fn identity(headers: &HeaderMap) -> Value {
    let ours = headers.iter().filter(|(name, _)| name.as_str().starts_with("x-tollgate-"));
    ours.map(|(name, value)| (name.to_string(), Value::from(String::from_utf8_lossy(value.as_bytes()))))
        .collect()
}
