//! Things: what exists of a capacity and has an id, and up to which event each session was heard. What is gone has no row.
//! Read and written under the lock of their subject.

use std::collections::BTreeMap;

use serde::Serialize;
use tollgate_policy::thing::ThingId;

use super::statement::Statement;
use super::value::{json_rows, values};
use super::{Database, StoreError, Tx};

/// A thing's place.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct ThingKey {
    /// Whose it is.
    pub subject: String,
    /// The meter.
    pub meter: String,
    /// Its id.
    pub id: ThingId,
}

/// All things of a subject and meter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ThingSum {
    /// The meter.
    pub meter: String,
    /// How many there are.
    pub count: i64,
    /// Their units.
    pub units: i64,
}

static HEARD: Statement = Statement::new(
    "SELECT h.subject, h.seq FROM things_heard h JOIN {rows $1 r subject text} ON h.subject = r.subject
     WHERE h.session = $2",
);
static NOTE_HEARD: Statement = Statement::new(
    "INSERT INTO things_heard (subject, session, seq)
     SELECT r.subject, CAST($2 AS TEXT), r.seq FROM {rows $1 r subject text, seq bigint} WHERE true
     ON CONFLICT (subject, session) DO UPDATE SET
         seq = CASE WHEN excluded.seq > things_heard.seq THEN excluded.seq ELSE things_heard.seq END",
);
static FIND: Statement = Statement::new(
    "SELECT t.subject, t.meter, t.id, t.units
     FROM things t JOIN {rows $1 r subject text, meter text, id text}
       ON t.subject = r.subject AND t.meter = r.meter AND t.id = r.id",
);
static WRITE: Statement = Statement::new(
    "INSERT INTO things (subject, meter, id, units)
     SELECT r.subject, r.meter, r.id, r.units
     FROM {rows $1 r subject text, meter text, id text, units bigint} WHERE true
     ON CONFLICT (subject, meter, id) DO UPDATE SET units = excluded.units",
);
static REMOVE: Statement = Statement::new(
    "DELETE FROM things WHERE EXISTS (
         SELECT 1 FROM {rows $1 r subject text, meter text, id text}
         WHERE r.subject = things.subject AND r.meter = things.meter AND r.id = things.id)",
);
static SUMS: Statement = Statement::new(
    "SELECT meter, COUNT(*), CAST(SUM(units) AS BIGINT) FROM things WHERE subject = $1 GROUP BY meter ORDER BY meter",
);

/// Up to which event `session` was heard of each of `subjects`; those that it told nothing of are left out.
pub async fn heard(
    tx: &mut Tx<'_>,
    session: &str,
    subjects: &[&str],
) -> Result<BTreeMap<String, i64>, StoreError> {
    let names: Vec<_> = subjects.iter().map(|subject| serde_json::json!({ "subject": subject })).collect();
    let rows = tx.fetch_all(&HEARD, values![json_rows(&names)?, session]).await?;
    rows.iter().map(|row| Ok((row.text(0)?, row.int(1)?))).collect()
}

/// Notes up to which event `session` was heard of each subject, all in one statement.
pub async fn note_heard(
    tx: &mut Tx<'_>,
    session: &str,
    heard: &BTreeMap<&str, i64>,
) -> Result<(), StoreError> {
    let rows: Vec<_> =
        heard.iter().map(|(subject, seq)| serde_json::json!({ "subject": subject, "seq": seq })).collect();
    tx.execute(&NOTE_HEARD, values![json_rows(&rows)?, session]).await.map(drop)
}

/// Those of `keys` that are there, with their units, in one statement.
pub async fn find(tx: &mut Tx<'_>, keys: &[ThingKey]) -> Result<BTreeMap<ThingKey, i64>, StoreError> {
    let rows = tx.fetch_all(&FIND, values![json_rows(&keys)?]).await?;
    rows.iter()
        .map(|row| {
            let id = row.text(2)?.parse().map_err(|error| StoreError::corrupt("a thing's id", error))?;
            Ok((ThingKey { subject: row.text(0)?, meter: row.text(1)?, id }, row.int(3)?))
        })
        .collect()
}

/// Makes `things` what is there of their keys: so many units, or nothing. At most two statements.
pub async fn write(tx: &mut Tx<'_>, things: &BTreeMap<ThingKey, Option<i64>>) -> Result<(), StoreError> {
    #[derive(Serialize)]
    struct Written<'a> {
        #[serde(flatten)]
        key: &'a ThingKey,
        units: i64,
    }
    let there: Vec<_> =
        things.iter().filter_map(|(key, units)| Some(Written { key, units: (*units)? })).collect();
    if !there.is_empty() {
        tx.execute(&WRITE, values![json_rows(&there)?]).await?;
    }
    let gone: Vec<_> = things.iter().filter(|(_, units)| units.is_none()).map(|(key, _)| key).collect();
    if !gone.is_empty() {
        tx.execute(&REMOVE, values![json_rows(&gone)?]).await?;
    }
    Ok(())
}

/// How many things a subject has, and their units, by meter.
pub async fn sums(database: &Database, subject: &str) -> Result<Vec<ThingSum>, StoreError> {
    let rows = database.fetch_all(&SUMS, values![subject]).await?;
    rows.iter()
        .map(|row| Ok(ThingSum { meter: row.text(0)?, count: row.int(1)?, units: row.int(2)? }))
        .collect()
}
