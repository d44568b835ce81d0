//! When a clock was last believed: what it showed when moments of subscriptions were last written down.

use super::statement::Statement;
use super::value::values;
use super::{Database, StoreError, Tx};

static SEEN: Statement = Statement::new("SELECT value FROM counters WHERE name = 'moments_seen'");
static WRITE_SEEN: Statement = Statement::new("UPDATE counters SET value = $1 WHERE name = 'moments_seen'");

/// What it showed, Unix ms; 0 before the first time.
pub async fn seen(database: &Database) -> Result<i64, StoreError> {
    database.fetch_first(&SEEN, Vec::new()).await?.map_or(Ok(0), |row| row.int(0))
}

/// Notes what it shows.
pub async fn write_seen(tx: &mut Tx<'_>, now_ms: i64) -> Result<(), StoreError> {
    tx.execute(&WRITE_SEEN, values![now_ms]).await.map(drop)
}
