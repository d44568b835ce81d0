//! `/v1/analytics`: what an operator wants to know of all subjects. Days are those of UTC.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::State;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::extract::{Query, page_limit};
use super::problem::{Problem, ProblemKind};
use super::state::Api;
use crate::calendar::DAY_MS;
use crate::calendar::rfc3339;
use crate::service::analytics::subscriptions::{Census, churn, conversion, count, percent};
use crate::service::analytics::{Days, TopPeriod};
use crate::store::analytics::AmountSum;
use crate::store::denials::DenialGroup;

/// A range of days.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct RangeQuery {
    /// RFC 3339: from the start of its day. Default: 30 days before the end.
    #[param(value_type = Option<String>)]
    from: Option<Timestamp>,
    /// RFC 3339: to the end of its day; the very start of a day ends the one before. Default: today.
    #[param(value_type = Option<String>)]
    to: Option<Timestamp>,
}

/// What was refused, by what.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct DenialsQuery {
    /// RFC 3339: from the start of its day. Default: 30 days before the end.
    #[param(value_type = Option<String>)]
    from: Option<Timestamp>,
    /// RFC 3339: to the end of its day. Default: today.
    #[param(value_type = Option<String>)]
    to: Option<Timestamp>,
    /// Only those of this subject.
    subject: Option<String>,
    /// By what they are told apart, such as `code,route`: `subject`, `code`, `limit`, `route`, and `hour` or `day`. Default:
    /// `code,limit`.
    group: Option<String>,
    /// Most rows, 1 to 500. Default: 100.
    limit: Option<i64>,
}

/// Who used most.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct SubjectsQuery {
    /// `day` or `month` (default).
    #[serde(default)]
    period: PeriodWish,
    /// RFC 3339: the period that holds this moment. Default: now.
    #[param(value_type = Option<String>)]
    at: Option<Timestamp>,
    /// Only of this meter.
    meter: Option<String>,
    /// Subjects of each meter, 1 to 500. Default: 100.
    limit: Option<i64>,
}

/// A period of UTC.
#[derive(Debug, Clone, Copy, Default, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum PeriodWish {
    /// A day.
    Day,
    /// A month.
    #[default]
    Month,
}

/// Limits that refuse.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct LimitsQuery {
    /// RFC 3339: from the start of its day. Default: 30 days before the end.
    #[param(value_type = Option<String>)]
    from: Option<Timestamp>,
    /// RFC 3339: to the end of its day. Default: today.
    #[param(value_type = Option<String>)]
    to: Option<Timestamp>,
    /// Most rows, 1 to 500. Default: 100.
    limit: Option<i64>,
}

/// Sums of refusals.
#[derive(Debug, Serialize, ToSchema)]
pub struct DenialsBody {
    /// Start of the range, RFC 3339.
    from: String,
    /// Its end.
    to: String,
    /// The largest sums first.
    items: Vec<DenialBody>,
}

/// How often something was refused. What sums are not told apart by is missing.
#[derive(Debug, Serialize, ToSchema)]
pub struct DenialBody {
    /// The subject; empty: nobody who is known, or too many to tell apart.
    #[serde(skip_serializing_if = "Option::is_none")]
    subject: Option<String>,
    /// The code, such as `quota-exceeded`.
    #[serde(skip_serializing_if = "Option::is_none")]
    code: Option<String>,
    /// The limit; empty: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    limit: Option<String>,
    /// The route.
    #[serde(skip_serializing_if = "Option::is_none")]
    route: Option<String>,
    /// Start of the hour or day, RFC 3339.
    #[serde(skip_serializing_if = "Option::is_none")]
    start: Option<String>,
    /// Requests refused.
    count: i64,
}

/// Who used most.
#[derive(Debug, Serialize, ToSchema)]
pub struct SubjectsBody {
    /// Start of the period, RFC 3339.
    start: String,
    /// Its end.
    end: String,
    /// As of when, RFC 3339; missing: it was not worked out yet, or lies before this control plane.
    #[serde(skip_serializing_if = "Option::is_none")]
    as_of: Option<String>,
    /// Subjects that used anything.
    #[serde(skip_serializing_if = "Option::is_none")]
    active_subjects: Option<i64>,
    /// By meter, the most first.
    items: Vec<TopBody>,
}

/// One of those who used most.
#[derive(Debug, Serialize, ToSchema)]
pub struct TopBody {
    /// The meter.
    meter: String,
    /// From 1 on.
    place: i64,
    /// The subject.
    subject: String,
    /// Units.
    used: i64,
}

