//! What can be done with a subscription: another tier, a trial, a pause, an end, each at once or at its moment. What it is
//! afterwards is a pure function of what it was, the policy and the time; `subscriptions` writes it.

use tollgate_policy::document::{PolicyDocument, Tier};
use tollgate_policy::subscription::{ScheduledChange, Subscription, SubscriptionState};

use self::pausing::{pause, resume};
use super::{ControlPlane, InForce, Invalid, NotFound, ServiceError};
use crate::calendar::DAY_MS;
use crate::store::audit::Author;
use crate::store::subjects::ListedSubscription;

mod pausing;

/// How long a tier stays in force after a payment failed, where the policy does not say, days.
pub const GRACE_DAYS: u32 = 7;

/// When something is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum When {
    /// At once.
    Now,
    /// At the end of what is paid for: of the trial, else of the billing period.
    PeriodEnd,
    /// At this moment (Unix ms), which is to come.
    At(i64),
}

/// What is done with a subscription.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// To another tier. Default: up at once, down at the end of the period.
    ChangeTier {
        /// The tier.
        tier: String,
        /// When.
        when: Option<When>,
    },
    /// It ends, no later than it would have anyway. Of what was scheduled before that only what takes away happens.
    Cancel {
        /// When.
        when: When,
    },
    /// The tier is not in force for a while.
    Pause {
        /// From when on.
        when: When,
        /// Until when (Unix ms); without it, until somebody resumes it.
        until_ms: Option<i64>,
    },
    /// It goes on: paused, cancelled or past due before.
    Resume,
    /// A payment failed: the tier stays in force for a while.
    PastDue {
        /// For how long. Default: as the policy says.
        grace_days: Option<u32>,
    },
    /// A tier on trial, of a subject that had no trial yet.
    Trial {
        /// The tier.
        tier: String,
        /// For how long. Default: as the tier says.
        days: Option<u32>,
        /// Whether it is active afterwards; else it expires.
        then_active: bool,
    },
}

impl Action {
    /// Its name in the audit log.
    pub fn name(&self) -> &'static str {
        match self {
            Self::ChangeTier { .. } => "subscription.change_tier",
            Self::Cancel { .. } => "subscription.cancel",
            Self::Pause { .. } => "subscription.pause",
            Self::Resume => "subscription.resume",
            Self::PastDue { .. } => "subscription.past_due",
            Self::Trial { .. } => "subscription.trial",
        }
    }

    /// What the subscription is afterwards. `before` is what it is at `now_ms` (Unix ms).
    pub fn apply(
        &self,
        before: Option<&Subscription>,
        document: &PolicyDocument,
        now_ms: i64,
    ) -> Result<Subscription, ServiceError> {
        if let Self::Trial { tier, days, then_active } = self {
            return trial(before, tier_of(document, tier)?, (tier, *days, *then_active), now_ms);
        }
        let before = before.ok_or(ServiceError::NotFound(NotFound::Subscription))?;
        if before.state == SubscriptionState::Expired {
            return refused("The subscription is over. Make a new one: PUT /v1/subscriptions/{subject}.");
        }
        let after = match self {
            Self::ChangeTier { tier, when } => {
                tier_of(document, tier)?;
                let is_up = is_up(document, &before.tier, tier);
                let when = when.unwrap_or(if is_up { When::Now } else { When::PeriodEnd });
                change_tier(before, tier, moment(before, when, now_ms)?, now_ms)
            }
            Self::Cancel { when } => Ok(cancel(before, moment(before, *when, now_ms)?, document, now_ms)),
            Self::Pause { when, until_ms } => {
                pause(before, moment(before, *when, now_ms)?, *until_ms, now_ms)
            }
            Self::Resume => Ok(resume(before, now_ms)),
            Self::PastDue { grace_days } => {
                let days = grace_days.or(document.billing.grace_days).unwrap_or(GRACE_DAYS);
                past_due(before, days, now_ms)
            }
            Self::Trial { .. } => Ok(before.clone()),
        }?;
        // What a pause holds back is of what there was; whoever does something else meanwhile says what shall be.
        let is_of_pause = matches!(self, Self::Pause { .. } | Self::Resume);
        Ok(if is_of_pause { after } else { Subscription { held: None, ..after } })
    }
}

impl ControlPlane {
    /// Does something with a subscription.
    pub async fn act_on_subscription(
        &self,
        author: &Author,
        subject: &str,
        action: &Action,
    ) -> Result<ListedSubscription, ServiceError> {
        let make = |in_force: &InForce, before: Option<&Subscription>| {
            action.apply(before, document_in(in_force)?, author.now_ms)
        };
        self.write_subscription(author, subject, action.name(), make).await
    }

