//! What one price comes to, from the beginning of a billing month until a moment.

use std::collections::BTreeMap;

use super::{Stretch, TooLarge, Used};
use crate::document::{Maximum, Price, PriceStep, UnitPrice};
use crate::limit::name_of;
use crate::window::Window;

const DAY_MS: i64 = 86_400_000;

/// One part of what a price comes to: a line of an invoice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Part {
    /// Units, or packages.
    pub(super) quantity: i128,
    /// Minor units.
    pub(super) amount: i128,
    pub(super) of: PartOf,
}

/// What a part is of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum PartOf {
    /// All units of the price.
    Units(UnitPrice),
    /// Packages.
    Packages(UnitPrice),
    /// The units from the first to the last, if there is one, of a month.
    Step { first: u64, last: Option<u64>, price: UnitPrice },
    /// The units with certain labels.
    Cost { index: usize, price: UnitPrice },
    /// The units that no cost fits.
    Rest,
    /// A fee on the parts before it.
    Fee,
}

/// `value / by`, rounded to the nearest whole number; the middle goes away from zero. `by` is more than 0.
pub(super) fn rounded(value: i128, by: i128) -> i128 {
    let (whole, rest) = (value / by, value % by);
    if rest.unsigned_abs() >= by.unsigned_abs() - rest.unsigned_abs() {
        whole + value.signum()
    } else {
        whole
    }
}

/// `amount * share / whole`, rounded.
pub(super) fn share(amount: u64, share: i64, whole: i64) -> i128 {
    rounded(i128::from(amount) * i128::from(share), i128::from(whole).max(1))
}

/// The parts of a price of units in the month that begins at `month`, until `until_ms`. There are as many at every moment.
pub(super) fn parts(
    price: &Price,
    stretch: &Stretch<'_>,
    month: Window,
    used: &[Used],
    until_ms: i64,
) -> Result<Vec<Part>, TooLarge> {
    let count = Count { price, stretch, month, used };
    let mut parts = Vec::new();
    if let Some(one) = price.unit {
        parts.push(priced(count.billable(until_ms), one, PartOf::Units(one))?);
    }
    if let Some(package) = price.package {
        let size = i128::from(package.units).max(1);
        let packages = (count.billable(until_ms) + size - 1) / size;
        let amount = packages.checked_mul(i128::from(package.amount)).ok_or(TooLarge)?;
        parts.push(Part { quantity: packages, amount, of: PartOf::Packages(package) });
    }
    if let Some(steps) = &price.graduated {
        graduated(steps, count.billable(until_ms), &mut parts)?;
    }
    if let Some(steps) = &price.volume {
        // Which step holds, all units of the month say. Its price is for those that were used under it: what another tier
        // charged for before is not charged for, or given back, a second time.
        let (all, before) = (count.billable(until_ms), count.billable(stretch.start_ms.max(month.start_ms)));
        let step = steps.iter().find(|step| step.up_to.is_none_or(|up_to| all <= i128::from(up_to)));
        if let Some(step) = step.or(steps.last()) {
            parts.push(priced(all - before, step.price(), PartOf::Units(step.price()))?);
        }
    }
    if let Some(costs) = &price.costs {
        let mut units = vec![0_i128; costs.len() + 1];
        for used in count.relevant(until_ms) {
            let fits = costs.iter().position(|cost| has_labels(&used.labels, &cost.labels));
            if let Some(sum) = units.get_mut(fits.unwrap_or(costs.len())) {
                *sum += i128::from(used.units);
            }
        }
        for (index, (cost, units)) in costs.iter().zip(&units).enumerate() {
            let of = PartOf::Cost { index, price: cost.price() };
            parts.push(priced((*units).max(0), cost.price(), of)?);
        }
        let rest = units.last().copied().unwrap_or_default().max(0);
        parts.push(Part { quantity: rest, amount: 0, of: PartOf::Rest });
    }
    if let Some(points) = price.fee_basis_points {
        // On what the other lines say, so that who adds them up finds the same.
        let sum = parts.iter().try_fold(0_i128, |sum, part| sum.checked_add(part.amount)).ok_or(TooLarge)?;
        let fee = sum.checked_mul(i128::from(points)).ok_or(TooLarge)?;
        parts.push(Part { quantity: 0, amount: rounded(fee, 10_000), of: PartOf::Fee });
    }
    Ok(parts)
}

