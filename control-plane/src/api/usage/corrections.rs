//! `/v1/subjects/{subject}/usage/corrections`: usage that was counted wrongly, put right.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tollgate_policy::labels;
use utoipa::{IntoParams, ToSchema};

use crate::api::extract::{self, Path, Query, cursor_number, page_limit};
use crate::api::policy::next_cursor;
use crate::api::problem::{Problem, ProblemBody};
use crate::api::state::Api;
use crate::calendar::rfc3339;
use crate::service::usage::correct::CorrectionWish;
use crate::store::audit::Author;
use crate::store::usage::corrections::CorrectionRow;

/// What is to be corrected.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CorrectionBody {
    /// The caller's own name for the correction, so that a repeated request corrects once.
    #[schema(min_length = 1, max_length = 256)]
    key: Option<String>,
    /// The meter.
    meter: String,
    /// How much more was used; negative: how much less.
    units: i64,
    /// When it counts, RFC 3339. Default: now.
    #[schema(value_type = Option<String>, format = DateTime)]
    at: Option<Timestamp>,
    /// What its units are told apart by.
    #[serde(default)]
    labels: BTreeMap<String, String>,
    /// Why. For the audit log, and whoever asks about an invoice.
    reason: String,
}

/// A correction.
#[derive(Debug, Serialize, ToSchema)]
pub struct CorrectionShown {
    /// Rises with each.
    id: i64,
    /// The caller's own name for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<String>,
    /// The subject.
    subject: String,
    /// The meter.
    meter: String,
    /// How much more was used; negative: how much less.
    units: i64,
    /// When it counts, RFC 3339.
    at: String,
    /// What its units are told apart by.
    labels: BTreeMap<String, String>,
    /// Why.
    reason: String,
    /// The name of the token that was used.
    actor: String,
    /// When it was made, RFC 3339.
    created_at: String,
}

impl CorrectionShown {
    fn new(row: CorrectionRow) -> Self {
        let CorrectionRow { id, correction, actor, created_ms } = row;
        Self {
            id,
            key: correction.key,
            subject: correction.subject,
            meter: correction.meter,
            units: correction.units,
            at: rfc3339(correction.at_ms),
            labels: labels::parse(&correction.labels).unwrap_or_default(),
            reason: correction.reason,
            actor,
            created_at: rfc3339(created_ms),
        }
    }
}

/// A page of corrections, the newest first.
#[derive(Debug, Serialize, ToSchema)]
pub struct CorrectionPage {
    /// The corrections.
    items: Vec<CorrectionShown>,
    /// Pass it as `cursor` for the next page; missing on the last.
    #[serde(skip_serializing_if = "Option::is_none")]
    next_cursor: Option<String>,
}

/// Which corrections.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct CorrectionsQuery {
    /// Rows of the page, 1 to 500. Default: 100.
    limit: Option<i64>,
    /// `next_cursor` of the page before.
    cursor: Option<String>,
}

/// Corrects what a subject used, by an entry of its own. What was counted stays visible.
#[utoipa::path(
    post, path = "/v1/subjects/{subject}/usage/corrections", tag = "usage",
    params(("subject" = String, Path)), request_body = CorrectionBody,
    responses(
        (status = 201, body = CorrectionShown),
        (status = 200, body = CorrectionShown, description = "It was made before, under the same key"),
        (status = 409, body = ProblemBody, description = "idempotency-conflict")
    )
)]
pub async fn correct(
    State(api): State<Api>,
    Path(subject): Path<String>,
    author: Author,
    extract::Json(body): extract::Json<CorrectionBody>,
) -> Result<(StatusCode, Json<CorrectionShown>), Problem> {
    let CorrectionBody { key, meter, units, at, labels, reason } = body;
    let wish = CorrectionWish { key, meter, units, at, labels, reason };
    let corrected = api.plane.correct_usage(&author, &subject, &wish).await?;
    let status = if corrected.is_new { StatusCode::CREATED } else { StatusCode::OK };
    Ok((status, Json(CorrectionShown::new(corrected.row))))
}

/// The corrections of a subject, the newest first.
#[utoipa::path(
    get, path = "/v1/subjects/{subject}/usage/corrections", tag = "usage",
    params(("subject" = String, Path), CorrectionsQuery),
    responses((status = 200, body = CorrectionPage))
)]
pub async fn list(
    State(api): State<Api>,
    Path(subject): Path<String>,
    Query(query): Query<CorrectionsQuery>,
) -> Result<Json<CorrectionPage>, Problem> {
    let limit = page_limit(query.limit)?;
    let before = cursor_number(query.cursor.as_deref())?.unwrap_or(i64::MAX);
    let mut rows = api.plane.corrections(&subject, before, limit + 1).await?;
    let next_cursor = next_cursor(&mut rows, limit, |row| row.id.to_string());
    Ok(Json(CorrectionPage { items: rows.into_iter().map(CorrectionShown::new).collect(), next_cursor }))
}
