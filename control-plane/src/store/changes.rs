//! What edges must be told, in the order in which it was committed, for as long as an edge may still ask for it.

use serde::Serialize;

use super::statement::Statement;
use super::value::{Row, json_rows, values};
use super::{Database, StoreError, Tx};

/// A subject that one session must sync now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// Its place in the order of commits.
    pub seq: i64,
    /// The subject.
    pub subject: String,
    /// The session.
    pub session: String,
}

/// Why a session must sync a subject.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ChangeKind {
    /// What it is entitled to changed.
    Entitlements,
    /// Another edge needs units.
    Recall,
}

static TAKE_SEQ: Statement =
    Statement::new("UPDATE counters SET value = value + $1 WHERE name = 'changes' RETURNING value");
static APPEND: Statement = Statement::new(
    "INSERT INTO changes (seq, kind, subject, session, created_ms)
     SELECT r.seq, r.kind, r.subject, r.session, CAST($2 AS BIGINT)
     FROM {rows $1 r seq bigint, kind text, subject text, session text} WHERE true",
);
static SINCE: Statement =
    Statement::new("SELECT seq, subject, session FROM changes WHERE seq > $1 ORDER BY seq LIMIT $2");
static OF_SESSION: Statement = Statement::new(
    "SELECT seq, subject, session FROM changes WHERE seq > $1 AND seq <= $2 AND session = $3 ORDER BY seq LIMIT $4",
);
static LAST_BEFORE: Statement = Statement::new("SELECT MAX(seq) FROM changes WHERE created_ms < $1");
static PRUNE: Statement = Statement::new("DELETE FROM changes WHERE seq <= $1");
static NOTE_PRUNED: Statement =
    Statement::new("UPDATE counters SET value = $1 WHERE name = 'changes_pruned' AND value < $1");
static PRUNED: Statement = Statement::new("SELECT value FROM counters WHERE name = 'changes_pruned'");

/// Adds changes. The last thing that a transaction does: from here on, no other can add any until it ends.
pub async fn append(
    tx: &mut Tx<'_>,
    changes: &[(ChangeKind, &str, &str)],
    now_ms: i64,
) -> Result<(), StoreError> {
    #[derive(Serialize)]
    struct Written<'a> {
        seq: i64,
        kind: ChangeKind,
        subject: &'a str,
        session: &'a str,
    }
    if changes.is_empty() {
        return Ok(());
    }
    let count = i64::try_from(changes.len()).unwrap_or(i64::MAX);
    let row = tx.fetch_first(&TAKE_SEQ, values![count]).await?;
    let row =
        row.ok_or_else(|| StoreError::Corrupt { what: "no change counter".to_owned(), source: None })?;
    let first = row.int(0)? - count + 1;
    let rows: Vec<_> = (first..)
        .zip(changes)
        .map(|(seq, (kind, subject, session))| Written { seq, kind: *kind, subject, session })
        .collect();
    tx.execute(&APPEND, values![json_rows(&rows)?, now_ms]).await.map(drop)
}

/// At most `limit` changes after `seq`, the oldest first.
pub async fn since(database: &Database, seq: i64, limit: i64) -> Result<Vec<Change>, StoreError> {
    database.fetch_all(&SINCE, values![seq, limit]).await?.iter().map(read_row).collect()
}

/// At most `limit` changes for one session after `after` and up to `to`, the oldest first.
pub async fn of_session(
    database: &Database,
    session: &str,
    after: i64,
    to: i64,
    limit: i64,
) -> Result<Vec<Change>, StoreError> {
    let rows = database.fetch_all(&OF_SESSION, values![after, to, session, limit]).await?;
    rows.iter().map(read_row).collect()
}

/// Forgets changes made before `before_ms` (Unix ms).
pub async fn prune(tx: &mut Tx<'_>, before_ms: i64) -> Result<u64, StoreError> {
    let last = match tx.fetch_first(&LAST_BEFORE, values![before_ms]).await? {
        Some(row) => row.try_int(0)?,
        None => None,
    };
    let Some(last) = last else {
        return Ok(0);
    };
    tx.execute(&NOTE_PRUNED, values![last]).await?;
    tx.execute(&PRUNE, values![last]).await
}

/// The newest change that has been forgotten; 0 when none has.
pub async fn pruned(database: &Database) -> Result<i64, StoreError> {
    database.fetch_first(&PRUNED, Vec::new()).await?.map_or(Ok(0), |row| row.int(0))
}

fn read_row(row: &Row) -> Result<Change, StoreError> {
    Ok(Change { seq: row.int(0)?, subject: row.text(1)?, session: row.text(2)? })
}
