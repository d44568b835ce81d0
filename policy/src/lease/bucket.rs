//! The level of an edge's share of a token bucket.
//!
//! A share of h units refills fully in the same time as the whole bucket, so the shares' refills add up to no more than
//! the bucket's. Units that an edge may use are full when they come (nobody else's use of them is left to be made up for)
//! and full when they go; so what all edges admit in any time t is at most the burst and what the bucket refills in t.
//!
//! That holds while all edges know the same maximum and refill time. In the second in which a change of them spreads, each
//! counts by what it knows.

/// What a share lacks, as of a moment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Level {
    /// Used and not refilled yet, times `refill_ms`: a share of h units refills h of it in each millisecond, exactly.
    pub(super) owed: u128,
    /// The time that a refill takes, which `owed` is counted by.
    pub(super) refill_ms: u64,
    /// When that was so (monotonic ms).
    pub(super) at_ms: u64,
    /// The limit's maximum that was last decided under, or 0: what is held beyond it does not refill.
    pub(super) cap: u64,
}

impl Level {
    /// Refills until `now_ms` as a share of `held` units does, and from then on in `refill_ms`.
    pub fn settle(&mut self, held: u64, refill_ms: u64, now_ms: u64) {
        if now_ms > self.at_ms {
            let passed_ms = now_ms - self.at_ms;
            let share = if self.cap == 0 { held } else { held.min(self.cap) };
            self.owed = self.owed.saturating_sub(u128::from(share) * u128::from(passed_ms));
            // A debt of who holds nothing (a policy that says `open`) must be forgotten some time too.
            if share == 0 && passed_ms >= self.refill_ms {
                self.owed = 0;
            }
            // Who holds nothing is not refilled: the time until a debt is forgotten goes on.
            if share > 0 || self.owed == 0 {
                self.at_ms = now_ms;
            }
        }
        if self.refill_ms != refill_ms {
            let units_up = self.owed_units();
            let scaled = self.owed.checked_mul(u128::from(refill_ms));
            let exact = scaled.map(|scaled| scaled.div_ceil(u128::from(self.refill_ms.max(1))));
            self.owed = exact.unwrap_or_else(|| u128::from(units_up) * u128::from(refill_ms));
            self.refill_ms = refill_ms;
        }
    }

    /// Units that are not there, rounded up.
    pub fn owed_units(&self) -> u64 {
        u64::try_from(self.owed.div_ceil(u128::from(self.refill_ms.max(1)))).unwrap_or(u64::MAX)
    }

    /// Uses `units`. Call [`Level::settle`] first.
    pub fn take(&mut self, units: u64) {
        self.owed = self.owed.saturating_add(self.of(units));
    }

    /// Takes back a use of `units`, as if it had never been: what was refilled of it was not needed.
    pub fn undo(&mut self, units: u64) {
        self.owed = self.owed.saturating_sub(self.of(units));
    }

    /// From when it was settled until at most `owed_units` are owed, ms; `None` when a share of `held` never gets there.
    pub fn wait_ms(&self, owed_units: u64, held: u64) -> Option<u64> {
        let missing = self.owed.saturating_sub(self.of(owed_units));
        if held == 0 { None } else { u64::try_from(missing.div_ceil(u128::from(held))).ok() }
    }

    fn of(&self, units: u64) -> u128 {
        u128::from(units) * u128::from(self.refill_ms)
    }
}

#[cfg(test)]
mod tests;
