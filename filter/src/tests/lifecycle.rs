//! Subscriptions that change by themselves: an edge changes at the very moment, though nobody tells it.

use serde_json::json;

use super::world::Net;
use super::*;

fn bought(subscription: Value) -> Option<Subscription> {
    Some(serde_json::from_value(subscription).unwrap())
}

/// Asks for what only `pro` has, of both workers, and answers at once or not at all.
fn export(w: &mut World) -> [String; 2] {
    [0, 1].map(|worker| {
        let sending = w.ask(worker, "alice", "/export");
        let shown = w.shown(sending);
        w.end(sending);
        shown
    })
}

fn run_until(w: &mut World, moment_ms: i64) {
    w.run((moment_ms - w.now_ms()).cast_unsigned());
}

const REFUSED: &str = "403 feature-required";

#[test]
fn a_trial_ends_at_its_very_moment_with_the_control_plane_gone() {
    let mut w = world(&daily(3));
    let end_ms = w.now_ms() + 8_000;
    let trial =
        json!({"tier": "pro", "state": "trialing", "anchor_ms": START_MS, "trial_ends_at_ms": end_ms});
    w.plane.subscribe("user:alice", bought(trial));
    assert_eq!(w.get(0, "alice", "/export"), "pass");
    w.net = Net::Dead;
    run_until(&mut w, end_ms - 1);
    assert_eq!(export(&mut w), ["pass", "pass"]);
    run_until(&mut w, end_ms);
    assert_eq!(export(&mut w), [REFUSED, REFUSED]);
}

#[test]
fn a_scheduled_downgrade_and_the_upgrade_after_it_happen_untold() {
    let mut w = world(&daily(3));
    let (down_ms, up_ms) = (w.now_ms() + 5_000, w.now_ms() + 9_000);
    let changes = json!([{"at_ms": down_ms, "tier": "free"}, {"at_ms": up_ms, "tier": "pro"}]);
    w.plane
        .subscribe("user:alice", bought(json!({"tier": "pro", "anchor_ms": START_MS, "changes": changes})));
    assert_eq!(w.get(0, "alice", "/export"), "pass");
    w.net = Net::Dead;
    run_until(&mut w, down_ms);
    assert_eq!(export(&mut w), [REFUSED, REFUSED]);
    run_until(&mut w, up_ms - 1);
    assert_eq!(export(&mut w), [REFUSED, REFUSED]);
    run_until(&mut w, up_ms);
    assert_eq!(export(&mut w), ["pass", "pass"]);
}

#[test]
fn after_a_downgrade_that_nobody_told_the_lower_limit_holds_at_once() {
    let mut w = world(&daily(3));
    let down_ms = w.now_ms() + 5_000;
    let changes = json!([{"at_ms": down_ms, "tier": "free"}]);
    w.plane
        .subscribe("user:alice", bought(json!({"tier": "pro", "anchor_ms": START_MS, "changes": changes})));
    assert_eq!(w.admitted(&[0, 1], "alice", "/x", 10).0, 10);
    w.net = Net::Dead;
    run_until(&mut w, down_ms);
    // Ten are used, and the edge holds more units of the larger limit: they are not for a tier of three.
    let sending = w.ask(0, "alice", "/x");
    assert_eq!(w.shown(sending), "429 quota-exceeded");
    let told = &w.answer(sending).unwrap().headers["ratelimit"];
    assert!(told.starts_with("\"calls.day\";r=0;"), "nothing remains of three: {told}");
}

#[test]
fn who_subscribed_before_a_tier_was_changed_keeps_it_as_it_was() {
    let mut changed = daily(3);
    changed["tiers"]["pro"] = json!({
        "limits": [{"meter": "calls", "quota": 2, "per": "day"}],
        "earlier": [{"subscribed_before_ms": START_MS, "features": ["export"],
                     "limits": [{"meter": "calls", "quota": 5, "per": "day"}]}],
    });
    let mut w = world(&changed);
    let since = |ms: i64| bought(json!({"tier": "pro", "anchor_ms": START_MS, "tier_since_ms": ms}));
    w.plane.subscribe("user:old", since(START_MS - 1));
    w.plane.subscribe("user:new", since(START_MS));
    assert_eq!(w.get(0, "old", "/export"), "pass");
    assert_eq!(w.admitted(&[0, 1], "old", "/x", 8).0, 4);
    assert_eq!(w.get(0, "new", "/export"), REFUSED);
    assert_eq!(w.admitted(&[0, 1], "new", "/x", 8).0, 2);
}
