//! Usage that programs record themselves: which keys of which source there were, so that each counts once. What they count
//! is in the ledger's hours.

use serde::Serialize;

use crate::store::statement::Statement;
use crate::store::value::{json_rows, values};
use crate::store::{StoreError, Tx};

/// The session that recorded usage is added up under.
pub const SESSION: &str = "recorded";

/// What a program recorded.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Recorded {
    /// Who records.
    pub source: String,
    /// Names the entry among those of its source.
    pub key: String,
    /// The subject.
    pub subject: String,
    /// The meter.
    pub meter: String,
    /// What its units are told apart by: the text of `policy::labels`.
    pub labels: String,
    /// When it was used, Unix ms.
    pub at_ms: i64,
    /// How much.
    pub units: i64,
}

static INSERT: Statement = Statement::new(
    "INSERT INTO usage_recorded (source, key, subject, meter, labels, at_ms, units)
     SELECT r.source, r.key, r.subject, r.meter, r.labels, r.at_ms, r.units
     FROM {rows $1 r source text, key text, subject text, meter text, labels text, at_ms bigint, units bigint}
     WHERE true
     ON CONFLICT (source, key) DO NOTHING RETURNING source, key",
);
static READ: Statement = Statement::new(
    "SELECT e.source, e.key, e.subject, e.meter, e.labels, e.at_ms, e.units
     FROM {rows $1 r source text, key text} CROSS JOIN usage_recorded e
     WHERE e.source = r.source AND e.key = r.key",
);
static PRUNE: Statement = Statement::new(
    "DELETE FROM usage_recorded WHERE (source, key) IN
         (SELECT source, key FROM usage_recorded WHERE at_ms < $1 ORDER BY at_ms LIMIT $2)",
);

/// Keeps those of `entries` whose source has not used their key yet; answers the keys of those. Each key is named once,
/// in order: then no two transactions wait for each other.
pub async fn insert(tx: &mut Tx<'_>, entries: &[Recorded]) -> Result<Vec<(String, String)>, StoreError> {
    let rows = tx.fetch_all(&INSERT, values![json_rows(&entries)?]).await?;
    rows.iter().map(|row| Ok((row.text(0)?, row.text(1)?))).collect()
}

/// Those of `entries` whose key was used, as it was used.
pub async fn read(tx: &mut Tx<'_>, entries: &[&Recorded]) -> Result<Vec<Recorded>, StoreError> {
    let rows = tx.fetch_all(&READ, values![json_rows(&entries)?]).await?;
    rows.iter()
        .map(|row| {
            Ok(Recorded {
                source: row.text(0)?,
                key: row.text(1)?,
                subject: row.text(2)?,
                meter: row.text(3)?,
                labels: row.text(4)?,
                at_ms: row.int(5)?,
                units: row.int(6)?,
            })
        })
        .collect()
}

/// Forgets at most `limit` keys of usage before `before_ms`. Answers how many.
pub async fn prune(tx: &mut Tx<'_>, before_ms: i64, limit: i64) -> Result<u64, StoreError> {
    tx.execute(&PRUNE, values![before_ms, limit]).await
}
