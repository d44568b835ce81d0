//! Whether the wall clock is to be believed when something is written down for good: as long as it moves like the clock that
//! nobody sets. One that jumps ahead is believed when it has been steady for a while.

/// By how much the two clocks may part, ms: clocks drift, and are put right by small steps.
pub const TOLERANCE_MS: i64 = 5 * 60_000;

/// For how long a clock that jumped must move steadily, ms.
pub const WAIT_MS: u64 = 10 * 60_000;

/// What is known of the wall clock.
#[derive(Debug, Default)]
pub struct Steadiness {
    /// By how much it is ahead of the monotonic one, ms, while it is believed.
    believed: Option<i64>,
    /// By how much it is ahead since it jumped, ms, and since when, in monotonic ms.
    doubted: Option<(i64, u64)>,
}

/// Whether it is believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Belief {
    /// What it has reached, time has reached.
    Steady,
    /// It has just jumped ahead.
    Jumped,
    /// It has jumped ahead a while ago.
    Waiting,
}

impl Steadiness {
    /// Whether anything was asked of it.
    pub fn is_new(&self) -> bool {
        self.believed.is_none()
    }

    /// Whether the clock is believed that shows `wall_ms` when the other one shows `mono_ms`. `seen_ms`: what a believed one
    /// last showed before this process looked, 0 if none did.
    pub fn look(&mut self, wall_ms: i64, mono_ms: u64, seen_ms: i64) -> Belief {
        let mono = i64::try_from(mono_ms).unwrap_or(i64::MAX);
        let ahead_ms = wall_ms.saturating_sub(mono);
        let believed_ms = *self.believed.get_or_insert_with(|| match seen_ms {
            0 => ahead_ms,
            // It may have been set while no process ran, or none ran for a while.
            _ => ahead_ms.min(seen_ms.saturating_sub(mono)),
        });
        if is_near(ahead_ms, believed_ms) {
            self.doubted = None;
            return Belief::Steady;
        }
        let doubted = self.doubted.filter(|(doubted_ms, _)| is_near(ahead_ms, *doubted_ms));
        let since_ms = doubted.map_or(mono_ms, |(_, since_ms)| since_ms);
        if mono_ms.saturating_sub(since_ms) >= WAIT_MS {
            (self.believed, self.doubted) = (Some(ahead_ms), None);
            return Belief::Steady;
        }
        let is_new = self.doubted.replace((ahead_ms, since_ms)).is_none();
        match (ahead_ms < believed_ms, is_new) {
            // One that was set back has reached whatever it shows.
            (true, _) => Belief::Steady,
            (false, true) => Belief::Jumped,
            (false, false) => Belief::Waiting,
        }
    }
}

fn is_near(one_ms: i64, other_ms: i64) -> bool {
    one_ms.saturating_sub(other_ms).saturating_abs() <= TOLERANCE_MS
}

#[cfg(test)]
mod tests {
    use super::Belief::{Jumped, Steady, Waiting};
    use super::*;

    const YEAR_MS: i64 = 365 * 86_400_000;
    const NOW_MS: i64 = 1_803_859_200_000;

    /// Looks at moments of both clocks, in minutes since the beginning.
    fn check(seen_ms: i64, looks: &[(i64, u64, Belief)]) {
        let mut steadiness = Steadiness::default();
        for (wall, mono, expected) in looks {
            let found = steadiness.look(NOW_MS + wall * 60_000, 7_000 + mono * 60_000, seen_ms);
            assert_eq!(found, *expected, "{wall} {mono}");
        }
    }

    const YEAR: i64 = YEAR_MS / 60_000;

    #[test]
    fn a_clock_that_moves_with_time_is_believed() {
        check(0, &[(0, 0, Steady), (100, 100, Steady), (1_000_000, 999_998, Steady)]);
    }

    #[test]
    fn one_that_jumps_ahead_is_not_and_is_again_when_it_is_back() {
        check(
            0,
            &[(0, 0, Steady), (YEAR, 0, Jumped), (YEAR + 1, 1, Waiting), (2, 2, Steady), (YEAR, 3, Jumped)],
        );
    }

    #[test]
    fn one_that_stays_ahead_is_believed_after_ten_minutes() {
        check(0, &[(0, 0, Steady), (60, 0, Jumped), (69, 9, Waiting), (70, 10, Steady), (90, 30, Steady)]);
        // Each further jump begins the wait anew.
        check(
            0,
            &[(0, 0, Steady), (60, 0, Jumped), (129, 9, Waiting), (130, 10, Waiting), (139, 19, Steady)],
        );
    }

    #[test]
    fn one_that_is_set_back_is_believed_and_may_not_jump_again() {
        check(0, &[(0, 0, Steady), (-60, 1, Steady), (-49, 12, Steady), (13, 13, Jumped)]);
    }

    #[test]
    fn one_that_jumped_while_no_process_ran_waits_too() {
        check(NOW_MS, &[(1, 0, Steady), (2, 1, Steady)]);
        check(NOW_MS, &[(YEAR, 0, Jumped), (YEAR + 9, 9, Waiting), (YEAR + 10, 10, Steady)]);
        check(NOW_MS, &[(-YEAR, 0, Steady), (-YEAR + 1, 1, Steady), (0, 1, Jumped)]);
    }
}
