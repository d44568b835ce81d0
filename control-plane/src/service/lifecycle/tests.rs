//! What a subscription is after something was done with it, by example. Moments are days from the beginning.

use expect_test::{Expect, expect};

use super::*;

pub(super) fn document() -> PolicyDocument {
    let text = "
version: 1
meters: {calls: {}}
default_tier: free
default_route: {auth: none}
billing: {grace_days: 5}
tiers:
  free: {}
  basic: {order: 1, trial_days: 14}
  pro: {order: 2}
";
    tollgate_policy::document::parse(text).unwrap()
}

/// A basic subscription that began on day 0 and is paid up to day 30.
fn basic() -> Subscription {
    Subscription {
        tier: "basic".to_owned(),
        period_ends_at_ms: Some(30 * DAY_MS),
        tier_since_ms: Some(0),
        ..Subscription::default()
    }
}

fn to(tier: &str, when: Option<When>) -> Action {
    Action::ChangeTier { tier: tier.to_owned(), when }
}

fn day(ms: i64) -> i64 {
    ms / DAY_MS
}

/// Does it on day 10, and shows what is left.
fn check(before: &Subscription, actions: &[Action], expected: Expect) {
    let mut made = Ok(before.clone());
    for action in actions {
        made = made.and_then(|before| action.apply(Some(&before), &document(), 10 * DAY_MS));
    }
    expected.assert_eq(&match made {
        Ok(made) => shown(&made),
        Err(error) => format!("refused: {error}"),
    });
}

fn shown(made: &Subscription) -> String {
    let mut shown = format!("{} {:?}", made.tier, made.state);
    if let Some(end_ms) = made.expires_at_ms {
        shown += &format!(", until {}", day(end_ms));
    }
    for change in &made.changes {
        shown += &format!("; {}:", day(change.at_ms));
        shown += &change.tier.as_ref().map(|tier| format!(" {tier}")).unwrap_or_default();
        shown += &change.state.map(|state| format!(" {state:?}")).unwrap_or_default();
    }
    shown
}

#[test]
fn up_is_at_once_and_down_at_the_end_of_the_period() {
    check(&basic(), &[to("pro", None)], expect!["pro Active"]);
    check(&basic(), &[to("free", None)], expect!["basic Active; 30: free"]);
    check(&basic(), &[to("free", Some(When::Now))], expect!["free Active"]);
    check(&basic(), &[to("pro", Some(When::At(12 * DAY_MS)))], expect!["basic Active; 12: pro"]);
}

#[test]
fn without_a_period_that_is_told_it_ends_with_the_billing_month() {
    let before = Subscription { period_ends_at_ms: None, ..basic() };
    check(&before, &[to("free", None)], expect!["basic Active; 31: free"]);
}

#[test]
fn who_changes_their_mind_has_the_last_tier_asked_for() {
    check(&basic(), &[to("free", None), to("pro", None)], expect!["pro Active"]);
    check(
        &basic(),
        &[to("pro", Some(When::At(12 * DAY_MS))), to("free", None)],
        expect!["basic Active; 30: free"],
    );
}

#[test]
fn a_downgrade_on_trial_comes_after_it_and_is_not_on_trial() {
    let trial =
        Subscription { state: SubscriptionState::Trialing, trial_ends_at_ms: Some(14 * DAY_MS), ..basic() };
    check(&trial, &[to("free", None)], expect!["basic Trialing; 14: free Active"]);
    check(&trial, &[Action::Cancel { when: When::PeriodEnd }], expect!["basic Cancelled, until 14"]);
}

#[test]
fn what_is_cancelled_is_valid_until_its_end_and_can_be_resumed() {
    let cancel = |when| Action::Cancel { when };
    check(&basic(), &[cancel(When::PeriodEnd)], expect!["basic Cancelled, until 30"]);
    check(&basic(), &[cancel(When::Now)], expect!["basic Expired, until 10"]);
    check(&basic(), &[to("free", None), cancel(When::PeriodEnd)], expect!["basic Cancelled, until 30"]);
    check(&basic(), &[cancel(When::PeriodEnd), Action::Resume], expect!["basic Active"]);
    check(
        &basic(),
        &[cancel(When::Now), Action::Resume],
        expect!["refused: The subscription is over. Make a new one: PUT /v1/subscriptions/{subject}."],
    );
    check(
        &basic(),
        &[cancel(When::At(20 * DAY_MS)), to("free", None)],
        expect!["refused: The subscription ends before that. Resume it first."],
    );
    check(&basic(), &[cancel(When::At(10 * DAY_MS))], expect!["refused: Name a moment that is to come."]);
}

