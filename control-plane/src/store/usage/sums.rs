//! What a subject used: sums of a range by period, meter and labels, whether the ledger has hours, days or months of it.
//!
//! Each entry counts in the range that holds its start. Of a day that a border of the range cuts the hours are known, so
//! ranges are exact to the hour. Months are cut by no range: one counts where it starts.

use std::collections::BTreeMap;

use super::Units;
use super::days::Hours;
use crate::calendar::{DAY_MS, HOUR_MS, day_of, month_of};
use crate::store::statement::Statement;
use crate::store::value::{Row, Value, values};
use crate::store::{Database, StoreError};

/// By which periods usage is summed. Days and months are those of UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Period {
    /// By hour; by day or month where the ledger has no hours any more. Of days that a border of the range cuts it has.
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
    "SELECT subject, 'hours', meter, labels, hour_ms - hour_ms % CAST($5 AS BIGINT), CAST(SUM(taken) AS BIGINT),
            CAST(SUM(freed) AS BIGINT), CAST(NULL AS TEXT)
     FROM usage_hours
     WHERE subject = $1 AND hour_ms >= $3 AND hour_ms < $4 AND (CAST($2 AS TEXT) IS NULL OR meter = $2)
     GROUP BY 1, 2, 3, 4, 5
     UNION ALL
     SELECT subject, 'days', meter, labels, day_ms, CAST(SUM(taken) AS BIGINT), CAST(SUM(freed) AS BIGINT),
            CAST(NULL AS TEXT)
     FROM usage_days
     WHERE subject = $1 AND day_ms >= $3 AND day_ms <= $4 - 86400000 AND (CAST($2 AS TEXT) IS NULL OR meter = $2)
     GROUP BY 1, 2, 3, 4, 5
     UNION ALL
     SELECT subject, 'cut', meter, labels, day_ms, taken, freed, hours
     FROM usage_days
     WHERE subject = $1 AND day_ms IN ($6, $7) AND (CAST($2 AS TEXT) IS NULL OR meter = $2)
     UNION ALL
     SELECT subject, 'months', meter, labels, month_ms, taken, freed, CAST(NULL AS TEXT)
     FROM usage_months
     WHERE subject = $1 AND month_ms >= $3 AND month_ms < $4 AND (CAST($2 AS TEXT) IS NULL OR meter = $2)",
);
// As above, of the subjects after $1 up to $8. The `+` keeps the planner from going through the days of all subjects.
static SUMS_OF_MANY: Statement = Statement::new(
    "SELECT subject, 'hours', meter, labels, hour_ms - hour_ms % CAST($5 AS BIGINT), CAST(SUM(taken) AS BIGINT),
            CAST(SUM(freed) AS BIGINT), CAST(NULL AS TEXT)
     FROM usage_hours
     WHERE subject > $1 AND subject <= $8 AND +hour_ms >= $3 AND +hour_ms < $4
       AND (CAST($2 AS TEXT) IS NULL OR meter = $2)
     GROUP BY 1, 2, 3, 4, 5
     UNION ALL
     SELECT subject, 'days', meter, labels, day_ms, CAST(SUM(taken) AS BIGINT), CAST(SUM(freed) AS BIGINT),
            CAST(NULL AS TEXT)
     FROM usage_days
     WHERE subject > $1 AND subject <= $8 AND +day_ms >= $3 AND +day_ms <= $4 - 86400000
       AND (CAST($2 AS TEXT) IS NULL OR meter = $2)
     GROUP BY 1, 2, 3, 4, 5
     UNION ALL
     SELECT subject, 'cut', meter, labels, day_ms, taken, freed, hours
     FROM usage_days
     WHERE subject > $1 AND subject <= $8 AND day_ms IN ($6, $7) AND (CAST($2 AS TEXT) IS NULL OR meter = $2)
     UNION ALL
     SELECT subject, 'months', meter, labels, month_ms, taken, freed, CAST(NULL AS TEXT)
     FROM usage_months
     WHERE subject > $1 AND subject <= $8 AND +month_ms >= $3 AND +month_ms < $4
       AND (CAST($2 AS TEXT) IS NULL OR meter = $2)",
);
// Up to which subject there are about so many rows after $1. The database compares, since its order is not Rust's.
static SUBJECTS_THROUGH: Statement = Statement::new(
    "WITH ends (last_one, length) AS (
         SELECT MAX(subject), COUNT(*) FROM
             (SELECT subject FROM usage_hours WHERE subject > $1 ORDER BY subject LIMIT $2) AS hours
         UNION ALL
         SELECT MAX(subject), COUNT(*) FROM
             (SELECT subject FROM usage_days WHERE subject > $1 ORDER BY subject LIMIT $2) AS days
         UNION ALL
         SELECT MAX(subject), COUNT(*) FROM
             (SELECT subject FROM usage_months WHERE subject > $1 ORDER BY subject LIMIT $2) AS months)
     SELECT COALESCE((SELECT MIN(last_one) FROM ends WHERE length = $2), (SELECT MAX(last_one) FROM ends))",
);

