//! An account's numbers: what may be given back, and what a merge may change.

use expect_test::{Expect, expect};

use super::*;

const QUOTA: AccountKind = AccountKind::Quota;
const RATE: AccountKind = AccountKind::Rate;
const BUCKET: AccountKind = AccountKind::Bucket { refill_ms: 60_000 };
const CONCURRENCY: AccountKind = AccountKind::Concurrency;
const CAPACITY: AccountKind = AccountKind::Capacity;

/// Plays steps on an account of 4 units (of a kind that lets units rest, for 60 s), and shows held, used, free and returned
/// units, and those removed. `take`, `end` and `undo` mean the same request.
fn check(kind: AccountKind, steps: &str, expected: Expect) {
    let mut account = Account { kind, ..Account::default() };
    let (mut mono_ms, mut end_ms) = (0, 0);
    for step in steps.split("; ") {
        let (word, number) = step.split_once(' ').unwrap();
        let number = number.parse().unwrap();
        match word {
            "grant" => account.granted += number,
            "take" => end_ms = account.take(number, 60_000, 4, mono_ms),
            "end" => account.end(end_ms, number),
            "undo" => account.undo(end_ms, number),
            "release" => account.release(number),
            "refund" => account.refund(number),
            "return" => drop(account.give_back(number)),
            "wait" => mono_ms += number * 1_000,
            _ => panic!("no such step: {step}"),
        }
        account.settle(mono_ms);
    }
    let (held, used, free, returned) = (account.held(), account.used(), account.free(), account.returned);
    let removed = if account.removed > 0 { format!(" removed {}", account.removed) } else { String::new() };
    expected.assert_eq(&format!("held {held} used {used} free {free} returned {returned}{removed}"));
}

#[test]
fn only_units_that_are_free_are_given_back() {
    check(QUOTA, "grant 5; take 2; return 9", expect!["held 2 used 2 free 0 returned 3"]);
    check(QUOTA, "grant 5; take 2; refund 1; return 9", expect!["held 1 used 1 free 0 returned 4"]);
    check(RATE, "grant 5; take 2; return 9", expect!["held 2 used 2 free 0 returned 3"]);
    check(RATE, "grant 5; take 2; wait 59; return 9", expect!["held 2 used 2 free 0 returned 3"]);
    check(RATE, "grant 5; take 2; wait 60; return 9", expect!["held 0 used 2 free 0 returned 5"]);
    check(QUOTA, "grant 2; take 5; return 1", expect!["held 2 used 5 free 0 returned 0"]);
}

#[test]
fn a_refund_frees_what_was_used_and_never_more() {
    check(QUOTA, "grant 5; take 3; refund 2", expect!["held 5 used 1 free 4 returned 0"]);
    check(QUOTA, "grant 5; take 1; refund 3", expect!["held 5 used 0 free 5 returned 0"]);
    check(RATE, "grant 5; take 3; refund 3", expect!["held 5 used 3 free 2 returned 0"]);
}

#[test]
fn a_request_that_ends_frees_its_unit_and_one_that_leaks_rests() {
    check(CONCURRENCY, "grant 5; take 2; end 2; return 9", expect!["held 0 used 0 free 0 returned 5"]);
    check(CONCURRENCY, "grant 5; take 1; wait 1; take 2; end 2", expect!["held 5 used 1 free 4 returned 0"]);
    check(CONCURRENCY, "grant 5; take 2; end 1; end 1; end 1", expect!["held 5 used 0 free 5 returned 0"]);
    check(CONCURRENCY, "grant 5; take 2; refund 2; wait 59", expect!["held 5 used 2 free 3 returned 0"]);
    check(CONCURRENCY, "grant 5; take 2; wait 60; end 2", expect!["held 5 used 0 free 5 returned 0"]);
    check(RATE, "grant 5; take 2; end 2", expect!["held 5 used 2 free 3 returned 0"]);
    check(QUOTA, "grant 5; take 2; end 2", expect!["held 5 used 2 free 3 returned 0"]);
}