fn priced(quantity: i128, price: UnitPrice, of: PartOf) -> Result<Part, TooLarge> {
    let amount = quantity.checked_mul(i128::from(price.amount)).ok_or(TooLarge)?;
    Ok(Part { quantity, amount: rounded(amount, i128::from(price.units).max(1)), of })
}

fn graduated(steps: &[PriceStep], billable: i128, parts: &mut Vec<Part>) -> Result<(), TooLarge> {
    let mut below = 0_u64;
    for step in steps {
        let most = step.up_to.map_or(i128::MAX, |up_to| i128::from(up_to.saturating_sub(below)));
        let quantity = (billable - i128::from(below)).clamp(0, most.max(0));
        let of = PartOf::Step { first: below.saturating_add(1), last: step.up_to, price: step.price() };
        parts.push(priced(quantity, step.price(), of)?);
        below = step.up_to.unwrap_or(below);
    }
    Ok(())
}

/// Whether units with `labels` are among those that `wanted` names. A text may end with a `*`.
fn has_labels(labels: &BTreeMap<String, String>, wanted: &BTreeMap<String, String>) -> bool {
    wanted.iter().all(|(name, wanted)| {
        let text = labels.get(name).map_or("", String::as_str);
        match wanted.strip_suffix('*') {
            Some(start) => text.starts_with(start),
            None => text == wanted,
        }
    })
}

/// The units that a price is for.
struct Count<'a> {
    price: &'a Price,
    stretch: &'a Stretch<'a>,
    month: Window,
    used: &'a [Used],
}

impl Count<'_> {
    fn relevant(&self, until_ms: i64) -> impl Iterator<Item = &Used> {
        self.used.iter().filter(move |used| {
            (self.month.start_ms..until_ms).contains(&used.at_ms)
                && Some(&used.meter) == self.price.meter.as_ref()
                && has_labels(&used.labels, &self.price.labels)
        })
    }

    /// Units from the beginning of the month until `until_ms` that are to be paid: in whatever tier they were used, so that
    /// what a tier includes is not included again after a change.
    fn billable(&self, until_ms: i64) -> i128 {
        let all = || self.relevant(until_ms).map(|used| i128::from(used.units)).sum::<i128>();
        let Some(limit) = self.price.overage_of.as_deref() else {
            return (all() - i128::from(self.price.included.unwrap_or(0))).max(0);
        };
        let (maximum, by_day) = self.quota(limit);
        let Some(maximum) = maximum.units() else {
            return 0;
        };
        if !by_day {
            return (all() - i128::from(maximum)).max(0);
        }
        let mut days: BTreeMap<i64, i128> = BTreeMap::new();
        for used in self.relevant(until_ms) {
            *days.entry(used.at_ms.div_euclid(DAY_MS)).or_default() += i128::from(used.units);
        }
        days.values().map(|units| (units - i128::from(maximum)).max(0)).sum()
    }

    /// The maximum of a quota for this subject, and whether it is of a day.
    fn quota(&self, name: &str) -> (Maximum, bool) {
        let limit = self.stretch.limits.iter().find(|limit| name_of(limit) == name);
        let own = self.stretch.overrides.get(name).copied();
        let maximum = own.or_else(|| limit.and_then(|limit| limit.quota)).unwrap_or(Maximum::Unlimited);
        (maximum, limit.is_some_and(|limit| limit.per.as_deref() == Some("day")))
    }
}
