//! Pauses: what they hold back, and how it comes back.
//!
//! A pause only hides. What there was is kept beside it ([`Held`]), and resuming gives exactly that back; what ended
//! meanwhile has ended. A change that would put the tier in force during the pause is followed by `paused` at the same moment,
//! so that it has no effect.

use tollgate_policy::subscription::{Held, ScheduledChange, Subscription, SubscriptionState};

use super::{past, refused};
use crate::service::ServiceError;

/// Not in force from `at_ms` (without it: from `now_ms` on) until `until_ms`, or until somebody resumes it.
pub(super) fn pause(
    before: &Subscription,
    at_ms: Option<i64>,
    until_ms: Option<i64>,
    now_ms: i64,
) -> Result<Subscription, ServiceError> {
    let from_ms = at_ms.unwrap_or(now_ms);
    let is_in_force_then = before.effective(from_ms).in_force();
    if !before.state.is_in_force() || !is_in_force_then {
        return refused("Only a subscription that is in force can be paused.");
    }
    if until_ms.is_some_and(|until_ms| until_ms <= from_ms) {
        return Err(past());
    }
    // What is over by then, or paused once more, comes back with what puts it in force again, if anything does.
    let until_ms = until_ms.and_then(|until_ms| in_force_from(before, until_ms));
    let is_within = |moment_ms: i64| from_ms < moment_ms && until_ms.is_none_or(|end_ms| moment_ms < end_ms);
    let held = Held { state: before.state, changes: before.changes.clone() };
    let mut after = Subscription { changes: Vec::new(), held: Some(Box::new(held)), ..before.clone() };
    for change in &before.changes {
        after.changes.push(change.clone());
        if is_within(change.at_ms) && change.state.is_some_and(SubscriptionState::is_in_force) {
            after.changes.push(to(SubscriptionState::Paused, change.at_ms));
        }
    }
    match at_ms {
        None => after.state = SubscriptionState::Paused,
        Some(at_ms) => after.changes.push(to(SubscriptionState::Paused, at_ms)),
    }
    // What is paused is not on trial: it has to be told when its trial is over.
    let trial_over = before
        .trial_ends_at_ms
        .filter(|end_ms| is_within(*end_ms) && before.effective(*end_ms).state == SubscriptionState::Expired);
    after.changes.extend(trial_over.map(|end_ms| to(SubscriptionState::Expired, end_ms)));
    after.changes.extend(until_ms.map(|until_ms| to(before.effective(until_ms).state, until_ms)));
    after.changes.sort_by_key(|change| change.at_ms);
    Ok(after)
}

/// What was paused or shall be goes on with what was left of it; what was cancelled or past due as if it never had been:
/// without an end. On trial, if that is not over.
pub(super) fn resume(before: &Subscription, now_ms: i64) -> Subscription {
    let mut after = before.clone();
    let is_pause = |change: &ScheduledChange| change.state == Some(SubscriptionState::Paused);
    let is_paused = before.state == SubscriptionState::Paused || before.changes.iter().any(is_pause);
    if let Some(held) = after.held.take().filter(|_| is_paused) {
        (after.state, after.changes) = (held.state, held.changes);
        return after.at(now_ms).into_owned();
    }
    // Nothing is known of what there was: a pause that was set as a state, or changed since.
    for change in after.changes.iter_mut().filter(|change| is_pause(change)) {
        change.state = None;
    }
    let on_trial = before.trial_ends_at_ms.is_some_and(|end_ms| now_ms < end_ms);
    let goes_on = if on_trial { SubscriptionState::Trialing } else { SubscriptionState::Active };
    match before.state {
        SubscriptionState::Paused => after.state = goes_on,
        SubscriptionState::Cancelled | SubscriptionState::PastDue => {
            (after.state, after.expires_at_ms) = (goes_on, None);
            for change in after.changes.iter_mut().filter(|change| change.state == Some(before.state)) {
                change.state = None;
            }
        }
        _ => {}
    }
    after.changes.retain(|change| change.tier.is_some() || change.state.is_some());
    after
}

/// The first moment from `from_ms` on (Unix ms) at which it is in force.
fn in_force_from(before: &Subscription, from_ms: i64) -> Option<i64> {
    let mut at_ms = from_ms;
    while !before.in_force(at_ms) {
        at_ms = before.next_moment_ms(at_ms)?;
    }
    Some(at_ms)
}

fn to(state: SubscriptionState, at_ms: i64) -> ScheduledChange {
    ScheduledChange { at_ms, tier: None, state: Some(state) }
}
