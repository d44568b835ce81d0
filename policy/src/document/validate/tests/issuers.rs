//! What is refused of issuers and their keys.

use expect_test::expect;
use serde_json::json;

use super::*;

#[test]
fn key_sources_are_one_of_three() {
    check_issuer(
        json!({"keys": {"jwks": null}}),
        expect!["issuers[0].keys: give exactly one of `jwks`, `file` and `url`"],
    );
    check_issuer(
        json!({"keys": {"file": "keys.json"}}),
        expect!["issuers[0].keys: give exactly one of `jwks`, `file` and `url`"],
    );
    check_issuer(json!({"keys": {"jwks": null, "file": "keys.json"}}), expect![[""]]);
    check_issuer(
        json!({"keys": {"jwks": null, "file": ""}}),
        expect!["issuers[0].keys.file: write 1 to 2048 bytes of text without control characters"],
    );
    for url in ["https://issuer.example/jwks", "http://127.0.0.1:8080/jwks"] {
        check_issuer(json!({"keys": {"jwks": null, "url": url}}), expect![[""]]);
    }
    for url in ["ftp://issuer.example", "https://", "https:///jwks", "issuer.example/jwks"] {
        check_issuer(
            json!({"keys": {"jwks": null, "url": url}}),
            expect![
                "issuers[0].keys.url: write the whole address of the JWKS, starting with https:// or http://"
            ],
        );
    }
}

#[test]
fn a_key_set_has_the_shape_of_one() {
    check_issuer(json!({"keys": {"jwks": {"keys": [{"kty": "RSA"}]}}}), expect![[""]]);
    check_issuer(
        json!({"keys": {"jwks": "text"}}),
        expect!["issuers[0].keys.jwks: write a JSON Web Key Set: an object with an array `keys`"],
    );
    check_issuer(
        json!({"keys": {"jwks": {"keys": {}}}}),
        expect!["issuers[0].keys.jwks: write a JSON Web Key Set: an object with an array `keys`"],
    );
    check_issuer(
        json!({"keys": {"jwks": {"keys": [{}, "text"]}}}),
        expect!["issuers[0].keys.jwks.keys[1]: write a JSON Web Key: an object with `kty`"],
    );
}

#[test]
fn issuers_are_unique_and_their_clocks_tolerable() {
    let issuer = good()["issuers"][0].clone();
    check(
        json!({"issuers": [issuer, issuer]}),
        expect!["issuers[1].issuer: remove one of the two issuers with this name, or merge their keys"],
    );
    check_issuer(json!({"clock_tolerance_s": CLOCK_TOLERANCE_S_MAX}), expect![[""]]);
    check_issuer(
        json!({"clock_tolerance_s": CLOCK_TOLERANCE_S_MAX + 1}),
        expect![
            "issuers[0].clock_tolerance_s: use at most 300 seconds: a token is good for that much longer than it says"
        ],
    );
    check_issuer(
        json!({"issuer": "", "audiences": ["a\nb"], "require_typ": ""}),
        expect![[r#"
        issuers[0].issuer: write 1 to 2048 bytes of text without control characters
        issuers[0].audiences[0]: write 1 to 2048 bytes of text without control characters
        issuers[0].require_typ: write 1 to 2048 bytes of text without control characters"#]],
    );
}

#[test]
fn claims_are_names_or_json_pointers() {
    check_issuer(
        json!({"claims": {"user": "/realm/a~0b~1c", "organization": "a~b", "tier": "/"}}),
        expect![[""]],
    );
    check_issuer(
        json!({"claims": {"user": "/a~2", "organization": "", "tier": "/a~"}}),
        expect![[r#"
        issuers[0].claims.user: write `~` as `~0` in a JSON Pointer (RFC 6901), and a slash within a name as `~1`
        issuers[0].claims.organization: write 1 to 2048 bytes of text without control characters
        issuers[0].claims.tier: write `~` as `~0` in a JSON Pointer (RFC 6901), and a slash within a name as `~1`"#]],
    );
}

#[test]
fn a_token_that_nobody_could_sign_is_not_asked_for() {
    check(
        json!({"issuers": []}),
        expect![
            "issuers: add an issuer, or write `auth: none` in routes[0] (and 1 more): a token is required there and no issuer could have signed it"
        ],
    );
    check(
        json!({"issuers": [], "routes": []}),
        expect![
            "issuers: add an issuer, or write `auth: none` in default_route: a token is required there and no issuer could have signed it"
        ],
    );
    let open =
        json!({"issuers": [], "routes": [{"path": "/", "auth": "none"}], "default_route": {"auth": "none"}});
    check(open, expect![[""]]);
}
