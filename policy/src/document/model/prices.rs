//! What tiers cost. Money is a whole number of minor units of an ISO 4217 currency, everywhere: cents of EUR and USD, whole
//! francs of XOF, fils of KWD.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Localized;

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

/// One thing that a tier costs. Exactly one of `flat`, `unit`, `graduated`, `volume`, `package` and `costs` is given. All
/// but `flat` are prices of a meter's units, of those that were used in a billing period.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Price {
    /// For people: the line's text on an invoice. Default: what is charged for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub title: Option<Localized>,
    /// A fixed amount for each `per`, in minor units.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub flat: Option<u64>,
    /// For how long `flat` is. Default `month`: a billing month.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub per: Option<PricePeriod>,
    /// The meter whose units are charged for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub meter: Option<String>,
    /// Only units with these labels: their texts, exact or with a `*` at the end. Default: all units.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// Units of each billing month that cost nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub included: Option<u64>,
    /// The name of a soft quota of this tier, per `day` (UTC) or `billing_month`: only what is used beyond its maximum costs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub overage_of: Option<String>,
    /// One price for every unit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unit: Option<UnitPrice>,
    /// Units cost by the step in which each falls.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub graduated: Option<Vec<PriceStep>>,
    /// All units cost what the last of them does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub volume: Option<Vec<PriceStep>>,
    /// Units are sold in packages of so many; one that is begun costs in full.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub package: Option<UnitPrice>,
    /// Units cost by their labels, such as a model's: the first that fits. What fits none costs nothing, and is shown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub costs: Option<Vec<LabelCost>>,
    /// A fee on what the units come to, in hundredths of a percent: 2000 is 20 %. A line of its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fee_basis_points: Option<u32>,
}

/// For how long a flat price is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum PricePeriod {
    /// A billing month.
    #[default]
    Month,
    /// Twelve billing months, from the anchor.
    Year,
}

/// What so many units cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct UnitPrice {
    /// Minor units.
    pub amount: u64,
    /// For so many units: `{amount: 25, units: 1000000}` is 0.000025 a unit. Default 1.
    #[serde(default = "one")]
    pub units: u64,
}

/// One step of a price by steps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PriceStep {
    /// The last unit of the billing month that is in this step, counted from 1 after those that are included. The last
    /// step has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub up_to: Option<u64>,
    /// Minor units.
    pub amount: u64,
    /// For so many units. Default 1.
    #[serde(default = "one")]
    pub units: u64,
}

/// What units with certain labels cost.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LabelCost {
    /// The labels: their texts, exact or with a `*` at the end. Empty: all units that no cost before it fits.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// Minor units.
    pub amount: u64,
    /// For so many units. Default 1.
    #[serde(default = "one")]
    pub units: u64,
}

fn one() -> u64 {
    1
}

impl PriceStep {
    /// What units in this step cost.
    pub fn price(&self) -> UnitPrice {
        UnitPrice { amount: self.amount, units: self.units }
    }
}

impl LabelCost {
    /// What units with its labels cost.
    pub fn price(&self) -> UnitPrice {
        UnitPrice { amount: self.amount, units: self.units }
    }
}
