//! Routes: that each can match, charges what exists, and has somebody to charge.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    FEATURES_MAX, Faults, LIMITS_PER_REQUEST_MAX, METHODS_MAX, NAME_BYTES_MAX, REFUNDS_MAX, ROUTES_MAX,
    TEXT_BYTES_MAX,
};
use crate::document::fault::{item, member};
use crate::document::model::{Auth, PolicyDocument, Route, RouteRules};
use crate::route::Template;
use crate::status::status_range;

pub(super) fn validate(document: &PolicyDocument, faults: &mut Faults) {
    faults.check_count("routes", "routes", document.routes.len(), ROUTES_MAX);
    let known = Known::of(document);
    for (index, route) in document.routes.iter().enumerate() {
        let path = item("routes", index);
        matching(route, &path, faults);
        known.rules(&route.rules(), &path, faults);
    }
    known.rules(&document.default_route, "default_route", faults);
    issuers_where_needed(document, faults);
}

fn matching(route: &Route, path: &str, faults: &mut Faults) {
    if let Some(name) = &route.name {
        faults.check_text(&member(path, "name"), name);
    }
    let methods = member(path, "methods");
    faults.check_count(&methods, "methods", route.methods.len(), METHODS_MAX);
    for (index, method) in route.methods.iter().enumerate() {
        if !is_method(method) {
            faults.add(item(&methods, index), "write an HTTP method in capitals, such as GET");
        }
    }
    let template = member(path, "path");
    if route.path.len() > TEXT_BYTES_MAX {
        faults.add(template, format!("use at most {TEXT_BYTES_MAX} bytes"));
    } else if let Err(message) = Template::parse(&route.path) {
        faults.add(template, message);
    }
}

/// A token (RFC 9110 section 5.6.2) without small letters: methods are case-sensitive, and all registered ones are capitals.
fn is_method(text: &str) -> bool {
    let is_token =
        |byte: u8| byte.is_ascii_uppercase() || byte.is_ascii_digit() || b"!#$%&'*+-.^_`|~".contains(&byte);
    !text.is_empty() && text.len() <= NAME_BYTES_MAX && text.bytes().all(is_token)
}

/// Without an issuer nobody has a token, so a route that asks for one would refuse everybody.
fn issuers_where_needed(document: &PolicyDocument, faults: &mut Faults) {
    if !document.issuers.is_empty() {
        return;
    }
    let mut places: Vec<String> = document
        .routes
        .iter()
        .enumerate()
        .filter(|(_, route)| route.auth == Auth::Required)
        .map(|(index, _)| item("routes", index))
        .collect();
    if document.default_route.auth == Auth::Required {
        places.push("default_route".to_owned());
    }
    let place = match places.as_slice() {
        [] => return,
        [place] => place.clone(),
        [place, others @ ..] => format!("{place} (and {} more)", others.len()),
    };
    faults.add(
        "issuers",
        format!("add an issuer, or write `auth: none` in {place}: a token is required there and no issuer could have signed it"),
    );
}

/// What rules can refer to.
struct Known<'a> {
    document: &'a PolicyDocument,
    /// The features that some tier has.
    features: BTreeSet<&'a str>,
    /// Each tier's name, and its limits counted by meter.
    limits: Vec<(&'a str, BTreeMap<&'a str, usize>)>,
}

impl<'a> Known<'a> {
    fn of(document: &'a PolicyDocument) -> Self {
        let mut limits = Vec::with_capacity(document.tiers.len());
        for (name, tier) in &document.tiers {
            let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
            for limit in &tier.limits {
                *counts.entry(&limit.meter).or_default() += 1;
            }
            limits.push((name.as_str(), counts));
        }
        let features = document.tiers.values().flat_map(|tier| &tier.features).map(String::as_str).collect();
        Self { document, features, limits }
    }

    fn rules(&self, rules: &RouteRules, path: &str, faults: &mut Faults) {
        let charges = member(path, "charges");
        for (meter, units) in &rules.charges {
            let charge = member(&charges, meter);
            if !self.document.meters.contains_key(meter) {
                faults
                    .add(charge.clone(), format!("name one of the meters, or define {meter} under `meters`"));
            }
            faults.check_units(&charge, *units);
        }
        let features = member(path, "features");
        faults.check_count(&features, "features", rules.features.len(), FEATURES_MAX);
        for (index, feature) in rules.features.iter().enumerate() {
            if !self.features.contains(feature.as_str()) {
                faults.add(
                    item(&features, index),
                    format!(
                        "give {feature} to a tier, or remove it here: no tier has it, so nobody could pass"
                    ),
                );
            }
        }
        let refund = member(path, "refund");
        faults.check_count(&refund, "statuses", rules.refund.len(), REFUNDS_MAX);
        for (index, pattern) in rules.refund.iter().enumerate() {
            if status_range(pattern).is_none() {
                faults.add(
                    item(&refund, index),
                    "write a status (\"404\"), a class (5xx) or a range (\"500-503\") within 100 to 599",
                );
            }
        }
        if rules.auth == Auth::None {
            if !rules.charges.is_empty() {
                faults.add(
                    charges,
                    "remove the charges or `auth: none`: without a token there is nobody to charge",
                );
            }
            if !rules.features.is_empty() {
                faults.add(
                    features,
                    "remove the features or `auth: none`: without a token there is no tier to have them",
                );
            }
        } else {
            self.limits_at_once(rules, charges, faults);
        }
    }

    fn limits_at_once(&self, rules: &RouteRules, charges: String, faults: &mut Faults) {
        let touched = |counts: &BTreeMap<&str, usize>| {
            let charged = rules.charges.keys();
            charged.filter_map(|meter| counts.get(meter.as_str())).sum::<usize>()
        };
        let most = self
            .limits
            .iter()
            .map(|(tier, counts)| (touched(counts), tier))
            .find(|(count, _)| *count > LIMITS_PER_REQUEST_MAX);
        if let Some((count, tier)) = most {
            faults.add(
                charges,
                format!(
                    "charge fewer meters, or give tier {tier} fewer limits on them: one request would touch {count} \
                     limits, and can touch {LIMITS_PER_REQUEST_MAX}"
                ),
            );
        }
    }
}
