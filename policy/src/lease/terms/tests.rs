//! What a subject's limits are at a moment: windows near their borders, overrides, claims.

use expect_test::{Expect, expect};

use super::*;
use crate::document::PolicyDocument;

const DAY_MS: i64 = 86_400_000;

fn policy() -> CompiledPolicy {
    let limits = |calls: u64| {
        serde_json::json!([
            {"meter": "calls", "rate": calls, "per": "60s"},
            {"meter": "calls", "quota": calls * 100, "per": "day"},
        ])
    };
    let document = serde_json::json!({
        "version": 1,
        "issuers": [{"issuer": "i", "keys": {"file": "f"}, "claims": {"organization": "org"}}],
        "meters": {"calls": {}},
        "tiers": {
            "free": {"limits": limits(1)},
            "pro": {"limits": limits(5)},
            "all": {"limits": [
                {"meter": "calls", "rate": 10, "per": "1s", "burst": 25},
                {"meter": "calls", "capacity": 3},
                {"concurrency": 5},
                {"size": 1_000},
                {"meter": "calls", "quota": 4, "per": "lifetime", "soft": true},
                {"meter": "calls", "quota": "unlimited", "per": "year"},
                {"meter": "calls", "quota": 2, "per": "day", "scope": "member"},
            ]},
            "billed": {"limits": [{"meter": "calls", "quota": 7, "per": "billing_month"}]},
        },
        "default_tier": "free",
        "default_route": {"auth": "none"},
    });
    let document: PolicyDocument = serde_json::from_value(document).unwrap();
    CompiledPolicy::compile(&document, 1).unwrap()
}

fn show(terms: &Terms) -> String {
    let show = |term: &Term| match &term.kind {
        TermKind::Rate { window_ms } => format!("{} {} in {window_ms} ms", term.limit, term.units),
        TermKind::Bucket { refill_ms } => format!("{} {} refilled in {refill_ms} ms", term.limit, term.units),
        TermKind::Concurrency => format!("{} {} in flight", term.limit, term.units),
        TermKind::Capacity => format!("{} {} at once", term.limit, term.units),
        TermKind::Quota { windows, .. } => {
            let window = |w: &Window| format!("{}..{}", w.start_ms / 1_000, w.end_ms / 1_000);
            let windows = windows.iter().map(window).collect::<Vec<_>>().join(" ");
            format!("{} {} in {windows}", term.limit, term.units)
        }
    };
    terms.limits.iter().map(show).collect::<Vec<_>>().join("\n")
}

fn check(subscription: Option<&str>, claim: Option<&str>, now_ms: i64, expected: Expect) {
    let subscription: Option<Subscription> = subscription.map(|json| serde_json::from_str(json).unwrap());
    expected.assert_eq(&show(&Terms::of(
        &policy(),
        subscription.as_ref(),
        claim,
        Scope::Subject,
        &[],
        now_ms,
    )));
}

