//! One request's decision by example, and which of its demands is named when it is refused.

use expect_test::{Expect, expect};

use super::*;
use crate::window::Window;

const NOW_MS: i64 = 100_000;
const MONO_MS: u64 = 50_000;

/// A record of accounts written as `NAME granted N [returned N] [taken N] [freed N] [rests N@END] [owed N] [empty
/// UNTIL]`. One that is called `rate`, `bucket` (refilled in 10 s), `flight` or `rooms` is of that kind, any other a quota
/// until 160 s.
fn record(accounts: &str) -> Record {
    let mut record = Record::new("user:alice", super::super::SessionId::default(), 0);
    for text in accounts.split("; ").filter(|text| !text.is_empty()) {
        let words: Vec<&str> = text.split(' ').collect();
        let kind = match words[0] {
            "rate" => AccountKind::Rate,
            "bucket" => AccountKind::Bucket { refill_ms: 10_000 },
            "flight" => AccountKind::Concurrency,
            "rooms" => AccountKind::Capacity,
            _ => AccountKind::Quota,
        };
        let end_ms = if kind == AccountKind::Quota { 160_000 } else { i64::MAX };
        let mut account = Account::new(words[0], kind, Window { start_ms: 0, end_ms });
        for pair in words[1..].chunks(2) {
            let number = |text: &str| text.parse::<u64>().unwrap();
            match pair[0] {
                "granted" => account.granted = number(pair[1]),
                "returned" => account.returned = number(pair[1]),
                "taken" => account.taken = number(pair[1]),
                "freed" => account.freed = number(pair[1]),
                "empty" => account.empty_until_ms = number(pair[1]),
                "owed" => {
                    account.settle(MONO_MS);
                    account.level.take(number(pair[1]));
                }
                "rests" => {
                    let (units, end_ms) = pair[1].split_once('@').unwrap();
                    account.rest.entries.push((number(end_ms), number(units)));
                }
                word => panic!("no such word: {word}"),
            }
        }
        record.accounts.push(account);
    }
    record
}

/// Demands written as `ACCOUNT:UNITS/MAXIMUM`, with `+` in front of a soft one, and `?` of one that is only watched.
fn demands(text: &str) -> Vec<Demand> {
    let number = |text: &str| text.parse::<u64>().unwrap();
    text.split(' ')
        .map(|demand| {
            let (demand, on_short) = match demand.split_at(1) {
                ("+", demand) => (demand, OnShort::Pass),
                ("?", demand) => (demand, OnShort::Shadow),
                _ => (demand, OnShort::Refuse),
            };
            let (account, costs) = demand.split_once(':').unwrap();
            let (units, limit_units) = costs.split_once('/').unwrap();
            Demand {
                account: account.parse().unwrap(),
                units: number(units),
                limit_units: number(limit_units),
                window_ms: 60_000,
                on_short,
            }
        })
        .collect()
}

fn check_lease(accounts: &str, wanted: &str, valid: bool, expected: Expect) {
    let mut record = record(accounts);
    let before = record.clone();
    let demands = demands(wanted);
    let verdict = decide(&mut record, &demands, valid, NOW_MS, MONO_MS);
    let taken = |r: &Record| r.accounts.iter().map(|a| a.taken).collect::<Vec<_>>();
    let shown = match verdict {
        Verdict::Admit { over: 0 } => format!("admit, taken {:?}", taken(&record)),
        Verdict::Admit { over } => format!("admit, taken {:?}, over {over:b}", taken(&record)),
        Verdict::Ask => "ask".to_owned(),
        Verdict::Refuse(refusal) => show(refusal),
    };
    if !matches!(verdict, Verdict::Admit { .. }) {
        assert_eq!(taken(&record), taken(&before), "a request that does not pass takes nothing");
    }
    expected.assert_eq(&shown);
}

fn show(Refusal { demand, retry_after_ms, never }: Refusal) -> String {
    format!("refuse demand {demand}, retry in {retry_after_ms} ms{}", if never { ", never" } else { "" })
}

fn check(accounts: &str, wanted: &str, expected: Expect) {
    check_lease(accounts, wanted, true, expected);
}

#[test]
fn all_demands_are_taken_together() {
    check("day granted 5; rate granted 2", "0:1/5 1:2/2", expect!["admit, taken [1, 2]"]);
    check("day granted 5; rate granted 1", "0:1/5 1:2/3", expect!["ask"]);
    check(
        "day granted 5; rate granted 2 empty 50001",
        "0:1/5 1:3/3",
        expect!["refuse demand 1, retry in 1000 ms"],
    );
    check("", "0:1/5", expect!["ask"]);
}

