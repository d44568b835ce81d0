//! What a subject used, from the ledger: by hour, day, month or in all. The ledger counts every admitted request,
//! limited or not; what is refunded stays visible as `freed`.

use std::collections::BTreeMap;

use jiff::{Timestamp, ToSpan, tz::TimeZone};

use super::entitled::check_known_subject;
use super::{ControlPlane, Invalid, ServiceError};
use crate::store::usage;

/// Longest range of hours that is read at once, days: all hours of a year and a month.
const RANGE_DAYS_MAX: i64 = 400;

const HOUR_MS: i64 = 3_600_000;

/// By which periods usage is summed. Days and months are those of UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum UsagePeriod {
    /// By hour.
    Hour,
    /// By day.
    #[default]
    Day,
    /// By month.
    Month,
    /// In all.
    Total,
}

/// What was used of one meter in one period.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UsageSum {
    /// The meter.
    pub meter: String,
    /// Start of the period.
    pub start: Timestamp,
    /// Its end.
    pub end: Timestamp,
    /// Units charged.
    pub taken: i64,
    /// Units of them that were refunded.
    pub freed: i64,
}

/// The usage of a range.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UsageView {
    /// Start of the range: that of an hour.
    pub from: Timestamp,
    /// Its end: that of an hour.
    pub to: Timestamp,
    /// By meter and period; periods without usage are left out.
    pub sums: Vec<UsageSum>,
}

impl ControlPlane {
    /// The usage of a subject in the hours of `from..to`; by default this month's, until now.
    pub async fn usage(
        &self,
        subject: &str,
        meter: Option<&str>,
        from: Option<Timestamp>,
        to: Option<Timestamp>,
        by: UsagePeriod,
    ) -> Result<UsageView, ServiceError> {
        check_known_subject(subject)?;
        let now = Timestamp::from_millisecond(self.clock.now_ms()).unwrap_or_default();
        let to = hour_at(to.unwrap_or(now).as_millisecond().saturating_add(HOUR_MS - 1));
        let month = period_of(UsagePeriod::Month, now, (now, now)).0;
        let from = hour_at(from.unwrap_or_else(|| month.min(to)).as_millisecond());
        if from > to || to.as_millisecond() - from.as_millisecond() > RANGE_DAYS_MAX * 24 * HOUR_MS {
            let message =
                format!("Give a range whose start is before its end, of at most {RANGE_DAYS_MAX} days.");
            return Err(ServiceError::invalid(Invalid::Range, message));
        }
        let hours =
            usage::hours(&self.database, subject, meter, from.as_millisecond(), to.as_millisecond()).await?;
        let mut sums: BTreeMap<(String, Timestamp), UsageSum> = BTreeMap::new();
        for hour in hours {
            let at = Timestamp::from_millisecond(hour.hour_ms).unwrap_or_default();
            let (start, end) = period_of(by, at, (from, to));
            let sum = sums.entry((hour.meter.clone(), start)).or_insert_with(|| UsageSum {
                meter: hour.meter,
                start,
                end,
                taken: 0,
                freed: 0,
            });
            sum.taken = sum.taken.saturating_add(hour.taken);
            sum.freed = sum.freed.saturating_add(hour.freed);
        }
        Ok(UsageView { from, to, sums: sums.into_values().collect() })
    }
}

/// The start of the hour of `ms`; the calendar's end for what lies beyond it.
fn hour_at(ms: i64) -> Timestamp {
    Timestamp::from_millisecond(ms.div_euclid(HOUR_MS).saturating_mul(HOUR_MS)).unwrap_or_default()
}

fn period_of(by: UsagePeriod, at: Timestamp, range: (Timestamp, Timestamp)) -> (Timestamp, Timestamp) {
    let date = at.to_zoned(TimeZone::UTC).date();
    let days = |start: jiff::civil::Date, end: Result<jiff::civil::Date, jiff::Error>| {
        let moment = |date: jiff::civil::Date| date.to_zoned(TimeZone::UTC).map(|zoned| zoned.timestamp());
        Some((moment(start).ok()?, moment(end.ok()?).ok()?))
    };
    let period = match by {
        UsagePeriod::Hour => at.checked_add(1.hour()).ok().map(|end| (at, end)),
        UsagePeriod::Day => days(date, date.tomorrow()),
        UsagePeriod::Month => days(date.first_of_month(), date.first_of_month().checked_add(1.month())),
        UsagePeriod::Total => Some(range),
    };
    // Only the calendar's very last hour has no end.
    period.unwrap_or(range)
}