#[test]
fn a_take_that_is_undone_leaves_no_trace_of_any_kind() {
    for kind in [QUOTA, RATE, BUCKET, CONCURRENCY, CAPACITY] {
        check(kind, "grant 5; take 2; undo 2", expect!["held 5 used 0 free 5 returned 0"]);
        check(kind, "grant 5; take 1; take 2; undo 2", expect!["held 5 used 1 free 4 returned 0"]);
        check(kind, "grant 5; take 2; undo 2; return 9", expect!["held 0 used 0 free 0 returned 5"]);
    }
    check(QUOTA, "grant 5; take 2; undo 2; undo 2", expect!["held 5 used 0 free 5 returned 0"]);
    check(RATE, "grant 5; take 2; undo 2; undo 2", expect!["held 5 used 0 free 5 returned 0"]);
    // What was released meanwhile was another session's.
    check(
        CAPACITY,
        "grant 5; take 2; release 2; undo 2",
        expect!["held 5 used 0 free 5 returned 0 removed 2"],
    );
    check(
        CAPACITY,
        "grant 5; take 2; release 1; refund 2",
        expect!["held 5 used 0 free 5 returned 0 removed 1"],
    );
}

#[test]
fn a_bucket_refills_by_the_share_that_is_held() {
    check(BUCKET, "grant 4; take 4; wait 14", expect!["held 4 used 4 free 0 returned 0"]);
    check(BUCKET, "grant 4; take 4; wait 15; return 9", expect!["held 3 used 4 free 0 returned 1"]);
    check(BUCKET, "grant 4; take 4; wait 60; refund 2", expect!["held 4 used 4 free 4 returned 0"]);
    // Half of it is given back; from then on the rest refills as slowly as half a bucket does.
    check(BUCKET, "grant 4; take 2; return 2; wait 29", expect!["held 2 used 2 free 0 returned 2"]);
    check(BUCKET, "grant 4; take 2; return 2; wait 30", expect!["held 2 used 2 free 1 returned 2"]);
    check(BUCKET, "take 2; wait 59; wait 1", expect!["held 0 used 2 free 0 returned 0"]);
}

#[test]
fn a_release_frees_what_was_taken_here_and_tells_of_the_rest() {
    check(CAPACITY, "grant 5; take 3; release 2", expect!["held 5 used 1 free 4 returned 0"]);
    check(
        CAPACITY,
        "grant 5; take 3; release 5; return 9",
        expect!["held 0 used 0 free 0 returned 5 removed 2"],
    );
    check(CAPACITY, "release 2; grant 5; take 3", expect!["held 5 used 3 free 2 returned 0 removed 2"]);
    check(QUOTA, "grant 5; take 3; release 2", expect!["held 5 used 3 free 2 returned 0"]);
}

/// Merges answers into an account that was granted 10, gave 2 back, took 5 and freed 1, at 7 s.
fn check_merge(answer: AccountAnswer, asked: bool, expected: Expect) {
    let mut account = Account { granted: 10, returned: 2, taken: 5, freed: 1, ..Account::default() };
    account.empty_until_ms = 7_500;
    account.merge(&answer, asked.then_some(7_000), 7_300);
    let Account { granted, returned, taken, freed, empty_until_ms, told, .. } = account;
    expected.assert_eq(&format!("{granted}-{returned} {taken}-{freed} told {told} empty {empty_until_ms}"));
}

fn answer(granted: u64, returned: u64, taken: u64, freed: u64) -> AccountAnswer {
    AccountAnswer {
        limit: String::new(),
        window: 0,
        end: None,
        granted,
        returned,
        taken,
        freed,
        removed: 0,
        unleased: 0,
        pending: false,
        recall: false,
    }
}

#[test]
fn an_old_answer_undoes_nothing() {
    check_merge(answer(4, 1, 2, 0), false, expect!["10-2 5-1 told 2 empty 7500"]);
    check_merge(answer(0, 0, 0, 0), false, expect!["10-2 5-1 told 0 empty 7500"]);
}

#[test]
fn numbers_that_were_lost_here_come_back() {
    check_merge(answer(20, 9, 8, 4), false, expect!["20-9 8-4 told 8 empty 0"]);
}

#[test]
fn nothing_is_free_only_if_it_was_asked_for_and_nothing_is_on_the_way() {
    check_merge(answer(10, 2, 5, 1), true, expect!["10-2 5-1 told 5 empty 8000"]);
    check_merge(answer(11, 2, 5, 1), true, expect!["11-2 5-1 told 5 empty 0"]);
    check_merge(
        AccountAnswer { unleased: 1, ..answer(10, 2, 5, 1) },
        true,
        expect!["10-2 5-1 told 5 empty 0"],
    );
    check_merge(
        AccountAnswer { pending: true, ..answer(10, 2, 5, 1) },
        true,
        expect!["10-2 5-1 told 5 empty 0"],
    );
}
