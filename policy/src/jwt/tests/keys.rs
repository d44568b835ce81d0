//! Which key sets are taken, and how the others are refused.

use super::*;

/// Reads a set of one key. The result: how many keys it gave, or the path and sentence.
#[track_caller]
fn check(jwk: Value, expected: Result<usize, (&str, &str)>) {
    check_set(json!({"keys": [jwk]}), expected);
}

#[track_caller]
fn check_set(jwks: Value, expected: Result<usize, (&str, &str)>) {
    let found = Keyring::from_issuers(&[issuer("a", json!({"keys": []})), issuer("b", jwks)]);
    match (found, expected) {
        (Ok(keyring), Ok(count)) => assert_eq!(keyring.0[1].keys.len(), count),
        (Err(faults), Err((path, part))) => {
            let [(found, sentence)] = faults.as_slice() else { panic!("one fault, not {faults:?}") };
            assert_eq!(found, &format!("[1].keys.jwks{path}"));
            assert!(sentence.contains(part) && sentence.ends_with('.'), "{sentence}");
        }
        (found, _) => panic!("{found:?}"),
    }
}

fn with(mut jwk: Value, name: &str, value: impl Into<Value>) -> Value {
    set(&mut jwk, name, value.into());
    jwk
}

fn rsa() -> Value {
    rsa_jwk("k")
}

fn rsa_of_bits(bits: usize) -> Value {
    let mut modulus = vec![0; bits.div_ceil(8)];
    modulus[0] = 1 << ((bits - 1) % 8);
    *modulus.last_mut().expect("not empty") |= 1;
    with(rsa(), "n", encode(modulus))
}

fn oct(bytes: usize) -> Value {
    json!({"kty": "oct", "k": encode(vec![7; bytes])})
}

#[test]
fn keys_that_cannot_verify_here_are_left_out() {
    for jwk in [
        with(rsa(), "use", "enc"),
        with(rsa(), "alg", "RSA-OAEP"),
        with(rsa(), "alg", "PS384"),
        with(rsa(), "key_ops", json!(["encrypt"])),
        json!({"kty": "EC", "crv": "P-521", "x": "AA", "y": "AA"}),
        json!({"kty": "EC", "crv": "secp256k1"}),
        json!({"kty": "EC"}),
        json!({"kty": "OKP", "crv": "X25519", "x": vectors::ED_X}),
        json!({"kty": "AKP", "alg": "ML-DSA-44", "pub": "AA"}),
        with(oct(32), "alg", "HS512"),
    ] {
        check(jwk, Ok(0));
    }
    for jwk in
        [rsa(), with(rsa(), "use", "sig"), with(rsa(), "key_ops", json!(["verify"])), with(oct(32), "d", "x")]
    {
        check(jwk, Ok(1));
    }
}

#[test]
fn malformed_keys_are_refused_where_they_are_wrong() {
    for (jwk, path, sentence) in [
        (json!("key"), "", "object"),
        (json!({"n": vectors::RSA_N}), ".kty", "type"),
        (json!({"kty": 1}), ".kty", "string"),
        (with(rsa(), "kid", 7), ".kid", "string"),
        (with(rsa(), "use", 7), ".use", "string"),
        (with(rsa(), "alg", 7), ".alg", "string"),
        (with(rsa(), "alg", "ES256"), ".alg", "does not fit"),
        (with(rsa(), "alg", "HS256"), ".alg", "does not fit"),
        (with(p256_jwk("k"), "alg", "ES384"), ".alg", "does not fit"),
        (with(rsa(), "d", "AQAB"), ".d", "private key"),
        (with(p256_jwk("k"), "d", "AQAB"), ".d", "private key"),
        (with(rsa(), "n", Value::Null), ".n", "base64url"),
        (with(rsa(), "n", format!("{}=", vectors::RSA_N)), ".n", "base64url"),
        (with(rsa(), "n", vectors::WEAK_RSA_N), ".n", "1024 bits, too few"),
        (with(rsa(), "n", ""), ".n", "0 bits"),
        (with(rsa(), "n", encode([0xfe; 256])), ".n", "even"),
        (with(rsa(), "e", Value::Null), ".e", "base64url"),
        (with(rsa(), "e", encode([0])), ".e", "exponent"),
        (with(rsa(), "e", encode([1])), ".e", "exponent"),
        (with(rsa(), "e", encode([1, 0, 0])), ".e", "exponent"),
        (with(rsa(), "e", encode([2, 0, 0, 0, 1])), ".e", "exponent"),
        (with(rsa(), "e", encode([1, 0, 0, 0, 0, 0, 0, 0, 3])), ".e", "exponent"),
        (with(p256_jwk("k"), "x", vectors::P256_Y), ".x", "not on"),
        (with(p256_jwk("k"), "x", encode([1; 31])), ".x", "32 bytes"),
        (with(p256_jwk("k"), "y", encode([1; 33])), ".y", "32 bytes"),
        (with(p256_jwk("k"), "crv", "P-384"), ".x", "48 bytes"),
        (json!({"kty": "OKP", "crv": "Ed25519", "x": encode([1; 31])}), ".x", "32 bytes"),
        (json!({"kty": "OKP", "crv": "Ed25519", "x": encode([2; 32])}), ".x", "Ed25519"),
        (oct(31), ".k", "31 bytes"),
    ] {
        check(jwk, Err((&format!(".keys[0]{path}"), sentence)));
    }
}