#[test]
fn the_tier_in_force_gives_the_limits() {
    let noon_ms = DAY_MS + DAY_MS / 2;
    check(
        None,
        None,
        noon_ms,
        expect![[r#"
        calls.60s 1 in 60000 ms
        calls.day 100 in 86400..172800"#]],
    );
    check(
        None,
        Some("pro"),
        noon_ms,
        expect![[r#"
        calls.60s 5 in 60000 ms
        calls.day 500 in 86400..172800"#]],
    );
    check(
        None,
        Some("no such tier"),
        noon_ms,
        expect![[r#"
        calls.60s 1 in 60000 ms
        calls.day 100 in 86400..172800"#]],
    );
    check(
        Some(r#"{"tier": "pro", "anchor_ms": 0}"#),
        None,
        noon_ms,
        expect![[r#"
        calls.60s 5 in 60000 ms
        calls.day 500 in 86400..172800"#]],
    );
    check(
        Some(r#"{"tier": "pro", "state": "paused", "anchor_ms": 0}"#),
        Some("pro"),
        noon_ms,
        expect![[r#"
        calls.60s 1 in 60000 ms
        calls.day 100 in 86400..172800"#]],
    );
    check(Some(r#"{"tier": "gone", "anchor_ms": 0}"#), None, noon_ms, expect![]);
}

#[test]
fn a_limit_of_every_kind_but_size_has_units() {
    let subscription = r#"{"tier": "all", "anchor_ms": 0, "overrides": {"calls": 9, "calls.1s.burst": 50}}"#;
    check(
        Some(subscription),
        None,
        DAY_MS / 2,
        expect![[r#"
        calls.1s.burst 50 refilled in 5000 ms
        calls 9 at once
        concurrency 5 in flight
        calls.lifetime 4 in 0..9223372036854775
        calls.year 18446744073709551615 in 0..31536000"#]],
    );
}

#[test]
fn a_member_has_the_limits_of_each_member() {
    let terms = Terms::of(&policy(), None, Some("all"), Scope::Member, &[], DAY_MS / 2);
    expect!["calls.day.member 2 in 0..86400"].assert_eq(&show(&terms));
}

#[test]
fn a_subject_without_a_tier_has_no_units() {
    let mut policy = policy();
    policy.default_tier = None;
    assert_eq!(Terms::of(&policy, None, None, Scope::Subject, &[], 0), Terms::default());
    assert!(Terms::of(&policy, None, Some("pro"), Scope::Subject, &[], 0).term("calls.60s").is_some());
}

#[test]
fn overrides_count_while_the_subscription_is_in_force() {
    let subscription = r#"{"tier": "pro", "anchor_ms": 0, "expires_at_ms": 129600000,
        "overrides": {"calls.day": 9, "other": 1}}"#;
    check(
        Some(subscription),
        None,
        129_599_999,
        expect![[r#"
        calls.60s 5 in 60000 ms
        calls.day 9 in 86400..172800"#]],
    );
    check(
        Some(subscription),
        None,
        129_600_000,
        expect![[r#"
        calls.60s 1 in 60000 ms
        calls.day 100 in 86400..172800"#]],
    );
}

#[test]
fn around_a_border_both_windows_are_open() {
    let open = |now_ms: i64| {
        let terms = Terms::of(&policy(), None, None, Scope::Subject, &[], now_ms);
        let term = terms.term("calls.day").unwrap();
        let days = (-2..4).filter(|day| term.window_end(day * DAY_MS).is_ok());
        assert_eq!(
            term.window_end(now_ms.div_euclid(DAY_MS) * DAY_MS),
            Ok(Some((now_ms.div_euclid(DAY_MS) + 1) * DAY_MS))
        );
        assert!(term.window_end(1).is_err());
        days.collect::<Vec<_>>()
    };
    assert_eq!(open(DAY_MS), [0, 1]);
    assert_eq!(open(DAY_MS + WINDOW_SKEW_MS - 1), [0, 1]);
    assert_eq!(open(DAY_MS + WINDOW_SKEW_MS), [1]);
    assert_eq!(open(2 * DAY_MS - WINDOW_SKEW_MS - 1), [1]);
    assert_eq!(open(2 * DAY_MS - WINDOW_SKEW_MS), [1, 2]);
    assert_eq!(open(2 * DAY_MS - 1), [1, 2]);
    assert_eq!(open(0), [-1, 0]);
}

#[test]
fn a_rate_has_one_window_for_ever() {
    let terms = Terms::of(&policy(), None, None, Scope::Subject, &[], 5);
    let term = terms.term("calls.60s").unwrap();
    assert_eq!((term.window_end(0), term.window_end(5)), (Ok(None), Err(())));
}

#[test]
fn billing_months_count_from_the_subscription() {
    let subscription = r#"{"tier": "billed", "anchor_ms": 1000000}"#;
    check(
        Some(subscription),
        None,
        1_000_000 + WINDOW_SKEW_MS,
        expect!["calls.billing_month 7 in 1000..2679400"],
    );
    check(
        Some(subscription),
        None,
        1_000_000,
        expect!["calls.billing_month 7 in 1000..2679400 -2677400..1000"],
    );
}

#[test]
fn the_ends_of_time_are_answered() {
    for now_ms in [i64::MIN, -1, 0, i64::MAX] {
        let terms = Terms::of(&policy(), None, None, Scope::Subject, &[], now_ms);
        let mut book = crate::lease::Book::default();
        assert!(book.sync("s1", &[], &terms, now_ms).accounts.is_empty());
        book.close("s1", now_ms, u64::MAX);
        book.prune(now_ms);
        assert_eq!(book.standings(&terms, now_ms).len(), 2);
    }
}

#[test]
fn grants_are_known_while_no_tier_is_in_force_and_are_none_of_members() {
    let mut policy = policy();
    policy.default_tier = None;
    let grant =
        Grant { id: "g".to_owned(), limit: "calls.day".to_owned(), units: 5, burnt: 0, expires_at_ms: None };
    let terms = |scope| Terms::of(&policy, None, None, scope, std::slice::from_ref(&grant), 0);
    let of_subject = Terms { limits: Vec::new(), grants: vec![grant.clone()] };
    assert_eq!((terms(Scope::Subject), terms(Scope::Member)), (of_subject, Terms::default()));
}
