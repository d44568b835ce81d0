//! What is refused of charges.

use expect_test::{Expect, expect};
use serde_json::{Value, json};

use super::*;

/// Shows what is wrong with a charge on `tokens`, which has no limit; `documents` has a capacity and `api_calls` a quota.
fn check_charge(charge: Value, expected: Expect) {
    check_charges(json!({"tokens": charge}), expected);
}

fn check_charges(charges: Value, expected: Expect) {
    check(with_documents(charges), expected);
}

fn with_documents(charges: Value) -> Value {
    json!({
        "meters": {"documents": {}},
        "tiers": {"pro": {"limits": [{"meter": "documents", "capacity": 5}]}},
        "routes": [{"path": "/v1/items/{id}/{*rest}", "charges": charges}],
    })
}

#[test]
fn a_charge_has_one_amount() {
    check_charge(
        json!({}),
        expect![
            "routes[0].charges.tokens: say how much: give `units`, `body_bytes`, `request_header`, `response_header`, `request_json` or `response_json`"
        ],
    );
    check_charge(
        json!({"units": 1, "body_bytes": "request"}),
        expect!["routes[0].charges.tokens: give `units` or `body_bytes`, not both: a charge has one amount"],
    );
    check_charge(
        json!({"request_json": "/a", "response_json": "/b"}),
        expect![
            "routes[0].charges.tokens: give `request_json` or `response_json`, not both: a charge has one amount"
        ],
    );
    check_charge(json!({"units": 1}), expect![[""]]);
    check_charge(json!({"body_bytes": "response"}), expect![[""]]);
}

#[test]
fn headers_and_pointers_can_be_read() {
    check_charge(json!({"request_header": "x-cost"}), expect![[""]]);
    check_charge(
        json!({"request_header": "X-Cost"}),
        expect![
            "routes[0].charges.tokens.request_header: write the name of a header in small letters, such as x-api-version, at most 64 bytes"
        ],
    );
    check_charge(
        json!({"response_header": "x cost"}),
        expect![
            "routes[0].charges.tokens.response_header: write the name of a header in small letters, such as x-api-version, at most 64 bytes"
        ],
    );
    check_charge(
        json!({"response_header": ":status"}),
        expect![
            "routes[0].charges.tokens.response_header: write the name of a header in small letters, such as x-api-version, at most 64 bytes"
        ],
    );
    check_charge(
        json!({"request_header": "x-tollgate-tier"}),
        expect![
            "routes[0].charges.tokens.request_header: use another header: those that start with x-tollgate- are Tollgate's own"
        ],
    );
    check_charge(
        json!({"request_json": "usage"}),
        expect![
            "routes[0].charges.tokens.request_json: start the pointer with a slash, such as /usage/total_tokens"
        ],
    );
    check_charge(
        json!({"response_json": "/a~2"}),
        expect!["routes[0].charges.tokens.response_json: write ~0 for ~ and ~1 for / within a name"],
    );
    check_charge(
        json!({"response_json": format!("/{}", "a".repeat(TEXT_BYTES_MAX))}),
        expect!["routes[0].charges.tokens.response_json: use at most 2048 bytes"],
    );
}

#[test]
fn a_charge_says_nothing_that_its_amount_has_no_use_for() {
    check_charge(
        json!({"response_json": "/a", "on": "request"}),
        expect![
            "routes[0].charges.tokens.on: write `on: response` or `on: success`: the amount is not known before the response"
        ],
    );
    check_charge(json!({"response_json": "/a", "on": "success"}), expect![[""]]);
    check_charge(json!({"units": 1, "on": "response"}), expect![[""]]);
    check_charge(
        json!({"units": 1, "default": 1}),
        expect!["routes[0].charges.tokens.default: leave `default` out: this amount is never missing"],
    );
    check_charge(
        json!({"body_bytes": "response", "default": 1}),
        expect!["routes[0].charges.tokens.default: leave `default` out: this amount is never missing"],
    );
    check_charge(
        json!({"units": 1, "estimate": 1}),
        expect![
            "routes[0].charges.tokens.estimate: leave `estimate` out: this amount is known when the request is admitted"
        ],
    );
    check_charge(
        json!({"request_json": "/a", "estimate": 1}),
        expect![
            "routes[0].charges.tokens.estimate: leave `estimate` out: this amount is known when the request is admitted"
        ],
    );
    check_charge(
        json!({"request_header": "x-a", "estimate": {"request_header": "x-b"}}),
        expect![
            "routes[0].charges.tokens.estimate: leave `estimate` out: this amount is known when the request is admitted"
        ],
    );
    check_charge(json!({"body_bytes": "request", "estimate": 1}), expect![[""]]);
    check_charge(
        json!({"response_json": "/a", "per": "call"}),
        expect![
            "routes[0].charges.tokens.per: leave `per` out: bytes, headers and responses are those of the whole request"
        ],
    );
    check_charge(
        json!({"body_bytes": "request", "per": "request"}),
        expect![
            "routes[0].charges.tokens.per: leave `per` out: bytes, headers and responses are those of the whole request"
        ],
    );
    check_charge(json!({"units": 1, "per": "request"}), expect![[""]]);
}

