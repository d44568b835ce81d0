//! The policy document as its authors write it, in YAML or JSON: plain data with no meaning attached yet.
//!
//! What a document means is settled in `crate::compile`; whether it makes sense, in `super::validate`. Nothing here
//! computes. The JSON Schema that `schemars` derives from these types is the published one.

mod charges;
mod denials;
mod issuers;
mod limits;
mod presentation;
mod prices;
mod routes;
mod shorthand;
mod views;

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use charges::*;
pub use denials::*;
pub use issuers::*;
pub use limits::*;
pub use presentation::*;
pub use prices::*;
pub use routes::*;
pub use views::*;

/// One versioned policy: who may call, what is counted, which tiers exist and what each route costs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PolicyDocument {
    /// Version of this format. Only `1` exists.
    pub version: u32,
    /// Whether denials are carried out. A route and a limit may say otherwise.
    #[serde(default)]
    pub enforcement: Enforcement,
    /// Token issuers that are trusted. May be empty when no route asks for a token.
    #[serde(default)]
    pub issuers: Vec<Issuer>,
    /// Callers without a token on routes with `auth: optional`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub anonymous: Option<Anonymous>,
    /// What is read of JSON bodies.
    #[serde(default)]
    pub bodies: Bodies,
    /// Lets the proxy choose its route again once `x-tollgate-tier` is set, such as one with the tier's bandwidth.
    #[serde(default)]
    pub route_by_tier: bool,
    /// What is counted, by name.
    pub meters: BTreeMap<String, Meter>,
    /// The tiers, by name.
    pub tiers: BTreeMap<String, Tier>,
    /// The tier of a subject that has no subscription in force. Without it such a subject gets 402.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default_tier: Option<String>,
    /// What holds for all prices.
    #[serde(default, skip_serializing_if = "is_default")]
    pub billing: Billing,
    /// Routes in order; the first that matches decides.
    #[serde(default)]
    pub routes: Vec<Route>,
    /// What holds for a request that no route matches. The default asks for a token and charges nothing.
    #[serde(default)]
    pub default_route: RouteRules,
    /// What happens to a request for which the control plane must be asked and does not answer. A limit may say otherwise.
    #[serde(default)]
    pub on_control_plane_loss: OnControlPlaneLoss,
    /// How denials are worded.
    #[serde(default)]
    pub denials: Denials,
    /// Answers of the control plane in the words of another API, by name. Edges know nothing of them.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub views: BTreeMap<String, View>,
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

/// Whether denials are carried out. In the order of leniency.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Enforcement {
    /// Refuse.
    #[default]
    Enforce,
    /// Admit, count, and say to the upstream and in metrics what would have been refused.
    Shadow,
    /// Do not look at limits and features. Usage and capacities are still counted, tokens are still verified.
    Off,
}

impl Enforcement {
    /// The one of two that refuses less.
    #[must_use]
    pub fn most_lenient(self, other: Self) -> Self {
        self.max(other)
    }

    /// The one of two that refuses more.
    #[must_use]
    pub fn strictest(self, other: Self) -> Self {
        self.min(other)
    }
}

/// Who calls without a token on routes with `auth: optional`: the subject is `anon:<address>`, of IPv6 by /64.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Anonymous {
    /// Their tier.
    pub tier: String,
    /// How many proxies in front of this one are trusted to have added the caller's address to `x-forwarded-for`. 0: the
    /// address of the connection.
    #[serde(default)]
    pub trusted_hops: u32,
}

/// Most bytes of a JSON body that are read, where the policy does not say it.
pub const JSON_BYTES_DEFAULT: u32 = 256 * 1024;

/// What is read of JSON bodies.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Bodies {
    /// Most bytes of a JSON body that are read; of an event stream or JSON lines, of one event or line. Less than the
    /// proxy's own buffer (`per_connection_buffer_limit_bytes`).
    #[serde(default = "default_json_bytes_max")]
    pub json_bytes_max: u64,
    /// What happens to a longer one, where something of it must be known.
    #[serde(default)]
    pub over: OverBodies,
}

fn default_json_bytes_max() -> u64 {
    u64::from(JSON_BYTES_DEFAULT)
}

impl Default for Bodies {
    fn default() -> Self {
        Self { json_bytes_max: default_json_bytes_max(), over: OverBodies::default() }
    }
}

/// What happens to a request whose JSON body is too long to be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OverBodies {
    /// Refuse it with 413.
    #[default]
    Refuse,
    /// Let it pass: what the body would have said counts as missing. It takes no route that names JSON-RPC methods or MCP
    /// tools, whatever it calls.
    Unmetered,
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
    /// By what the ledger tells units apart: `route`, and labels that charges give (`labels`). Default: nothing.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub by: Vec<String>,
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}
