//! What is refused of limits beyond their window: scope, routes, and what they have no use for. And of who calls.

use expect_test::expect;
use serde_json::{Value, json};

use super::*;

#[test]
fn every_kind_of_limit_is_good() {
    check_limits(
        json!([
            {"meter": "api_calls", "quota": "unlimited", "per": "day"},
            {"meter": "api_calls", "rate": 10, "per": "1s", "burst": 20},
            {"meter": "tokens", "capacity": 5},
            {"concurrency": 5},
            {"size": 5},
        ]),
        expect![[""]],
    );
    check_limits(
        json!([{"meter": "tokens", "capacity": 5, "per": "day", "status": 429}]),
        expect![[r#"
        tiers.free.limits[0].per: leave `per` out: a `capacity` has no window; per window there are `quota` and `rate`
        tiers.free.limits[0].status: write 403 or 413"#]],
    );
    check_limits(
        json!([{"concurrency": 5, "meter": "tokens"}]),
        expect![
            "tiers.free.limits[0].meter: leave `meter` out: `concurrency` counts requests, whatever is charged"
        ],
    );
    check_limits(
        json!([{"size": UNITS_MAX + 1}, {"concurrency": UNITS_MAX + 1}]),
        expect![[r#"
        tiers.free.limits[0].size: use at most 9007199254740991 units (2^53 - 1)
        tiers.free.limits[1].concurrency: use at most 9007199254740991 units (2^53 - 1)"#]],
    );
    check_limits(
        json!([{"meter": "tokens", "rate": UNITS_MAX + 1, "per": "1s", "burst": UNITS_MAX + 1}]),
        expect![[r#"
        tiers.free.limits[0].rate: use at most 9007199254740991 units (2^53 - 1)
        tiers.free.limits[0].burst: use at most 9007199254740991 units (2^53 - 1)"#]],
    );
    check_limits(
        json!([{"meter": "tokens", "capacity": UNITS_MAX + 1}]),
        expect!["tiers.free.limits[0].capacity: use at most 9007199254740991 units (2^53 - 1)"],
    );
}

#[test]
fn limits_of_a_name_may_differ_in_what_happens_there() {
    let tiers =
        |free: Value, pro: Value| json!({"tiers": {"free": {"limits": [free]}, "pro": {"limits": [pro]}}});
    let calls = |patch: Value| {
        let mut limit = json!({"meter": "api_calls", "quota": 5, "per": "day"});
        merge(&mut limit, patch);
        limit
    };
    check(
        tiers(calls(json!({})), calls(json!({"quota": "unlimited", "soft": true, "enforcement": "off"}))),
        expect![[""]],
    );
    check(
        tiers(
            json!({"meter": "api_calls", "rate": 1, "per": "1s", "burst": 2}),
            json!({"meter": "api_calls", "rate": 10, "per": "1s", "burst": 10}),
        ),
        expect![[""]],
    );
    check(
        tiers(
            json!({"name": "n", "meter": "api_calls", "rate": 1, "per": "1s", "burst": 2}),
            json!({"name": "n", "meter": "api_calls", "rate": 1, "per": "2s", "burst": 2}),
        ),
        expect![
            "tiers.pro.limits[0]: give n the meter, kind, `per`, `zone` and `scope` that it has in tiers.free.limits[0], or another `name`: usage of a limit carries over when the tier changes"
        ],
    );
    check(
        tiers(
            json!({"name": "n", "meter": "api_calls", "rate": 1, "per": "1s"}),
            json!({"name": "n", "meter": "api_calls", "rate": 1, "per": "1s", "burst": 2}),
        ),
        expect![
            "tiers.pro.limits[0]: give n the meter, kind, `per`, `zone` and `scope` that it has in tiers.free.limits[0], or another `name`: usage of a limit carries over when the tier changes"
        ],
    );
    check(
        tiers(json!({"name": "n", "concurrency": 1}), json!({"name": "n", "size": 1})),
        expect![
            "tiers.pro.limits[0]: give n the meter, kind, `per`, `zone` and `scope` that it has in tiers.free.limits[0], or another `name`: usage of a limit carries over when the tier changes"
        ],
    );
}

#[test]
fn members_are_those_of_an_organisation() {
    let limits = json!([{"name": "n", "meter": "api_calls", "quota": 5, "per": "day", "scope": "member"}]);
    check_limits(
        limits.clone(),
        expect![
            "tiers.free.limits[0].scope: name an issuer's claim of the organisation (`claims: {organization: …}`), or leave `scope` out: without organisations there are no members"
        ],
    );
    let issuer = json!({"issuer": "i", "keys": {"file": "f"}, "claims": {"organization": "org"}});
    check(json!({"issuers": [issuer], "tiers": {"free": {"limits": limits}}}), expect![[""]]);
    let pro = json!([{"name": "n", "meter": "api_calls", "quota": 5, "per": "day"}]);
    check(
        json!({"issuers": [issuer], "tiers": {"free": {"limits": limits}, "pro": {"limits": pro}}}),
        expect![
            "tiers.pro.limits[0]: give n the meter, kind, `per`, `zone` and `scope` that it has in tiers.free.limits[0], or another `name`: usage of a limit carries over when the tier changes"
        ],
    );
}

#[test]
fn a_limit_is_of_routes_that_it_can_touch() {
    let with = |limit: Value| {
        json!({
            "routes": [
                {"name": "one", "path": "/one", "charges": {"api_calls": 1}},
                {"name": "open", "path": "/open", "auth": "none"},
                {"path": "/free", "methods": ["GET"]},
            ],
            "tiers": {"free": {"limits": [limit]}},
        })
    };
    let calls = |routes: Value| with(json!({"meter": "api_calls", "rate": 1, "per": "1s", "routes": routes}));
    check(calls(json!(["one"])), expect![[""]]);
    check(
        calls(json!(["two"])),
        expect!["tiers.free.limits[0].routes[0]: name one of the routes: there is none with the name two"],
    );
    check(
        calls(json!(["open"])),
        expect![
            "tiers.free.limits[0].routes[0]: remove open, or its `auth: none`: without a subject nobody is limited there"
        ],
    );
    check(
        calls(json!(["GET /free"])),
        expect!["tiers.free.limits[0].routes[0]: charge api_calls in the route GET /free, or remove it here"],
    );
    check(
        calls(json!(["default"])),
        expect!["tiers.free.limits[0].routes[0]: charge api_calls in the route default, or remove it here"],
    );
    check(with(json!({"concurrency": 1, "routes": ["one", "GET /free", "default"]})), expect![[""]]);
    check(
        with(json!({"size": 1, "routes": ["open"]})),
        expect![
            "tiers.free.limits[0].routes[0]: remove open, or its `auth: none`: without a subject nobody is limited there"
        ],
    );
}

#[test]
fn callers_without_a_token_have_a_tier() {
    check(json!({"anonymous": {"tier": "free", "trusted_hops": 16}}), expect![[""]]);
    check(
        json!({"anonymous": {"tier": "anon", "trusted_hops": 17}}),
        expect![[r#"
        anonymous.tier: name one of the tiers, or define anon under `tiers`
        anonymous.trusted_hops: use at most 16: so many proxies before this one add to x-forwarded-for"#]],
    );
    check_route(
        json!({"auth": "optional"}),
        expect![
            "routes[0].auth: add `anonymous: {tier: …}` to the policy: callers without a token need a tier here"
        ],
    );
    check(
        json!({"default_route": {"auth": "optional"}}),
        expect![
            "default_route.auth: add `anonymous: {tier: …}` to the policy: callers without a token need a tier here"
        ],
    );
    // Nobody needs a token where nobody must have one.
    let open = json!({"auth": "optional"});
    check(
        json!({"issuers": [], "anonymous": {"tier": "free"}, "default_route": open, "routes": [{"path": "/", "auth": "optional"}]}),
        expect![[""]],
    );
}

#[test]
fn bodies_are_read_up_to_a_bound() {
    check(json!({"bodies": {"json_bytes_max": 1}}), expect![[""]]);
    check(json!({"bodies": {"json_bytes_max": JSON_BYTES_MAX}}), expect![[""]]);
    check(
        json!({"bodies": {"json_bytes_max": 0}}),
        expect!["bodies.json_bytes_max: use 1 to 16777216 bytes"],
    );
    check(
        json!({"bodies": {"json_bytes_max": JSON_BYTES_MAX + 1}}),
        expect!["bodies.json_bytes_max: use 1 to 16777216 bytes"],
    );
}
