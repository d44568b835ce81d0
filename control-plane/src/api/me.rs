//! `/v1/me`: what end users see and do with the token that their issuer gave them.

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, header};
use axum::response::{IntoResponse as _, Response};
use serde::{Deserialize, Serialize};
use tollgate_policy::compile::UNLIMITED;
use tollgate_policy::document::{Maximum, Scope};
use tollgate_policy::limit::LimitKind;
use tollgate_policy::subscription::EffectiveState;
use tollgate_policy::window::{CALENDAR_END_MS, CALENDAR_START_MS};
use utoipa::ToSchema;

use super::extract::{self, Query, UserAuthor};
use super::problem::{Problem, ProblemBody};
use super::state::Api;
use super::subscriptions::{ChangeBody, SubscriptionBody};
use super::tiers::maximum_of;
use super::usage::{UsageBody, UsageParameters, usage_of};
use crate::calendar::rfc3339;
use crate::service::ServiceError;
use crate::service::languages::Languages;
use crate::service::lifecycle::When;
use crate::service::me::{Changed, Direction, EndUser, MeView, MyLimit};

/// What a user has at this moment.
#[derive(Debug, Serialize, ToSchema)]
pub struct MeBody {
    /// Who is charged: `user:…`, or `org:…` of a member of an organisation.
    subject: String,
    /// The member, of an organisation.
    #[serde(skip_serializing_if = "Option::is_none")]
    member: Option<String>,
    /// The tier in force; `null` when there is none.
    tier: Option<MyTierBody>,
    /// Where the tier comes from: `subscription`, `claim` (of the token), `default` or `none`.
    tier_from: &'static str,
    /// `active`, `trialing`, `past_due`, `cancelled` (valid until its end), `pending`, `paused`, `expired`, or `free` without a
    /// subscription.
    #[schema(value_type = String)]
    state: EffectiveState,
    /// Features of the tier.
    features: Vec<String>,
    /// When the trial ends, RFC 3339; while it is on trial.
    #[serde(skip_serializing_if = "Option::is_none")]
    trial_ends_at: Option<String>,
    /// When the tier ends, RFC 3339.
    #[serde(skip_serializing_if = "Option::is_none")]
    expires_at: Option<String>,
    /// When the billing period ends, RFC 3339; of a subscription in force.
    #[serde(skip_serializing_if = "Option::is_none")]
    period_ends_at: Option<String>,
    /// What happens by itself, in the order of its moments.
    changes: Vec<ChangeBody>,
    /// Until when no limit refuses, by an operator's grant, RFC 3339.
    #[serde(skip_serializing_if = "Option::is_none")]
    bypass_until: Option<String>,
    /// The limits that hold.
    limits: Vec<MyLimitBody>,
    /// Those of them that are nearly or quite used up, the nearest first.
    warnings: Vec<WarningBody>,
}

/// A tier, in the reader's language.
#[derive(Debug, Serialize, ToSchema)]
pub struct MyTierBody {
    /// Its name.
    name: String,
    /// Its name for people.
    title: String,
}

