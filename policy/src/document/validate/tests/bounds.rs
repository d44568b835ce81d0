//! That everything has a bound, and just the one that it says.

use expect_test::{Expect, expect};
use serde_json::{Map, Value, json};

use super::*;

/// Shows that `max` of something is fine and one more is not.
fn check_bound(max: usize, document: impl Fn(usize) -> Value, expected: Expect) {
    assert_eq!(faults(document(max)), []);
    check(document(max + 1), expected);
}

fn named(count: usize, value: Value) -> Value {
    (0..count).map(|index| (format!("n{index}"), value.clone())).collect::<Map<_, _>>().into()
}

fn list(count: usize, value: impl Fn(usize) -> Value) -> Value {
    (0..count).map(value).collect()
}

#[test]
fn everything_has_a_bound() {
    let issuers = |count| json!({"issuers": list(count, |index| json!({"issuer": format!("i{index}"), "keys": {"file": "f"}}))});
    check_bound(ISSUERS_MAX, issuers, expect!["issuers: use at most 32 issuers; there are 33"]);
    check_bound(
        METERS_MAX - 2,
        |count| json!({"meters": named(count, json!({}))}),
        expect!["meters: use at most 200 meters; there are 201"],
    );
    check_bound(
        TIERS_MAX - 2,
        |count| json!({"tiers": named(count, json!({}))}),
        expect!["tiers: use at most 200 tiers; there are 201"],
    );
    check_bound(
        ROUTES_MAX,
        |count| json!({"routes": list(count, |_| json!({"path": "/"}))}),
        expect!["routes: use at most 1000 routes; there are 1001"],
    );
    let limit = |index| json!({"name": format!("n{index}"), "meter": "tokens", "quota": 1, "per": "day"});
    check_bound(
        LIMITS_MAX,
        |count| json!({"tiers": {"free": {"limits": list(count, limit)}}}),
        expect!["tiers.free.limits: use at most 64 limits; there are 65"],
    );
    let feature = |index| json!(format!("f{index}"));
    check_bound(
        FEATURES_MAX,
        |count| json!({"tiers": {"free": {"features": list(count, feature)}}}),
        expect!["tiers.free.features: use at most 64 features; there are 65"],
    );
    let route = |name: &'static str, value: &'static str| move |count| json!({"routes": [{"path": "/", name: list(count, |_| json!(value))}]});
    check_bound(
        FEATURES_MAX,
        route("features", "export"),
        expect!["routes[0].features: use at most 64 features; there are 65"],
    );
    check_bound(
        METHODS_MAX,
        route("methods", "GET"),
        expect!["routes[0].methods: use at most 32 methods; there are 33"],
    );
    check_bound(
        STATUSES_MAX,
        route("refund", "5xx"),
        expect!["routes[0].refund: use at most 32 statuses; there are 33"],
    );
    for (name, value, max) in [
        ("hosts", "a", HOSTS_MAX),
        ("jsonrpc", "a", CALLS_MAX),
        ("mcp_tools", "a", CALLS_MAX),
        ("success", "2xx", STATUSES_MAX),
    ] {
        let path = format!("routes[0].{name}: ");
        assert_eq!(faults(route(name, value)(max)), []);
        assert!(faults(route(name, value)(max + 1))[0].to_string().starts_with(&path), "{name}");
    }
    check_bound(
        HEADERS_MAX,
        |count| json!({"routes": [{"path": "/", "headers": named(count, json!("*"))}]}),
        expect!["routes[0].headers: use at most 16 headers; there are 17"],
    );
    check_bound(
        LIMIT_ROUTES_MAX,
        |count| json!({"tiers": {"free": {"limits": [{"concurrency": 1, "routes": list(count, |_| json!("default"))}]}}}),
        expect!["tiers.free.limits[0].routes: use at most 64 routes; there are 65"],
    );
    check_bound(
        WARNINGS_MAX,
        |count| json!({"denials": {"warn_at": list(count, |index| json!(index + 1))}}),
        expect!["denials.warn_at: use at most 8 percentages; there are 9"],
    );
    // Two quotation marks belong to the text's JSON.
    check_bound(
        TEMPLATE_BYTES_MAX,
        |count| json!({"denials": {"templates": {"quota-exceeded": {"body": "a".repeat(count - 2)}}}}),
        expect!["denials.templates.quota-exceeded.body: use at most 16384 bytes; as JSON this has 16385"],
    );
    check_bound(
        VIEWS_MAX,
        |count| json!({"views": named(count, json!({"body": "1"}))}),
        expect!["views: use at most 64 views; there are 65"],
    );
    check_bound(
        VIEW_BYTES_MAX,
        |count| json!({"views": {"quota": {"body": "1".repeat(count)}}}),
        expect!["views.quota.body: write a template of 1 to 65536 bytes"],
    );
    let issuer = |keys: Value| json!({"issuers": [{"issuer": "i", "keys": {"jwks": {"keys": keys}}}]});
    check_bound(
        JWKS_KEYS_MAX,
        |count| issuer(list(count, |_| json!({}))),
        expect!["issuers[0].keys.jwks: use at most 64 keys; there are 65"],
    );
    let listed = |name: &'static str, value: &'static str| move |count| json!({"issuers": [{"issuer": "i", "keys": {"file": "f"}, name: list(count, |_| json!(value))}]});
    check_bound(
        ISSUER_LIST_MAX,
        listed("audiences", "a"),
        expect!["issuers[0].audiences: use at most 32 audiences; there are 33"],
    );
    check_bound(
        ISSUER_LIST_MAX,
        listed("algorithms", "ES256"),
        expect!["issuers[0].algorithms: use at most 32 algorithms; there are 33"],
    );
    let text = |length| json!({"denials": {"type_base": "a".repeat(length)}});
    check_bound(
        TEXT_BYTES_MAX,
        text,
        expect!["denials.type_base: write 1 to 2048 bytes of text without control characters"],
    );
}

