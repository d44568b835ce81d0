//! Callers without a token, and what is read of requests.

use super::{Faults, JSON_BYTES_MAX, TRUSTED_HOPS_MAX};
use crate::document::model::{Anonymous, PolicyDocument};

pub(super) fn validate(document: &PolicyDocument, faults: &mut Faults) {
    if let Some(Anonymous { tier, trusted_hops }) = &document.anonymous {
        if !document.tiers.contains_key(tier) {
            faults.add("anonymous.tier", format!("name one of the tiers, or define {tier} under `tiers`"));
        }
        if *trusted_hops > TRUSTED_HOPS_MAX {
            faults.add(
                "anonymous.trusted_hops",
                format!(
                    "use at most {TRUSTED_HOPS_MAX}: so many proxies before this one add to x-forwarded-for"
                ),
            );
        }
    }
    if !(1..=JSON_BYTES_MAX).contains(&document.bodies.json_bytes_max) {
        faults.add("bodies.json_bytes_max", format!("use 1 to {JSON_BYTES_MAX} bytes"));
    }
}
