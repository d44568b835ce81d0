//! A token taken apart, before anything in it is believed.
//!
//! What it says here may only choose the issuer, the key and the algorithm to check it with. Its claims come out in
//! one way: through `super::keys`, when the signature holds. Key material in a header (`jwk`, `jku`, `x5c`, `x5u`) is
//! never looked at, and neither is `b64`, which is void without `crit` (RFC 7797 6).

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::Value;

use super::{TOKEN_BYTES_MAX, TokenFault, json};
use crate::document::Algorithm;

/// A token in the JWS compact serialization (RFC 7515 7.1) whose parts could be read.
pub(super) struct Unverified<'a> {
    header: Value,
    claims: Value,
    message: &'a [u8],
    signature: Vec<u8>,
}

impl<'a> Unverified<'a> {
    pub(super) fn parse(token: &'a [u8]) -> Result<Self, TokenFault> {
        if token.len() > TOKEN_BYTES_MAX {
            return Err(TokenFault::TooLarge);
        }
        Self::split(token).ok_or(TokenFault::Malformed)
    }

    fn split(token: &'a [u8]) -> Option<Self> {
        let first = token.iter().position(|byte| *byte == b'.')?;
        let last = token.iter().rposition(|byte| *byte == b'.')?;
        // A dot between the two is outside the alphabet of base64url, so a fourth part is refused there.
        let header = decode(token.get(..first)?)?;
        let claims = decode(token.get(first + 1..last)?)?;
        let signature = decode(token.get(last + 1..)?)?;
        if signature.is_empty() {
            return None;
        }
        let header = json::parse_object(&header)?;
        for name in ["alg", "kid", "typ"] {
            header.get(name).is_none_or(Value::is_string).then_some(())?;
        }
        header.get("alg")?;
        Some(Self { header, claims: json::parse_object(&claims)?, message: token.get(..last)?, signature })
    }

    /// Refuses `crit`: none of its extensions is understood, and then it must be refused (RFC 7515 4.1.11).
    pub(super) fn refuse_critical(&self) -> Result<(), TokenFault> {
        if self.header.get("crit").is_some() { Err(TokenFault::CriticalHeader) } else { Ok(()) }
    }

    /// The algorithm it claims. `none` is among those that do not exist here (RFC 8725 3.1).
    pub(super) fn algorithm(&self) -> Result<Algorithm, TokenFault> {
        self.header_text("alg").and_then(algorithm).ok_or(TokenFault::Algorithm)
    }

    /// The issuer it claims.
    pub(super) fn issuer(&self) -> Option<&str> {
        self.claims.get("iss").and_then(Value::as_str)
    }

    /// The key it claims.
    pub(super) fn key_id(&self) -> Option<&str> {
        self.header_text("kid")
    }

    /// The type it claims.
    pub(super) fn media_type(&self) -> Option<&str> {
        self.header_text("typ")
    }

    /// What is signed: the first two parts as they were sent (RFC 7515 5.2).
    pub(super) fn message(&self) -> &'a [u8] {
        self.message
    }

    pub(super) fn signature(&self) -> &Vec<u8> {
        &self.signature
    }

    /// Gives up the claims; only for whoever has verified the signature.
    pub(super) fn into_claims(self) -> Value {
        self.claims
    }

    fn header_text(&self, name: &str) -> Option<&str> {
        self.header.get(name).and_then(Value::as_str)
    }
}

/// base64url as RFC 7515 2 has it: no padding, no line breaks, no stray bits at the end.
pub(super) fn decode(text: &[u8]) -> Option<Vec<u8>> {
    URL_SAFE_NO_PAD.decode(text).ok()
}

/// The algorithm of this name (RFC 7518 3.1, RFC 8037 3.1), if it is one that Tollgate accepts.
pub(super) fn algorithm(name: &str) -> Option<Algorithm> {
    Some(match name {
        "RS256" => Algorithm::RS256,
        "RS384" => Algorithm::RS384,
        "RS512" => Algorithm::RS512,
        "PS256" => Algorithm::PS256,
        "ES256" => Algorithm::ES256,
        "ES384" => Algorithm::ES384,
        "EdDSA" => Algorithm::EdDSA,
        "HS256" => Algorithm::HS256,
        _ => return None,
    })
}
