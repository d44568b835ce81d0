//! What is refused before any limit is looked at, and what the upstream gets to see.

use expect_test::{Expect, expect};
use serde_json::json;

use super::*;

/// Sends one request and shows its answer, or the headers that the upstream gets.
fn check(headers: Headers, expected: Expect) {
    let mut w = world(&daily(5));
    let sending = w.send(0, headers);
    w.run(2_500);
    let shown = match w.answer(sending) {
        Some(answer) => {
            let body: Value = serde_json::from_slice(&answer.body).unwrap();
            assert_eq!(answer.headers["content-type"], "application/problem+json");
            assert_eq!(answer.headers["cache-control"], "no-store");
            assert_eq!(answer.headers.contains_key("www-authenticate"), answer.status == 401);
            assert_eq!(body["type"], format!("about:blank#{}", body["code"].as_str().unwrap()));
            assert!(body["detail"].as_str().unwrap().len() > 20 && body["title"].is_string());
            let challenge = answer.headers.get("www-authenticate").map_or("", String::as_str);
            format!("{} {} {challenge}", answer.status, body["code"].as_str().unwrap())
        }
        None => w.look(sending, |stream| {
            let headers = stream.headers.iter().filter(|(name, _)| name.starts_with("x-"));
            headers.map(|(name, value)| format!("{name}: {}\n", String::from_utf8_lossy(value))).collect()
        }),
    };
    expected.assert_eq(shown.trim());
}

fn with(mut headers: Headers, name: &str, value: &[u8]) -> Headers {
    headers.push((name.to_owned(), value.to_vec()));
    headers
}

fn without(mut headers: Headers, name: &str) -> Headers {
    headers.retain(|(other, _)| other != name);
    headers
}

fn authorization(value: &[u8]) -> Headers {
    with(without(headers("/x", ""), "authorization"), "authorization", value)
}

fn changed(member: &str, value: Value) -> Headers {
    let mut claims = claims("alice");
    claims[member] = value;
    headers("/x", &sign("k1", &claims))
}