#[test]
fn cancelling_never_prolongs_what_there_is() {
    let cancel = |when| Action::Cancel { when };
    let ends = Subscription { expires_at_ms: Some(13 * DAY_MS), ..basic() };
    check(&ends, &[cancel(When::PeriodEnd)], expect!["basic Cancelled, until 13"]);
    let past_due = Action::PastDue { grace_days: Some(7) };
    check(&basic(), &[past_due, cancel(When::PeriodEnd)], expect!["basic Cancelled, until 17"]);
    check(
        &basic(),
        &[cancel(When::At(12 * DAY_MS)), cancel(When::PeriodEnd)],
        expect!["basic Cancelled, until 12"],
    );
    let trial =
        Subscription { state: SubscriptionState::Trialing, trial_ends_at_ms: Some(14 * DAY_MS), ..basic() };
    check(&trial, &[cancel(When::At(40 * DAY_MS))], expect!["basic Cancelled, until 14"]);
    let over = ScheduledChange { at_ms: 15 * DAY_MS, tier: None, state: Some(SubscriptionState::Expired) };
    let ending = Subscription { changes: vec![over], ..basic() };
    check(&ending, &[cancel(When::PeriodEnd)], expect!["basic Cancelled, until 15"]);
}

#[test]
fn what_takes_away_before_the_end_outlives_cancelling_and_a_way_up_does_not() {
    let cancel = Action::Cancel { when: When::PeriodEnd };
    let at = |days| Some(When::At(days * DAY_MS));
    check(&basic(), &[to("free", at(12)), cancel.clone()], expect!["basic Cancelled, until 30; 12: free"]);
    check(&basic(), &[to("pro", at(12)), cancel.clone()], expect!["basic Cancelled, until 30"]);
    let pause = Action::Pause { when: When::At(12 * DAY_MS), until_ms: Some(15 * DAY_MS) };
    check(&basic(), &[pause, cancel, Action::Resume], expect!["basic Active"]);
}

/// A trial up to day 14 that goes on afterwards, or does not.
fn on_trial(goes_on: bool) -> Subscription {
    let active = ScheduledChange { at_ms: 14 * DAY_MS, tier: None, state: Some(SubscriptionState::Active) };
    Subscription {
        state: SubscriptionState::Trialing,
        trial_ends_at_ms: Some(14 * DAY_MS),
        changes: goes_on.then_some(active).into_iter().collect(),
        ..basic()
    }
}

#[test]
fn a_paused_trial_stays_paused_at_its_end_and_is_over_unless_it_goes_on() {
    let pause =
        |until: Option<i64>| Action::Pause { when: When::Now, until_ms: until.map(|day| day * DAY_MS) };
    check(&on_trial(true), &[pause(None)], expect!["basic Paused; 14: Active; 14: Paused"]);
    check(&on_trial(true), &[pause(None), Action::Resume], expect!["basic Trialing; 14: Active"]);
    check(&on_trial(true), &[pause(Some(20))], expect!["basic Paused; 14: Active; 14: Paused; 20: Active"]);
    check(&on_trial(true), &[pause(Some(20)), Action::Resume], expect!["basic Trialing; 14: Active"]);
    check(&on_trial(true), &[pause(Some(12)), Action::Resume], expect!["basic Trialing; 14: Active"]);
    check(&on_trial(false), &[pause(None)], expect!["basic Paused; 14: Expired"]);
    check(&on_trial(false), &[pause(Some(20))], expect!["basic Paused; 14: Expired"]);
    check(&on_trial(false), &[pause(None), Action::Resume], expect!["basic Trialing"]);
    // Paused by hand: what comes after the trial is no end of the pause.
    let paused = Subscription { state: SubscriptionState::Paused, ..on_trial(true) };
    check(&paused, &[Action::Resume], expect!["basic Trialing; 14: Active"]);
}

