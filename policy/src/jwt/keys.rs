//! An issuer's keys (RFC 7517) and the only way from a token to its claims: a signature that one of them verifies.
//!
//! Which algorithms a key is good for is settled here, from the key and the policy; a token can only choose among them
//! (RFC 8725 3.1). Times, audience and identity are `super::claims`' business.

use jsonwebtoken::crypto::rust_crypto::DEFAULT_PROVIDER;
use jsonwebtoken::{Algorithm as JwtAlgorithm, DecodingKey};
use serde_json::{Map, Value};

use super::provider::{self, HostVerify};
use super::unverified::{self, Unverified};
use super::{KEYS_TRIED_MAX, TokenFault, der};
use crate::document::Algorithm;

/// Keys of one issuer, used or not. Real sets hold a handful; the bound keeps a set from filling an edge's memory.
pub const KEYS_PER_ISSUER_MAX: usize = 64;

/// "A key of size 2048 bits or larger MUST be used" (RFC 7518 3.3).
const RSA_BITS_MIN: usize = 2048;

/// Above it pure Rust (the `rsa` crate) verifies nothing, so that its verdict would differ from the host's.
const RSA_BITS_MAX: usize = 4096;

/// Largest public exponent that both the `rsa` crate and BoringSSL take: 33 bits.
const RSA_EXPONENT_MAX: u64 = (1 << 33) - 1;

/// "A key of the same size as the hash output or larger MUST be used" (RFC 7518 3.2).
const SECRET_BYTES_MIN: usize = 32;

const RSA_ALGORITHMS: &[Algorithm] =
    &[Algorithm::RS256, Algorithm::RS384, Algorithm::RS512, Algorithm::PS256];

/// The keys of one issuer.
#[derive(Debug, Clone, Default)]
pub(super) struct Keys(Vec<Key>);

#[derive(Debug, Clone)]
struct Key {
    id: Option<String>,
    /// What it may verify: its own `alg`, or what its type and curve imply, less what the policy leaves out.
    algorithms: Vec<Algorithm>,
    decoding: DecodingKey,
}

/// Claims whose signature holds. Only [`Keys::verify`] makes one.
pub(super) struct Verified(Value);

impl Verified {
    pub(super) fn claims(&self) -> &Value {
        &self.0
    }
}

