//! The ledger of usage: per subject, meter, hour and session, merged by max, so that a repeated or late report changes
//! nothing. Rows are never lowered.

use serde::Serialize;

use super::statement::Statement;
use super::value::{json_rows, values};
use super::{Database, StoreError, Tx};

/// What one session reported of one subject, meter and hour.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct UsageWrite<'a> {
    /// The subject.
    pub subject: &'a str,
    /// The meter.
    pub meter: &'a str,
    /// Start of the hour, Unix ms.
    pub hour_ms: i64,
    /// Units charged in all.
    pub taken: i64,
    /// Units of them that were refunded in all.
    pub freed: i64,
}

/// What all sessions together used of one meter in one hour.
#[derive(Debug, Clone, PartialEq)]
pub struct UsageRow {
    /// The meter.
    pub meter: String,
    /// Start of the hour, Unix ms.
    pub hour_ms: i64,
    /// Units charged.
    pub taken: i64,
    /// Units of them that were refunded.
    pub freed: i64,
}

static MERGE: Statement = Statement::new(
    "INSERT INTO usage (subject, meter, hour_ms, session, taken, freed)
     SELECT r.subject, r.meter, r.hour_ms, CAST($2 AS TEXT), r.taken, r.freed
     FROM {rows $1 r subject text, meter text, hour_ms bigint, taken bigint, freed bigint} WHERE true
     ON CONFLICT (subject, meter, hour_ms, session) DO UPDATE SET
         taken = CASE WHEN excluded.taken > usage.taken THEN excluded.taken ELSE usage.taken END,
         freed = CASE WHEN excluded.freed > usage.freed THEN excluded.freed ELSE usage.freed END",
);
static HOURS: Statement = Statement::new(
    "SELECT meter, hour_ms, CAST(SUM(taken) AS BIGINT), CAST(SUM(freed) AS BIGINT) FROM usage
     WHERE subject = $1 AND (CAST($2 AS TEXT) IS NULL OR meter = $2) AND hour_ms >= $3 AND hour_ms < $4
     GROUP BY meter, hour_ms ORDER BY meter, hour_ms",
);

/// Merges what `session` reported, all in one statement. Each subject, meter and hour is named once.
pub async fn merge(tx: &mut Tx<'_>, session: &str, usage: &[UsageWrite<'_>]) -> Result<(), StoreError> {
    if usage.is_empty() {
        return Ok(());
    }
    tx.execute(&MERGE, values![json_rows(&usage)?, session]).await.map(drop)
}

/// The usage of a subject by meter and hour, in the hours that start in `from_ms..to_ms`.
pub async fn hours(
    database: &Database,
    subject: &str,
    meter: Option<&str>,
    from_ms: i64,
    to_ms: i64,
) -> Result<Vec<UsageRow>, StoreError> {
    let rows = database.fetch_all(&HOURS, values![subject, meter, from_ms, to_ms]).await?;
    rows.iter()
        .map(|row| {
            Ok(UsageRow { meter: row.text(0)?, hour_ms: row.int(1)?, taken: row.int(2)?, freed: row.int(3)? })
        })
        .collect()
}