#[test]
fn a_token_that_is_not_good_gets_401_and_its_code() {
    let malformed = || {
        expect![[r#"401 token-malformed Bearer error="invalid_token", error_description="token-malformed""#]]
    };
    check(without(headers("/x", ""), "authorization"), expect!["401 token-missing Bearer"]);
    check(headers("/x", "nonsense"), malformed());
    check(headers("/x", ""), malformed());
    check(authorization(b"Basic YTpi"), malformed());
    check(authorization(b""), malformed());
    check(authorization(b"\xff\xfe\xfd\xff\xff\xff\xff\xff"), malformed());
    check(authorization(b"Bearer \xff.\xff.\xff"), malformed());
    check(with(headers("/x", &token("alice")), "authorization", b"Bearer x"), malformed());
    let unsigned =
        format!("{}.{}.", base64url(br#"{"alg":"none"}"#), base64url(claims("a").to_string().as_bytes()));
    check(headers("/x", &unsigned), malformed());
    check(
        headers("/x", &"a".repeat(65_536)),
        expect![[r#"401 token-too-large Bearer error="invalid_token", error_description="token-too-large""#]],
    );
    let none = format!("{unsigned}{}", base64url(b"signature"));
    check(
        headers("/x", &none),
        expect![[r#"401 token-algorithm Bearer error="invalid_token", error_description="token-algorithm""#]],
    );
    check(
        changed("iss", json!("https://other.example")),
        expect![[
            r#"401 token-unknown-issuer Bearer error="invalid_token", error_description="token-unknown-issuer""#
        ]],
    );
    check(
        changed("aud", json!("other")),
        expect![[r#"401 token-audience Bearer error="invalid_token", error_description="token-audience""#]],
    );
    check(
        changed("exp", json!(START_MS / 1_000 - 31)),
        expect![[r#"401 token-expired Bearer error="invalid_token", error_description="token-expired""#]],
    );
    check(
        changed("nbf", json!(START_MS / 1_000 + 40)),
        expect![[
            r#"401 token-not-yet-valid Bearer error="invalid_token", error_description="token-not-yet-valid""#
        ]],
    );
    check(
        changed("sub", json!(["a"])),
        expect![[r#"401 token-claims Bearer error="invalid_token", error_description="token-claims""#]],
    );
    let mut forged = token("alice");
    forged.replace_range(forged.len() - 4.., "AAAA");
    check(
        headers("/x", &forged),
        expect![[r#"401 token-signature Bearer error="invalid_token", error_description="token-signature""#]],
    );
    check(
        headers("/x", &sign("k2", &claims("alice"))),
        expect![[
            r#"401 token-unknown-key Bearer error="invalid_token", error_description="token-unknown-key""#
        ]],
    );
}

#[test]
fn a_good_token_passes_with_who_it_names_and_nothing_that_was_claimed() {
    let good = expect![[r#"
        x-other: kept
        x-tollgate-subject: user:alice
        x-tollgate-tier: free"#]];
    let mut spoofed = headers("/x", &token("alice"));
    for (name, value) in [
        ("x-tollgate-subject", &b"user:root"[..]),
        ("x-tollgate-tier", b"pro"),
        ("x-tollgate-tier", b"pro2"),
        ("x-tollgate-decision", b"allow"),
        ("x-tollgate-features", b"\xff"),
        ("x-other", b"kept"),
    ] {
        spoofed = with(spoofed, name, value);
    }
    check(spoofed, good);
    check(
        authorization(format!("bEaReR  {} ", token("alice")).as_bytes()),
        expect![[r#"
        x-tollgate-subject: user:alice
        x-tollgate-tier: free"#]],
    );
    check(
        with(headers("/x", &token("alice")), "x-bytes", b"\xff"),
        expect![[r#"
        x-bytes: �
        x-tollgate-subject: user:alice
        x-tollgate-tier: free"#]],
    );
    check(
        changed("org", json!("acmé")),
        expect![[r#"
        x-tollgate-subject: org:acmé
        x-tollgate-tier: free"#]],
    );
    check(
        changed("plan", json!("pro")),
        expect![[r#"
        x-tollgate-subject: user:alice
        x-tollgate-tier: pro
        x-tollgate-features: beta,export"#]],
    );
    check(
        changed("plan", json!("no-such-tier")),
        expect![[r#"
        x-tollgate-subject: user:alice
        x-tollgate-tier: free"#]],
    );
}

#[test]
fn a_public_route_needs_no_token_and_believes_none() {
    let public = || expect!["x-tollgate-decision: allow"];
    check(without(headers("/status", ""), "authorization"), public());
    check(with(headers("/status", "nonsense"), "x-tollgate-subject", b"user:root"), public());
    check(without(headers("/status/", ""), "authorization"), public());
}

#[test]
fn a_path_that_can_be_read_in_two_ways_gets_400() {
    for path in ["/x/../status", "/%2e%2e/status", "//status", "/a%2fb", "/a;b", "*", "", "/\\x", "/%"] {
        check(headers(path, &token("alice")), expect!["400 path-ambiguous"]);
    }
    let bytes = with(without(headers("", &token("a")), ":path"), ":path", b"/\xff");
    check(bytes, expect!["400 path-ambiguous"]);
    check(without(headers("", &token("a")), ":path"), expect!["400 path-ambiguous"]);
}

#[test]
fn a_feature_that_the_tier_lacks_gets_403() {
    check(headers("/export", &token("alice")), expect!["403 feature-required"]);
}

#[test]
fn an_access_log_can_tell_what_was_refused_and_to_whom() {
    let mut w = world(&daily(1));
    let note = |w: &mut World, user: &str, path: &str| {
        let sending = w.ask(0, user, path);
        w.run(2_500);
        w.look(sending, |stream| {
            let note = stream.headers.iter().find(|(name, _)| name == "x-tollgate-denial");
            note.map(|(_, value)| String::from_utf8_lossy(value).into_owned())
        })
    };
    assert_eq!(note(&mut w, "alice", "/x"), None);
    let expected = r#"quota-exceeded;subject="user:alice";tier="free";limit="calls.day";route="default""#;
    assert_eq!(note(&mut w, "alice", "/x").as_deref(), Some(expected));
    let expected = r#"feature-required;subject="user:b\"o\\b";tier="free";route="/export""#;
    assert_eq!(note(&mut w, r#"b"o\b"#, "/export").as_deref(), Some(expected));
    let unknown = w.send(0, headers("/x", "nonsense"));
    let headers = w.look(unknown, |stream| stream.headers.clone());
    assert!(headers.contains(&("x-tollgate-denial".to_owned(), b"token-malformed".to_vec())), "{headers:?}");
}
