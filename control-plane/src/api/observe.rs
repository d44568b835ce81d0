//! Counts and times every request, and bounds how long one may take.

use std::time::Duration;

use axum::extract::{MatchedPath, Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};

use super::problem::{Problem, ProblemKind};
use super::state::Api;

/// How long a request may take on top of the longest poll.
const PATIENCE_MS: u64 = 15_000;

/// Counts and times a request.
pub async fn observe(State(api): State<Api>, request: Request, next: Next) -> Response {
    let route = request.extensions().get::<MatchedPath>().map(|path| path.as_str().to_owned());
    // What matches no route is one label, or callers would choose our labels.
    let route = route.unwrap_or_else(|| "unknown".to_owned());
    let method = known_method(request.method().as_str());
    let begun_ms = api.plane.clock.monotonic_ms();
    let bound = Duration::from_millis(api.plane.settings.watch_max_ms.saturating_add(PATIENCE_MS));
    let response = match tokio::time::timeout(bound, next.run(request)).await {
        Ok(response) => response,
        Err(_) => Problem::new(ProblemKind::Busy, "The request took too long. Try again.").into_response(),
    };
    let took_ms = api.plane.clock.monotonic_ms().saturating_sub(begun_ms);
    let metrics = &api.plane.metrics;
    let status = response.status();
    metrics.requests.with_label_values(&[route.as_str(), method, status.as_str()]).inc();
    metrics.request_seconds.with_label_values(&[route.as_str()]).observe(took_ms as f64 / 1_000.0);
    tracing::debug!(route, method, status = status.as_u16(), took_ms, "answered");
    response
}

fn known_method(method: &str) -> &'static str {
    ["GET", "PUT", "POST", "PATCH", "DELETE", "HEAD", "OPTIONS"]
        .into_iter()
        .find(|known| *known == method)
        .unwrap_or("other")
}
