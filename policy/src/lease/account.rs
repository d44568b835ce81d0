//! The edge's side of one account: a limit of a subject in a window.

use super::rest::Rest;
use crate::wire::{AccountAnswer, AccountReport};

/// How long the answer "nothing is free" lets an edge refuse without asking again, ms. A client that hammers an
/// exhausted limit then costs one sync a second, not one a request.
pub const EMPTY_MS: u64 = 1_000;

/// An edge's own numbers of one limit in one window.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Account {
    /// The limit's name.
    pub limit: String,
    /// Start of the window, Unix ms; 0 for a rate.
    pub window_start_ms: i64,
    /// End of the window, Unix ms; `i64::MAX` for a rate.
    pub window_end_ms: i64,
    /// Units granted to this session in all.
    pub granted: u64,
    /// Units given back in all.
    pub returned: u64,
    /// Units taken by admitted requests in all.
    pub taken: u64,
    /// Units of them freed again (refunds) in all.
    pub freed: u64,
    /// Units that no edge held when the control plane last answered.
    pub unleased: u64,
    /// Until this moment (monotonic ms) "nothing is free" still holds.
    pub empty_until_ms: u64,
    /// `taken` as the control plane last confirmed it: what was taken since then is the demand.
    pub told: u64,
    /// When a unit was last taken (monotonic ms).
    pub used_at_ms: u64,
    /// Units of a rate that rest.
    pub rest: Rest,
}

impl Account {
    /// An account of a rate limit.
    pub fn is_rate(&self) -> bool {
        self.window_end_ms == i64::MAX
    }

    /// Units that the edge holds, used or not.
    pub fn held(&self) -> u64 {
        self.granted.saturating_sub(self.returned)
    }

    /// Units used: taken and not freed.
    pub fn used(&self) -> u64 {
        self.taken.saturating_sub(self.freed)
    }

    /// Units that may be used now. A rate's rest must have been expired first.
    pub fn free(&self) -> u64 {
        self.held().saturating_sub(self.resting())
    }

    /// Units that may be used now under a maximum of `limit_units`: what an edge was granted before its limit was lowered
    /// is not free any more. A rate's rest must have been expired first.
    pub fn free_within(&self, limit_units: u64) -> u64 {
        self.held().min(limit_units).saturating_sub(self.resting())
    }

    /// Units that are used and cannot be used again yet.
    pub(super) fn resting(&self) -> u64 {
        if self.is_rate() { self.rest.units() } else { self.used() }
    }

    /// Takes `units`. The caller has checked that they are free, or knowingly runs into debt.
    pub fn take(&mut self, units: u64, window_ms: u64, limit_units: u64, mono_ms: u64) {
        self.taken = self.taken.saturating_add(units);
        self.used_at_ms = mono_ms;
        if self.is_rate() {
            self.rest.add(mono_ms, units, window_ms, limit_units);
        }
    }

    /// Frees `units` again, never more than are used. A rate's units go on resting: it limits what the upstream had to
    /// bear, and a failed request was borne.
    pub fn refund(&mut self, units: u64) {
        let units = units.min(self.used());
        if !self.is_rate() {
            self.freed = self.freed.saturating_add(units);
        }
    }

    /// Gives back up to `units` free ones; answers how many.
    pub fn give_back(&mut self, units: u64) -> u64 {
        let units = units.min(self.free());
        self.returned = self.returned.saturating_add(units);
        units
    }

    /// What this edge tells the control plane, wanting `more` units on top of those it was granted.
    pub fn report(&self, more: u64) -> AccountReport {
        AccountReport {
            limit: self.limit.clone(),
            window: self.window_start_ms,
            taken: self.taken,
            freed: self.freed,
            returned: self.returned,
            want: self.granted.saturating_add(more),
        }
    }

    /// Merges the control plane's numbers, all by max. `asked` says that the report wanted more units than were held.
    pub fn merge(&mut self, answer: &AccountAnswer, asked: bool, mono_ms: u64) {
        let gained = answer.granted > self.granted;
        self.granted = self.granted.max(answer.granted);
        self.returned = self.returned.max(answer.returned);
        self.taken = self.taken.max(answer.taken);
        self.freed = self.freed.max(answer.freed);
        self.unleased = answer.unleased;
        self.told = self.told.max(answer.taken);
        if answer.unleased > 0 || answer.pending || gained {
            self.empty_until_ms = 0;
        } else if asked {
            self.empty_until_ms = mono_ms.saturating_add(EMPTY_MS);
        }
    }
}

#[cfg(test)]
mod tests;