#[test]
fn an_estimate_has_one_source() {
    check_charge(
        json!({"response_json": "/a", "estimate": {"default": 1}}),
        expect![
            "routes[0].charges.tokens.estimate: give `request_header` or `request_json`, or a number instead of this mapping"
        ],
    );
    check_charge(
        json!({"response_json": "/a", "estimate": {"request_header": "x-a", "request_json": "/b"}}),
        expect![
            "routes[0].charges.tokens.estimate: give `request_header` or `request_json`, or a number instead of this mapping"
        ],
    );
    check_charge(
        json!({"response_json": "/a", "estimate": {"request_header": "X"}}),
        expect![
            "routes[0].charges.tokens.estimate.request_header: write the name of a header in small letters, such as x-api-version, at most 64 bytes"
        ],
    );
    check_charge(
        json!({"response_json": "/a", "estimate": {"request_json": "b"}}),
        expect![
            "routes[0].charges.tokens.estimate.request_json: start the pointer with a slash, such as /usage/total_tokens"
        ],
    );
}

#[test]
fn only_what_exists_is_released() {
    check_charges(json!({"documents": -1}), expect![[""]]);
    check_charges(json!({"documents": {"units": 1, "release": true}}), expect![[""]]);
    check_charges(
        json!({"documents": {"units": -1, "release": true}}),
        expect![
            "routes[0].charges.documents.release: leave `release` out: a negative number of units is a release"
        ],
    );
    check_charges(
        json!({"documents": {"units": -1, "release": false}}),
        expect![
            "routes[0].charges.documents.release: leave `release` out: a negative number of units is a release"
        ],
    );
    check_charges(
        json!({"documents": {"response_json": "/a", "estimate": 1, "release": true}}),
        expect![
            "routes[0].charges.documents.estimate: leave `estimate` out: nothing is reserved for what is given back"
        ],
    );
    check_charges(
        json!({"tokens": -1}),
        expect![
            "routes[0].charges.tokens: give tokens a `capacity` in some tier (`unlimited` will do): only that can be released"
        ],
    );
    check_charges(
        json!({"api_calls": {"request_json": "/n", "release": true}}),
        expect![
            "routes[0].charges.api_calls: limit api_calls by `capacity` alone, or charge another meter here: what is released would have to come back in the windows of its other limits"
        ],
    );
    // A meter with a capacity and a window: the release is refused, whichever tier has which.
    let mut both = with_documents(json!({"documents": -1}));
    merge(
        &mut both,
        json!({"tiers": {"free": {"limits": [{"meter": "documents", "rate": 5, "per": "1s"}]}}}),
    );
    check(
        both,
        expect![
            "routes[0].charges.documents: limit documents by `capacity` alone, or charge another meter here: what is released would have to come back in the windows of its other limits"
        ],
    );
}

#[test]
fn an_id_is_of_what_exists_and_can_be_read() {
    check_charges(json!({"documents": {"units": 1, "id": "path.id"}}), expect![[""]]);
    check_charges(json!({"documents": {"units": 1, "id": "path.rest"}}), expect![[""]]);
    check_charges(json!({"documents": {"units": 1, "id": "header.x-id"}}), expect![[""]]);
    check_charges(
        json!({"documents": {"units": 1, "id": "path.other"}}),
        expect!["routes[0].charges.documents.id: name a parameter of the route's path: {other} is not in it"],
    );
    check_charges(
        json!({"documents": {"units": 1, "id": "header.X-Id"}}),
        expect![
            "routes[0].charges.documents.id: write the name of a header in small letters, such as x-api-version, at most 64 bytes"
        ],
    );
    check_charges(
        json!({"documents": {"units": 1, "id": "query.id"}}),
        expect![
            "routes[0].charges.documents.id: write `path.` and a parameter of the route's path, or `header.` and a header's name"
        ],
    );
    check_charges(
        json!({"documents": {"units": 1, "id": "path."}}),
        expect![
            "routes[0].charges.documents.id: write `path.` and a parameter of the route's path, or `header.` and a header's name"
        ],
    );
    check_charges(
        json!({"documents": {"units": 1, "id": "id"}}),
        expect![
            "routes[0].charges.documents.id: write `path.` and a parameter of the route's path, or `header.` and a header's name"
        ],
    );
    check_charges(
        json!({"tokens": {"units": 1, "id": "path.id"}}),
        expect![
            "routes[0].charges.tokens.id: give tokens a `capacity` in some tier, or leave `id` out: only what exists is told apart"
        ],
    );
    let mut default = with_documents(json!({}));
    merge(&mut default, json!({"default_route": {"charges": {"documents": {"units": 1, "id": "path.id"}}}}));
    check(
        default,
        expect![
            "default_route.charges.documents.id: name a parameter of the route's path: {id} is not in it"
        ],
    );
}

