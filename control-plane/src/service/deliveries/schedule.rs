//! When a delivery is attempted again, and when it is given up.

use crate::calendar::DAY_MS;

/// Waits before the second attempt and those after it, s: the schedule that Standard Webhooks recommends, and two days more.
const WAITS_S: [i64; 11] = [5, 300, 1_800, 7_200, 18_000, 36_000, 50_400, 72_000, 86_400, 86_400, 86_400];

/// Longest wait that a receiver may ask for, s.
const RETRY_AFTER_MAX_S: i64 = 86_400;

/// For how long everything may fail at an endpoint before it is disabled, ms. All attempts of one delivery take longer.
pub const FAILING_MS_MAX: i64 = 5 * DAY_MS;

/// How long after the attempt that was the `tries`th (from 1) the next is due, ms, or nothing when there is none: up to a
/// fifth longer than the table says, as `random` falls, so that what failed together does not come again together.
/// `retry_after_s` is what the receiver asked for.
pub fn wait_ms(tries: i64, random: u32, retry_after_s: Option<i64>) -> Option<i64> {
    let wait_s = usize::try_from(tries).ok()?.checked_sub(1).and_then(|at| WAITS_S.get(at))?;
    let asked_s = retry_after_s.unwrap_or(0).clamp(0, RETRY_AFTER_MAX_S);
    let wait_ms = (*wait_s).max(asked_s) * 1_000;
    Some(wait_ms + wait_ms / 5 * i64::from(random >> 16) / i64::from(u16::MAX))
}

#[cfg(test)]
mod tests {
    use super::{FAILING_MS_MAX, wait_ms};

    #[test]
    fn waits_grow_from_seconds_to_a_day_and_end() {
        let waits: Vec<i64> = (1..).map_while(|tries| wait_ms(tries, 0, None)).collect();
        assert_eq!((waits.first(), waits.last(), waits.len()), (Some(&5_000), Some(&86_400_000), 11));
        assert!(waits.is_sorted());
        assert!(waits.iter().sum::<i64>() > FAILING_MS_MAX, "one delivery shows that an endpoint is dead");
        assert_eq!(wait_ms(0, 0, None), None);
    }

    #[test]
    fn waits_are_spread_by_a_fifth() {
        assert_eq!(wait_ms(1, u32::MAX, None), Some(6_000));
        let middle = wait_ms(1, u32::MAX / 2, None).unwrap();
        assert!((5_400..5_600).contains(&middle), "{middle}");
    }

    #[test]
    fn a_receiver_may_ask_for_a_longer_wait_within_a_day() {
        assert_eq!(wait_ms(1, 0, Some(60)), Some(60_000));
        assert_eq!(wait_ms(2, 0, Some(60)), Some(300_000));
        assert_eq!(wait_ms(1, 0, Some(i64::MAX)), Some(86_400_000));
        assert_eq!(wait_ms(1, 0, Some(-5)), Some(5_000));
    }
}
