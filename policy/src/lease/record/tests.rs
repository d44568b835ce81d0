//! A record of one subject: what is counted, what a merge may change, and what may be forgotten.

use expect_test::{Expect, expect};

use super::*;
use crate::subscription::{Subscription, SubscriptionState};
use crate::wire::{AccountAnswer, AccountReport};

const LINGER_MS: i64 = 300_000;

fn new() -> Record {
    Record::new("user:alice", SessionId::default(), 0)
}

fn show_usage(record: &Record) -> String {
    let show = |u: &Usage| format!("{} {}h {}-{}", u.meter, u.hour_ms / HOUR_MS, u.taken, u.freed);
    record.usage.iter().map(show).collect::<Vec<_>>().join("; ")
}

/// Counts and takes back, written as `+METER UNITS MS` and `-METER UNITS MS`.
fn check_usage(steps: &str, expected: Expect) {
    let mut record = new();
    for step in steps.split("; ") {
        let words: Vec<&str> = step[1..].split(' ').collect();
        let (units, moment_ms) = (words[1].parse().unwrap(), words[2].parse().unwrap());
        if step.starts_with('+') {
            record.count(words[0], "", units, moment_ms);
        } else {
            record.uncount(words[0], "", units, moment_ms);
        }
    }
    expected.assert_eq(&show_usage(&record));
}

#[test]
fn usage_is_counted_by_meter_and_hour() {
    check_usage("+calls 1 0; +calls 2 3599999; +calls 4 3600000", expect!["calls 0h 3-0; calls 1h 4-0"]);
    check_usage("+calls 1 0; +tokens 9 0; +calls 1 1", expect!["calls 0h 2-0; tokens 0h 9-0"]);
    check_usage("+calls 1 -1; +calls 1 -3600000", expect!["calls -1h 2-0"]);
    check_usage("+calls 1 3600000; +calls 1 3599999", expect!["calls 1h 1-0; calls 0h 1-0"]);
}

#[test]
fn a_refund_is_counted_in_the_hour_of_the_request() {
    check_usage(
        "+calls 3 3599999; +calls 1 3600000; -calls 2 3599999",
        expect!["calls 0h 3-2; calls 1h 1-0"],
    );
    check_usage("+calls 3 0; -calls 9 0", expect!["calls 0h 3-3"]);
    check_usage("+calls 3 0; -tokens 1 0; -calls 1 3600000", expect!["calls 0h 3-0"]);
    check_usage(
        "+calls 18446744073709551615 0; +calls 1 9223372036854775807; +calls 1 -9223372036854775808",
        expect!["calls 0h 18446744073709551615-0; calls 2562047788015h 1-0; calls -2562047788015h 1-0"],
    );
}

fn account(limit: &str, window_end_ms: i64, [granted, returned, taken, freed]: [u64; 4]) -> Account {
    let kind = if window_end_ms == i64::MAX { AccountKind::Rate } else { AccountKind::Quota };
    let new = Account::new(limit, kind, Window { start_ms: 0, end_ms: window_end_ms });
    Account { granted, returned, taken, freed, ..new }
}

/// Forgets in a record with a quota's account until 1 h, a rate's, and usage of hour 0, all of which have been told but
/// for what `change` does; shows what is left.
fn check_forget(now_ms: i64, change: impl Fn(&mut Record), expected: Expect) {
    let mut record = new();
    record.accounts.push(account("day", HOUR_MS, [5, 1, 3, 1]));
    record.accounts.push(account("rate", i64::MAX, [5, 5, 3, 0]));
    record.count("calls", "", 3, 0);
    let told = record.report(|_| 0);
    assert!(record.is_told(&told));
    change(&mut record);
    let is_told = record.is_told(&told);
    record.forget_told(&told, now_ms);
    let left: Vec<&str> = record.accounts.iter().map(|a| &*a.limit).collect();
    let told = if is_told { "told" } else { "untold" };
    expected.assert_eq(&format!("{told}: {}; {}", left.join(" "), show_usage(&record)));
}

