//! The examples of the RFCs.

use jsonwebtoken::DecodingKey;

use super::*;

/// The `exp` of RFC 7515's examples, plus the tolerance.
const EXPIRES_MS: i64 = (1_300_819_380 + 30) * 1_000;

/// The examples name an issuer and no user: whoever trusts that issuer may read the caller from its name.
fn keyring(jwk: Value) -> Keyring {
    let mut joe = issuer("joe", json!({"keys": [jwk]}));
    joe.claims.user = "iss".to_owned();
    Keyring::from_issuers(&[joe]).expect("the keys are good")
}

#[track_caller]
fn check_example(jwk: Value, token: &str) {
    let keyring = keyring(jwk);
    let caller = verify(&keyring, token.as_bytes(), EXPIRES_MS - 1).expect("it is valid until it expires");
    assert_eq!((caller.subject.as_str(), caller.expires_at_ms), ("user:joe", EXPIRES_MS));
    assert_eq!(verify(&keyring, token.as_bytes(), EXPIRES_MS), Err(TokenFault::Expired));
}

#[test]
fn rfc_7515_a1_hs256() {
    check_example(json!({"kty": "oct", "k": vectors::SECRET}), vectors::A1_TOKEN);
}

#[test]
fn rfc_7515_a2_rs256() {
    check_example(json!({"kty": "RSA", "n": vectors::RSA_N, "e": "AQAB"}), vectors::A2_TOKEN);
}

#[test]
fn rfc_7515_a3_es256() {
    check_example(p256_jwk("none is asked for"), vectors::A3_TOKEN);
}

/// These sign text, not claims, so the question is only whether the signature holds.
#[track_caller]
fn check_signature(key: &DecodingKey, algorithm: Algorithm, token: &str) {
    let (message, signature) = token.rsplit_once('.').expect("a token");
    for host in [None, Some(host::fake as provider::HostVerify)] {
        let verifier = provider::verifier(host, &algorithm, key).expect("the key fits");
        assert!(verifier.verify(message.as_bytes(), &decode(signature)).is_ok());
        assert!(verifier.verify(&message.as_bytes()[1..], &decode(signature)).is_err());
    }
    // As a token it is refused: its payload is no claims.
    check(token, "token-malformed");
}

#[test]
fn rfc_8037_a4_ed25519() {
    check_signature(&DecodingKey::from_ed_der(&decode(vectors::ED_X)), Algorithm::EdDSA, vectors::ED_TOKEN);
}

#[test]
fn rfc_7520_cookbook() {
    let rsa = DecodingKey::from_rsa_components(vectors::COOKBOOK_RSA_N, "AQAB").expect("it is base64url");
    check_signature(&rsa, Algorithm::RS256, vectors::COOKBOOK_RS256);
    let secret = DecodingKey::from_secret(&decode(vectors::COOKBOOK_SECRET));
    check_signature(&secret, Algorithm::HS256, vectors::COOKBOOK_HS256);
    // A good signature too, but its algorithm is not among those that a policy can allow.
    check_signature(&rsa, Algorithm::PS384, vectors::COOKBOOK_PS384);
    assert_eq!(unverified::algorithm("PS384"), None);
}
