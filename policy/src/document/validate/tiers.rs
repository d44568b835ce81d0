//! Meters and tiers, and that a limit is the same one in all of them.

use std::collections::{BTreeMap, BTreeSet};

use super::limits::Known;
use super::{FEATURES_MAX, Faults, LABEL_NAMES_BYTES_MAX, LABELS_MAX, LIMITS_MAX, METERS_MAX, TIERS_MAX};
use crate::document::fault::{item, member};
use crate::document::model::{Limit, PolicyDocument};
use crate::limit::{LimitKind, name_of};

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
        let by = member(&path, "by");
        faults.check_count(&by, "labels", meter.by.len(), LABELS_MAX);
        faults.check_name_list(&by, "label", &meter.by);
        if meter.by.iter().map(String::len).sum::<usize>() > LABEL_NAMES_BYTES_MAX {
            faults.add(by, format!("use names of at most {LABEL_NAMES_BYTES_MAX} bytes together"));
        }
    }
    faults.check_count("tiers", "tiers", document.tiers.len(), TIERS_MAX);
    let known = Known::of(document);
    let mut first_of_name = BTreeMap::new();
    for (name, tier) in &document.tiers {
        let path = member("tiers", name);
        faults.check_name(&path, "tier", name);
        if let Some(text) = &tier.description {
            for text in text.all() {
                faults.check_text(&member(&path, "description"), text);
            }
        }
        let features = member(&path, "features");
        faults.check_count(&features, "features", tier.features.len(), FEATURES_MAX);
        faults.check_name_list(&features, "feature", &tier.features);
        let limits = member(&path, "limits");
        faults.check_count(&limits, "limits", tier.limits.len(), LIMITS_MAX);
        let mut names = BTreeSet::new();
        for (index, limit) in tier.limits.iter().enumerate() {
            let path = item(&limits, index);
            let kind = known.limit(limit, &path, faults);
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
    if first.meter != limit.meter || first.scope != limit.scope || !first_kind.counts_alike(&kind) {
        faults.add(
            path,
            format!(
                "give {name} the meter, kind, `per`, `zone` and `scope` that it has in {first_path}, or another `name`: usage of \
                 a limit carries over when the tier changes"
            ),
        );
    }
}
