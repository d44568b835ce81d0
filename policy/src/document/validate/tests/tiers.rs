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

#[test]
fn earlier_versions_come_in_order_and_mean_the_same_limits() {
    let earlier = |versions: Value| json!({"tiers": {"pro": {"earlier": versions}}});
    let quota = |moment_ms: i64, per: &str| json!({"subscribed_before_ms": moment_ms, "limits": [{"meter": "api_calls", "quota": 5, "per": per}]});
    check(earlier(json!([quota(1, "day"), quota(2, "day")])), expect![""]);
    check(
        earlier(json!([quota(2, "day"), quota(2, "day")])),
        expect![
            "tiers.pro.earlier[1].subscribed_before_ms: write Unix ms, later than those of the version before: the oldest version comes first"
        ],
    );
    check(
        earlier(
            json!([{"subscribed_before_ms": 1, "limits": [{"meter": "nothing", "quota": 5, "per": "day"}]}]),
        ),
        expect![
            "tiers.pro.earlier[0].limits[0].meter: name one of the meters, or define nothing under `meters`"
        ],
    );
    check(
        earlier(json!([{"subscribed_before_ms": 1, "limits": [
            {"name": "api_calls.day", "meter": "tokens", "quota": 5, "per": "day"},
        ]}])),
        expect![
            "tiers.pro.earlier[0].limits[0]: give api_calls.day the meter, kind, `per`, `zone` and `scope` that it has in tiers.free.limits[0], or another `name`: usage of a limit carries over when the tier changes"
        ],
    );
}

#[test]
fn a_feature_that_only_an_earlier_version_has_may_be_asked_for() {
    check(
        json!({
            "tiers": {"pro": {"earlier": [{"subscribed_before_ms": 1, "features": ["sso"]}]}},
            "default_route": {"features": ["sso"]},
        }),
        expect![""],
    );
}

#[test]
fn texts_name_their_languages_by_tags() {
    check(
        json!({"tiers": {"pro": {"title": {"en": "Pro", "pt-BR": "Pró"}, "description": "x"}}}),
        expect![""],
    );
    check(
        json!({"tiers": {"pro": {"title": {}}}}),
        expect![
            "tiers.pro.title: write a text, or one for each language by its tag, such as `{en: …, fr: …}`"
        ],
    );
    check(
        json!({"tiers": {"pro": {"title": {"fr_FR": "Pro", "de": ""}}}}),
        expect![[r#"
        tiers.pro.title.de: write 1 to 2048 bytes of text without control characters
        tiers.pro.title.fr_FR: write the tag of a language, such as en, fr or pt-BR"#]],
    );
}

#[test]
fn trials_and_grace_have_an_end() {
    check(json!({"tiers": {"pro": {"trial_days": 366}}, "billing": {"grace_days": 366}}), expect![""]);
    check(
        json!({"tiers": {"pro": {"trial_days": 367}}, "billing": {"grace_days": 367}}),
        expect![[r#"
        tiers.pro.trial_days: use at most 366 days
        billing.grace_days: use at most 366 days"#]],
    );
}