#[test]
fn a_method_has_a_bound() {
    let method = |length| json!({"routes": [{"path": "/", "methods": ["A".repeat(length)]}]});
    check_bound(
        NAME_BYTES_MAX,
        method,
        expect!["routes[0].methods[0]: write an HTTP method in capitals, such as GET"],
    );
}

#[test]
fn one_request_touches_a_bounded_number_of_limits() {
    // Half on each of two meters; a third meter's limits are not touched.
    let limit = |index: usize| {
        let meter = ["api_calls", "tokens"][index % 2];
        json!({"name": format!("n{index}"), "meter": meter, "quota": 1, "per": "day"})
    };
    let document = |count| {
        let mut limits = list(count, limit);
        limits.as_array_mut().unwrap().push(json!({"meter": "other", "quota": 1, "per": "day"}));
        json!({
            "meters": {"other": {}},
            "tiers": {"free": {"limits": limits}},
            "routes": [{"path": "/", "charges": {"api_calls": 1, "tokens": 1}}],
        })
    };
    check_bound(
        LIMITS_PER_REQUEST_MAX,
        document,
        expect![
            "routes[0].charges: charge fewer meters, or give tier free fewer limits on them: one request would touch 17 limits, and can touch 16"
        ],
    );
}

#[test]
fn limits_that_a_request_does_not_touch_do_not_count() {
    let limit = |index: usize| json!({"name": format!("n{index}"), "meter": "api_calls", "quota": 1, "per": "day", "routes": ["here"]});
    let document = |count: usize| {
        let mut limits = list(count - 1, limit);
        let more = [json!({"concurrency": 1}), json!({"size": 1})];
        limits.as_array_mut().unwrap().extend(more);
        json!({
            "tiers": {"free": {"limits": limits}},
            "routes": [
                {"name": "here", "path": "/", "charges": {"api_calls": 1}},
                {"name": "there", "path": "/a", "charges": {"api_calls": 1}},
            ],
        })
    };
    check_bound(
        LIMITS_PER_REQUEST_MAX,
        document,
        expect![
            "routes[0].charges: charge fewer meters, or give tier free fewer limits on them: one request would touch 17 limits, and can touch 16"
        ],
    );
}

#[test]
fn the_list_of_faults_has_a_bound() {
    let document = |count| json!({"routes": list(count, |_| json!({"path": "x"}))});
    assert_eq!(faults(document(FAULTS_MAX)).len(), FAULTS_MAX);
    let many = faults(document(FAULTS_MAX + 2));
    assert_eq!(many.len(), FAULTS_MAX + 1);
    assert_eq!(many[FAULTS_MAX].to_string(), "correct these first: there are 2 more");
}
