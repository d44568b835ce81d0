//! `/v1/policy`: apply, show, history, rollback.

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, header};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::extract::{
    self, ExpectedVersion, Path, PolicyText, Query, cursor_after, cursor_number, page_limit,
};
use super::problem::{Problem, ProblemBody, ProblemKind};
use super::state::Api;
use crate::calendar::rfc3339;
use crate::service::policy::{Applied, NOTE_CHARS_MAX};
use crate::service::versions::ChangedTiers;
use crate::store::audit::Author;
use crate::store::policies::{PolicyRow, PolicyVersion};

/// How a policy is applied.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct ApplyQuery {
    /// `true`: only tell what would change.
    #[serde(default)]
    dry_run: bool,
    /// Words on this version, for its history.
    note: Option<String>,
    /// For whom tiers that differ do: `all` (default), or `new_subscribers`: who has one keeps it as it is.
    #[serde(default)]
    changed_tiers: ChangedTiersQuery,
}

/// For whom tiers that differ do.
#[derive(Debug, Clone, Copy, Default, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ChangedTiersQuery {
    /// For all.
    #[default]
    All,
    /// For those who subscribe from now on.
    NewSubscribers,
}

impl From<ChangedTiersQuery> for ChangedTiers {
    fn from(query: ChangedTiersQuery) -> Self {
        match query {
            ChangedTiersQuery::All => Self::All,
            ChangedTiersQuery::NewSubscribers => Self::NewSubscribers,
        }
    }
}

/// What applying a policy did.
#[derive(Debug, Serialize, ToSchema)]
pub struct AppliedBody {
    /// The version in force now (in a dry run: then).
    version: i64,
    /// The configuration's revision, where anything was changed.
    #[serde(skip_serializing_if = "Option::is_none")]
    revision: Option<i64>,
    /// Whether the policy differs from the one that was in force.
    changed: bool,
    /// What differs.
    changes: Vec<ChangeBody>,
}

/// A part of the policy that differs.
#[derive(Debug, Serialize, ToSchema)]
pub struct ChangeBody {
    /// Such as `tiers.free`.
    path: String,
    /// `added`, `removed` or `changed`.
    kind: &'static str,
}

impl From<Applied> for AppliedBody {
    fn from(applied: Applied) -> Self {
        let changes =
            applied.changes.into_iter().map(|change| ChangeBody { path: change.path, kind: change.kind });
        let changes: Vec<ChangeBody> = changes.collect();
        Self {
            version: applied.version,
            revision: applied.revision,
            changed: applied.revision.is_some() || !changes.is_empty(),
            changes,
        }
    }
}

/// One version of the policy.
#[derive(Debug, Serialize, ToSchema)]
pub struct VersionBody {
    /// From 1.
    version: i64,
    /// Words on it.
    #[serde(skip_serializing_if = "Option::is_none")]
    note: Option<String>,
    /// When it was applied, RFC 3339.
    created_at: String,
    /// The name of the token that was used.
    created_by: String,
}

impl From<PolicyVersion> for VersionBody {
    fn from(about: PolicyVersion) -> Self {
        Self {
            version: about.version,
            note: about.note,
            created_at: rfc3339(about.created_ms),
            created_by: about.created_by,
        }
    }
}

/// One version with its text.
#[derive(Debug, Serialize, ToSchema)]
pub struct PolicyBody {
    #[serde(flatten)]
    about: VersionBody,
    /// The document.
    #[schema(value_type = Object)]
    document: tollgate_policy::document::PolicyDocument,
    /// As its author wrote it.
    source: String,
}

impl From<PolicyRow> for PolicyBody {
    fn from(row: PolicyRow) -> Self {
        Self { about: row.about.into(), document: row.document, source: row.source }
    }
}

/// A page of versions, the newest first.
#[derive(Debug, Serialize, ToSchema)]
pub struct VersionPage {
    /// The versions.
    items: Vec<VersionBody>,
    /// Pass it as `cursor` for the next page; missing on the last.
    #[serde(skip_serializing_if = "Option::is_none")]
    next_cursor: Option<String>,
}

/// Which page.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct PageQuery {
    /// Rows of the page, 1 to 500. Default: 100.
    pub limit: Option<i64>,
    /// `next_cursor` of the page before.
    pub cursor: Option<String>,
}

/// Which version to go back to.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RollBackBody {
    /// A version of the history.
    version: i64,
}

