//! Token issuers: where their keys are, and which claims say who is charged.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A token issuer and how its claims name the subject.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Issuer {
    /// The exact value of the `iss` claim.
    pub issuer: String,
    /// Accepted values of `aud`; one of them must be in the token. Empty: `aud` is not looked at.
    #[serde(default)]
    pub audiences: Vec<String>,
    /// Where the keys come from.
    pub keys: KeySource,
    /// Algorithms accepted from this issuer. Empty: each key's own `alg`, or what its type and curve imply.
    #[serde(default)]
    pub algorithms: Vec<Algorithm>,
    /// Tolerance for clocks that differ, in seconds, on `exp`, `nbf` and `iat`. At most 300.
    #[serde(default = "default_clock_tolerance_s")]
    pub clock_tolerance_s: u32,
    /// When set, the header's `typ` must equal it (case-insensitively, `application/` optional), e.g. `at+jwt`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub require_typ: Option<String>,
    /// Which claims say who is charged.
    #[serde(default)]
    pub claims: ClaimNames,
}

fn default_clock_tolerance_s() -> u32 {
    30
}

/// Where an issuer's keys come from. Exactly one of the three is given.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema, Default)]
#[serde(deny_unknown_fields)]
pub struct KeySource {
    /// A JSON Web Key Set (RFC 7517) written into the policy: `{"keys": [...]}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jwks: Option<serde_json::Value>,
    /// A file with a JWKS, relative to the policy file. `tollgate policy apply` puts its content into the policy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
    /// An address that the control plane fetches the JWKS from, and follows. An edge that stands alone fetches nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
}

/// A signature algorithm of RFC 7518 (and RFC 8037 for EdDSA) that Tollgate accepts. `none` is not among them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[allow(missing_docs, reason = "the names are those of RFC 7518")]
pub enum Algorithm {
    RS256,
    RS384,
    RS512,
    PS256,
    ES256,
    ES384,
    EdDSA,
    HS256,
}

/// Which claims say who is charged. A claim is named by its key, or by a JSON Pointer (RFC 6901) when it starts with `/`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ClaimNames {
    /// The user; the subject is `user:<value>`. A string or a number.
    #[serde(default = "default_user_claim")]
    pub user: String,
    /// The organisation; where the token has it the subject is `org:<value>` and the organisation is charged.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub organization: Option<String>,
    /// The tier. Used only for a subject that has no subscription; never above a subscription.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tier: Option<String>,
    /// Who may see and change what concerns a whole organisation through `/v1/me/organization`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub organization_admin: Option<AdminClaim>,
}

/// A claim, a text or a list of texts, that makes a member of an organisation one of its administrators.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AdminClaim {
    /// The claim, by its key or by a JSON Pointer (RFC 6901).
    pub claim: String,
    /// The values of which one is enough.
    pub values: Vec<String>,
}

fn default_user_claim() -> String {
    "sub".to_owned()
}

impl Default for ClaimNames {
    fn default() -> Self {
        Self { user: default_user_claim(), organization: None, tier: None, organization_admin: None }
    }
}
