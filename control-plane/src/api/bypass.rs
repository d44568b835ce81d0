//! `/v1/subjects/{subject}/bypass`: testing mode, by an admin's grant.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::extract::{self, Path};
use super::problem::{Problem, ProblemBody};
use super::state::Api;
use crate::calendar::rfc3339;
use crate::service::bypass::BypassView;
use crate::store::audit::Author;
use crate::store::subjects::Bypass;

/// A bypass to be granted.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct BypassWish {
    /// From this moment on it no longer holds, RFC 3339; at most 90 days from now.
    #[schema(value_type = String)]
    expires_at: Timestamp,
    /// Why, for the audit log.
    reason: String,
}

/// A bypass.
#[derive(Debug, Serialize, ToSchema)]
pub struct BypassBody {
    /// From this moment on it no longer holds, RFC 3339.
    expires_at: String,
    /// Why.
    reason: String,
    /// When it was granted, RFC 3339.
    granted_at: String,
    /// The name of the token it was granted with.
    granted_by: String,
    /// Whether it holds now.
    in_force: bool,
}

impl BypassBody {
    pub(super) fn new(bypass: Bypass, now_ms: i64) -> Self {
        Self {
            in_force: bypass.in_force(now_ms),
            expires_at: rfc3339(bypass.expires_ms),
            reason: bypass.reason,
            granted_at: rfc3339(bypass.granted_ms),
            granted_by: bypass.granted_by,
        }
    }
}

/// The bypass of a subject.
#[derive(Debug, Serialize, ToSchema)]
pub struct SubjectBypassBody {
    /// The subject.
    subject: String,
    #[serde(flatten)]
    bypass: BypassBody,
    /// Rises with each change of the bypass or the subscription.
    revision: i64,
}

impl SubjectBypassBody {
    fn new(view: BypassView, now_ms: i64) -> Self {
        Self { subject: view.subject, bypass: BypassBody::new(view.bypass, now_ms), revision: view.revision }
    }
}

/// A subject's bypass.
#[utoipa::path(
    get, path = "/v1/subjects/{subject}/bypass", tag = "subjects", params(("subject" = String, Path)),
    responses(
        (status = 200, body = SubjectBypassBody),
        (status = 404, body = ProblemBody, description = "bypass-missing"),
    )
)]
pub async fn show(
    State(api): State<Api>,
    Path(subject): Path<String>,
) -> Result<Json<SubjectBypassBody>, Problem> {
    let view = api.plane.bypass(&subject).await?;
    Ok(Json(SubjectBypassBody::new(view, api.plane.clock.now_ms())))
}

/// Grants a bypass: until it expires no limit and no feature of the subject is looked at; usage is still counted. Every
/// edge feels it within a second.
#[utoipa::path(
    put, path = "/v1/subjects/{subject}/bypass", tag = "subjects", params(("subject" = String, Path)),
    request_body = BypassWish,
    responses((status = 200, body = SubjectBypassBody))
)]
pub async fn set(
    State(api): State<Api>,
    Path(subject): Path<String>,
    author: Author,
    extract::Json(body): extract::Json<BypassWish>,
) -> Result<Json<SubjectBypassBody>, Problem> {
    let expires_ms = body.expires_at.as_millisecond();
    let view = api.plane.set_bypass(&author, &subject, expires_ms, &body.reason).await?;
    Ok(Json(SubjectBypassBody::new(view, author.now_ms)))
}

/// Ends a bypass now.
#[utoipa::path(
    delete, path = "/v1/subjects/{subject}/bypass", tag = "subjects", params(("subject" = String, Path)),
    responses((status = 204), (status = 404, body = ProblemBody, description = "bypass-missing"))
)]
pub async fn clear(
    State(api): State<Api>,
    Path(subject): Path<String>,
    author: Author,
) -> Result<StatusCode, Problem> {
    api.plane.clear_bypass(&author, &subject).await?;
    Ok(StatusCode::NO_CONTENT)
}