/// How many subscriptions there are, day by day.
#[derive(Debug, Serialize, ToSchema)]
pub struct SubscriptionsBody {
    /// Start of the range, RFC 3339.
    from: String,
    /// Its end.
    to: String,
    /// One for each day.
    days: Vec<CensusBody>,
}

/// How many subscriptions there are at the end of a day.
#[derive(Debug, Serialize, ToSchema)]
pub struct CensusBody {
    /// Start of the day, RFC 3339.
    day: String,
    /// By tier and state.
    counts: Vec<CountBody>,
}

/// How many subscriptions are of a tier and in a state.
#[derive(Debug, Serialize, ToSchema)]
pub struct CountBody {
    /// The tier.
    tier: String,
    /// The state.
    state: &'static str,
    /// How many.
    count: i64,
}

/// Who came and went.
#[derive(Debug, Serialize, ToSchema)]
pub struct ChurnBody {
    /// Start of the range, RFC 3339.
    from: String,
    /// Its end.
    to: String,
    /// By tier.
    items: Vec<TierChurnBody>,
}

/// Who came to a tier and went. `at_start + gained - lost + arrived - left = at_end`.
#[derive(Debug, Serialize, ToSchema)]
pub struct TierChurnBody {
    /// The tier.
    tier: String,
    /// Subscribers at the start: active, past due, or cancelled and still valid; not on trial.
    at_start: i64,
    /// Who became subscribers.
    gained: i64,
    /// Who are no subscribers any more.
    lost: i64,
    /// Who came from another tier.
    arrived: i64,
    /// Who went to another tier.
    left: i64,
    /// Subscribers at the end.
    at_end: i64,
    /// `lost` in percent of `at_start`; missing where there were none.
    #[serde(skip_serializing_if = "Option::is_none")]
    churn_percent: Option<f64>,
}

/// What became of trials.
#[derive(Debug, Serialize, ToSchema)]
pub struct ConversionBody {
    /// Start of the range, RFC 3339.
    from: String,
    /// Its end.
    to: String,
    /// By the tier that was tried.
    items: Vec<TierConversionBody>,
}

/// What became of trials of a tier.
#[derive(Debug, Serialize, ToSchema)]
pub struct TierConversionBody {
    /// The tier.
    tier: String,
    /// Trials that began.
    trials: i64,
    /// Trials that became subscriptions.
    converted: i64,
    /// Trials that ended or were cancelled.
    given_up: i64,
    /// Subscriptions that began without a trial.
    direct: i64,
    /// `converted` in percent of the trials that came to an end; missing where none did.
    #[serde(skip_serializing_if = "Option::is_none")]
    conversion_percent: Option<f64>,
}

/// What came in. All amounts are minor units.
#[derive(Debug, Serialize, ToSchema)]
pub struct RevenueBody {
    /// Start of the range, RFC 3339.
    from: String,
    /// Its end.
    to: String,
    /// What subscriptions bring in for a month by their flat prices, as of each day.
    recurring: Vec<RecurringBody>,
    /// Invoices that were closed in the range.
    invoiced: Vec<AmountBody>,
    /// Single payments that came in in the range.
    paid: Vec<AmountBody>,
}

/// What a tier brings in for a month.
#[derive(Debug, Serialize, ToSchema)]
pub struct RecurringBody {
    /// Start of the day, RFC 3339.
    day: String,
    /// The tier.
    tier: String,
    /// Which version of it, from 0 on: who subscribed before a change may pay what it was.
    version: i64,
    /// ISO 4217.
    currency: String,
    /// Subscriptions that are paid.
    subscriptions: i64,
    /// Minor units a month.
    month_minor: i64,
}

/// An amount.
#[derive(Debug, Serialize, ToSchema)]
pub struct AmountBody {
    /// The tier, where the amount is of one.
    #[serde(skip_serializing_if = "Option::is_none")]
    tier: Option<String>,
    /// ISO 4217.
    currency: String,
    /// How many.
    count: i64,
    /// Minor units.
    minor: i64,
}

/// How often limits refuse.
#[derive(Debug, Serialize, ToSchema)]
pub struct LimitsBody {
    /// Start of the range, RFC 3339.
    from: String,
    /// Its end.
    to: String,
    /// Subjects that used anything; where the range is one day or month of UTC.
    #[serde(skip_serializing_if = "Option::is_none")]
    active_subjects: Option<i64>,
    /// By limit, the most refusals first.
    items: Vec<LimitHitsBody>,
}

/// How often a limit refused.
#[derive(Debug, Serialize, ToSchema)]
pub struct LimitHitsBody {
    /// The limit.
    limit: String,
    /// Requests refused.
    refused: i64,
    /// Subjects that were refused.
    subjects: i64,
    /// `subjects` in percent of `active_subjects`.
    #[serde(skip_serializing_if = "Option::is_none")]
    hit_percent: Option<f64>,
}

