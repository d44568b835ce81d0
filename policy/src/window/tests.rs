//! Windows, by example where clocks are set, and by property everywhere.

mod properties;

use expect_test::{Expect, expect};

use super::*;

fn period(name: &str, zone: &str) -> Period {
    let zone = (!["billing_month", "lifetime"].contains(&name)).then_some(zone);
    Period::new(name, zone).unwrap()
}

fn ms(text: &str) -> i64 {
    text.parse::<Timestamp>().unwrap().as_millisecond()
}

fn shown(period: &Period, moment_ms: i64) -> String {
    let zone = match period {
        Period::Hour(zone)
        | Period::Day(zone)
        | Period::Week(zone)
        | Period::Month(zone)
        | Period::Year(zone) => zone.clone(),
        Period::BillingMonth | Period::Lifetime => TimeZone::UTC,
    };
    timestamp(moment_ms).to_zoned(zone).strftime("%F %T%:z").to_string()
}

/// Shows the windows one after another from the one that contains `from`, each by its start and length in minutes.
fn check(name: &str, zone: &str, from: &str, count: usize, expected: Expect) {
    let period = period(name, zone);
    let mut now_ms = ms(from);
    let mut lines = String::new();
    for _ in 0..count {
        let window = period.window_at(now_ms, 0);
        let minutes = (window.end_ms - window.start_ms) as f64 / 60_000.0;
        lines += &format!("{} for {minutes}\n", shown(&period, window.start_ms));
        now_ms = window.end_ms;
    }
    expected.assert_eq(&lines);
}

/// Shows the starts of billing months around `now`.
fn check_billing(anchor: &str, now: &str, count: usize, expected: Expect) {
    let mut now_ms = ms(now);
    let mut lines = String::new();
    for _ in 0..count {
        let window = Period::BillingMonth.window_at(now_ms, ms(anchor));
        lines += &format!("{}\n", shown(&Period::BillingMonth, window.start_ms));
        now_ms = window.end_ms;
    }
    expected.assert_eq(&lines);
}

