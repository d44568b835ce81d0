//! `/v1/events`: what happened and was to be told, and what became of it.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::extract::{self, Path, Query, cursor_key, page_limit};
use super::policy::next_cursor;
use super::problem::{Problem, ProblemBody, ProblemKind};
use super::state::Api;
use crate::calendar::rfc3339;
use crate::service::happenings::EventType;
use crate::service::sync::is_subject;
use crate::store::audit::Author;
use crate::store::event_deliveries::{AttemptRow, DeliveryRow, DeliveryState};
use crate::store::events::EventRow;
use crate::store::{StoreError, event_deliveries, events};

/// Most attempts that are shown of one event.
const ATTEMPTS_MAX: i64 = 500;

/// After every event: ids are `evt_` and hex digits.
const AFTER_ALL: &str = "evt_~";

/// An event.
#[derive(Debug, Serialize, ToSchema)]
pub struct EventBody {
    /// Its id: the `webhook-id` it is told with.
    id: String,
    /// Such as `threshold.reached`.
    #[serde(rename = "type")]
    kind: String,
    /// When it happened, RFC 3339.
    at: String,
    /// Whom it concerns.
    #[serde(skip_serializing_if = "Option::is_none")]
    subject: Option<String>,
    /// The body that is told.
    #[schema(value_type = Object)]
    payload: serde_json::Value,
}

impl From<EventRow> for EventBody {
    fn from(row: EventRow) -> Self {
        Self {
            id: row.id,
            kind: row.kind,
            at: rfc3339(row.created_ms),
            subject: row.subject,
            payload: serde_json::from_str(&row.body).unwrap_or_default(),
        }
    }
}

/// An event and what became of it.
#[derive(Debug, Serialize, ToSchema)]
pub struct EventDetailBody {
    #[serde(flatten)]
    event: EventBody,
    /// One for each endpoint it is for.
    deliveries: Vec<DeliveryBody>,
}

/// What became of one event at one endpoint.
#[derive(Debug, Serialize, ToSchema)]
pub struct DeliveryBody {
    /// The event.
    event: String,
    /// Its type.
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    kind: Option<String>,
    /// The endpoint.
    endpoint: String,
    /// `pending`, `delivered` or `given_up`.
    state: String,
    /// How often it was attempted.
    attempts: i64,
    /// When it is attempted next, RFC 3339; of one that is pending.
    #[serde(skip_serializing_if = "Option::is_none")]
    next_at: Option<String>,
    /// The attempts, the newest first; of one event.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    log: Vec<AttemptBody>,
}

impl From<DeliveryRow> for DeliveryBody {
    fn from(row: DeliveryRow) -> Self {
        Self {
            next_at: (row.state == DeliveryState::Pending.name()).then(|| rfc3339(row.next_ms)),
            event: row.event,
            kind: row.kind,
            endpoint: row.endpoint,
            state: row.state,
            attempts: row.attempts,
            log: Vec::new(),
        }
    }
}

/// An attempt.
#[derive(Debug, Serialize, ToSchema)]
pub struct AttemptBody {
    /// From 1.
    attempt: i64,
    /// When it was begun, RFC 3339.
    at: String,
    /// How long it took, ms.
    took_ms: i64,
    /// The HTTP status that was answered.
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<i64>,
    /// Why it failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

impl From<AttemptRow> for AttemptBody {
    fn from(row: AttemptRow) -> Self {
        Self {
            attempt: row.attempt,
            at: rfc3339(row.at_ms),
            took_ms: row.took_ms,
            status: row.status,
            error: row.error,
        }
    }
}

/// A page of events, the newest first.
#[derive(Debug, Serialize, ToSchema)]
pub struct EventPage {
    /// The events.
    items: Vec<EventBody>,
    /// Pass it as `cursor` for the next page; missing on the last.
    #[serde(skip_serializing_if = "Option::is_none")]
    next_cursor: Option<String>,
}

/// A page of deliveries, the newest events first.
#[derive(Debug, Serialize, ToSchema)]
pub struct DeliveryPage {
    /// The deliveries.
    pub(super) items: Vec<DeliveryBody>,
    /// Pass it as `cursor` for the next page; missing on the last.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) next_cursor: Option<String>,
}

/// Which events.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct EventQuery {
    /// Only events of this type.
    #[serde(rename = "type")]
    kind: Option<String>,
    /// Only events that concern this subject.
    subject: Option<String>,
    /// Rows of the page, 1 to 500. Default: 100.
    limit: Option<i64>,
    /// `next_cursor` of the page before.
    cursor: Option<String>,
}