#[test]
fn resuming_a_pause_gives_back_the_end_there_was() {
    let pause = Action::Pause { when: When::Now, until_ms: None };
    let ends = Subscription { expires_at_ms: Some(13 * DAY_MS), ..basic() };
    check(&ends, &[pause.clone(), Action::Resume], expect!["basic Active, until 13"]);
    let cancel = Action::Cancel { when: When::PeriodEnd };
    check(&basic(), &[cancel, pause.clone(), Action::Resume], expect!["basic Cancelled, until 30"]);
    let past_due = Action::PastDue { grace_days: None };
    check(
        &basic(),
        &[pause, past_due],
        expect!["refused: Only a subscription that is in force has a grace: pay or resume it first."],
    );
}

#[test]
fn a_pause_ends_when_it_was_said_to_or_by_resuming() {
    let pause = |when, until: Option<i64>| Action::Pause { when, until_ms: until.map(|days| days * DAY_MS) };
    check(&basic(), &[pause(When::Now, None)], expect!["basic Paused"]);
    check(&basic(), &[pause(When::Now, Some(20))], expect!["basic Paused; 20: Active"]);
    check(&basic(), &[pause(When::PeriodEnd, Some(40))], expect!["basic Active; 30: Paused; 40: Active"]);
    check(&basic(), &[pause(When::PeriodEnd, Some(40)), Action::Resume], expect!["basic Active"]);
    check(&basic(), &[pause(When::Now, Some(20)), Action::Resume], expect!["basic Active"]);
    check(&basic(), &[pause(When::PeriodEnd, Some(20))], expect!["refused: Name a moment that is to come."]);
    check(
        &basic(),
        &[pause(When::Now, None), pause(When::Now, None)],
        expect!["refused: Only a subscription that is in force can be paused."],
    );
}

#[test]
fn a_failed_payment_gives_grace_once() {
    let past_due = |grace_days| Action::PastDue { grace_days };
    check(&basic(), &[past_due(None)], expect!["basic PastDue, until 15"]);
    check(&basic(), &[past_due(Some(3)), past_due(Some(30))], expect!["basic PastDue, until 13"]);
    check(&basic(), &[past_due(None), Action::Resume], expect!["basic Active"]);
    let ends = Subscription { expires_at_ms: Some(12 * DAY_MS), ..basic() };
    check(&ends, &[past_due(None)], expect!["basic PastDue, until 12"]);
}

fn check_trial(before: Option<&Subscription>, tier: &str, days: Option<u32>, expected: Expect) {
    let action = Action::Trial { tier: tier.to_owned(), days, then_active: days.is_some() };
    expected.assert_eq(&match action.apply(before, &document(), 10 * DAY_MS) {
        Ok(made) => format!("{}; billed from {}", shown(&made), day(made.anchor_ms)),
        Err(error) => format!("refused: {error}"),
    });
}

#[test]
fn a_subject_may_try_a_tier_once() {
    check_trial(None, "basic", None, expect!["basic Trialing; billed from 24"]);
    check_trial(None, "pro", Some(3), expect!["pro Trialing; 13: Active; billed from 13"]);
    check_trial(
        None,
        "pro",
        None,
        expect!["refused: The tier has no `trial_days`: say for how many days it may be tried."],
    );
    check_trial(
        None,
        "gold",
        None,
        expect![[r#"refused: The policy in force has no tier "gold"; it has: basic, free, pro."#]],
    );
    check_trial(
        Some(&basic()),
        "pro",
        Some(3),
        expect!["refused: The subject has a subscription that is in force."],
    );
    let tried =
        Subscription { state: SubscriptionState::Expired, trial_ends_at_ms: Some(5 * DAY_MS), ..basic() };
    check_trial(Some(&tried), "basic", None, expect!["refused: The subject has had its trial."]);
}

#[test]
fn what_is_done_names_a_tier_that_there_is_and_a_subscription() {
    check(
        &basic(),
        &[to("gold", None)],
        expect![[r#"refused: The policy in force has no tier "gold"; it has: basic, free, pro."#]],
    );
    let gone = Subscription { tier: "gone".to_owned(), ..basic() };
    check(&gone, &[to("free", None)], expect!["free Active"]);
    assert!(Action::Resume.apply(None, &document(), 0).is_err());
}
