//! An account's numbers: what may be given back, and what a merge may change.

use expect_test::{Expect, expect};

use super::*;

/// Plays steps on a quota's account or a rate's (of 4 units in 60 s), and shows held, used, free and returned units.
fn check(window_end_ms: i64, steps: &str, expected: Expect) {
    let mut account = Account { window_end_ms, ..Account::default() };
    let mut mono_ms = 0;
    for step in steps.split("; ") {
        let (word, number) = step.split_once(' ').unwrap();
        let number = number.parse().unwrap();
        match word {
            "grant" => account.granted += number,
            "take" => account.take(number, 60_000, 4, mono_ms),
            "refund" => account.refund(number),
            "return" => drop(account.give_back(number)),
            "wait" => mono_ms += number * 1_000,
            _ => panic!("no such step: {step}"),
        }
        account.rest.expire(mono_ms);
    }
    expected.assert_eq(&format!(
        "held {} used {} free {} returned {}",
        account.held(),
        account.used(),
        account.free(),
        account.returned
    ));
}

#[test]
fn only_units_that_are_free_are_given_back() {
    check(9, "grant 5; take 2; return 9", expect!["held 2 used 2 free 0 returned 3"]);
    check(9, "grant 5; take 2; refund 1; return 9", expect!["held 1 used 1 free 0 returned 4"]);
    check(i64::MAX, "grant 5; take 2; return 9", expect!["held 2 used 2 free 0 returned 3"]);
    check(i64::MAX, "grant 5; take 2; wait 59; return 9", expect!["held 2 used 2 free 0 returned 3"]);
    check(i64::MAX, "grant 5; take 2; wait 60; return 9", expect!["held 0 used 2 free 0 returned 5"]);
    check(9, "grant 2; take 5; return 1", expect!["held 2 used 5 free 0 returned 0"]);
}

#[test]
fn a_refund_frees_what_was_used_and_never_more() {
    check(9, "grant 5; take 3; refund 2", expect!["held 5 used 1 free 4 returned 0"]);
    check(9, "grant 5; take 1; refund 3", expect!["held 5 used 0 free 5 returned 0"]);
    check(i64::MAX, "grant 5; take 3; refund 3", expect!["held 5 used 3 free 2 returned 0"]);
}

/// Merges answers into an account that was granted 10, gave 2 back, took 5 and freed 1, at 7 s.
fn check_merge(answer: AccountAnswer, asked: bool, expected: Expect) {
    let mut account =
        Account { granted: 10, returned: 2, taken: 5, freed: 1, window_end_ms: 9, ..Account::default() };
    account.empty_until_ms = 7_500;
    account.merge(&answer, asked, 7_000);
    let Account { granted, returned, taken, freed, empty_until_ms, told, .. } = account;
    expected.assert_eq(&format!("{granted}-{returned} {taken}-{freed} told {told} empty {empty_until_ms}"));
}

fn answer(granted: u64, returned: u64, taken: u64, freed: u64) -> AccountAnswer {
    AccountAnswer {
        limit: String::new(),
        window: 0,
        granted,
        returned,
        taken,
        freed,
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
