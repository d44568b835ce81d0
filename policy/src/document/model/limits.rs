//! Tiers and their limits.

use std::borrow::Cow;
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::Deserializer;
use serde::ser::Serializer;
use serde::{Deserialize, Serialize};

use super::shorthand::number_or_word;
use super::{Enforcement, Localized, OnControlPlaneLoss, Price};

/// A named set of limits and features.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Tier {
    /// For people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<Localized>,
    /// The tier's name for people. Default: its name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub title: Option<Localized>,
    /// Whether it is offered: `GET /v1/plans` lists it, and a subject may choose it.
    #[serde(default, skip_serializing_if = "is_default")]
    pub visible: Visible,
    /// Its place among the tiers, the lowest first; going to a higher one is an upgrade. Tiers of the same place go by name.
    #[serde(default, skip_serializing_if = "is_default")]
    pub order: i32,
    /// How long a subject that takes it for the first time may try it before it pays, days. 0: not at all.
    #[serde(default, skip_serializing_if = "is_default")]
    pub trial_days: u32,
    /// What it costs.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub prices: Vec<Price>,
    /// Whether a subject may take it without paying. Not together with `prices`.
    #[serde(default, skip_serializing_if = "is_default")]
    pub free: bool,
    /// What it was before, for those who subscribed to it then; the oldest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub earlier: Vec<EarlierTier>,
    /// Names of the features that this tier has.
    #[serde(default)]
    pub features: Vec<String>,
    /// The limits. A meter without a limit is counted and never refused.
    #[serde(default)]
    pub limits: Vec<Limit>,
}

/// What a tier was until it was changed: it holds for those who subscribed to it before.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EarlierTier {
    /// Holds for subscriptions to the tier that began before this moment (Unix ms), and not before that of the one before.
    pub subscribed_before_ms: i64,
    /// Names of the features that it had.
    #[serde(default)]
    pub features: Vec<String>,
    /// Its limits.
    #[serde(default)]
    pub limits: Vec<Limit>,
    /// What it cost.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub prices: Vec<Price>,
}

/// One version of a tier: what those have who subscribed to it at a time.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TierVersion<'a> {
    /// Names of its features.
    pub features: &'a [String],
    /// Its limits.
    pub limits: &'a [Limit],
    /// What it costs.
    pub prices: &'a [Price],
}

impl EarlierTier {
    /// What it says.
    pub fn version(&self) -> TierVersion<'_> {
        TierVersion { features: &self.features, limits: &self.limits, prices: &self.prices }
    }
}

impl Tier {
    /// What it says for those who subscribe now.
    pub fn newest(&self) -> TierVersion<'_> {
        TierVersion { features: &self.features, limits: &self.limits, prices: &self.prices }
    }

    /// What it says for those who subscribed to it at `since_ms` (Unix ms).
    pub fn version_since(&self, since_ms: i64) -> TierVersion<'_> {
        let earlier = self.earlier.iter().find(|before| since_ms < before.subscribed_before_ms);
        earlier.map_or_else(|| self.newest(), EarlierTier::version)
    }

    /// The limits and features of each of its versions, the oldest first and the newest last.
    pub fn versions(&self) -> impl Iterator<Item = (&[Limit], &[String])> {
        let earlier = self.earlier.iter().map(|before| (&*before.limits, &*before.features));
        earlier.chain([(&*self.limits, &*self.features)])
    }
}

/// Whether a tier is offered to subjects. By default it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct Visible(pub bool);

impl Default for Visible {
    fn default() -> Self {
        Self(true)
    }
}

/// A maximum. Exactly one of `quota`, `rate`, `capacity`, `concurrency` and `size` is given: a number, or `unlimited`, which
/// is shown to people and refuses nobody.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Limit {
    /// The limit's name in answers and headers. Default: `<meter>.<per>`, with `burst` `<meter>.<per>.burst`, of a capacity
    /// the meter, else `concurrency` or `size`; with `scope: member` and `.member` after it. Limits of the same name in two
    /// tiers are the same limit with another maximum, so that usage carries over an upgrade.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The meter that is limited. Not of `concurrency` and `size`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub meter: Option<String>,
    /// Units per calendar or billing window.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quota: Option<Maximum>,
    /// Units in any sliding window of the length `per`; with `burst`, units that come back per `per`. What was used rests,
    /// though the request failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate: Option<Maximum>,
    /// Units that may exist at once. Charges that release give them back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub capacity: Option<Maximum>,
    /// Requests in flight at once. One that lasts longer than 300 s is not counted any more; the proxy must have ended
    /// it by then (`max_stream_duration`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub concurrency: Option<Maximum>,
    /// Bytes of one request's body; a longer one gets 413.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<Maximum>,
    /// The window. For `quota`: `hour`, `day`, `week`, `month`, `year`, `billing_month` or `lifetime`. For `rate`: a length
    /// such as `1s`, `60s`, `5m`, `1h`; at most `24h`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub per: Option<String>,
    /// IANA time zone of a calendar window. Default UTC. Only for `quota`, and not for `billing_month` and `lifetime`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub zone: Option<String>,
    /// A quota that does not refuse: what is used beyond it is counted as overage.
    #[serde(default, skip_serializing_if = "is_default")]
    pub soft: bool,
    /// Makes a `rate` a token bucket that holds so many units.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub burst: Option<Maximum>,
    /// Status of a capacity's denial: 403 (default) or 413.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// Who has the maximum.
    #[serde(default, skip_serializing_if = "is_default")]
    pub scope: Scope,
    /// Whether its denials are carried out. The most lenient of what route and limit say holds; else the policy's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub enforcement: Option<Enforcement>,
    /// What happens when it cannot be decided because the control plane does not answer. Default: the policy's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_control_plane_loss: Option<OnControlPlaneLoss>,
    /// Names of the routes where it is looked at. Empty: all that charge the meter, or of `concurrency` and `size` all that
    /// know a subject.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub routes: Vec<String>,
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// Who has a limit's maximum.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Scope {
    /// The subject that is charged.
    #[default]
    Subject,
    /// Each member of an organisation, besides the organisation itself.
    Member,
}

/// The most that a limit allows: a number, or `unlimited`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Maximum {
    /// So many units.
    Units(u64),
    /// Shown to people; refuses nobody.
    Unlimited,
}

const UNLIMITED: &str = "unlimited";

impl Maximum {
    /// The units; `None` where there is no maximum.
    pub fn units(self) -> Option<u64> {
        match self {
            Self::Units(units) => Some(units),
            Self::Unlimited => None,
        }
    }
}

impl From<u64> for Maximum {
    fn from(units: u64) -> Self {
        Self::Units(units)
    }
}

impl fmt::Display for Maximum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Units(units) => units.fmt(f),
            Self::Unlimited => f.write_str(UNLIMITED),
        }
    }
}

impl Serialize for Maximum {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Units(units) => to.serialize_u64(*units),
            Self::Unlimited => to.serialize_str(UNLIMITED),
        }
    }
}

impl<'de> Deserialize<'de> for Maximum {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        Ok(number_or_word(from, UNLIMITED)?.map_or(Self::Unlimited, Self::Units))
    }
}

impl JsonSchema for Maximum {
    fn schema_name() -> Cow<'static, str> {
        "Maximum".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "The most that a limit allows: a number of units, or `unlimited`.",
            "anyOf": [{"type": "integer", "format": "uint64", "minimum": 0}, {"const": UNLIMITED}],
        })
    }
}
