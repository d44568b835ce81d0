//! What holds of a subscription at each moment, by property; examples are in `tests/histories`, which the edge's build is
//! held to as well.

use std::borrow::Cow;

use expect_test::{Expect, expect};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

use super::*;

#[test]
fn every_state_says_whether_its_tier_is_in_force() {
    let shown = |state| {
        let subscription = Subscription { tier: "pro".to_owned(), state, ..Subscription::default() };
        let tier = effective_tier(Some(&subscription), Some("claimed"), Some("free"), 0).unwrap();
        format!("{}: {tier}\n", shown_state(effective_state(Some(&subscription), 0)))
    };
    let states = STATES.map(shown).concat();
    expect![[r#"
        active: pro
        trialing: pro
        past_due: pro
        cancelled: pro
        pending: free
        paused: free
        expired: free
    "#]]
    .assert_eq(&states);
}

#[test]
fn who_has_no_subscription_is_free_and_has_what_is_claimed_or_the_default() {
    assert_eq!(effective_state(None, 0), EffectiveState::Free);
    assert_eq!(effective_tier(None, Some("claimed"), Some("free"), 0), Some("claimed"));
    assert_eq!(effective_tier(None, None, Some("free"), 0), Some("free"));
    assert_eq!(effective_tier(None, None, None, 0), None);
}

#[test]
fn a_grant_holds_until_its_very_moment() {
    let grant = |expires_at_ms| Grant {
        id: "g".to_owned(),
        limit: "calls.day".to_owned(),
        units: 1,
        burnt: 0,
        expires_at_ms,
    };
    assert!(grant(None).holds(i64::MAX));
    assert!(grant(Some(10)).holds(9) && !grant(Some(10)).holds(10));
}

#[test]
fn billing_periods_of_a_31st_end_on_the_last_days_of_months() {
    check_periods(
        "2026-01-31T10:00:00Z",
        5,
        expect!["2026-02-28T10:00 2026-03-31T10:00 2026-04-30T10:00 2026-05-31T10:00 2026-06-30T10:00"],
    );
}

#[test]
fn billing_periods_meet_the_leap_day_and_leave_it_again() {
    check_periods(
        "2027-12-30T00:00:00Z",
        4,
        expect!["2028-01-30T00:00 2028-02-29T00:00 2028-03-30T00:00 2028-04-30T00:00"],
    );
    check_periods("2028-02-29T00:00:00Z", 3, expect!["2028-03-29T00:00 2028-04-29T00:00 2028-05-29T00:00"]);
}

#[test]
fn a_period_that_a_provider_tells_is_believed_until_it_is_over() {
    let subscription =
        Subscription { anchor_ms: 0, period_ends_at_ms: Some(1_000), ..Subscription::default() };
    assert_eq!(subscription.period_end_ms(999), 1_000);
    assert_eq!(subscription.period_end_ms(1_000), ms("1970-02-01T00:00:00Z"));
}

#[test]
fn what_is_written_down_carries_the_moment_of_its_tier() {
    let subscription = Subscription {
        tier: "pro".to_owned(),
        changes: vec![
            ScheduledChange { at_ms: 50, tier: Some("basic".to_owned()), state: None },
            ScheduledChange { at_ms: 60, tier: Some("pro".to_owned()), state: None },
            ScheduledChange { at_ms: 70, tier: None, state: Some(SubscriptionState::Paused) },
        ],
        ..Subscription::default()
    };
    assert!(matches!(subscription.at(49), Cow::Borrowed(_)));
    let settled = subscription.at(65).into_owned();
    assert_eq!((settled.tier.as_str(), settled.tier_since_ms), ("pro", Some(60)), "it left and came back");
    assert_eq!(settled.changes, subscription.changes[2..]);
}

#[test]
fn a_trial_that_ends_in_three_days_is_told_once_it_is_near_unless_it_goes_on() {
    let (end_ms, near_ms) = (10 * TRIAL_NOTICE_MS, 9 * TRIAL_NOTICE_MS);
    let trial = Subscription {
        tier: "pro".to_owned(),
        state: SubscriptionState::Trialing,
        trial_ends_at_ms: Some(end_ms),
        ..Subscription::default()
    };
    assert_eq!(trial.next_notice_ms(0), Some(near_ms));
    assert_eq!(trial.next_notice_ms(near_ms), Some(end_ms));
    let near =
        [near_ms - 1, near_ms, end_ms - 1, end_ms].map(|now_ms| trial.trial_ending_ms(now_ms).is_some());
    assert_eq!(near, [false, true, true, false]);
    let active = ScheduledChange { at_ms: end_ms, tier: None, state: Some(SubscriptionState::Active) };
    let goes_on = Subscription { changes: vec![active], ..trial };
    assert_eq!(goes_on.trial_ending_ms(near_ms), None);
}

fn check_periods(anchor: &str, count: usize, expected: Expect) {
    let subscription = Subscription { anchor_ms: ms(anchor), ..Subscription::default() };
    let mut now_ms = subscription.anchor_ms;
    let ends = (0..count).map(|_| {
        now_ms = subscription.period_end_ms(now_ms);
        jiff::Timestamp::from_millisecond(now_ms).unwrap().strftime("%FT%H:%M").to_string()
    });
    expected.assert_eq(&ends.collect::<Vec<_>>().join(" "));
}

fn ms(text: &str) -> i64 {
    text.parse::<jiff::Timestamp>().unwrap().as_millisecond()
}

fn shown_state(state: EffectiveState) -> String {
    serde_json::to_value(state).unwrap().as_str().unwrap().to_owned()
}

const STATES: [SubscriptionState; 7] = [
    SubscriptionState::Active,
    SubscriptionState::Trialing,
    SubscriptionState::PastDue,
    SubscriptionState::Cancelled,
    SubscriptionState::Pending,
    SubscriptionState::Paused,
    SubscriptionState::Expired,
];

/// Moments are few, so that many of them meet.
fn moment() -> impl Strategy<Value = i64> {
    0..12_i64
}

fn state() -> impl Strategy<Value = SubscriptionState> {
    prop::sample::select(&STATES[..])
}

fn tier() -> impl Strategy<Value = String> {
    prop::sample::select(&["free", "basic", "pro"][..]).prop_map(str::to_owned)
}

fn change() -> impl Strategy<Value = ScheduledChange> {
    (moment(), option::of(tier()), option::of(state())).prop_map(|(at_ms, tier, state)| ScheduledChange {
        at_ms,
        tier,
        state,
    })
}

fn subscription() -> impl Strategy<Value = Subscription> {
    let ends = (option::of(moment()), option::of(moment()), option::of(moment()));
    (tier(), state(), moment(), ends, vec(change(), 0..5)).prop_map(
        |(tier, state, anchor_ms, (expires_at_ms, trial_ends_at_ms, tier_since_ms), changes)| Subscription {
            tier,
            state,
            anchor_ms,
            expires_at_ms,
            trial_ends_at_ms,
            tier_since_ms,
            changes,
            ..Subscription::default()
        },
    )
}

proptest! {
    #[test]
    fn looking_twice_is_looking_once(subscription in subscription(), now_ms in moment()) {
        let once = subscription.at(now_ms).into_owned();
        prop_assert_eq!(once.at(now_ms).into_owned(), once.clone());
        prop_assert_eq!(once.effective(now_ms), subscription.effective(now_ms));
    }

    #[test]
    fn it_does_not_matter_who_looked_in_between(
        subscription in subscription(), first in moment(), later in moment(),
    ) {
        let (first, later) = (first.min(later), first.max(later));
        let through = subscription.at(first).at(later).into_owned();
        prop_assert_eq!(through.effective(later), subscription.effective(later));
        prop_assert_eq!(through, subscription.at(later).into_owned());
    }

    #[test]
    fn nothing_changes_before_the_next_moment_nor_after_the_last(
        subscription in subscription(), now_ms in moment(), other in moment(),
    ) {
        let from = subscription.last_moment_ms(now_ms).unwrap_or(i64::MIN);
        let until = subscription.next_moment_ms(now_ms).unwrap_or(i64::MAX);
        prop_assert!(from <= now_ms && now_ms < until);
        if (from..until).contains(&other) {
            prop_assert_eq!(subscription.effective(other), subscription.effective(now_ms));
        }
    }

    #[test]
    fn what_is_written_down_has_the_same_future(subscription in subscription(), now_ms in moment()) {
        let settled = subscription.at(now_ms);
        for later in now_ms..14 {
            prop_assert_eq!(settled.effective(later), subscription.effective(later));
        }
        // Nothing of it is left to happen at a moment that is over.
        prop_assert!(settled.changes.iter().all(|change| change.at_ms > now_ms));
    }

    #[test]
    fn it_is_stored_as_it_is(subscription in subscription()) {
        let text = serde_json::to_string(&subscription).unwrap();
        prop_assert_eq!(serde_json::from_str::<Subscription>(&text).unwrap(), subscription);
    }
}
