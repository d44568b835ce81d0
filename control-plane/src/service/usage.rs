//! What a subject used, from the ledger: by hour, day, month or in all, and by labels. The ledger counts every admitted
//! request, limited or not; what is refunded stays visible as `freed`.

pub mod cloudevents;
pub mod correct;
pub mod export;
pub mod record;
pub mod retention;
pub mod sink;

use std::collections::BTreeMap;

use jiff::Timestamp;
use tollgate_policy::document::is_name;
use tollgate_policy::labels;

use super::entitled::check_known_subject;
use super::{ControlPlane, Invalid, ServiceError};
use crate::calendar::{DAY_MS, HOUR_MS, hour_of, month_of};
use crate::store::usage::{UsageSum, Wanted, sums};

pub use crate::store::usage::Period as UsagePeriod;

/// Longest range that is read at once by hour and day, days: all hours of a year and a month.
const RANGE_DAYS_MAX: i64 = 400;

/// Longest range that is read at once by month and in all, days: a century.
const RANGE_MONTHS_DAYS_MAX: i64 = 36_600;

/// Longest name of a source, and longest key, bytes.
const KEY_BYTES_MAX: usize = 256;

/// How much the clocks of those who record may be ahead, ms.
const AHEAD_MS_MAX: i64 = 60_000;

/// Which usage of a subject.
#[derive(Debug, Clone, Default)]
pub struct UsageQuery {
    /// Only this meter.
    pub meter: Option<String>,
    /// From the start of the hour of this moment. Default: this month.
    pub from: Option<Timestamp>,
    /// To the end of the hour of this moment. Default: now.
    pub to: Option<Timestamp>,
    /// By which periods.
    pub by: UsagePeriod,
    /// By which labels.
    pub group: Vec<String>,
}

/// What was used of one meter in one period.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupedSum {
    /// The labels that were asked for; those that units were counted without are missing.
    pub labels: BTreeMap<String, String>,
    /// The sum. Its own labels are empty.
    pub sum: UsageSum,
}

/// The usage of a range.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UsageView {
    /// Start of the range: that of an hour.
    pub from: Timestamp,
    /// Its end: that of an hour.
    pub to: Timestamp,
    /// By meter, period and labels; what was not used is left out.
    pub sums: Vec<GroupedSum>,
}

impl ControlPlane {
    /// The usage of a subject in the hours of a range.
    pub async fn usage(&self, subject: &str, query: &UsageQuery) -> Result<UsageView, ServiceError> {
        check_known_subject(subject)?;
        let (from, to) = self.range_of(query.from, query.to, query.by)?;
        let wanted = Wanted {
            subject,
            meter: query.meter.as_deref(),
            from_ms: from.as_millisecond(),
            to_ms: to.as_millisecond(),
            by: query.by,
        };
        let sums = grouped(sums(&self.database, &wanted).await?, &query.group);
        Ok(UsageView { from, to, sums })
    }

    /// A range in whole hours; by default this month until now.
    pub(super) fn range_of(
        &self,
        from: Option<Timestamp>,
        to: Option<Timestamp>,
        by: UsagePeriod,
    ) -> Result<(Timestamp, Timestamp), ServiceError> {
        let days_max = match by {
            UsagePeriod::Hour | UsagePeriod::Day => RANGE_DAYS_MAX,
            UsagePeriod::Month | UsagePeriod::Total => RANGE_MONTHS_DAYS_MAX,
        };
        let now_ms = self.clock.now_ms();
        let ms = |at: Option<Timestamp>| at.map(Timestamp::as_millisecond);
        let to_ms = hour_of(ms(to).unwrap_or(now_ms).saturating_add(HOUR_MS - 1));
        let from_ms = hour_of(ms(from).unwrap_or_else(|| month_of(now_ms).0.min(to_ms)));
        if from_ms > to_ms || to_ms.saturating_sub(from_ms) > days_max * DAY_MS {
            let message = format!("Give a range whose start is before its end, of at most {days_max} days.");
            return Err(ServiceError::invalid(Invalid::Range, message));
        }
        let at = |ms: i64| Timestamp::from_millisecond(ms).unwrap_or_default();
        Ok((at(from_ms), at(to_ms)))
    }
}

/// Sums by meter, period and the labels of these names.
pub fn grouped(sums: Vec<UsageSum>, group: &[String]) -> Vec<GroupedSum> {
    let mut found: BTreeMap<(String, i64, BTreeMap<String, String>), UsageSum> = BTreeMap::new();
    for sum in sums {
        let mut labels = labels::parse(&sum.labels).unwrap_or_default();
        labels.retain(|name, _| group.contains(name));
        let key = (sum.meter.clone(), sum.start_ms, labels);
        let (taken, freed) = (sum.taken, sum.freed);
        let empty = UsageSum { labels: String::new(), taken: 0, freed: 0, ..sum };
        let grouped = found.entry(key).or_insert(empty);
        grouped.taken = grouped.taken.saturating_add(taken);
        grouped.freed = grouped.freed.saturating_add(freed);
    }
    found.into_iter().map(|((_, _, labels), sum)| GroupedSum { labels, sum }).collect()
}

/// The text of labels that somebody gave.
fn labels_text(given: &BTreeMap<String, String>) -> Result<String, ServiceError> {
    labels::to_text(given).ok_or_else(|| {
        let message = format!(
            "Give labels with names of small letters, digits, `_`, `.` and `-`, that take at most {} bytes in all.",
            labels::LABELS_BYTES_MAX
        );
        ServiceError::invalid(Invalid::Usage, message)
    })
}

/// Refuses what cannot be a meter.
fn check_meter(meter: &str) -> Result<(), ServiceError> {
    match is_name(meter) {
        true => Ok(()),
        false => Err(ServiceError::invalid(Invalid::Usage, "Name the meter as the policy does.")),
    }
}

/// Refuses what cannot name anything: it would not be found in a log, or is too long for a key.
fn check_key(what: &str, key: &str) -> Result<(), ServiceError> {
    match !key.is_empty() && key.len() <= KEY_BYTES_MAX && !key.chars().any(char::is_control) {
        true => Ok(()),
        false => {
            let message = format!("Give a {what} of 1 to {KEY_BYTES_MAX} bytes, without control characters.");
            Err(ServiceError::invalid(Invalid::Usage, message))
        }
    }
}
