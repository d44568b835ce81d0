//! The edge's side of one account: a limit of a subject in a window.

use super::bucket::Level;
use super::kind::AccountKind;
use super::name::Name;
use super::rest::Rest;
use crate::window::Window;
use crate::wire::{AccountAnswer, AccountReport};

/// How long the answer "nothing is free" lets an edge refuse without asking again, ms. A client that hammers an
/// exhausted limit then costs one sync a second, not one a request.
pub const EMPTY_MS: u64 = 1_000;

/// An edge's own numbers of one limit in one window.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Account {
    /// The limit's name.
    pub limit: Name,
    /// When units that were used may be used again.
    pub kind: AccountKind,
    /// Start of the window, Unix ms; see [`AccountKind::window`].
    pub window_start_ms: i64,
    /// End of the window, Unix ms; `i64::MAX` where there is none.
    pub window_end_ms: i64,
    /// Units granted to this session in all.
    pub granted: u64,
    /// Units given back in all.
    pub returned: u64,
    /// Units taken by admitted requests in all.
    pub taken: u64,
    /// Units of them freed again in all: refunds, takes undone, requests that ended, releases.
    pub freed: u64,
    /// Of a capacity: units released in all beyond those that this session has taken.
    pub removed: u64,
    /// Units that no edge held when the control plane last answered.
    pub unleased: u64,
    /// Until this moment (monotonic ms) "nothing is free" still holds.
    pub empty_until_ms: u64,
    /// `taken` as the control plane last confirmed it: what was taken since then is the demand.
    pub told: u64,
    /// When a unit was last taken (monotonic ms).
    pub used_at_ms: u64,
    /// Units of a rate, or of requests in flight, that rest.
    pub rest: Rest,
    /// What a token bucket lacks.
    pub level: Level,
}

impl Account {
    /// An account that holds nothing yet.
    pub fn new(limit: &str, kind: AccountKind, window: Window) -> Self {
        let (window_start_ms, window_end_ms) = (window.start_ms, window.end_ms);
        Self { limit: limit.into(), kind, window_start_ms, window_end_ms, ..Self::default() }
    }

    /// Units that the edge holds, used or not.
    pub fn held(&self) -> u64 {
        self.granted.saturating_sub(self.returned)
    }

    /// Units taken and not freed.
    pub fn used(&self) -> u64 {
        self.taken.saturating_sub(self.freed)
    }

    /// Lets what has rested long enough be used again: call it before asking what is free.
    pub fn settle(&mut self, mono_ms: u64) {
        match self.kind {
            AccountKind::Quota | AccountKind::Capacity => {}
            AccountKind::Rate => {
                self.rest.expire(mono_ms);
            }
            AccountKind::Concurrency => {
                // Requests whose end nobody saw: their worker trapped.
                let leaked = self.rest.expire(mono_ms);
                self.freed = self.freed.saturating_add(leaked);
            }
            AccountKind::Bucket { refill_ms } => self.level.settle(self.held(), refill_ms, mono_ms),
        }
    }

    /// As [`Account::settle`], under a maximum of `limit_units`.
    pub fn settle_within(&mut self, limit_units: u64, mono_ms: u64) {
        self.settle(mono_ms);
        if matches!(self.kind, AccountKind::Bucket { .. }) {
            self.level.cap = limit_units;
        }
    }

    /// Units that may be used now. Call [`Account::settle`] first.
    pub fn free(&self) -> u64 {
        self.held().saturating_sub(self.resting())
    }

    /// Units that may be used now under a maximum of `limit_units`: what an edge was granted before its limit was lowered
    /// is not free any more. Of a capacity that cannot be told here, since units that this edge took may have been
    /// released at others; so little of one is granted that is not used at once. Call [`Account::settle_within`] first.
    pub fn free_within(&self, limit_units: u64) -> u64 {
        let held = match self.kind {
            AccountKind::Capacity => self.held(),
            _ => self.held().min(limit_units),
        };
        held.saturating_sub(self.resting())
    }

    /// Units that must be held on top for `units` to be free. What is used beyond what is held, since an answer cost more
    /// than was estimated or nobody could be asked, comes first. Call [`Account::settle`] first.
    pub fn missing(&self, units: u64) -> u64 {
        self.resting().saturating_add(units).saturating_sub(self.held())
    }

    /// Whether nobody else can hold a unit under a maximum of `limit_units`.
    pub(super) fn holds_all(&self, limit_units: u64) -> bool {
        self.kind != AccountKind::Capacity && self.held() >= limit_units
    }

    /// Units that are used and cannot be used again yet.
    pub(super) fn resting(&self) -> u64 {
        match self.kind {
            AccountKind::Quota | AccountKind::Capacity => self.used(),
            AccountKind::Rate | AccountKind::Concurrency => self.rest.units(),
            AccountKind::Bucket { .. } => self.level.owed_units(),
        }
    }

    /// Takes `units`. The caller has checked that they are free, or knowingly runs into debt. Answers when they have rested
    /// long enough, for [`Account::end`] and [`Account::undo`]; 0 where that is not said in time.
    pub fn take(&mut self, units: u64, window_ms: u64, limit_units: u64, mono_ms: u64) -> u64 {
        self.taken = self.taken.saturating_add(units);
        self.used_at_ms = mono_ms;
        match self.kind {
            AccountKind::Quota | AccountKind::Capacity => 0,
            AccountKind::Rate | AccountKind::Concurrency => {
                self.rest.add(mono_ms, units, window_ms, limit_units)
            }
            AccountKind::Bucket { .. } => {
                self.settle(mono_ms);
                self.level.take(units);
                0
            }
        }
    }

