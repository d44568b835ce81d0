//! How near a limit is: percent, warnings, and for how many days what is left lasts. Pure: the time is an argument.

use crate::calendar::DAY_MS;
use crate::service::thresholds::{THRESHOLDS, reaches};

/// How many days of usage an estimate looks at.
pub const ESTIMATE_DAYS: i64 = 7;

/// How near a limit is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Outlook {
    /// Percent used, to one decimal, rounded down: 100 only when nothing is left.
    pub percent: f64,
    /// 80, 95 or 100, when so many percent are used.
    pub warning: Option<u8>,
}

/// How near a maximum of `units` is of which `used` are used.
pub fn outlook(used: u64, units: u64) -> Outlook {
    let permille = match units {
        // Of nothing all is used.
        0 => 1_000,
        units => u128::from(used) * 1_000 / u128::from(units),
    };
    let warning = THRESHOLDS.into_iter().rev().find(|percent| reaches(used, units, *percent));
    Outlook { percent: permille as f64 / 10.0, warning }
}

/// For how many days `left` units last, to one decimal, when they go on being used as in the last days: `used` units since
/// `first_ms`, the start of the first of these days that has any. `None`: nothing was used, so nothing is known.
pub fn days_left(left: u64, used: i64, first_ms: i64, now_ms: i64) -> Option<f64> {
    let used = u128::try_from(used).ok().filter(|used| *used > 0)?;
    // A first day that has just begun tells nothing of a whole one.
    let passed_ms = now_ms.saturating_sub(first_ms).clamp(DAY_MS, ESTIMATE_DAYS * DAY_MS);
    let passed_ms = u128::try_from(passed_ms).unwrap_or(1);
    let day_ms = u128::try_from(DAY_MS).unwrap_or(1);
    let tenths = u128::from(left) * passed_ms * 10 / (used * day_ms);
    // More than a century is as good as for ever; and exact in an f64.
    Some(tenths.min(365_000) as f64 / 10.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn warnings_come_at_80_95_and_100_percent_and_not_before() {
        for (used, units, percent, warning) in [
            (0, 5, 0.0, None),
            (799, 1_000, 79.9, None),
            (4, 5, 80.0, Some(80)),
            (949, 1_000, 94.9, Some(80)),
            (95, 100, 95.0, Some(95)),
            (9_999, 10_000, 99.9, Some(95)),
            (5, 5, 100.0, Some(100)),
            (9, 5, 180.0, Some(100)),
            (0, 0, 100.0, Some(100)),
            (u64::MAX, u64::MAX, 100.0, Some(100)),
        ] {
            assert_eq!(outlook(used, units), Outlook { percent, warning }, "{used} of {units}");
        }
    }

    #[test]
    fn what_is_left_lasts_as_long_as_it_is_used_as_before() {
        for (left, used, days_ago, expected) in [
            (70, 70, 7, Some(7.0)),
            (70, 70, 100, Some(7.0)),
            (10, 4, 2, Some(5.0)),
            // A day that has just begun counts as a whole one.
            (10, 20, 0, Some(0.5)),
            (0, 20, 3, Some(0.0)),
            (10, 0, 3, None),
            (10, -5, 3, None),
            (u64::MAX, 1, 7, Some(36_500.0)),
        ] {
            let now_ms = 1_000 * DAY_MS;
            let found = days_left(left, used, now_ms - days_ago * DAY_MS, now_ms);
            assert_eq!(found, expected, "{left} left, {used} used in {days_ago} days");
        }
    }

    #[test]
    fn a_clock_that_jumps_back_divides_by_nothing() {
        assert_eq!(days_left(10, 10, 5 * DAY_MS, 0), Some(1.0));
    }
}
