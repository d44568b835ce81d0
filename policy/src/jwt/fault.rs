//! Why a token was refused, in words that are safe to tell its sender.

use thiserror::Error;

use super::TOKEN_BYTES_MAX;

/// Why a token was refused. `code` is stable; the sentence says what its sender can do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum TokenFault {
    /// It is not three base64url parts with a JSON header and JSON claims.
    #[error("The token is not a well-formed signed JWT. Send it exactly as its issuer gave it.")]
    Malformed,
    /// It is longer than [`TOKEN_BYTES_MAX`].
    #[error("The token is longer than {TOKEN_BYTES_MAX} bytes. Ask its issuer for one with fewer claims.")]
    TooLarge,
    /// Its `alg` is not one that its key may be used with.
    #[error("The token is signed with an algorithm that is not accepted here. Ask its issuer for another.")]
    Algorithm,
    /// Its `iss` is missing or not trusted.
    #[error("The token names no issuer that is trusted here. Get one from an issuer that is.")]
    UnknownIssuer,
    /// Its key is not known. New keys may help: ask for them, seldom.
    #[error("The token is signed with a key that is not known here. Get a new token, or try again shortly.")]
    UnknownKey {
        /// Whose keys lack it: the issuer's place in the list that the keyring was made from.
        issuer: usize,
    },
    /// Its signature is not its key's.
    #[error("The token's signature is not valid. Send it exactly as its issuer gave it, or get a new one.")]
    Signature,
    /// Its `exp` is past.
    #[error("The token has expired. Get a new one.")]
    Expired,
    /// Its `nbf` or `iat` is still to come.
    #[error("The token is not valid yet. Wait until it is, or correct the clock of its issuer.")]
    NotYetValid,
    /// Its `aud` is missing or names someone else.
    #[error("The token is meant for another audience. Ask its issuer for one for this API.")]
    Audience,
    /// Its `typ` is missing or not the one that its issuer's tokens must have.
    #[error("The token is of a type that is not accepted here. Send an access token.")]
    Type,
    /// It has a `crit` header: it asks for extensions that are not understood.
    #[error(
        "The token's header demands extensions that are not supported. Ask its issuer for one without `crit`."
    )]
    CriticalHeader,
    /// A claim that is needed is missing, or one that is read is not what it must be. The text says which.
    #[error("The token's {0} is missing or not usable. Ask its issuer for a token with a valid one.")]
    Claims(&'static str),
}

impl TokenFault {
    /// The stable code that clients and metrics see.
    pub fn code(self) -> &'static str {
        match self {
            Self::Malformed => "token-malformed",
            Self::TooLarge => "token-too-large",
            Self::Algorithm => "token-algorithm",
            Self::UnknownIssuer => "token-unknown-issuer",
            Self::UnknownKey { .. } => "token-unknown-key",
            Self::Signature => "token-signature",
            Self::Expired => "token-expired",
            Self::NotYetValid => "token-not-yet-valid",
            Self::Audience => "token-audience",
            Self::Type => "token-type",
            Self::CriticalHeader => "token-critical-header",
            Self::Claims(_) => "token-claims",
        }
    }
}
