//! Hours, days and months of UTC: the periods of the ledger. A moment before 1970 belongs to the first of them.

use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan as _};
use tollgate_policy::window::CALENDAR_END_MS;

/// Length of an hour, ms.
pub const HOUR_MS: i64 = 3_600_000;

/// Length of a day of UTC, ms.
pub const DAY_MS: i64 = 24 * HOUR_MS;

/// Start of the hour that holds a moment.
pub fn hour_of(at_ms: i64) -> i64 {
    at_ms - at_ms.rem_euclid(HOUR_MS)
}

/// Start of the day that holds a moment.
pub fn day_of(at_ms: i64) -> i64 {
    at_ms - at_ms.rem_euclid(DAY_MS)
}

/// Start of the month that holds a moment, and that of the next.
pub fn month_of(at_ms: i64) -> (i64, i64) {
    let at_ms = at_ms.clamp(0, CALENDAR_END_MS - 1);
    let at = Timestamp::from_millisecond(at_ms).unwrap_or_default();
    let first = at.to_zoned(TimeZone::UTC).date().first_of_month();
    let moment = |date: jiff::civil::Date| date.to_zoned(TimeZone::UTC).map(|zoned| zoned.timestamp());
    let next = first.checked_add(1.month()).and_then(moment);
    // The clamped calendar ends before either can fail.
    let ms = |at: Result<Timestamp, jiff::Error>| at.map_or(CALENDAR_END_MS, Timestamp::as_millisecond);
    (ms(moment(first)), ms(next))
}

/// Unix time in ms as RFC 3339.
pub fn rfc3339(ms: i64) -> String {
    Timestamp::from_millisecond(ms).unwrap_or_default().to_string()
}

#[cfg(test)]
mod tests {
    use super::{DAY_MS, day_of, hour_of, month_of};

    #[test]
    fn periods_hold_their_moments() {
        // 2028-02-29T23:59:59.999Z
        let leap_ms = 1_835_481_599_999;
        assert_eq!(hour_of(leap_ms), 1_835_478_000_000);
        assert_eq!(day_of(leap_ms), 1_835_395_200_000);
        assert_eq!(month_of(leap_ms), (1_832_976_000_000, 1_835_481_600_000), "29 days");
        assert_eq!(month_of(leap_ms + 1).1, 1_835_481_600_000 + 31 * DAY_MS);
        assert_eq!(month_of(-5).0, 0);
        assert_eq!(month_of(i64::MAX).1, 253_370_764_800_000);
    }
}
