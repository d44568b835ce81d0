//! The policy document as its authors write it, in YAML or JSON: plain data with no meaning attached yet.
//!
//! What a document means is settled in `crate::compile`; whether it makes sense, in `super::validate`. Nothing here
//! computes. The JSON Schema that `schemars` derives from these types is the published one.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// One versioned policy: who may call, what is counted, which tiers exist and what each route costs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PolicyDocument {
    /// Version of this format. Only `1` exists.
    pub version: u32,
    /// Token issuers that are trusted. May be empty when no route asks for a token.
    #[serde(default)]
    pub issuers: Vec<Issuer>,
    /// What is counted, by name.
    pub meters: BTreeMap<String, Meter>,
    /// The tiers, by name.
    pub tiers: BTreeMap<String, Tier>,
    /// The tier of a subject that has no subscription in force. Without it such a subject gets 402.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default_tier: Option<String>,
    /// Routes in order; the first that matches decides.
    #[serde(default)]
    pub routes: Vec<Route>,
    /// What holds for a request that no route matches. The default asks for a token and charges nothing.
    #[serde(default)]
    pub default_route: RouteRules,
    /// What happens to a request for which the control plane must be asked and does not answer.
    #[serde(default)]
    pub on_control_plane_loss: OnControlPlaneLoss,
    /// How denials are worded.
    #[serde(default)]
    pub denials: Denials,
}

/// What happens to a request that cannot be decided because the control plane does not answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OnControlPlaneLoss {
    /// Refuse it with 503 and `Retry-After`: limits hold.
    #[default]
    Closed,
    /// Admit it, count it, and report the debt later.
    Open,
}

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
    /// An address that the control plane fetches the JWKS from, and follows.
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
}

fn default_user_claim() -> String {
    "sub".to_owned()
}

impl Default for ClaimNames {
    fn default() -> Self {
        Self { user: default_user_claim(), organization: None, tier: None }
    }
}

/// A thing that is counted.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Meter {
    /// For people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// Unit for people, such as `requests` or `bytes`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unit: Option<String>,
}

/// A named set of limits and features.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Tier {
    /// For people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// Names of the features that this tier has.
    #[serde(default)]
    pub features: Vec<String>,
    /// The limits. A meter without a limit is counted and never refused.
    #[serde(default)]
    pub limits: Vec<Limit>,
}

/// A maximum on a meter. Exactly one of `quota` and `rate` is given.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Limit {
    /// The limit's name in answers and headers. Default: `<meter>.<per>`. Limits of the same name in two tiers are the
    /// same limit with another maximum, so that usage carries over an upgrade.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The meter that is limited.
    pub meter: String,
    /// Units per calendar or billing window.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quota: Option<u64>,
    /// Units in any sliding window of the length `per`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate: Option<u64>,
    /// The window. For `quota`: `hour`, `day`, `month` or `billing_month`. For `rate`: a length such as `1s`, `60s`, `5m`, `1h`.
    pub per: String,
    /// IANA time zone of a calendar window. Default UTC. Not for `rate` and `billing_month`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub zone: Option<String>,
}

/// A route: what it matches and what holds there.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Route {
    /// The route's name in metrics. Default: method and path.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// HTTP methods, in capitals. Empty: any.
    #[serde(default)]
    pub methods: Vec<String>,
    /// Path template: `{name}` stands for one segment, a last `{*name}` for the rest (one segment or more), e.g.
    /// `/v1/items/{id}`. One slash at the end of a request's path makes no difference.
    pub path: String,
    /// Whether a token is needed.
    #[serde(default)]
    pub auth: Auth,
    /// Units that one request costs, by meter.
    #[serde(default)]
    pub charges: BTreeMap<String, u64>,
    /// Features that the caller's tier must have.
    #[serde(default)]
    pub features: Vec<String>,
    /// Response statuses that give quota units back, as single statuses (`"404"`), classes (`5xx`) or ranges (`"500-503"`).
    #[serde(default = "default_refund")]
    pub refund: Vec<String>,
}

impl Route {
    /// What holds for requests that match. The fields stand in [`Route`] itself because serde's `flatten` would let
    /// unknown fields pass.
    pub fn rules(&self) -> RouteRules {
        RouteRules {
            auth: self.auth,
            charges: self.charges.clone(),
            features: self.features.clone(),
            refund: self.refund.clone(),
        }
    }
}

/// What holds for the requests of a route.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RouteRules {
    /// Whether a token is needed.
    #[serde(default)]
    pub auth: Auth,
    /// Units that one request costs, by meter.
    #[serde(default)]
    pub charges: BTreeMap<String, u64>,
    /// Features that the caller's tier must have.
    #[serde(default)]
    pub features: Vec<String>,
    /// Response statuses that give quota units back, as single statuses (`"404"`), classes (`5xx`) or ranges (`"500-503"`).
    #[serde(default = "default_refund")]
    pub refund: Vec<String>,
}

fn default_refund() -> Vec<String> {
    vec!["5xx".to_owned()]
}

impl Default for RouteRules {
    fn default() -> Self {
        Self {
            auth: Auth::default(),
            charges: BTreeMap::new(),
            features: Vec::new(),
            refund: default_refund(),
        }
    }
}

/// Whether a route needs a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Auth {
    /// A verified token, or 401.
    #[default]
    Required,
    /// No token is looked at, no subject is known and nothing is charged.
    None,
}

/// How denials are worded.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Denials {
    /// Base of the `type` member of problem+json bodies: `<base><code>`. Default `about:blank#`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub type_base: Option<String>,
    /// Where a caller can buy more; put into denials that an upgrade would lift.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub upgrade_url: Option<String>,
}