    /// What the last [`Account::take`] answered: for a caller that took by [`super::decide`].
    pub fn taken_end_ms(&self) -> u64 {
        self.rest.last_ms().unwrap_or(0)
    }

    /// Frees `units` of a quota again, never more than are used, and of a capacity as [`Account::release`] does: what the
    /// request took may have been released meanwhile in the place of what another session had added. Of other kinds it
    /// frees nothing: they limit what the upstream has to bear, and a failed request was borne.
    pub fn refund(&mut self, units: u64) {
        match self.kind {
            AccountKind::Quota => self.freed = self.freed.saturating_add(units.min(self.used())),
            AccountKind::Capacity => self.release(units),
            AccountKind::Rate | AccountKind::Bucket { .. } | AccountKind::Concurrency => {}
        }
    }

    /// A request that took `units` until `end_ms` has ended: of a concurrency limit they are free again, if their time has
    /// not passed already.
    pub fn end(&mut self, end_ms: u64, units: u64) {
        if self.kind == AccountKind::Concurrency {
            self.freed = self.freed.saturating_add(self.rest.remove(end_ms, units));
        }
    }

    /// Takes back, of any kind, a take of `units` that nothing came of: all is as if it had never been. `end_ms` is what
    /// [`Account::take`] answered.
    pub fn undo(&mut self, end_ms: u64, units: u64) {
        let units = match self.kind {
            AccountKind::Capacity => return self.release(units),
            AccountKind::Quota => units,
            AccountKind::Rate | AccountKind::Concurrency => self.rest.remove(end_ms, units),
            AccountKind::Bucket { .. } => {
                self.level.undo(units);
                units
            }
        };
        self.freed = self.freed.saturating_add(units.min(self.used()));
    }

    /// Releases `units` of a capacity: those that this session took are free here at once; what goes beyond them another
    /// session took, and the control plane frees it.
    pub fn release(&mut self, units: u64) {
        if self.kind == AccountKind::Capacity {
            let own = units.min(self.used());
            self.freed = self.freed.saturating_add(own);
            self.removed = self.removed.saturating_add(units - own);
            // What is free now the control plane may have to hand out: where more was used than held, or another session
            // had taken it.
            if units > 0 {
                self.empty_until_ms = 0;
            }
        }
    }

    /// Gives back up to `units` free ones; answers how many. Call [`Account::settle`] first.
    pub fn give_back(&mut self, units: u64) -> u64 {
        let units = units.min(self.free());
        self.returned = self.returned.saturating_add(units);
        units
    }

    /// Holds all units of the limit: of an edge that stands alone.
    pub fn hold_all(&mut self, limit_units: u64) {
        self.granted = self.returned.saturating_add(limit_units);
        self.empty_until_ms = u64::MAX;
    }

    /// Whether all units may be used that the limit has: of an edge that stands alone.
    pub fn is_unused(&mut self, mono_ms: u64) -> bool {
        self.settle(mono_ms);
        self.resting() == 0
    }

    /// Whether nothing is held that could be used, and nothing rests: then it need not be remembered here. Call
    /// [`Account::settle`] first.
    pub fn is_idle(&self) -> bool {
        if self.kind.is_counted() { self.free() == 0 } else { self.held() == 0 && self.resting() == 0 }
    }

    /// What this edge tells the control plane, wanting `more` units on top of those it was granted.
    pub fn report(&self, more: u64) -> AccountReport {
        AccountReport {
            limit: self.limit.to_string(),
            window: self.window_start_ms,
            taken: self.taken,
            freed: self.freed,
            removed: self.removed,
            returned: self.returned,
            want: if more == 0 { 0 } else { self.granted.saturating_add(more) },
        }
    }

    /// Whether `told` has all of this account's numbers.
    pub(super) fn is_told(&self, told: &AccountReport) -> bool {
        told.window == self.window_start_ms
            && self.limit == told.limit
            && (told.taken, told.freed, told.removed, told.returned)
                == (self.taken, self.freed, self.removed, self.returned)
    }

    /// Merges the control plane's numbers, all by max. `asked_ms`: when it was asked for more units than were held, if it was.
    pub fn merge(&mut self, answer: &AccountAnswer, asked_ms: Option<u64>, mono_ms: u64) {
        let gained = answer.granted > self.granted;
        if matches!(self.kind, AccountKind::Bucket { .. }) {
            // Up to this moment, and not to that of asking: until then another edge's share refilled by what is gained.
            self.settle(mono_ms);
            self.level.at_ms = self.level.at_ms.max(mono_ms);
        }
        self.granted = self.granted.max(answer.granted);
        self.returned = self.returned.max(answer.returned);
        self.taken = self.taken.max(answer.taken);
        self.freed = self.freed.max(answer.freed);
        self.removed = self.removed.max(answer.removed);
        self.unleased = answer.unleased;
        self.told = self.told.max(answer.taken);
        if answer.unleased > 0 || answer.pending || gained {
            self.empty_until_ms = 0;
        } else if let Some(asked_ms) = asked_ms {
            // Counted from the moment of asking: what was free then may have gone since, never the other way round.
            self.empty_until_ms = asked_ms.saturating_add(EMPTY_MS);
        }
    }
}

#[cfg(test)]
mod tests;
