//! What is refused, and in which words. A row changes one document that is good by a JSON merge patch (RFC 7396).

mod answers;
mod bounds;
mod charges;
mod issuers;
mod limits;
mod prices;
mod routes;
mod tiers;

use expect_test::{Expect, expect};
use serde_json::{Map, Value, json};

use super::*;

/// A small document with nothing wrong in it.
fn good() -> Value {
    json!({
        "version": 1,
        "issuers": [{"issuer": "https://issuer.example", "keys": {"jwks": {"keys": []}}}],
        "meters": {"api_calls": {}, "tokens": {}},
        "tiers": {
            "free": {"features": [], "limits": [{"meter": "api_calls", "quota": 100, "per": "day"}]},
            "pro": {"features": ["export"], "limits": [{"meter": "api_calls", "quota": 1000, "per": "day"}]},
        },
        "default_tier": "free",
        "routes": [{"path": "/v1/items/{id}", "charges": {"api_calls": 1}}],
    })
}

fn merge(target: &mut Value, patch: Value) {
    let Value::Object(patch) = patch else {
        *target = patch;
        return;
    };
    if !target.is_object() {
        *target = Value::Object(Map::new());
    }
    let members = target.as_object_mut().unwrap();
    for (name, value) in patch {
        if value.is_null() {
            members.remove(&name);
        } else {
            merge(members.entry(name).or_insert(Value::Null), value);
        }
    }
}

fn faults(patch: Value) -> Vec<Fault> {
    let mut document = good();
    merge(&mut document, patch);
    validate(&serde_json::from_value(document).unwrap())
}

/// Shows the faults of the good document with a change.
fn check(patch: Value, expected: Expect) {
    let lines: Vec<String> = faults(patch).iter().map(Fault::to_string).collect();
    expected.assert_eq(&lines.join("\n"));
}

fn check_limits(limits: Value, expected: Expect) {
    check(json!({"tiers": {"free": {"limits": limits}}}), expected);
}

fn check_issuer(patch: Value, expected: Expect) {
    let mut issuer = good()["issuers"][0].clone();
    merge(&mut issuer, patch);
    check(json!({"issuers": [issuer]}), expected);
}

fn check_route(patch: Value, expected: Expect) {
    let mut route = good()["routes"][0].clone();
    merge(&mut route, patch);
    check(json!({"routes": [route]}), expected);
}

#[test]
fn a_good_document_has_no_fault() {
    check(json!({}), expect![[""]]);
}

#[test]
fn all_faults_are_told_at_once() {
    check(
        json!({"version": 2, "default_tier": "gold", "tiers": {"free": {"limits": [{"meter": "calls", "per": "week"}]}}}),
        expect![[r#"
            version: write `version: 1`, the only version of this format
            tiers.free.limits[0].meter: name one of the meters, or define calls under `meters`
            tiers.free.limits[0]: give `quota` (units per calendar or billing window), `rate` (units in any window of a length), `capacity` (units at once), `concurrency` (requests at once) or `size` (bytes of a body)
            default_tier: name one of the tiers, or define gold under `tiers`"#]],
    );
}

#[test]
fn names_are_small_letters_digits_and_three_signs() {
    let long = "a".repeat(NAME_BYTES_MAX);
    assert!(is_name(&long) && is_name("a") && is_name("z9_.-"));
    for name in ["", "A", "1a", "_a", "a b", "aB", "é", "aé", "a/b", &(long + "a")] {
        assert!(!is_name(name), "{name}");
    }
    check(
        json!({"meters": {"API": {}, "a b": {}}}),
        expect![[r#"
        meters.API: name the meter with a small letter and then small letters, digits, `_`, `.` and `-`, at most 64 in all
        meters["a b"]: name the meter with a small letter and then small letters, digits, `_`, `.` and `-`, at most 64 in all"#]],
    );
    check(
        json!({"tiers": {"Gold": {}}}),
        expect![
            "tiers.Gold: name the tier with a small letter and then small letters, digits, `_`, `.` and `-`, at most 64 in all"
        ],
    );
    check(
        json!({"tiers": {"free": {"features": ["A", "b", "b"]}}}),
        expect![[r#"
        tiers.free.features[0]: name the feature with a small letter and then small letters, digits, `_`, `.` and `-`, at most 64 in all
        tiers.free.features[2]: remove this feature: b is in the list already"#]],
    );
    check_limits(
        json!([{"name": "Daily", "meter": "api_calls", "quota": 1, "per": "day"}]),
        expect![
            "tiers.free.limits[0].name: name the limit with a small letter and then small letters, digits, `_`, `.` and `-`, at most 64 in all"
        ],
    );
}

#[test]
fn references_lead_somewhere() {
    check(
        json!({"default_tier": "gold"}),
        expect!["default_tier: name one of the tiers, or define gold under `tiers`"],
    );
    check_limits(
        json!([{"meter": "calls", "quota": 1, "per": "day"}]),
        expect!["tiers.free.limits[0].meter: name one of the meters, or define calls under `meters`"],
    );
    check_route(
        json!({"charges": {"calls": 1}}),
        expect!["routes[0].charges.calls: name one of the meters, or define calls under `meters`"],
    );
    check_route(
        json!({"features": ["export", "import"]}),
        expect![
            "routes[0].features[1]: give import to a tier, or remove it here: no tier has it, so nobody could pass"
        ],
    );
    check(
        json!({"default_route": {"charges": {"calls": 1}, "features": ["x"]}}),
        expect![[r#"
        default_route.charges.calls: name one of the meters, or define calls under `meters`
        default_route.features[0]: give x to a tier, or remove it here: no tier has it, so nobody could pass"#]],
    );
}

#[test]
fn units_end_where_floating_point_readers_lose_count() {
    check_limits(json!([{"meter": "tokens", "quota": UNITS_MAX, "per": "day"}]), expect![[""]]);
    check_limits(json!([{"meter": "tokens", "rate": 0, "per": "1s"}]), expect![[""]]);
    check_limits(
        json!([{"meter": "tokens", "quota": UNITS_MAX + 1, "per": "day"}]),
        expect!["tiers.free.limits[0].quota: use at most 9007199254740991 units (2^53 - 1)"],
    );
    check_limits(
        json!([{"meter": "tokens", "rate": UNITS_MAX + 1, "per": "1s"}]),
        expect!["tiers.free.limits[0].rate: use at most 9007199254740991 units (2^53 - 1)"],
    );
    check_route(json!({"charges": {"api_calls": UNITS_MAX}}), expect![[""]]);
    check_route(
        json!({"charges": {"api_calls": UNITS_MAX + 1}}),
        expect!["routes[0].charges.api_calls: use at most 9007199254740991 units (2^53 - 1)"],
    );
}

#[test]
fn wording_is_text() {
    check(
        json!({"denials": {"type_base": "", "upgrade_url": "a\nb"}}),
        expect![[r#"
        denials.type_base: write 1 to 2048 bytes of text without control characters
        denials.upgrade_url: write 1 to 2048 bytes of text without control characters"#]],
    );
    check(
        json!({"meters": {"tokens": {"unit": ""}}, "tiers": {"pro": {"description": ""}}}),
        expect![[r#"
        meters.tokens.unit: write 1 to 2048 bytes of text without control characters
        tiers.pro.description: write 1 to 2048 bytes of text without control characters"#]],
    );
}