/// What edges refused, summed.
#[utoipa::path(
    get, path = "/v1/analytics/denials", tag = "analytics", params(DenialsQuery),
    responses((status = 200, body = DenialsBody))
)]
pub async fn denials(
    State(api): State<Api>,
    Query(query): Query<DenialsQuery>,
) -> Result<Json<DenialsBody>, Problem> {
    let days = Days::of(query.from, query.to, api.plane.clock.now_ms())?;
    let group = group_of(query.group.as_deref().unwrap_or("code,limit"))?;
    let limit = page_limit(query.limit)?;
    let sums = api.plane.denials(days, query.subject.as_deref(), group, limit).await?;
    let items = sums.into_iter().map(|sum| DenialBody {
        subject: group.subject.then_some(sum.subject),
        code: group.code.then_some(sum.code),
        limit: group.limit.then_some(sum.limit),
        route: group.route.then_some(sum.route),
        start: group.period_ms.map(|_| rfc3339(sum.start_ms)),
        count: sum.count,
    });
    let items = items.collect();
    Ok(Json(DenialsBody { from: rfc3339(days.from_ms), to: rfc3339(days.to_ms), items }))
}

/// Who used most of each meter in a day or month.
#[utoipa::path(
    get, path = "/v1/analytics/subjects", tag = "analytics", params(SubjectsQuery),
    responses((status = 200, body = SubjectsBody))
)]
pub async fn subjects(
    State(api): State<Api>,
    Query(query): Query<SubjectsQuery>,
) -> Result<Json<SubjectsBody>, Problem> {
    let period = match query.period {
        PeriodWish::Day => TopPeriod::Day,
        PeriodWish::Month => TopPeriod::Month,
    };
    let at_ms = query.at.map_or_else(|| api.plane.clock.now_ms(), Timestamp::as_millisecond);
    let limit = page_limit(query.limit)?;
    let tops = api.plane.tops(period, at_ms, query.meter.as_deref(), limit).await?;
    let item = |row: crate::store::analytics::TopRow| TopBody {
        meter: row.meter,
        place: row.place,
        subject: row.subject,
        used: row.used,
    };
    Ok(Json(SubjectsBody {
        start: rfc3339(tops.start_ms),
        end: rfc3339(tops.end_ms),
        as_of: tops.made.map(|made| rfc3339(made.made_ms)),
        active_subjects: tops.made.map(|made| made.subjects),
        items: tops.rows.into_iter().map(item).collect(),
    }))
}

/// How many subscriptions there are of each tier and state at the end of each day.
#[utoipa::path(
    get, path = "/v1/analytics/subscriptions", tag = "analytics", params(RangeQuery),
    responses((status = 200, body = SubscriptionsBody))
)]
pub async fn subscriptions(
    State(api): State<Api>,
    Query(query): Query<RangeQuery>,
) -> Result<Json<SubscriptionsBody>, Problem> {
    let days = Days::of(query.from, query.to, api.plane.clock.now_ms())?;
    let of = api.plane.subscription_moves(days).await?;
    let mut census = of.before;
    let mut moves = of.moves.as_slice();
    let mut listed = Vec::new();
    let mut day_ms = days.from_ms;
    while day_ms < days.to_ms {
        let (of_day, later) = moves.split_at(moves.iter().take_while(|moved| moved.day_ms <= day_ms).count());
        count(&mut census, of_day);
        moves = later;
        listed.push(CensusBody { day: rfc3339(day_ms), counts: counts(&census) });
        day_ms += DAY_MS;
    }
    Ok(Json(SubscriptionsBody { from: rfc3339(days.from_ms), to: rfc3339(days.to_ms), days: listed }))
}

/// Who came to each tier and went.
#[utoipa::path(
    get, path = "/v1/analytics/churn", tag = "analytics", params(RangeQuery),
    responses((status = 200, body = ChurnBody))
)]
pub async fn churned(
    State(api): State<Api>,
    Query(query): Query<RangeQuery>,
) -> Result<Json<ChurnBody>, Problem> {
    let days = Days::of(query.from, query.to, api.plane.clock.now_ms())?;
    let of = api.plane.subscription_moves(days).await?;
    let items = churn(&of.before, &of.moves).into_iter().map(|(tier, of)| TierChurnBody {
        tier,
        at_start: of.at_start,
        gained: of.gained,
        lost: of.lost,
        arrived: of.arrived,
        left: of.left,
        at_end: of.at_end,
        churn_percent: percent(of.lost, of.at_start),
    });
    let items = items.collect();
    Ok(Json(ChurnBody { from: rfc3339(days.from_ms), to: rfc3339(days.to_ms), items }))
}

