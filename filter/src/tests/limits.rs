//! Limits hold, and what is refused is refused rightly.

use serde_json::json;

use super::*;

#[test]
fn a_quota_counts_down_exactly_with_two_workers() {
    let mut w = world(&daily(20));
    assert_eq!(w.admitted(&[0, 1], "alice", "/x", 30), (20, vec!["429 quota-exceeded".to_owned()]));
    w.run(3_000);
    assert_eq!(w.plane.billed("user:alice", "calls"), 20);
}

#[test]
fn a_quota_counts_down_exactly_with_two_proxies() {
    let mut w = World::new(&daily(20), &[2, 2]);
    w.run(1_000);
    let (passed, denied) = w.admitted(&[0, 1, 2, 3], "alice", "/x", 40);
    assert_eq!((passed, denied), (20, vec!["429 quota-exceeded".to_owned()]));
    w.run(3_000);
    assert_eq!(w.plane.billed("user:alice", "calls"), 20);
}

#[test]
fn a_route_without_charges_passes_at_first_sight() {
    let mut w = world(&daily(1));
    assert_eq!(w.get(0, "alice", "/free"), "pass");
    assert_eq!(w.get(1, "alice", "/free"), "pass");
}

#[test]
fn who_has_no_tier_gets_402() {
    let mut policy = daily(1);
    policy["default_tier"] = json!(null);
    let mut w = world(&policy);
    assert_eq!(w.get(0, "alice", "/x"), "402 subscription-required");
    w.plane.subscribe("user:alice", Some(subscription("free")));
    w.run(1_000);
    assert_eq!(w.get(0, "alice", "/x"), "pass");
}

#[test]
fn a_quota_that_others_used_up_gets_429_at_first_sight() {
    let mut w = World::new(&daily(2), &[1, 1]);
    w.run(1_000);
    assert_eq!(w.admitted(&[0], "alice", "/x", 2).0, 2);
    w.run(2_000);
    assert_eq!(w.get(1, "alice", "/x"), "429 quota-exceeded");
}
