//! Extra units: felt at every edge, used up after the window's own, and used once.

use serde_json::json;

use super::*;

const EXCEEDED: &str = "429 quota-exceeded";

#[test]
fn a_pool_is_used_up_after_the_windows_own_units_and_over_all_edges() {
    let mut w = World::new(&policy(json!([{"meter": "calls", "quota": 5, "per": "hour"}])), &[2, 1]);
    w.run(1_000);
    w.plane.give("user:alice", "one", "calls.hour", 4, None);
    assert_eq!(w.admitted(&[0, 1, 2], "alice", "/x", 3).0, 3);
    w.run(15_000);
    assert_eq!(w.plane.burnt("user:alice", "one"), 0, "the hour's own units come first");
    let mut passed = 3;
    for _ in 0..4 {
        passed += w.admitted(&[2, 0, 1], "alice", "/x", 5).0;
        w.run(2_000);
    }
    assert_eq!((passed, w.plane.burnt("user:alice", "one")), (9, 4));
    let sending = w.ask(2, "alice", "/x");
    w.run(100);
    let answer: Value = serde_json::from_slice(&w.answer(sending).unwrap().body).unwrap();
    assert_eq!((&answer["maximum"], &answer["used"]), (&json!(9), &json!(9)));
    // The next hour has its own units, and none of the pool.
    w.run(3_600_000);
    assert_eq!(w.admitted(&[0, 1, 2], "alice", "/x", 8), (5, vec![EXCEEDED.to_owned()]));
    let sending = w.ask(2, "alice", "/x");
    w.run(2_500);
    let answer: Value = serde_json::from_slice(&w.answer(sending).unwrap().body).unwrap();
    assert_eq!(answer["maximum"], 5, "what is burnt is no part of the maximum");
    w.run(3_000);
    assert_eq!(w.plane.billed("user:alice", "calls"), 14);
}

#[test]
fn a_plan_of_nothing_lives_on_what_is_bought() {
    let mut w = world(&daily(0));
    assert_eq!(w.get(0, "alice", "/x"), EXCEEDED);
    w.plane.give("user:alice", "one", "calls.day", 2, None);
    w.run(1_500);
    assert_eq!(w.admitted(&[0, 1], "alice", "/x", 4), (2, vec![EXCEEDED.to_owned()]));
    w.plane.give("user:alice", "two", "calls.day", 1, None);
    w.run(1_500);
    assert_eq!(w.admitted(&[1, 0], "alice", "/x", 3).0, 1);
}

#[test]
fn what_has_expired_is_gone_at_its_moment_and_other_kinds_are_raised_while_it_holds() {
    let mut w = world(&policy(json!([
        {"meter": "calls", "rate": 2, "per": "1s"},
        {"meter": "calls", "quota": 1, "per": "month"},
    ])));
    let end_ms = w.now_ms() + 10_000;
    w.plane.give("user:alice", "rate", "calls.1s", 3, Some(end_ms));
    w.plane.give("user:alice", "more", "calls.month", 50, Some(end_ms));
    let sending = w.ask(0, "alice", "/x");
    w.run(100);
    let headers = w.upstream(sending, 200);
    assert_eq!(headers["ratelimit-policy"], r#""calls.1s";q=5;w=1, "calls.month";q=51"#);
    w.run(10_000);
    let sending = w.ask(0, "alice", "/x");
    w.run(2_500);
    assert_eq!(w.shown(sending), EXCEEDED, "the month's own unit was used");
    assert_eq!(
        w.answer(sending).unwrap().headers["ratelimit-policy"],
        r#""calls.1s";q=2;w=1, "calls.month";q=1"#
    );
}

#[test]
fn what_is_bought_after_a_used_grant_expired_is_felt_at_the_edge_that_used_it() {
    let mut w = world(&policy(json!([{"meter": "calls", "quota": 10, "per": "month"}])));
    let end_ms = w.now_ms() + 20_000;
    w.plane.give("user:alice", "first", "calls.month", 5, Some(end_ms));
    assert_eq!(w.admitted(&[0], "alice", "/x", 20).0, 15);
    w.run(25_000);
    assert_eq!(w.admitted(&[0], "alice", "/x", 1).0, 0);
    w.plane.give("user:alice", "second", "calls.month", 5, None);
    w.run(3_000);
    assert_eq!(w.admitted(&[0], "alice", "/x", 20), (5, vec![EXCEEDED.to_owned()]));
    w.run(3_000);
    assert_eq!((w.plane.burnt("user:alice", "first"), w.plane.burnt("user:alice", "second")), (5, 5));
    let sending = w.ask(0, "alice", "/x");
    w.run(100);
    let answer: Value = serde_json::from_slice(&w.answer(sending).unwrap().body).unwrap();
    assert_eq!((&answer["maximum"], &answer["used"]), (&json!(20), &json!(20)));
}
