//! A host that verifies as Envoy does: it gets an SPKI, a DER signature and a message, and reads them with parsers that
//! are not ours.

use std::sync::atomic::{AtomicUsize, Ordering};

use jsonwebtoken::DecodingKey;
use jsonwebtoken::jwk::ThumbprintHash;
use jsonwebtoken::signature::Verifier;
use p256::pkcs8::DecodePublicKey;
use rsa::{Pkcs1v15Sign, RsaPublicKey};
use sha2::{Digest, Sha256, Sha384, Sha512};

use super::*;
use crate::jwt::provider::{Hash, PROVIDER, install, verifier};

/// What `verify_signature` of a proxy does.
pub(super) fn fake(hash: Hash, spki: &[u8], signature: &[u8], message: &[u8]) -> Option<bool> {
    if let Ok(key) = RsaPublicKey::from_public_key_der(spki) {
        let verdict = match hash {
            Hash::Sha256 => key.verify(Pkcs1v15Sign::new::<Sha256>(), &Sha256::digest(message), signature),
            Hash::Sha384 => key.verify(Pkcs1v15Sign::new::<Sha384>(), &Sha384::digest(message), signature),
            Hash::Sha512 => key.verify(Pkcs1v15Sign::new::<Sha512>(), &Sha512::digest(message), signature),
        };
        return Some(verdict.is_ok());
    }
    if let Ok(key) = p256::ecdsa::VerifyingKey::from_public_key_der(spki) {
        assert_eq!(hash, Hash::Sha256);
        return Some(
            p256::ecdsa::Signature::from_der(signature)
                .is_ok_and(|signature| key.verify(message, &signature).is_ok()),
        );
    }
    let key = p384::ecdsa::VerifyingKey::from_public_key_der(spki).expect("a key that the host can read");
    assert_eq!(hash, Hash::Sha384);
    Some(
        p384::ecdsa::Signature::from_der(signature)
            .is_ok_and(|signature| key.verify(message, &signature).is_ok()),
    )
}

fn parts(token: &str) -> (&[u8], Vec<u8>) {
    let (message, signature) = token.rsplit_once('.').expect("a token");
    (message.as_bytes(), decode(signature))
}

fn key(algorithm: Algorithm) -> DecodingKey {
    let point = |x, y| [vec![4], decode(x), decode(y)].concat();
    match algorithm {
        Algorithm::ES256 => DecodingKey::from_ec_der(&point(vectors::P256_X, vectors::P256_Y)),
        Algorithm::ES384 => DecodingKey::from_ec_der(&point(vectors::P384_X, vectors::P384_Y)),
        Algorithm::EdDSA => DecodingKey::from_ed_der(&decode(vectors::ED_X)),
        Algorithm::HS256 => DecodingKey::from_secret(&decode(vectors::SECRET)),
        _ => DecodingKey::from_rsa_components(vectors::RSA_N, "AQAB").expect("the vectors are base64url"),
    }
}

#[test]
fn rsa_pkcs1_and_ecdsa_are_the_hosts_and_nothing_else() {
    for (name, asked) in [
        ("RS256", true),
        ("RS384", true),
        ("RS512", true),
        ("PS256", false),
        ("ES256", true),
        ("ES384", true),
        ("EdDSA", false),
        ("HS256", false),
    ] {
        let algorithm = name.parse().expect("an algorithm");
        let token = draft(name, "any").sign();
        let (message, signature) = parts(&token);
        let verdict = |host| {
            let verifier = verifier(host, &algorithm, &key(algorithm)).expect("the key fits");
            assert_eq!(verifier.algorithm(), algorithm);
            verifier.verify(message, &signature).is_ok()
        };
        // A host that says no to all shows who was asked.
        assert_eq!(verdict(Some(|_, _, _, _| Some(false))), !asked, "{name}");
        assert!(verdict(None) && verdict(Some(fake)) && verdict(Some(|_, _, _, _| None)), "{name}");
    }
}

#[test]
fn a_key_of_another_family_or_curve_never_reaches_the_host() {
    for (algorithm, other) in [
        (Algorithm::RS256, Algorithm::ES256),
        (Algorithm::RS256, Algorithm::HS256),
        (Algorithm::ES256, Algorithm::RS256),
        (Algorithm::ES256, Algorithm::ES384),
        (Algorithm::ES384, Algorithm::ES256),
        (Algorithm::HS256, Algorithm::RS256),
    ] {
        let reached = verifier(Some(|_, _, _, _| Some(true)), &algorithm, &key(other))
            .is_ok_and(|verifier| verifier.verify(b"message", &vec![1; 64]).is_ok());
        assert!(!reached, "{algorithm:?} with a key for {other:?}");
    }
}

#[test]
fn a_signature_of_the_wrong_length_never_verifies() {
    let token = draft("ES256", "p256").sign();
    let (message, signature) = parts(&token);
    let padded = [&[0], &signature[..32], &[0], &signature[32..]].concat();
    for host in [None, Some(fake as HostVerify), Some((|_, _, _, _| Some(true)) as HostVerify)] {
        let verifier = verifier(host, &Algorithm::ES256, &key(Algorithm::ES256)).expect("the key fits");
        assert!(verifier.verify(message, &padded).is_err(), "the same two numbers, longer");
        assert!(verifier.verify(message, &signature[..63].to_vec()).is_err());
        assert!(verifier.verify(message, &Vec::new()).is_err());
    }
}

#[test]
fn numbers_out_of_range_are_refused_by_both() {
    let token = draft("ES256", "p256").sign();
    let (message, signature) = parts(&token);
    for bad in [
        vec![0; 64],
        vec![0xff; 64],
        [vec![0; 32], signature[32..].to_vec()].concat(),
        [signature[..32].to_vec(), vec![0; 32]].concat(),
    ] {
        for host in [None, Some(fake as HostVerify)] {
            let verifier = verifier(host, &Algorithm::ES256, &key(Algorithm::ES256)).expect("the key fits");
            assert!(verifier.verify(message, &bad).is_err());
        }
    }
}

/// The one test that installs a host: a process has one, and keeps the first.
#[test]
fn the_first_host_installed_is_asked_by_us_and_by_jsonwebtoken() {
    static ASKED: AtomicUsize = AtomicUsize::new(0);
    install(None);
    install(Some(|hash, spki, signature, message| {
        ASKED.fetch_add(1, Ordering::Relaxed);
        fake(hash, spki, signature, message)
    }));
    install(Some(|_, _, _, _| Some(false)));
    install(None);
    let token = draft("ES256", "p256").sign();
    assert!(KEYRING.verify(token.as_bytes(), NOW_MS).is_ok());
    assert_eq!(ASKED.load(Ordering::Relaxed), 1);
    let (message, signature) = token.rsplit_once('.').expect("a token");
    let key = key(Algorithm::ES256);
    let verdict = jsonwebtoken::crypto::verify(signature, message.as_bytes(), &key, Algorithm::ES256);
    assert!(verdict.expect("it can tell"));
    assert_eq!(ASKED.load(Ordering::Relaxed), 2);
}

#[test]
fn digests_are_rust_cryptos() {
    let digest = (PROVIDER.key_utils.compute_digest)(b"x", ThumbprintHash::SHA256).expect("it digests");
    assert_eq!(digest, Sha256::digest(b"x").to_vec());
}
