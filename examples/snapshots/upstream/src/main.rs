//! The application: chains, their snapshots of today, and snapshots that are made to order. It reads no token, and knows
//! nothing of tiers, limits, usage or subscriptions: who may have what is decided before a request gets here.

use std::convert::Infallible;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use axum::body::{Body, Bytes};
use axum::extract::rejection::JsonRejection;
use axum::extract::{Path, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use futures_util::stream;
use serde::Deserialize;
use serde_json::{Value, json};

/// As in `envoy.yaml`.
const PORT: u16 = 18503;

/// Hours of UTC at which a snapshot of each chain is made.
const HOURS: [&str; 4] = ["00", "06", "12", "18"];

/// A chain, and how large its snapshots are.
struct Chain {
    name: &'static str,
    snapshot_bytes: usize,
}

const CHAINS: [Chain; 4] = [
    Chain { name: "atlas-1", snapshot_bytes: 18_750_000 },
    Chain { name: "borealis-2", snapshot_bytes: 93_750_000 },
    Chain { name: "cygnus-3", snapshot_bytes: 262_000_000 },
    Chain { name: "tiny-4", snapshot_bytes: 8_192 },
];

/// What a snapshot is made of here.
static PIECE: [u8; 65_536] = [b's'; 65_536];

/// A snapshot to be made of a chain as it was at a height.
#[derive(Deserialize)]
struct Wish {
    chain: String,
    height: u64,
}

/// How many snapshots were ordered.
type Ordered = Arc<AtomicU64>;

#[tokio::main]
async fn main() -> ExitCode {
    example_listen::serve("snapshots-upstream", PORT, application()).await
}

fn application() -> Router {
    Router::new()
        .route("/api/chains", get(chains))
        .route("/api/snapshots/{chain}", get(snapshots))
        .route("/api/snapshots/{chain}/{hour}", get(download))
        .route("/api/custom-requests", post(order))
        .fallback(|| async { fault(StatusCode::NOT_FOUND, "there is no such page") })
        .with_state(Ordered::default())
}

async fn chains() -> Json<Value> {
    found(CHAINS.iter().map(|chain| chain.name).collect())
}

async fn snapshots(Path(name): Path<String>) -> Response {
    let Some(chain) = chain(&name) else { return no_chain() };
    let paths: Vec<_> = HOURS.iter().map(|hour| format!("/api/snapshots/{name}/{hour}")).collect();
    found(json!({"chain": chain.name, "bytes": chain.snapshot_bytes, "downloads": paths})).into_response()
}

async fn download(Path((name, hour)): Path<(String, String)>) -> Response {
    let Some(chain) = chain(&name) else { return no_chain() };
    if !HOURS.contains(&hour.as_str()) {
        return fault(StatusCode::NOT_FOUND, "snapshots are made at 00, 06, 12 and 18 UTC");
    }
    let whole = std::iter::repeat_n(Bytes::from_static(&PIECE), chain.snapshot_bytes / PIECE.len());
    let rest = Bytes::from_static(&PIECE).slice(..chain.snapshot_bytes % PIECE.len());
    let pieces = whole.chain([rest]).map(Ok::<_, Infallible>);
    let headers = [
        (header::CONTENT_TYPE, "application/octet-stream".to_owned()),
        (header::CONTENT_LENGTH, chain.snapshot_bytes.to_string()),
    ];
    (headers, Body::from_stream(stream::iter(pieces))).into_response()
}

async fn order(State(ordered): State<Ordered>, wish: Result<Json<Wish>, JsonRejection>) -> Response {
    let Ok(Json(wish)) = wish else {
        return fault(StatusCode::BAD_REQUEST, "say which chain, and at which height, in JSON");
    };
    let Some(chain) = chain(&wish.chain) else { return no_chain() };
    let number = ordered.fetch_add(1, Ordering::Relaxed) + 1;
    let order = json!({"order": number, "chain": chain.name, "height": wish.height, "state": "queued"});
    (StatusCode::ACCEPTED, found(order)).into_response()
}

fn chain(name: &str) -> Option<&'static Chain> {
    CHAINS.iter().find(|chain| chain.name == name)
}

fn found(data: Value) -> Json<Value> {
    Json(json!({"success": true, "data": data}))
}

fn no_chain() -> Response {
    fault(StatusCode::NOT_FOUND, "there is no such chain")
}

fn fault(status: StatusCode, error: &str) -> Response {
    (status, Json(json!({"success": false, "error": error}))).into_response()
}
