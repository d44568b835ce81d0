//! `/v1/audit`: who changed what. It can only be read.

use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::extract::{Query, cursor_number, page_limit};
use super::policy::{next_cursor, rfc3339};
use super::problem::Problem;
use super::state::Api;
use crate::store::audit;

/// One change.
#[derive(Debug, Serialize, ToSchema)]
pub struct AuditBody {
    /// Rises by one with each change.
    id: i64,
    /// When, RFC 3339.
    at: String,
    /// The name of the token that was used.
    actor: String,
    /// Such as `subscription.set`.
    action: String,
    /// What was changed, such as a subject.
    target: String,
    /// The value before.
    #[schema(value_type = Option<Object>)]
    before: Option<serde_json::Value>,
    /// The value after.
    #[schema(value_type = Option<Object>)]
    after: Option<serde_json::Value>,
    /// The address of the peer that asked.
    remote: String,
}

/// A page of changes, the newest first.
#[derive(Debug, Serialize, ToSchema)]
pub struct AuditPage {
    /// The changes.
    items: Vec<AuditBody>,
    /// Pass it as `cursor` for the next page; missing on the last.
    #[serde(skip_serializing_if = "Option::is_none")]
    next_cursor: Option<String>,
}

/// Which changes.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct AuditQuery {
    /// Only changes of this: a subject, `policy`, an issuer, or a token's id.
    target: Option<String>,
    /// Rows of the page, 1 to 500. Default: 100.
    limit: Option<i64>,
    /// `next_cursor` of the page before.
    cursor: Option<String>,
}

/// Every change there ever was, the newest first.
#[utoipa::path(
    get, path = "/v1/audit", tag = "audit", params(AuditQuery),
    responses((status = 200, body = AuditPage))
)]
pub async fn list(
    State(api): State<Api>,
    Query(query): Query<AuditQuery>,
) -> Result<Json<AuditPage>, Problem> {
    let limit = page_limit(query.limit)?;
    let before = cursor_number(query.cursor.as_deref())?.unwrap_or(i64::MAX);
    let mut rows = audit::page(&api.plane.database, before, query.target.as_deref(), limit + 1).await?;
    let next_cursor = next_cursor(&mut rows, limit, |row| row.id.to_string());
    let items = rows.into_iter().map(|row| AuditBody {
        id: row.id,
        at: rfc3339(row.at_ms),
        actor: row.actor,
        action: row.action,
        target: row.target,
        before: row.before,
        after: row.after,
        remote: row.remote,
    });
    Ok(Json(AuditPage { items: items.collect(), next_cursor }))
}
