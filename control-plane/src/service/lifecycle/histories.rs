//! What no history of actions does to a subscription: cancelling and pausing never give, resuming gives back what a pause
//! held back, and what is stored stays in order and bounded. Moments are days, and few, so that many of them meet.

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

use super::tests::document;
use super::*;
use crate::service::subscriptions::CHANGES_MAX;

/// The days that are looked at: past every moment that a history names.
const DAYS: i64 = 120;

const STATES: [SubscriptionState; 7] = [
    SubscriptionState::Active,
    SubscriptionState::Trialing,
    SubscriptionState::PastDue,
    SubscriptionState::Cancelled,
    SubscriptionState::Pending,
    SubscriptionState::Paused,
    SubscriptionState::Expired,
];

fn day() -> impl Strategy<Value = i64> {
    (0..40_i64).prop_map(|days| days * DAY_MS)
}

fn tier() -> impl Strategy<Value = String> {
    prop::sample::select(&["free", "basic", "pro"][..]).prop_map(str::to_owned)
}

fn state() -> impl Strategy<Value = SubscriptionState> {
    prop::sample::select(&STATES[..])
}

fn when() -> impl Strategy<Value = When> {
    prop_oneof![Just(When::Now), Just(When::PeriodEnd), day().prop_map(When::At)]
}

fn action() -> impl Strategy<Value = Action> {
    prop_oneof![
        2 => (tier(), option::of(when())).prop_map(|(tier, when)| Action::ChangeTier { tier, when }),
        2 => when().prop_map(|when| Action::Cancel { when }),
        4 => (when(), option::of(day())).prop_map(|(when, until_ms)| Action::Pause { when, until_ms }),
        3 => Just(Action::Resume),
        1 => (0..20_u32).prop_map(|days| Action::PastDue { grace_days: Some(days) }),
        1 => (tier(), 1..20_u32, any::<bool>())
            .prop_map(|(tier, days, then_active)| Action::Trial { tier, days: Some(days), then_active }),
    ]
}

/// As an operator, an import or a payment may have left it.
fn subscription() -> impl Strategy<Value = Subscription> {
    let change = (day(), option::of(tier()), option::of(state()));
    let change = change.prop_map(|(at_ms, tier, state)| ScheduledChange { at_ms, tier, state });
    let ends = (option::of(day()), option::of(day()), option::of(day()));
    (tier(), state(), ends, vec(change, 0..4)).prop_map(
        |(tier, state, (expires_at_ms, trial_ends_at_ms, period_ends_at_ms), changes)| {
            let made = Subscription {
                tier,
                state,
                expires_at_ms,
                trial_ends_at_ms,
                period_ends_at_ms,
                changes,
                ..Subscription::default()
            };
            stored(made)
        },
    )
}

/// As it is written down: with its changes in order.
fn stored(mut made: Subscription) -> Subscription {
    made.changes.sort_by_key(|change| change.at_ms);
    made
}

/// Does it, where it is not refused: too many changes are, when it is written.
fn done(action: &Action, before: &Subscription, now_ms: i64) -> Option<Subscription> {
    let after = stored(action.apply(Some(before), &document(), now_ms).ok()?);
    (after.changes.len() <= CHANGES_MAX).then_some(after)
}

/// The tier in force, by its place.
fn rank(subscription: &Subscription, at_ms: i64) -> Option<usize> {
    let effective = subscription.effective(at_ms);
    effective.in_force().then(|| ["free", "basic", "pro"].iter().position(|tier| *tier == effective.tier))?
}

fn days_from(now_ms: i64) -> impl Iterator<Item = i64> {
    (now_ms / DAY_MS..DAYS).map(|days| days * DAY_MS)
}

/// What an action must not do, whatever was done before.
fn check_step(
    action: &Action,
    before: &Subscription,
    after: &Subscription,
    now_ms: i64,
) -> Result<(), TestCaseError> {
    prop_assert!(after.changes.iter().all(|change| now_ms < change.at_ms), "nothing is left of what is over");
    let (cancels, pauses) = (matches!(action, Action::Cancel { .. }), matches!(action, Action::Pause { .. }));
    if cancels || matches!(action, Action::Resume) {
        prop_assert!(after.changes.len() <= before.changes.len());
    }
    for at_ms in days_from(now_ms) {
        let (was, is) = (rank(before, at_ms), rank(after, at_ms));
        prop_assert!(!cancels || is <= was, "day {}: {was:?}, then {is:?}: {after:?}", at_ms / DAY_MS);
        prop_assert!(!pauses || is.is_none() || is == was, "day {}: {after:?}", at_ms / DAY_MS);
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, ..ProptestConfig::default() })]

    #[test]
    fn no_history_makes_cancelling_or_pausing_give_anything(
        first in subscription(), steps in vec((0..8_i64, action()), 1..12),
    ) {
        let (mut subscription, mut now_ms) = (first, 0);
        for (days, action) in steps {
            now_ms += days * DAY_MS;
            subscription = subscription.at(now_ms).into_owned();
            if let Some(after) = done(&action, &subscription, now_ms) {
                check_step(&action, &subscription, &after, now_ms)?;
                subscription = after;
            }
        }
    }

    #[test]
    fn a_pause_hides_its_time_alone(
        first in subscription(), now_ms in day(), when in when(), until_ms in option::of(day()),
    ) {
        let before = first.at(now_ms).into_owned();
        let Some(paused) = done(&Action::Pause { when, until_ms }, &before, now_ms) else { return Ok(()) };
        let from_ms = moment(&before, when, now_ms).unwrap().unwrap_or(now_ms);
        for at_ms in days_from(now_ms) {
            let is_hidden = from_ms <= at_ms && until_ms.is_none_or(|until_ms| at_ms < until_ms);
            let expected = rank(&before, at_ms).filter(|_| !is_hidden);
            prop_assert_eq!(rank(&paused, at_ms), expected, "day {}: {:?}", at_ms / DAY_MS, paused);
        }
    }

    #[test]
    fn resuming_gives_back_exactly_what_was_left(
        first in subscription(), now_ms in day(), when in when(), until_ms in option::of(day()),
        looked_ms in day(), resumed_ms in day(),
    ) {
        let before = first.at(now_ms).into_owned();
        let is_paused = |change: &ScheduledChange| change.state == Some(SubscriptionState::Paused);
        // Whoever resumes takes all pauses away.
        prop_assume!(!before.changes.iter().any(is_paused));
        let Some(paused) = done(&Action::Pause { when, until_ms }, &before, now_ms) else { return Ok(()) };
        let resumed_ms = now_ms.max(resumed_ms);
        // It does not matter who looked in between.
        let looked = paused.at(looked_ms.clamp(now_ms, resumed_ms)).into_owned();
        let later = looked.at(resumed_ms).into_owned();
        prop_assume!(later.state != SubscriptionState::Cancelled && later.state != SubscriptionState::PastDue);
        match done(&Action::Resume, &later, resumed_ms) {
            Some(resumed) => {
                for at_ms in days_from(resumed_ms) {
                    let (was, is) = (rank(&before, at_ms), rank(&resumed, at_ms));
                    prop_assert_eq!(is, was, "day {}: {:?}, then {:?}", at_ms / DAY_MS, paused, resumed);
                }
            }
            None => prop_assert_eq!(rank(&before, resumed_ms), None),
        }
    }
}