/// A limit and how near it is.
#[derive(Debug, Serialize, ToSchema)]
pub struct MyLimitBody {
    /// Its name.
    limit: String,
    /// The meter; not of `concurrency` and `size`.
    #[serde(skip_serializing_if = "Option::is_none")]
    meter: Option<String>,
    /// `quota`, `rate` (a token bucket too), `capacity`, `concurrency` or `size`.
    kind: &'static str,
    /// `subject`, or `member` of an organisation.
    #[schema(value_type = String)]
    scope: Scope,
    /// The maximum, with what was bought besides: a number, or `unlimited`.
    #[schema(value_type = serde_json::Value)]
    maximum: Maximum,
    /// Units used, as far as edges have reported; not of a rate and of a size.
    #[serde(skip_serializing_if = "Option::is_none")]
    used: Option<u64>,
    /// Units that are left: a number, or `unlimited`; not of a rate and of a size.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<serde_json::Value>)]
    remaining: Option<Maximum>,
    /// Percent used, of a quota or a capacity with a maximum.
    #[serde(skip_serializing_if = "Option::is_none")]
    percent: Option<f64>,
    /// 80, 95 or 100, when so many percent are used.
    #[serde(skip_serializing_if = "Option::is_none")]
    warning: Option<u8>,
    /// Whether what is used beyond the maximum is not refused.
    soft: bool,
    /// Units used beyond it.
    #[serde(skip_serializing_if = "Option::is_none")]
    overage: Option<u64>,
    /// The window, such as `day` or `60s`.
    #[serde(skip_serializing_if = "Option::is_none")]
    per: Option<String>,
    /// When the window ends and counting begins anew, RFC 3339.
    #[serde(skip_serializing_if = "Option::is_none")]
    resets_at: Option<String>,
    /// For how many days what is left lasts when it is used as in the last seven days; where nothing was used, it is missing.
    #[serde(skip_serializing_if = "Option::is_none")]
    estimated_days_left: Option<f64>,
    /// Whether by that estimate it is used up before the window ends.
    #[serde(skip_serializing_if = "Option::is_none")]
    runs_out_before_reset: Option<bool>,
}

/// A limit that is nearly or quite used up.
#[derive(Debug, Serialize, ToSchema)]
pub struct WarningBody {
    /// The limit's name.
    limit: String,
    /// 80, 95 or 100: so many percent are used, or more.
    percent: u8,
    /// A sentence.
    message: String,
}

/// A change of tier.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct TierWish {
    /// One of `GET /v1/plans`.
    tier: String,
    /// `now` or `period_end`. Default: up now, down at the end of the period. A tier that has a price comes with its payment.
    when: Option<WhenWish>,
}

/// An end of a subscription.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CancelWish {
    /// `period_end` (default), or `now`: what is paid for is given up.
    when: Option<WhenWish>,
}

/// When something is done.
#[derive(Debug, Clone, Copy, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum WhenWish {
    /// At once.
    Now,
    /// At the end of what is paid for.
    PeriodEnd,
}

/// What came of a wish.
#[derive(Debug, Serialize, ToSchema)]
#[serde(tag = "status", rename_all = "snake_case")]
pub enum ChangedBody {
    /// Nothing is changed yet: pay there, and the tier is in force as soon as the provider tells.
    Checkout {
        /// The tier.
        tier: String,
        /// `stripe`, `lemonsqueezy` or `cinetpay`.
        provider: &'static str,
        /// Where to pay.
        url: String,
    },
    /// Done, or to be done by itself: see `changes`.
    Changed {
        /// The subscription as it is now.
        subscription: Box<SubscriptionBody>,
    },
}

impl From<WhenWish> for When {
    fn from(when: WhenWish) -> Self {
        match when {
            WhenWish::Now => Self::Now,
            WhenWish::PeriodEnd => Self::PeriodEnd,
        }
    }
}

impl MyLimitBody {
    fn new(limit: MyLimit, now_ms: i64) -> Self {
        let left = limit.left();
        let MyLimit { view, units, outlook, days_left } = limit;
        let (limit, standing) = (view.limit, view.standing.as_ref());
        let is_rate = matches!(limit.kind, LimitKind::Rate { .. } | LimitKind::Bucket { .. });
        let counted = standing.filter(|_| !is_rate);
        let end_ms = standing.and_then(|standing| standing.window_end_ms);
        let end_ms = end_ms.filter(|ms| (CALENDAR_START_MS..CALENDAR_END_MS).contains(ms));
        let per = limit.per();
        let day_ms = crate::calendar::DAY_MS as f64;
        Self {
            meter: standing.and_then(|standing| standing.meter.clone()),
            kind: limit.kind.name(),
            scope: limit.scope,
            maximum: maximum_of(units),
            used: counted.map(|standing| standing.used),
            remaining: counted.map(|_| maximum_of(left.unwrap_or(UNLIMITED))),
            percent: outlook.map(|outlook| outlook.percent),
            warning: outlook.and_then(|outlook| outlook.warning),
            soft: matches!(limit.kind, LimitKind::Quota { soft: true, .. }),
            overage: standing.map(|standing| standing.overage).filter(|units| *units > 0),
            per: (!per.is_empty()).then_some(per),
            runs_out_before_reset: end_ms
                .zip(days_left)
                .map(|(end_ms, days)| days * day_ms < end_ms.saturating_sub(now_ms) as f64),
            resets_at: end_ms.map(rfc3339),
            estimated_days_left: days_left,
            limit: limit.name.to_string(),
        }
    }

