//! Meters, tiers and limits.

use std::collections::{BTreeMap, BTreeSet};

use super::{FEATURES_MAX, Faults, LIMITS_MAX, METERS_MAX, TIERS_MAX};
use crate::document::fault::{item, member};
use crate::document::model::{Limit, PolicyDocument};
use crate::limit::{LimitKind, meaning_of, name_of};

pub(super) fn validate(document: &PolicyDocument, faults: &mut Faults) {
    faults.check_count("meters", "meters", document.meters.len(), METERS_MAX);
    for (name, meter) in &document.meters {
        let path = member("meters", name);
        faults.check_name(&path, "meter", name);
        for (field, text) in [("description", &meter.description), ("unit", &meter.unit)] {
            if let Some(text) = text {
                faults.check_text(&member(&path, field), text);
            }
        }
    }
    faults.check_count("tiers", "tiers", document.tiers.len(), TIERS_MAX);
    let mut first_of_name = BTreeMap::new();
    for (name, tier) in &document.tiers {
        let path = member("tiers", name);
        faults.check_name(&path, "tier", name);
        if let Some(text) = &tier.description {
            faults.check_text(&member(&path, "description"), text);
        }
        let features = member(&path, "features");
        faults.check_count(&features, "features", tier.features.len(), FEATURES_MAX);
        faults.check_name_list(&features, "feature", &tier.features);
        let limits = member(&path, "limits");
        faults.check_count(&limits, "limits", tier.limits.len(), LIMITS_MAX);
        let mut names = BTreeSet::new();
        for (index, limit) in tier.limits.iter().enumerate() {
            let path = item(&limits, index);
            let kind = limit_alone(document, limit, &path, faults);
            let name = name_of(limit);
            if !names.insert(name.clone()) {
                faults.add(path, format!("give this limit another `name`: this tier has {name} already"));
            } else if let Some(kind) = kind {
                same_in_all_tiers(&mut first_of_name, name, (limit, kind), path, faults);
            }
        }
    }
    if let Some(name) = document.default_tier.as_ref().filter(|name| !document.tiers.contains_key(*name)) {
        faults.add("default_tier", format!("name one of the tiers, or define {name} under `tiers`"));
    }
}

/// What is wrong with a limit in itself; its kind, if it has one.
fn limit_alone(
    document: &PolicyDocument,
    limit: &Limit,
    path: &str,
    faults: &mut Faults,
) -> Option<LimitKind> {
    if !document.meters.contains_key(&limit.meter) {
        faults.add(
            member(path, "meter"),
            format!("name one of the meters, or define {} under `meters`", limit.meter),
        );
    }
    for (field, units) in [("quota", limit.quota), ("rate", limit.rate)] {
        if let Some(units) = units {
            faults.check_units(&member(path, field), units);
        }
    }
    if let Some(name) = &limit.name {
        faults.check_name(&member(path, "name"), "limit", name);
    }
    match meaning_of(limit) {
        Ok(meaning) => {
            // Where the meter has a good name the default name can only be too long.
            if limit.name.is_none() && super::is_name(&limit.meter) && !super::is_name(&name_of(limit)) {
                faults.add(path, "give this limit a `name`: <meter>.<per> would be too long");
            }
            Some(meaning.kind)
        }
        Err(found) => {
            for (field, message) in found {
                faults.add(field.map_or_else(|| path.to_owned(), |field| member(path, field)), message);
            }
            None
        }
    }
}

/// Usage carries over from tier to tier by the limit's name, so the name must mean the same in all of them.
fn same_in_all_tiers<'a>(
    first_of_name: &mut BTreeMap<String, (&'a Limit, LimitKind, String)>,
    name: String,
    (limit, kind): (&'a Limit, LimitKind),
    path: String,
    faults: &mut Faults,
) {
    let Some((first, first_kind, first_path)) = first_of_name.get(&name) else {
        first_of_name.insert(name, (limit, kind, path));
        return;
    };
    if first.meter != limit.meter || *first_kind != kind {
        faults.add(
            path,
            format!(
                "give {name} the meter, kind, `per` and `zone` that it has in {first_path}, or another `name`: usage of \
                 a limit carries over when the tier changes"
            ),
        );
    }
}
