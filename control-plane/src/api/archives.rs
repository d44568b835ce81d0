//! `/v1/archives`: what subjects had before they moved here. Looked at as often as one likes, given back once.

use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::{IntoParams, ToSchema};

use super::extract::{Path, Query, cursor_key, page_limit};
use super::policy::next_cursor;
use super::problem::{Problem, ProblemBody};
use super::state::Api;
use crate::calendar::rfc3339;
use crate::store::archives::Archive;
use crate::store::audit::Author;

/// What a subject had.
#[derive(Debug, Serialize, ToSchema)]
pub struct ArchiveBody {
    /// Whose it was.
    subject: String,
    /// Such as `credit_balance`.
    kind: String,
    /// What it had: any JSON.
    data: Value,
    /// When it was archived, RFC 3339.
    archived_at: String,
    /// The name of the token it was archived with.
    archived_by: String,
    /// When it was given back, RFC 3339.
    #[serde(skip_serializing_if = "Option::is_none")]
    restored_at: Option<String>,
    /// The name of the token it was asked for with.
    #[serde(skip_serializing_if = "Option::is_none")]
    restored_by: Option<String>,
}

impl From<Archive> for ArchiveBody {
    fn from(archive: Archive) -> Self {
        let (restored_ms, restored_by) = archive.restored.unzip();
        Self {
            subject: archive.subject,
            kind: archive.kind,
            data: archive.data,
            archived_at: rfc3339(archive.archived_ms),
            archived_by: archive.archived_by,
            restored_at: restored_ms.map(rfc3339),
            restored_by,
        }
    }
}

/// A page of archives, by subject and kind.
#[derive(Debug, Serialize, ToSchema)]
pub struct ArchivePage {
    /// The archives.
    items: Vec<ArchiveBody>,
    /// Pass it as `cursor` for the next page; missing on the last.
    #[serde(skip_serializing_if = "Option::is_none")]
    next_cursor: Option<String>,
}

/// Which archives.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct ArchiveQuery {
    /// Only those of this subject.
    subject: Option<String>,
    /// Only those of this kind.
    kind: Option<String>,
    /// Rows of the page, 1 to 500. Default: 100.
    limit: Option<i64>,
    /// `next_cursor` of the page before.
    cursor: Option<String>,
}

/// Archives, by subject and kind.
#[utoipa::path(
    get, path = "/v1/archives", tag = "moving", params(ArchiveQuery),
    responses((status = 200, body = ArchivePage), (status = 422, body = ProblemBody, description = "archive-invalid"))
)]
pub async fn list(
    State(api): State<Api>,
    Query(query): Query<ArchiveQuery>,
) -> Result<Json<ArchivePage>, Problem> {
    let limit = page_limit(query.limit)?;
    let after = cursor_key(query.cursor.as_deref())?.unwrap_or_default();
    // A kind has no line feed, and neither has a subject.
    let after = after.split_once('\n').unwrap_or((&after, ""));
    let (subject, kind) = (query.subject.as_deref(), query.kind.as_deref());
    let mut rows = api.plane.archives(after, subject, kind, limit + 1).await?;
    let next_cursor = next_cursor(&mut rows, limit, |row| format!("{}\n{}", row.subject, row.kind));
    Ok(Json(ArchivePage { items: rows.into_iter().map(ArchiveBody::from).collect(), next_cursor }))
}

/// An archive. Looking at it changes nothing.
#[utoipa::path(
    get, path = "/v1/archives/{subject}/{kind}", tag = "moving",
    params(("subject" = String, Path), ("kind" = String, Path)),
    responses(
        (status = 200, body = ArchiveBody),
        (status = 404, body = ProblemBody, description = "archive-missing"),
        (status = 422, body = ProblemBody, description = "archive-invalid"),
    )
)]
pub async fn show(
    State(api): State<Api>,
    Path((subject, kind)): Path<(String, String)>,
) -> Result<Json<ArchiveBody>, Problem> {
    Ok(Json(api.plane.archive(&subject, &kind).await?.into()))
}

/// Gives an archive back: marks it as restored and answers it. Once, so that whoever pays a balance back pays it once.
#[utoipa::path(
    post, path = "/v1/archives/{subject}/{kind}/restore", tag = "moving",
    params(("subject" = String, Path), ("kind" = String, Path)),
    responses(
        (status = 200, body = ArchiveBody),
        (status = 404, body = ProblemBody, description = "archive-missing"),
        (status = 409, body = ProblemBody, description = "archive-restored"),
        (status = 422, body = ProblemBody, description = "archive-invalid"),
    )
)]
pub async fn restore(
    State(api): State<Api>,
    Path((subject, kind)): Path<(String, String)>,
    author: Author,
) -> Result<Json<ArchiveBody>, Problem> {
    Ok(Json(api.plane.restore_archive(&author, &subject, &kind).await?.into()))
}
