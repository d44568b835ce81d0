//! Limits hold, and what is refused is refused rightly.

use serde_json::json;
use sfv::Parser;

use super::*;

const EXCEEDED: &str = "429 quota-exceeded";

#[test]
fn a_quota_counts_down_exactly_with_two_workers() {
    let mut w = world(&daily(20));
    assert_eq!(w.admitted(&[0, 1], "alice", "/x", 30), (20, vec![EXCEEDED.to_owned()]));
    w.run(3_000);
    assert_eq!(w.plane.billed("user:alice", "calls"), 20);
}

#[test]
fn a_quota_counts_down_exactly_with_two_proxies() {
    let mut w = World::new(&daily(20), &[2, 2]);
    w.run(1_000);
    let (passed, denied) = w.admitted(&[0, 1, 2, 3], "alice", "/x", 40);
    assert_eq!((passed, denied), (20, vec![EXCEEDED.to_owned()]));
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
    assert_eq!(w.get(1, "alice", "/x"), EXCEEDED);
}

#[test]
fn requests_that_come_together_share_one_question() {
    let mut w = world(&daily(10));
    let before = w.plane.syncs.len();
    let sent: Vec<Sending> = (0..6).map(|n| w.ask(0, ["alice", "bob"][n % 2], "/x")).collect();
    assert!(sent.iter().all(|sending| w.is_waiting(*sending)));
    w.run(20);
    assert!(sent.iter().all(|sending| w.has_passed(*sending)));
    assert_eq!(w.plane.syncs.len() - before, 1);
    assert_eq!(w.plane.syncs[before].subjects.len(), 2);
    for sending in sent {
        let subject =
            w.look(sending, |stream| stream.headers.iter().any(|(name, _)| name == "x-tollgate-subject"));
        assert!(subject);
    }
}

