//! `/webhooks/{provider}`: what payment providers tell, without a token of ours, because they sign what they send. And
//! `/v1/webhooks`: what came, for operators.

use axum::Json;
use axum::body::Bytes;
use axum::extract::State;
use axum::extract::rejection::BytesRejection;
use axum::http::HeaderMap;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::extract::{self, Path, Query, body_problem, cursor_number, page_limit};
use super::policy::next_cursor;
use super::problem::{Problem, ProblemBody, ProblemKind};
use super::state::Api;
use crate::calendar::rfc3339;
use crate::service::payments::{Delivery, Provider, STATES};
use crate::store::audit::Author;
use crate::store::webhooks::WebhookRow;

/// A webhook is stored.
#[derive(Debug, Serialize, ToSchema)]
pub struct ReceivedBody {
    /// Always true: what is not stored is answered as a problem, and comes again.
    received: bool,
}

/// For Stripe: events, signed by `Stripe-Signature`.
#[utoipa::path(
    post, path = "/webhooks/stripe", tag = "webhooks",
    params(("stripe-signature" = Option<String>, Header, description = "t=…,v1=…")),
    request_body(content = String, content_type = "application/json"),
    responses(
        (status = 200, body = ReceivedBody),
        (status = 400, body = ProblemBody, description = "webhook-refused"),
        (status = 404, body = ProblemBody, description = "provider-unconfigured"),
    )
)]
pub async fn stripe(
    State(api): State<Api>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<Json<ReceivedBody>, Problem> {
    take(&api, Provider::Stripe, &headers, "stripe-signature", body).await
}

/// For LemonSqueezy: events, signed by `X-Signature`.
#[utoipa::path(
    post, path = "/webhooks/lemonsqueezy", tag = "webhooks",
    params(("x-signature" = Option<String>, Header, description = "HMAC-SHA256 of the body, hex")),
    request_body(content = String, content_type = "application/json"),
    responses(
        (status = 200, body = ReceivedBody),
        (status = 400, body = ProblemBody, description = "webhook-refused"),
        (status = 404, body = ProblemBody, description = "provider-unconfigured"),
    )
)]
pub async fn lemonsqueezy(
    State(api): State<Api>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<Json<ReceivedBody>, Problem> {
    take(&api, Provider::LemonSqueezy, &headers, "x-signature", body).await
}

/// For CinetPay: notifications, signed by `x-token`. They make us ask CinetPay, and grant nothing.
#[utoipa::path(
    post, path = "/webhooks/cinetpay", tag = "webhooks",
    params(("x-token" = Option<String>, Header, description = "HMAC-SHA256 of the fields, hex")),
    request_body(content = String, content_type = "application/x-www-form-urlencoded"),
    responses(
        (status = 200, body = ReceivedBody),
        (status = 400, body = ProblemBody, description = "webhook-refused"),
        (status = 404, body = ProblemBody, description = "provider-unconfigured"),
    )
)]
pub async fn cinetpay(
    State(api): State<Api>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<Json<ReceivedBody>, Problem> {
    take(&api, Provider::CinetPay, &headers, "x-token", body).await
}

/// For CinetPay, which looks whether the address answers.
#[utoipa::path(get, path = "/webhooks/cinetpay", tag = "webhooks", responses((status = 200, body = ReceivedBody)))]
pub async fn ping() -> Json<ReceivedBody> {
    Json(ReceivedBody { received: true })
}

async fn take(
    api: &Api,
    provider: Provider,
    headers: &HeaderMap,
    header: &str,
    body: Result<Bytes, BytesRejection>,
) -> Result<Json<ReceivedBody>, Problem> {
    let body = body.map_err(body_problem)?;
    // A header that is no text is one that is not right.
    let signature = headers.get(header).map(|value| value.to_str().unwrap_or_default());
    api.plane.take_webhook(Delivery { provider, signature, body: &body }).await?;
    Ok(Json(ReceivedBody { received: true }))
}

/// A webhook.
#[derive(Debug, Serialize, ToSchema)]
pub struct WebhookBody {
    /// Rises with each webhook.
    id: i64,
    /// `stripe`, `lemonsqueezy` or `cinetpay`.
    provider: String,
    /// The provider's id of the event, or the hash of what it says.
    event_id: String,
    /// Such as `customer.subscription.updated`.
    kind: String,
    /// Whom the provider charges.
    account: Option<String>,
    /// The provider's subscription, or the order.
    reference: Option<String>,
    /// Whom it was found to be about.
    subject: Option<String>,
    /// When it happened, RFC 3339.
    at: String,
    /// When it came first, RFC 3339.
    received_at: String,
    /// How often it came.
    deliveries: i64,
    /// `pending`, `done`, `ignored`, `unlinked`, `failed` or `conflict`.
    state: String,
    /// How often it was tried.
    attempts: i64,
    /// When it is tried next, RFC 3339; of a pending one.
    #[serde(skip_serializing_if = "Option::is_none")]
    next_at: Option<String>,
    /// Why it is not done.
    error: Option<String>,
}

impl From<WebhookRow> for WebhookBody {
    fn from(row: WebhookRow) -> Self {
        Self {
            id: row.id,
            provider: row.provider,
            event_id: row.event_id,
            kind: row.kind,
            account: row.account,
            reference: row.reference,
            subject: row.subject,
            at: rfc3339(row.at_ms),
            received_at: rfc3339(row.received_ms),
            deliveries: row.deliveries,
            next_at: (row.state == "pending").then(|| rfc3339(row.next_ms)),
            state: row.state,
            attempts: row.attempts,
            error: row.error,
        }
    }
}

/// A webhook and what it says.
#[derive(Debug, Serialize, ToSchema)]
pub struct WebhookDetailBody {
    #[serde(flatten)]
    webhook: WebhookBody,
    /// The body, as it came.
    payload: String,
}

/// A page of webhooks, the newest first.
#[derive(Debug, Serialize, ToSchema)]
pub struct WebhookPage {
    /// The webhooks.
    items: Vec<WebhookBody>,
    /// Pass it as `cursor` for the next page; missing on the last.
    #[serde(skip_serializing_if = "Option::is_none")]
    next_cursor: Option<String>,
}

/// Which webhooks.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct WebhookQuery {
    /// Only those of this provider.
    #[param(value_type = Option<String>)]
    provider: Option<Provider>,
    /// Only those in this state.
    state: Option<String>,
    /// Rows of the page, 1 to 500. Default: 100.
    limit: Option<i64>,
    /// `next_cursor` of the page before.
    cursor: Option<String>,
}

