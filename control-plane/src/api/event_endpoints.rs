//! `/v1/event-endpoints`: where events are told. A secret is shown once, when it is made.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use jiff::Timestamp;
use serde::{Deserialize, Deserializer, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::events::{DeliveryBody, DeliveryPage, deliveries_of};
use super::extract::{self, Path, Query, cursor_key, page_limit};
use super::policy::{PageQuery, next_cursor};
use super::problem::{Problem, ProblemBody, ProblemKind};
use super::state::Api;
use crate::calendar::rfc3339;
use crate::service::event_endpoints::EndpointWish;
use crate::store::audit::Author;
use crate::store::event_deliveries::DeliveryState;
use crate::store::event_endpoints::EndpointRow;

/// An endpoint to be made.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewEventEndpoint {
    /// Where events are told: http or https, of the public internet unless the control plane allows private addresses.
    url: String,
    /// For people.
    #[serde(default)]
    description: Option<String>,
    /// Types that it is told, such as `threshold.reached`. Default: all.
    #[serde(default)]
    types: Vec<String>,
    /// A secret of your own: `whsec_` and the base64 of 24 to 64 random bytes. Default: one is made.
    #[serde(default)]
    secret: Option<String>,
}

/// What is to change of an endpoint; what is left out stays.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct EventEndpointChange {
    /// Where events are told.
    #[serde(default)]
    url: Option<String>,
    /// For people; null: none.
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<String>)]
    description: Option<Option<String>>,
    /// Types that it is told; none: all.
    #[serde(default)]
    types: Option<Vec<String>>,
    /// Whether it is told anything. One that is enabled again is told what it missed and is still kept.
    #[serde(default)]
    enabled: Option<bool>,
}

/// Tells a null from what is left out.
fn given<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Option<String>>, D::Error> {
    Option::deserialize(deserializer).map(Some)
}

/// An endpoint, without its secrets.
#[derive(Debug, Serialize, ToSchema)]
pub struct EventEndpointBody {
    /// What it is named by here.
    id: String,
    /// Where events are told.
    url: String,
    /// For people.
    #[serde(skip_serializing_if = "Option::is_none")]
    description: Option<String>,
    /// Types that it is told; none: all.
    types: Vec<String>,
    /// Whether it is told anything.
    enabled: bool,
    /// Since when it is not, RFC 3339.
    #[serde(skip_serializing_if = "Option::is_none")]
    disabled_at: Option<String>,
    /// Why it is not.
    #[serde(skip_serializing_if = "Option::is_none")]
    disabled_because: Option<String>,
    /// Since when nothing has arrived though it was tried, RFC 3339. After five days it is disabled.
    #[serde(skip_serializing_if = "Option::is_none")]
    failing_since: Option<String>,
    /// Until when each replaced secret goes on signing, RFC 3339.
    old_secrets_until: Vec<String>,
    /// When it was made, RFC 3339.
    created_at: String,
    /// The name of the token it was made with.
    created_by: String,
}

impl EventEndpointBody {
    fn new(row: EndpointRow, now_ms: i64) -> Self {
        let old = row.secrets.iter().filter_map(|secret| secret.expires_ms).filter(|end| now_ms < *end);
        Self {
            old_secrets_until: old.map(rfc3339).collect(),
            id: row.id,
            url: row.url,
            description: row.description,
            types: row.types,
            enabled: row.disabled_ms.is_none(),
            disabled_at: row.disabled_ms.map(rfc3339),
            disabled_because: row.disabled_because,
            failing_since: row.failing_ms.map(rfc3339),
            created_at: rfc3339(row.created_ms),
            created_by: row.created_by,
        }
    }
}

/// An endpoint with its newest secret.
#[derive(Debug, Serialize, ToSchema)]
pub struct EventEndpointWithSecret {
    /// What its events are signed with. It is shown this once.
    secret: String,
    #[serde(flatten)]
    about: EventEndpointBody,
}

/// A page of endpoints.
#[derive(Debug, Serialize, ToSchema)]
pub struct EventEndpointPage {
    /// The endpoints.
    items: Vec<EventEndpointBody>,
    /// Pass it as `cursor` for the next page; missing on the last.
    #[serde(skip_serializing_if = "Option::is_none")]
    next_cursor: Option<String>,
}

