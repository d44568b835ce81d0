//! Meters and tiers, and that a limit is the same one in all of them.

use std::collections::{BTreeMap, BTreeSet};

use super::limits::Known;
use super::{
    DAYS_MAX, EARLIER_MAX, FEATURES_MAX, Faults, LABEL_NAMES_BYTES_MAX, LABELS_MAX, LANGUAGE_BYTES_MAX,
    LIMITS_MAX, METERS_MAX, TIERS_MAX,
};
use crate::document::fault::{item, member};
use crate::document::model::{Limit, Localized, PolicyDocument};
use crate::limit::{LimitKind, name_of};
use crate::window::{CALENDAR_END_MS, CALENDAR_START_MS};

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
        for (field, text) in [("title", &tier.title), ("description", &tier.description)] {
            if let Some(text) = text {
                localized(&member(&path, field), text, faults);
            }
        }
        check_days(&member(&path, "trial_days"), tier.trial_days, faults);
        version(&known, &path, (&tier.limits, &tier.features), &mut first_of_name, faults);
        let earlier = member(&path, "earlier");
        faults.check_count(&earlier, "earlier versions", tier.earlier.len(), EARLIER_MAX);
        let mut moment_ms = CALENDAR_START_MS;
        for (index, before) in tier.earlier.iter().enumerate() {
            let path = item(&earlier, index);
            version(&known, &path, (&before.limits, &before.features), &mut first_of_name, faults);
            if !(moment_ms + 1..CALENDAR_END_MS).contains(&before.subscribed_before_ms) {
                faults.add(
                    member(&path, "subscribed_before_ms"),
                    "write Unix ms, later than those of the version before: the oldest version comes first",
                );
            }
            moment_ms = moment_ms.max(before.subscribed_before_ms);
        }
    }
    check_days("billing.grace_days", document.billing.grace_days.unwrap_or_default(), faults);
    if let Some(name) = document.default_tier.as_ref().filter(|name| !document.tiers.contains_key(*name)) {
        faults.add("default_tier", format!("name one of the tiers, or define {name} under `tiers`"));
    }
}

/// What is wrong with the limits and features of one version of a tier. `first_of_name`: the limits of all versions so far.
fn version<'a>(
    known: &Known<'_>,
    path: &str,
    (limits, features): (&'a [Limit], &[String]),
    first_of_name: &mut BTreeMap<String, (&'a Limit, LimitKind, String)>,
    faults: &mut Faults,
) {
    let place = member(path, "features");
    faults.check_count(&place, "features", features.len(), FEATURES_MAX);
    faults.check_name_list(&place, "feature", features);
    let path = &member(path, "limits");
    faults.check_count(path, "limits", limits.len(), LIMITS_MAX);
    let mut names = BTreeSet::new();
    for (index, limit) in limits.iter().enumerate() {
        let path = item(path, index);
        let kind = known.limit(limit, &path, faults);
        let name = name_of(limit);
        if !names.insert(name.clone()) {
            faults.add(path, format!("give this limit another `name`: this tier has {name} already"));
        } else if let Some(kind) = kind {
            same_in_all_tiers(first_of_name, name, (limit, kind), path, faults);
        }
    }
}

/// A text for people, in each of its languages.
pub(super) fn localized(path: &str, text: &Localized, faults: &mut Faults) {
    let Localized::ByLanguage(texts) = text else {
        return text.all().into_iter().for_each(|text| faults.check_text(path, text));
    };
    if texts.is_empty() {
        faults.add(path, "write a text, or one for each language by its tag, such as `{en: …, fr: …}`");
    }
    for (tag, text) in texts {
        let path = member(path, tag);
        faults.check_text(&path, text);
        let is_part = |part: &str| {
            (1..=8).contains(&part.len()) && part.bytes().all(|byte| byte.is_ascii_alphanumeric())
        };
        if tag.len() > LANGUAGE_BYTES_MAX || !tag.split('-').all(is_part) {
            faults.add(path, "write the tag of a language, such as en, fr or pt-BR");
        }
    }
}

fn check_days(path: &str, days: u32, faults: &mut Faults) {
    if days > DAYS_MAX {
        faults.add(path, format!("use at most {DAYS_MAX} days"));
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