/// Puts a policy in force at every edge, as a new version. `If-Match: "7"` makes sure that version 7 is still in force.
#[utoipa::path(
    put, path = "/v1/policy", tag = "policy",
    params(ApplyQuery, ("If-Match" = Option<String>, Header, description = "Version that must be in force; \"0\": none")),
    request_body(content = String, content_type = "application/yaml"),
    responses((status = 200, body = AppliedBody), (status = 409, body = ProblemBody, description = "version-conflict"))
)]
pub async fn apply(
    State(api): State<Api>,
    Query(query): Query<ApplyQuery>,
    ExpectedVersion(expected): ExpectedVersion,
    author: Author,
    PolicyText(text): PolicyText,
) -> Result<Json<AppliedBody>, Problem> {
    let note = query.note.as_deref();
    if note.is_some_and(|note| note.chars().count() > NOTE_CHARS_MAX || note.contains('\0')) {
        let detail = format!("Write a note of at most {NOTE_CHARS_MAX} characters.");
        return Err(Problem::new(ProblemKind::QueryMalformed, detail));
    }
    let applied = match query.dry_run {
        true => api.plane.try_policy(&text, expected, query.changed_tiers.into()).await?,
        false => {
            let changed_tiers = query.changed_tiers.into();
            api.plane.apply_policy_to(&author, &text, note, expected, changed_tiers).await?
        }
    };
    Ok(Json(applied.into()))
}

/// The policy in force.
#[utoipa::path(
    get, path = "/v1/policy", tag = "policy",
    responses((status = 200, body = PolicyBody), (status = 404, body = ProblemBody, description = "policy-missing"))
)]
pub async fn show(State(api): State<Api>) -> Result<(HeaderMap, Json<PolicyBody>), Problem> {
    let row = api.plane.policy(None).await?;
    let mut headers = HeaderMap::new();
    if let Ok(tag) = HeaderValue::from_str(&format!("\"{}\"", row.about.version)) {
        headers.insert(header::ETAG, tag);
    }
    Ok((headers, Json(row.into())))
}

/// All versions there ever were, the newest first.
#[utoipa::path(
    get, path = "/v1/policy/versions", tag = "policy", params(PageQuery),
    responses((status = 200, body = VersionPage))
)]
pub async fn versions(
    State(api): State<Api>,
    Query(query): Query<PageQuery>,
) -> Result<Json<VersionPage>, Problem> {
    let limit = page_limit(query.limit)?;
    let before = cursor_number(query.cursor.as_deref())?.unwrap_or(i64::MAX);
    let mut rows = api.plane.policy_versions(before, limit + 1).await?;
    let next_cursor = next_cursor(&mut rows, limit, |about| about.version.to_string());
    Ok(Json(VersionPage { items: rows.into_iter().map(VersionBody::from).collect(), next_cursor }))
}

/// One version.
#[utoipa::path(
    get, path = "/v1/policy/versions/{version}", tag = "policy", params(("version" = i64, Path)),
    responses((status = 200, body = PolicyBody), (status = 404, body = ProblemBody, description = "version-unknown"))
)]
pub async fn version(State(api): State<Api>, Path(version): Path<i64>) -> Result<Json<PolicyBody>, Problem> {
    Ok(Json(api.plane.policy(Some(version)).await?.into()))
}

/// Puts an earlier version in force again, as a new version.
#[utoipa::path(
    post, path = "/v1/policy/rollback", tag = "policy", request_body = RollBackBody,
    params(("If-Match" = Option<String>, Header, description = "Version that must be in force")),
    responses(
        (status = 200, body = AppliedBody),
        (status = 404, body = ProblemBody, description = "version-unknown"),
        (status = 409, body = ProblemBody, description = "version-conflict"),
    )
)]
pub async fn roll_back(
    State(api): State<Api>,
    ExpectedVersion(expected): ExpectedVersion,
    author: Author,
    extract::Json(body): extract::Json<RollBackBody>,
) -> Result<Json<AppliedBody>, Problem> {
    Ok(Json(api.plane.roll_back_policy(&author, body.version, expected).await?.into()))
}

/// Takes the row too many off a page, and answers the cursor to the next where there was one.
pub fn next_cursor<T>(rows: &mut Vec<T>, limit: i64, key: impl Fn(&T) -> String) -> Option<String> {
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    if rows.len() <= limit {
        return None;
    }
    rows.truncate(limit);
    rows.last().map(|row| cursor_after(&key(row)))
}