#[test]
fn only_what_is_over_and_told_is_forgotten() {
    let over_ms = HOUR_MS + LINGER_MS;
    check_forget(over_ms, |_| (), expect!["told: rate; "]);
    check_forget(i64::MAX - 1, |_| (), expect!["told: rate; "]);
    check_forget(over_ms - 1, |_| (), expect!["told: day rate; calls 0h 3-0"]);
    check_forget(over_ms, |r| r.accounts[0].taken += 1, expect!["untold: day rate; "]);
    check_forget(over_ms, |r| r.accounts[0].freed += 1, expect!["untold: day rate; "]);
    check_forget(over_ms, |r| r.accounts[0].returned += 1, expect!["untold: day rate; "]);
    check_forget(over_ms, |r| r.accounts[1].returned += 1, expect!["untold: rate; "]);
    check_forget(over_ms, |r| r.count("calls", "", 1, 0), expect!["untold: rate; calls 0h 4-0"]);
    let uncount = |record: &mut Record| {
        record.uncount("calls", "", 1, 0);
    };
    check_forget(over_ms, uncount, expect!["untold: rate; calls 0h 3-1"]);
    check_forget(over_ms, |r| r.count("tokens", "", 1, 0), expect!["untold: rate; tokens 0h 1-0"]);
}

#[test]
fn a_record_is_idle_when_nothing_is_held_rests_or_is_counted() {
    let check = |account: Account, mono_ms: u64, expected: bool| {
        let mut record = new();
        record.accounts.push(account);
        assert_eq!(record.is_idle(mono_ms), expected, "{record:?}");
        record.count("calls", "", 1, 0);
        assert!(!record.is_idle(mono_ms));
    };
    check(account("day", 9, [5, 2, 3, 0]), 0, true);
    check(account("day", 9, [5, 2, 3, 1]), 0, false);
    check(account("rate", i64::MAX, [5, 5, 9, 0]), 0, true);
    check(account("rate", i64::MAX, [5, 4, 9, 0]), 0, false);
    let mut resting = account("rate", i64::MAX, [5, 5, 9, 0]);
    resting.rest.add(0, 1, 60_000, 5);
    check(resting.clone(), 59_999, false);
    check(resting, 60_000, true);
}

fn subscribed(tier: &str) -> Option<Subscription> {
    let state = SubscriptionState::Active;
    let tier = tier.to_owned();
    Some(Subscription { tier, state, ..Subscription::default() })
}

fn answer(subscription: Option<Subscription>, revision: u64, accounts: Vec<AccountAnswer>) -> SubjectAnswer {
    SubjectAnswer {
        subject: "user:alice".to_owned(),
        entitlements: Some(Entitlements { subscription, ..Entitlements::default() }),
        revision,
        things_seq: 0,
        accounts,
    }
}

fn exhausted(limit: &str) -> AccountAnswer {
    AccountAnswer {
        limit: limit.to_owned(),
        window: 0,
        end: None,
        granted: 5,
        returned: 0,
        taken: 5,
        freed: 0,
        removed: 0,
        unleased: 0,
        pending: false,
        recall: false,
    }
}

/// Merges answers of a tier (or none) and a revision, one after the other, and shows what the record then knows.
fn check_subscription(answers: &[(Option<&str>, u64)], expected: Expect) {
    let mut record = new();
    let report = record.report(|_| 0);
    for (tier, revision) in answers {
        record.merge(&report, &answer(tier.and_then(subscribed), *revision, vec![]), 0, 0);
    }
    let tier = record.parse_entitlements().subscription.map_or("none".to_owned(), |s| s.tier);
    expected.assert_eq(&format!("{tier} at {}", record.revision));
}

#[test]
fn a_late_answer_does_not_bring_an_older_subscription_back() {
    check_subscription(&[(Some("pro"), 2), (Some("free"), 1)], expect!["pro at 2"]);
    check_subscription(&[(Some("free"), 1), (Some("pro"), 2)], expect!["pro at 2"]);
    check_subscription(&[(Some("pro"), 1), (None, 2), (Some("pro"), 1)], expect!["none at 2"]);
    check_subscription(&[(None, 0), (Some("pro"), 1)], expect!["pro at 1"]);
    check_subscription(&[], expect!["none at 0"]);
}

