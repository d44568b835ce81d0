//! What an operator wants to know of all subjects: refusals, who uses most, what subscriptions became, what they bring in.
//!
//! Every answer is read from rows that are summed when they are written, or in the background ([`background`]): no page
//! waits for the ledger.

pub mod background;
mod recurring;
pub mod subscriptions;

use jiff::Timestamp;

use super::{ControlPlane, Invalid, ServiceError};
use crate::calendar::{DAY_MS, day_of, month_of};
use crate::store::analytics::{AmountSum, LimitHits, Made, RecurringRow, TopRow};
use crate::store::denials::{DenialGroup, DenialSum};
use crate::store::history::Moves;
use crate::store::{analytics, denials, history};
use subscriptions::Census;

/// Longest range of days.
const RANGE_DAYS_MAX: i64 = 1_100;

/// Days of a range that is not named.
const RANGE_DAYS_DEFAULT: i64 = 30;

/// A range of whole days of UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Days {
    /// Start of the first day, Unix ms.
    pub from_ms: i64,
    /// End of the last day, Unix ms.
    pub to_ms: i64,
}

impl Days {
    /// The days that two moments are in; by default the last ones, up to and with today.
    pub fn of(from: Option<Timestamp>, to: Option<Timestamp>, now_ms: i64) -> Result<Self, ServiceError> {
        let to_ms = match to {
            // The very start of a day ends the one before.
            Some(to) => day_of(to.as_millisecond().saturating_add(DAY_MS - 1)),
            None => day_of(now_ms) + DAY_MS,
        };
        let default_ms = to_ms - RANGE_DAYS_DEFAULT * DAY_MS;
        let from_ms = from.map_or(default_ms, |from| day_of(from.as_millisecond()));
        match (1..=RANGE_DAYS_MAX * DAY_MS).contains(&(to_ms - from_ms)) {
            true => Ok(Self { from_ms, to_ms }),
            false => {
                let message =
                    format!("Give a range whose start is before its end, of at most {RANGE_DAYS_MAX} days.");
                Err(ServiceError::invalid(Invalid::Range, message))
            }
        }
    }
}

/// Subscriptions of a range.
#[derive(Debug, Clone, PartialEq)]
pub struct SubscriptionMoves {
    /// How many there were at the start of it.
    pub before: Census,
    /// What became of them, by day.
    pub moves: Vec<Moves>,
}

/// What came in.
#[derive(Debug, Clone, PartialEq)]
pub struct Revenue {
    /// What subscriptions brought in for a month, as of each day.
    pub recurring: Vec<RecurringRow>,
    /// Invoices that were closed.
    pub invoiced: Vec<AmountSum>,
    /// Single payments.
    pub paid: Vec<AmountSum>,
}

/// A period of which tops are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TopPeriod {
    /// A day of UTC.
    Day,
    /// A month of UTC.
    Month,
}

impl TopPeriod {
    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Day => "day",
            Self::Month => "month",
        }
    }

    /// The period that holds a moment: its start and end, Unix ms.
    pub fn at(self, at_ms: i64) -> (i64, i64) {
        match self {
            Self::Day => (day_of(at_ms), day_of(at_ms) + DAY_MS),
            Self::Month => month_of(at_ms),
        }
    }
}

/// Who used most of a meter.
#[derive(Debug, Clone, PartialEq)]
pub struct Tops {
    /// Start of the period, Unix ms.
    pub start_ms: i64,
    /// Its end.
    pub end_ms: i64,
    /// When it was worked out; nothing: it was not yet.
    pub made: Option<Made>,
    /// Who, the most first, of each meter that was asked for.
    pub rows: Vec<TopRow>,
}

/// How often limits refuse.
#[derive(Debug, Clone, PartialEq)]
pub struct Hits {
    /// By limit, the most refusals first.
    pub limits: Vec<LimitHits>,
    /// Subjects with usage, where the range is one day or month that was worked out.
    pub active_subjects: Option<i64>,
}

impl ControlPlane {
    /// What became of subscriptions.
    pub async fn subscription_moves(&self, days: Days) -> Result<SubscriptionMoves, ServiceError> {
        let mut before = Census::new();
        subscriptions::count(&mut before, &history::moves_before(&self.database, days.from_ms).await?);
        let moves = history::moves_by_day(&self.database, days.from_ms, days.to_ms).await?;
        Ok(SubscriptionMoves { before, moves })
    }

    /// What came in.
    pub async fn revenue(&self, days: Days) -> Result<Revenue, ServiceError> {
        let Days { from_ms, to_ms } = days;
        Ok(Revenue {
            recurring: analytics::recurring(&self.database, from_ms, to_ms).await?,
            invoiced: analytics::invoiced(&self.database, from_ms, to_ms).await?,
            paid: analytics::ordered(&self.database, from_ms, to_ms).await?,
        })
    }

    /// What edges refused: the `limit` largest sums.
    pub async fn denials(
        &self,
        days: Days,
        subject: Option<&str>,
        group: DenialGroup,
        limit: i64,
    ) -> Result<Vec<DenialSum>, ServiceError> {
        Ok(denials::sums(&self.database, days.from_ms, days.to_ms, subject, group, limit).await?)
    }

    /// Who used most in a period, of one meter or of each.
    pub async fn tops(
        &self,
        period: TopPeriod,
        at_ms: i64,
        meter: Option<&str>,
        limit: i64,
    ) -> Result<Tops, ServiceError> {
        let (start_ms, end_ms) = period.at(at_ms);
        let (database, name) = (&self.database, period.name());
        let rows = analytics::tops(database, name, start_ms, meter, limit).await?;
        let made = analytics::made(database, name, start_ms).await?;
        Ok(Tops { start_ms, end_ms, made, rows })
    }

    /// How often limits refuse: the `limit` that do most.
    pub async fn limit_hits(&self, days: Days, limit: i64) -> Result<Hits, ServiceError> {
        let Days { from_ms, to_ms } = days;
        let limits = analytics::limit_hits(&self.database, from_ms, to_ms, limit).await?;
        let periods = [TopPeriod::Day, TopPeriod::Month];
        let period = periods.into_iter().find(|period| period.at(from_ms) == (from_ms, to_ms));
        let made = match period {
            Some(period) => analytics::made(&self.database, period.name(), from_ms).await?,
            None => None,
        };
        Ok(Hits { limits, active_subjects: made.map(|made| made.subjects) })
    }
}
