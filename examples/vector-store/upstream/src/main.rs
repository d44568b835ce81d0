//! The application: accounts that sign their own tokens, and collections of documents that can be searched. It knows
//! nothing of tiers, quotas or limits: what may not be done does not come here.

mod accounts;
mod collections;
mod files;

use std::process::ExitCode;
use std::sync::Arc;

use axum::Router;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post, put};
use serde_json::json;

use accounts::Accounts;
use collections::Collections;

/// As in `envoy.yaml`.
const PORT: u16 = 18103;

/// What a request can be refused for: the status, and the sentence that `error` says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Refusal(StatusCode, &'static str);

/// All that is kept, in memory.
#[derive(Clone)]
struct Store {
    accounts: Arc<Accounts>,
    collections: Arc<Collections>,
}

#[tokio::main]
async fn main() -> ExitCode {
    let accounts = match accounts::from_environment() {
        Ok(accounts) => Arc::new(accounts),
        Err(message) => {
            eprintln!("vector-store-upstream: {message}");
            return ExitCode::FAILURE;
        }
    };
    let store = Store { accounts, collections: Arc::default() };
    example_listen::serve("vector-store-upstream", PORT, application(store)).await
}

fn application(store: Store) -> Router {
    let collection = put(collections::create).get(collections::show).delete(collections::delete);
    Router::new()
        .route("/register", post(accounts::register))
        .route("/login", post(accounts::login))
        .route("/collections", get(collections::list))
        .route("/collections/{name}", collection)
        .route("/collections/{name}/upload", post(files::upload))
        .route("/collections/{name}/search", post(collections::search))
        .route("/collections/{name}/ask", post(collections::ask))
        .fallback(async || Refusal(StatusCode::NOT_FOUND, "Not found"))
        .with_state(store)
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        (self.0, axum::Json(json!({"error": self.1}))).into_response()
    }
}
