//! Windows: the periods that quotas count in, from the calendar of a time zone or from a subscription's start.
//!
//! The windows of a period divide time: no two overlap and nothing lies between them, whatever a zone's clocks do.
//! Knows no clock: the moment is an argument. A caller keeps a window until its end and only then asks again.

use jiff::civil::{Date, DateTime, Time};
use jiff::tz::{AmbiguousOffset, Offset, TimeZone, TimeZoneDatabase};
use jiff::{Timestamp, ToSpan};

/// 0001-01-01T00:00:00Z in Unix ms. One window holds all that is before.
pub const CALENDAR_START_MS: i64 = -62_135_596_800_000;

/// 9999-01-01T00:00:00Z in Unix ms. One window holds all that is from here on.
pub const CALENDAR_END_MS: i64 = 253_370_764_800_000;

/// The one window of [`Period::Lifetime`]. It ends a millisecond before the last, which elsewhere means that there is no end.
pub const LIFETIME: Window = Window { start_ms: 0, end_ms: i64::MAX - 1 };

const HOUR_MS: i64 = 3_600_000;

/// A half-open span of time: `start_ms <= now_ms < end_ms`, in Unix ms.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    /// The first moment, Unix ms.
    pub start_ms: i64,
    /// The first moment after it, Unix ms.
    pub end_ms: i64,
}

/// How a quota divides time into windows.
#[derive(Debug, Clone, PartialEq)]
pub enum Period {
    /// Hours of a zone's clock. Where the clock is set, by an hour or by less, a new hour starts; so no window is longer
    /// than 60 minutes, and none counts two hours that the clock shows alike.
    Hour(TimeZone),
    /// Days of a zone's calendar, of 23 to 25 hours where clocks are set.
    Day(TimeZone),
    /// Weeks of a zone's calendar, from Monday (ISO 8601).
    Week(TimeZone),
    /// Months of a zone's calendar.
    Month(TimeZone),
    /// Years of a zone's calendar.
    Year(TimeZone),
    /// Months from the subscription's anchor, in UTC. An anchor on the 31st means the last day of a shorter month.
    BillingMonth,
    /// All time.
    Lifetime,
}

/// Why there is no such [`Period`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PeriodError {
    /// No period has this name.
    Name,
    /// The bundled database has no such zone.
    ZoneUnknown,
    /// A billing month and a lifetime have no zone.
    ZoneNotAllowed,
}

impl Period {
    /// The period of a name and a zone, as a document gives them. No zone means UTC.
    pub(crate) fn new(name: &str, zone: Option<&str>) -> Result<Self, PeriodError> {
        let calendar = match name {
            "hour" => Self::Hour,
            "day" => Self::Day,
            "week" => Self::Week,
            "month" => Self::Month,
            "year" => Self::Year,
            "billing_month" | "lifetime" if zone.is_some() => return Err(PeriodError::ZoneNotAllowed),
            "billing_month" => return Ok(Self::BillingMonth),
            "lifetime" => return Ok(Self::Lifetime),
            _ => return Err(PeriodError::Name),
        };
        let zone = match zone {
            None => TimeZone::UTC,
            // The bundled database and not the system's, so that an edge and the control plane agree.
            Some(name) => TimeZoneDatabase::bundled().get(name).map_err(|_| PeriodError::ZoneUnknown)?,
        };
        if zone.is_unknown() { Err(PeriodError::ZoneUnknown) } else { Ok(calendar(zone)) }
    }

    /// `hour`, `day`, `week`, `month`, `year`, `billing_month` or `lifetime`.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Hour(_) => "hour",
            Self::Day(_) => "day",
            Self::Week(_) => "week",
            Self::Month(_) => "month",
            Self::Year(_) => "year",
            Self::BillingMonth => "billing_month",
            Self::Lifetime => "lifetime",
        }
    }

    /// The window that contains `now_ms`. `anchor_ms` matters to billing months alone. Both are Unix ms; any value is
    /// answered, an anchor outside the calendar being moved to its border.
    pub fn window_at(&self, now_ms: i64, anchor_ms: i64) -> Window {
        if matches!(self, Self::Lifetime) {
            return LIFETIME;
        }
        if now_ms < CALENDAR_START_MS {
            return Window { start_ms: i64::MIN, end_ms: CALENDAR_START_MS };
        }
        if now_ms >= CALENDAR_END_MS {
            return Window { start_ms: CALENDAR_END_MS, end_ms: i64::MAX };
        }
        let window = match self {
            Self::Hour(zone) => hour_at(zone, now_ms),
            Self::Day(zone) => {
                let wall = zone.to_datetime(timestamp(now_ms)).date();
                let day = |index: i64| wall.checked_add(index.days()).unwrap_or(wall);
                window_between(now_ms, 0, |index| first_moment_ms(zone, midnight(day(index))))
            }
            Self::Week(zone) => {
                let wall = zone.to_datetime(timestamp(now_ms)).date();
                let into = i64::from(wall.weekday().to_monday_zero_offset());
                let monday = |index: i64| wall.checked_add((7 * index - into).days()).unwrap_or(wall);
                window_between(now_ms, 0, |index| first_moment_ms(zone, midnight(monday(index))))
            }
            Self::Month(zone) => {
                let wall = zone.to_datetime(timestamp(now_ms)).date();
                window_between(now_ms, month_index(wall), |index| {
                    first_moment_ms(zone, midnight(date_in_month(index, 1)))
                })
            }
            Self::Year(zone) => {
                let wall = zone.to_datetime(timestamp(now_ms)).date();
                // East of Greenwich the calendar's last year begins before the calendar ends; there is no year after it.
                window_between(now_ms, i64::from(wall.year()), |index| match index {
                    10_000.. => CALENDAR_END_MS,
                    _ => first_moment_ms(zone, midnight(date_in_month(12 * index, 1))),
                })
            }
            // Answered above.
            Self::Lifetime => LIFETIME,
            Self::BillingMonth => {
                let anchor = utc(anchor_ms.clamp(CALENDAR_START_MS, CALENDAR_END_MS));
                // By month count from the anchor, never from the last window: the 31st must not drift to the 28th.
                window_between(now_ms, month_index(utc(now_ms).date()), |index| {
                    utc_ms(date_in_month(index, anchor.day()).to_datetime(anchor.time()))
                })
            }
        };
        Window {
            start_ms: window.start_ms.max(CALENDAR_START_MS),
            end_ms: window.end_ms.min(CALENDAR_END_MS),
        }
    }
}

