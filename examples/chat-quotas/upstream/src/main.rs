//! The application: a chatbot and the service of its users. It knows who its users are and what they say, and nothing of
//! what they may: no plan, no counter, no payment. That is Tollgate's, in front of it.

mod chat;
mod documents;
mod users;

use std::process::ExitCode;

use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde_json::json;
use users::Users;

/// As in `envoy.yaml`.
const PORT: u16 = 18403;

#[tokio::main]
async fn main() -> ExitCode {
    example_listen::serve("chat-quotas-upstream", PORT, application()).await
}

fn application() -> Router {
    Router::new()
        .route("/health", get(|| async { Json(json!({"status": "ok"})) }))
        .route("/api/v1/auth/register", post(users::register))
        .route("/api/v1/auth/login", post(users::login))
        .route("/api/v1/chat", post(chat::answer))
        .route("/api/v1/documents/search", get(documents::search))
        .route("/api/v1/documents/pdf", post(documents::pdf))
        .with_state(Users::default())
}

/// An answer that says what is wrong, as this API says it.
fn refuse(status: StatusCode, detail: &str) -> Response {
    (status, Json(json!({"detail": detail}))).into_response()
}
