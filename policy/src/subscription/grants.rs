//! What grants add to limits at a moment.

use super::Grant;
use crate::compile::CompiledLimit;
use crate::document::{Scope, UNITS_MAX};
use crate::limit::{LimitKind, UNLIMITED};

/// Raises the maximums of those limits that have no pool: by all units of the grants that hold at `now_ms` (Unix ms).
pub fn raise(limits: &mut [CompiledLimit], grants: &[Grant], now_ms: i64) {
    add(limits, grants, now_ms, |limit, grant| match limit.kind {
        LimitKind::Quota { .. } => 0,
        _ => grant.units,
    });
}

/// Raises the maximums of all limits, of a quota by what is left of its pool: what the window of now can come to at most.
pub fn raise_all(limits: &mut [CompiledLimit], grants: &[Grant], now_ms: i64) {
    add(limits, grants, now_ms, |limit, grant| match limit.kind {
        LimitKind::Quota { .. } => grant.units.saturating_sub(grant.burnt),
        _ => grant.units,
    });
}

/// The first moment after `now_ms` at which a grant ends, and the last one up to then.
pub fn ends_around(grants: &[Grant], now_ms: i64) -> (Option<i64>, Option<i64>) {
    let ends = || grants.iter().filter_map(|grant| grant.expires_at_ms);
    (ends().filter(|end_ms| *end_ms > now_ms).min(), ends().filter(|end_ms| *end_ms <= now_ms).max())
}

fn add(
    limits: &mut [CompiledLimit],
    grants: &[Grant],
    now_ms: i64,
    units_of: impl Fn(&CompiledLimit, &Grant) -> u64,
) {
    if grants.is_empty() {
        return;
    }
    for limit in limits.iter_mut().filter(|l| l.scope == Scope::Subject && l.units != UNLIMITED) {
        let held = grants.iter().filter(|grant| grant.holds(now_ms));
        let of_limit = held.filter(|grant| grant.limit == *limit.name);
        let extra = of_limit.fold(0, |sum: u64, grant| sum.saturating_add(units_of(limit, grant)));
        if extra > 0 {
            limit.units = limit.units.saturating_add(extra).min(UNITS_MAX);
            limit.kind = limit.kind.with_units(limit.units);
        }
    }
}
