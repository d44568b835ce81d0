//! `/v1/subjects/{subject}/usage`: what a subject used, from the ledger.

pub mod corrections;
pub mod export;
pub mod record;

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::State;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::extract::{Path, Query};
use super::problem::Problem;
use super::state::Api;
use crate::calendar::rfc3339;
use crate::service::usage::{GroupedSum, UsagePeriod, UsageQuery, UsageView};

/// Which usage.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct UsageParameters {
    /// Only this meter.
    meter: Option<String>,
    /// RFC 3339, rounded down to the hour. Default: the start of this month (UTC).
    #[param(value_type = Option<String>)]
    from: Option<Timestamp>,
    /// RFC 3339, rounded up to the hour. Default: now.
    #[param(value_type = Option<String>)]
    to: Option<Timestamp>,
    /// `hour`, `day` (default), `month` or `total`. Days and months are those of UTC. What the ledger has only by day or
    /// month any more is answered so.
    #[serde(default)]
    by: By,
    /// Labels to sum by, such as `route,model`.
    group: Option<String>,
}

/// By which periods usage is summed.
#[derive(Debug, Clone, Copy, Default, Deserialize, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum By {
    /// By hour.
    Hour,
    /// By day.
    #[default]
    Day,
    /// By month.
    Month,
    /// In all.
    Total,
}

impl From<By> for UsagePeriod {
    fn from(by: By) -> Self {
        match by {
            By::Hour => Self::Hour,
            By::Day => Self::Day,
            By::Month => Self::Month,
            By::Total => Self::Total,
        }
    }
}

/// What a subject used.
#[derive(Debug, Serialize, ToSchema)]
pub struct UsageBody {
    /// The subject.
    subject: String,
    /// Start of the range, RFC 3339.
    from: String,
    /// Its end.
    to: String,
    /// By which periods it is summed.
    by: By,
    /// By meter, period and labels; what was not used is left out.
    usage: Vec<UsageSumBody>,
}

/// What was used of one meter in one period.
#[derive(Debug, Serialize, ToSchema)]
pub struct UsageSumBody {
    /// The meter.
    meter: String,
    /// The labels that were asked for by `group`. Units that were counted without one are summed without it.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    labels: BTreeMap<String, String>,
    /// Start of the period, RFC 3339.
    start: String,
    /// Its end.
    end: String,
    /// Units charged.
    taken: i64,
    /// Units of them that were refunded, or corrected away.
    freed: i64,
    /// What remains: `taken` less `freed`.
    used: i64,
}

impl UsageSumBody {
    fn new(GroupedSum { labels, sum }: GroupedSum) -> Self {
        Self {
            labels,
            start: rfc3339(sum.start_ms),
            end: rfc3339(sum.end_ms),
            taken: sum.taken,
            freed: sum.freed,
            used: sum.used(),
            meter: sum.meter,
        }
    }
}

impl UsageBody {
    pub(super) fn new(subject: String, by: By, view: UsageView) -> Self {
        let usage = view.sums.into_iter().map(UsageSumBody::new).collect();
        Self { subject, from: view.from.to_string(), to: view.to.to_string(), by, usage }
    }
}

/// The names in `route,model`.
fn names(list: Option<String>) -> Vec<String> {
    let list = list.unwrap_or_default();
    list.split(',').map(str::trim).filter(|name| !name.is_empty()).map(str::to_owned).collect()
}

/// What a subject used, from the ledger.
#[utoipa::path(
    get, path = "/v1/subjects/{subject}/usage", tag = "subjects",
    params(("subject" = String, Path), UsageParameters),
    responses((status = 200, body = UsageBody))
)]
pub async fn usage(
    State(api): State<Api>,
    Path(subject): Path<String>,
    Query(parameters): Query<UsageParameters>,
) -> Result<Json<UsageBody>, Problem> {
    usage_of(&api, subject, parameters).await
}

/// What a subject used, whoever may ask for it.
pub(super) async fn usage_of(
    api: &Api,
    subject: String,
    parameters: UsageParameters,
) -> Result<Json<UsageBody>, Problem> {
    let UsageParameters { meter, from, to, by, group } = parameters;
    let query = UsageQuery { meter, from, to, by: by.into(), group: names(group) };
    let view = api.plane.usage(&subject, &query).await?;
    Ok(Json(UsageBody::new(subject, by, view)))
}