/// What is wrong with a key: the member at fault, and a sentence.
type KeyFault = (&'static str, String);

impl Keys {
    /// Reads a JWKS. Keys that cannot verify a token here (for encryption, of other types or curves) are left out.
    /// Faults are paths below the set and sentences. `accepted`: the issuer's algorithms, all of them when empty.
    pub(super) fn parse(jwks: &Value, accepted: &[Algorithm]) -> Result<Self, Vec<(String, String)>> {
        let Some(entries) = jwks.get("keys").and_then(Value::as_array) else {
            return Err(vec![(
                String::new(),
                "This is not a JSON Web Key Set: it needs `keys`, a list.".to_owned(),
            )]);
        };
        if entries.len() > KEYS_PER_ISSUER_MAX {
            let sentence =
                format!("There are {} keys; at most {KEYS_PER_ISSUER_MAX} are allowed.", entries.len());
            return Err(vec![("keys".to_owned(), sentence)]);
        }
        let mut keys = Vec::new();
        let mut faults = Vec::new();
        for (index, entry) in entries.iter().enumerate() {
            match Key::parse(entry, accepted) {
                Ok(key) => keys.extend(key),
                Err(("", sentence)) => faults.push((format!("keys[{index}]"), sentence)),
                Err((member, sentence)) => faults.push((format!("keys[{index}].{member}"), sentence)),
            }
        }
        if faults.is_empty() { Ok(Self(keys)) } else { Err(faults) }
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// The claims of a token that one of these keys signed. `issuer` is whose keys they are, for the fault.
    pub(super) fn verify(
        &self,
        token: Unverified<'_>,
        issuer: usize,
        host: Option<HostVerify>,
    ) -> Result<Verified, TokenFault> {
        let algorithm = token.algorithm()?;
        // A token without `kid` may be from any key; one with it only from a key of that name.
        let mut named = self
            .0
            .iter()
            .filter(|key| token.key_id().is_none_or(|id| key.id.as_deref() == Some(id)))
            .peekable();
        if named.peek().is_none() {
            return Err(TokenFault::UnknownKey { issuer });
        }
        let mut fitting = named.filter(|key| key.algorithms.contains(&algorithm)).peekable();
        if fitting.peek().is_none() {
            return Err(TokenFault::Algorithm);
        }
        if fitting.take(KEYS_TRIED_MAX).any(|key| key.verifies(&token, algorithm, host)) {
            Ok(Verified(token.into_claims()))
        } else {
            Err(TokenFault::Signature)
        }
    }
}

impl Key {
    /// `Ok(None)`: a key that is not for verifying tokens here.
    fn parse(entry: &Value, accepted: &[Algorithm]) -> Result<Option<Self>, KeyFault> {
        let Some(jwk) = entry.as_object() else {
            return Err(("", "This is not a JSON Web Key: it must be an object.".to_owned()));
        };
        let Some(kty) = text(jwk, "kty")? else {
            return Err(("kty", "A key needs `kty`, its type.".to_owned()));
        };
        let Some(implied) = implied_algorithms(kty, text(jwk, "crv")?) else { return Ok(None) };
        // RFC 7517 4.2 and 4.3: what the key is for.
        if text(jwk, "use")?.is_some_and(|usage| usage != "sig") || !may_verify(jwk) {
            return Ok(None);
        }
        let own = match text(jwk, "alg")? {
            None => implied.to_vec(),
            Some(name) => match unverified::algorithm(name) {
                None => return Ok(None),
                Some(algorithm) if implied.contains(&algorithm) => vec![algorithm],
                Some(_) => return Err(("alg", format!("`{name}` does not fit the key's type and curve."))),
            },
        };
        if kty != "oct" && jwk.contains_key("d") {
            let sentence =
                "This is a private key. Take it out of use, and publish only the public part of another.";
            return Err(("d", sentence.to_owned()));
        }
        let decoding = match kty {
            "RSA" => rsa_key(jwk)?,
            "EC" => ec_key(jwk, implied)?,
            "OKP" => ed_key(jwk)?,
            _ => secret(jwk)?,
        };
        let algorithms =
            own.into_iter().filter(|own| accepted.is_empty() || accepted.contains(own)).collect();
        Ok(Some(Self { id: text(jwk, "kid")?.map(str::to_owned), algorithms, decoding }))
    }

    fn verifies(&self, token: &Unverified<'_>, algorithm: Algorithm, host: Option<HostVerify>) -> bool {
        provider::verifier(host, &jwt_algorithm(algorithm), &self.decoding)
            .is_ok_and(|verifier| verifier.verify(token.message(), token.signature()).is_ok())
    }
}

/// What a key's type and curve imply (RFC 7518 6.1 and 3.1, RFC 8037 2). `None`: nothing that is verified here.
fn implied_algorithms(kty: &str, crv: Option<&str>) -> Option<&'static [Algorithm]> {
    Some(match (kty, crv) {
        ("RSA", _) => RSA_ALGORITHMS,
        ("EC", Some("P-256")) => &[Algorithm::ES256],
        ("EC", Some("P-384")) => &[Algorithm::ES384],
        ("OKP", Some("Ed25519")) => &[Algorithm::EdDSA],
        ("oct", _) => &[Algorithm::HS256],
        _ => return None,
    })
}

fn may_verify(jwk: &Map<String, Value>) -> bool {
    match jwk.get("key_ops").and_then(Value::as_array) {
        Some(operations) => operations.iter().any(|operation| operation == "verify"),
        None => true,
    }
}

fn rsa_key(jwk: &Map<String, Value>) -> Result<DecodingKey, KeyFault> {
    let modulus = bytes(jwk, "n")?;
    let modulus = without_leading_zeros(&modulus);
    let bits = modulus.len() * 8 - modulus.first().map_or(0, |byte| byte.leading_zeros() as usize);
    if bits < RSA_BITS_MIN {
        return Err((
            "n",
            format!("The key has {bits} bits, too few to be safe; at least {RSA_BITS_MIN} are needed."),
        ));
    }
    if bits > RSA_BITS_MAX {
        return Err(("n", format!("The key has {bits} bits; at most {RSA_BITS_MAX} are supported.")));
    }
    if modulus.last().is_none_or(|byte| byte % 2 == 0) {
        return Err(("n", "This is not the modulus of an RSA key: it is even.".to_owned()));
    }
    let exponent = bytes(jwk, "e")?;
    let exponent = without_leading_zeros(&exponent);
    // Eight bytes at most, so that the value below is exact.
    let value = exponent.iter().fold(0_u64, |value, byte| value << 8 | u64::from(*byte));
    if exponent.len() > 8 || !(3..=RSA_EXPONENT_MAX).contains(&value) || value % 2 == 0 {
        return Err(("e", "This is not a usable exponent; nearly all keys have `AQAB`.".to_owned()));
    }
    Ok(DecodingKey::from_rsa_der(&der::rsa_public_key(modulus, exponent)))
}

fn ec_key(jwk: &Map<String, Value>, implied: &[Algorithm]) -> Result<DecodingKey, KeyFault> {
    let (algorithm, len) = match implied {
        [Algorithm::ES256] => (JwtAlgorithm::ES256, 32),
        _ => (JwtAlgorithm::ES384, 48),
    };
    let (x, y) = (sized(jwk, "x", len)?, sized(jwk, "y", len)?);
    let mut point = Vec::with_capacity(1 + 2 * len);
    // The tag of an uncompressed point (SEC 1 2.3.3).
    point.push(4);
    point.extend_from_slice(&x);
    point.extend_from_slice(&y);
    let key = DecodingKey::from_ec_der(&point);
    match (DEFAULT_PROVIDER.verifier_factory)(&algorithm, &key) {
        Ok(_) => Ok(key),
        Err(_) => Err(("x", "The point of `x` and `y` is not on the key's curve.".to_owned())),
    }
}

fn ed_key(jwk: &Map<String, Value>) -> Result<DecodingKey, KeyFault> {
    let key = DecodingKey::from_ed_der(&sized(jwk, "x", 32)?);
    match (DEFAULT_PROVIDER.verifier_factory)(&JwtAlgorithm::EdDSA, &key) {
        Ok(_) => Ok(key),
        Err(_) => Err(("x", "This is not a public key of Ed25519.".to_owned())),
    }
}

fn secret(jwk: &Map<String, Value>) -> Result<DecodingKey, KeyFault> {
    let secret = bytes(jwk, "k")?;
    if secret.len() < SECRET_BYTES_MIN {
        let sentence =
            format!("The secret has {} bytes; at least {SECRET_BYTES_MIN} are needed.", secret.len());
        return Err(("k", sentence));
    }
    Ok(DecodingKey::from_secret(&secret))
}

fn text<'a>(jwk: &'a Map<String, Value>, member: &'static str) -> Result<Option<&'a str>, KeyFault> {
    match jwk.get(member) {
        None => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(_) => Err((member, format!("`{member}` must be a string."))),
    }
}

fn bytes(jwk: &Map<String, Value>, member: &'static str) -> Result<Vec<u8>, KeyFault> {
    text(jwk, member)?
        .and_then(|text| unverified::decode(text.as_bytes()))
        .ok_or_else(|| (member, format!("The key needs `{member}`, in base64url without padding.")))
}

/// A number in the fixed length of its curve (RFC 7518 6.2.1.2, RFC 8037 2).
fn sized(jwk: &Map<String, Value>, member: &'static str, len: usize) -> Result<Vec<u8>, KeyFault> {
    let bytes = bytes(jwk, member)?;
    if bytes.len() == len { Ok(bytes) } else { Err((member, format!("`{member}` must have {len} bytes."))) }
}

/// RFC 7518 2 wants numbers without leading zeros, but some issuers write them.
fn without_leading_zeros(number: &[u8]) -> &[u8] {
    let zeros = number.iter().take_while(|byte| **byte == 0).count();
    number.get(zeros..).unwrap_or_default()
}

fn jwt_algorithm(algorithm: Algorithm) -> JwtAlgorithm {
    match algorithm {
        Algorithm::RS256 => JwtAlgorithm::RS256,
        Algorithm::RS384 => JwtAlgorithm::RS384,
        Algorithm::RS512 => JwtAlgorithm::RS512,
        Algorithm::PS256 => JwtAlgorithm::PS256,
        Algorithm::ES256 => JwtAlgorithm::ES256,
        Algorithm::ES384 => JwtAlgorithm::ES384,
        Algorithm::EdDSA => JwtAlgorithm::EdDSA,
        Algorithm::HS256 => JwtAlgorithm::HS256,
    }
}
