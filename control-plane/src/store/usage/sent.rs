//! Up to where usage was sent elsewhere, and what changed since and is to be sent again.

use serde::Serialize;

use super::UsageWrite;
use crate::store::statement::Statement;
use crate::store::value::{json_rows, values};
use crate::store::{Database, StoreError, Tx};

/// Up to where usage was sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cursor {
    /// The hour that is being sent, Unix ms. 0: none ever was.
    pub hour_ms: i64,
    /// The last subject of it that was; empty before the first.
    pub subject: String,
}

/// An hour of a subject that is to be sent again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Resend {
    /// The subject.
    pub subject: String,
    /// The hour, Unix ms.
    pub hour_ms: i64,
    /// How often it changed.
    pub changes: i64,
}

static HOLD: Statement = Statement::new(
    "UPDATE usage_sink SET holder = $1, held_ms = $2
     WHERE holder = $1 OR held_ms < $2 - CAST($3 AS BIGINT) OR held_ms > $2 + CAST($3 AS BIGINT)
     RETURNING hour_ms, subject",
);
static MOVE: Statement = Statement::new("UPDATE usage_sink SET hour_ms = $2, subject = $3 WHERE holder = $1");
static RAISE: Statement =
    Statement::new("UPDATE counters SET value = $1 WHERE name = 'usage_sent' AND value < $1");
static NOTE: Statement = Statement::new(
    "INSERT INTO usage_resend (subject, hour_ms, changes)
     SELECT DISTINCT r.subject, r.hour_ms, 1 FROM {rows $1 r subject text, hour_ms bigint}
     WHERE r.hour_ms < (SELECT value FROM counters WHERE name = 'usage_sent')
     ON CONFLICT (subject, hour_ms) DO UPDATE SET changes = usage_resend.changes + 1",
);
static RESENDS: Statement =
    Statement::new("SELECT subject, hour_ms, changes FROM usage_resend ORDER BY subject, hour_ms LIMIT $1");
static RESENT: Statement =
    Statement::new("DELETE FROM usage_resend WHERE subject = $1 AND hour_ms = $2 AND changes = $3");
static SUBJECTS: Statement = Statement::new(
    "SELECT subject FROM
         (SELECT DISTINCT subject FROM usage_hours WHERE hour_ms = $1 AND subject > $3
          ORDER BY subject LIMIT $4) AS hours
     UNION
     SELECT subject FROM
         (SELECT DISTINCT subject FROM usage_days WHERE day_ms = $2 AND subject > $3
          ORDER BY subject LIMIT $4) AS days
     ORDER BY subject LIMIT $4",
);

/// Takes or keeps the right to send, which another holder loses when it was silent for `patience_ms`. Answers the cursor,
/// or nothing while another holds it.
pub async fn hold(
    tx: &mut Tx<'_>,
    holder: &str,
    now_ms: i64,
    patience_ms: i64,
) -> Result<Option<Cursor>, StoreError> {
    let row = tx.fetch_first(&HOLD, values![holder, now_ms, patience_ms]).await?;
    row.map(|row| Ok(Cursor { hour_ms: row.int(0)?, subject: row.text(1)? })).transpose()
}

/// Moves the cursor, unless another sends meanwhile.
pub async fn advance(tx: &mut Tx<'_>, holder: &str, to: &Cursor) -> Result<(), StoreError> {
    tx.execute(&MOVE, values![holder, to.hour_ms, to.subject.as_str()]).await.map(drop)
}

/// From now on a change of an hour before `before_ms` is noted.
pub async fn note_changes_before(tx: &mut Tx<'_>, before_ms: i64) -> Result<(), StoreError> {
    tx.execute(&RAISE, values![before_ms]).await.map(drop)
}

/// Notes those of `usage` that may have been sent already.
pub async fn note(tx: &mut Tx<'_>, usage: &[UsageWrite<'_>]) -> Result<(), StoreError> {
    match usage.is_empty() {
        true => Ok(()),
        false => tx.execute(&NOTE, values![json_rows(&usage)?]).await.map(drop),
    }
}

/// At most `limit` hours that are to be sent again.
pub async fn resends(database: &Database, limit: i64) -> Result<Vec<Resend>, StoreError> {
    let rows = database.fetch_all(&RESENDS, values![limit]).await?;
    rows.iter()
        .map(|row| Ok(Resend { subject: row.text(0)?, hour_ms: row.int(1)?, changes: row.int(2)? }))
        .collect()
}

/// Forgets an hour that was sent again, unless it changed meanwhile.
pub async fn resent(tx: &mut Tx<'_>, hour: &Resend) -> Result<(), StoreError> {
    tx.execute(&RESENT, values![hour.subject.as_str(), hour.hour_ms, hour.changes]).await.map(drop)
}

/// At most `limit` subjects after one that may have used something in an hour, in order.
pub async fn subjects(
    database: &Database,
    hour_ms: i64,
    after: &str,
    limit: i64,
) -> Result<Vec<String>, StoreError> {
    let day_ms = crate::calendar::day_of(hour_ms);
    let rows = database.fetch_all(&SUBJECTS, values![hour_ms, day_ms, after, limit]).await?;
    rows.iter().map(|row| row.text(0)).collect()
}
