//! `/v1/subscriptions`: what subjects have bought.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::{Deserialize, Deserializer, Serialize};
use tollgate_policy::document::Maximum;
use tollgate_policy::subscription::{ScheduledChange, SubscriptionState};
use utoipa::{IntoParams, ToSchema};

use super::extract::{self, Path, Query, cursor_key, page_limit};
use super::policy::next_cursor;
use super::problem::{Problem, ProblemBody};
use super::state::Api;
use crate::service::subscriptions::Wish;
use crate::store::audit::Author;
use crate::store::subjects::ListedSubscription;

/// A subscription to be made or changed.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SubscriptionWish {
    /// A tier of the policy in force. Needed to make one.
    tier: Option<String>,
    /// `active` (default), `trialing`, `past_due`, `cancelled`, `pending`, `paused` or `expired`.
    #[schema(value_type = Option<String>)]
    state: Option<SubscriptionState>,
    /// Start of the first billing period, Unix ms. Default: the one it has, else now.
    anchor_ms: Option<i64>,
    /// From this moment (Unix ms) the tier is no longer in force; `null`: never.
    #[serde(default, deserialize_with = "present")]
    #[schema(value_type = Option<i64>)]
    expires_at_ms: Option<Option<i64>>,
    /// End of the trial (Unix ms), of one that is on trial; `null`: it is on none.
    #[serde(default, deserialize_with = "present")]
    #[schema(value_type = Option<i64>)]
    trial_ends_at_ms: Option<Option<i64>>,
    /// End of the period that is paid, Unix ms; `null`: a period is a billing month.
    #[serde(default, deserialize_with = "present")]
    #[schema(value_type = Option<i64>)]
    period_ends_at_ms: Option<Option<i64>>,
    /// Since when it is of its tier, Unix ms: decides which version of the tier holds. Default: since it was given the tier.
    tier_since_ms: Option<i64>,
    /// What changes by itself; it replaces all that was scheduled.
    #[schema(value_type = Option<Vec<ChangeBody>>)]
    changes: Option<Vec<ScheduledChange>>,
    /// Maximums of this subject alone, by limit name: a number of units, or `unlimited`. They replace all there were.
    #[schema(value_type = Option<BTreeMap<String, serde_json::Value>>)]
    overrides: Option<BTreeMap<String, Maximum>>,
}

/// Tells a member that is null from one that is missing.
fn present<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Option<i64>>, D::Error> {
    Option::deserialize(from).map(Some)
}

impl From<SubscriptionWish> for Wish {
    fn from(body: SubscriptionWish) -> Self {
        Self {
            tier: body.tier,
            state: body.state,
            anchor_ms: body.anchor_ms,
            expires_at_ms: body.expires_at_ms,
            trial_ends_at_ms: body.trial_ends_at_ms,
            period_ends_at_ms: body.period_ends_at_ms,
            tier_since_ms: body.tier_since_ms,
            changes: body.changes,
            overrides: body.overrides,
        }
    }
}

/// A change that happens by itself at its moment. What is left out stays.
#[derive(Debug, Serialize, ToSchema)]
pub struct ChangeBody {
    /// When, Unix ms: at this very moment it holds.
    at_ms: i64,
    /// The tier from then on.
    #[serde(skip_serializing_if = "Option::is_none")]
    tier: Option<String>,
    /// The state from then on.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    state: Option<SubscriptionState>,
}

impl From<ScheduledChange> for ChangeBody {
    fn from(change: ScheduledChange) -> Self {
        Self { at_ms: change.at_ms, tier: change.tier, state: change.state }
    }
}

/// A subscription as it is now.
#[derive(Debug, Serialize, ToSchema)]
pub struct SubscriptionBody {
    /// Whose it is.
    subject: String,
    /// The tier bought.
    tier: String,
    /// Where it is in its life.
    #[schema(value_type = String)]
    state: SubscriptionState,
    /// Start of the first billing period, Unix ms.
    anchor_ms: i64,
    /// From this moment (Unix ms) the tier is no longer in force.
    expires_at_ms: Option<i64>,
    /// End of the trial, of one that is or was on trial, Unix ms.
    trial_ends_at_ms: Option<i64>,
    /// End of the period that is paid, where a payment provider tells it, Unix ms.
    period_ends_at_ms: Option<i64>,
    /// End of the billing period that it is in, Unix ms.
    current_period_ends_at_ms: i64,
    /// Since when it is of its tier, Unix ms.
    tier_since_ms: i64,
    /// What is scheduled, in the order of its moments.
    changes: Vec<ChangeBody>,
    /// Maximums of this subject alone, by limit name: a number of units, or `unlimited`.
    #[schema(value_type = BTreeMap<String, serde_json::Value>)]
    overrides: BTreeMap<String, Maximum>,
    /// Whether the tier is in force now.
    in_force: bool,
    /// Rises with each change.
    revision: i64,
}