#[test]
fn a_changed_subscription_makes_the_edge_ask_again() {
    let mut record = new();
    record.accounts.push(account("day", i64::MAX - 1, [5, 0, 5, 0]));
    let report = record.report(|_| 1);
    record.merge(&report, &answer(None, 0, vec![exhausted("day")]), 1_000, 1_050);
    assert_eq!(record.accounts[0].empty_until_ms, 2_000);
    // The same answer again, and one that nobody asked for, change nothing.
    record.merge(
        &record.report(|_| 0),
        &answer(None, 0, vec![exhausted("day"), exhausted("other")]),
        1_500,
        1_550,
    );
    assert_eq!((record.accounts.len(), record.accounts[0].empty_until_ms), (1, 2_000));
    record.merge(&report, &answer(subscribed("pro"), 1, vec![exhausted("day")]), 1_600, 1_650);
    assert_eq!(record.accounts[0].empty_until_ms, 0);
    assert!(record.known);
}

#[test]
fn a_report_is_absolute_and_leaves_out_what_is_empty() {
    let mut record = new();
    record.accounts.push(account("day", 9, [5, 1, 3, 1]));
    let report = record.report(|_| 2);
    let limit = "day".to_owned();
    let expected = AccountReport { limit, window: 0, taken: 3, freed: 1, removed: 0, returned: 1, want: 7 };
    assert_eq!(report.accounts, [expected]);
    assert_eq!((report.tier_claim, report.usage), (None, vec![]));
    record.accounts[0].granted = u64::MAX;
    assert_eq!(record.report(|_| 9).accounts[0].want, u64::MAX);
}

#[test]
fn entitlements_that_the_edge_knows_are_not_told_again() {
    let mut record = new();
    assert_eq!(record.report(|_| 0).revision, None);
    record.merge(&record.report(|_| 0), &answer(subscribed("pro"), 3, vec![]), 0, 0);
    assert_eq!(record.report(|_| 0).revision, Some(3));
    let left_out = SubjectAnswer { entitlements: None, ..answer(None, 3, vec![]) };
    record.merge(&record.report(|_| 0), &left_out, 0, 0);
    assert_eq!((record.known, record.parse_entitlements().subscription), (true, subscribed("pro")));
    // An answer that leaves them out says nothing to a record that was made anew.
    let mut record = new();
    record.merge(&record.report(|_| 0), &left_out, 0, 0);
    assert!(!record.known);
}

#[test]
fn a_bypass_ends_at_its_moment() {
    let mut record = new();
    let entitlements = Entitlements { bypass_until_ms: Some(5), ..Entitlements::default() };
    let told = SubjectAnswer { entitlements: Some(entitlements.clone()), ..answer(None, 1, vec![]) };
    record.merge(&record.report(|_| 0), &told, 0, 0);
    assert_eq!(record.parse_entitlements(), entitlements);
    assert!(entitlements.bypasses(4) && !entitlements.bypasses(5));
}

#[test]
fn a_thing_is_told_until_it_is_confirmed() {
    let mut record = new();
    let id = ThingId::of(b"main");
    let seqs = |record: &Record| record.report(|_| 0).things.iter().map(|t| t.seq).collect::<Vec<_>>();
    assert!(record.note_thing("rooms", id, 2, true, 7));
    assert!(record.note_thing("rooms", id, 0, false, 7));
    assert_eq!(seqs(&record), [7_000, 7_001]);
    assert!(!record.is_told(&record.report(|_| 0)), "not before it is confirmed");
    let confirms = |things_seq| SubjectAnswer { things_seq, ..answer(None, 0, vec![]) };
    record.merge(&record.report(|_| 0), &confirms(7_000), 0, 0);
    assert_eq!(seqs(&record), [7_001]);
    record.merge(&record.report(|_| 0), &confirms(7_001), 0, 0);
    assert!(seqs(&record).is_empty() && record.is_told(&record.report(|_| 0)));
    // A record that is made anew goes on where the one before ended, whatever it was told.
    let mut record = new();
    assert!(record.note_thing("rooms", id, 2, true, 8));
    assert_eq!(seqs(&record), [8_000]);
    record.merge(&record.report(|_| 0), &confirms(9_500), 0, 0);
    assert!(record.note_thing("rooms", id, 2, true, 8));
    assert_eq!(seqs(&record), [9_501]);
}

