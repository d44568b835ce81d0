//! What lies back becomes days, and days become months: in batches, each in a transaction of its own. Sums stay what they
//! were, in every state that a reader can see.
//!
//! A horizon is raised before anything behind it is folded, and in a transaction of its own. From then on no row is made
//! behind it, so an hour is in one place only.

use std::collections::BTreeMap;

use super::days::{self, DayKey};
use super::{Horizons, Units, horizons};
use crate::calendar::{DAY_MS, day_of, month_of};
use crate::store::statement::Statement;
use crate::store::value::values;
use crate::store::{Database, StoreError, Tx};

static RAISE_HOURS: Statement =
    Statement::new("UPDATE counters SET value = $1 WHERE name = 'usage_hours_from' AND value < $1");
static RAISE_DAYS: Statement =
    Statement::new("UPDATE counters SET value = $1 WHERE name = 'usage_days_from' AND value < $1");
static NEWEST: Statement =
    Statement::new("SELECT (SELECT MAX(hour_ms) FROM usage_hours), (SELECT MAX(day_ms) FROM usage_days)");
static SUBJECTS_WITH_HOURS: Statement = Statement::new(
    "SELECT DISTINCT subject FROM
         (SELECT subject FROM usage_hours WHERE hour_ms < $1 ORDER BY hour_ms, subject LIMIT $2) AS oldest
     ORDER BY subject",
);
static SUBJECTS_WITH_DAYS: Statement = Statement::new(
    "SELECT DISTINCT subject FROM
         (SELECT subject FROM usage_days WHERE day_ms < $1 ORDER BY day_ms, subject LIMIT $2) AS oldest
     ORDER BY subject",
);
static LAST_HOUR: Statement = Statement::new(
    "SELECT MAX(hour_ms) FROM
         (SELECT hour_ms FROM usage_hours WHERE subject = $1 AND hour_ms < $2 ORDER BY hour_ms LIMIT $3) AS oldest",
);
static HOURS: Statement = Statement::new(
    "SELECT hour_ms, meter, labels, session, taken, freed FROM usage_hours WHERE subject = $1 AND hour_ms <= $2",
);
static DELETE_HOURS: Statement =
    Statement::new("DELETE FROM usage_hours WHERE subject = $1 AND hour_ms <= $2");
static FIRST_DAY: Statement =
    Statement::new("SELECT MIN(day_ms) FROM usage_days WHERE subject = $1 AND day_ms < $2");
static FOLD_MONTH: Statement = Statement::new(
    "INSERT INTO usage_months (subject, month_ms, meter, labels, taken, freed)
     SELECT subject, CAST($2 AS BIGINT), meter, labels, CAST(SUM(taken) AS BIGINT), CAST(SUM(freed) AS BIGINT)
     FROM usage_days WHERE subject = $1 AND day_ms >= $2 AND day_ms < $3 GROUP BY subject, meter, labels
     ON CONFLICT (subject, month_ms, meter, labels) DO UPDATE SET
         taken = usage_months.taken + excluded.taken, freed = usage_months.freed + excluded.freed",
);
static DELETE_DAYS: Statement =
    Statement::new("DELETE FROM usage_days WHERE subject = $1 AND day_ms >= $2 AND day_ms < $3");

/// The end of the newest hour (or day) that there is usage of, Unix ms.
pub async fn newest(database: &Database) -> Result<Option<i64>, StoreError> {
    let Some(row) = database.fetch_first(&NEWEST, Vec::new()).await? else {
        return Ok(None);
    };
    let day_end = row.try_int(1)?.map(|day_ms| day_ms.saturating_add(DAY_MS));
    Ok(row.try_int(0)?.map(|hour_ms| hour_ms.saturating_add(crate::calendar::HOUR_MS)).max(day_end))
}