/// The sums of a range, by meter, labels and period. Periods without usage are left out.
pub async fn sums(database: &Database, wanted: &Wanted<'_>) -> Result<Vec<UsageSum>, StoreError> {
    let sums = read(database, &SUMS, wanted, None).await?;
    Ok(sums.into_iter().map(|(_, sum)| sum).collect())
}

/// As [`sums`], with their subjects: those after `wanted.subject`, up to `through`.
pub async fn sums_of_many(
    database: &Database,
    wanted: &Wanted<'_>,
    through: &str,
) -> Result<Vec<(String, UsageSum)>, StoreError> {
    read(database, &SUMS_OF_MANY, wanted, Some(through)).await
}

/// Up to which subject [`sums_of_many`] may be asked at once: there are at most about `rows` rows of each table until
/// there. Nothing after the last subject.
pub async fn subjects_through(
    database: &Database,
    after: &str,
    rows: i64,
) -> Result<Option<String>, StoreError> {
    let row = database.fetch_first(&SUBJECTS_THROUGH, values![after, rows]).await?;
    row.map_or(Ok(None), |row| row.try_text(0))
}

async fn read(
    database: &Database,
    statement: &'static Statement,
    wanted: &Wanted<'_>,
    through: Option<&str>,
) -> Result<Vec<(String, UsageSum)>, StoreError> {
    let &Wanted { subject, meter, from_ms, to_ms, by } = wanted;
    let (from_ms, to_ms) = (from_ms.max(0), to_ms.max(0));
    if from_ms >= to_ms {
        return Ok(Vec::new());
    }
    let step_ms = if by == Period::Hour { HOUR_MS } else { DAY_MS };
    // No day starts at -1.
    let cut = |at_ms: i64| if day_of(at_ms) == at_ms { -1 } else { day_of(at_ms) };
    let mut values = values![subject, meter, from_ms, to_ms, step_ms, cut(from_ms), cut(to_ms)];
    values.extend(through.map(Value::from));
    let mut sums = Sums { from_ms, to_ms, by, found: BTreeMap::new() };
    for row in database.fetch_all(statement, values).await? {
        sums.add(&row)?;
    }
    Ok(sums.finish())
}

/// Subject, meter, labels and start.
type Key = (String, String, String, i64);

struct Sums {
    from_ms: i64,
    to_ms: i64,
    by: Period,
    found: BTreeMap<Key, (i64, Units)>,
}

impl Sums {
    fn add(&mut self, row: &Row) -> Result<(), StoreError> {
        let (kind, start_ms) = (row.text(1)?, row.int(4)?);
        let units = Units { taken: row.int(5)?, freed: row.int(6)? };
        let key = (row.text(0)?, row.text(2)?, row.text(3)?, start_ms);
        match kind.as_str() {
            "hours" if self.by == Period::Hour => self.count(key, start_ms + HOUR_MS, units),
            "hours" | "days" => self.count(key, start_ms + DAY_MS, units),
            "cut" => {
                let hours = Hours::read(start_ms, &row.text(7)?)?;
                for (hour_ms, units) in hours.between(self.from_ms, self.to_ms) {
                    let (subject, meter, labels, _) = key.clone();
                    match self.by {
                        Period::Hour => {
                            self.count((subject, meter, labels, hour_ms), hour_ms + HOUR_MS, units);
                        }
                        _ => self.count((subject, meter, labels, start_ms), start_ms + DAY_MS, units),
                    }
                }
            }
            _ => self.count(key, month_of(start_ms).1, units),
        }
        Ok(())
    }

    fn count(&mut self, (subject, meter, labels, start_ms): Key, end_ms: i64, units: Units) {
        let (start_ms, end_ms) = match self.by {
            Period::Hour | Period::Day => (start_ms, end_ms),
            Period::Month => month_of(start_ms),
            Period::Total => (self.from_ms, self.to_ms),
        };
        let entry = self.found.entry((subject, meter, labels, start_ms));
        // The first of a month may be there as a day, and as the month that it became.
        let (end, sum) = entry.or_insert((end_ms, Units::default()));
        *end = end_ms.max(*end);
        *sum = sum.plus(units);
    }

    fn finish(self) -> Vec<(String, UsageSum)> {
        let sum = |((subject, meter, labels, start_ms), (end_ms, units)): (Key, (i64, Units))| {
            let Units { taken, freed } = units;
            (subject, UsageSum { meter, labels, start_ms, end_ms, taken, freed })
        };
        self.found.into_iter().map(sum).collect()
    }
}