#[test]
fn things_that_wait_to_be_told_are_bounded() {
    let mut record = new();
    let noted = (0..300).filter(|_| record.note_thing("rooms", ThingId::of(b"a"), 1, true, 0)).count();
    assert_eq!((noted, record.things.len()), (THINGS_MAX, THINGS_MAX));
}

#[test]
fn a_session_is_shown_as_32_hex_digits() {
    let mut id = [0; 16];
    id[0] = 0xAB;
    id[15] = 1;
    assert_eq!(SessionId(id).to_string(), "ab000000000000000000000000000001");
}

fn show_labels(record: &Record) -> String {
    let show = |u: &Usage| format!("{}[{}] {}-{}", u.meter, u.labels, u.taken, u.freed);
    record.usage.iter().map(show).collect::<Vec<_>>().join("; ")
}

#[test]
fn usage_is_told_apart_by_its_labels() {
    let mut record = new();
    record.count("tokens", "model=a", 5, 0);
    record.count("tokens", "model=b", 7, 1);
    record.count("tokens", "model=a", 1, 2);
    record.count("tokens", "", 3, 3);
    assert_eq!(record.uncount("tokens", "model=b", 2, 4), 2);
    assert_eq!(record.uncount("tokens", "model=c", 2, 4), 0);
    expect!["tokens[model=a] 6-0; tokens[model=b] 7-2; tokens[] 3-0"].assert_eq(&show_labels(&record));
    let told: Vec<String> = record.report(|_| 0).usage.into_iter().map(|usage| usage.labels).collect();
    assert_eq!(told, ["model=a", "model=b", ""]);
}

#[test]
fn what_has_too_many_labels_is_counted_together_and_taken_back_from_there() {
    let mut record = new();
    for number in 0..LABEL_TEXTS_MAX + 10 {
        record.count("tokens", &format!("model={number}&route=r"), 2, 0);
    }
    assert_eq!(record.usage.len(), LABEL_TEXTS_MAX + 1);
    let others =
        |record: &Record| record.usage.last().map(|u| (u.labels.to_string(), u.taken, u.freed)).unwrap();
    assert_eq!(others(&record), ("model=*&route=*".to_owned(), 20, 0));
    assert_eq!(record.uncount("tokens", "model=40&route=r", 2, 0), 2);
    assert_eq!(others(&record).2, 2);
    // Another meter, and another hour, have a room of their own.
    record.count("calls", "model=x", 1, 0);
    record.count("tokens", "model=40&route=r", 1, HOUR_MS);
    expect!["calls[model=x] 1-0; tokens[model=40&route=r] 1-0"]
        .assert_eq(&show_labels(&Record { usage: record.usage.split_off(LABEL_TEXTS_MAX + 1), ..new() }));
}

#[test]
fn labels_that_callers_choose_fill_no_bucket() {
    let mut record = new();
    for number in 0..40_i64 {
        for meter in ["a", "b", "c", "d", "e"] {
            for text in 0..40 {
                let labels = format!("model={number}-{text}-{}", "x".repeat(230));
                record.count(meter, &labels, 1, number * HOUR_MS);
            }
        }
    }
    let texts: usize = record.usage.iter().map(|usage| usage.labels.len()).sum();
    // What is counted together has an entry of its own for each meter and hour, as what has no labels has.
    assert!(texts <= LABELLED_BYTES_MAX + 40 * 5 * "model=*".len(), "{texts}");
    let counted: u64 = record.usage.iter().map(|usage| usage.taken).sum();
    assert_eq!(counted, 40 * 5 * 40, "nothing is lost");
}
