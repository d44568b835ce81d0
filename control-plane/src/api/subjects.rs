//! `/v1/subjects`: what a subject has at this moment, and what it used.

use axum::Json;
use axum::extract::State;
use serde::Serialize;
use tollgate_policy::compile::UNLIMITED;
use tollgate_policy::document::Maximum;
use tollgate_policy::limit::LimitKind;
use tollgate_policy::subscription::Subscription;
use tollgate_policy::window::{CALENDAR_END_MS, CALENDAR_START_MS};
use utoipa::ToSchema;

use super::bypass::BypassBody;
use super::extract::Path;
use super::problem::Problem;
use super::state::Api;
use super::tiers::maximum_of;
use crate::calendar::rfc3339;
use crate::service::subscriptions::{LimitView, SubjectView};

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
    /// The organisation, of a member: its subscription says what the member's limits are.
    #[serde(skip_serializing_if = "Option::is_none")]
    organization: Option<String>,
    /// What it has bought.
    #[schema(value_type = Option<Object>)]
    subscription: Option<Subscription>,
    /// Testing mode: while it is in force, no limit and no feature is looked at.
    bypass: Option<BypassBody>,
    /// Rises with each change of the subscription or the bypass.
    subscription_revision: i64,
    /// Its limits.
    limits: Vec<StandingBody>,
}

/// How a limit stands.
#[derive(Debug, Serialize, ToSchema)]
pub struct StandingBody {
    /// The limit's name.
    limit: String,
    /// The meter that is limited; not of `concurrency` and `size`.
    #[serde(skip_serializing_if = "Option::is_none")]
    meter: Option<String>,
    /// `quota`, `rate` (a token bucket too), `capacity`, `concurrency` or `size`.
    kind: &'static str,
    /// The maximum: a number, or `unlimited`. Of a token bucket what it holds.
    #[schema(value_type = serde_json::Value)]
    units: Maximum,
    /// Units used, as far as edges have reported: in the window of a quota, of a capacity, by requests in flight. Not of a
    /// rate, whose units come back, and of a size.
    #[serde(skip_serializing_if = "Option::is_none")]
    used: Option<u64>,
    /// Units used beyond the maximum: of a soft quota, or after a maximum was lowered.
    #[serde(skip_serializing_if = "Option::is_none")]
    overage: Option<u64>,
    /// Units released in all though nothing was there; of a capacity.
    #[serde(skip_serializing_if = "Option::is_none")]
    clamped: Option<u64>,
    /// Units that edges hold and have not reported as used; not of a size.
    #[serde(skip_serializing_if = "Option::is_none")]
    leased: Option<u64>,
    /// Units that no edge holds: a number, or `unlimited`; not of a size.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<serde_json::Value>)]
    remaining: Option<Maximum>,
    /// Whether what is used beyond it is overage, and not refused.
    soft: bool,
    /// The window, such as `day` or `60s`; not of `capacity`, `concurrency` and `size`.
    #[serde(skip_serializing_if = "Option::is_none")]
    per: Option<String>,
    /// Start of the window, RFC 3339; of a quota that has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    window_start: Option<String>,
    /// Its end.
    #[serde(skip_serializing_if = "Option::is_none")]
    window_end: Option<String>,
    /// Length of a rate's sliding window, ms.
    #[serde(skip_serializing_if = "Option::is_none")]
    sliding_ms: Option<u64>,
    /// How long an empty token bucket takes to fill, ms.
    #[serde(skip_serializing_if = "Option::is_none")]
    refill_ms: Option<u64>,
}

impl StandingBody {
    /// Of a limit, as it stands; nothing stands of a size.
    fn new(view: LimitView) -> Self {
        let LimitView { limit, standing } = view;
        let standing = standing.as_ref();
        let is_rate = matches!(limit.kind, LimitKind::Rate { .. } | LimitKind::Bucket { .. });
        let moment = |at: Option<i64>| at.filter(|ms| (CALENDAR_START_MS..CALENDAR_END_MS).contains(ms));
        let window_end = moment(standing.and_then(|standing| standing.window_end_ms));
        // A lifetime has no end, and so no window worth telling.
        let window_start = moment(standing.and_then(|standing| standing.window_start_ms));
        let window_start = window_start.filter(|_| window_end.is_some());
        let per = limit.per();
        Self {
            meter: standing.and_then(|standing| standing.meter.clone()),
            kind: limit.kind.name(),
            units: maximum_of(limit.units),
            used: standing.filter(|_| !is_rate).map(|standing| standing.used),
            overage: standing.map(|standing| standing.overage).filter(|units| *units > 0),
            clamped: standing.map(|standing| standing.clamped).filter(|units| *units > 0),
            leased: standing.map(|standing| standing.leased),
            remaining: standing.map(|standing| match limit.units {
                UNLIMITED => Maximum::Unlimited,
                _ => Maximum::Units(standing.unleased),
            }),
            soft: matches!(limit.kind, LimitKind::Quota { soft: true, .. }),
            per: (!per.is_empty()).then_some(per),
            window_start: window_start.map(rfc3339),
            window_end: window_end.map(rfc3339),
            sliding_ms: standing.and_then(|standing| standing.sliding_ms),
            refill_ms: standing.and_then(|standing| standing.refill_ms),
            limit: limit.name.to_string(),
        }
    }
}

impl SubjectBody {
    fn new(view: SubjectView, now_ms: i64) -> Self {
        Self {
            bypass: view.bypass.map(|bypass| BypassBody::new(bypass, now_ms)),
            subject: view.subject,
            organization: view.organization,
            tier: view.tier,
            tier_from: view.tier_from,
            features: view.features,
            subscription: view.subscription,
            subscription_revision: view.revision,
            limits: view.limits.into_iter().map(StandingBody::new).collect(),
        }
    }
}

/// What a subject has at this moment: its tier and why, and how its limits stand. A subject that was never seen has what
/// the policy gives everybody.
#[utoipa::path(
    get, path = "/v1/subjects/{subject}", tag = "subjects", params(("subject" = String, Path)),
    responses((status = 200, body = SubjectBody))
)]
pub async fn show(State(api): State<Api>, Path(subject): Path<String>) -> Result<Json<SubjectBody>, Problem> {
    let view = api.plane.subject(&subject).await?;
    Ok(Json(SubjectBody::new(view, api.plane.clock.now_ms())))
}