#[test]
fn rsa_keys_have_2048_to_4096_bits() {
    check(rsa_of_bits(2047), Err((".keys[0].n", "2047 bits")));
    check(rsa_of_bits(2048), Ok(1));
    check(rsa_of_bits(4096), Ok(1));
    check(rsa_of_bits(4097), Err((".keys[0].n", "at most 4096")));
}

#[test]
fn the_bounds_of_exponents_and_secrets_are_inside() {
    check(with(rsa(), "e", encode([3])), Ok(1));
    check(with(rsa(), "e", encode([1, 0xff, 0xff, 0xff, 0xff])), Ok(1));
    check(oct(32), Ok(1));
}

#[test]
fn a_leading_zero_in_a_modulus_is_harmless() {
    let jwk = with(rsa(), "n", encode([vec![0], decode(vectors::RSA_N)].concat()));
    let mut padded = issuer(ISSUER, json!({"keys": [with(jwk, "e", encode([0, 1, 0, 1]))]}));
    padded.audiences = vec!["api".to_owned()];
    let keyring = Keyring::from_issuers(&[padded]).expect("the key is good");
    let token = draft("RS256", "k").sign();
    assert!(verify(&keyring, token.as_bytes(), NOW_MS).is_ok());
}

#[test]
fn every_fault_is_reported() {
    let jwks = json!({"keys": [oct(1), rsa(), with(rsa(), "e", "")]});
    let faults = Keyring::from_issuers(&[issuer("a", jwks), issuer("b", json!([]))]).map(|_| ()).unwrap_err();
    let paths: Vec<_> = faults.iter().map(|(path, _)| path.as_str()).collect();
    assert_eq!(paths, ["[0].keys.jwks.keys[0].k", "[0].keys.jwks.keys[2].e", "[1].keys.jwks"]);
}

#[test]
fn a_set_is_an_object_with_a_bounded_list() {
    check_set(json!({"keys": {}}), Err(("", "keys")));
    check_set(json!(null), Err(("", "keys")));
    check_set(json!({"keys": vec![oct(32); 64]}), Ok(64));
    check_set(json!({"keys": vec![oct(32); 65]}), Err((".keys", "65")));
}

#[test]
fn a_token_is_tried_against_a_bounded_number_of_keys() {
    let decoy = |index: usize| json!({"kty": "oct", "k": encode([index as u8; 32])});
    for (decoys, accepted) in [(7, true), (8, false)] {
        let mut keys: Vec<_> = (0..decoys).map(decoy).collect();
        keys.push(json!({"kty": "oct", "k": vectors::SECRET}));
        let keyring =
            Keyring::from_issuers(&[issuer(ISSUER, json!({"keys": keys}))]).expect("the keys are good");
        let token = draft("HS256", "none").header("kid", Value::Null).sign();
        assert_eq!(verify(&keyring, token.as_bytes(), NOW_MS).is_ok(), accepted, "{decoys} other keys first");
    }
}
