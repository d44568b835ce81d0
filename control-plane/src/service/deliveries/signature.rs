//! Signatures by Standard Webhooks (<https://www.standardwebhooks.com>): HMAC-SHA256 over id, time and body, once with each
//! secret that is in force, so that a secret can be replaced without a moment in which receivers refuse.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, Mac as _};
use sha2::Sha256;

/// How a secret begins, so that people and leak scanners know it.
const PREFIX: &str = "whsec_";

/// Length of a secret that is made here, bytes; the specification asks for 24 to 64.
const SECRET_BYTES: usize = 32;
const SECRET_BYTES_RANGE: std::ops::RangeInclusive<usize> = 24..=64;

/// A secret that an endpoint's owner and the control plane share.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Vec<u8>);

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret(hidden)")
    }
}

impl Secret {
    /// A new one, from the operating system's randomness.
    pub fn generate() -> Result<Self, getrandom::Error> {
        let mut bytes = vec![0; SECRET_BYTES];
        getrandom::fill(&mut bytes)?;
        Ok(Self(bytes))
    }

    /// Reads `whsec_` and the base64 of 24 to 64 bytes.
    pub fn parse(text: &str) -> Option<Self> {
        let bytes = STANDARD.decode(text.strip_prefix(PREFIX)?).ok()?;
        SECRET_BYTES_RANGE.contains(&bytes.len()).then_some(Self(bytes))
    }

    /// As [`Secret::parse`] reads it.
    pub fn text(&self) -> String {
        format!("{PREFIX}{}", STANDARD.encode(&self.0))
    }
}

/// The `webhook-signature` header: a signature with each of `secrets`. `timestamp_s` is Unix time; neither it nor `id` may
/// hold a full stop, so that nothing can be moved from one part into the next.
pub fn sign(secrets: &[Secret], id: &str, timestamp_s: i64, body: &str) -> String {
    let signatures = secrets.iter().filter_map(|secret| {
        // HMAC takes keys of any length, so that this never fails.
        let mut mac = Hmac::<Sha256>::new_from_slice(&secret.0).ok()?;
        mac.update(format!("{id}.{timestamp_s}.").as_bytes());
        mac.update(body.as_bytes());
        Some(format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes())))
    });
    signatures.collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::{Secret, sign};

    /// Made and verified with the reference library: see `tests/vectors/make_standardwebhooks.py`.
    const VECTORS: &str = include_str!("../../../tests/vectors/standardwebhooks.json");

    #[test]
    fn signatures_are_those_of_the_reference_library() {
        let vectors: Vec<Value> = serde_json::from_str(VECTORS).unwrap();
        assert!(vectors.len() >= 5);
        for vector in vectors {
            let secrets = vector["secrets"].as_array().unwrap().iter();
            let secrets: Vec<Secret> =
                secrets.map(|secret| Secret::parse(secret.as_str().unwrap()).unwrap()).collect();
            let (id, body) = (vector["id"].as_str().unwrap(), vector["body"].as_str().unwrap());
            let signed = sign(&secrets, id, vector["timestamp"].as_i64().unwrap(), body);
            assert_eq!(signed, vector["signature"].as_str().unwrap());
        }
    }

    #[test]
    fn secrets_are_read_as_they_are_written_and_too_short_ones_refused() {
        let secret = Secret::generate().unwrap();
        assert_eq!(Secret::parse(&secret.text()), Some(secret.clone()));
        assert_eq!(format!("{secret:?}"), "Secret(hidden)");
        for bad in ["", "whsec_", "whsec_c2hvcnQ=", "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "whsec_!!!!"] {
            assert_eq!(Secret::parse(bad), None, "{bad}");
        }
    }
}
