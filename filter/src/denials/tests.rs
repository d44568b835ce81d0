//! Refusals are counted once, within bounds, and reported in sums that only rise.

#![allow(clippy::unwrap_used, reason = "tests")]

use super::*;

fn now(ms: u64) -> Now {
    Now { wall_ms: 1_768_478_400_000 + ms.cast_signed(), mono_ms: ms }
}

fn counted(denials: &Denials) -> u64 {
    denials.sums.borrow().values().map(|sum| sum.count).sum()
}

#[test]
fn what_is_refused_often_is_told_once_and_again_only_when_it_rises() {
    let denials = Denials::new([7; 16]);
    for _ in 0..3 {
        denials.count(&Denial::no_token(), "", "", now(10));
    }
    denials.count(&Denial::no_feature("export", "free"), "user:a", "/export", now(10));
    denials.take_own(now(10));
    assert_eq!(denials.report(now(20)), [], "others may come");
    let told = denials.report(now(2_010));
    let shown: Vec<_> = told.iter().map(|d| (&*d.subject, &*d.code, &*d.route, d.count)).collect();
    assert_eq!(shown, [("", "token-missing", "", 3), ("user:a", "feature-required", "/export", 1)]);
    assert_eq!(told[0].reporter, "07".repeat(16));
    assert_eq!(denials.report(now(2_020)), [], "not before its time");
    assert_eq!(denials.report(now(5_000)), told, "nobody has confirmed them");
    denials.heard(&told);
    assert_eq!(denials.report(now(10_000)), []);
    denials.count(&Denial::no_token(), "", "", now(10_001));
    denials.take_own(now(10_001));
    assert_eq!(denials.report(now(12_001)).iter().map(|d| d.count).collect::<Vec<_>>(), [4]);
}

#[test]
fn strangers_who_are_refused_fill_no_memory_and_are_counted_all_the_same() {
    let denials = Denials::new([7; 16]);
    for round in 0..40 {
        for number in 0..300 {
            let subject = format!("user:{round}-{number}");
            denials.count(&Denial::no_subscription(), &subject, "/x", now(10));
        }
        assert!(denials.fresh.borrow().len() <= FRESH_MAX + 1);
        denials.take_own(now(10));
    }
    assert!(denials.sums.borrow().len() <= SUMS_MAX + 1);
    assert_eq!(counted(&denials), 12_000);
    let mut told = 0;
    for round in 1..8 {
        let reports = denials.report(now(10 + round * REPORT_MS));
        assert!(reports.len() <= SYNC_DENIALS_MAX);
        told += reports.len();
        denials.heard(&reports);
    }
    assert_eq!(told, denials.sums.borrow().len(), "each once");
    assert_eq!(denials.report(now(3 * 3_600_000)), []);
    denials.count(&Denial::no_token(), "", "", now(3 * 3_600_000));
    denials.take_own(now(3 * 3_600_000));
    denials.report(now(4 * 3_600_000));
    assert_eq!(denials.sums.borrow().len(), 1, "what is over and told is forgotten");
}

#[test]
fn a_user_among_very_many_strangers_is_told_soon_and_by_name() {
    let denials = Denials::new([7; 16]);
    let mut told = std::collections::BTreeMap::new();
    for round in 0..8 {
        let at = now(round * REPORT_MS);
        // More come in each round than a report holds, and nearly all come again.
        for number in 0..6_000 {
            denials.count(
                &Denial::no_subscription(),
                &format!("anon:10.0.{}.{}", number / 250, number % 250),
                "/x",
                at,
            );
            if number % 250 == 0 {
                denials.take_own(at);
            }
        }
        denials.count(&Denial::no_subscription(), "user:alice", "/x", at);
        denials.take_own(at);
        let reports = denials.report(at);
        assert!(reports.len() <= SYNC_DENIALS_MAX);
        denials.heard(&reports);
        told.extend(reports.into_iter().map(|report| (report.subject, report.count)));
    }
    assert!(told.contains_key("user:alice"));
    assert_eq!(counted(&denials), 8 * 6_001, "those without details too");
}

#[test]
fn a_message_of_subjects_is_none_of_refusals() {
    let denials = Denials::default();
    assert!(!denials.take("user:a\nuser:b", now(0)));
    assert!(denials.take("[nonsense", now(0)), "what cannot be read is dropped");
    assert_eq!(counted(&denials), 0);
}
