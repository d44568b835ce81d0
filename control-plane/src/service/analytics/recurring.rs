//! What subscriptions bring in for a month: the flat prices of those that are paid, each in its subject's version of the
//! tier. Pure.

use std::collections::BTreeMap;

use tollgate_policy::document::{Price, PricePeriod};
use tollgate_policy::subscription::{Subscription, SubscriptionState};

use crate::service::in_force::PolicyInForce;
use crate::store::analytics::RecurringRow;

/// Flat prices of a tier for twelve months, minor units: a year's are exact.
fn year_minor(prices: &[Price]) -> i64 {
    let year = |price: &Price| {
        let flat = i64::try_from(price.flat.unwrap_or(0)).unwrap_or(i64::MAX);
        match price.per.unwrap_or_default() {
            PricePeriod::Month => flat.saturating_mul(12),
            PricePeriod::Year => flat,
        }
    };
    prices.iter().map(year).fold(0, i64::saturating_add)
}

/// Subscriptions of each tier and version.
#[derive(Debug, Default)]
pub struct Recurring(BTreeMap<(String, usize), i64>);

impl Recurring {
    /// Counts a subscription that is paid at `now_ms`: not one on trial.
    pub fn count(&mut self, policy: &PolicyInForce, subscription: &Subscription, now_ms: i64) {
        let effective = subscription.effective(now_ms);
        if !effective.in_force() || effective.state == SubscriptionState::Trialing {
            return;
        }
        if let Some(tier) = policy.compiled.tier_in_force(Some(subscription), None, now_ms) {
            *self.0.entry((tier.name.clone(), tier.version)).or_default() += 1;
        }
    }

    /// What they bring in, as of a day.
    pub fn rows(self, policy: &PolicyInForce, day_ms: i64) -> Vec<RecurringRow> {
        let document = &policy.document;
        let row = |((name, version), subscriptions): ((String, usize), i64)| {
            let tier = document.tiers.get(&name)?;
            let earlier = tier.earlier.get(version);
            let prices = earlier.map_or(&tier.prices, |earlier| &earlier.prices);
            let all = i128::from(year_minor(prices)) * i128::from(subscriptions) / 12;
            Some(RecurringRow {
                day_ms,
                tier: name,
                version: i64::try_from(version).unwrap_or(i64::MAX),
                currency: document.billing.currency.clone().unwrap_or_default(),
                subscriptions,
                month_minor: i64::try_from(all).unwrap_or(i64::MAX),
            })
        };
        self.0.into_iter().filter_map(row).collect()
    }
}
