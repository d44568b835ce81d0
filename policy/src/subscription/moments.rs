//! What a subscription is at a moment. Knows no clock: the moment is an argument, and at the very millisecond of a change
//! the new holds.
//!
//! What happened is applied in a fixed order: scheduled changes by their moments, then the end of a trial, then expiry. So
//! it does not matter whether somebody looked in between, or wrote down what they saw ([`Subscription::at`]).

use std::borrow::Cow;

use super::{EffectiveState, ScheduledChange, Subscription, SubscriptionState, TRIAL_NOTICE_MS};
use crate::window::{Period, Window};

/// What of a subscription depends on time, at a moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Effective<'a> {
    /// The tier bought, in force or not.
    pub tier: &'a str,
    /// Where it is in its life.
    pub state: SubscriptionState,
    /// Since when it is of its tier, Unix ms.
    pub tier_since_ms: i64,
}

impl Effective<'_> {
    /// Whether the tier is in force.
    pub fn in_force(&self) -> bool {
        self.state.is_in_force()
    }
}

impl Subscription {
    /// What holds at `now_ms` (Unix ms).
    pub fn effective(&self, now_ms: i64) -> Effective<'_> {
        let since_ms = self.tier_since_ms.unwrap_or(self.anchor_ms);
        let mut effective = Effective { tier: &self.tier, state: self.state, tier_since_ms: since_ms };
        for change in self.due(now_ms) {
            if let Some(tier) = change.tier.as_deref().filter(|tier| *tier != effective.tier) {
                (effective.tier, effective.tier_since_ms) = (tier, change.at_ms);
            }
            effective.state = change.state.unwrap_or(effective.state);
        }
        let is_over = |end_ms: Option<i64>| end_ms.is_some_and(|end_ms| end_ms <= now_ms);
        let trial_over = effective.state == SubscriptionState::Trialing && is_over(self.trial_ends_at_ms);
        if trial_over || is_over(self.expires_at_ms) {
            effective.state = SubscriptionState::Expired;
        }
        effective
    }

    /// The subscription with all that happened up to `now_ms` (Unix ms) written into it: what is left of it says the same of
    /// every later moment.
    pub fn at(&self, now_ms: i64) -> Cow<'_, Self> {
        let Effective { tier, state, tier_since_ms } = self.effective(now_ms);
        let is_due = |change: &ScheduledChange| change.at_ms <= now_ms;
        if state == self.state && !self.changes.iter().any(is_due) {
            return Cow::Borrowed(self);
        }
        Cow::Owned(Self {
            tier: tier.to_owned(),
            state,
            // Said in one way, whoever looked in between.
            tier_since_ms: Some(tier_since_ms).filter(|since_ms| *since_ms != self.anchor_ms),
            changes: self.changes.iter().filter(|change| !is_due(change)).cloned().collect(),
            overrides: self.overrides.clone(),
            held: self.held.clone(),
            ..*self
        })
    }

    /// Whether the tier is in force at `now_ms` (Unix ms). At the very moment of expiry it is not.
    pub fn in_force(&self, now_ms: i64) -> bool {
        self.effective(now_ms).in_force()
    }

    /// The first moment after `now_ms` (both Unix ms) at which something else may hold. Until then what holds now does.
    pub fn next_moment_ms(&self, now_ms: i64) -> Option<i64> {
        self.moments().filter(|moment_ms| *moment_ms > now_ms).min()
    }

    /// The last moment up to `now_ms` (both Unix ms) at which something else may have held just before.
    pub fn last_moment_ms(&self, now_ms: i64) -> Option<i64> {
        self.moments().filter(|moment_ms| *moment_ms <= now_ms).max()
    }

    /// The end (Unix ms) of the trial that at `now_ms` is near, and after which the tier is not in force any more.
    pub fn trial_ending_ms(&self, now_ms: i64) -> Option<i64> {
        let end_ms = self.trial_ends_at_ms.filter(|_| self.state == SubscriptionState::Trialing)?;
        let is_near = (end_ms.saturating_sub(TRIAL_NOTICE_MS)..end_ms).contains(&now_ms);
        (is_near && !self.in_force(end_ms)).then_some(end_ms)
    }

    /// The first moment after `now_ms` (both Unix ms) at which somebody is to be told something: when something may change,
    /// and when the end of a trial is near.
    pub fn next_notice_ms(&self, now_ms: i64) -> Option<i64> {
        let notice = self.trial_ends_at_ms.map(|end_ms| end_ms.saturating_sub(TRIAL_NOTICE_MS));
        let notice =
            notice.filter(|notice_ms| self.state == SubscriptionState::Trialing && *notice_ms > now_ms);
        self.next_moment_ms(now_ms).into_iter().chain(notice).min()
    }

    /// The first moment after the billing period that `now_ms` is in, Unix ms: what a payment provider told, while it is to
    /// come; else the end of the billing month.
    pub fn period_end_ms(&self, now_ms: i64) -> i64 {
        let told = self.period_ends_at_ms.filter(|end_ms| *end_ms > now_ms);
        told.unwrap_or_else(|| self.billing_month(now_ms).end_ms)
    }

    /// The billing month that `now_ms` (Unix ms) is in.
    pub fn billing_month(&self, now_ms: i64) -> Window {
        Period::BillingMonth.window_at(now_ms, self.anchor_ms)
    }

    /// The changes up to `now_ms`, in the order of their moments, whatever order they are kept in.
    fn due(&self, now_ms: i64) -> Vec<&ScheduledChange> {
        let mut due: Vec<_> = self.changes.iter().filter(|change| change.at_ms <= now_ms).collect();
        due.sort_by_key(|change| change.at_ms);
        due
    }

    /// All moments at which something may change by itself. One that could change nothing any more is left out, so that
    /// subjects with the same future have the same moments.
    fn moments(&self) -> impl Iterator<Item = i64> {
        let can_be = |state| self.state == state || self.changes.iter().any(|c| c.state == Some(state));
        let is_over = self.state == SubscriptionState::Expired && self.changes.is_empty();
        let trial = self.trial_ends_at_ms.filter(|_| can_be(SubscriptionState::Trialing));
        let expiry = self.expires_at_ms.filter(|_| !is_over);
        self.changes.iter().map(|change| change.at_ms).chain(trial).chain(expiry)
    }
}

/// What a subject with this subscription, or with none, is shown as at `now_ms` (Unix ms).
pub fn effective_state(subscription: Option<&Subscription>, now_ms: i64) -> EffectiveState {
    subscription.map_or(EffectiveState::Free, |subscription| subscription.effective(now_ms).state.into())
}

/// The name of the tier in force for a subject at `now_ms` (Unix ms): that of its subscription, else the one its verified
/// token claims (where the policy reads such a claim), else the policy's default. `None`: the subject has no tier at all.
///
/// Which version of the tier, [`crate::compile::CompiledPolicy::tier_in_force`] says.
pub fn effective_tier<'a>(
    subscription: Option<&'a Subscription>,
    claimed: Option<&'a str>,
    default: Option<&'a str>,
    now_ms: i64,
) -> Option<&'a str> {
    match subscription.map(|subscription| subscription.effective(now_ms)) {
        Some(effective) if effective.in_force() => Some(effective.tier),
        // A claim must not outlive a subscription that ended: the token may be older than the end.
        Some(_) => default,
        None => claimed.or(default),
    }
}