impl SubscriptionBody {
    pub(super) fn new(listed: ListedSubscription, now_ms: i64) -> Self {
        // What happened by itself may not be written down yet.
        let subscription = listed.subscription.at(now_ms).into_owned();
        Self {
            subject: listed.subject,
            trial_ends_at_ms: subscription.trial_ends_at_ms,
            period_ends_at_ms: subscription.period_ends_at_ms,
            current_period_ends_at_ms: subscription.period_end_ms(now_ms),
            tier_since_ms: subscription.tier_since_ms.unwrap_or(subscription.anchor_ms),
            changes: subscription.changes.iter().cloned().map(ChangeBody::from).collect(),
            in_force: subscription.in_force(now_ms),
            tier: subscription.tier,
            state: subscription.state,
            anchor_ms: subscription.anchor_ms,
            expires_at_ms: subscription.expires_at_ms,
            overrides: subscription.overrides,
            revision: listed.revision,
        }
    }
}

/// A page of subscriptions, by subject.
#[derive(Debug, Serialize, ToSchema)]
pub struct SubscriptionPage {
    /// The subscriptions.
    items: Vec<SubscriptionBody>,
    /// Pass it as `cursor` for the next page; missing on the last.
    #[serde(skip_serializing_if = "Option::is_none")]
    next_cursor: Option<String>,
}

/// Which subscriptions.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct ListQuery {
    /// Only those of this tier.
    tier: Option<String>,
    /// Only those in this state.
    #[param(value_type = Option<String>)]
    state: Option<SubscriptionState>,
    /// Rows of the page, 1 to 500. Default: 100.
    limit: Option<i64>,
    /// `next_cursor` of the page before.
    cursor: Option<String>,
}

/// Subscriptions, by subject.
#[utoipa::path(
    get, path = "/v1/subscriptions", tag = "subscriptions", params(ListQuery),
    responses((status = 200, body = SubscriptionPage))
)]
pub async fn list(
    State(api): State<Api>,
    Query(query): Query<ListQuery>,
) -> Result<Json<SubscriptionPage>, Problem> {
    let limit = page_limit(query.limit)?;
    let after = cursor_key(query.cursor.as_deref())?.unwrap_or_default();
    let mut rows = api.plane.subscriptions(&after, query.tier.as_deref(), query.state, limit + 1).await?;
    let next_cursor = next_cursor(&mut rows, limit, |listed| listed.subject.clone());
    let now_ms = api.plane.clock.now_ms();
    let items = rows.into_iter().map(|listed| SubscriptionBody::new(listed, now_ms)).collect();
    Ok(Json(SubscriptionPage { items, next_cursor }))
}

/// A subject's subscription.
#[utoipa::path(
    get, path = "/v1/subscriptions/{subject}", tag = "subscriptions", params(("subject" = String, Path)),
    responses(
        (status = 200, body = SubscriptionBody),
        (status = 404, body = ProblemBody, description = "subscription-missing"),
    )
)]
pub async fn show(
    State(api): State<Api>,
    Path(subject): Path<String>,
) -> Result<Json<SubscriptionBody>, Problem> {
    let listed = api.plane.subscription(&subject).await?;
    Ok(Json(SubscriptionBody::new(listed, api.plane.clock.now_ms())))
}

/// Makes or replaces a subscription. Every edge feels it within a second.
#[utoipa::path(
    put, path = "/v1/subscriptions/{subject}", tag = "subscriptions", params(("subject" = String, Path)),
    request_body = SubscriptionWish,
    responses((status = 200, body = SubscriptionBody), (status = 409, body = ProblemBody, description = "no-policy"))
)]
pub async fn set(
    State(api): State<Api>,
    Path(subject): Path<String>,
    author: Author,
    extract::Json(body): extract::Json<SubscriptionWish>,
) -> Result<Json<SubscriptionBody>, Problem> {
    let listed = api.plane.set_subscription(&author, &subject, &body.into()).await?;
    Ok(Json(SubscriptionBody::new(listed, author.now_ms)))
}

/// Changes a subscription: what is left out stays.
#[utoipa::path(
    patch, path = "/v1/subscriptions/{subject}", tag = "subscriptions", params(("subject" = String, Path)),
    request_body = SubscriptionWish,
    responses(
        (status = 200, body = SubscriptionBody),
        (status = 404, body = ProblemBody, description = "subscription-missing"),
        (status = 409, body = ProblemBody, description = "no-policy"),
    )
)]
pub async fn change(
    State(api): State<Api>,
    Path(subject): Path<String>,
    author: Author,
    extract::Json(body): extract::Json<SubscriptionWish>,
) -> Result<Json<SubscriptionBody>, Problem> {
    let listed = api.plane.change_subscription(&author, &subject, &body.into()).await?;
    Ok(Json(SubscriptionBody::new(listed, author.now_ms)))
}

/// Deletes a subscription. What was used stays used.
#[utoipa::path(
    delete, path = "/v1/subscriptions/{subject}", tag = "subscriptions", params(("subject" = String, Path)),
    responses((status = 204), (status = 404, body = ProblemBody, description = "subscription-missing"))
)]
pub async fn delete(
    State(api): State<Api>,
    Path(subject): Path<String>,
    author: Author,
) -> Result<StatusCode, Problem> {
    api.plane.delete_subscription(&author, &subject).await?;
    Ok(StatusCode::NO_CONTENT)
}