/// Whose a webhook is.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct LinkWish {
    /// Such as `user:alice` or `org:acme`.
    subject: String,
}

/// Webhooks of payment providers, the newest first.
#[utoipa::path(
    get, path = "/v1/webhooks", tag = "webhooks", params(WebhookQuery),
    responses((status = 200, body = WebhookPage))
)]
pub async fn list(
    State(api): State<Api>,
    Query(query): Query<WebhookQuery>,
) -> Result<Json<WebhookPage>, Problem> {
    let limit = page_limit(query.limit)?;
    let before = cursor_number(query.cursor.as_deref())?.unwrap_or(i64::MAX);
    let (provider, state) = (query.provider.map(Provider::name), query.state.as_deref());
    if state.is_some_and(|state| !STATES.contains(&state)) {
        let sentence = format!("Ask for a state of: {}.", STATES.join(", "));
        return Err(Problem::new(ProblemKind::QueryMalformed, sentence));
    }
    let mut rows = api.plane.webhooks(before, provider, state, limit + 1).await?;
    let next_cursor = next_cursor(&mut rows, limit, |row| row.id.to_string());
    Ok(Json(WebhookPage { items: rows.into_iter().map(WebhookBody::from).collect(), next_cursor }))
}

/// A webhook and its body, as it came.
#[utoipa::path(
    get, path = "/v1/webhooks/{id}", tag = "webhooks", params(("id" = i64, Path)),
    responses(
        (status = 200, body = WebhookDetailBody),
        (status = 404, body = ProblemBody, description = "webhook-missing"),
    )
)]
pub async fn show(State(api): State<Api>, Path(id): Path<i64>) -> Result<Json<WebhookDetailBody>, Problem> {
    let (row, payload) = api.plane.webhook(id).await?;
    Ok(Json(WebhookDetailBody { webhook: row.into(), payload }))
}

/// Works a webhook off again, now.
#[utoipa::path(
    post, path = "/v1/webhooks/{id}/replay", tag = "webhooks", params(("id" = i64, Path)),
    responses(
        (status = 200, body = WebhookBody),
        (status = 404, body = ProblemBody, description = "webhook-missing"),
        (status = 422, body = ProblemBody, description = "webhook-invalid"),
    )
)]
pub async fn replay(
    State(api): State<Api>,
    Path(id): Path<i64>,
    author: Author,
) -> Result<Json<WebhookBody>, Problem> {
    Ok(Json(api.plane.replay_webhook(&author, id).await?.into()))
}

/// Says whose the subscription of a webhook is, and works it off now. What else waited for that follows at once.
#[utoipa::path(
    post, path = "/v1/webhooks/{id}/link", tag = "webhooks", params(("id" = i64, Path)),
    request_body = LinkWish,
    responses(
        (status = 200, body = WebhookBody),
        (status = 404, body = ProblemBody, description = "webhook-missing"),
        (status = 422, body = ProblemBody, description = "webhook-invalid"),
    )
)]
pub async fn link(
    State(api): State<Api>,
    Path(id): Path<i64>,
    author: Author,
    extract::Json(body): extract::Json<LinkWish>,
) -> Result<Json<WebhookBody>, Problem> {
    Ok(Json(api.plane.link_webhook(&author, id, &body.subject).await?.into()))
}
