//! What the module promises, checked with and without a host that verifies: both must say the same.

mod accepted;
mod host;
mod keys;
mod random;
mod refused;
mod rfc;
pub(super) mod vectors;

use std::sync::LazyLock;

use jsonwebtoken::{Algorithm, EncodingKey};
use serde_json::{Value, json};

use super::provider::PROVIDER;
use super::*;
use crate::document::KeySource;

/// When the tests' tokens are used, Unix seconds.
const NOW_S: i64 = 1_700_000_000;
const NOW_MS: i64 = NOW_S * 1_000;

const ISSUER: &str = "https://issuer.example";
const TYPED_ISSUER: &str = "https://typed.example";
const KEYLESS_ISSUER: &str = "https://keyless.example";

pub(super) fn decode(text: &str) -> Vec<u8> {
    unverified::decode(text.as_bytes()).expect("the vectors are base64url")
}

fn encode(bytes: impl AsRef<[u8]>) -> String {
    use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
    URL_SAFE_NO_PAD.encode(bytes)
}

fn issuer(name: &str, jwks: Value) -> Issuer {
    Issuer {
        issuer: name.to_owned(),
        audiences: vec![],
        keys: KeySource { jwks: Some(jwks), ..KeySource::default() },
        algorithms: vec![],
        clock_tolerance_s: 30,
        require_typ: None,
        claims: Default::default(),
    }
}

fn rsa_jwk(kid: &str) -> Value {
    json!({"kty": "RSA", "kid": kid, "n": vectors::RSA_N, "e": "AQAB"})
}

fn p256_jwk(kid: &str) -> Value {
    json!({"kty": "EC", "crv": "P-256", "kid": kid, "x": vectors::P256_X, "y": vectors::P256_Y})
}

/// The keyring of most tests: an issuer with a key of each type, one that is strict about `typ` and algorithms, and one
/// whose keys are still to be fetched.
static KEYRING: LazyLock<Keyring> = LazyLock::new(|| {
    let mut main = issuer(
        ISSUER,
        json!({"keys": [
            rsa_jwk("rsa"),
            {"kty": "RSA", "kid": "rs256", "alg": "RS256", "use": "sig", "n": vectors::RSA_N, "e": "AQAB"},
            p256_jwk("p256"),
            {"kty": "EC", "crv": "P-384", "kid": "p384", "x": vectors::P384_X, "y": vectors::P384_Y},
            {"kty": "OKP", "crv": "Ed25519", "kid": "ed", "x": vectors::ED_X},
            {"kty": "oct", "kid": "oct", "k": vectors::SECRET},
            rsa_jwk("shared"),
            p256_jwk("shared"),
        ]}),
    );
    main.audiences = vec!["api".to_owned(), "api-2".to_owned()];
    main.claims.organization = Some("/org/id".to_owned());
    main.claims.tier = Some("https://issuer.example/tier".to_owned());
    let mut typed = issuer(TYPED_ISSUER, json!({"keys": [p256_jwk("p256"), rsa_jwk("rsa")]}));
    typed.require_typ = Some("at+jwt".to_owned());
    typed.algorithms = vec![crate::document::Algorithm::ES256];
    let mut keyless = issuer(KEYLESS_ISSUER, json!({}));
    keyless.keys = KeySource { url: Some("https://keyless.example/jwks".to_owned()), ..KeySource::default() };
    Keyring::from_issuers(&[main, typed, keyless]).expect("the keys are good")
});

/// A token before it is signed.
#[derive(Clone)]
struct Draft {
    header: Value,
    claims: Value,
}

/// A token that is accepted, signed by the key of this name.
fn draft(algorithm: &str, kid: &str) -> Draft {
    Draft {
        header: json!({"alg": algorithm, "kid": kid}),
        claims: json!({"iss": ISSUER, "aud": "api", "sub": "alice", "exp": NOW_S + 600}),
    }
}

impl Draft {
    /// Sets a member of the header; `null` removes it.
    fn header(mut self, name: &str, value: impl Into<Value>) -> Self {
        set(&mut self.header, name, value.into());
        self
    }

    /// Sets a claim; `null` removes it.
    fn claim(mut self, name: &str, value: impl Into<Value>) -> Self {
        set(&mut self.claims, name, value.into());
        self
    }

    fn sign(&self) -> String {
        sign(&self.header.to_string(), &self.claims.to_string())
    }
}

fn set(object: &mut Value, name: &str, value: Value) {
    let members = object.as_object_mut().expect("drafts are objects");
    if value.is_null() {
        members.remove(name);
    } else {
        members.insert(name.to_owned(), value);
    }
}

/// Signs with the private key that fits the header's first `alg`; any other header is signed as RS256.
fn sign(header: &str, claims: &str) -> String {
    let header_json: Value = serde_json::from_str(header).unwrap_or_default();
    let algorithm =
        header_json["alg"].as_str().and_then(|name| name.parse().ok()).unwrap_or(Algorithm::RS256);
    sign_with(algorithm, header, claims)
}

fn sign_with(algorithm: Algorithm, header: &str, claims: &str) -> String {
    let message = format!("{}.{}", encode(header), encode(claims));
    let key = match algorithm {
        Algorithm::ES256 => EncodingKey::from_ec_der(&decode(vectors::P256_PRIVATE)),
        Algorithm::ES384 => EncodingKey::from_ec_der(&decode(vectors::P384_PRIVATE)),
        Algorithm::EdDSA => EncodingKey::from_ed_der(&decode(vectors::ED_PRIVATE)),
        Algorithm::HS256 | Algorithm::HS384 | Algorithm::HS512 => {
            EncodingKey::from_secret(&decode(vectors::SECRET))
        }
        _ => EncodingKey::from_rsa_der(&decode(vectors::RSA_PRIVATE)),
    };
    let signer = (PROVIDER.signer_factory)(&algorithm, &key).expect("the key fits");
    format!("{message}.{}", encode(signer.try_sign(message.as_bytes()).expect("the key signs")))
}

/// Verifies with pure Rust, with a host, and with a host that never answers; all three must say the same.
#[track_caller]
fn verify(keyring: &Keyring, token: &[u8], now_ms: i64) -> Result<Caller, TokenFault> {
    let alone = keyring.verify_by(None, token, now_ms);
    assert_eq!(keyring.verify_by(Some(host::fake), token, now_ms), alone, "the host says otherwise");
    assert_eq!(
        keyring.verify_by(Some(|_, _, _, _| None), token, now_ms),
        alone,
        "the fallback says otherwise"
    );
    alone
}

/// The subject that the token names at [`NOW_MS`], or the code that it is refused with.
#[track_caller]
fn check(token: impl AsRef<[u8]>, expected: &str) {
    check_at(token, NOW_MS, expected);
}

#[track_caller]
fn check_at(token: impl AsRef<[u8]>, now_ms: i64, expected: &str) {
    let token = token.as_ref();
    let found = match verify(&KEYRING, token, now_ms) {
        Ok(caller) => caller.subject,
        Err(fault) => fault.code().to_owned(),
    };
    assert_eq!(found, expected, "{}", String::from_utf8_lossy(token.get(..500).unwrap_or(token)));
}