/// How a secret is replaced.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct EventSecretRotation {
    /// For how many hours the secret before goes on signing too, 0 to 720. Default: 24.
    #[serde(default = "a_day")]
    overlap_hours: u32,
    /// A secret of your own. Default: one is made.
    #[serde(default)]
    secret: Option<String>,
}

fn a_day() -> u32 {
    24
}

/// A test event that is on its way.
#[derive(Debug, Serialize, ToSchema)]
pub struct EventTestBody {
    /// The event: GET /v1/events/{id} says what became of it.
    event: String,
}

/// Since when.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct EventRecoveryWish {
    /// Events since this moment, RFC 3339.
    #[schema(value_type = String)]
    since: Timestamp,
}

/// What is told again.
#[derive(Debug, Serialize, ToSchema)]
pub struct EventRecoveryBody {
    /// How many events; at most 10,000 at once.
    events: u64,
}

/// Which deliveries.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct DeliveryQuery {
    /// Only those that are `pending`, `delivered` or `given_up`.
    state: Option<String>,
    /// Rows of the page, 1 to 500. Default: 100.
    limit: Option<i64>,
    /// `next_cursor` of the page before.
    cursor: Option<String>,
}

/// The endpoints.
#[utoipa::path(
    get, path = "/v1/event-endpoints", tag = "events", params(PageQuery),
    responses((status = 200, body = EventEndpointPage))
)]
pub async fn list(
    State(api): State<Api>,
    Query(query): Query<PageQuery>,
) -> Result<Json<EventEndpointPage>, Problem> {
    let limit = page_limit(query.limit)?;
    let after = cursor_key(query.cursor.as_deref())?.unwrap_or_default();
    let mut rows = api.plane.event_endpoints(&after, limit + 1).await?;
    let next_cursor = next_cursor(&mut rows, limit, |row| row.id.clone());
    let now_ms = api.plane.clock.now_ms();
    let items = rows.into_iter().map(|row| EventEndpointBody::new(row, now_ms)).collect();
    Ok(Json(EventEndpointPage { items, next_cursor }))
}

/// Makes an endpoint. It is told what happens from now on.
#[utoipa::path(
    post, path = "/v1/event-endpoints", tag = "events", request_body = NewEventEndpoint,
    responses((status = 201, body = EventEndpointWithSecret))
)]
pub async fn create(
    State(api): State<Api>,
    author: Author,
    extract::Json(body): extract::Json<NewEventEndpoint>,
) -> Result<(StatusCode, Json<EventEndpointWithSecret>), Problem> {
    let wish = EndpointWish {
        url: Some(body.url),
        description: Some(body.description),
        types: Some(body.types),
        enabled: None,
    };
    let (row, secret) = api.plane.create_event_endpoint(&author, &wish, body.secret.as_deref()).await?;
    let about = EventEndpointBody::new(row, author.now_ms);
    Ok((StatusCode::CREATED, Json(EventEndpointWithSecret { secret, about })))
}

/// An endpoint.
#[utoipa::path(
    get, path = "/v1/event-endpoints/{id}", tag = "events", params(("id" = String, Path)),
    responses(
        (status = 200, body = EventEndpointBody),
        (status = 404, body = ProblemBody, description = "event-endpoint-missing"),
    )
)]
pub async fn show(
    State(api): State<Api>,
    Path(id): Path<String>,
) -> Result<Json<EventEndpointBody>, Problem> {
    let row = api.plane.event_endpoint(&id).await?;
    Ok(Json(EventEndpointBody::new(row, api.plane.clock.now_ms())))
}

/// Changes an endpoint.
#[utoipa::path(
    patch, path = "/v1/event-endpoints/{id}", tag = "events", params(("id" = String, Path)),
    request_body = EventEndpointChange,
    responses(
        (status = 200, body = EventEndpointBody),
        (status = 404, body = ProblemBody, description = "event-endpoint-missing"),
    )
)]
pub async fn change(
    State(api): State<Api>,
    Path(id): Path<String>,
    author: Author,
    extract::Json(body): extract::Json<EventEndpointChange>,
) -> Result<Json<EventEndpointBody>, Problem> {
    let wish = EndpointWish {
        url: body.url,
        description: body.description,
        types: body.types,
        enabled: body.enabled,
    };
    let row = api.plane.change_event_endpoint(&author, &id, &wish).await?;
    Ok(Json(EventEndpointBody::new(row, author.now_ms)))
}

