//! Prices: that each means one thing, and that a currency is named for all of them.

use std::collections::BTreeMap;

use super::{COSTS_MAX, FEE_BASIS_POINTS_MAX, Faults, PRICE_STEPS_MAX, PRICES_MAX, UNITS_MAX};
use crate::document::fault::{item, member};
use crate::document::model::{Limit, PolicyDocument, Price, PriceStep};
use crate::limit::name_of;

pub(super) fn validate(document: &PolicyDocument, faults: &mut Faults) {
    let mut priced = false;
    for (name, tier) in &document.tiers {
        let path = member("tiers", name);
        priced |= !tier.prices.is_empty();
        prices(document, &tier.prices, &tier.limits, &path, faults);
        if tier.free && !tier.prices.is_empty() {
            faults.add(
                member(&path, "free"),
                "leave `free` out: who takes a tier with `prices` pays for it first",
            );
        }
        for (index, earlier) in tier.earlier.iter().enumerate() {
            let path = item(&member(&path, "earlier"), index);
            priced |= !earlier.prices.is_empty();
            prices(document, &earlier.prices, &earlier.limits, &path, faults);
        }
    }
    match &document.billing.currency {
        None if priced => {
            faults
                .add("billing.currency", "name the currency of all prices by its ISO 4217 code, such as EUR");
        }
        Some(code) if !is_currency(code) => {
            faults
                .add("billing.currency", "use an ISO 4217 code of a currency with minor units, such as EUR");
        }
        _ => {}
    }
}

#[cfg(feature = "price")]
fn is_currency(code: &str) -> bool {
    crate::price::Currency::from_code(code).is_some()
}

/// Without the list of currencies: edges, which are told of no prices.
#[cfg(not(feature = "price"))]
fn is_currency(code: &str) -> bool {
    code.len() == 3 && code.bytes().all(|byte| byte.is_ascii_uppercase())
}

fn prices(document: &PolicyDocument, prices: &[Price], limits: &[Limit], path: &str, faults: &mut Faults) {
    let path = member(path, "prices");
    faults.check_count(&path, "prices", prices.len(), PRICES_MAX);
    for (index, price) in prices.iter().enumerate() {
        let path = item(&path, index);
        if let Some(title) = &price.title {
            super::tiers::localized(&member(&path, "title"), title, faults);
        }
        let kinds = [
            ("flat", price.flat.is_some()),
            ("unit", price.unit.is_some()),
            ("graduated", price.graduated.is_some()),
            ("volume", price.volume.is_some()),
            ("package", price.package.is_some()),
            ("costs", price.costs.is_some()),
        ];
        let mut given = kinds.iter().filter(|(_, given)| *given).map(|(name, _)| *name);
        match (given.next(), given.next()) {
            (None, _) => faults.add(
                path,
                "give `flat` (for a month or a year), `unit`, `graduated`, `volume`, `package` or `costs` (of a meter's \
                 units)",
            ),
            (Some(one), Some(other)) => {
                faults.add(path, format!("give `{one}` or `{other}`, not both; write two prices to have both"));
            }
            (Some("flat"), None) => flat(price, &path, faults),
            (Some(kind), None) => of_units(document, price, kind, limits, &path, faults),
        }
    }
}

fn flat(price: &Price, path: &str, faults: &mut Faults) {
    faults.check_units(&member(path, "flat"), price.flat.unwrap_or_default());
    for (field, given) in [
        ("meter", price.meter.is_some()),
        ("labels", !price.labels.is_empty()),
        ("included", price.included.is_some()),
        ("overage_of", price.overage_of.is_some()),
        ("fee_basis_points", price.fee_basis_points.is_some()),
    ] {
        if given {
            faults.add(member(path, field), format!("leave `{field}` out: a flat price is for no units"));
        }
    }
}

