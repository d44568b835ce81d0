//! Pauses: what they hold back, and how it comes back.
//!
//! A pause only hides. A change that would put the tier in force meanwhile stays where it is and is followed by `paused` at
//! the same moment, so that it has no effect and is not forgotten either. Whoever resumes takes those away again, and
//! the pause's own end with them; all else is as if the pause had never been. What ends meanwhile has ended.

use tollgate_policy::subscription::{ScheduledChange, Subscription, SubscriptionState};

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
    let state = before.effective(from_ms).state;
    if !before.state.is_in_force() || !state.is_in_force() {
        return refused("Only a subscription that is in force can be paused.");
    }
    if until_ms.is_some_and(|until_ms| until_ms <= from_ms) {
        return Err(past());
    }
    // What is over by then, or paused once more, comes back with what puts it in force again, if anything does.
    let until_ms = until_ms.and_then(|until_ms| in_force_from(before, until_ms));
    let is_within = |moment_ms: i64| from_ms < moment_ms && until_ms.is_none_or(|end_ms| moment_ms < end_ms);
    let paused = |at_ms| to(SubscriptionState::Paused, at_ms);
    let trial_ends_ms = before.trial_ends_at_ms.filter(|end_ms| is_within(*end_ms));
    let ends_ms = before.expires_at_ms.filter(|end_ms| is_within(*end_ms));
    // Where the state is not to be seen from what is left, it is kept as one more change that is held back: of what runs out
    // at its end, else at the end of a trial that is none any more, before what else happens there.
    let has_end = matches!(state, SubscriptionState::Cancelled | SubscriptionState::PastDue);
    let at_end = ends_ms.filter(|_| has_end);
    let at_trial_end = trial_ends_ms.filter(|_| state != SubscriptionState::Trialing && at_end.is_none());
    let memory = |at_ms: Option<i64>| at_ms.into_iter().flat_map(|at_ms| [to(state, at_ms), paused(at_ms)]);
    let mut after = Subscription { changes: memory(at_trial_end).collect(), ..before.clone() };
    for change in &before.changes {
        after.changes.push(change.clone());
        if is_within(change.at_ms) && is_in_force(change) {
            // A trial that is over already is over with it.
            let over = before.effective(change.at_ms).state == SubscriptionState::Expired;
            let held = if over { SubscriptionState::Expired } else { SubscriptionState::Paused };
            after.changes.push(to(held, change.at_ms));
        }
    }
    match at_ms {
        None => after.state = SubscriptionState::Paused,
        Some(at_ms) => after.changes.push(paused(at_ms)),
    }
    // A trial runs on, and what is paused is not on trial: it has to be told when it is over.
    let is_over = |end_ms: &i64| before.effective(*end_ms).state == SubscriptionState::Expired;
    let trial_over = trial_ends_ms.filter(is_over).map(|end_ms| to(SubscriptionState::Expired, end_ms));
    let resumed = until_ms.map(|until_ms| to(before.effective(until_ms).state, until_ms));
    after.changes.extend(memory(at_end).chain(trial_over).chain(resumed));
    after.changes.sort_by_key(|change| change.at_ms);
    Ok(after)
}

/// What was paused or shall be goes on with what was left of it; what was cancelled or past due as if it never had been:
/// without an end. On trial, if that is not over.
pub(super) fn resume(before: &Subscription, now_ms: i64) -> Subscription {
    let mut after = before.clone();
    let memory = forget_pauses(&mut after);
    let on_trial = before.trial_ends_at_ms.is_some_and(|end_ms| now_ms < end_ms);
    let goes_on = if on_trial { SubscriptionState::Trialing } else { SubscriptionState::Active };
    match before.state {
        SubscriptionState::Paused => after.state = memory.unwrap_or(goes_on),
        SubscriptionState::Cancelled | SubscriptionState::PastDue => {
            (after.state, after.expires_at_ms) = (goes_on, None);
            for change in after.changes.iter_mut().filter(|change| change.state == Some(before.state)) {
                change.state = None;
            }
            after.changes.retain(|change| change.tier.is_some() || change.state.is_some());
        }
        _ => {}
    }
    after
}

/// Takes away all that pauses put there. Answers what a paused subscription is known to have been before.
fn forget_pauses(after: &mut Subscription) -> Option<SubscriptionState> {
    let mut paused = after.state == SubscriptionState::Paused;
    let (mut memory, mut goes_on) = (None, None);
    let mut changes = std::mem::take(&mut after.changes);
    changes.sort_by_key(|change| change.at_ms);
    for moment in changes.chunk_by_mut(|one, next| one.at_ms == next.at_ms) {
        let at_ms = Some(moment[0].at_ms);
        let count = moment.iter().filter(|change| change.state.is_some()).count();
        let last = moment.iter().rev().find_map(|change| change.state);
        let ends_trial = at_ms == after.trial_ends_at_ms;
        for change in moment.iter_mut() {
            match change.state {
                Some(SubscriptionState::Paused) => change.state = None,
                Some(SubscriptionState::Expired) if paused && ends_trial => {
                    goes_on = change.state.take();
                }
                Some(state @ (SubscriptionState::Cancelled | SubscriptionState::PastDue))
                    if last == Some(SubscriptionState::Paused) && at_ms == after.expires_at_ms =>
                {
                    memory = memory.or(Some(state));
                    change.state = None;
                }
                _ => {}
            }
        }
        match last {
            Some(SubscriptionState::Paused) => paused = true,
            // The first moment that leaves it in force is the pause's own end: the last change there. One alone at a trial's
            // end is no pause's: it says what comes after the trial.
            Some(state) if paused && state.is_in_force() => {
                paused = false;
                let end = moment.iter_mut().rev().find(|change| is_in_force(change));
                if let Some(end) = end.filter(|_| !ends_trial || count > 1) {
                    let state = end.state.take();
                    memory = memory.or(state.filter(|_| goes_on.is_none()));
                }
            }
            _ => {}
        }
        goes_on = moment.iter().rev().find_map(|change| change.state).or(goes_on);
    }
    changes.retain(|change| change.tier.is_some() || change.state.is_some());
    after.changes = changes;
    memory
}

/// The first moment from `from_ms` on (Unix ms) at which it is in force.
fn in_force_from(before: &Subscription, from_ms: i64) -> Option<i64> {
    let mut at_ms = from_ms;
    while !before.in_force(at_ms) {
        at_ms = before.next_moment_ms(at_ms)?;
    }
    Some(at_ms)
}

fn is_in_force(change: &ScheduledChange) -> bool {
    change.state.is_some_and(SubscriptionState::is_in_force)
}

fn to(state: SubscriptionState, at_ms: i64) -> ScheduledChange {
    ScheduledChange { at_ms, tier: None, state: Some(state) }
}