#[test]
fn days_where_clocks_are_set_have_23_and_25_hours() {
    check(
        "day",
        "Europe/Berlin",
        "2026-03-28T12:00:00Z",
        3,
        expect![[r#"
        2026-03-28 00:00:00+01:00 for 1440
        2026-03-29 00:00:00+01:00 for 1380
        2026-03-30 00:00:00+02:00 for 1440
    "#]],
    );
    check(
        "day",
        "Europe/Berlin",
        "2026-10-24T12:00:00Z",
        3,
        expect![[r#"
        2026-10-24 00:00:00+02:00 for 1440
        2026-10-25 00:00:00+02:00 for 1500
        2026-10-26 00:00:00+01:00 for 1440
    "#]],
    );
    check(
        "day",
        "UTC",
        "2026-03-28T23:59:59.999Z",
        2,
        expect![[r#"
        2026-03-28 00:00:00+00:00 for 1440
        2026-03-29 00:00:00+00:00 for 1440
    "#]],
    );
}

#[test]
fn a_day_that_lacks_its_midnight_starts_when_clocks_are_set() {
    check(
        "day",
        "America/Sao_Paulo",
        "2018-11-03T12:00:00Z",
        3,
        expect![[r#"
        2018-11-03 00:00:00-03:00 for 1440
        2018-11-04 01:00:00-02:00 for 1380
        2018-11-05 00:00:00-02:00 for 1440
    "#]],
    );
    // Set forward from 23:30 to 00:30: the day starts half an hour late, not a whole one.
    check(
        "day",
        "America/Toronto",
        "1919-03-30T12:00:00Z",
        3,
        expect![[r#"
        1919-03-30 00:00:00-05:00 for 1410
        1919-03-31 00:30:00-04:00 for 1410
        1919-04-01 00:00:00-04:00 for 1440
    "#]],
    );
}

#[test]
fn a_midnight_that_comes_twice_starts_one_day() {
    check(
        "day",
        "America/Havana",
        "2026-10-31T12:00:00Z",
        3,
        expect![[r#"
        2026-10-31 00:00:00-04:00 for 1440
        2026-11-01 00:00:00-04:00 for 1500
        2026-11-02 00:00:00-05:00 for 1440
    "#]],
    );
    // Set back at 00:01 to 23:01 of the day before: at 23:30 the next day goes on.
    check(
        "day",
        "America/Goose_Bay",
        "2010-11-07T03:30:00Z",
        1,
        expect![[r#"
        2010-11-07 00:00:00-03:00 for 1500
    "#]],
    );
    check(
        "day",
        "America/Goose_Bay",
        "2010-11-06T12:00:00Z",
        3,
        expect![[r#"
        2010-11-06 00:00:00-03:00 for 1440
        2010-11-07 00:00:00-03:00 for 1500
        2010-11-08 00:00:00-04:00 for 1440
    "#]],
    );
}

#[test]
fn a_date_that_a_zone_skipped_has_no_window() {
    check(
        "day",
        "Pacific/Apia",
        "2011-12-29T12:00:00Z",
        3,
        expect![[r#"
        2011-12-29 00:00:00-10:00 for 1440
        2011-12-31 00:00:00+14:00 for 1440
        2012-01-01 00:00:00+14:00 for 1440
    "#]],
    );
}

#[test]
fn hours_follow_the_zones_clock() {
    check(
        "hour",
        "Asia/Kolkata",
        "2026-01-01T00:00:00Z",
        2,
        expect![[r#"
        2026-01-01 05:00:00+05:30 for 60
        2026-01-01 06:00:00+05:30 for 60
    "#]],
    );
    check(
        "hour",
        "Asia/Kathmandu",
        "2026-01-01T00:00:00Z",
        2,
        expect![[r#"
        2026-01-01 05:00:00+05:45 for 60
        2026-01-01 06:00:00+05:45 for 60
    "#]],
    );
}

#[test]
fn an_hour_that_the_clock_shows_twice_is_two_hours() {
    check(
        "hour",
        "Europe/Berlin",
        "2026-10-24T23:30:00Z",
        4,
        expect![[r#"
        2026-10-25 01:00:00+02:00 for 60
        2026-10-25 02:00:00+02:00 for 60
        2026-10-25 02:00:00+01:00 for 60
        2026-10-25 03:00:00+01:00 for 60
    "#]],
    );
    check(
        "hour",
        "Europe/Berlin",
        "2026-03-29T00:30:00Z",
        3,
        expect![[r#"
        2026-03-29 01:00:00+01:00 for 60
        2026-03-29 03:00:00+02:00 for 60
        2026-03-29 04:00:00+02:00 for 60
    "#]],
    );
}

#[test]
fn half_an_hour_that_clocks_are_set_by_is_a_short_window() {
    check(
        "hour",
        "Australia/Lord_Howe",
        "2026-04-04T14:00:00Z",
        4,
        expect![[r#"
        2026-04-05 01:00:00+11:00 for 60
        2026-04-05 01:30:00+10:30 for 30
        2026-04-05 02:00:00+10:30 for 60
        2026-04-05 03:00:00+10:30 for 60
    "#]],
    );
    check(
        "hour",
        "Australia/Lord_Howe",
        "2026-10-03T14:30:00Z",
        4,
        expect![[r#"
        2026-10-04 01:00:00+10:30 for 60
        2026-10-04 02:30:00+11:00 for 30
        2026-10-04 03:00:00+11:00 for 60
        2026-10-04 04:00:00+11:00 for 60
    "#]],
    );
}

#[test]
fn months_start_at_the_zones_midnight() {
    check(
        "month",
        "America/New_York",
        "2024-02-10T00:00:00Z",
        3,
        expect![[r#"
        2024-02-01 00:00:00-05:00 for 41760
        2024-03-01 00:00:00-05:00 for 44580
        2024-04-01 00:00:00-04:00 for 43200
    "#]],
    );
    check(
        "month",
        "Asia/Tokyo",
        "2025-12-31T15:00:00Z",
        2,
        expect![[r#"
        2026-01-01 00:00:00+09:00 for 44640
        2026-02-01 00:00:00+09:00 for 40320
    "#]],
    );
    check(
        "month",
        "Asia/Tokyo",
        "2025-12-31T14:59:59.999Z",
        1,
        expect![[r#"
        2025-12-01 00:00:00+09:00 for 44640
    "#]],
    );
}

#[test]
fn weeks_start_on_monday_at_the_zones_midnight() {
    check(
        "week",
        "UTC",
        "2026-01-01T00:00:00Z",
        3,
        expect![[r#"
        2025-12-29 00:00:00+00:00 for 10080
        2026-01-05 00:00:00+00:00 for 10080
        2026-01-12 00:00:00+00:00 for 10080
    "#]],
    );
    check(
        "week",
        "Europe/Berlin",
        "2026-03-29T21:59:59.999Z",
        2,
        expect![[r#"
        2026-03-23 00:00:00+01:00 for 10020
        2026-03-30 00:00:00+02:00 for 10080
    "#]],
    );
    check(
        "week",
        "Europe/Berlin",
        "2026-10-19T12:00:00Z",
        2,
        expect![[r#"
        2026-10-19 00:00:00+02:00 for 10140
        2026-10-26 00:00:00+01:00 for 10080
    "#]],
    );
    // Its Sunday has its midnight twice.
    check(
        "week",
        "America/Havana",
        "2026-10-31T12:00:00Z",
        2,
        expect![[r#"
        2026-10-26 00:00:00-04:00 for 10140
        2026-11-02 00:00:00-05:00 for 10080
    "#]],
    );
}

#[test]
fn years_start_at_the_zones_midnight() {
    check(
        "year",
        "UTC",
        "2023-12-31T23:59:59.999Z",
        3,
        expect![[r#"
        2023-01-01 00:00:00+00:00 for 525600
        2024-01-01 00:00:00+00:00 for 527040
        2025-01-01 00:00:00+00:00 for 525600
    "#]],
    );
    check(
        "year",
        "Asia/Tokyo",
        "2025-12-31T15:00:00Z",
        1,
        expect![[r#"
        2026-01-01 00:00:00+09:00 for 525600
    "#]],
    );
    check(
        "year",
        "America/New_York",
        "2026-01-01T04:59:59.999Z",
        1,
        expect![[r#"
        2025-01-01 00:00:00-05:00 for 525600
    "#]],
    );
}

#[test]
fn a_lifetime_is_one_window() {
    let lifetime = Window { start_ms: 0, end_ms: i64::MAX - 1 };
    for now_ms in [i64::MIN, CALENDAR_START_MS, -1, 0, CALENDAR_END_MS, i64::MAX] {
        assert_eq!(Period::Lifetime.window_at(now_ms, now_ms), lifetime);
    }
}

#[test]
fn a_billing_month_from_the_31st_does_not_drift() {
    check_billing(
        "2026-01-31T10:20:30Z",
        "2026-01-31T10:20:30Z",
        5,
        expect![[r#"
        2026-01-31 10:20:30+00:00
        2026-02-28 10:20:30+00:00
        2026-03-31 10:20:30+00:00
        2026-04-30 10:20:30+00:00
        2026-05-31 10:20:30+00:00
    "#]],
    );
    check_billing(
        "2024-01-30T00:00:00Z",
        "2024-02-10T00:00:00Z",
        4,
        expect![[r#"
        2024-01-30 00:00:00+00:00
        2024-02-29 00:00:00+00:00
        2024-03-30 00:00:00+00:00
        2024-04-30 00:00:00+00:00
    "#]],
    );
}

#[test]
fn a_billing_month_from_a_leap_day_returns_to_it() {
    check_billing(
        "2024-02-29T00:00:00Z",
        "2025-01-30T00:00:00Z",
        3,
        expect![[r#"
        2025-01-29 00:00:00+00:00
        2025-02-28 00:00:00+00:00
        2025-03-29 00:00:00+00:00
    "#]],
    );
    check_billing(
        "2024-02-29T00:00:00Z",
        "2028-02-20T00:00:00Z",
        2,
        expect![[r#"
        2028-01-29 00:00:00+00:00
        2028-02-29 00:00:00+00:00
    "#]],
    );
}

#[test]
fn billing_months_reach_back_before_their_anchor() {
    check_billing(
        "2026-05-31T12:00:00Z",
        "2025-02-28T11:59:59.999Z",
        3,
        expect![[r#"
        2025-01-31 12:00:00+00:00
        2025-02-28 12:00:00+00:00
        2025-03-31 12:00:00+00:00
    "#]],
    );
}

#[test]
fn a_zone_has_one_meaning_however_it_is_spelled() {
    assert_eq!(Period::new("day", Some("UTC")), Period::new("day", None));
    assert_eq!(period("day", "europe/berlin"), period("day", "Europe/Berlin"));
    assert_ne!(period("day", "Europe/Paris"), period("day", "Europe/Berlin"));
}

#[test]
fn time_outside_the_calendar_is_one_window_on_each_side() {
    for name in ["hour", "day", "week", "month", "year", "billing_month"] {
        let period = period(name, "UTC");
        let before = Window { start_ms: i64::MIN, end_ms: CALENDAR_START_MS };
        let after = Window { start_ms: CALENDAR_END_MS, end_ms: i64::MAX };
        assert_eq!(period.window_at(i64::MIN, i64::MAX), before);
        assert_eq!(period.window_at(CALENDAR_START_MS - 1, i64::MIN), before);
        assert_eq!(period.window_at(CALENDAR_START_MS, i64::MIN).start_ms, CALENDAR_START_MS);
        assert_eq!(period.window_at(CALENDAR_END_MS - 1, i64::MAX).end_ms, CALENDAR_END_MS);
        assert_eq!(period.window_at(CALENDAR_END_MS, 0), after);
        assert_eq!(period.window_at(i64::MAX, i64::MIN), after);
    }
}
