//! Things by example: what comes and goes, more than once and out of order.

use expect_test::{Expect, expect};

use super::*;

/// Hears reports one after the other, each written as `+ID UNITS@SEQ` and `-ID@SEQ`, separated by commas; shows what each sets
/// free, and what is there in the end.
fn check(reports: &[&str], expected: Expect) {
    let (mut things, mut seq, mut said) = (Things::new(), 0, Vec::new());
    for report in reports {
        let event = |text: &str| {
            let (what, seq) = text.split_once('@').unwrap();
            let (id, units) = what[1..].split_once(' ').unwrap_or((&what[1..], "0"));
            let (seq, units) = (seq.parse().unwrap(), units.parse().unwrap());
            let (meter, id) = ("rooms".to_owned(), ThingId::of(id.as_bytes()));
            ThingReport { seq, meter, id, units, present: what.starts_with('+') }
        };
        let events: Vec<_> = report.split(", ").map(event).collect();
        let applied = apply_things(&mut things, seq, &events);
        seq = applied.seq;
        said.push(format!("{:?} until {seq}", applied.released.get("rooms").copied().unwrap_or(0)));
    }
    let there: Vec<u64> = things.into_values().collect();
    expected.assert_eq(&format!("{}; there {there:?}", said.join(", ")));
}

#[test]
fn a_thing_is_released_once() {
    check(&["+a 2@1, -a@2, -a@3"], expect!["2 until 3; there []"]);
    check(&["-a@1", "+a 2@2"], expect!["0 until 1, 0 until 2; there [2]"]);
}

#[test]
fn what_is_added_though_it_is_there_replaces_it() {
    check(&["+a 2@1", "+a 3@2"], expect!["0 until 1, 2 until 2; there [3]"]);
}

#[test]
fn a_repeated_or_late_report_changes_nothing() {
    check(
        &["+a 2@1, -a@2, +a 2@3", "+a 2@1, -a@2", "-a@2"],
        expect!["2 until 3, 0 until 3, 0 until 3; there [2]"],
    );
    check(&["+a 2@1", "+a 2@1, -a@2"], expect!["0 until 1, 2 until 2; there []"]);
}

#[test]
fn extreme_numbers_do_no_harm() {
    let most = u64::MAX;
    check(
        &[&format!("+a {most}@1, +b {most}@2, -a@3, -b@{most}, +a 1@{most}")],
        expect!["18446744073709551615 until 18446744073709551615; there []"],
    );
}
