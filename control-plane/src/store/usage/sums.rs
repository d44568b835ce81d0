//! What a subject used: sums of a range by period, meter and labels, whether the ledger has hours, days or months of it.
//!
//! Each entry counts in the range that holds its start. Of a day that a border of the range cuts the hours are known, so
//! ranges are exact to the hour. Months are cut by no range: one counts where it starts.

use std::collections::BTreeMap;

use super::Units;
use super::days::Hours;
use crate::calendar::{DAY_MS, HOUR_MS, day_of, month_of};
use crate::store::statement::Statement;
use crate::store::value::{Row, values};
use crate::store::{Database, StoreError};

/// By which periods usage is summed. Days and months are those of UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Period {
    /// By hour; by day or month where the ledger has no hours any more.
    Hour,
    /// By day; by month where it has no days any more.
    #[default]
    Day,
    /// By month.
    Month,
    /// In all.
    Total,
}

/// Which usage.
#[derive(Debug, Clone, Copy)]
pub struct Wanted<'a> {
    /// The subject.
    pub subject: &'a str,
    /// Only this meter.
    pub meter: Option<&'a str>,
    /// Entries that start at this moment or later, Unix ms.
    pub from_ms: i64,
    /// And before this one.
    pub to_ms: i64,
    /// By which periods.
    pub by: Period,
}

/// What was used of one meter with the same labels in one period.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UsageSum {
    /// The meter.
    pub meter: String,
    /// What its units are told apart by: the text of `policy::labels`.
    pub labels: String,
    /// Start of the period, Unix ms. It may lie before the range.
    pub start_ms: i64,
    /// Its end. It may lie after the range.
    pub end_ms: i64,
    /// Units charged.
    pub taken: i64,
    /// Units of them that were refunded, or corrected away.
    pub freed: i64,
}

impl UsageSum {
    /// What remains of the charged units. Less than nothing where more was refunded than charged.
    pub fn used(&self) -> i64 {
        self.taken.saturating_sub(self.freed)
    }
}

// One statement, and so one state of the ledger: an hour that is being folded is seen once. $5 is the length of the
// periods that hours are summed by; $6 and $7 are the days that the borders cut.
static SUMS: Statement = Statement::new(
    "SELECT 'hours', meter, labels, hour_ms - hour_ms % CAST($5 AS BIGINT), CAST(SUM(taken) AS BIGINT),
            CAST(SUM(freed) AS BIGINT), CAST(NULL AS TEXT)
     FROM usage_hours
     WHERE subject = $1 AND hour_ms >= $3 AND hour_ms < $4 AND (CAST($2 AS TEXT) IS NULL OR meter = $2)
     GROUP BY 1, 2, 3, 4
     UNION ALL
     SELECT 'days', meter, labels, day_ms, CAST(SUM(taken) AS BIGINT), CAST(SUM(freed) AS BIGINT), CAST(NULL AS TEXT)
     FROM usage_days
     WHERE subject = $1 AND day_ms >= $3 AND day_ms <= $4 - 86400000 AND (CAST($2 AS TEXT) IS NULL OR meter = $2)
     GROUP BY 1, 2, 3, 4
     UNION ALL
     SELECT 'cut', meter, labels, day_ms, taken, freed, hours
     FROM usage_days
     WHERE subject = $1 AND day_ms IN ($6, $7) AND (CAST($2 AS TEXT) IS NULL OR meter = $2)
     UNION ALL
     SELECT 'months', meter, labels, month_ms, taken, freed, CAST(NULL AS TEXT)
     FROM usage_months
     WHERE subject = $1 AND month_ms >= $3 AND month_ms < $4 AND (CAST($2 AS TEXT) IS NULL OR meter = $2)",
);

/// The sums of a range, by meter, labels and period. Periods without usage are left out.
pub async fn sums(database: &Database, wanted: &Wanted<'_>) -> Result<Vec<UsageSum>, StoreError> {
    let &Wanted { subject, meter, from_ms, to_ms, by } = wanted;
    let (from_ms, to_ms) = (from_ms.max(0), to_ms.max(0));
    if from_ms >= to_ms {
        return Ok(Vec::new());
    }
    let step_ms = if by == Period::Hour { HOUR_MS } else { DAY_MS };
    let (first_ms, last_ms) = cut_days(from_ms, to_ms);
    let values = values![subject, meter, from_ms, to_ms, step_ms, first_ms, last_ms];
    let mut sums = Sums { from_ms, to_ms, by, found: BTreeMap::new() };
    for row in database.fetch_all(&SUMS, values).await? {
        sums.add(&row)?;
    }
    Ok(sums.finish())
}

/// The days that the borders of a range cut. No day starts at -1.
fn cut_days(from_ms: i64, to_ms: i64) -> (i64, i64) {
    let cut = |at_ms: i64| if day_of(at_ms) == at_ms { -1 } else { day_of(at_ms) };
    (cut(from_ms), cut(to_ms))
}

struct Sums {
    from_ms: i64,
    to_ms: i64,
    by: Period,
    found: BTreeMap<(String, String, i64), (i64, Units)>,
}

impl Sums {
    fn add(&mut self, row: &Row) -> Result<(), StoreError> {
        let (kind, start_ms) = (row.text(0)?, row.int(3)?);
        let units = Units { taken: row.int(4)?, freed: row.int(5)? };
        let (meter, labels) = (row.text(1)?, row.text(2)?);
        match kind.as_str() {
            "hours" if self.by == Period::Hour => {
                self.count(meter, labels, (start_ms, start_ms + HOUR_MS), units);
            }
            "hours" | "days" => self.count(meter, labels, (start_ms, start_ms + DAY_MS), units),
            "cut" => {
                let hours = Hours::read(start_ms, &row.text(6)?)?;
                let units =
                    hours.between(self.from_ms, self.to_ms).map(|(_, units)| units).reduce(Units::plus);
                if let Some(units) = units {
                    self.count(meter, labels, (start_ms, start_ms + DAY_MS), units);
                }
            }
            _ => self.count(meter, labels, month_of(start_ms), units),
        }
        Ok(())
    }

    fn count(&mut self, meter: String, labels: String, entry: (i64, i64), units: Units) {
        let (start_ms, end_ms) = match self.by {
            Period::Hour | Period::Day => entry,
            Period::Month => month_of(entry.0),
            Period::Total => (self.from_ms, self.to_ms),
        };
        let (_, sum) = self.found.entry((meter, labels, start_ms)).or_insert((end_ms, Units::default()));
        *sum = sum.plus(units);
    }

    fn finish(self) -> Vec<UsageSum> {
        let sum = |((meter, labels, start_ms), (end_ms, units)): ((String, String, i64), (i64, Units))| {
            let Units { taken, freed } = units;
            UsageSum { meter, labels, start_ms, end_ms, taken, freed }
        };
        self.found.into_iter().map(sum).collect()
    }
}
