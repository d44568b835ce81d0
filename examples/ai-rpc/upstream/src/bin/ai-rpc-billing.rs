//! The team's billing system, as small as it can be: it takes signed events (Standard Webhooks), and shows which it took.
//! Addressed by what was BILLING_WEBHOOK_URL.

use std::collections::BTreeSet;
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};

use axum::body::Bytes;
use axum::extract::{Query, State};
use axum::http::{HeaderMap, StatusCode};
use axum::routing::get;
use axum::{Json, Router};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, Mac};
use serde::Deserialize;
use serde_json::Value;
use sha2::Sha256;

/// As in `tour.yaml`.
const PORT: u16 = 18304;
/// What follows `whsec_` in the endpoint's secret: anybody may know it.
const SECRET: &str = "ZGVtbyBzZWNyZXQgb2YgdGhlIGJpbGxpbmcgc3lzdGVt";

/// The events that were taken, as text: what comes twice is there once, and in whatever order they come they are shown in
/// one.
type Taken = Arc<Mutex<BTreeSet<String>>>;

#[derive(Deserialize)]
struct Asked {
    subject: String,
}

#[tokio::main]
async fn main() -> ExitCode {
    let application = Router::new().route("/events", get(show).post(take)).with_state(Taken::default());
    example_listen::serve("ai-rpc-billing", PORT, application).await
}

async fn take(State(taken): State<Taken>, headers: HeaderMap, body: Bytes) -> StatusCode {
    let told: Option<Value> = serde_json::from_slice(&body).ok();
    match told.filter(|_| is_signed(&headers, &body)) {
        Some(event) => {
            let mut taken = taken.lock().unwrap_or_else(PoisonError::into_inner);
            taken.insert(line(&event));
            StatusCode::NO_CONTENT
        }
        None => StatusCode::BAD_REQUEST,
    }
}

async fn show(State(taken): State<Taken>, Query(asked): Query<Asked>) -> Json<Vec<String>> {
    let taken = taken.lock().unwrap_or_else(PoisonError::into_inner);
    let of_subject = format!("{} ", asked.subject);
    Json(taken.iter().filter_map(|line| line.strip_prefix(&of_subject)).map(str::to_owned).collect())
}

/// What a ledger of billing would keep of an event.
fn line(event: &Value) -> String {
    let text = |pointer: &str| match event.pointer(pointer) {
        Some(Value::String(text)) => format!(" {text}"),
        Some(Value::Number(number)) => format!(" {number}"),
        _ => String::new(),
    };
    let told =
        ["/type", "/data/limit", "/data/percent", "/data/from", "/data/to", "/data/tier"].map(text).concat();
    format!("{}{told}", text("/data/subject").trim_start())
}

/// Whether one of the signatures is that of `id.timestamp.body`.
fn is_signed(headers: &HeaderMap, body: &[u8]) -> bool {
    let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let (Ok(secret), id, at) = (STANDARD.decode(SECRET), header("webhook-id"), header("webhook-timestamp"))
    else {
        return false;
    };
    let Ok(mac) = Hmac::<Sha256>::new_from_slice(&secret) else { return false };
    let mac = mac.chain_update(format!("{id}.{at}.")).chain_update(body);
    header("webhook-signature").split_whitespace().any(|signature| {
        let bytes = signature.strip_prefix("v1,").and_then(|text| STANDARD.decode(text).ok());
        bytes.is_some_and(|bytes| mac.clone().verify_slice(&bytes).is_ok())
    })
}
