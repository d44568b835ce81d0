//! The application behind the quickstart's Envoy: it answers what it was asked, and which identity headers came with
//! it. It knows nothing of tiers, tokens or limits.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::process::ExitCode;

use axum::extract::Request;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::any;
use axum::{Json, Router};
use serde_json::Value;

/// Where it listens unless its first argument says otherwise.
const LISTEN_DEFAULT: SocketAddr =
    SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 18003);

#[tokio::main]
async fn main() -> ExitCode {
    let listen = match std::env::args().nth(1).map(|argument| argument.parse()) {
        None => LISTEN_DEFAULT,
        Some(Ok(address)) => address,
        Some(Err(error)) => {
            return fail(&format!("the address to listen on, such as {LISTEN_DEFAULT}: {error}"));
        }
    };
    let listener = match tokio::net::TcpListener::bind(listen).await {
        Ok(listener) => listener,
        Err(error) => return fail(&format!("cannot listen on {listen}: {error}")),
    };
    match axum::serve(listener, application()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&error.to_string()),
    }
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

fn fail(message: &str) -> ExitCode {
    eprintln!("quickstart-upstream: {message}");
    ExitCode::FAILURE
}
