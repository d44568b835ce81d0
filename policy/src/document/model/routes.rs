//! Routes: what they match, and what holds there.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Charge, DenialTemplate, Enforcement};

/// A route: what it matches and what holds there. A request matches when all that is given matches.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Route {
    /// The route's name in metrics and in limits. Default: method and path.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// HTTP methods, in capitals. Empty: any.
    #[serde(default)]
    pub methods: Vec<String>,
    /// Path template: `{name}` stands for one segment, a last `{*name}` for the rest (one segment or more), e.g.
    /// `/v1/items/{id}`. One slash at the end of a request's path makes no difference.
    pub path: String,
    /// Hosts in small letters and without port: `api.example.com`, or `*.example.com` for all below it. Empty: any.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub hosts: Vec<String>,
    /// Request headers, in small letters, and the value that each must have; `"*"`: any value.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<String, String>,
    /// JSON-RPC methods, exact or with a `*` at the end. In a batch each call takes its own route. Empty: any request.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub jsonrpc: Vec<String>,
    /// Names of MCP tools, exact or with a `*` at the end: the JSON-RPC method is `tools/call`, and `params.name` one of
    /// these. Empty: any request.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub mcp_tools: Vec<String>,
    /// Lets the proxy choose its route again with `x-tollgate-route`, which has the name of this one. In a batch all calls
    /// must take it.
    #[serde(default, skip_serializing_if = "super::is_default")]
    pub proxy_route: bool,
    /// Whether a token is needed.
    #[serde(default)]
    pub auth: Auth,
    /// Whether denials are carried out here. The most lenient of what route and limit say holds; else the policy's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub enforcement: Option<Enforcement>,
    /// What one request costs, by meter.
    #[serde(default)]
    pub charges: BTreeMap<String, Charge>,
    /// Features that the caller's tier must have.
    #[serde(default)]
    pub features: Vec<String>,
    /// Response statuses that give `on: request` charges back and make `on: response` charges nothing, as single statuses
    /// (`"404"`), classes (`5xx`) or ranges (`"500-503"`). gRPC statuses count as their HTTP equivalents.
    #[serde(default = "default_refund")]
    pub refund: Vec<String>,
    /// Response statuses that keep `on: success` charges, written as in `refund`.
    #[serde(default = "default_success")]
    pub success: Vec<String>,
    /// How denials of limits and features are answered here, by code. They win over the policy's `templates`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub denials: BTreeMap<String, DenialTemplate>,
}

impl Route {
    /// What holds for requests that match. The fields stand in [`Route`] itself because serde's `flatten` would let
    /// unknown fields pass.
    pub fn rules(&self) -> RouteRules {
        RouteRules {
            auth: self.auth,
            enforcement: self.enforcement,
            charges: self.charges.clone(),
            features: self.features.clone(),
            refund: self.refund.clone(),
            success: self.success.clone(),
            denials: self.denials.clone(),
        }
    }

    /// Its name: the given one, or methods and path, such as `GET,HEAD /v1/items/{id}`.
    pub fn name(&self) -> String {
        match &self.name {
            Some(name) => name.clone(),
            None if self.methods.is_empty() => self.path.clone(),
            None => format!("{} {}", self.methods.join(","), self.path),
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
    /// Whether denials are carried out here. The most lenient of what route and limit say holds; else the policy's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub enforcement: Option<Enforcement>,
    /// What one request costs, by meter.
    #[serde(default)]
    pub charges: BTreeMap<String, Charge>,
    /// Features that the caller's tier must have.
    #[serde(default)]
    pub features: Vec<String>,
    /// Response statuses that give `on: request` charges back and make `on: response` charges nothing, as single statuses
    /// (`"404"`), classes (`5xx`) or ranges (`"500-503"`). gRPC statuses count as their HTTP equivalents.
    #[serde(default = "default_refund")]
    pub refund: Vec<String>,
    /// Response statuses that keep `on: success` charges, written as in `refund`.
    #[serde(default = "default_success")]
    pub success: Vec<String>,
    /// How denials of limits and features are answered here, by code. They win over the policy's `templates`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub denials: BTreeMap<String, DenialTemplate>,
}

fn default_refund() -> Vec<String> {
    vec!["5xx".to_owned()]
}

fn default_success() -> Vec<String> {
    vec!["2xx".to_owned(), "3xx".to_owned()]
}

impl Default for RouteRules {
    fn default() -> Self {
        Self {
            auth: Auth::default(),
            enforcement: None,
            charges: BTreeMap::new(),
            features: Vec::new(),
            refund: default_refund(),
            success: default_success(),
            denials: BTreeMap::new(),
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
    /// A verified token, or none: the caller is then known by its address, and has the policy's `anonymous` tier. A token
    /// that is not accepted gets 401.
    Optional,
    /// No token is looked at, no subject is known and nothing is charged.
    None,
}

impl Auth {
    /// The one of two that asks for more.
    #[must_use]
    pub fn strictest(self, other: Self) -> Self {
        match (self, other) {
            (Self::Required, _) | (_, Self::Required) => Self::Required,
            (Self::Optional, _) | (_, Self::Optional) => Self::Optional,
            (Self::None, Self::None) => Self::None,
        }
    }
}
