//! The control plane's count of a capacity: what is in use when one session releases what another has added.
//!
//! In use are the units that sessions have taken and not freed, less those that were released elsewhere (`removed`). A
//! release may arrive before the addition that it undoes; so more may be removed than is known to be used. That lasts
//! until the addition is reported, or its session is closed and forfeits what it held. Only what a session had taken when
//! it was heard first since then can be that addition (`old`): what it takes later is used, and no release of nothing
//! lets it pass unseen. What is left over after a time released nothing: it is clamped and recorded.

use serde::{Deserialize, Serialize};

/// How long a release may wait for its addition, ms: longer than a session that says nothing stays open.
pub const CLAMP_AFTER_MS: i64 = 60_000;

/// What was removed of a capacity.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(super) struct Removals {
    /// By id, and by sessions whose final numbers are in.
    #[serde(rename = "settled", default, skip_serializing_if = "is_zero")]
    settled: u64,
    /// Removed in all though there was nothing to remove.
    #[serde(default, skip_serializing_if = "is_zero")]
    clamped: u64,
    /// Since when more is removed than is known to be used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    short_since_ms: Option<i64>,
}

impl Removals {
    /// Units removed by a session whose final numbers are in, or by id.
    pub fn add(&mut self, units: u64) {
        self.settled = self.settled.saturating_add(units);
    }

    /// Removed though there was nothing to remove.
    pub fn clamped(&self) -> u64 {
        self.clamped
    }

    /// Units in use, of `used` that were taken and not freed, `old` of them before more was removed than was known to be
    /// used. `by_sessions`: removed by sessions that are not settled.
    pub fn in_use(&self, used: u64, old: u64, by_sessions: u64) -> u64 {
        used.saturating_sub(self.removed(by_sessions).min(old))
    }

    /// Whether more is removed than is known to be used.
    pub fn is_short(&self) -> bool {
        self.short_since_ms.is_some()
    }

    /// Clamps what nothing was added for in time.
    pub fn clamp(&mut self, old: u64, by_sessions: u64, now_ms: i64) {
        let beyond = self.removed(by_sessions).saturating_sub(old);
        self.short_since_ms = match self.short_since_ms {
            _ if beyond == 0 => None,
            None => Some(now_ms),
            Some(since_ms) if now_ms.saturating_sub(since_ms) < CLAMP_AFTER_MS => Some(since_ms),
            Some(_) => {
                self.clamped = self.clamped.saturating_add(beyond);
                None
            }
        };
    }

    /// Makes the count of `used` units come to `in_use`; answers what else must count as used.
    pub fn reconcile(&mut self, used: u64, by_sessions: u64, in_use: u64) -> u64 {
        let wanted = in_use.saturating_add(by_sessions);
        *self = Self { settled: used.saturating_sub(wanted), ..Self::default() };
        wanted.saturating_sub(used)
    }

    pub fn is_none(&self) -> bool {
        *self == Self::default()
    }

    fn removed(&self, by_sessions: u64) -> u64 {
        self.settled.saturating_add(by_sessions).saturating_sub(self.clamped)
    }
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde calls it so")]
fn is_zero(number: &u64) -> bool {
    *number == 0
}

#[cfg(test)]
mod tests;