#[test]
fn the_first_demand_that_is_refused_for_certain_is_named() {
    check("a granted 0; b granted 3 taken 3", "0:1/5 1:1/3", expect!["refuse demand 1, retry in 60000 ms"]);
    check(
        "a granted 3 taken 3; b granted 3 taken 3",
        "0:1/3 1:1/3",
        expect!["refuse demand 0, retry in 60000 ms"],
    );
    check("a granted 3; b granted 3", "0:4/9 1:4/3", expect!["refuse demand 1, retry in 0 ms, never"]);
}

#[test]
fn what_another_edge_may_have_is_asked_for() {
    check("day granted 2 taken 2", "0:1/5", expect!["ask"]);
    check("day granted 2 taken 2 empty 50001", "0:1/5", expect!["refuse demand 0, retry in 60000 ms"]);
    check("day granted 2 taken 2 empty 50000", "0:1/5", expect!["ask"]);
    check("day granted 2 taken 2 freed 1 empty 50001", "0:1/5", expect!["admit, taken [3]"]);
    check("day granted 5 returned 3 taken 2", "0:1/5", expect!["ask"]);
}

#[test]
fn a_lease_that_ran_out_admits_nothing() {
    check_lease("day granted 5", "0:1/5", false, expect!["ask"]);
    check_lease("day granted 5 taken 5", "0:1/5", false, expect!["ask"]);
    check_lease("day granted 5", "0:6/5", false, expect!["refuse demand 0, retry in 0 ms, never"]);
}

#[test]
fn a_rate_says_when_enough_units_are_free_again() {
    check("rate granted 3 rests 1@50500 rests 2@51000", "0:1/3", expect!["refuse demand 0, retry in 500 ms"]);
    check(
        "rate granted 3 rests 1@50500 rests 2@51000",
        "0:2/3",
        expect!["refuse demand 0, retry in 1000 ms"],
    );
    check("rate granted 3 rests 1@50000 rests 2@51000", "0:1/3", expect!["admit, taken [1]"]);
    check("rate granted 3 rests 3@50001", "0:1/3", expect!["refuse demand 0, retry in 1 ms"]);
}

#[test]
fn a_lowered_maximum_holds_though_more_is_held() {
    check("day granted 100 taken 5", "0:5/10", expect!["admit, taken [10]"]);
    check("day granted 100 taken 10", "0:1/10", expect!["refuse demand 0, retry in 60000 ms"]);
    check("day granted 100 taken 50", "0:1/10", expect!["refuse demand 0, retry in 60000 ms"]);
    // Nine of the twelve that rest must be free before the one fits under the new maximum of four.
    check(
        "rate granted 20 rests 8@50500 rests 4@51000",
        "0:1/4",
        expect!["refuse demand 0, retry in 1000 ms"],
    );
}

#[test]
fn demands_on_the_same_account_add_up() {
    check("day granted 3", "0:2/3 0:1/3", expect!["admit, taken [3]"]);
    check("day granted 3", "0:2/3 0:2/3", expect!["refuse demand 1, retry in 0 ms, never"]);
    check("day granted 9 taken 6", "0:2/9 0:2/9", expect!["refuse demand 1, retry in 60000 ms"]);
    check("day granted 3", "0:2/9 0:2/9", expect!["ask"]);
}

#[test]
fn a_caller_that_has_asked_learns_which_demand_is_short() {
    let check = |accounts: &str, wanted: &str, expected: Expect| {
        expected.assert_eq(&show(refuse(&record(accounts), &demands(wanted), NOW_MS, MONO_MS)));
    };
    check("a granted 3; b granted 0", "0:1/3 1:1/3", expect!["refuse demand 1, retry in 1000 ms"]);
    check("a granted 3; rate granted 1", "0:1/3 1:2/3", expect!["refuse demand 1, retry in 1000 ms"]);
    check("a granted 3", "0:1/3", expect!["refuse demand 0, retry in 1000 ms"]);
    check("a granted 9; b granted 3", "0:1/9 1:2/9 1:2/9", expect!["refuse demand 2, retry in 1000 ms"]);
}

#[test]
fn a_soft_limit_takes_what_is_not_there_and_says_so_once_it_is_certain() {
    check("day granted 5 taken 5", "+0:1/5", expect!["admit, taken [6], over 1"]);
    check("day granted 5 taken 7", "+0:2/5", expect!["admit, taken [9], over 1"]);
    check("day granted 2 taken 2", "+0:1/5", expect!["admit, taken [3]"]);
    check("day granted 2 taken 2 empty 50001", "+0:1/5", expect!["admit, taken [3], over 1"]);
    check("day granted 5", "+0:6/5", expect!["admit, taken [6], over 1"]);
    check_lease("day granted 5", "+0:1/5", false, expect!["admit, taken [1]"]);
    check("a granted 0; b granted 3", "+0:1/5 1:1/3", expect!["admit, taken [1, 1]"]);
    check("a granted 0; b granted 0", "+0:1/5 1:1/3", expect!["ask"]);
    check(
        "a granted 5 taken 5; b granted 3 taken 3",
        "+0:1/5 1:1/3",
        expect!["refuse demand 1, retry in 60000 ms"],
    );
}

