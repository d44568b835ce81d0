//! What a limit means, and what is said of one that means nothing.

use expect_test::{Expect, expect};
use serde_json::{Value, json};

use super::meaning::LimitMeaning;
use super::*;
use crate::document::{Limit, UNITS_MAX};

/// Reads a limit and shows its name, what it means, or its faults.
fn check(limit: Value, expected: Expect) {
    let limit: Limit = serde_json::from_value(limit).unwrap();
    let shown = match meaning_of(&limit) {
        Ok(LimitMeaning { units, kind, status }) => {
            let kind = match &kind {
                LimitKind::Quota { period, soft } => {
                    format!("{} per {}", if *soft { "soft" } else { "hard" }, period.name())
                }
                LimitKind::Rate { .. } | LimitKind::Bucket { .. } => format!("{kind:?} ({})", kind.per()),
                kind => format!("{kind:?}{}", kind.per()),
            };
            let units = if units == UNLIMITED { "unlimited".to_owned() } else { units.to_string() };
            format!("{}: {units}, {kind}, {status}", name_of(&limit))
        }
        Err(faults) => {
            let shown =
                faults.iter().map(|(field, message)| format!("{}: {message}", field.unwrap_or("limit")));
            shown.collect::<Vec<_>>().join("\n")
        }
    };
    expected.assert_eq(&shown);
}

