//! The control plane's book by example: a history of reports in, grants and standings out.

use expect_test::{Expect, expect};

use super::super::kind::{BUCKET_WINDOW, CONCURRENCY_WINDOW};
use super::super::terms::Term;
use super::*;
use crate::window::Window;

const TTL_MS: u64 = 30_000;
const END_MS: i64 = 1_000_000;

fn terms(units: u64) -> Terms {
    let term = |limit: &str, kind| Term {
        limit: limit.to_owned(),
        meter: (limit != "flight").then(|| "calls".to_owned()),
        units,
        kind,
    };
    let windows = vec![Window { start_ms: 0, end_ms: END_MS }];
    Terms {
        limits: vec![
            term("day", TermKind::Quota { windows, soft: false }),
            term("rate", TermKind::Rate { window_ms: 60_000 }),
            term("bucket", TermKind::Bucket { refill_ms: 20_000 }),
            term("flight", TermKind::Concurrency),
            term("rooms", TermKind::Capacity),
        ],
        grants: Vec::new(),
    }
}

fn report(limit: &str, [taken, freed, returned, want]: [u64; 4]) -> AccountReport {
    let (limit, window) = (limit.to_owned(), window_of(limit));
    AccountReport { limit, window, taken, freed, removed: 0, returned, want }
}

fn window_of(limit: &str) -> i64 {
    match limit {
        "bucket" => BUCKET_WINDOW,
        "flight" => CONCURRENCY_WINDOW,
        "rooms" => CAPACITY_WINDOW,
        _ => 0,
    }
}