#[test]
fn a_limit_that_is_only_watched_refuses_nothing_and_takes_nothing_that_is_not_there() {
    check("day granted 5 taken 4", "?0:1/5", expect!["admit, taken [5]"]);
    check("day granted 5 taken 5", "?0:1/5", expect!["admit, taken [5], over 1"]);
    // Nobody knows, and nobody waits: what is taken is what is asked for with the next report.
    check("day granted 2 taken 2", "?0:1/5", expect!["admit, taken [3]"]);
    check("day granted 2 taken 2 empty 50001", "?0:1/5", expect!["admit, taken [2], over 1"]);
    check(
        "rate granted 3 rests 3@50500; day granted 3",
        "?0:1/3 1:1/3",
        expect!["admit, taken [0, 1], over 1"],
    );
    check("day granted 3", "?0:4/3 0:3/3", expect!["admit, taken [3], over 1"]);
    check_lease("day granted 5 taken 5", "?0:1/5", false, expect!["admit, taken [6]"]);
}

#[test]
fn a_bucket_says_when_enough_has_come_back() {
    check("bucket granted 10 owed 9", "0:1/10", expect!["admit, taken [1]"]);
    check("bucket granted 10 owed 10", "0:1/10", expect!["refuse demand 0, retry in 1000 ms"]);
    check("bucket granted 10 owed 10", "0:4/10", expect!["refuse demand 0, retry in 4000 ms"]);
    check("bucket granted 5 owed 5", "0:1/10", expect!["ask"]);
    check("bucket granted 5 owed 5 empty 50001", "0:1/10", expect!["refuse demand 0, retry in 2000 ms"]);
    check("bucket granted 5 empty 50001", "0:6/10", expect!["refuse demand 0, retry in 1000 ms"]);
    check("bucket granted 20 owed 10", "0:1/10", expect!["refuse demand 0, retry in 1000 ms"]);
}

#[test]
fn requests_in_flight_and_capacities_do_not_say_when() {
    check("flight granted 3 rests 3@90000", "0:1/3", expect!["refuse demand 0, retry in 1000 ms"]);
    check("flight granted 1 rests 1@90000", "0:1/3", expect!["ask"]);
    check("rooms granted 3 taken 3 empty 50001", "0:1/3", expect!["refuse demand 0, retry in 0 ms"]);
    // Others may have released what this edge added.
    check("rooms granted 3 taken 3", "0:1/3", expect!["ask"]);
    check("rooms granted 5 taken 3", "0:2/3", expect!["admit, taken [5]"]);
}

#[test]
fn an_admitted_request_learns_what_remains_and_when_more_comes() {
    let check = |accounts: &str, expected: Expect| {
        let (mut record, demand) = (record(accounts), demands("0:1/10")[0]);
        record.accounts[0].unleased = 2;
        let left = Admission::of(&record.accounts[0], &demand, NOW_MS, MONO_MS);
        expected.assert_eq(&format!("{} left, more in {} ms", left.remaining, left.reset_ms));
    };
    check("day granted 5 taken 2", expect!["5 left, more in 60000 ms"]);
    check("rate granted 5 rests 2@50500", expect!["5 left, more in 500 ms"]);
    check("bucket granted 5 owed 2", expect!["5 left, more in 4000 ms"]);
    check("flight granted 5 rests 2@50500", expect!["5 left, more in 0 ms"]);
    check("rooms granted 5 taken 2", expect!["5 left, more in 0 ms"]);
    check("rooms granted 50 taken 2", expect!["10 left, more in 0 ms"]);
}

#[test]
fn extreme_numbers_do_no_harm() {
    let most = u64::MAX;
    let accounts = format!("day granted {most} taken {most}; rate granted {most} rests {most}@{most}");
    check(
        &accounts,
        &format!("0:{most}/{most} 1:{most}/{most}"),
        expect!["refuse demand 0, retry in 60000 ms"],
    );
    check(&accounts, &format!("1:1/{most}"), expect!["refuse demand 0, retry in 18446744073709501615 ms"]);
    check("day granted 3 taken 3", "0:0/3", expect!["admit, taken [3]"]);
}
