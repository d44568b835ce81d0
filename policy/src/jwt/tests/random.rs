//! Whatever comes in, nothing panics and nothing verifies that its issuer did not sign.

use std::sync::LazyLock;

use proptest::prelude::*;

use super::*;

static TOKENS: LazyLock<Vec<Vec<u8>>> = LazyLock::new(|| {
    [("ES256", "p256"), ("EdDSA", "ed"), ("HS256", "oct"), ("RS256", "rsa")]
        .map(|(algorithm, kid)| draft(algorithm, kid).sign().into_bytes())
        .to_vec()
});

proptest! {
    #[test]
    fn random_bytes_never_verify(bytes in prop::collection::vec(any::<u8>(), 0..600), now_ms: i64) {
        prop_assert!(verify(&KEYRING, &bytes, now_ms).is_err());
    }

    #[test]
    fn random_parts_never_verify(header in "\\PC{0,60}", claims in "\\PC{0,60}", signature: Vec<u8>) {
        let token = format!("{}.{}.{}", encode(header), encode(claims), encode(signature));
        prop_assert!(verify(&KEYRING, token.as_bytes(), NOW_MS).is_err());
    }

    #[test]
    fn random_signed_claims_never_panic(
        name in prop::sample::select(vec!["iss", "aud", "exp", "nbf", "iat", "sub", "org", "other"]),
        value in prop_oneof![
            any::<i64>().prop_map(Value::from),
            any::<f64>().prop_map(Value::from),
            any::<String>().prop_map(Value::from),
            any::<Vec<u32>>().prop_map(Value::from),
        ],
        now_ms: i64,
    ) {
        let _ = verify(&KEYRING, draft("HS256", "oct").claim(name, value).sign().as_bytes(), now_ms);
    }

    #[test]
    fn random_changes_never_verify(
        token in 0..4_usize,
        at: prop::sample::Index,
        len in 0..4_usize,
        with in prop::collection::vec(any::<u8>(), 0..4),
    ) {
        let original = &TOKENS[token];
        let start = at.index(original.len() + 1);
        let end = (start + len).min(original.len());
        let mut changed = original.clone();
        changed.splice(start..end, with);
        prop_assume!(&changed != original);
        prop_assert!(verify(&KEYRING, &changed, NOW_MS).is_err());
    }

    #[test]
    fn random_key_sets_never_panic(
        kty in prop::sample::select(vec!["RSA", "EC", "OKP", "oct", "other"]),
        crv in prop::sample::select(vec!["P-256", "P-384", "Ed25519"]),
        first: Vec<u8>,
        second: Vec<u8>,
    ) {
        let (first, second) = (encode(first), encode(second));
        let jwk = json!({"kty": kty, "crv": crv, "n": first, "e": second, "x": first, "y": second, "k": first});
        let _ = Keyring::from_issuers(&[issuer(ISSUER, json!({"keys": [jwk]}))]);
    }
}
