//! What is refused of limits, in a tier and across tiers.

use expect_test::expect;
use serde_json::{Value, json};

use super::*;

#[test]
fn a_limit_means_one_thing() {
    check_limits(
        json!([{"meter": "api_calls", "per": "day"}]),
        expect![
            "tiers.free.limits[0]: give `quota` (units per calendar or billing window), `rate` (units in any window of a length), `capacity` (units at once), `concurrency` (requests at once) or `size` (bytes of a body)"
        ],
    );
    check_limits(
        json!([{"meter": "api_calls", "quota": 1, "rate": 1, "per": "day"}]),
        expect!["tiers.free.limits[0]: give `quota` or `rate`, not both; write two limits to have both"],
    );
    check_limits(
        json!([{"meter": "api_calls", "quota": 1, "per": "day", "zone": "Nowhere"}]),
        expect![
            "tiers.free.limits[0].zone: use the name of an IANA time zone, such as Europe/Berlin, or leave `zone` out for UTC"
        ],
    );
    check_limits(
        json!([{"meter": "api_calls", "rate": 1, "per": "1d", "zone": "UTC"}]),
        expect![[r#"
        tiers.free.limits[0].zone: leave `zone` out: a rate's window slides and has no calendar
        tiers.free.limits[0].per: use a length such as 1s, 60s, 5m or 1h"#]],
    );
}

#[test]
fn a_tier_has_a_limit_name_once() {
    check_limits(
        json!([{"meter": "tokens", "quota": 1, "per": "day"}, {"meter": "tokens", "quota": 2, "per": "day", "zone": "Asia/Tokyo"}]),
        expect!["tiers.free.limits[1]: give this limit another `name`: this tier has tokens.day already"],
    );
    check_limits(
        json!([{"meter": "tokens", "quota": 1, "per": "day"}, {"name": "tokens.day", "meter": "tokens", "rate": 2, "per": "1s"}]),
        expect!["tiers.free.limits[1]: give this limit another `name`: this tier has tokens.day already"],
    );
}

#[test]
fn a_limit_name_means_the_same_in_all_tiers() {
    let daily =
        json!({"name": "api_calls.day", "meter": "api_calls", "quota": 5, "per": "day", "zone": "UTC"});
    let with = |patch: Value| {
        let mut limit = daily.clone();
        merge(&mut limit, patch);
        json!([limit])
    };
    check_limits(with(json!({})), expect![[""]]);
    check_limits(
        with(json!({"meter": "tokens"})),
        expect![
            "tiers.pro.limits[0]: give api_calls.day the meter, kind, `per`, `zone` and `scope` that it has in tiers.free.limits[0], or another `name`: usage of a limit carries over when the tier changes"
        ],
    );
    check_limits(
        with(json!({"per": "hour"})),
        expect![
            "tiers.pro.limits[0]: give api_calls.day the meter, kind, `per`, `zone` and `scope` that it has in tiers.free.limits[0], or another `name`: usage of a limit carries over when the tier changes"
        ],
    );
    check_limits(
        with(json!({"zone": "Asia/Tokyo"})),
        expect![
            "tiers.pro.limits[0]: give api_calls.day the meter, kind, `per`, `zone` and `scope` that it has in tiers.free.limits[0], or another `name`: usage of a limit carries over when the tier changes"
        ],
    );
    check_limits(
        with(json!({"quota": null, "rate": 5, "per": "24h", "zone": null})),
        expect![
            "tiers.pro.limits[0]: give api_calls.day the meter, kind, `per`, `zone` and `scope` that it has in tiers.free.limits[0], or another `name`: usage of a limit carries over when the tier changes"
        ],
    );
}

#[test]
fn a_default_limit_name_fits() {
    let meter = "m".repeat(NAME_BYTES_MAX - 4);
    let with = |meter: &str| {
        json!({
            "meters": {meter: {}},
            "tiers": {"free": {"limits": [{"meter": meter, "quota": 1, "per": "day"}]}},
        })
    };
    check(with(&meter), expect![[""]]);
    check(
        with(&(meter + "m")),
        expect![
            "tiers.free.limits[0]: give this limit a `name`: mmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmm.day would be too long"
        ],
    );
}