/// What became of trials, by tier.
#[utoipa::path(
    get, path = "/v1/analytics/conversion", tag = "analytics", params(RangeQuery),
    responses((status = 200, body = ConversionBody))
)]
pub async fn converted(
    State(api): State<Api>,
    Query(query): Query<RangeQuery>,
) -> Result<Json<ConversionBody>, Problem> {
    let days = Days::of(query.from, query.to, api.plane.clock.now_ms())?;
    let of = api.plane.subscription_moves(days).await?;
    let items = conversion(&of.moves).into_iter().map(|(tier, of)| TierConversionBody {
        tier,
        trials: of.trials,
        converted: of.converted,
        given_up: of.given_up,
        direct: of.direct,
        conversion_percent: percent(of.converted, of.converted + of.given_up),
    });
    let items = items.collect();
    Ok(Json(ConversionBody { from: rfc3339(days.from_ms), to: rfc3339(days.to_ms), items }))
}

/// What came in, and what subscriptions bring in for a month.
#[utoipa::path(
    get, path = "/v1/analytics/revenue", tag = "analytics", params(RangeQuery),
    responses((status = 200, body = RevenueBody))
)]
pub async fn revenue(
    State(api): State<Api>,
    Query(query): Query<RangeQuery>,
) -> Result<Json<RevenueBody>, Problem> {
    let days = Days::of(query.from, query.to, api.plane.clock.now_ms())?;
    let of = api.plane.revenue(days).await?;
    let recurring = of.recurring.into_iter().map(|row| RecurringBody {
        day: rfc3339(row.day_ms),
        tier: row.tier,
        version: row.version,
        currency: row.currency,
        subscriptions: row.subscriptions,
        month_minor: row.month_minor,
    });
    Ok(Json(RevenueBody {
        from: rfc3339(days.from_ms),
        to: rfc3339(days.to_ms),
        recurring: recurring.collect(),
        invoiced: of.invoiced.into_iter().map(AmountBody::from).collect(),
        paid: of.paid.into_iter().map(AmountBody::from).collect(),
    }))
}

/// How often limits refuse, and how many subjects they meet.
#[utoipa::path(
    get, path = "/v1/analytics/limits", tag = "analytics", params(LimitsQuery),
    responses((status = 200, body = LimitsBody))
)]
pub async fn limits(
    State(api): State<Api>,
    Query(query): Query<LimitsQuery>,
) -> Result<Json<LimitsBody>, Problem> {
    let days = Days::of(query.from, query.to, api.plane.clock.now_ms())?;
    let hits = api.plane.limit_hits(days, page_limit(query.limit)?).await?;
    let items = hits.limits.into_iter().map(|row| LimitHitsBody {
        limit: row.limit,
        refused: row.refused,
        subjects: row.subjects,
        hit_percent: hits.active_subjects.and_then(|active| percent(row.subjects, active)),
    });
    Ok(Json(LimitsBody {
        from: rfc3339(days.from_ms),
        to: rfc3339(days.to_ms),
        active_subjects: hits.active_subjects,
        items: items.collect(),
    }))
}

impl From<AmountSum> for AmountBody {
    fn from(sum: AmountSum) -> Self {
        let tier = (!sum.tier.is_empty()).then_some(sum.tier);
        Self { tier, currency: sum.currency, count: sum.count, minor: sum.minor }
    }
}

fn counts(census: &Census) -> Vec<CountBody> {
    let body = |((tier, state), count): (&(String, &'static str), &i64)| CountBody {
        tier: tier.clone(),
        state,
        count: *count,
    };
    census.iter().map(body).collect()
}

/// The words of `code,route,day`.
fn group_of(list: &str) -> Result<DenialGroup, Problem> {
    let mut group = DenialGroup::default();
    let periods = BTreeMap::from([("hour", DAY_MS / 24), ("day", DAY_MS)]);
    for word in list.split(',').map(str::trim).filter(|word| !word.is_empty()) {
        match word {
            "subject" => group.subject = true,
            "code" => group.code = true,
            "limit" => group.limit = true,
            "route" => group.route = true,
            word if periods.contains_key(word) => group.period_ms = periods.get(word).copied(),
            _ => {
                let detail = "Group by some of subject, code, limit, route, and hour or day.";
                return Err(Problem::new(ProblemKind::QueryMalformed, detail));
            }
        }
    }
    Ok(group)
}
