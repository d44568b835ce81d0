//! The published schema says what the reader accepts.

use expect_test::{Expect, expect};
use serde_json::{Value, json};

use super::*;

fn validator() -> jsonschema::Validator {
    jsonschema::options().build(&json_schema()).unwrap()
}

/// Shows where a document breaks the schema.
fn check(document: &Value, expected: Expect) {
    let validator = validator();
    let lines: Vec<String> =
        validator.iter_errors(document).map(|error| format!("{}: {error}", error.instance_path())).collect();
    expected.assert_eq(&lines.join("\n"));
    // What the schema refuses the reader refuses too, and the other way round.
    assert_eq!(lines.is_empty(), serde_json::from_value::<PolicyDocument>(document.clone()).is_ok());
}

fn good() -> Value {
    json!({
        "version": 1,
        "issuers": [{
            "issuer": "https://issuer.example",
            "keys": {"jwks": {"keys": []}},
            "algorithms": ["ES256"],
            "claims": {"tier": "tier"},
        }],
        "meters": {"api_calls": {"unit": "requests"}},
        "tiers": {"free": {"limits": [{"meter": "api_calls", "quota": 100, "per": "day", "zone": "Europe/Berlin"}]}},
        "default_tier": "free",
        "routes": [{"path": "/v1/{id}", "methods": ["GET"], "charges": {"api_calls": 1}, "refund": ["5xx"]}],
        "default_route": {"auth": "none"},
        "on_control_plane_loss": "open",
        "denials": {"upgrade_url": "https://example.com"},
    })
}

#[test]
fn a_good_document_fits_the_schema_as_written_and_as_sent() {
    check(&good(), expect![[""]]);
    let document: PolicyDocument = serde_json::from_value(good()).unwrap();
    check(&serde_json::to_value(document).unwrap(), expect![[""]]);
    check(&json!({"version": 1, "meters": {}, "tiers": {}}), expect![[""]]);
}

#[cfg(feature = "yaml")]
#[test]
fn all_that_a_policy_can_say_fits_the_schema() {
    let document = crate::document::parse(crate::document::parse::tests::FULL).unwrap();
    check(&serde_json::to_value(document).unwrap(), expect![[""]]);
}

#[test]
fn numbers_that_may_be_something_else_are_one_of_the_two() {
    let with = |pointer: &str, value: Value| {
        let mut document = good();
        let (parent, name) = pointer.rsplit_once('/').unwrap();
        let parent = document.pointer_mut(parent).unwrap().as_object_mut().unwrap();
        parent.insert(name.to_owned(), value);
        document
    };
    let quota = |value: Value| with("/tiers/free/limits/0/quota", value);
    check(&quota(json!("unlimited")), expect![[""]]);
    check(
        &quota(json!("endless")),
        expect![[
            r#"/tiers/free/limits/0/quota: "endless" is not valid under any of the schemas listed in the 'anyOf' keyword"#
        ]],
    );
    check(
        &quota(json!(1.5)),
        expect![
            "/tiers/free/limits/0/quota: 1.5 is not valid under any of the schemas listed in the 'anyOf' keyword"
        ],
    );
    let charge = |value: Value| with("/routes/0/charges/api_calls", value);
    check(&charge(json!(-1)), expect![[""]]);
    check(&charge(json!({"response_json": "/a", "estimate": 5})), expect![[""]]);
    check(&charge(json!({"response_json": "/a", "estimate": {"request_json": "/b"}})), expect![[""]]);
    check(
        &charge(json!("1")),
        expect![[
            r#"/routes/0/charges/api_calls: "1" is not valid under any of the schemas listed in the 'anyOf' keyword"#
        ]],
    );
    check(
        &charge(json!({"unit": 1})),
        expect![[
            r#"/routes/0/charges/api_calls: {"unit":1} is not valid under any of the schemas listed in the 'anyOf' keyword"#
        ]],
    );
    check(
        &charge(json!({"response_json": "/a", "estimate": -5})),
        expect![[
            r#"/routes/0/charges/api_calls: {"estimate":-5,"response_json":"/a"} is not valid under any of the schemas listed in the 'anyOf' keyword"#
        ]],
    );
    check(
        &charge(json!({"response_json": "/a", "estimate": {"json": "/b"}})),
        expect![[
            r#"/routes/0/charges/api_calls: {"estimate":{"json":"/b"},"response_json":"/a"} is not valid under any of the schemas listed in the 'anyOf' keyword"#
        ]],
    );
}

#[test]
fn what_the_reader_refuses_the_schema_refuses() {
    let with = |pointer: &str, name: &str, value: Value| {
        let mut document = good();
        document.pointer_mut(pointer).unwrap().as_object_mut().unwrap().insert(name.to_owned(), value);
        document
    };
    check(
        &with("", "extra", json!(1)),
        expect![": Additional properties are not allowed ('extra' was unexpected)"],
    );
    check(
        &with("/routes/0", "charge", json!(1)),
        expect!["/routes/0: Additional properties are not allowed ('charge' was unexpected)"],
    );
    check(
        &with("/default_route", "path", json!("/")),
        expect!["/default_route: Additional properties are not allowed ('path' was unexpected)"],
    );
    check(
        &with("/tiers/free/limits/0", "quota", json!(-1)),
        expect![
            "/tiers/free/limits/0/quota: -1 is not valid under any of the schemas listed in the 'anyOf' keyword"
        ],
    );
    check(
        &with("/issuers/0", "algorithms", json!(["none"])),
        expect![[r#"/issuers/0/algorithms/0: "none" is not one of "RS256", "RS384" or 6 other candidates"#]],
    );
    check(&json!({"version": 1, "meters": {}}), expect![[r#": "tiers" is a required property"#]]);
}
