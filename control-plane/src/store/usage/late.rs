//! Usage of hours that lie back: it goes where the hour is now. That is one place at a time: a row of its own, a day, or
//! a month.

use std::collections::BTreeMap;

use serde::Serialize;

use super::days::{self, DayKey};
use super::{Horizons, Merged, Units, UsageWrite, horizons};
use crate::calendar::{day_of, month_of};
use crate::store::statement::Statement;
use crate::store::value::{json_rows, values};
use crate::store::{StoreError, Tx};

static READ: Statement = Statement::new(
    "SELECT u.subject, u.hour_ms, u.meter, u.labels, u.taken, u.freed
     FROM {rows $1 r subject text, hour_ms bigint, meter text, labels text} CROSS JOIN usage_hours u
     WHERE u.subject = r.subject AND u.hour_ms = r.hour_ms AND u.meter = r.meter AND u.labels = r.labels
       AND u.session = $2",
);
static WRITE: Statement = Statement::new(
    "INSERT INTO usage_hours (subject, hour_ms, meter, labels, session, taken, freed)
     SELECT r.subject, r.hour_ms, r.meter, r.labels, CAST($2 AS TEXT), r.taken, r.freed
     FROM {rows $1 r subject text, hour_ms bigint, meter text, labels text, taken bigint, freed bigint} WHERE true
     ON CONFLICT (subject, hour_ms, meter, labels, session) DO UPDATE SET
         taken = excluded.taken, freed = excluded.freed",
);
static ADD_MONTHS: Statement = Statement::new(
    "INSERT INTO usage_months (subject, month_ms, meter, labels, taken, freed)
     SELECT r.subject, r.month_ms, r.meter, r.labels, r.taken, r.freed
     FROM {rows $1 r subject text, month_ms bigint, meter text, labels text, taken bigint, freed bigint} WHERE true
     ON CONFLICT (subject, month_ms, meter, labels) DO UPDATE SET
         taken = usage_months.taken + excluded.taken, freed = usage_months.freed + excluded.freed",
);

/// Merges by max those entries of a report that are not of the ledger's hours any more.
pub(super) async fn raise(
    tx: &mut Tx<'_>,
    session: &str,
    usage: &[UsageWrite<'_>],
) -> Result<Merged, StoreError> {
    let horizons = horizons(tx).await?;
    let (late, gone): (Vec<_>, Vec<_>) = usage
        .iter()
        .filter(|entry| entry.hour_ms < horizons.hours_from_ms)
        .cloned()
        .partition(|entry| entry.hour_ms >= horizons.days_from_ms);
    change(tx, &horizons, session, &late, Units::max).await?;
    Ok(Merged { too_late: u64::try_from(gone.len()).unwrap_or(u64::MAX) })
}

/// Adds `usage` to what `session` has, wherever its hours are now. Each subject, hour, meter and labels is named once; the
/// subjects are locked. Answers the most that one entry then holds; a caller to whom that is too much rolls back.
pub async fn add(tx: &mut Tx<'_>, session: &str, usage: &[UsageWrite<'_>]) -> Result<i64, StoreError> {
    let horizons = horizons(tx).await?;
    let (known, gone): (Vec<_>, Vec<_>) =
        usage.iter().cloned().partition(|entry| entry.hour_ms >= horizons.days_from_ms);
    let most = change(tx, &horizons, session, &known, Units::plus).await?;
    let mut months: BTreeMap<(&str, i64, &str, &str), Units> = BTreeMap::new();
    for entry in &gone {
        let key = (entry.subject, month_of(entry.hour_ms).0, entry.meter, entry.labels);
        let units = months.entry(key).or_default();
        *units = units.plus(Units { taken: entry.taken, freed: entry.freed });
    }
    add_months(tx, &months).await?;
    Ok(most)
}

async fn add_months(
    tx: &mut Tx<'_>,
    months: &BTreeMap<(&str, i64, &str, &str), Units>,
) -> Result<(), StoreError> {
    #[derive(Serialize)]
    struct MonthRow<'a> {
        subject: &'a str,
        month_ms: i64,
        meter: &'a str,
        labels: &'a str,
        #[serde(flatten)]
        units: Units,
    }
    if months.is_empty() {
        return Ok(());
    }
    let rows: Vec<_> = months
        .iter()
        .map(|((subject, month_ms, meter, labels), units)| MonthRow {
            subject,
            month_ms: *month_ms,
            meter,
            labels,
            units: *units,
        })
        .collect();
    tx.execute(&ADD_MONTHS, values![json_rows(&rows)?]).await.map(drop)
}

/// Changes entries whose day is not part of a month yet: `how` makes the new units of those there are and of those given.
/// Answers the most that one of them then holds.
async fn change(
    tx: &mut Tx<'_>,
    horizons: &Horizons,
    session: &str,
    usage: &[UsageWrite<'_>],
    how: fn(Units, Units) -> Units,
) -> Result<i64, StoreError> {
    let mut most = 0;
    if usage.is_empty() {
        return Ok(most);
    }
    let mut found: BTreeMap<(String, i64, String, String), Units> = BTreeMap::new();
    for row in tx.fetch_all(&READ, values![json_rows(&usage)?, session]).await? {
        let units = Units { taken: row.int(4)?, freed: row.int(5)? };
        found.insert((row.text(0)?, row.int(1)?, row.text(2)?, row.text(3)?), units);
    }
    let (mut hours, mut folded) = (Vec::new(), Vec::new());
    for entry in usage {
        let units = Units { taken: entry.taken, freed: entry.freed };
        let key = (entry.subject.to_owned(), entry.hour_ms, entry.meter.to_owned(), entry.labels.to_owned());
        let there = found.get(&key).copied();
        if there.is_none() && entry.hour_ms < horizons.hours_from_ms {
            folded.push((entry, units));
            continue;
        }
        // Not yet folded, or not to be.
        let Units { taken, freed } = how(there.unwrap_or_default(), units);
        most = most.max(taken).max(freed);
        hours.push(UsageWrite { taken, freed, ..entry.clone() });
    }
    if !hours.is_empty() {
        tx.execute(&WRITE, values![json_rows(&hours)?, session]).await?;
    }
    let key_of = |entry: &UsageWrite<'_>| DayKey {
        subject: entry.subject.to_owned(),
        day_ms: day_of(entry.hour_ms),
        meter: entry.meter.to_owned(),
        labels: entry.labels.to_owned(),
        session: session.to_owned(),
    };
    let mut days = days::read(tx, folded.iter().map(|(entry, _)| key_of(entry))).await?;
    for (entry, units) in folded {
        let day = days.entry(key_of(entry)).or_default();
        let Units { taken, freed } = day.change(entry.hour_ms, |there| how(there, units));
        most = most.max(taken).max(freed);
    }
    days::write(tx, &days).await?;
    Ok(most)
}