/// The window around `now_ms` of those that start at `start(index)`, a function that never falls. `shown` is the index of
/// the date that the calendar shows at `now_ms`.
fn window_between(now_ms: i64, shown: i64, start: impl Fn(i64) -> i64) -> Window {
    // Clocks that are set back over midnight show the day before again, when the next one has begun already.
    let mut index = shown + 1;
    while start(index) > now_ms {
        index -= 1;
    }
    Window { start_ms: start(index), end_ms: start(index + 1) }
}

/// The hour of the zone's clock, cut where the zone's offset changes.
fn hour_at(zone: &TimeZone, now_ms: i64) -> Window {
    let offset = offset_at(zone, now_ms);
    let offset_ms = offset_ms(offset);
    let start_ms = (now_ms + offset_ms).div_euclid(HOUR_MS) * HOUR_MS - offset_ms;
    let end_ms = start_ms + HOUR_MS;
    Window {
        start_ms: first_ms(start_ms, now_ms, |moment_ms| offset_at(zone, moment_ms) == offset),
        end_ms: first_ms(now_ms, end_ms, |moment_ms| offset_at(zone, moment_ms) != offset),
    }
}

/// The first moment at which the zone's clock shows `wall` or more: where clocks are set back, the first of the two; where
/// they are set forward over `wall`, the moment that they are.
fn first_moment_ms(zone: &TimeZone, wall: DateTime) -> i64 {
    let wall_ms = utc_ms(wall);
    match zone.to_ambiguous_timestamp(wall).offset() {
        AmbiguousOffset::Unambiguous { offset } => wall_ms - offset_ms(offset),
        AmbiguousOffset::Fold { before, .. } => wall_ms - offset_ms(before),
        AmbiguousOffset::Gap { before, after } => {
            first_ms(wall_ms - offset_ms(after), wall_ms - offset_ms(before), |moment_ms| {
                moment_ms + offset_ms(offset_at(zone, moment_ms)) >= wall_ms
            })
        }
    }
}

/// The first moment in `from_ms..to_ms` at which `holds`, which then holds up to the end; `to_ms` if there is none.
fn first_ms(from_ms: i64, to_ms: i64, holds: impl Fn(i64) -> bool) -> i64 {
    if holds(from_ms) {
        return from_ms;
    }
    // Offsets change a few times a year at most, so the last moment nearly always answers for all.
    if from_ms < to_ms && !holds(to_ms - 1) {
        return to_ms;
    }
    let (mut without_ms, mut with_ms) = (from_ms, to_ms);
    while with_ms - without_ms > 1 {
        let middle_ms = without_ms + (with_ms - without_ms) / 2;
        if holds(middle_ms) {
            with_ms = middle_ms;
        } else {
            without_ms = middle_ms;
        }
    }
    with_ms
}

/// Months since year 0.
fn month_index(date: Date) -> i64 {
    i64::from(date.year()) * 12 + i64::from(date.month()) - 1
}

/// The day of a month, or the month's last where it has no such day.
fn date_in_month(month_index: i64, day: i8) -> Date {
    let year = i16::try_from(month_index.div_euclid(12)).unwrap_or(0);
    let month = i8::try_from(month_index.rem_euclid(12) + 1).unwrap_or(1);
    let first = Date::new(year, month, 1).unwrap_or(Date::ZERO);
    Date::new(year, month, day.min(first.days_in_month())).unwrap_or(first)
}

fn midnight(date: Date) -> DateTime {
    date.to_datetime(Time::midnight())
}

fn offset_at(zone: &TimeZone, moment_ms: i64) -> Offset {
    zone.to_offset(timestamp(moment_ms))
}

fn offset_ms(offset: Offset) -> i64 {
    i64::from(offset.seconds()) * 1_000
}

fn utc(moment_ms: i64) -> DateTime {
    Offset::UTC.to_datetime(timestamp(moment_ms))
}

// The callers keep to the calendar's years, which jiff represents with years to spare: neither fallback is reached.
fn utc_ms(wall: DateTime) -> i64 {
    Offset::UTC.to_timestamp(wall).map_or(CALENDAR_END_MS, Timestamp::as_millisecond)
}

fn timestamp(moment_ms: i64) -> Timestamp {
    Timestamp::from_millisecond(moment_ms).unwrap_or(Timestamp::UNIX_EPOCH)
}

#[cfg(test)]
mod tests;
