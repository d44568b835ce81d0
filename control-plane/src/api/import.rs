//! `/v1/import`: users of another system, with the tiers they get and what they had.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tollgate_policy::document::Maximum;
use tollgate_policy::subscription::SubscriptionState;
use utoipa::ToSchema;

use super::extract;
use super::problem::{Problem, ProblemBody, invalid_kind};
use super::state::Api;
use crate::service::import::{ImportOptions, ImportRow, Imported, Outcome};
use crate::store::audit::Author;

/// Users to be imported.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ImportWish {
    /// `true`: only tell what would be done.
    #[serde(default)]
    dry_run: bool,
    /// `true`: replace subscriptions and archives that differ. Otherwise they are kept.
    #[serde(default)]
    replace: bool,
    /// At most 1,000. One that cannot be imported is told, and does not keep the others back.
    #[schema(value_type = Vec<ImportRowWish>)]
    rows: Vec<Value>,
}

/// A user to be imported.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ImportRowWish {
    /// Such as `user:alice` or `org:acme`.
    subject: String,
    /// A tier of the policy in force. Without one no subscription is made.
    tier: Option<String>,
    /// `active` (default), `trialing`, `past_due`, `cancelled`, `pending`, `paused` or `expired`.
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    state: SubscriptionState,
    /// Start of the first billing period, Unix ms. Default: the one it has, else now.
    anchor_ms: Option<i64>,
    /// From this moment (Unix ms) the tier is no longer in force.
    expires_at_ms: Option<i64>,
    /// End of the trial, Unix ms.
    trial_ends_at_ms: Option<i64>,
    /// Since when it is of its tier, Unix ms: decides which version of the tier holds. Default: now.
    tier_since_ms: Option<i64>,
    /// Maximums of this subject alone, by limit name: a number of units, or `unlimited`.
    #[serde(default)]
    #[schema(value_type = BTreeMap<String, Value>)]
    overrides: BTreeMap<String, Maximum>,
    /// What it had, by kind: `{"credit_balance": 1200}`. Kept, and given back once.
    #[serde(default)]
    archives: BTreeMap<String, Value>,
}

impl From<ImportRowWish> for ImportRow {
    fn from(row: ImportRowWish) -> Self {
        Self {
            subject: row.subject,
            tier: row.tier,
            state: row.state,
            anchor_ms: row.anchor_ms,
            expires_at_ms: row.expires_at_ms,
            trial_ends_at_ms: row.trial_ends_at_ms,
            tier_since_ms: row.tier_since_ms,
            overrides: row.overrides,
            archives: row.archives,
        }
    }
}

/// What an import did, or in a dry run would do.
#[derive(Debug, Default, Serialize, ToSchema)]
pub struct ImportReport {
    /// Whether nothing was changed.
    dry_run: bool,
    /// Subjects that have a subscription now, and had none.
    created: usize,
    /// Subjects whose subscription was replaced.
    replaced: usize,
    /// Subjects that had this very subscription.
    unchanged: usize,
    /// Subjects that have another subscription, which was kept.
    kept: usize,
    /// Subjects for which no tier was asked.
    unsubscribed: usize,
    /// Archives that were added or replaced.
    archived: usize,
    /// Rows of which nothing was imported.
    failed: usize,
    /// Rows that were kept or that failed.
    rows: Vec<RowReport>,
}

/// What became of a row.
#[derive(Debug, Serialize, ToSchema)]
pub struct RowReport {
    /// Which row of the request, from 0.
    index: usize,
    /// `kept` or `failed`.
    outcome: &'static str,
    /// Why it failed: a stable code, as in a problem.
    #[serde(skip_serializing_if = "Option::is_none")]
    code: Option<&'static str>,
    /// What to do.
    detail: String,
}

impl ImportReport {
    fn new(imported: Imported, dry_run: bool) -> Self {
        let mut report = Self { dry_run, archived: imported.archived, ..Self::default() };
        for (index, outcome) in imported.rows.into_iter().enumerate() {
            match outcome {
                Outcome::Created => report.created += 1,
                Outcome::Replaced => report.replaced += 1,
                Outcome::Unchanged => report.unchanged += 1,
                Outcome::Unsubscribed => report.unsubscribed += 1,
                Outcome::Kept => {
                    report.kept += 1;
                    let detail =
                        "It has another subscription, which was kept. Import with replace to change it.";
                    report.rows.push(RowReport {
                        index,
                        outcome: "kept",
                        code: None,
                        detail: detail.to_owned(),
                    });
                }
                Outcome::Failed(rule, detail) => {
                    report.failed += 1;
                    let code = Some(invalid_kind(rule).code());
                    report.rows.push(RowReport { index, outcome: "failed", code, detail });
                }
            }
        }
        report
    }
}

/// Imports users with the tiers they get, and archives what they had. All of it or nothing, but for rows that cannot be
/// imported, which are told. Repeating it changes nothing.
#[utoipa::path(
    post, path = "/v1/import", tag = "moving", request_body = ImportWish,
    responses((status = 200, body = ImportReport), (status = 409, body = ProblemBody, description = "no-policy"))
)]
pub async fn import(
    State(api): State<Api>,
    author: Author,
    extract::Json(body): extract::Json<ImportWish>,
) -> Result<Json<ImportReport>, Problem> {
    let rows: Vec<Result<ImportRow, String>> = body
        .rows
        .into_iter()
        .map(|row| match serde_json::from_value::<ImportRowWish>(row) {
            Ok(row) => Ok(row.into()),
            Err(error) => Err(format!("Correct the row: {error}.")),
        })
        .collect();
    let options = ImportOptions { replace: body.replace, dry_run: body.dry_run };
    let imported = api.plane.import(&author, &rows, options).await?;
    Ok(Json(ImportReport::new(imported, body.dry_run)))
}