    fn warning(&self) -> Option<WarningBody> {
        let percent = self.warning?;
        let what = match (percent, self.soft) {
            (100, false) => "is used up",
            (100, true) => "is used up; what comes beyond it is counted as overage",
            _ => "is nearly used up",
        };
        let resets = self.resets_at.as_ref().map(|at| format!(" It begins anew at {at}."));
        let message = format!("{} {what}.{}", self.limit, resets.unwrap_or_default());
        Some(WarningBody { limit: self.limit.clone(), percent, message })
    }
}

impl MeBody {
    /// The tier in force, by its name.
    pub(super) fn tier_name(&self) -> Option<&str> {
        self.tier.as_ref().map(|tier| tier.name.as_str())
    }

    /// The limits, by name.
    pub(super) fn limits(&self) -> impl Iterator<Item = (&str, &MyLimitBody)> {
        self.limits.iter().map(|limit| (limit.limit.as_str(), limit))
    }

    fn new(view: MeView, title: Option<String>, now_ms: i64) -> Self {
        let limits: Vec<_> = view.limits.into_iter().map(|limit| MyLimitBody::new(limit, now_ms)).collect();
        let mut warnings: Vec<_> = limits.iter().filter_map(MyLimitBody::warning).collect();
        warnings.sort_by_key(|warning| std::cmp::Reverse(warning.percent));
        let bought = view.subscription.as_ref();
        let in_force = bought.filter(|bought| bought.in_force(now_ms));
        let trial_ends_ms = bought.filter(|_| view.state == EffectiveState::Trialing);
        Self {
            subject: view.subject,
            member: view.member,
            tier: view.tier.map(|name| MyTierBody { title: title.unwrap_or_else(|| name.clone()), name }),
            tier_from: view.tier_from,
            state: view.state,
            features: view.features,
            trial_ends_at: trial_ends_ms.and_then(|bought| bought.trial_ends_at_ms).map(rfc3339),
            expires_at: bought.and_then(|bought| bought.expires_at_ms).map(rfc3339),
            period_ends_at: in_force.map(|bought| rfc3339(bought.period_end_ms(now_ms))),
            changes: bought
                .iter()
                .flat_map(|bought| bought.changes.iter().cloned().map(ChangeBody::from))
                .collect(),
            bypass_until: view.bypass_until_ms.map(rfc3339),
            limits,
            warnings,
        }
    }
}

/// What the user has now: its tier, its limits and how near they are. A member of an organisation sees its own limits and
/// those of the organisation.
#[utoipa::path(get, path = "/v1/me", tag = "me", responses((status = 200, body = MeBody)))]
pub async fn show(State(api): State<Api>, user: EndUser, headers: HeaderMap) -> Result<Response, Problem> {
    let view = api.plane.me(&user).await?;
    me(&api, view, &headers)
}

/// What the user used, from the ledger. What members use is counted for their organisation: its administrators may see it.
#[utoipa::path(
    get, path = "/v1/me/usage", tag = "me", params(UsageParameters), responses((status = 200, body = UsageBody))
)]
pub async fn usage(
    State(api): State<Api>,
    user: EndUser,
    Query(parameters): Query<UsageParameters>,
) -> Result<Json<UsageBody>, Problem> {
    if !user.decides() {
        return Err(ServiceError::NotAdministrator.into());
    }
    usage_of(&api, user.caller.subject, parameters).await
}

