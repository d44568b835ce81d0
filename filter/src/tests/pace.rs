//! How often busy subjects are reported when there are many of them.

use std::collections::BTreeMap;

use super::*;

/// In a second more of them are busy than one sync holds.
const USERS: usize = 1_200;

/// Everybody sends a request every two seconds, `pro` sends many; who was reported how often after the first seconds.
fn reports(users: usize) -> BTreeMap<String, usize> {
    let mut w = world(&daily(100_000));
    w.plane.subscribe("user:pro", Some(subscription("pro")));
    let names: Vec<String> = (1..users).map(|n| format!("u{n}")).chain(["pro".to_owned()]).collect();
    let tokens: Vec<Headers> = names.iter().map(|name| headers("/x", &token(name))).collect();
    let mut used = vec![0_u64; users];
    let mut owed_since: Vec<Option<i64>> = vec![None; users];
    for quarter in 0..96 {
        for (at, name) in names.iter().enumerate() {
            let count = if name == "pro" { 10 } else { 1 };
            for _ in 0..if quarter % 8 == at % 8 { count } else { 0 } {
                let sending = w.send(0, tokens[at].clone());
                assert_eq!(w.settle(sending, 200), "pass");
                used[at] += 1;
                owed_since[at].get_or_insert(w.now_ms());
            }
        }
        w.run(250);
        for (at, name) in names.iter().enumerate() {
            if w.plane.billed(&format!("user:{name}"), "calls") == used[at] {
                owed_since[at] = None;
            }
            let owed_ms = owed_since[at].map_or(0, |since_ms| w.now_ms() - since_ms);
            assert!(owed_ms <= 10_000, "{name}: used {owed_ms} ms ago and not reported");
        }
        if quarter == 24 {
            w.plane.syncs.clear();
        }
    }
    let mut reports = BTreeMap::new();
    for report in w.plane.syncs.iter().flat_map(|sync| &sync.subjects) {
        *reports.entry(report.subject.clone()).or_default() += 1;
    }
    reports
}

#[test]
fn who_has_plenty_is_reported_seldom_while_many_are_busy_and_within_ten_seconds() {
    let reports = reports(USERS);
    assert_eq!(reports.len(), USERS);
    let sum: usize = reports.values().sum();
    assert!(sum <= 3 * USERS, "{sum} reports in 18 s, with nine requests of each");
    assert!(reports["user:pro"] >= 7, "{reports:?}");
}

#[test]
fn few_subjects_are_reported_as_soon_as_they_are_used() {
    let reports = reports(5);
    assert!(reports.values().all(|count| *count >= 8), "{reports:?}");
}
