//! The control plane's book by example: a history of reports in, grants and standings out.

use expect_test::{Expect, expect};

use super::super::terms::Term;
use super::*;
use crate::window::Window;

const TTL_MS: u64 = 30_000;
const END_MS: i64 = 1_000_000;

fn terms(units: u64) -> Terms {
    let term = |limit: &str, kind| Term { limit: limit.to_owned(), meter: "calls".to_owned(), units, kind };
    let window = Window { start_ms: 0, end_ms: END_MS };
    let quota = term("day", TermKind::Quota(vec![window]));
    Terms { limits: vec![quota, term("rate", TermKind::Rate { window_ms: 60_000 })] }
}

fn report(limit: &str, [taken, freed, returned, want]: [u64; 4]) -> AccountReport {
    AccountReport { limit: limit.to_owned(), window: 0, taken, freed, returned, want }
}

/// Plays steps on a book under a maximum of 10, and shows what each answers. Moments are seconds.
///
/// `s1 LIMIT TAKEN FREED RETURNED WANT` a sync; `s1 close HEARD`; `s1 late|last LIMIT TAKEN FREED` numbers of a closed
/// session; `at SECONDS`; `limit UNITS`; `prune`; `? LIMIT` what is committed.
fn check(steps: &str, expected: Expect) {
    let (mut book, mut terms, mut now_ms) = (Book::default(), terms(10), 0);
    let mut said = Vec::new();
    for step in steps.split("; ") {
        let words: Vec<&str> = step.split(' ').collect();
        let number = |at: usize| words[at].parse::<u64>().unwrap();
        match words[..] {
            ["at", _] => now_ms = number(1).cast_signed() * 1_000,
            ["limit", _] => terms = super::tests::terms(number(1)),
            ["prune"] => book.prune(now_ms),
            ["?", limit] => said.push(format!("{limit} {}", book.committed(limit, 0, now_ms))),
            [session, "close", _] => book.close(session, number(2).cast_signed() * 1_000, TTL_MS),
            [session, "late", limit, _, _] => {
                book.settle(session, &[report(limit, [number(3), number(4), 0, 0])], false);
            }
            [session, "last", limit, _, _] => {
                book.settle(session, &[report(limit, [number(3), number(4), 0, 0])], true);
            }
            [session, limit, _, _, _, _] => {
                let numbers = [number(2), number(3), number(4), number(5)];
                let answer = book.sync(session, &[report(limit, numbers)], &terms, now_ms);
                said.push(show(session, limit, &answer));
            }
            _ => panic!("no such step: {step}"),
        }
        let written = serde_json::to_string(&book).unwrap();
        assert_eq!(serde_json::from_str::<Book>(&written).unwrap(), book, "{written}");
    }
    expected.assert_eq(&said.join("\n"));
}

fn show(session: &str, limit: &str, answer: &BookAnswer) -> String {
    let mut shown = format!("{session}:");
    for account in answer.accounts.iter().filter(|account| account.limit == limit) {
        let AccountAnswer { granted, returned, taken, freed, unleased, pending, recall, .. } = account;
        shown += &format!(" {granted}-{returned} {taken}-{freed} unleased {unleased}");
        shown += if *pending { " pending" } else { "" };
        shown += if *recall { " recall" } else { "" };
    }
    if !answer.recalled.is_empty() {
        shown += &format!(" recalls {}", answer.recalled.join(" "));
    }
    shown
}

