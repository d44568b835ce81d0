//! From a token's text to the caller it names: `unverified` takes it apart, `keys` verify its signature, `claims` say
//! who calls and until when.
//!
//! Nothing unverified leaves this module. It reads no clock, fetches no keys and remembers no token: `now_ms` is an
//! argument, keys come with the policy, and caching is the caller's.

mod claims;
mod der;
mod fault;
mod json;
mod keys;
pub mod provider;
#[cfg(test)]
mod tests;
mod unverified;

use crate::document::Issuer;

use claims::Rules;
pub use fault::TokenFault;
pub use keys::KEYS_PER_ISSUER_MAX;
use keys::Keys;
use provider::HostVerify;
use unverified::Unverified;

/// Longest token that is looked at. Common servers refuse a longer header line anyway (nginx:
/// `large_client_header_buffers` of 8 KiB; Apache: `LimitRequestFieldSize` of 8,190 bytes).
pub const TOKEN_BYTES_MAX: usize = 8 * 1024;

/// Keys that one token is tried against when it names none, or several share its `kid`: in pure Rust each costs
/// milliseconds, and anyone can send such a token.
pub const KEYS_TRIED_MAX: usize = 8;

/// Longest user, organisation or tier in a token.
pub const CLAIM_BYTES_MAX: usize = 256;

/// Who calls, as a verified token says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// Who is charged: `org:<organization>`, or `user:<user>` where the token has no organisation.
    pub subject: String,
    /// The user. `None` only where the token names an organisation instead.
    pub user: Option<String>,
    /// The organisation.
    pub organization: Option<String>,
    /// The tier that the token claims.
    pub tier: Option<String>,
    /// From this moment on (Unix ms) the token is refused: its `exp` and the tolerance.
    pub expires_at_ms: i64,
    /// Before this moment (Unix ms) it is refused: the later of `nbf` and `iat`, less the tolerance.
    pub not_before_ms: Option<i64>,
    /// Who issued it: the issuer's place in the list that the keyring was made from.
    pub issuer: usize,
    /// Whether it says that the user administrates the organisation; never without one.
    pub is_organization_admin: bool,
}

impl Caller {
    /// The subject of the member that calls, where the token names an organisation and its user.
    pub fn member(&self) -> Option<String> {
        Some(crate::subject::member(self.organization.as_deref()?, self.user.as_deref()?))
    }
}

/// The trusted issuers, with their keys and rules, ready to verify.
#[derive(Debug, Clone, Default)]
pub struct Keyring(Vec<TrustedIssuer>);

#[derive(Debug, Clone)]
struct TrustedIssuer {
    name: String,
    keys: Keys,
    rules: Rules,
}

impl Keyring {
    /// Makes a keyring of a policy's issuers. One whose keys are still to be fetched has none: its tokens get
    /// [`TokenFault::UnknownKey`]. Faults are a path below `issuers`, such as `[0].keys.jwks.keys[1].n`, and a sentence.
    pub fn from_issuers(issuers: &[Issuer]) -> Result<Self, Vec<(String, String)>> {
        let mut trusted = Vec::with_capacity(issuers.len());
        let mut faults = Vec::new();
        for (index, issuer) in issuers.iter().enumerate() {
            let keys = match &issuer.keys.jwks {
                Some(jwks) => Keys::parse(jwks, &issuer.algorithms),
                None => Ok(Keys::default()),
            };
            match keys {
                Ok(keys) => {
                    let name = issuer.issuer.clone();
                    trusted.push(TrustedIssuer { name, keys, rules: Rules::new(issuer) });
                }
                Err(inner) => faults.extend(inner.into_iter().map(|(path, sentence)| {
                    let dot = if path.is_empty() { "" } else { "." };
                    (format!("[{index}].keys.jwks{dot}{path}"), sentence)
                })),
            }
        }
        if faults.is_empty() { Ok(Self(trusted)) } else { Err(faults) }
    }

    /// Verifies a token in the JWS compact serialization (RFC 7519 7.2) at `now_ms` (Unix ms).
    pub fn verify(&self, token: &[u8], now_ms: i64) -> Result<Caller, TokenFault> {
        self.verify_by(provider::host(), token, now_ms)
    }

    fn verify_by(&self, host: Option<HostVerify>, token: &[u8], now_ms: i64) -> Result<Caller, TokenFault> {
        let token = Unverified::parse(token)?;
        token.refuse_critical()?;
        let (index, issuer) = self
            .0
            .iter()
            .enumerate()
            .find(|(_, issuer)| token.issuer() == Some(&issuer.name))
            .ok_or(TokenFault::UnknownIssuer)?;
        issuer.rules.check_media_type(token.media_type())?;
        let verified = issuer.keys.verify(token, index, host)?;
        issuer.rules.caller(&verified, index, now_ms)
    }
}
