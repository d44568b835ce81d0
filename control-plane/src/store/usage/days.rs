//! Days that were hours once: their sums, and what each session reported of each hour of them.

use std::collections::BTreeMap;

use serde::Serialize;

use super::Units;
use crate::calendar::{HOUR_MS, day_of};
use crate::store::statement::Statement;
use crate::store::value::{from_json, json_rows, to_json, values};
use crate::store::{StoreError, Tx};

/// Names a day of one session.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct DayKey {
    pub subject: String,
    pub day_ms: i64,
    pub meter: String,
    pub labels: String,
    pub session: String,
}

/// The hours of a day, by their start.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Hours(BTreeMap<i64, Units>);

impl Hours {
    /// Reads a column of a day that starts at `day_ms`.
    pub fn read(day_ms: i64, text: &str) -> Result<Self, StoreError> {
        let hours: Vec<(i64, i64, i64)> = from_json("hours of a day", text)?;
        let hours =
            hours.into_iter().map(|(hour, taken, freed)| (day_ms + hour * HOUR_MS, Units { taken, freed }));
        Ok(Self(hours.collect()))
    }

    fn text(&self) -> Result<String, StoreError> {
        let hours: Vec<(i64, i64, i64)> = self
            .0
            .iter()
            .map(|(at, units)| ((at - day_of(*at)) / HOUR_MS, units.taken, units.freed))
            .collect();
        to_json("hours of a day", &hours)
    }

    /// Changes what is kept of an hour; answers what it is then.
    pub fn change(&mut self, hour_ms: i64, change: impl FnOnce(Units) -> Units) -> Units {
        let units = self.0.entry(hour_ms).or_default();
        *units = change(*units);
        *units
    }

    /// The hours that start in `from_ms..to_ms`.
    pub fn between(&self, from_ms: i64, to_ms: i64) -> impl Iterator<Item = (i64, Units)> {
        self.0.range(from_ms..to_ms.max(from_ms)).map(|(at, units)| (*at, *units))
    }

    fn sum(&self) -> Units {
        self.0.values().copied().fold(Units::default(), Units::plus)
    }
}

static READ: Statement = Statement::new(
    "SELECT d.subject, d.day_ms, d.meter, d.labels, d.session, d.hours
     FROM {rows $1 r subject text, day_ms bigint, meter text, labels text, session text} CROSS JOIN usage_days d
     WHERE d.subject = r.subject AND d.day_ms = r.day_ms AND d.meter = r.meter AND d.labels = r.labels
       AND d.session = r.session",
);
static WRITE: Statement = Statement::new(
    "INSERT INTO usage_days (subject, day_ms, meter, labels, session, taken, freed, hours)
     SELECT r.subject, r.day_ms, r.meter, r.labels, r.session, r.taken, r.freed, r.hours
     FROM {rows $1 r subject text, day_ms bigint, meter text, labels text, session text, taken bigint, freed bigint,
           hours text}
     WHERE true
     ON CONFLICT (subject, day_ms, meter, labels, session) DO UPDATE SET
         taken = excluded.taken, freed = excluded.freed, hours = excluded.hours",
);

#[derive(Serialize)]
struct DayRow<'a> {
    subject: &'a str,
    day_ms: i64,
    meter: &'a str,
    labels: &'a str,
    session: &'a str,
    taken: i64,
    freed: i64,
    hours: String,
}

fn row_of<'a>(key: &'a DayKey, hours: &Hours) -> Result<DayRow<'a>, StoreError> {
    let DayKey { subject, day_ms, meter, labels, session } = key;
    let Units { taken, freed } = hours.sum();
    Ok(DayRow { subject, day_ms: *day_ms, meter, labels, session, taken, freed, hours: hours.text()? })
}

/// The days of `keys`; those that there are not yet have no hours. Their subjects are locked.
pub(super) async fn read(
    tx: &mut Tx<'_>,
    keys: impl IntoIterator<Item = DayKey>,
) -> Result<BTreeMap<DayKey, Hours>, StoreError> {
    let mut days: BTreeMap<DayKey, Hours> = keys.into_iter().map(|key| (key, Hours::default())).collect();
    if days.is_empty() {
        return Ok(days);
    }
    let wanted = days.iter().map(|(key, hours)| row_of(key, hours)).collect::<Result<Vec<_>, _>>()?;
    for row in tx.fetch_all(&READ, values![json_rows(&wanted)?]).await? {
        let (day_ms, hours) = (row.int(1)?, row.text(5)?);
        let (subject, meter, labels, session) = (row.text(0)?, row.text(2)?, row.text(3)?, row.text(4)?);
        days.insert(DayKey { subject, day_ms, meter, labels, session }, Hours::read(day_ms, &hours)?);
    }
    Ok(days)
}

/// Writes days back.
pub(super) async fn write(tx: &mut Tx<'_>, days: &BTreeMap<DayKey, Hours>) -> Result<(), StoreError> {
    if days.is_empty() {
        return Ok(());
    }
    let rows = days.iter().map(|(key, hours)| row_of(key, hours)).collect::<Result<Vec<_>, _>>()?;
    tx.execute(&WRITE, values![json_rows(&rows)?]).await.map(drop)
}