    /// Schedules a change by its moment; others stay.
    pub async fn schedule_change(
        &self,
        author: &Author,
        subject: &str,
        change: &ScheduledChange,
    ) -> Result<ListedSubscription, ServiceError> {
        if change.at_ms <= author.now_ms {
            return Err(past());
        }
        if change.tier.is_none() && change.state.is_none() {
            return Err(ServiceError::invalid(
                Invalid::Subscription,
                "Name the tier, the state or both from then on.",
            ));
        }
        let make = |_: &InForce, before: Option<&Subscription>| {
            let mut after = before.cloned().ok_or(ServiceError::NotFound(NotFound::Subscription))?;
            if !after.changes.contains(change) {
                after.changes.push(change.clone());
            }
            Ok(after)
        };
        self.write_subscription(author, subject, "subscription.schedule", make).await
    }

    /// Forgets all that is scheduled; answers what is left of it: the subscription as it is now.
    pub async fn clear_changes(
        &self,
        author: &Author,
        subject: &str,
    ) -> Result<ListedSubscription, ServiceError> {
        let make = |_: &InForce, before: Option<&Subscription>| {
            let before = before.cloned().ok_or(ServiceError::NotFound(NotFound::Subscription))?;
            Ok(Subscription { changes: Vec::new(), ..before })
        };
        self.write_subscription(author, subject, "subscription.unschedule", make).await
    }
}

pub(super) fn document_in(in_force: &InForce) -> Result<&PolicyDocument, ServiceError> {
    let policy = in_force.policy.as_ref().map(|policy| &policy.document);
    policy.ok_or_else(|| {
        ServiceError::invalid(Invalid::NoPolicy, "Apply a policy first: it says which tiers there are.")
    })
}

fn tier_of<'a>(document: &'a PolicyDocument, name: &str) -> Result<&'a Tier, ServiceError> {
    document.tiers.get(name).ok_or_else(|| {
        let known: Vec<&str> = document.tiers.keys().map(String::as_str).collect();
        let message = format!("The policy in force has no tier {name:?}; it has: {}.", known.join(", "));
        ServiceError::invalid(Invalid::TierUnknown, message)
    })
}

/// From a tier that the policy has no more any other is a way up.
fn is_up(document: &PolicyDocument, from: &str, to: &str) -> bool {
    let place = |name: &str| document.tiers.get(name).map(|tier| tier.order);
    place(from).is_none_or(|order| place(to).is_some_and(|to_order| (order, from) < (to_order, to)))
}

fn refused<T>(message: &str) -> Result<T, ServiceError> {
    Err(ServiceError::invalid(Invalid::Action, message))
}

fn past() -> ServiceError {
    ServiceError::invalid(Invalid::Subscription, "Name a moment that is to come.")
}

/// The moment of `when`; `None`: now.
fn moment(before: &Subscription, when: When, now_ms: i64) -> Result<Option<i64>, ServiceError> {
    match when {
        When::Now => Ok(None),
        When::PeriodEnd => {
            let trialing = before.state == SubscriptionState::Trialing;
            let trial_ends_ms = before.trial_ends_at_ms.filter(|_| trialing);
            Ok(Some(trial_ends_ms.unwrap_or_else(|| before.period_end_ms(now_ms))))
        }
        When::At(at_ms) if at_ms > now_ms => Ok(Some(at_ms)),
        When::At(_) => Err(past()),
    }
}

/// Whoever changes tier has changed their mind: another change of tier that was to come does not.
fn change_tier(
    before: &Subscription,
    tier: &str,
    at_ms: Option<i64>,
    now_ms: i64,
) -> Result<Subscription, ServiceError> {
    let mut after = before.clone();
    for change in &mut after.changes {
        change.tier = None;
    }
    after.changes.retain(|change| change.state.is_some());
    match at_ms {
        None => after.tier = tier.to_owned(),
        Some(at_ms) => {
            after.changes.push(ScheduledChange { at_ms, tier: Some(tier.to_owned()), state: None });
        }
    }
    // A trial is of one tier: what comes after it is not on trial.
    let ends_with_trial = after.state == SubscriptionState::Trialing && at_ms == after.trial_ends_at_ms;
    if let (true, Some(change)) = (ends_with_trial && at_ms.is_some(), after.changes.last_mut()) {
        change.state = Some(SubscriptionState::Active);
        // A pause goes on over it.
        let is_paused = before.effective(change.at_ms).state == SubscriptionState::Paused;
        let paused = ScheduledChange { tier: None, state: Some(SubscriptionState::Paused), ..change.clone() };
        after.changes.extend(is_paused.then_some(paused));
    }
    match after.expires_at_ms {
        Some(end_ms) if end_ms <= at_ms.unwrap_or(now_ms) => {
            refused("The subscription ends before that. Resume it first.")
        }
        _ => Ok(after),
    }
}