#[test]
fn a_denial_says_when_to_come_back_in_fields_that_parse() {
    let mut w = world(&policy(json!([
        {"name": "burst", "meter": "calls", "rate": 2, "per": "60s"},
        {"name": "daily", "meter": "calls", "quota": 100, "per": "day"},
    ])));
    let first = w.ask(0, "alice", "/x");
    w.run(100);
    let fields = w.upstream(first, 200);
    assert_eq!(fields["ratelimit"], r#""burst";r=1;t=60, "daily";r=99;t=43199"#);
    assert_eq!(fields["ratelimit-policy"], r#""burst";q=2;w=60, "daily";q=100"#);
    for field in fields.values() {
        assert_eq!(Parser::new(field).parse::<sfv::List>().unwrap().len(), 2);
    }
    w.get(0, "alice", "/x");
    w.run(7_500);
    let third = w.ask(1, "alice", "/x");
    w.run(100);
    let answer = w.answer(third).unwrap();
    assert_eq!((answer.status, answer.headers["retry-after"].as_str()), (429, "53"));
    for field in ["ratelimit", "ratelimit-policy"] {
        assert_eq!(Parser::new(&answer.headers[field]).parse::<sfv::List>().unwrap().len(), 2);
    }
    let body: Value = serde_json::from_slice(&answer.body).unwrap();
    let told = json!({
        "type": "https://iana.org/assignments/http-problem-types#quota-exceeded", "violated-policies": ["burst"],
        "used": 2, "needed": 1, "title": "Too many requests in a short time", "status": 429,
        "detail": "The plan free allows 2 per 1m (burst), and they are used. Try again in 53 s.",
        "code": "rate-exceeded", "limit": "burst", "maximum": 2, "per": "1m", "tier": "free",
        "retry_after_s": 53, "upgrade_url": "https://example.com/pricing",
    });
    assert_eq!(body, told);
    w.run(52_500);
    assert_eq!(w.get(1, "alice", "/x"), "pass");
}

#[test]
fn a_denied_request_takes_nothing_of_any_limit() {
    let mut w = world(&policy(json!([
        {"name": "calls", "meter": "calls", "quota": 100, "per": "day"},
        {"name": "exports", "meter": "exports", "quota": 2, "per": "day"},
    ])));
    // Each costs three calls and one export.
    assert_eq!(w.admitted(&[0, 1], "alice", "/heavy", 12), (2, vec![EXCEEDED.to_owned()]));
    assert_eq!(w.admitted(&[0, 1], "alice", "/x", 100).0, 94);
    w.run(3_000);
    assert_eq!(w.plane.billed("user:alice", "calls"), 100);
    assert_eq!(w.plane.billed("user:alice", "exports"), 2);
}

#[test]
fn a_failure_of_the_upstream_gives_back_exactly_what_was_taken() {
    for (status, passed) in [(500, 5), (503, 5), (599, 5), (404, 0), (429, 0), (200, 0)] {
        let mut w = world(&daily(5));
        for n in 0..5 {
            let sending = w.ask(n % 2, "alice", "/x");
            assert_eq!(w.settle(sending, status), "pass");
        }
        assert_eq!(w.admitted(&[0, 1], "alice", "/x", 8).0, passed, "{status}");
        w.run(3_000);
        assert_eq!(w.plane.billed("user:alice", "calls"), 5, "{status}");
    }
}

#[test]
fn who_hangs_up_pays() {
    let mut w = world(&daily(2));
    for _ in 0..2 {
        let sending = w.ask(0, "alice", "/x");
        w.run(50);
        assert!(w.has_passed(sending));
        w.end(sending);
    }
    assert_eq!(w.get(1, "alice", "/x"), EXCEEDED);
    // Who hangs up while he waits took nothing.
    let mut w = world(&daily(2));
    let sending = w.ask(0, "bob", "/x");
    w.end(sending);
    w.run(100);
    assert_eq!(w.admitted(&[0, 1], "bob", "/x", 4).0, 2);
}

#[test]
fn an_upgrade_is_felt_within_a_second_and_a_downgrade_too() {
    let mut w = world(&daily(3));
    assert_eq!(w.admitted(&[0, 1], "alice", "/x", 5).0, 3);
    assert_eq!(w.get(0, "alice", "/export"), "403 feature-required");
    w.plane.subscribe("user:alice", Some(subscription("pro")));
    w.run(1_000);
    assert_eq!(w.get(0, "alice", "/export"), "pass");
    assert_eq!(w.admitted(&[0, 1], "alice", "/x", 10).0, 10);
    w.plane.subscribe("user:alice", Some(subscription("free")));
    w.run(1_000);
    assert_eq!(w.get(1, "alice", "/x"), EXCEEDED);
    assert_eq!(w.get(0, "alice", "/export"), "403 feature-required");
}

#[test]
fn an_upgrade_begins_a_billing_month_of_its_own() {
    let limits = json!([{"name": "monthly", "meter": "calls", "quota": 3, "per": "billing_month"}]);
    let mut w = world(&policy(limits));
    assert_eq!(w.admitted(&[0, 1], "alice", "/x", 5).0, 3);
    w.plane.subscribe("user:alice", Some(subscription("free")));
    w.run(1_000);
    assert_eq!(w.admitted(&[0, 1], "alice", "/x", 5), (3, vec![EXCEEDED.to_owned()]));
}

#[test]
fn a_subscription_ends_at_its_very_moment() {
    let mut w = world(&daily(3));
    let mut ends = subscription("pro");
    ends.expires_at_ms = Some(w.now_ms() + 5_000);
    w.plane.subscribe("user:alice", Some(ends));
    assert_eq!(w.get(0, "alice", "/export"), "pass");
    let left = (ends_in(&w, 5_000)).cast_unsigned();
    w.run(left - 1);
    assert_eq!(w.get(0, "alice", "/export"), "pass");
}

/// From the world's beginning plus its first second: how long until `ms` have passed.
fn ends_in(w: &World, ms: i64) -> i64 {
    START_MS + 1_000 + ms - w.now_ms()
}

#[test]
fn after_the_end_of_a_subscription_its_tier_is_gone_at_once() {
    let mut w = world(&daily(3));
    let mut ends = subscription("pro");
    ends.expires_at_ms = Some(w.now_ms() + 5_000);
    w.plane.subscribe("user:alice", Some(ends));
    assert_eq!(w.get(0, "alice", "/export"), "pass");
    let left = ends_in(&w, 5_000).cast_unsigned();
    w.run(left);
    let sending = w.ask(0, "alice", "/export");
    assert_eq!(w.shown(sending), "403 feature-required");
}

#[test]
fn a_new_day_begins_with_all_units() {
    let mut w = world(&daily(3));
    assert_eq!(w.admitted(&[0, 1], "alice", "/x", 5).0, 3);
    // It is noon; hours pass.
    w.run(12 * 3_600_000 - 20_000);
    assert_eq!(w.get(0, "alice", "/x"), EXCEEDED);
    w.run(20_000);
    assert_eq!(w.admitted(&[0, 1], "alice", "/x", 5), (3, vec![EXCEEDED.to_owned()]));
    w.run(2_000);
    assert_eq!(w.plane.billed("user:alice", "calls"), 6);
}

#[test]
fn idle_units_go_back_and_a_record_without_use_goes() {
    let mut w = World::new(&daily(10), &[2, 1]);
    w.run(1_000);
    assert_eq!(w.admitted(&[0, 1], "alice", "/x", 4).0, 4);
    w.run(30_000);
    let window = START_MS - 12 * 3_600_000;
    assert_eq!(w.plane.committed("user:alice", "calls.day", window, w.now_ms()), 4);
    assert_eq!(w.proxies[0].records(), 1);
    w.run(2 * 3_600_000);
    assert_eq!(w.proxies[0].records(), 0);
    // Back again it is exact.
    assert_eq!(w.admitted(&[1, 2, 0], "alice", "/x", 12), (6, vec![EXCEEDED.to_owned()]));
    w.run(3_000);
    assert_eq!(w.plane.billed("user:alice", "calls"), 10);
}

#[test]
fn units_idle_elsewhere_are_called_back_while_a_request_waits() {
    let mut w = World::new(&daily(10), &[1, 1]);
    w.run(1_000);
    assert_eq!(w.get(0, "alice", "/x"), "pass");
    // An edge that uses its units itself keeps half of them at first.
    let mut passed = 0;
    for _ in 0..4 {
        passed += w.admitted(&[1], "alice", "/x", 10).0;
        w.run(1_000);
    }
    assert_eq!(passed, 9);
}

#[test]
fn subjects_that_were_only_refused_are_forgotten_too() {
    let mut policy = daily(1);
    policy["default_tier"] = json!(null);
    let mut w = world(&policy);
    for user in 0..20 {
        assert_eq!(w.get(user % 2, &format!("u{user}"), "/x"), "402 subscription-required");
    }
    assert_eq!(w.proxies[0].records(), 20);
    w.run(1_300_000);
    assert_eq!(w.proxies[0].records(), 0);
}

#[test]
fn subjects_of_one_tier_share_limits_but_for_what_is_their_own() {
    let mut w = world(&daily(5));
    let mut own = subscription("free");
    own.overrides.insert("calls.day".to_owned(), tollgate_policy::document::Maximum::Units(7));
    w.plane.subscribe("user:bob", Some(own.clone()));
    own.expires_at_ms = Some(w.now_ms() + 5_000);
    w.plane.subscribe("user:carol", Some(own));
    let mut shown = |user: &str| {
        let sending = w.ask(0, user, "/x");
        w.run(100);
        assert!(w.has_passed(sending), "{user}");
        w.upstream(sending, 200)["ratelimit-policy"].clone()
    };
    let first: Vec<String> = ["alice", "bob", "carol", "dave"].map(&mut shown).into();
    assert_eq!(
        first,
        [r#""calls.day";q=5"#, r#""calls.day";q=7"#, r#""calls.day";q=7"#, r#""calls.day";q=5"#]
    );
    w.run(5_000);
    let mut shown = |user: &str| {
        let sending = w.ask(0, user, "/x");
        w.upstream(sending, 200)["ratelimit-policy"].clone()
    };
    assert_eq!(shown("carol"), r#""calls.day";q=5"#, "hers is over");
    assert_eq!(shown("bob"), r#""calls.day";q=7"#);
}
