//! What tiers cost. Money is a whole number of minor units of an ISO 4217 currency, everywhere.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What holds for all prices.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Billing {
    /// ISO 4217 code of the currency of all prices, such as `EUR`. Needed as soon as a tier has a price.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub currency: Option<String>,
    /// How long a tier stays in force after a payment failed, days. Default 7.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grace_days: Option<u32>,
}

/// One line of what a tier costs.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Price {
    /// For people: the line's text on an invoice. Default: what is charged for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub title: Option<super::Localized>,
    /// A fixed amount for each billing period, in minor units.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub flat: Option<i64>,
}