#[test]
fn a_quota_is_granted_in_shares_that_follow_demand() {
    check(
        "s1 day 0 0 0 1; s2 day 0 0 0 1; s3 day 0 0 0 1",
        expect![[r#"
            s1: 10-0 0-0 unleased 0
            s2: 0-0 0-0 unleased 0 pending recalls s1
            s3: 0-0 0-0 unleased 0 pending"#]],
    );
    check(
        "limit 100; s1 day 0 0 0 1; s2 day 0 0 0 1; s2 day 0 0 0 11",
        expect![[r#"
            s1: 16-0 0-0 unleased 84
            s2: 5-0 0-0 unleased 79
            s2: 11-0 0-0 unleased 73"#]],
    );
}

#[test]
fn a_repeated_or_late_report_changes_nothing() {
    check(
        "s1 day 0 0 0 1; s1 day 3 1 2 9; s1 day 0 0 0 1; s1 day 3 1 2 9; ? day",
        expect![[r#"
            s1: 10-0 0-0 unleased 0
            s1: 10-2 3-1 unleased 2
            s1: 10-2 3-1 unleased 2
            s1: 10-2 3-1 unleased 2
            day 8"#]],
    );
}

#[test]
fn a_recall_is_told_once_and_answered_by_the_next_report() {
    check(
        "s1 day 0 0 0 10; s2 day 0 0 0 1; s1 day 1 0 0 10; s1 day 1 0 9 10; s2 day 0 0 0 1; s1 day 1 0 9 11",
        expect![[r#"
            s1: 10-0 0-0 unleased 0
            s2: 0-0 0-0 unleased 0 pending recalls s1
            s1: 10-0 1-0 unleased 0 recall
            s1: 10-9 1-0 unleased 9
            s2: 1-0 0-0 unleased 8
            s1: 11-9 1-0 unleased 7"#]],
    );
}

#[test]
fn who_has_just_answered_a_recall_is_left_alone_for_a_moment() {
    check(
        "s1 rate 0 0 0 10; s2 rate 0 0 0 1; s1 rate 9 0 0 10; s1 rate 9 0 0 10; s2 rate 0 0 0 1; at 1; s2 rate 0 0 0 1",
        expect![[r#"
            s1: 10-0 0-0 unleased 0
            s2: 0-0 0-0 unleased 0 pending recalls s1
            s1: 10-0 9-0 unleased 0 recall
            s1: 10-0 9-0 unleased 0
            s2: 0-0 0-0 unleased 0
            s2: 0-0 0-0 unleased 0 pending recalls s1"#]],
    );
}

#[test]
fn a_silent_session_is_asked_again_but_not_waited_for() {
    check(
        "s1 day 0 0 0 10; s2 day 0 0 0 1; at 2; s2 day 0 0 0 1; at 9; s2 day 0 0 0 1; s1 day 0 0 0 0",
        expect![[r#"
            s1: 10-0 0-0 unleased 0
            s2: 0-0 0-0 unleased 0 pending recalls s1
            s2: 0-0 0-0 unleased 0 recalls s1
            s2: 0-0 0-0 unleased 0 recalls s1
            s1: 10-0 0-0 unleased 0 recall"#]],
    );
}

#[test]
fn a_lowered_limit_recalls_what_is_idle_above_it() {
    check(
        "s1 day 0 0 0 1; s2 day 0 0 0 1; limit 5; s1 day 2 0 0 9; s1 day 2 0 7 9; s2 day 0 0 1 1; s1 day 2 0 7 99",
        expect![[r#"
            s1: 10-0 0-0 unleased 0
            s2: 0-0 0-0 unleased 0 pending recalls s1
            s1: 10-0 2-0 unleased 0 recall
            s1: 10-7 2-0 unleased 2
            s2: 1-0 0-0 unleased 1 pending
            s1: 11-7 2-0 unleased 0 pending recalls s2"#]],
    );
}

#[test]
fn a_closed_session_forfeits_what_it_held_until_its_final_numbers_come() {
    check(
        "s1 day 0 0 0 10; s1 day 2 0 0 10; s1 close 0; ? day",
        expect![[r#"
        s1: 10-0 0-0 unleased 0
        s1: 10-0 2-0 unleased 0
        day 10"#]],
    );
    check(
        "s1 day 0 0 0 10; s1 close 0; s1 close 99; s1 late day 4 1; ? day; s1 last day 4 0; ? day",
        expect![[r#"
        s1: 10-0 0-0 unleased 0
        day 10
        day 3"#]],
    );
    check(
        "s1 day 0 0 0 10; s1 close 0; s1 last day 4 0; s1 last day 9 0; s1 close 0; ? day",
        expect![[r#"
        s1: 10-0 0-0 unleased 0
        day 4"#]],
    );
    check(
        "s1 day 0 0 0 10; s1 last day 4 0; s1 close 0; ? day",
        expect![[r#"
        s1: 10-0 0-0 unleased 0
        day 10"#]],
    );
}

#[test]
fn a_closed_session_s_rate_units_rest_after_their_last_possible_use() {
    check(
        "s1 rate 0 0 0 10; s1 close 5; at 94; ? rate; at 95; ? rate",
        expect![[r#"
        s1: 10-0 0-0 unleased 0
        rate 10
        rate 0"#]],
    );
    check(
        "s1 rate 0 0 0 10; s1 close 5; s1 last rate 3 0; ? rate; at 95; prune; s2 rate 0 0 0 10",
        expect![[r#"
        s1: 10-0 0-0 unleased 0
        rate 10
        s2: 10-0 0-0 unleased 0"#]],
    );
}

#[test]
fn a_rate_s_window_that_was_lengthened_counts_when_a_session_closes() {
    let mut book = Book::default();
    let (short, mut long) = (terms(10), terms(10));
    long.limits[1].kind = TermKind::Rate { window_ms: 600_000 };
    book.sync("s1", &[report("rate", [0, 0, 0, 10])], &short, 0);
    book.sync("s1", &[report("rate", [0, 0, 0, 10])], &long, 1_000);
    book.close("s1", 1_000, TTL_MS);
    assert_eq!(book.committed("rate", 0, 630_999), 10);
    assert_eq!(book.committed("rate", 0, 631_000), 0);
}

#[test]
fn debt_counts_against_a_quota() {
    check(
        "s1 day 0 0 0 1; s1 day 15 0 0 9; s2 day 0 0 0 1; ? day",
        expect![[r#"
            s1: 10-0 0-0 unleased 0
            s1: 10-0 15-0 unleased 0
            s2: 0-0 0-0 unleased 0
            day 15"#]],
    );
}

#[test]
fn an_edge_cannot_give_back_more_than_it_got() {
    check(
        "s1 day 0 0 99 10; s1 day 0 99 99 20; ? day; s2 day 0 0 0 10",
        expect![[r#"
        s1: 10-0 0-0 unleased 0
        s1: 20-10 0-0 unleased 0
        day 10
        s2: 0-0 0-0 unleased 0 pending recalls s1"#]],
    );
    let most = u64::MAX;
    check(
        &format!("s1 day {most} {most} {most} {most}; s1 rate {most} {most} {most} {most}; ? day; ? rate"),
        {
            expect![[r#"
            s1: 10-0 18446744073709551615-18446744073709551615 unleased 0
            s1: 10-0 18446744073709551615-18446744073709551615 unleased 0
            day 10
            rate 10"#]]
        },
    );
}

#[test]
fn a_window_is_kept_for_late_reports_and_then_forgotten() {
    let late_s = (END_MS + WINDOW_LATE_MS) / 1_000;
    check(
        &format!("s1 day 0 0 0 10; at {}; prune; ? day; at {late_s}; prune; ? day", late_s - 1),
        expect![[r#"
        s1: 10-0 0-0 unleased 0
        day 10
        day 0"#]],
    );
}

#[test]
fn a_window_or_limit_that_is_not_in_force_is_not_opened() {
    let mut book = Book::default();
    let mut reports =
        [report("day", [0, 0, 0, 5]), report("other", [0, 0, 0, 5]), report("rate", [0, 0, 0, 5])];
    reports[0].window = 5;
    reports[2].window = 5;
    assert_eq!(book.sync("s1", &reports, &terms(10), 0), BookAnswer::default());
    assert_eq!(book, Book::default());
}

#[test]
fn standings_tell_used_leased_and_free_units_apart() {
    let mut book = Book::default();
    let terms = terms(10);
    book.sync("s1", &[report("day", [0, 0, 0, 4]), report("rate", [0, 0, 0, 4])], &terms, 0);
    book.sync("s1", &[report("day", [3, 1, 0, 4]), report("rate", [50, 0, 6, 4])], &terms, 0);
    let show = |s: &Standing| {
        format!("{}: {} used, {} leased, {} free of {}", s.limit, s.used, s.leased, s.unleased, s.units)
    };
    let shown: Vec<String> = book.standings(&terms, 0).iter().map(show).collect();
    expect![[r#"
        day: 2 used, 8 leased, 0 free of 10
        rate: 0 used, 3 leased, 7 free of 10"#]]
    .assert_eq(&shown.join("\n"));
    assert_eq!(Book::default().standings(&terms, 0)[0].unleased, 10);
}

#[test]
fn restarts_do_not_grow_a_book_without_bound() {
    let mut book = Book::default();
    let terms = terms(100_000);
    for session in 0..1_000 {
        let id = format!("{session:032x}");
        book.sync(&id, &[report("day", [0, 0, 0, 1])], &terms, 0);
        let granted = book.sync(&id, &[report("day", [1, 0, 0, 0])], &terms, 0).accounts[0].granted;
        book.sync(&id, &[report("day", [1, 0, granted - 1 - session % 3, 0])], &terms, 0);
        book.close(&id, 0, TTL_MS);
    }
    // Each stays charged with the one unit that it used and up to two that it may have.
    assert_eq!(book.committed("day", 0, 0), (0..1_000).map(|session| 1 + session % 3).sum::<u64>());
    let written = serde_json::to_string(&book).unwrap();
    assert!(written.len() < 16_384, "{} bytes", written.len());
}

#[test]
fn the_sessions_of_a_book_are_those_that_are_open() {
    let mut book = Book::default();
    book.sync("s2", &[report("day", [0, 0, 0, 1])], &terms(10), 0);
    book.sync("s1", &[report("day", [0, 0, 0, 1]), report("rate", [0, 0, 0, 1])], &terms(10), 0);
    assert_eq!(book.sessions(), ["s1", "s2"]);
    book.close("s1", 0, TTL_MS);
    assert_eq!(book.sessions(), ["s2"]);
}
