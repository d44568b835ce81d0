//! Units that were used and rest. Of a rate, for the window's length after the use, so that no window of that length can
//! hold more than the limit; of a concurrency limit, until the request ends, and at most as long as one may take.
//!
//! Counts with an end, not one time stamp per unit: ends are rounded up, to the safe side.

/// Units up to which ends are kept to the millisecond.
const EXACT_UNITS_MAX: u64 = 64;

/// Steps of a window that ends are rounded up to above that: a unit rests at most 1/64 longer than it must.
const STEPS: u64 = 64;

/// Units that rest, by the moment (monotonic ms) at which they are free again, ascending.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rest {
    pub(super) entries: Vec<(u64, u64)>,
}

impl Rest {
    /// Forgets what no longer rests at `now_ms`; answers how many units that was.
    pub fn expire(&mut self, now_ms: u64) -> u64 {
        let over = self.entries.partition_point(|(end_ms, _)| *end_ms <= now_ms);
        if over == 0 {
            return 0;
        }
        self.entries.drain(..over).fold(0, |sum, (_, units)| sum.saturating_add(units))
    }

    /// How many units rest. Call [`Rest::expire`] first.
    pub fn units(&self) -> u64 {
        self.entries.iter().fold(0, |sum, (_, units)| sum.saturating_add(*units))
    }

    /// `units` are used at `now_ms` under a limit of `limit_units` per `window_ms`; answers the end of their rest.
    pub fn add(&mut self, now_ms: u64, units: u64, window_ms: u64, limit_units: u64) -> u64 {
        if units == 0 {
            return 0;
        }
        // An edge in debt takes more than its limit: then too the number of ends must stay bounded.
        let exact = limit_units <= EXACT_UNITS_MAX && (self.entries.len() as u64) < EXACT_UNITS_MAX;
        let step_ms = if exact { 1 } else { (window_ms / STEPS).max(1) };
        let mut end_ms = now_ms.saturating_add(window_ms).div_ceil(step_ms).saturating_mul(step_ms);
        if let Some((last_ms, last_units)) = self.entries.last_mut() {
            // A worker whose clock reading is a little older must not break the order; resting longer is safe.
            end_ms = end_ms.max(*last_ms);
            if *last_ms == end_ms {
                *last_units = last_units.saturating_add(units);
                return end_ms;
            }
        }
        self.entries.push((end_ms, units));
        end_ms
    }

    /// `units` of those that rest until `end_ms` rest no longer; answers how many of them there were.
    pub fn remove(&mut self, end_ms: u64, units: u64) -> u64 {
        let Ok(at) = self.entries.binary_search_by_key(&end_ms, |(end_ms, _)| *end_ms) else {
            return 0;
        };
        let Some((_, resting)) = self.entries.get_mut(at) else { return 0 };
        let units = units.min(*resting);
        *resting -= units;
        if *resting == 0 {
            self.entries.remove(at);
        }
        units
    }

    /// The moment at which at least `units` of those resting are free again, or `None` when fewer than that rest.
    pub fn freed_at_ms(&self, units: u64) -> Option<u64> {
        let mut freed = 0_u64;
        self.entries.iter().find_map(|(end_ms, count)| {
            freed = freed.saturating_add(*count);
            (freed >= units).then_some(*end_ms)
        })
    }

    /// The moment at which all are free again.
    pub fn last_ms(&self) -> Option<u64> {
        self.entries.last().map(|(end_ms, _)| *end_ms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_unit_rests_for_exactly_the_window_when_the_limit_is_small() {
        let mut rest = Rest::default();
        rest.add(1_000, 1, 60_000, 2);
        rest.add(1_005, 1, 60_000, 2);
        rest.expire(60_999);
        assert_eq!(rest.units(), 2);
        assert_eq!(rest.freed_at_ms(1), Some(61_000));
        assert_eq!(rest.freed_at_ms(2), Some(61_005));
        assert_eq!(rest.freed_at_ms(3), None);
        rest.expire(61_000);
        assert_eq!(rest.units(), 1);
        rest.expire(61_005);
        assert_eq!(rest.units(), 0);
    }

    #[test]
    fn a_large_limit_rounds_ends_up_and_stays_bounded() {
        let mut rest = Rest::default();
        for now_ms in 0..200_000 {
            rest.expire(now_ms);
            rest.add(now_ms, 1, 60_000, 100_000);
            assert!(rest.units() >= 60_000.min(now_ms + 1), "a unit was freed before its window passed");
        }
        assert!(rest.entries.len() <= 66, "{} entries", rest.entries.len());
        assert!(rest.units() <= 60_000 + 2 * 60_000 / 64);
    }

    #[test]
    fn the_boundary_between_exact_and_rounded_is_the_named_one() {
        let ends = |limit| {
            let mut rest = Rest::default();
            rest.add(1, 1, 64_000, limit);
            rest.last_ms()
        };
        assert_eq!(ends(64), Some(64_001));
        assert_eq!(ends(65), Some(65_000));
    }

    #[test]
    fn an_older_clock_reading_keeps_the_order_and_the_units() {
        let mut rest = Rest::default();
        rest.add(10, 1, 100, 5);
        rest.add(9, 1, 100, 5);
        assert_eq!(rest.entries, vec![(110, 2)]);
        rest.add(11, 0, 100, 5);
        assert_eq!(rest.entries.len(), 1);
    }
}
