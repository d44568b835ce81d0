//! From verified claims to the caller: is the token for us, is it its time, and whom does it name?
//!
//! Nothing here reads a clock or looks at a signature.

use serde_json::Value;

use super::keys::Verified;
use super::{CLAIM_BYTES_MAX, Caller, TokenFault};
use crate::document::{ClaimNames, Issuer};

/// The last second of the year 9999. A time beyond it is a mistake (often milliseconds where RFC 7519 2 wants seconds).
const NUMERIC_DATE_MAX_S: f64 = 253_402_300_799.0;

/// What an issuer's tokens must say.
#[derive(Debug, Clone)]
pub(super) struct Rules {
    audiences: Vec<String>,
    tolerance_ms: i64,
    media_type: Option<String>,
    names: ClaimNames,
}

impl Rules {
    pub(super) fn new(issuer: &Issuer) -> Self {
        Self {
            audiences: issuer.audiences.clone(),
            tolerance_ms: i64::from(issuer.clock_tolerance_s) * 1_000,
            media_type: issuer.require_typ.as_deref().map(|name| short_media_type(name).to_owned()),
            names: issuer.claims.clone(),
        }
    }

    /// Refuses a token of another kind than the issuer's policy asks for, such as an ID token (RFC 8725 3.11).
    pub(super) fn check_media_type(&self, media_type: Option<&str>) -> Result<(), TokenFault> {
        match (&self.media_type, media_type) {
            (None, _) => Ok(()),
            (Some(required), Some(found)) if required.eq_ignore_ascii_case(short_media_type(found)) => Ok(()),
            (Some(_), _) => Err(TokenFault::Type),
        }
    }

    /// Whom verified claims name at `now_ms` (Unix ms). `issuer` is the issuer's place in the keyring.
    pub(super) fn caller(
        &self,
        verified: &Verified,
        issuer: usize,
        now_ms: i64,
    ) -> Result<Caller, TokenFault> {
        let claims = verified.claims();
        self.check_audience(claims.get("aud"))?;
        let expires_at_ms = time_ms(claims, "exp", "`exp` claim")?
            .ok_or(TokenFault::Claims("`exp` claim"))?
            .saturating_add(self.tolerance_ms);
        // A token from the future is as suspect as one that says so itself.
        let not_before_ms = time_ms(claims, "nbf", "`nbf` claim")?
            .max(time_ms(claims, "iat", "`iat` claim")?)
            .map(|start_ms| start_ms.saturating_sub(self.tolerance_ms));
        // RFC 7519 4.1.4: "on or after which" it is refused.
        if now_ms >= expires_at_ms {
            return Err(TokenFault::Expired);
        }
        // RFC 7519 4.1.5: "before which" it is refused.
        if not_before_ms.is_some_and(|start_ms| now_ms < start_ms) {
            return Err(TokenFault::NotYetValid);
        }
        let user = self.user(claims)?;
        let organization = identifier(claims, self.names.organization.as_deref(), "organization claim")?;
        let tier = identifier(claims, self.names.tier.as_deref(), "tier claim")?;
        let subject = match (&organization, &user) {
            (Some(organization), _) => format!("org:{organization}"),
            (None, Some(user)) => format!("user:{user}"),
            (None, None) => return Err(TokenFault::Claims("user claim")),
        };
        let is_organization_admin = organization.is_some() && self.is_organization_admin(claims);
        Ok(Caller {
            subject,
            user,
            organization,
            tier,
            expires_at_ms,
            not_before_ms,
            issuer,
            is_organization_admin,
        })
    }

    fn check_audience(&self, audience: Option<&Value>) -> Result<(), TokenFault> {
        if self.audiences.is_empty() {
            return Ok(());
        }
        let ours = |value: &str| self.audiences.iter().any(|audience| audience == value);
        // RFC 7519 4.1.3: a string, or an array of strings.
        let named = match audience {
            None => false,
            Some(Value::String(value)) => ours(value),
            Some(Value::Array(values)) if values.iter().all(Value::is_string) => {
                values.iter().filter_map(Value::as_str).any(ours)
            }
            Some(_) => return Err(TokenFault::Claims("`aud` claim")),
        };
        if named { Ok(()) } else { Err(TokenFault::Audience) }
    }

    /// Whether one of the values that make an administrator is in the claim: a text, or a list of texts. Anything else makes
    /// none: who cannot be told to be one is not.
    fn is_organization_admin(&self, claims: &Value) -> bool {
        let Some(rule) = &self.names.organization_admin else { return false };
        let makes_one =
            |value: &Value| value.as_str().is_some_and(|text| rule.values.iter().any(|v| v == text));
        match find(claims, &rule.claim) {
            Some(Value::Array(values)) => values.iter().any(makes_one),
            Some(value) => makes_one(value),
            None => false,
        }
    }

    /// The user: a string, or a whole number, as some databases' keys are.
    fn user(&self, claims: &Value) -> Result<Option<String>, TokenFault> {
        match find(claims, &self.names.user) {
            Some(Value::Number(number)) if number.is_i64() || number.is_u64() => Ok(Some(number.to_string())),
            _ => identifier(claims, Some(&self.names.user), "user claim"),
        }
    }
}

/// A media type without the prefix that RFC 7515 4.1.9 lets senders leave out.
fn short_media_type(name: &str) -> &str {
    const PREFIX: &str = "application/";
    match name.get(..PREFIX.len()) {
        Some(prefix) if prefix.eq_ignore_ascii_case(PREFIX) => name.get(PREFIX.len()..).unwrap_or_default(),
        _ => name,
    }
}

/// The claim of this name: a key, or a JSON Pointer (RFC 6901) when it starts with `/`.
fn find<'a>(claims: &'a Value, name: &str) -> Option<&'a Value> {
    if name.starts_with('/') { claims.pointer(name) } else { claims.get(name) }
}

/// A string that can name someone: it is not empty, fits in a header, and cannot be mistaken for another on sight.
fn identifier(claims: &Value, name: Option<&str>, what: &'static str) -> Result<Option<String>, TokenFault> {
    match name.and_then(|name| find(claims, name)) {
        None => Ok(None),
        Some(Value::String(text))
            if (1..=CLAIM_BYTES_MAX).contains(&text.len())
                && !text.chars().any(char::is_control)
                && text.trim() == text =>
        {
            Ok(Some(text.clone()))
        }
        Some(_) => Err(TokenFault::Claims(what)),
    }
}

/// A NumericDate (RFC 7519 2: seconds, perhaps with a fraction) in Unix ms; what is finer is dropped.
fn time_ms(claims: &Value, name: &str, what: &'static str) -> Result<Option<i64>, TokenFault> {
    let Some(value) = claims.get(name) else { return Ok(None) };
    match value.as_f64() {
        // In this range whole seconds are exact in an f64, and so is their product: it is below 2^53.
        Some(seconds) if (0.0..=NUMERIC_DATE_MAX_S).contains(&seconds) => {
            Ok(Some((seconds * 1_000.0) as i64))
        }
        _ => Err(TokenFault::Claims(what)),
    }
}