/// Where an event is told again.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RedeliveryWish {
    /// At this endpoint, whether it has arrived there or not. Default: at all where it has not.
    #[serde(default)]
    endpoint: Option<String>,
}

/// Where an event is told again.
#[derive(Debug, Serialize, ToSchema)]
pub struct RedeliveryBody {
    /// The endpoints.
    endpoints: Vec<String>,
}

/// What happened and was to be told to anyone, the newest first.
#[utoipa::path(
    get, path = "/v1/events", tag = "events", params(EventQuery),
    responses((status = 200, body = EventPage))
)]
pub async fn list(
    State(api): State<Api>,
    Query(query): Query<EventQuery>,
) -> Result<Json<EventPage>, Problem> {
    let limit = page_limit(query.limit)?;
    let before = cursor_key(query.cursor.as_deref())?;
    let before = before.as_deref().unwrap_or(AFTER_ALL);
    let (kind, subject) = (query.kind.as_deref(), query.subject.as_deref());
    if kind.is_some_and(|kind| EventType::named(kind).is_none()) {
        let known: Vec<&str> = EventType::ALL.into_iter().map(EventType::name).collect();
        let detail = format!("Ask for a type of these: {}.", known.join(", "));
        return Err(Problem::new(ProblemKind::QueryMalformed, detail));
    }
    if subject.is_some_and(|subject| !is_subject(subject)) {
        return Err(Problem::new(ProblemKind::SubjectMalformed, "Ask for a subject such as user:alice."));
    }
    let mut rows = events::page(&api.plane.database, before, kind, subject, limit + 1).await?;
    let next_cursor = next_cursor(&mut rows, limit, |row| row.id.clone());
    Ok(Json(EventPage { items: rows.into_iter().map(EventBody::from).collect(), next_cursor }))
}

/// An event, and what became of it at each endpoint.
#[utoipa::path(
    get, path = "/v1/events/{id}", tag = "events", params(("id" = String, Path)),
    responses(
        (status = 200, body = EventDetailBody),
        (status = 404, body = ProblemBody, description = "event-missing"),
    )
)]
pub async fn show(State(api): State<Api>, Path(id): Path<String>) -> Result<Json<EventDetailBody>, Problem> {
    let database = &api.plane.database;
    let event = api.plane.event(&id).await?;
    // Before their attempts, so that none which they count is missing from the log.
    let deliveries = event_deliveries::of_event(database, &id).await?;
    let mut logs: BTreeMap<String, Vec<AttemptBody>> = BTreeMap::new();
    for attempt in event_deliveries::attempts(database, &id, ATTEMPTS_MAX).await? {
        logs.entry(attempt.endpoint.clone()).or_default().push(attempt.into());
    }
    let deliveries = deliveries.into_iter().map(|row| {
        let log = logs.remove(&row.endpoint).unwrap_or_default();
        DeliveryBody { log, ..row.into() }
    });
    Ok(Json(EventDetailBody { event: event.into(), deliveries: deliveries.collect() }))
}

/// Tells an event again.
#[utoipa::path(
    post, path = "/v1/events/{id}/redeliver", tag = "events", params(("id" = String, Path)),
    request_body = RedeliveryWish,
    responses(
        (status = 202, body = RedeliveryBody),
        (status = 404, body = ProblemBody, description = "event-missing, event-endpoint-missing"),
    )
)]
pub async fn redeliver(
    State(api): State<Api>,
    Path(id): Path<String>,
    author: Author,
    extract::Json(body): extract::Json<RedeliveryWish>,
) -> Result<(StatusCode, Json<RedeliveryBody>), Problem> {
    let endpoints = api.plane.redeliver_event(&author, &id, body.endpoint.as_deref()).await?;
    Ok((StatusCode::ACCEPTED, Json(RedeliveryBody { endpoints })))
}

/// Deliveries to an endpoint, of events older than `before`.
pub(super) async fn deliveries_of(
    api: &Api,
    endpoint: &str,
    before: Option<&str>,
    state: Option<DeliveryState>,
    limit: i64,
) -> Result<Vec<DeliveryRow>, StoreError> {
    let before = before.unwrap_or(AFTER_ALL);
    event_deliveries::of_endpoint(&api.plane.database, endpoint, before, state, limit).await
}