/// Plays steps on a book under a maximum of 10, and shows what each answers. Moments are seconds.
///
/// `s1 LIMIT TAKEN FREED RETURNED WANT [REMOVED]` a sync; `s1 close HEARD`; `s1 late|last LIMIT TAKEN FREED` numbers of a closed
/// session, `s1 lastly TAKEN FREED REMOVED` of its rooms; `release UNITS` by id; `count UNITS` of rooms; `at SECONDS`; `limit UNITS`; `prune`; `? LIMIT` what is committed; `rests? LIMIT` what
/// nobody gets for a while.
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
            ["?", limit] => said.push(format!("{limit} {}", book.committed(limit, window_of(limit), now_ms))),
            ["rests?", limit] => {
                let resting = book.resting(limit, window_of(limit), now_ms);
                said.push(format!("{limit} rests {resting:?}"));
            }
            [session, "close", _] => book.close(session, number(2).cast_signed() * 1_000, TTL_MS),
            [session, "late", limit, _, _] => {
                book.settle(session, &[report(limit, [number(3), number(4), 0, 0])], false);
            }
            [session, "last", limit, _, _] => {
                book.settle(session, &[report(limit, [number(3), number(4), 0, 0])], true);
            }
            ["release", _] => book.release(&terms, "calls", number(1), now_ms),
            ["count", _] => book.reconcile(&terms, "rooms", number(1)),
            ["rooms?"] => {
                let standings = book.standings(&terms, now_ms);
                let rooms = standings.iter().find(|standing| standing.limit == "rooms").unwrap();
                let Standing { used, leased, unleased, clamped, .. } = rooms;
                said.push(format!("rooms: {used} used, {leased} leased, {unleased} free, {clamped} clamped"));
            }
            [session, "lastly", _, _, _] => {
                let removed = number(4);
                let report = AccountReport { removed, ..report("rooms", [number(2), number(3), 0, 0]) };
                book.settle(session, &[report], true);
            }
            [session, limit, _, _, _, _] | [session, limit, _, _, _, _, _] => {
                let numbers = [number(2), number(3), number(4), number(5)];
                let removed = if words.len() > 6 { number(6) } else { 0 };
                let report = AccountReport { removed, ..report(limit, numbers) };
                let answer = book.sync(session, &[report], &terms, now_ms);
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
fn what_is_used_beyond_what_is_held_is_held_too_before_anything_is_granted() {
    // 900 are used of 62 that are held: 838 make up for it, and cost nobody anything; a share comes on top.
    check(
        "limit 1000; s1 day 0 0 0 1; s1 day 900 0 0 910; ? day; s2 day 0 0 0 200; s1 day 1100 0 0 1110; ? day",
        expect![[r#"
            s1: 62-0 0-0 unleased 938
            s1: 916-0 900-0 unleased 84
            day 916
            s2: 84-0 0-0 unleased 0 pending recalls s1
            s1: 916-0 1100-0 unleased 0 pending recall recalls s2
            day 1184"#]],
    );
    // Units of a rate come back: how many of them rest only the edge knows, and says by what it wants.
    check(
        "limit 1000; s1 rate 0 0 0 1; s1 rate 900 0 0 910; ? rate",
        expect![[r#"
        s1: 875-0 0-0 unleased 125
        s1: 985-0 900-0 unleased 15
        rate 985"#]],
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
fn a_session_that_released_what_another_added_frees_it_for_everybody() {
    check(
        "s1 rooms 0 0 0 4; s1 rooms 4 0 0 4; s2 rooms 0 0 0 0 3; rooms?; s2 rooms 0 0 0 9 3; rooms?",
        expect![[r#"
            s1: 4-0 0-0 unleased 6
            s1: 4-0 4-0 unleased 6
            s2: 0-0 0-0 unleased 9
            rooms: 1 used, 0 leased, 9 free, 0 clamped
            s2: 9-0 0-0 unleased 0
            rooms: 1 used, 9 leased, 0 free, 0 clamped"#]],
    );
}

#[test]
fn a_release_that_is_heard_before_its_addition_counts_all_the_same() {
    check(
        "s1 rooms 0 0 0 4; s2 rooms 0 0 0 0 3; rooms?; at 30; s1 rooms 4 0 0 4; rooms?; at 99; prune; rooms?",
        expect![[r#"
            s1: 4-0 0-0 unleased 6
            s2: 0-0 0-0 unleased 6
            rooms: 0 used, 4 leased, 6 free, 0 clamped
            s1: 4-0 4-0 unleased 9
            rooms: 1 used, 0 leased, 9 free, 0 clamped
            rooms: 1 used, 0 leased, 9 free, 0 clamped"#]],
    );
    // The units that it held may be what was released: they are counted when the session is closed.
    check(
        "s1 rooms 0 0 0 4; s2 rooms 0 0 0 0 3; s1 close 0; rooms?; at 99; prune; rooms?",
        expect![[r#"
        s1: 4-0 0-0 unleased 6
        s2: 0-0 0-0 unleased 6
        rooms: 1 used, 0 leased, 9 free, 0 clamped
        rooms: 1 used, 0 leased, 9 free, 0 clamped"#]],
    );
}

#[test]
fn what_released_nothing_is_clamped_and_shown() {
    check(
        "s2 rooms 0 0 0 0 3; at 59; prune; rooms?; at 60; prune; rooms?; s1 rooms 0 0 0 4; s1 rooms 4 0 0 4; rooms?",
        expect![[r#"
            s2: 0-0 0-0 unleased 10
            rooms: 0 used, 0 leased, 10 free, 0 clamped
            rooms: 0 used, 0 leased, 10 free, 3 clamped
            s1: 4-0 0-0 unleased 6
            s1: 4-0 4-0 unleased 6
            rooms: 4 used, 0 leased, 6 free, 3 clamped"#]],
    );
}

#[test]
fn what_is_added_after_a_release_of_nothing_is_in_use_at_once() {
    // Two are added and nine released elsewhere; the edge that added them releases them once more, adds two again, and
    // then eight: ten are there.
    check(
        "s1 rooms 0 0 0 2; s1 rooms 2 0 0 0; s2 rooms 0 0 0 0 9; rooms?; s1 rooms 2 2 0 0 5; s1 rooms 4 2 0 12; \
         s1 rooms 12 2 0 20; rooms?; s2 rooms 0 0 0 3 9; at 60; prune; rooms?",
        expect![[r#"
            s1: 2-0 0-0 unleased 8
            s1: 2-0 2-0 unleased 8
            s2: 0-0 0-0 unleased 10
            rooms: 0 used, 0 leased, 10 free, 0 clamped
            s1: 2-0 2-2 unleased 8
            s1: 10-0 4-2 unleased 0
            s1: 10-0 12-2 unleased 0
            rooms: 10 used, 0 leased, 0 free, 0 clamped
            s2: 0-0 0-0 unleased 0
            rooms: 10 used, 0 leased, 0 free, 14 clamped"#]],
    );
}

#[test]
fn of_a_capacity_nothing_is_granted_that_nobody_wants() {
    check(
        "s1 rooms 0 0 0 1; s2 rooms 0 0 0 2; s2 rooms 2 0 0 20",
        expect![[r#"
        s1: 1-0 0-0 unleased 9
        s2: 2-0 0-0 unleased 7
        s2: 9-0 2-0 unleased 0 pending recalls s1"#]],
    );
}

#[test]
fn a_capacity_s_closed_session_stays_charged_until_its_final_numbers_come() {
    check(
        "s1 rooms 0 0 0 9; s1 rooms 2 0 0 9; s1 close 0; at 9999; prune; rooms?; s1 lastly 4 1 2; rooms?; prune; rooms?",
        expect![[r#"
            s1: 9-0 0-0 unleased 1
            s1: 9-0 2-0 unleased 1
            rooms: 9 used, 0 leased, 1 free, 0 clamped
            rooms: 1 used, 0 leased, 9 free, 0 clamped
            rooms: 1 used, 0 leased, 9 free, 0 clamped"#]],
    );
    check(
        "s1 rooms 0 0 0 9; s1 close 0; s2 rooms 0 0 0 0 9; rooms?; s1 lastly 4 0 0; rooms?",
        expect![[r#"
        s1: 9-0 0-0 unleased 1
        s2: 0-0 0-0 unleased 10
        rooms: 0 used, 0 leased, 10 free, 0 clamped
        rooms: 0 used, 0 leased, 10 free, 0 clamped"#]],
    );
}

#[test]
fn things_released_by_id_are_free_again() {
    check(
        "s1 rooms 0 0 0 4; s1 rooms 4 0 0 4; release 3; rooms?; s2 rooms 0 0 0 9",
        expect![[r#"
        s1: 4-0 0-0 unleased 6
        s1: 4-0 4-0 unleased 6
        rooms: 1 used, 0 leased, 9 free, 0 clamped
        s2: 9-0 0-0 unleased 0"#]],
    );
}

#[test]
fn an_operator_s_count_replaces_what_was_counted() {
    check(
        "s1 rooms 0 0 0 9; s1 close 0; rooms?; count 2; rooms?; s1 lastly 9 0 0; rooms?",
        expect![[r#"
        s1: 9-0 0-0 unleased 1
        rooms: 9 used, 0 leased, 1 free, 0 clamped
        rooms: 2 used, 0 leased, 8 free, 0 clamped
        rooms: 2 used, 0 leased, 8 free, 0 clamped"#]],
    );
    check(
        "s1 rooms 0 0 0 4; s1 rooms 4 0 0 4; count 1; rooms?; count 9; rooms?",
        expect![[r#"
        s1: 4-0 0-0 unleased 6
        s1: 4-0 4-0 unleased 6
        rooms: 1 used, 0 leased, 9 free, 0 clamped
        rooms: 9 used, 0 leased, 1 free, 0 clamped"#]],
    );
}

#[test]
fn units_of_a_bucket_and_of_requests_rest_after_their_last_possible_use() {
    check(
        "s1 bucket 0 0 0 10; s1 close 5; at 54; ? bucket; at 55; ? bucket",
        expect![[r#"
        s1: 10-0 0-0 unleased 0
        bucket 10
        bucket 0"#]],
    );
    check(
        "s1 flight 0 0 0 10; s1 close 5; at 334; ? flight; at 335; ? flight",
        expect![[r#"
        s1: 10-0 0-0 unleased 0
        flight 10
        flight 0"#]],
    );
}

#[test]
fn of_requests_in_flight_half_is_granted_on_top_of_nothing() {
    check(
        "s1 flight 0 0 0 1; s2 flight 0 0 0 1; s2 flight 0 0 0 9",
        expect![[r#"
        s1: 5-0 0-0 unleased 5
        s2: 1-0 0-0 unleased 4
        s2: 5-0 0-0 unleased 0 pending recalls s1"#]],
    );
}

#[test]
fn without_a_maximum_what_is_wanted_is_granted() {
    check(
        &format!("limit {}; s1 day 0 0 0 7; s1 rooms 0 0 0 1; s1 flight 0 0 0 2", u64::MAX),
        expect![[r#"
        s1: 7-0 0-0 unleased 18446744073709551608
        s1: 1-0 0-0 unleased 18446744073709551614
        s1: 2-0 0-0 unleased 18446744073709551613"#]],
    );
}

#[test]
fn what_is_used_beyond_a_maximum_is_overage() {
    let mut book = Book::default();
    let mut terms = terms(10);
    terms.limits[0].kind =
        TermKind::Quota { windows: vec![Window { start_ms: 0, end_ms: END_MS }], soft: true };
    book.sync("s1", &[report("day", [13, 0, 0, 4])], &terms, 0);
    let standing = &book.standings(&terms, 0)[0];
    assert_eq!((standing.soft, standing.used, standing.overage, standing.unleased), (true, 13, 3, 0));
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
        rate: 0 used, 3 leased, 7 free of 10
        bucket: 0 used, 0 leased, 10 free of 10
        flight: 0 used, 0 leased, 10 free of 10
        rooms: 0 used, 0 leased, 10 free of 10"#]]
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

#[test]
fn what_a_closed_session_held_of_a_rate_is_nobody_s_until_it_has_rested() {
    check(
        "s1 rate 0 0 0 4; s2 rate 0 0 0 3; rests? rate; s2 close 1; s1 close 0; rests? rate; at 90; rests? rate; at 91; rests? rate",
        expect![[r#"
            s1: 9-0 0-0 unleased 1
            s2: 1-0 0-0 unleased 0 pending recalls s1
            rate rests []
            rate rests [(90000, 9), (91000, 1)]
            rate rests [(91000, 1)]
            rate rests []"#]],
    );
    check(
        "s1 day 1 0 0 4; s1 close 0; rests? day",
        expect![[r#"
            s1: 10-0 1-0 unleased 0
            day rests []"#]],
    );
}
