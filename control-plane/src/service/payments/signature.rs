//! HMAC-SHA256 over what was received, byte by byte as it was received, compared in constant time.

use hmac::{Hmac, Mac as _};
use sha2::Sha256;
use subtle::{Choice, ConstantTimeEq as _};

use super::secret::Secrets;
use super::settings::StripeSettings;
use crate::hex::hex;

/// How old a Stripe signature may be, s, as in Stripe's libraries.
const STRIPE_TOLERANCE_S: i64 = 300;

/// Most signatures of one header that are looked at.
const SIGNATURES_MAX: usize = 16;

/// Why a webhook is not believed. Nothing of it is kept but a count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// There is no signature.
    #[error("The signature is missing.")]
    Missing,
    /// It is none of ours.
    #[error("The signature is not right.")]
    Wrong,
    /// It is too old.
    #[error("The signature is too old.")]
    Old,
    /// It is of real money where test events are meant, or the other way round.
    #[error("Test events are not accepted here, or only test events are.")]
    Livemode,
    /// It is signed, and is not what the provider sends.
    #[error("The body is not what this provider sends.")]
    Malformed,
}

impl Refusal {
    /// As a label of a metric.
    pub fn label(self) -> &'static str {
        match self {
            Self::Missing => "signature_missing",
            Self::Wrong => "signature_wrong",
            Self::Old => "signature_old",
            Self::Livemode => "livemode",
            Self::Malformed => "malformed",
        }
    }
}

/// Checks a `Stripe-Signature` header: `t=<seconds>,v1=<hex>[,v1=<hex>…]`; other schemes are passed over, and any right v1
/// will do, by any of the secrets.
pub fn check_stripe(
    settings: &StripeSettings,
    header: Option<&str>,
    body: &[u8],
    now_ms: i64,
) -> Result<(), Refusal> {
    let header = header.ok_or(Refusal::Missing)?;
    let parts = || header.split(',').filter_map(|part| part.trim().split_once('='));
    let written = parts().find(|(name, _)| *name == "t").map(|(_, value)| value).ok_or(Refusal::Wrong)?;
    let signed_s: i64 = written.parse().map_err(|_| Refusal::Wrong)?;
    let signatures = || parts().filter(|(name, _)| *name == "v1").map(|(_, hex)| hex).take(SIGNATURES_MAX);
    // Each is looked at, whichever was right.
    let mut right = Choice::from(0);
    for secret in settings.signing_secrets.each() {
        let mac = hex_mac(secret.expose(), &[written.as_bytes(), b".", body]);
        for signature in signatures() {
            right |= mac.as_bytes().ct_eq(signature.as_bytes());
        }
    }
    if !bool::from(right) {
        return Err(Refusal::Wrong);
    }
    match now_ms.div_euclid(1_000).saturating_sub(signed_s) > STRIPE_TOLERANCE_S {
        true => Err(Refusal::Old),
        false => Ok(()),
    }
}

/// Checks a header that is the MAC of the body in hex, by any of the secrets.
pub fn check_hex(secrets: &Secrets, header: Option<&str>, body: &[u8]) -> Result<(), Refusal> {
    let header = header.ok_or(Refusal::Missing)?;
    let mut right = Choice::from(0);
    for secret in secrets.each() {
        right |= hex_mac(secret.expose(), &[body]).as_bytes().ct_eq(header.as_bytes());
    }
    if bool::from(right) { Ok(()) } else { Err(Refusal::Wrong) }
}

/// Whether `hex` is the MAC of these parts, one after the other.
pub fn is_hex_mac(secret: &str, parts: &[&[u8]], hex: &str) -> bool {
    hex_mac(secret, parts).as_bytes().ct_eq(hex.as_bytes()).into()
}

fn hex_mac(secret: &str, parts: &[&[u8]]) -> String {
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(secret.as_bytes()) else {
        // HMAC takes keys of any length. What is equal to nothing is no signature.
        return String::new();
    };
    parts.iter().for_each(|part| mac.update(part));
    hex(&mac.finalize().into_bytes())
}
