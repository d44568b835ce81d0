//! `/v1/subscriptions/{subject}/actions` and `/changes`: what is done with a subscription, and what is scheduled of it.

use axum::Json;
use axum::extract::State;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tollgate_policy::subscription::{ScheduledChange, SubscriptionState};
use utoipa::ToSchema;

use super::extract::{self, Path};
use super::problem::{Problem, ProblemBody, ProblemKind};
use super::state::Api;
use super::subscriptions::{ChangeBody, SubscriptionBody};
use crate::service::lifecycle::{Action, When};
use crate::store::audit::Author;

/// Something to be done with a subscription.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(tag = "action", rename_all = "snake_case", deny_unknown_fields)]
pub enum ActionBody {
    /// To another tier.
    ChangeTier {
        /// A tier of the policy in force.
        tier: String,
        /// `now`, `period_end` or an RFC 3339 time to come. Default: to a higher tier now, to a lower one at the period's end.
        when: Option<String>,
    },
    /// It ends, no later than it would have anyway. Of what was scheduled before that only what takes away happens.
    Cancel {
        /// `now`, `period_end` (default) or an RFC 3339 time to come.
        when: Option<String>,
    },
    /// Its tier is not in force for a while.
    Pause {
        /// `now` (default), `period_end` or an RFC 3339 time to come.
        when: Option<String>,
        /// When it goes on, RFC 3339. Default: when it is resumed.
        #[schema(value_type = Option<String>)]
        until: Option<Timestamp>,
    },
    /// What was paused goes on with what was left of it; what was cancelled or past due, without an end.
    Resume {},
    /// A payment failed: the tier stays in force for a while, and then no more.
    PastDue {
        /// For how many days. Default: `billing.grace_days` of the policy, or 7.
        grace_days: Option<u16>,
    },
    /// A tier on trial, for a subject that has had no trial.
    Trial {
        /// A tier of the policy in force.
        tier: String,
        /// For how many days. Default: the tier's `trial_days`.
        days: Option<u16>,
        /// What comes after it: `expired` (default) or `active`.
        then: Option<AfterTrial>,
    },
}

/// What comes after a trial.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum AfterTrial {
    /// The tier is not in force any more.
    Expired,
    /// The subscription goes on.
    Active,
}

impl ActionBody {
    fn parse(self) -> Result<Action, Problem> {
        Ok(match self {
            Self::ChangeTier { tier, when } => {
                Action::ChangeTier { tier, when: when.as_deref().map(parse_when).transpose()? }
            }
            Self::Cancel { when } => {
                Action::Cancel { when: when.as_deref().map_or(Ok(When::PeriodEnd), parse_when)? }
            }
            Self::Pause { when, until } => Action::Pause {
                when: when.as_deref().map_or(Ok(When::Now), parse_when)?,
                until_ms: until.map(Timestamp::as_millisecond),
            },
            Self::Resume {} => Action::Resume,
            Self::PastDue { grace_days } => Action::PastDue { grace_days: grace_days.map(u32::from) },
            Self::Trial { tier, days, then } => Action::Trial {
                tier,
                days: days.map(u32::from),
                then_active: then == Some(AfterTrial::Active),
            },
        })
    }
}

fn parse_when(text: &str) -> Result<When, Problem> {
    match text {
        "now" => Ok(When::Now),
        "period_end" => Ok(When::PeriodEnd),
        time => time.parse::<Timestamp>().map(|at| When::At(at.as_millisecond())).map_err(|_| {
            let detail = "Write `when` as now, period_end or an RFC 3339 time such as 2027-01-31T00:00:00Z.";
            Problem::new(ProblemKind::BodyInvalid, detail)
        }),
    }
}

/// A change to be scheduled. What is left out stays.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ChangeWish {
    /// When, RFC 3339: at this very moment it holds, at every edge.
    #[schema(value_type = String)]
    at: Timestamp,
    /// The tier from then on.
    tier: Option<String>,
    /// The state from then on.
    #[schema(value_type = Option<String>)]
    state: Option<SubscriptionState>,
}

/// What is scheduled.
#[derive(Debug, Serialize, ToSchema)]
pub struct ChangeList {
    /// In the order of their moments.
    items: Vec<ChangeBody>,
}

/// Does something with a subscription: another tier, a cancellation, a pause, a trial, at once or at its moment. Every edge
/// feels it within a second, and what is to come at its very moment.
#[utoipa::path(
    post, path = "/v1/subscriptions/{subject}/actions", tag = "subscriptions", params(("subject" = String, Path)),
    request_body = ActionBody,
    responses(
        (status = 200, body = SubscriptionBody),
        (status = 404, body = ProblemBody, description = "subscription-missing"),
        (status = 409, body = ProblemBody, description = "action-refused, no-policy"),
    )
)]
pub async fn act(
    State(api): State<Api>,
    Path(subject): Path<String>,
    author: Author,
    extract::Json(body): extract::Json<ActionBody>,
) -> Result<Json<SubscriptionBody>, Problem> {
    let listed = api.plane.act_on_subscription(&author, &subject, &body.parse()?).await?;
    Ok(Json(SubscriptionBody::new(listed, author.now_ms)))
}

/// What is scheduled of a subscription; at most 32 changes.
#[utoipa::path(
    get, path = "/v1/subscriptions/{subject}/changes", tag = "subscriptions", params(("subject" = String, Path)),
    responses(
        (status = 200, body = ChangeList),
        (status = 404, body = ProblemBody, description = "subscription-missing"),
    )
)]
pub async fn changes(
    State(api): State<Api>,
    Path(subject): Path<String>,
) -> Result<Json<ChangeList>, Problem> {
    let listed = api.plane.subscription(&subject).await?;
    let subscription = listed.subscription.at(api.plane.clock.now_ms()).into_owned();
    Ok(Json(ChangeList { items: subscription.changes.into_iter().map(ChangeBody::from).collect() }))
}

/// Schedules a change; others stay.
#[utoipa::path(
    post, path = "/v1/subscriptions/{subject}/changes", tag = "subscriptions", params(("subject" = String, Path)),
    request_body = ChangeWish,
    responses(
        (status = 200, body = SubscriptionBody),
        (status = 404, body = ProblemBody, description = "subscription-missing"),
        (status = 409, body = ProblemBody, description = "no-policy"),
    )
)]
pub async fn schedule(
    State(api): State<Api>,
    Path(subject): Path<String>,
    author: Author,
    extract::Json(body): extract::Json<ChangeWish>,
) -> Result<Json<SubscriptionBody>, Problem> {
    let change = ScheduledChange { at_ms: body.at.as_millisecond(), tier: body.tier, state: body.state };
    let listed = api.plane.schedule_change(&author, &subject, &change).await?;
    Ok(Json(SubscriptionBody::new(listed, author.now_ms)))
}

/// Forgets all that is scheduled.
#[utoipa::path(
    delete, path = "/v1/subscriptions/{subject}/changes", tag = "subscriptions", params(("subject" = String, Path)),
    responses(
        (status = 200, body = SubscriptionBody),
        (status = 404, body = ProblemBody, description = "subscription-missing"),
        (status = 409, body = ProblemBody, description = "no-policy"),
    )
)]
pub async fn clear(
    State(api): State<Api>,
    Path(subject): Path<String>,
    author: Author,
) -> Result<Json<SubscriptionBody>, Problem> {
    let listed = api.plane.clear_changes(&author, &subject).await?;
    Ok(Json(SubscriptionBody::new(listed, author.now_ms)))
}
