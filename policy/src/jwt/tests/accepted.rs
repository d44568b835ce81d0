//! Tokens that are accepted, and what they say of their caller.

use super::*;

#[test]
fn each_key_verifies_what_its_type_implies() {
    for (algorithm, kid) in [
        ("RS256", "rsa"),
        ("RS384", "rsa"),
        ("RS512", "rsa"),
        ("PS256", "rsa"),
        ("RS256", "rs256"),
        ("ES256", "p256"),
        ("ES384", "p384"),
        ("EdDSA", "ed"),
        ("HS256", "oct"),
        ("RS256", "shared"),
        ("ES256", "shared"),
    ] {
        check(draft(algorithm, kid).sign(), "user:alice");
        check(draft(algorithm, kid).header("kid", Value::Null).sign(), "user:alice");
    }
}

#[test]
fn key_material_in_a_header_is_never_looked_at() {
    let own = json!({"kty": "oct", "k": vectors::SECRET});
    let token =
        draft("RS256", "rsa").header("jwk", own).header("jku", "https://evil.example").header("b64", false);
    check(token.header("x5u", "https://evil.example").sign(), "user:alice");
}

#[test]
fn the_caller_is_what_the_claims_say() {
    let token = draft("ES256", "p256")
        .claim("org", json!({"id": "acme"}))
        .claim("https://issuer.example/tier", "gold")
        .claim("iat", NOW_S)
        .claim("nbf", NOW_S - 60)
        .sign();
    assert_eq!(
        verify(&KEYRING, token.as_bytes(), NOW_MS),
        Ok(Caller {
            subject: "org:acme".to_owned(),
            user: Some("alice".to_owned()),
            organization: Some("acme".to_owned()),
            tier: Some("gold".to_owned()),
            expires_at_ms: (NOW_S + 600 + 30) * 1_000,
            not_before_ms: Some((NOW_S - 30) * 1_000),
            issuer: 0,
            is_organization_admin: false,
        })
    );
}

#[test]
fn an_organization_alone_is_a_caller() {
    let token = draft("ES256", "p256").claim("sub", Value::Null).claim("org", json!({"id": "acme"})).sign();
    let caller = verify(&KEYRING, token.as_bytes(), NOW_MS).expect("it names someone");
    assert_eq!((caller.subject.as_str(), caller.user), ("org:acme", None));
}

#[test]
fn users_are_strings_or_whole_numbers() {
    let long = "x".repeat(256);
    for (claim, subject) in [
        (json!(42), "user:42"),
        (json!(-7), "user:-7"),
        (json!(u64::MAX), "user:18446744073709551615"),
        (json!("ünïcode name"), "user:ünïcode name"),
        (json!(long), &format!("user:{long}")),
    ] {
        check(draft("HS256", "oct").claim("sub", claim).sign(), subject);
    }
}

#[test]
fn one_audience_of_ours_is_enough() {
    for audience in [json!("api"), json!("api-2"), json!(["other", "api"])] {
        check(draft("HS256", "oct").claim("aud", audience).sign(), "user:alice");
    }
}

#[test]
fn the_type_may_be_written_in_long_and_in_any_case() {
    for typ in ["at+jwt", "AT+JWT", "application/at+jwt", "Application/At+Jwt"] {
        let token = draft("ES256", "p256").claim("iss", TYPED_ISSUER).header("typ", typ);
        check(token.sign(), "user:alice");
    }
    let mut long = issuer(ISSUER, json!({"keys": [p256_jwk("p256")]}));
    long.require_typ = Some("Application/AT+jwt".to_owned());
    let keyring = Keyring::from_issuers(&[long]).expect("the key is good");
    let token = draft("ES256", "p256").header("typ", "at+jwt").sign();
    assert!(verify(&keyring, token.as_bytes(), NOW_MS).is_ok(), "the policy may write it in long, too");
}

#[test]
fn times_are_held_to_the_millisecond() {
    let expiring = |exp: Value| draft("HS256", "oct").claim("exp", exp).sign();
    let until = (NOW_S + 30) * 1_000;
    check_at(expiring(json!(NOW_S)), until - 1, "user:alice");
    check_at(expiring(json!(NOW_S)), until, "token-expired");
    check_at(expiring(json!(NOW_S as f64 + 0.5)), until + 499, "user:alice");
    check_at(expiring(json!(NOW_S as f64 + 0.5)), until + 500, "token-expired");
    check_at(expiring(json!(253_402_300_799_i64)), NOW_MS, "user:alice");
    check_at(expiring(json!(253_402_300_799.0)), NOW_MS, "user:alice");
    check_at(expiring(json!(0)), 29_999, "user:alice");
    check_at(expiring(json!(0.0)), 29_999, "user:alice");
    for name in ["nbf", "iat"] {
        let starting = draft("HS256", "oct").claim(name, NOW_S).sign();
        check_at(&starting, NOW_MS - 30_000, "user:alice");
        check_at(&starting, NOW_MS - 30_001, "token-not-yet-valid");
        // The later of the two decides.
        let other = if name == "nbf" { "iat" } else { "nbf" };
        let both = draft("HS256", "oct").claim(name, NOW_S).claim(other, NOW_S - 100).sign();
        check_at(both, NOW_MS - 30_001, "token-not-yet-valid");
    }
}

#[test]
fn a_token_may_be_as_long_as_the_bound() {
    let draft = draft("HS256", "oct");
    let base = draft.clone().claim("pad", "").sign().len();
    let filler = |len: usize| draft.clone().claim("pad", "x".repeat(len)).sign();
    let len = (TOKEN_BYTES_MAX - base) * 3 / 4;
    let fits = (len - 3..len + 4)
        .map(&filler)
        .filter(|token| token.len() <= TOKEN_BYTES_MAX)
        .max_by_key(String::len);
    let fits = fits.expect("one fits");
    assert_eq!(fits.len(), TOKEN_BYTES_MAX, "the longest that fits has the full length");
    check(fits, "user:alice");
}
