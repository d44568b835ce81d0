//! Edge sessions: which are open, and when each was last heard. A closed session never opens again.

use std::collections::BTreeMap;

use super::statement::Statement;
use super::value::{json_rows, values};
use super::{Database, StoreError, Tx};

/// What a sync finds of its session, and the configuration in force in the same transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Beat {
    /// The newest configuration.
    pub revision: i64,
    /// When the session was closed (Unix ms), or nothing while it is open.
    pub closed_ms: Option<i64>,
}

static BEAT: Statement = Statement::new(
    "INSERT INTO edge_sessions (session, opened_ms, opened_seq, heard_ms, beats, remote)
     VALUES ($1, $2, (SELECT value FROM counters WHERE name = 'changes'), $2, 1, $3)
     ON CONFLICT (session) DO UPDATE SET
         heard_ms = CASE WHEN excluded.heard_ms > edge_sessions.heard_ms
                         THEN excluded.heard_ms ELSE edge_sessions.heard_ms END,
         beats = edge_sessions.beats + 1
     WHERE edge_sessions.closed_ms IS NULL
     RETURNING (SELECT value FROM counters WHERE name = 'configuration')",
);
static CLOSED: Statement = Statement::new(
    "SELECT (SELECT value FROM counters WHERE name = 'configuration'), closed_ms
     FROM edge_sessions WHERE session = $1",
);
static CLOSED_AMONG: Statement = Statement::new(
    "SELECT s.session, s.heard_ms FROM edge_sessions s JOIN {rows $1 r session text} ON s.session = r.session
     WHERE s.closed_ms IS NOT NULL",
);
static CLOSE: Statement =
    Statement::new("UPDATE edge_sessions SET closed_ms = $2 WHERE session = $1 AND closed_ms IS NULL");
static OPEN: Statement = Statement::new("SELECT session, beats FROM edge_sessions WHERE closed_ms IS NULL");
static CLOSE_SILENT: Statement = Statement::new(
    "UPDATE edge_sessions SET closed_ms = $2 WHERE closed_ms IS NULL AND EXISTS (
         SELECT 1 FROM {rows $1 r session text, beats bigint}
         WHERE r.session = edge_sessions.session AND r.beats = edge_sessions.beats)",
);
static OPENED_SEQ: Statement = Statement::new("SELECT opened_seq FROM edge_sessions WHERE session = $1");

/// A sync of `session` arrived: opens it when it is new, else notes that it was heard, unless it is closed.
pub async fn beat(tx: &mut Tx<'_>, session: &str, remote: &str, now_ms: i64) -> Result<Beat, StoreError> {
    if let Some(row) = tx.fetch_first(&BEAT, values![session, now_ms, remote]).await? {
        return Ok(Beat { revision: row.int(0)?, closed_ms: None });
    }
    let row = tx.fetch_first(&CLOSED, values![session]).await?;
    let row =
        row.ok_or_else(|| StoreError::Corrupt { what: "a session vanished".to_owned(), source: None })?;
    Ok(Beat { revision: row.int(0)?, closed_ms: Some(row.int(1)?) })
}

/// Those of `sessions` that are closed, with the moment each was last heard (Unix ms).
pub async fn closed_among(tx: &mut Tx<'_>, sessions: &[&str]) -> Result<BTreeMap<String, i64>, StoreError> {
    if sessions.is_empty() {
        return Ok(BTreeMap::new());
    }
    let names: Vec<_> = sessions.iter().map(|session| serde_json::json!({ "session": session })).collect();
    let rows = tx.fetch_all(&CLOSED_AMONG, values![json_rows(&names)?]).await?;
    rows.iter().map(|row| Ok((row.text(0)?, row.int(1)?))).collect()
}

/// Closes a session whose edge says that it will never use it again.
pub async fn close(tx: &mut Tx<'_>, session: &str, now_ms: i64) -> Result<(), StoreError> {
    tx.execute(&CLOSE, values![session, now_ms]).await.map(drop)
}

/// The open sessions, with how often each was heard.
pub async fn open(database: &Database) -> Result<BTreeMap<String, i64>, StoreError> {
    let rows = database.fetch_all(&OPEN, Vec::new()).await?;
    rows.iter().map(|row| Ok((row.text(0)?, row.int(1)?))).collect()
}

/// Closes those of `sessions` that were not heard since they had been heard so often. Answers how many.
pub async fn close_silent(
    tx: &mut Tx<'_>,
    sessions: &[(String, i64)],
    now_ms: i64,
) -> Result<u64, StoreError> {
    let rows =
        sessions.iter().map(|(session, beats)| serde_json::json!({ "session": session, "beats": beats }));
    let rows = json_rows(&rows.collect::<Vec<_>>())?;
    tx.execute(&CLOSE_SILENT, values![rows, now_ms]).await
}

/// Up to which change all had been committed when the session opened; nothing when there is no such session.
pub async fn opened_seq(database: &Database, session: &str) -> Result<Option<i64>, StoreError> {
    let row = database.fetch_first(&OPENED_SEQ, values![session]).await?;
    row.map(|row| row.int(0)).transpose()
}

/// As [`closed_among`], outside of any transaction.
pub async fn closed_of(database: &Database, sessions: &[&str]) -> Result<BTreeMap<String, i64>, StoreError> {
    let names: Vec<_> = sessions.iter().map(|session| serde_json::json!({ "session": session })).collect();
    let rows = database.fetch_all(&CLOSED_AMONG, values![json_rows(&names)?]).await?;
    rows.iter().map(|row| Ok((row.text(0)?, row.int(1)?))).collect()
}
