//! `/v1/subjects`: what a subject has at this moment, and what it used.

use axum::Json;
use axum::extract::State;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tollgate_policy::lease::Standing;
use tollgate_policy::subscription::Subscription;
use utoipa::{IntoParams, ToSchema};

use super::extract::{Path, Query};
use super::policy::rfc3339;
use super::problem::Problem;
use super::state::Api;
use crate::service::subscriptions::SubjectView;
use crate::service::usage::{UsagePeriod, UsageView};

/// A subject at this moment.
#[derive(Debug, Serialize, ToSchema)]
pub struct SubjectBody {
    /// The subject.
    subject: String,
    /// The tier in force; `null` when it has none, and gets 402.
    tier: Option<String>,
    /// Where the tier comes from: `subscription`, `claim` (of its token), `default` or `none`.
    tier_from: &'static str,
    /// Features of the tier.
    features: Vec<String>,
    /// What it has bought.
    #[schema(value_type = Option<Object>)]
    subscription: Option<Subscription>,
    /// Rises with each change of the subscription.
    subscription_revision: i64,
    /// Its limits.
    limits: Vec<StandingBody>,
}

/// How a limit stands.
#[derive(Debug, Serialize, ToSchema)]
pub struct StandingBody {
    /// The limit's name.
    limit: String,
    /// The meter that is limited.
    meter: String,
    /// The maximum.
    units: u64,
    /// Units used in the window, as far as edges have reported. Always 0 for a rate, whose units come back.
    used: u64,
    /// Units that edges hold and have not reported as used.
    leased: u64,
    /// Units that no edge holds.
    remaining: u64,
    /// Start of the window, RFC 3339; not for a rate.
    #[serde(skip_serializing_if = "Option::is_none")]
    window_start: Option<String>,
    /// Its end.
    #[serde(skip_serializing_if = "Option::is_none")]
    window_end: Option<String>,
    /// Length of a rate's sliding window, ms.
    #[serde(skip_serializing_if = "Option::is_none")]
    sliding_ms: Option<u64>,
}

impl From<Standing> for StandingBody {
    fn from(standing: Standing) -> Self {
        Self {
            limit: standing.limit,
            meter: standing.meter,
            units: standing.units,
            used: standing.used,
            leased: standing.leased,
            remaining: standing.unleased,
            window_start: standing.window_start_ms.map(rfc3339),
            window_end: standing.window_end_ms.map(rfc3339),
            sliding_ms: standing.sliding_ms,
        }
    }
}

impl From<SubjectView> for SubjectBody {
    fn from(view: SubjectView) -> Self {
        Self {
            subject: view.subject,
            tier: view.tier,
            tier_from: view.tier_from,
            features: view.features,
            subscription: view.subscription,
            subscription_revision: view.revision,
            limits: view.limits.into_iter().map(StandingBody::from).collect(),
        }
    }
}

/// Which usage.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct UsageQuery {
    /// Only this meter.
    meter: Option<String>,
    /// RFC 3339, rounded down to the hour. Default: the start of this month (UTC).
    #[param(value_type = Option<String>)]
    from: Option<Timestamp>,
    /// RFC 3339, rounded up to the hour. Default: now.
    #[param(value_type = Option<String>)]
    to: Option<Timestamp>,
    /// `hour`, `day` (default), `month` or `total`. Days and months are those of UTC.
    #[serde(default)]
    by: By,
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
    /// By meter and period; periods without usage are left out.
    usage: Vec<UsageSumBody>,
}

/// What was used of one meter in one period.
#[derive(Debug, Serialize, ToSchema)]
pub struct UsageSumBody {
    /// The meter.
    meter: String,
    /// Start of the period, RFC 3339.
    start: String,
    /// Its end.
    end: String,
    /// Units charged.
    taken: i64,
    /// Units of them that were refunded.
    freed: i64,
    /// What remains: `taken` less `freed`.
    used: i64,
}

impl UsageBody {
    fn new(subject: String, by: By, view: UsageView) -> Self {
        let usage = view.sums.into_iter().map(|sum| UsageSumBody {
            meter: sum.meter,
            start: sum.start.to_string(),
            end: sum.end.to_string(),
            taken: sum.taken,
            freed: sum.freed,
            used: sum.taken.saturating_sub(sum.freed),
        });
        Self { subject, from: view.from.to_string(), to: view.to.to_string(), by, usage: usage.collect() }
    }
}

/// What a subject has at this moment: its tier and why, and how its limits stand. A subject that was never seen has what
/// the policy gives everybody.
#[utoipa::path(
    get, path = "/v1/subjects/{subject}", tag = "subjects", params(("subject" = String, Path)),
    responses((status = 200, body = SubjectBody))
)]
pub async fn show(State(api): State<Api>, Path(subject): Path<String>) -> Result<Json<SubjectBody>, Problem> {
    Ok(Json(api.plane.subject(&subject).await?.into()))
}

/// What a subject used, from the ledger.
#[utoipa::path(
    get, path = "/v1/subjects/{subject}/usage", tag = "subjects",
    params(("subject" = String, Path), UsageQuery),
    responses((status = 200, body = UsageBody))
)]
pub async fn usage(
    State(api): State<Api>,
    Path(subject): Path<String>,
    Query(query): Query<UsageQuery>,
) -> Result<Json<UsageBody>, Problem> {
    let by = match query.by {
        By::Hour => UsagePeriod::Hour,
        By::Day => UsagePeriod::Day,
        By::Month => UsagePeriod::Month,
        By::Total => UsagePeriod::Total,
    };
    let view = api.plane.usage(&subject, query.meter.as_deref(), query.from, query.to, by).await?;
    Ok(Json(UsageBody::new(subject, query.by, view)))
}
