//! `/v1/subjects/{subject}/grants`: extra units of a limit, bought as a top-up or given.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tollgate_policy::subscription::Grant;
use utoipa::ToSchema;

use super::extract::{self, Path};
use super::problem::{Problem, ProblemBody};
use super::state::Api;
use crate::calendar::rfc3339;
use crate::store::audit::Author;

/// A grant to be given.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct GrantWish {
    /// Names it among the subject's grants, such as the number of the order: given twice, it is given once.
    id: String,
    /// The limit's name.
    limit: String,
    /// Units in all.
    units: u64,
    /// From this moment on what is left of it is gone, RFC 3339. Default: never.
    #[schema(value_type = Option<String>)]
    expires_at: Option<Timestamp>,
}

/// A grant.
#[derive(Debug, Serialize, ToSchema)]
pub struct GrantBody {
    /// Names it among the subject's grants.
    id: String,
    /// The limit's name.
    limit: String,
    /// Units in all.
    units: u64,
    /// Units that are used up; of a quota.
    burnt: u64,
    /// Units that are left; none of one that expired.
    left: u64,
    /// From this moment on what is left of it is gone, RFC 3339.
    #[serde(skip_serializing_if = "Option::is_none")]
    expires_at: Option<String>,
}

impl GrantBody {
    fn new(grant: Grant, now_ms: i64) -> Self {
        let left = if grant.holds(now_ms) { grant.units.saturating_sub(grant.burnt) } else { 0 };
        Self {
            left,
            id: grant.id,
            limit: grant.limit,
            units: grant.units,
            burnt: grant.burnt,
            expires_at: grant.expires_at_ms.map(rfc3339),
        }
    }
}

/// A subject's grants.
#[derive(Debug, Serialize, ToSchema)]
pub struct GrantList {
    /// In the order in which they are used: the first to expire first.
    items: Vec<GrantBody>,
}

/// A subject's grants; at most 64.
#[utoipa::path(
    get, path = "/v1/subjects/{subject}/grants", tag = "subjects", params(("subject" = String, Path)),
    responses((status = 200, body = GrantList))
)]
pub async fn list(State(api): State<Api>, Path(subject): Path<String>) -> Result<Json<GrantList>, Problem> {
    let now_ms = api.plane.clock.now_ms();
    let grants = api.plane.grants(&subject).await?;
    Ok(Json(GrantList { items: grants.into_iter().map(|grant| GrantBody::new(grant, now_ms)).collect() }))
}

/// Gives extra units of a limit: of a quota they are used up after what the window itself allows, of another kind they raise
/// the maximum for as long as they hold. Every edge feels it within a second.
#[utoipa::path(
    post, path = "/v1/subjects/{subject}/grants", tag = "subjects", params(("subject" = String, Path)),
    request_body = GrantWish,
    responses(
        (status = 201, body = GrantBody),
        (status = 200, body = GrantBody, description = "It was given before"),
        (status = 409, body = ProblemBody, description = "grant-conflict, no-policy"),
    )
)]
pub async fn add(
    State(api): State<Api>,
    Path(subject): Path<String>,
    author: Author,
    extract::Json(body): extract::Json<GrantWish>,
) -> Result<(StatusCode, Json<GrantBody>), Problem> {
    let wish = Grant {
        id: body.id,
        limit: body.limit,
        units: body.units,
        burnt: 0,
        expires_at_ms: body.expires_at.map(Timestamp::as_millisecond),
    };
    let (grant, new) = api.plane.add_grant(&author, &subject, &wish).await?;
    let status = if new { StatusCode::CREATED } else { StatusCode::OK };
    Ok((status, Json(GrantBody::new(grant, author.now_ms))))
}

/// Takes a grant away. What was used of it stays used.
#[utoipa::path(
    delete, path = "/v1/subjects/{subject}/grants/{id}", tag = "subjects",
    params(("subject" = String, Path), ("id" = String, Path)),
    responses((status = 204), (status = 404, body = ProblemBody, description = "grant-missing"))
)]
pub async fn remove(
    State(api): State<Api>,
    Path((subject, id)): Path<(String, String)>,
    author: Author,
) -> Result<StatusCode, Problem> {
    api.plane.remove_grant(&author, &subject, &id).await?;
    Ok(StatusCode::NO_CONTENT)
}