/// It is never in force when it would not have been, nor of a higher tier: an end that there is holds if it is earlier, and
/// what takes away until then (a way down, a pause) still happens.
fn cancel(before: &Subscription, at_ms: Option<i64>, document: &PolicyDocument, now_ms: i64) -> Subscription {
    let mut after = Subscription { changes: Vec::new(), ..before.clone() };
    let Some(at_ms) = at_ms.filter(|_| before.state.is_in_force()) else {
        // What is not in force has nothing left to run out.
        (after.state, after.expires_at_ms) = (SubscriptionState::Expired, Some(now_ms));
        return after;
    };
    let end_ms = over_ms(before, now_ms).map_or(at_ms, |over_ms| over_ms.min(at_ms));
    (after.state, after.expires_at_ms) = (SubscriptionState::Cancelled, Some(end_ms));
    let (mut tier, mut state) = (&before.tier, SubscriptionState::Cancelled);
    let mut changes: Vec<_> = before.changes.iter().filter(|change| change.at_ms < end_ms).collect();
    changes.sort_by_key(|change| change.at_ms);
    for change in changes {
        let down = change.tier.as_ref().filter(|to| *to != tier && !is_up(document, tier, to));
        tier = down.unwrap_or(tier);
        let next = match change.state {
            Some(next) if next.is_in_force() => Some(SubscriptionState::Cancelled),
            next => next,
        };
        let next = next.filter(|next| *next != state);
        state = next.unwrap_or(state);
        if down.is_some() || next.is_some() {
            let tier = down.cloned();
            after.changes.push(ScheduledChange { at_ms: change.at_ms, tier, state: next });
        }
    }
    after
}

/// The first moment after `now_ms` (Unix ms) at which it is over by itself.
fn over_ms(before: &Subscription, now_ms: i64) -> Option<i64> {
    let mut at_ms = now_ms;
    loop {
        at_ms = before.next_moment_ms(at_ms)?;
        if before.effective(at_ms).state == SubscriptionState::Expired {
            return Some(at_ms);
        }
    }
}

/// Repeated, it does not prolong the grace: each attempt at a payment fails anew.
fn past_due(before: &Subscription, grace_days: u32, now_ms: i64) -> Result<Subscription, ServiceError> {
    if before.state == SubscriptionState::PastDue {
        return Ok(before.clone());
    }
    if !before.state.is_in_force() {
        return refused("Only a subscription that is in force has a grace: pay or resume it first.");
    }
    let end_ms = now_ms.saturating_add(i64::from(grace_days) * DAY_MS);
    Ok(Subscription {
        state: SubscriptionState::PastDue,
        expires_at_ms: Some(before.expires_at_ms.map_or(end_ms, |expires_ms| expires_ms.min(end_ms))),
        ..before.clone()
    })
}

fn trial(
    before: Option<&Subscription>,
    tier: &Tier,
    (name, days, then_active): (&str, Option<u32>, bool),
    now_ms: i64,
) -> Result<Subscription, ServiceError> {
    if before.is_some_and(|before| before.trial_ends_at_ms.is_some()) {
        return refused("The subject has had its trial.");
    }
    if before.is_some_and(|before| before.state.is_in_force()) {
        return refused("The subject has a subscription that is in force.");
    }
    let days = i64::from(days.unwrap_or(tier.trial_days));
    if days == 0 {
        return refused("The tier has no `trial_days`: say for how many days it may be tried.");
    }
    let end_ms = now_ms.saturating_add(days * DAY_MS);
    let active = ScheduledChange { at_ms: end_ms, tier: None, state: Some(SubscriptionState::Active) };
    Ok(Subscription {
        tier: name.to_owned(),
        state: SubscriptionState::Trialing,
        // Billing begins when the trial is over.
        anchor_ms: end_ms,
        trial_ends_at_ms: Some(end_ms),
        tier_since_ms: Some(now_ms),
        changes: if then_active { vec![active] } else { Vec::new() },
        overrides: before.map(|before| before.overrides.clone()).unwrap_or_default(),
        ..Subscription::default()
    })
}

#[cfg(test)]
mod histories;
#[cfg(test)]
mod tests;