#[test]
fn a_rate_has_a_length_from_a_second_to_a_day() {
    check(
        json!({"meter": "calls", "rate": 5, "per": "1s"}),
        expect!["calls.1s: 5, Rate { window_ms: 1000 } (1s), 429"],
    );
    check(
        json!({"meter": "calls", "rate": 5, "per": "59s"}),
        expect!["calls.59s: 5, Rate { window_ms: 59000 } (59s), 429"],
    );
    check(
        json!({"meter": "calls", "rate": 5, "per": "60s"}),
        expect!["calls.60s: 5, Rate { window_ms: 60000 } (1m), 429"],
    );
    check(
        json!({"meter": "calls", "rate": 5, "per": "90m"}),
        expect!["calls.90m: 5, Rate { window_ms: 5400000 } (90m), 429"],
    );
    check(
        json!({"meter": "calls", "rate": 5, "per": "24h"}),
        expect!["calls.24h: 5, Rate { window_ms: 86400000 } (24h), 429"],
    );
    check(
        json!({"meter": "calls", "rate": 5, "per": "0s"}),
        expect!["per: use a length from 1s to 24h; for longer windows use `quota`"],
    );
    check(
        json!({"meter": "calls", "rate": 5, "per": "86401s"}),
        expect!["per: use a length from 1s to 24h; for longer windows use `quota`"],
    );
    check(
        json!({"meter": "calls", "rate": 5, "per": "99999999999999999999h"}),
        expect!["per: use a length such as 1s, 60s, 5m or 1h"],
    );
    check(
        json!({"meter": "calls", "rate": 5, "per": "18446744073709551615h"}),
        expect!["per: use a length such as 1s, 60s, 5m or 1h"],
    );
    check(
        json!({"meter": "calls", "rate": 5, "per": "s"}),
        expect!["per: use a length such as 1s, 60s, 5m or 1h"],
    );
    check(
        json!({"meter": "calls", "rate": 5, "per": "+1s"}),
        expect!["per: use a length such as 1s, 60s, 5m or 1h"],
    );
    check(
        json!({"meter": "calls", "rate": 5, "per": "day"}),
        expect!["per: a `rate` counts in a length such as 1s, 60s, 5m or 1h; for a day use `quota`"],
    );
    check(
        json!({"meter": "calls", "rate": 5, "per": "5é"}),
        expect!["per: use a length such as 1s, 60s, 5m or 1h"],
    );
    check(
        json!({"meter": "calls", "rate": 5, "per": "1d", "zone": "UTC"}),
        expect![[r#"
        zone: leave `zone` out: a rate's window slides and has no calendar
        per: use a length such as 1s, 60s, 5m or 1h"#]],
    );
    check(
        json!({"meter": "calls", "rate": 5, "per": "1s", "zone": "UTC"}),
        expect!["zone: leave `zone` out: a rate's window slides and has no calendar"],
    );
}

#[test]
fn a_quota_counts_by_the_calendar_or_the_subscription() {
    check(json!({"meter": "calls", "quota": 5, "per": "hour"}), expect!["calls.hour: 5, hard per hour, 429"]);
    check(
        json!({"meter": "calls", "quota": 5, "per": "day", "zone": "Europe/Berlin"}),
        expect!["calls.day: 5, hard per day, 429"],
    );
    check(
        json!({"meter": "calls", "quota": 5, "per": "month"}),
        expect!["calls.month: 5, hard per month, 429"],
    );
    check(
        json!({"meter": "calls", "quota": 5, "per": "billing_month"}),
        expect!["calls.billing_month: 5, hard per billing_month, 429"],
    );
    check(
        json!({"meter": "calls", "quota": 5, "per": "billing_month", "zone": "UTC"}),
        expect!["zone: leave `zone` out: a billing month starts at the moment the subscription started"],
    );
    check(
        json!({"meter": "calls", "quota": 5, "per": "day", "zone": "Europe/Nowhere"}),
        expect![
            "zone: use the name of an IANA time zone, such as Europe/Berlin, or leave `zone` out for UTC"
        ],
    );
    check(
        json!({"meter": "calls", "quota": 5, "per": "day", "zone": "Etc/Unknown"}),
        expect![
            "zone: use the name of an IANA time zone, such as Europe/Berlin, or leave `zone` out for UTC"
        ],
    );
    check(
        json!({"meter": "calls", "quota": 5, "per": "60s"}),
        expect![
            "per: a `quota` counts per hour, day, week, month, year, billing_month or lifetime; for any 60s use `rate`"
        ],
    );
    check(
        json!({"meter": "calls", "quota": 5, "per": "fortnight"}),
        expect!["per: use hour, day, week, month, year, billing_month or lifetime"],
    );
}

#[test]
fn a_limit_has_one_kind() {
    check(
        json!({"meter": "calls", "quota": 5, "rate": 5, "per": "day"}),
        expect!["limit: give `quota` or `rate`, not both; write two limits to have both"],
    );
    check(
        json!({"meter": "calls", "concurrency": 5, "size": 5}),
        expect!["limit: give `concurrency` or `size`, not both; write two limits to have both"],
    );
    check(
        json!({"meter": "calls", "per": "day"}),
        expect![
            "limit: give `quota` (units per calendar or billing window), `rate` (units in any window of a length), `capacity` (units at once), `concurrency` (requests at once) or `size` (bytes of a body)"
        ],
    );
}

#[test]
fn a_quota_counts_longer_windows_too_and_may_be_soft() {
    check(
        json!({"meter": "calls", "quota": 5, "per": "week", "zone": "Asia/Tokyo"}),
        expect!["calls.week: 5, hard per week, 429"],
    );
    check(
        json!({"meter": "calls", "quota": 5, "per": "year", "soft": true}),
        expect!["calls.year: 5, soft per year, 429"],
    );
    check(
        json!({"meter": "calls", "quota": 5, "per": "lifetime"}),
        expect!["calls.lifetime: 5, hard per lifetime, 429"],
    );
    check(
        json!({"meter": "calls", "quota": "unlimited", "per": "month"}),
        expect!["calls.month: unlimited, hard per month, 429"],
    );
    check(
        json!({"meter": "calls", "quota": 5, "per": "lifetime", "zone": "UTC"}),
        expect!["zone: leave `zone` out: a lifetime has no calendar"],
    );
    check(
        json!({"meter": "calls", "quota": 5}),
        expect!["limit: add `per`: hour, day, week, month, year, billing_month or lifetime"],
    );
    check(json!({"quota": 5, "per": "day"}), expect!["meter: add the `meter` that is limited"]);
    check(
        json!({"meter": "calls", "rate": 5, "per": "1s", "soft": true}),
        expect!["soft: leave `soft` out: only a `quota` can count overage instead of refusing"],
    );
}

#[test]
fn a_bucket_holds_its_burst_and_fills_at_its_rate() {
    check(
        json!({"meter": "calls", "rate": 10, "per": "1s", "burst": 20}),
        expect!["calls.1s.burst: 20, Bucket { units_per: 10, per_ms: 1000, refill_ms: 2000 } (1s), 429"],
    );
    check(
        json!({"meter": "calls", "rate": 3, "per": "1s", "burst": 1}),
        expect!["calls.1s.burst: 1, Bucket { units_per: 3, per_ms: 1000, refill_ms: 334 } (1s), 429"],
    );
    check(
        json!({"meter": "calls", "rate": 60, "per": "60s", "burst": 10}),
        expect!["calls.60s.burst: 10, Bucket { units_per: 60, per_ms: 60000, refill_ms: 10000 } (1m), 429"],
    );
    check(
        json!({"meter": "calls", "rate": 10, "per": "1s", "burst": 1}),
        expect!["calls.1s.burst: 1, Bucket { units_per: 10, per_ms: 1000, refill_ms: 100 } (1s), 429"],
    );
    check(
        json!({"meter": "calls", "rate": 1, "per": "1h", "burst": 24}),
        expect![
            "calls.1h.burst: 24, Bucket { units_per: 1, per_ms: 3600000, refill_ms: 86400000 } (1h), 429"
        ],
    );
    check(
        json!({"meter": "calls", "rate": "unlimited", "per": "1s", "burst": "unlimited"}),
        expect![
            "calls.1s.burst: unlimited, Bucket { units_per: 18446744073709551615, per_ms: 1000, refill_ms: 1000 } (1s), 429"
        ],
    );
    check(
        json!({"meter": "calls", "rate": "unlimited", "per": "1s", "burst": 5}),
        expect!["burst: make both `rate` and `burst` numbers, or both `unlimited`"],
    );
    check(
        json!({"meter": "calls", "rate": 11, "per": "1s", "burst": 1}),
        expect!["burst: use a larger `burst`: it must last for 100 ms of the rate"],
    );
    check(
        json!({"meter": "calls", "rate": 1, "per": "1h", "burst": 25}),
        expect!["burst: use a smaller `burst`: the bucket must be full again within 24h"],
    );
    check(
        json!({"meter": "calls", "rate": 0, "per": "1s", "burst": 5}),
        expect!["rate: use 1 or more: a bucket must fill again, or leave `burst` out"],
    );
    check(
        json!({"meter": "calls", "rate": 5, "per": "1s", "burst": 0}),
        expect!["burst: use 1 or more: the bucket would never hold a unit"],
    );
    check(
        json!({"meter": "calls", "quota": 5, "per": "day", "burst": 5}),
        expect!["burst: leave `burst` out: only a `rate` can be a token bucket"],
    );
    check(
        json!({"meter": "calls", "rate": 5, "burst": 5}),
        expect!["limit: add `per`: a length such as 1s, 60s, 5m or 1h"],
    );
}

#[test]
fn a_capacity_has_no_window_and_a_choice_of_status() {
    check(json!({"meter": "documents", "capacity": 5}), expect!["documents: 5, Capacity, 403"]);
    check(
        json!({"meter": "documents", "capacity": "unlimited", "status": 413}),
        expect!["documents: unlimited, Capacity, 413"],
    );
    check(json!({"meter": "documents", "capacity": 5, "status": 429}), expect!["status: write 403 or 413"]);
    check(
        json!({"meter": "documents", "capacity": 5, "per": "day", "zone": "UTC"}),
        expect![[r#"
        per: leave `per` out: a `capacity` has no window; per window there are `quota` and `rate`
        zone: leave `zone` out: a `capacity` has no window"#]],
    );
    check(
        json!({"meter": "calls", "quota": 5, "per": "day", "status": 403}),
        expect![
            "status: leave `status` out: only a `capacity` has a choice; a template in `denials` can give another"
        ],
    );
}

#[test]
fn concurrency_and_size_have_no_meter() {
    check(json!({"concurrency": 5}), expect!["concurrency: 5, Concurrency, 429"]);
    check(json!({"size": 5}), expect!["size: 5, Size, 413"]);
    check(
        json!({"concurrency": 5, "meter": "calls", "per": "1s"}),
        expect![[r#"
        meter: leave `meter` out: `concurrency` counts requests, whatever is charged
        per: leave `per` out: a `concurrency` has no window; per window there are `quota` and `rate`"#]],
    );
    check(
        json!({"size": 5, "meter": "calls", "scope": "member", "on_control_plane_loss": "open"}),
        expect![[r#"
            meter: leave `meter` out: `size` counts bytes of a body, whatever is charged
            scope: leave `scope` out: a `size` is of one request, whoever sends it
            on_control_plane_loss: leave it out: a `size` is decided without the control plane"#]],
    );
    check(
        json!({"concurrency": 5, "burst": 5, "status": 413, "soft": true}),
        expect![[r#"
        soft: leave `soft` out: only a `quota` can count overage instead of refusing
        burst: leave `burst` out: only a `rate` can be a token bucket
        status: leave `status` out: only a `capacity` has a choice; a template in `denials` can give another"#]],
    );
}

#[test]
fn a_limit_of_members_is_named_so() {
    check(
        json!({"meter": "calls", "quota": 5, "per": "day", "scope": "member"}),
        expect!["calls.day.member: 5, hard per day, 429"],
    );
    check(
        json!({"meter": "calls", "rate": 5, "per": "1s", "burst": 5, "scope": "member"}),
        expect!["calls.1s.burst.member: 5, Bucket { units_per: 5, per_ms: 1000, refill_ms: 1000 } (1s), 429"],
    );
    check(
        json!({"meter": "documents", "capacity": 5, "scope": "member"}),
        expect!["documents.member: 5, Capacity, 403"],
    );
    check(json!({"concurrency": 5, "scope": "member"}), expect!["concurrency.member: 5, Concurrency, 429"]);
    check(json!({"name": "mine", "concurrency": 5, "scope": "member"}), expect!["mine: 5, Concurrency, 429"]);
}

#[test]
fn other_units_of_a_bucket_keep_its_rate() {
    let of = |units_per| bucket(20, units_per, 1_000);
    assert_eq!(of(10).with_units(40), LimitKind::Bucket { units_per: 10, per_ms: 1_000, refill_ms: 4_000 });
    assert_eq!(of(10).with_units(0), LimitKind::Bucket { units_per: 10, per_ms: 1_000, refill_ms: 1 });
    assert_eq!(
        of(10).with_units(UNITS_MAX),
        LimitKind::Bucket { units_per: 10, per_ms: 1_000, refill_ms: UNITS_MAX * 100 }
    );
    assert_eq!(of(10).with_units(UNLIMITED), bucket(UNLIMITED, UNLIMITED, 1_000));
    // Of a bucket without a maximum there is no rate to keep: the units come back in each second.
    assert_eq!(
        bucket(UNLIMITED, UNLIMITED, 1_000).with_units(40),
        LimitKind::Bucket { units_per: 40, per_ms: 1_000, refill_ms: 1_000 }
    );
}