fn of_units(
    document: &PolicyDocument,
    price: &Price,
    kind: &str,
    limits: &[Limit],
    path: &str,
    faults: &mut Faults,
) {
    if price.per.is_some() {
        faults.add(member(path, "per"), "leave `per` out: units are counted in each billing month");
    }
    let by = match &price.meter {
        None => {
            faults.add(member(path, "meter"), "add the `meter` whose units are charged for");
            None
        }
        Some(name) => {
            let meter = document.meters.get(name);
            if meter.is_none() {
                let message = format!("name one of the meters, or define {name} under `meters`");
                faults.add(member(path, "meter"), message);
            }
            meter.map(|meter| meter.by.as_slice())
        }
    };
    labels(&price.labels, by, price, &member(path, "labels"), faults);
    match (price.included, &price.overage_of) {
        (Some(_), Some(_)) => {
            faults.add(path, "give `included` or `overage_of`, not both: what a quota allows is included");
        }
        (Some(_), None) | (None, Some(_)) if kind == "costs" => {
            faults.add(
                path,
                "leave `included` and `overage_of` out beside `costs`: write a price for each cost",
            );
        }
        (Some(units), None) => faults.check_units(&member(path, "included"), units),
        (None, Some(name)) => overage(price, name, limits, &member(path, "overage_of"), faults),
        (None, None) => {}
    }
    if let Some(points) = price.fee_basis_points
        && !(1..=FEE_BASIS_POINTS_MAX).contains(&points)
    {
        let message = format!("use 1 to {FEE_BASIS_POINTS_MAX} hundredths of a percent");
        faults.add(member(path, "fee_basis_points"), message);
    }
    for (field, one) in [("unit", price.unit), ("package", price.package)] {
        if let Some(one) = one {
            unit_price(one.amount, one.units, &member(path, field), faults);
        }
    }
    for (field, list) in [("graduated", &price.graduated), ("volume", &price.volume)] {
        if let Some(list) = list {
            steps(list, &member(path, field), faults);
        }
    }
    if let Some(costs) = &price.costs {
        let path = member(path, "costs");
        if costs.is_empty() {
            faults.add(path.clone(), "give at least one cost");
        }
        faults.check_count(&path, "costs", costs.len(), COSTS_MAX);
        for (index, cost) in costs.iter().enumerate() {
            let path = item(&path, index);
            labels(&cost.labels, by, price, &member(&path, "labels"), faults);
            unit_price(cost.amount, cost.units, &path, faults);
        }
    }
}

/// A label that the ledger does not tell units apart by could never fit.
fn labels(
    labels: &BTreeMap<String, String>,
    by: Option<&[String]>,
    price: &Price,
    path: &str,
    faults: &mut Faults,
) {
    for (name, text) in labels {
        let path = member(path, name);
        faults.check_text(&path, text);
        if by.is_some_and(|by| !by.contains(name)) {
            let meter = price.meter.as_deref().unwrap_or_default();
            faults.add(
                path,
                format!("add {name} to `by` of the meter {meter}: its units are not told apart by it"),
            );
        }
    }
}

fn overage(price: &Price, name: &str, limits: &[Limit], path: &str, faults: &mut Faults) {
    let limit = limits.iter().find(|limit| name_of(limit) == name);
    let fits = limit.is_some_and(|limit| {
        let per = limit.per.as_deref();
        let whole_days = per == Some("billing_month") || per == Some("day") && limit.zone.is_none();
        limit.soft && limit.quota.is_some() && limit.meter == price.meter && whole_days
    });
    if !fits {
        faults.add(
            path,
            "name a limit of this tier that is a `quota` with `soft: true` of the same meter, per `billing_month`, or per \
             `day` without a `zone`",
        );
    }
}

fn steps(steps: &[PriceStep], path: &str, faults: &mut Faults) {
    faults.check_count(path, "steps", steps.len(), PRICE_STEPS_MAX);
    let mut before = 0;
    for (index, step) in steps.iter().enumerate() {
        let (is_last, path) = (index + 1 == steps.len(), item(path, index));
        unit_price(step.amount, step.units, &path, faults);
        let field = member(&path, "up_to");
        match step.up_to {
            Some(_) if is_last => {
                faults.add(field, "leave `up_to` out of the last step: it is for all further units");
            }
            Some(up_to) if up_to <= before || up_to > UNITS_MAX => {
                faults.add(
                    field,
                    format!(
                        "use more than {before}, up to which the steps before go, and at most {UNITS_MAX}"
                    ),
                );
            }
            Some(up_to) => before = up_to,
            None if is_last => {}
            None => faults.add(field, "add the step's last unit: only the last step has none"),
        }
    }
    if steps.is_empty() {
        faults.add(path, "give at least one step");
    }
}

fn unit_price(amount: u64, units: u64, path: &str, faults: &mut Faults) {
    faults.check_units(&member(path, "amount"), amount);
    if !(1..=UNITS_MAX).contains(&units) {
        faults.add(member(path, "units"), format!("use 1 to {UNITS_MAX} units (2^53 - 1)"));
    }
}