/// A higher tier: at once where it costs nothing, else by the payment to which this leads.
#[utoipa::path(
    post, path = "/v1/me/upgrade", tag = "me", request_body = TierWish,
    responses(
        (status = 200, body = ChangedBody),
        (status = 409, body = ProblemBody, description = "action-refused, payment-not-configured"),
    )
)]
pub async fn upgrade(
    State(api): State<Api>,
    user: EndUser,
    author: UserAuthor,
    extract::Json(wish): extract::Json<TierWish>,
) -> Result<Json<ChangedBody>, Problem> {
    change(&api, &user, author, wish, Direction::Up).await
}

/// A lower tier: at the end of the period where it costs nothing, else by the payment to which this leads.
#[utoipa::path(
    post, path = "/v1/me/downgrade", tag = "me", request_body = TierWish,
    responses(
        (status = 200, body = ChangedBody),
        (status = 409, body = ProblemBody, description = "action-refused, payment-not-configured"),
    )
)]
pub async fn downgrade(
    State(api): State<Api>,
    user: EndUser,
    author: UserAuthor,
    extract::Json(wish): extract::Json<TierWish>,
) -> Result<Json<ChangedBody>, Problem> {
    change(&api, &user, author, wish, Direction::Down).await
}

/// Ends the subscription: it stays valid to the end of what is paid for.
#[utoipa::path(
    post, path = "/v1/me/cancel", tag = "me", request_body = CancelWish,
    responses(
        (status = 200, body = ChangedBody),
        (status = 404, body = ProblemBody, description = "subscription-missing"),
        (status = 409, body = ProblemBody, description = "action-refused"),
    )
)]
pub async fn cancel(
    State(api): State<Api>,
    user: EndUser,
    UserAuthor(author): UserAuthor,
    extract::Json(wish): extract::Json<CancelWish>,
) -> Result<Json<ChangedBody>, Problem> {
    let when = wish.when.map_or(When::PeriodEnd, When::from);
    let listed = api.plane.cancel_mine(&user, &author, when).await?;
    let subscription = Box::new(SubscriptionBody::new(listed, author.now_ms));
    Ok(Json(ChangedBody::Changed { subscription }))
}

async fn change(
    api: &Api,
    user: &EndUser,
    UserAuthor(author): UserAuthor,
    wish: TierWish,
    direction: Direction,
) -> Result<Json<ChangedBody>, Problem> {
    let when = wish.when.map(When::from);
    let changed = api.plane.change_my_tier(user, &author, &wish.tier, direction, when).await?;
    Ok(Json(match changed {
        Changed::Checkout(link) => {
            ChangedBody::Checkout { tier: wish.tier, provider: link.provider.name(), url: link.url }
        }
        Changed::Subscription(listed) => {
            ChangedBody::Changed { subscription: Box::new(SubscriptionBody::new(listed, author.now_ms)) }
        }
    }))
}

/// A view as it is answered: for this user alone, and never kept by anything on the way.
pub(super) fn me(api: &Api, view: MeView, headers: &HeaderMap) -> Result<Response, Problem> {
    let mut response = Json(me_body(api, view, &languages(headers))).into_response();
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(response)
}

/// A view, in the reader's language.
pub(super) fn me_body(api: &Api, view: MeView, languages: &Languages) -> MeBody {
    let in_force = api.plane.in_force();
    let tier =
        in_force.policy.as_ref().zip(view.tier.as_deref()).and_then(|(p, name)| p.document.tiers.get(name));
    let title = tier.and_then(|tier| tier.title.as_ref()).map(|title| languages.choose(title).0.to_owned());
    MeBody::new(view, title, api.plane.clock.now_ms())
}

/// The reader's languages.
pub(super) fn languages(headers: &HeaderMap) -> Languages {
    let header = headers.get(header::ACCEPT_LANGUAGE).and_then(|value| value.to_str().ok());
    Languages::accepted(header.unwrap_or_default())
}
