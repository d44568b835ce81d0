//! What a request costs on a meter.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::de::{Deserializer, Error, Unexpected};
use serde::{Deserialize, Serialize};

use super::shorthand::{NumberOr, number_or_mapping};

/// What one request costs on one meter: a number of units, or rules that say more.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
#[serde(untagged)]
pub enum Charge {
    /// So many units, as `{units: N}`.
    Units(i64),
    /// In full.
    Rules(Box<ChargeRules>),
}

/// What one request costs on one meter. Exactly one source is given: `units`, `body_bytes`, `request_header`,
/// `response_header`, `request_json` or `response_json`.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ChargeRules {
    /// So many units. A negative number releases them: only on meters of capacities.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub units: Option<i64>,
    /// The bytes of a body.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body_bytes: Option<BodyOf>,
    /// A number in this header of the request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_header: Option<String>,
    /// A number in this header of the response.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub response_header: Option<String>,
    /// A number in the request's JSON body, by JSON Pointer (RFC 6901) such as `/max_tokens`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_json: Option<String>,
    /// A number in the response's JSON body, or in the last event of an event stream or the last line of JSON lines that has
    /// it, by JSON Pointer (RFC 6901).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub response_json: Option<String>,
    /// Gives the amount back instead of taking it: only on meters of capacities.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub release: Option<bool>,
    /// When it counts. Default: `success` of what is given back, `response` where the source is in the response, else
    /// `request`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on: Option<On>,
    /// What an amount that is missing or cannot be read counts as. Without it what was reserved stays charged of a response,
    /// and a request is refused with 400; but a release then gives nothing back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default: Option<u64>,
    /// What is reserved when the request is admitted, where the amount is known later: of the response, and of a request's
    /// body without a `Content-Length`. Default 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub estimate: Option<EstimateRule>,
    /// Whether `units` and `request_json` count for each call of a JSON-RPC batch. Default `call`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub per: Option<ChargePer>,
    /// What is stored or deleted, as `path.<parameter>` or `header.<name>`: it is added once and released once. Only on meters
    /// of capacities, and only with a control plane, which remembers what is there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// What the ledger tells these units apart by, where the meter says so (`by`): a text, or where to read it.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, LabelRule>,
}

/// A label: a text, or where to read it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum LabelRule {
    /// This text.
    Text(String),
    /// Read from the request or the response.
    Source(LabelSource),
}

/// Where a label is read: exactly one of its members is given.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LabelSource {
    /// A header of the request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_header: Option<String>,
    /// A header of the response.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub response_header: Option<String>,
    /// A text in the request's JSON body, by JSON Pointer (RFC 6901) such as `/model`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_json: Option<String>,
    /// A text in the response's JSON body, or in the last event or line that has it, by JSON Pointer (RFC 6901).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub response_json: Option<String>,
}

impl<'de> Deserialize<'de> for Charge {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        Ok(match number_or_mapping(from)? {
            NumberOr::Number(units) => Self::Units(units),
            NumberOr::Mapping(rules) => Self::Rules(Box::new(rules)),
        })
    }
}

/// Whose body.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum BodyOf {
    /// The request's.
    Request,
    /// The response's.
    Response,
}

/// When a charge counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum On {
    /// When the request is admitted; a response status in the route's `refund` gives it back, but not to a rate.
    Request,
    /// When the request is admitted too; a response status that is not in the route's `success` gives it back.
    Success,
    /// When there is a response whose status is not in the route's `refund`. Until then the estimate is reserved.
    Response,
}

/// What counts once where a JSON-RPC batch has several calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ChargePer {
    /// Each call.
    Call,
    /// The HTTP request.
    Request,
}

/// What is reserved when a request is admitted: a number of units, or where to read it.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
#[serde(untagged)]
pub enum EstimateRule {
    /// So many units.
    Units(u64),
    /// Read from the request.
    Source(EstimateRules),
}

/// Where an estimate is read: exactly one of `request_header` and `request_json` is given.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EstimateRules {
    /// A number in this header of the request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_header: Option<String>,
    /// A number in the request's JSON body, by JSON Pointer (RFC 6901) such as `/max_tokens`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_json: Option<String>,
    /// What an estimate that is missing or cannot be read counts as.
    #[serde(default)]
    pub default: u64,
}

impl<'de> Deserialize<'de> for EstimateRule {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        match number_or_mapping(from)? {
            NumberOr::Number(units) => u64::try_from(units).map(Self::Units).map_err(|_| {
                D::Error::invalid_value(Unexpected::Signed(units), &"a whole number, 0 or more, or a mapping")
            }),
            NumberOr::Mapping(rules) => Ok(Self::Source(rules)),
        }
    }
}
