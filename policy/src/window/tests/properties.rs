//! What holds at every moment in every zone.

use proptest::prelude::*;

use super::*;

const ZONES: &[&str] = &[
    "UTC",
    "Europe/Berlin",
    "Europe/Dublin",
    "America/New_York",
    "America/Sao_Paulo",
    "America/Havana",
    "America/Goose_Bay",
    "America/St_Johns",
    "America/Toronto",
    "America/Juneau",
    "Asia/Kolkata",
    "Asia/Kathmandu",
    "Asia/Manila",
    "Africa/Casablanca",
    "Africa/Monrovia",
    "Antarctica/Troll",
    "Antarctica/Casey",
    "Australia/Lord_Howe",
    "Pacific/Apia",
    "Pacific/Chatham",
    "Pacific/Kwajalein",
];

fn cases() -> impl Strategy<Value = (Period, i64)> {
    (
        prop::sample::select(vec!["hour", "day", "week", "month", "year", "billing_month"]),
        prop::sample::select(ZONES),
    )
        .prop_flat_map(|(name, zone)| (Just(period(name, zone)), moments(zone)))
}

/// Moments of every age, most of them of the years that systems live in, many of them next to a change of the zone's clocks.
fn moments(zone: &'static str) -> impl Strategy<Value = i64> {
    let zone = TimeZoneDatabase::bundled().get(zone).unwrap();
    let near_change = (-4_500_000_000_000..4_000_000_000_000_i64, -9_000_000..9_000_000_i64).prop_map(
        move |(from_ms, delta_ms)| {
            let change = zone.following(timestamp(from_ms)).next();
            change.map_or(from_ms, |change| change.timestamp().as_millisecond()) + delta_ms
        },
    );
    prop_oneof![
        4 => near_change,
        3 => 0..4_000_000_000_000_i64,
        2 => CALENDAR_START_MS - 10..CALENDAR_END_MS + 10,
        1 => any::<i64>(),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4_000))]

    #[test]
    fn windows_divide_time((period, now_ms) in cases(), anchor_ms in moments("UTC"), part in 0.0..1.0_f64) {
        let window = period.window_at(now_ms, anchor_ms);
        prop_assert!(window.start_ms <= now_ms && (now_ms < window.end_ms || now_ms == i64::MAX));
        // Every moment within it gives the same window; `part` of its length picks one besides its ends.
        let within_ms = window.start_ms.saturating_add(((window.end_ms.saturating_sub(window.start_ms)) as f64 * part) as i64);
        for moment_ms in [window.start_ms, within_ms.min(window.end_ms - 1), window.end_ms - 1] {
            prop_assert_eq!(period.window_at(moment_ms, anchor_ms), window);
        }
        prop_assert_eq!(period.window_at(window.end_ms, anchor_ms).start_ms.min(CALENDAR_END_MS), window.end_ms.min(CALENDAR_END_MS));
        if window.start_ms > i64::MIN {
            prop_assert_eq!(period.window_at(window.start_ms - 1, anchor_ms).end_ms, window.start_ms);
        }
    }

    #[test]
    fn no_hour_is_longer_than_an_hour((period, now_ms) in cases()) {
        let window = period.window_at(now_ms, 0);
        if matches!(period, Period::Hour(_)) && (CALENDAR_START_MS..CALENDAR_END_MS).contains(&now_ms) {
            prop_assert!(window.end_ms - window.start_ms <= HOUR_MS);
        }
    }
}
