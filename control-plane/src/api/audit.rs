//! `/v1/audit`: who changed what. It can only be read.

use axum::Json;
use axum::extract::State;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::extract::{Query, cursor_number, page_limit};
use super::policy::next_cursor;
use super::problem::Problem;
use super::state::Api;
use crate::calendar::rfc3339;
use crate::store::audit::{self, AuditFilter};

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
    /// The program that an end user used, as it says itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    agent: Option<String>,
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
    /// Only changes by this actor: a token's name, `webhook:…`, `job:…`, or an end user such as `user:alice`.
    actor: Option<String>,
    /// Only this action, such as `subscription.set`.
    action: Option<String>,
    /// RFC 3339: not before.
    #[param(value_type = Option<String>)]
    from: Option<Timestamp>,
    /// RFC 3339: before.
    #[param(value_type = Option<String>)]
    to: Option<Timestamp>,
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
    let filter = AuditFilter {
        target: query.target.as_deref(),
        actor: query.actor.as_deref(),
        action: query.action.as_deref(),
        from_ms: query.from.map(Timestamp::as_millisecond),
        to_ms: query.to.map(Timestamp::as_millisecond),
    };
    let mut rows = audit::page(&api.plane.database, before, &filter, limit + 1).await?;
    let next_cursor = next_cursor(&mut rows, limit, |row| row.id.to_string());
    let items = rows.into_iter().map(|row| {
        let (remote, agent) = match row.remote.split_once(' ') {
            Some((remote, agent)) => (remote.to_owned(), Some(agent.to_owned())),
            None => (row.remote, None),
        };
        AuditBody {
            id: row.id,
            at: rfc3339(row.at_ms),
            actor: row.actor,
            action: row.action,
            target: row.target,
            before: row.before,
            after: row.after,
            remote,
            agent,
        }
    });
    Ok(Json(AuditPage { items: items.collect(), next_cursor }))
}