/// Deletes an endpoint, with all that it was still to be told.
#[utoipa::path(
    delete, path = "/v1/event-endpoints/{id}", tag = "events", params(("id" = String, Path)),
    responses((status = 204), (status = 404, body = ProblemBody, description = "event-endpoint-missing"))
)]
pub async fn delete(
    State(api): State<Api>,
    Path(id): Path<String>,
    author: Author,
) -> Result<StatusCode, Problem> {
    api.plane.delete_event_endpoint(&author, &id).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Replaces an endpoint's secret. For the hours of overlap each event carries the signatures of both.
#[utoipa::path(
    post, path = "/v1/event-endpoints/{id}/rotate", tag = "events", params(("id" = String, Path)),
    request_body = EventSecretRotation,
    responses(
        (status = 200, body = EventEndpointWithSecret),
        (status = 404, body = ProblemBody, description = "event-endpoint-missing"),
    )
)]
pub async fn rotate(
    State(api): State<Api>,
    Path(id): Path<String>,
    author: Author,
    extract::Json(body): extract::Json<EventSecretRotation>,
) -> Result<Json<EventEndpointWithSecret>, Problem> {
    let secret = body.secret.as_deref();
    let (row, secret) = api.plane.rotate_event_secret(&author, &id, body.overlap_hours, secret).await?;
    let about = EventEndpointBody::new(row, author.now_ms);
    Ok(Json(EventEndpointWithSecret { secret, about }))
}

/// Tells an endpoint a test event, whatever types it is told else.
#[utoipa::path(
    post, path = "/v1/event-endpoints/{id}/test", tag = "events", params(("id" = String, Path)),
    responses(
        (status = 202, body = EventTestBody),
        (status = 404, body = ProblemBody, description = "event-endpoint-missing"),
    )
)]
pub async fn test(
    State(api): State<Api>,
    Path(id): Path<String>,
    author: Author,
) -> Result<(StatusCode, Json<EventTestBody>), Problem> {
    let event = api.plane.test_event_endpoint(&author, &id).await?;
    Ok((StatusCode::ACCEPTED, Json(EventTestBody { event })))
}

/// Tells an endpoint again what was given up: after it was away for longer than deliveries are attempted.
#[utoipa::path(
    post, path = "/v1/event-endpoints/{id}/recover", tag = "events", params(("id" = String, Path)),
    request_body = EventRecoveryWish,
    responses(
        (status = 202, body = EventRecoveryBody),
        (status = 404, body = ProblemBody, description = "event-endpoint-missing"),
    )
)]
pub async fn recover(
    State(api): State<Api>,
    Path(id): Path<String>,
    author: Author,
    extract::Json(body): extract::Json<EventRecoveryWish>,
) -> Result<(StatusCode, Json<EventRecoveryBody>), Problem> {
    let events = api.plane.recover_event_endpoint(&author, &id, body.since.as_millisecond()).await?;
    Ok((StatusCode::ACCEPTED, Json(EventRecoveryBody { events })))
}

/// What became of the events for an endpoint, the newest first.
#[utoipa::path(
    get, path = "/v1/event-endpoints/{id}/deliveries", tag = "events",
    params(("id" = String, Path), DeliveryQuery),
    responses(
        (status = 200, body = DeliveryPage),
        (status = 404, body = ProblemBody, description = "event-endpoint-missing"),
    )
)]
pub async fn deliveries(
    State(api): State<Api>,
    Path(id): Path<String>,
    Query(query): Query<DeliveryQuery>,
) -> Result<Json<DeliveryPage>, Problem> {
    let limit = page_limit(query.limit)?;
    let state = query.state.as_deref().map(|name| {
        let unknown = || Problem::new(ProblemKind::QueryMalformed, "Ask for pending, delivered or given_up.");
        DeliveryState::named(name).ok_or_else(unknown)
    });
    let state = state.transpose()?;
    let before = cursor_key(query.cursor.as_deref())?;
    api.plane.event_endpoint(&id).await?;
    let mut rows = deliveries_of(&api, &id, before.as_deref(), state, limit + 1).await?;
    let next_cursor = next_cursor(&mut rows, limit, |row| row.event.clone());
    Ok(Json(DeliveryPage { items: rows.into_iter().map(DeliveryBody::from).collect(), next_cursor }))
}