#[test]
fn all_units_of_a_charge_have_a_bound() {
    let most = UNITS_MAX;
    check_charge(json!({"units": most}), expect![[""]]);
    check_charge(
        json!({"units": most + 1}),
        expect!["routes[0].charges.tokens.units: use at most 9007199254740991 units (2^53 - 1)"],
    );
    check_charges(
        json!({"documents": -i64::try_from(most + 1).unwrap()}),
        expect!["routes[0].charges.documents: use at most 9007199254740991 units (2^53 - 1)"],
    );
    check_charges(
        json!({"documents": i64::MIN}),
        expect!["routes[0].charges.documents: use at most 9007199254740991 units (2^53 - 1)"],
    );
    check_charge(
        json!({"response_json": "/a", "default": most + 1, "estimate": most + 1}),
        expect![[r#"
        routes[0].charges.tokens.default: use at most 9007199254740991 units (2^53 - 1)
        routes[0].charges.tokens.estimate: use at most 9007199254740991 units (2^53 - 1)"#]],
    );
    check_charge(
        json!({"response_json": "/a", "estimate": {"request_json": "/b", "default": most + 1}}),
        expect!["routes[0].charges.tokens.estimate.default: use at most 9007199254740991 units (2^53 - 1)"],
    );
}

#[test]
fn things_are_the_organisation_s_and_not_a_member_s() {
    let mut policy = with_documents(json!({"documents": {"units": 1, "id": "path.id"}}));
    policy["issuers"] = json!([{
        "issuer": "https://issuer.example",
        "keys": {"url": "https://issuer.example/jwks"},
        "claims": {"organization": "org"},
    }]);
    policy["tiers"]["pro"]["limits"][0]["scope"] = json!("member");
    check(
        policy,
        expect![
            "routes[0].charges.documents.id: leave `id` out, or the capacity of each member of documents: things are the organisation's"
        ],
    );
}

fn check_labels(by: Value, labels: Value, expected: Expect) {
    let charges = json!({"tokens": {"units": 1, "labels": labels}, "api_calls": 1});
    check(json!({"meters": {"tokens": {"by": by}}, "routes": [{"path": "/", "charges": charges}]}), expected);
}

#[test]
fn labels_are_those_that_the_meter_names() {
    check_labels(json!(["route", "model"]), json!({"model": {"response_json": "/model"}}), expect![""]);
    check_labels(json!(["model"]), json!({"model": "gpt"}), expect![""]);
    check_labels(
        json!([]),
        json!({"model": "gpt"}),
        expect![
            "routes[0].charges.tokens.labels.model: add model to `by` of the meter tokens, or leave the label out"
        ],
    );
    check_labels(
        json!(["route"]),
        json!({"route": "x"}),
        expect![
            "routes[0].charges.tokens.labels.route: leave it out: `route` is the name of the route, wherever the meter names it in `by`"
        ],
    );
    check_labels(
        json!(["model"]),
        json!({"model": ""}),
        expect!["routes[0].charges.tokens.labels.model: write 1 to 128 bytes of text"],
    );
    check_labels(
        json!(["model"]),
        json!({"model": {}}),
        expect![
            "routes[0].charges.tokens.labels.model: give one of `request_header`, `response_header`, `request_json` and `response_json`, or a text instead of this mapping"
        ],
    );
    check_labels(
        json!(["model"]),
        json!({"model": {"request_header": "x-m", "request_json": "/m"}}),
        expect![
            "routes[0].charges.tokens.labels.model: give one of `request_header`, `response_header`, `request_json` and `response_json`, or a text instead of this mapping"
        ],
    );
    check_labels(
        json!(["model"]),
        json!({"model": {"request_header": "X-M"}}),
        expect![
            "routes[0].charges.tokens.labels.model.request_header: write the name of a header in small letters, such as x-api-version, at most 64 bytes"
        ],
    );
    check_labels(
        json!(["model"]),
        json!({"model": {"response_json": "m"}}),
        expect![
            "routes[0].charges.tokens.labels.model.response_json: start the pointer with a slash, such as /usage/total_tokens"
        ],
    );
    check_labels(
        json!(["Model", "model", "model"]),
        json!({}),
        expect![[r#"
        meters.tokens.by[0]: name the label with a small letter and then small letters, digits, `_`, `.` and `-`, at most 64 in all
        meters.tokens.by[2]: remove this label: model is in the list already"#]],
    );
    check_labels(
        json!(["a", "b", "c", "d", "e", "f", "g", "h", "i"]),
        json!({}),
        expect!["meters.tokens.by: use at most 8 labels; there are 9"],
    );
    check_labels(
        json!(["a".repeat(64), "b".repeat(64), "c"]),
        json!({}),
        expect!["meters.tokens.by: use names of at most 128 bytes together"],
    );
}