/// Raises the horizons to the start of a day and of a month, and answers where they are: never lower than before.
pub async fn raise(tx: &mut Tx<'_>, to: &Horizons) -> Result<Horizons, StoreError> {
    let now = horizons(tx).await?;
    let (hours_from_ms, days_from_ms) = (day_of(to.hours_from_ms), month_of(to.days_from_ms).0);
    if hours_from_ms > now.hours_from_ms {
        tx.execute(&RAISE_HOURS, values![hours_from_ms]).await?;
    }
    // What is a month was a day before.
    let days_from_ms = days_from_ms.min(hours_from_ms.max(now.hours_from_ms));
    let days_from_ms = month_of(days_from_ms).0;
    if days_from_ms > now.days_from_ms {
        tx.execute(&RAISE_DAYS, values![days_from_ms]).await?;
    }
    horizons(tx).await
}

/// Some subjects with hours before `before_ms`, at most `limit`.
pub async fn subjects_with_hours(
    database: &Database,
    before_ms: i64,
    limit: i64,
) -> Result<Vec<String>, StoreError> {
    let rows = database.fetch_all(&SUBJECTS_WITH_HOURS, values![before_ms, limit]).await?;
    rows.iter().map(|row| row.text(0)).collect()
}

/// Some subjects with days before `before_ms`, at most `limit`.
pub async fn subjects_with_days(
    database: &Database,
    before_ms: i64,
    limit: i64,
) -> Result<Vec<String>, StoreError> {
    let rows = database.fetch_all(&SUBJECTS_WITH_DAYS, values![before_ms, limit]).await?;
    rows.iter().map(|row| row.text(0)).collect()
}

/// Folds hours of `subjects` before the horizon into days, the oldest first, until about `rows_max` rows are done. The
/// subjects are locked. Answers how many were.
pub async fn hours(tx: &mut Tx<'_>, subjects: &[&str], rows_max: i64) -> Result<u64, StoreError> {
    let before_ms = horizons(tx).await?.hours_from_ms;
    let mut done = 0;
    let mut found: Vec<(DayKey, i64, Units)> = Vec::new();
    for subject in subjects {
        let left = rows_max.saturating_sub(i64::try_from(found.len()).unwrap_or(i64::MAX));
        if left <= 0 {
            break;
        }
        let last = tx.fetch_first(&LAST_HOUR, values![*subject, before_ms, left]).await?;
        let Some(last_ms) = last.map_or(Ok(None), |row| row.try_int(0))? else {
            continue;
        };
        for row in tx.fetch_all(&HOURS, values![*subject, last_ms]).await? {
            let (hour_ms, meter, labels, session) = (row.int(0)?, row.text(1)?, row.text(2)?, row.text(3)?);
            let units = Units { taken: row.int(4)?, freed: row.int(5)? };
            let key =
                DayKey { subject: (*subject).to_owned(), day_ms: day_of(hour_ms), meter, labels, session };
            found.push((key, hour_ms, units));
        }
        done += tx.execute(&DELETE_HOURS, values![*subject, last_ms]).await?;
    }
    let keys: BTreeMap<DayKey, ()> = found.iter().map(|(key, ..)| (key.clone(), ())).collect();
    let mut days = days::read(tx, keys.into_keys()).await?;
    for (key, hour_ms, units) in found {
        days.entry(key).or_default().change(hour_ms, |there| there.plus(units));
    }
    days::write(tx, &days).await?;
    Ok(done)
}

/// Folds the oldest month before the horizon of each of `subjects` into a month, until about `rows_max` rows are done. The
/// subjects are locked. Answers how many were.
pub async fn days(tx: &mut Tx<'_>, subjects: &[&str], rows_max: u64) -> Result<u64, StoreError> {
    let before_ms = horizons(tx).await?.days_from_ms;
    let mut done = 0;
    for subject in subjects {
        if done >= rows_max {
            break;
        }
        let first = tx.fetch_first(&FIRST_DAY, values![*subject, before_ms]).await?;
        let Some(first_ms) = first.map_or(Ok(None), |row| row.try_int(0))? else {
            continue;
        };
        let (start_ms, end_ms) = month_of(first_ms);
        tx.execute(&FOLD_MONTH, values![*subject, start_ms, end_ms]).await?;
        done += tx.execute(&DELETE_DAYS, values![*subject, start_ms, end_ms]).await?;
    }
    Ok(done)
}
