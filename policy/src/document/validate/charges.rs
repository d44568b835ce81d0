//! Charges: that each has one amount and a meter that can take it.

use std::collections::BTreeSet;

use super::{Faults, UNITS_MAX};
use crate::charge::{self, IdSource};
use crate::document::fault::member;
use crate::document::model::{Charge, EstimateRule, PolicyDocument, RouteRules, Scope, Tier};
use crate::label;
use crate::route::Template;

/// What charges can refer to.
pub(super) struct Known<'a> {
    document: &'a PolicyDocument,
    /// Meters that have a capacity in some tier.
    capacities: BTreeSet<&'a str>,
    /// Meters of which each member has a capacity in some tier.
    of_members: BTreeSet<&'a str>,
    /// Meters that have a limit of another kind in some tier.
    others: BTreeSet<&'a str>,
}

impl<'a> Known<'a> {
    pub(super) fn of(document: &'a PolicyDocument) -> Self {
        let versions = || document.tiers.values().flat_map(Tier::versions);
        let limits = || versions().flat_map(|(limits, _)| limits);
        let of = |capacity: bool| {
            let limits = limits().filter(move |limit| limit.capacity.is_some() == capacity);
            limits.filter_map(|limit| limit.meter.as_deref()).collect()
        };
        let of_members = limits().filter(|limit| limit.capacity.is_some() && limit.scope == Scope::Member);
        let of_members = of_members.filter_map(|limit| limit.meter.as_deref()).collect();
        Self { document, capacities: of(true), of_members, others: of(false) }
    }

    /// What is wrong with the charges of a route. `template`: its path, if it has one that can be read.
    pub(super) fn charges(
        &self,
        rules: &RouteRules,
        template: Option<&Template>,
        path: &str,
        faults: &mut Faults,
    ) {
        for (meter, charge) in &rules.charges {
            let path = member(path, meter);
            if !self.document.meters.contains_key(meter) {
                faults.add(path.clone(), format!("name one of the meters, or define {meter} under `meters`"));
            }
            units(charge, &path, faults);
            self.labels(meter, charge, &member(&path, "labels"), faults);
            match charge::meaning_of(charge, 0) {
                Err(found) => {
                    for (field, message) in found {
                        faults.add(field.map_or_else(|| path.clone(), |field| inside(&path, field)), message);
                    }
                }
                Ok(None) => {}
                Ok(Some(compiled)) => {
                    if compiled.release {
                        self.release(meter, &path, faults);
                    }
                    if let Some(id) = &compiled.id {
                        self.id(id, meter, template, &inside(&path, "id"), faults);
                    }
                }
            }
        }
    }

    fn labels(&self, meter: &str, charge: &Charge, path: &str, faults: &mut Faults) {
        let Charge::Rules(rules) = charge else { return };
        for (name, rule) in &rules.labels {
            let path = member(path, name);
            if name == label::ROUTE {
                faults.add(
                    path,
                    "leave it out: `route` is the name of the route, wherever the meter names it in `by`",
                );
            } else if self.document.meters.get(meter).is_some_and(|meter| !meter.by.contains(name)) {
                faults.add(path, format!("add {name} to `by` of the meter {meter}, or leave the label out"));
            } else if let Err(found) = label::meaning_of(rule) {
                for (field, message) in found {
                    faults.add(field.map_or_else(|| path.clone(), |field| inside(&path, field)), message);
                }
            }
        }
    }

    fn release(&self, meter: &str, path: &str, faults: &mut Faults) {
        if self.others.contains(meter) {
            faults.add(
                path,
                format!(
                    "limit {meter} by `capacity` alone, or charge another meter here: what is released would have to \
                     come back in the windows of its other limits"
                ),
            );
        } else if !self.capacities.contains(meter) {
            faults.add(
                path,
                format!(
                    "give {meter} a `capacity` in some tier (`unlimited` will do): only that can be released"
                ),
            );
        }
    }

    fn id(&self, id: &IdSource, meter: &str, template: Option<&Template>, path: &str, faults: &mut Faults) {
        if !self.capacities.contains(meter) {
            faults.add(
                path,
                format!("give {meter} a `capacity` in some tier, or leave `id` out: only what exists is told apart"),
            );
        }
        if self.of_members.contains(meter) {
            faults.add(
                path,
                format!(
                    "leave `id` out, or the capacity of each member of {meter}: things are the organisation's"
                ),
            );
        }
        if let IdSource::Path(name) = id
            && template.is_some_and(|template| !template.has_parameter(name))
        {
            faults.add(path, format!("name a parameter of the route's path: {{{name}}} is not in it"));
        }
    }
}

/// The bounds of all numbers.
fn units(charge: &Charge, path: &str, faults: &mut Faults) {
    let rules = match charge {
        Charge::Units(units) => return faults.check_units(path, units.unsigned_abs()),
        Charge::Rules(rules) => rules,
    };
    let (estimate, estimate_path) = match &rules.estimate {
        None => (None, ""),
        Some(EstimateRule::Units(units)) => (Some(*units), "estimate"),
        Some(EstimateRule::Source(rules)) => (Some(rules.default), "estimate.default"),
    };
    for (field, units) in
        [("units", rules.units.map(i64::unsigned_abs)), ("default", rules.default), (estimate_path, estimate)]
    {
        if units.is_some_and(|units| units > UNITS_MAX) {
            faults.check_units(&inside(path, field), units.unwrap_or_default());
        }
    }
}

/// The path of a member, or of a member of a member: none of a charge's has a dot in its name.
fn inside(path: &str, field: &str) -> String {
    format!("{path}.{field}")
}
