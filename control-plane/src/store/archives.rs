//! Archives: what subjects had before they moved here, one of each kind. Kept for good, and given back once.

use serde_json::Value as Json;

use super::statement::Statement;
use super::value::{Row, from_json, to_json, values};
use super::{Database, StoreError, Tx};

/// What a subject had.
#[derive(Debug, Clone, PartialEq)]
pub struct Archive {
    /// The subject.
    pub subject: String,
    /// Such as `credit_balance`.
    pub kind: String,
    /// What it had.
    pub data: Json,
    /// When it was archived, Unix ms.
    pub archived_ms: i64,
    /// The name of the token it was archived with.
    pub archived_by: String,
    /// When it was given back, Unix ms, and the name of the token with which it was asked for.
    pub restored: Option<(i64, String)>,
}

static READ: Statement = Statement::new(
    "SELECT subject, kind, data, archived_ms, archived_by, restored_ms, restored_by FROM archives
     WHERE subject = $1 AND kind = $2",
);
static LIST: Statement = Statement::new(
    "SELECT subject, kind, data, archived_ms, archived_by, restored_ms, restored_by FROM archives
     WHERE (subject, kind) > ($1, $2)
       AND (CAST($3 AS TEXT) IS NULL OR subject = $3) AND (CAST($4 AS TEXT) IS NULL OR kind = $4)
     ORDER BY subject, kind LIMIT $5",
);
static WRITE: Statement = Statement::new(
    "INSERT INTO archives (subject, kind, data, archived_ms, archived_by) VALUES ($1, $2, $3, $4, $5)
     ON CONFLICT (subject, kind) DO UPDATE SET
         data = excluded.data, archived_ms = excluded.archived_ms, archived_by = excluded.archived_by
     WHERE archives.restored_ms IS NULL",
);
static RESTORE: Statement = Statement::new(
    "UPDATE archives SET restored_ms = $3, restored_by = $4
     WHERE subject = $1 AND kind = $2 AND restored_ms IS NULL
     RETURNING subject, kind, data, archived_ms, archived_by, restored_ms, restored_by",
);

/// An archive.
pub async fn read(database: &Database, subject: &str, kind: &str) -> Result<Option<Archive>, StoreError> {
    let row = database.fetch_first(&READ, values![subject, kind]).await?;
    row.map(|row| read_row(&row)).transpose()
}

/// An archive, within a transaction. Not locked: its subject is.
pub async fn read_in(tx: &mut Tx<'_>, subject: &str, kind: &str) -> Result<Option<Archive>, StoreError> {
    let row = tx.fetch_first(&READ, values![subject, kind]).await?;
    row.map(|row| read_row(&row)).transpose()
}

/// At most `limit` archives after the one of `after` (subject and kind), by these; only those of a subject or of a kind,
/// where they are given.
pub async fn list(
    database: &Database,
    after: (&str, &str),
    subject: Option<&str>,
    kind: Option<&str>,
    limit: i64,
) -> Result<Vec<Archive>, StoreError> {
    let rows = database.fetch_all(&LIST, values![after.0, after.1, subject, kind, limit]).await?;
    rows.iter().map(read_row).collect()
}

/// Makes an archive, or replaces one that was not given back.
pub async fn write(tx: &mut Tx<'_>, archive: &Archive) -> Result<(), StoreError> {
    let data = to_json("an archive", &archive.data)?;
    let Archive { subject, kind, archived_ms, archived_by, .. } = archive;
    let values = values![subject.as_str(), kind.as_str(), data, *archived_ms, archived_by.as_str()];
    tx.execute(&WRITE, values).await.map(drop)
}

/// Marks an archive as given back and answers it; nothing where there is none, or where it was given back before.
pub async fn restore(
    tx: &mut Tx<'_>,
    subject: &str,
    kind: &str,
    now_ms: i64,
    actor: &str,
) -> Result<Option<Archive>, StoreError> {
    let row = tx.fetch_first(&RESTORE, values![subject, kind, now_ms, actor]).await?;
    row.map(|row| read_row(&row)).transpose()
}

fn read_row(row: &Row) -> Result<Archive, StoreError> {
    Ok(Archive {
        subject: row.text(0)?,
        kind: row.text(1)?,
        data: from_json("an archive", &row.text(2)?)?,
        archived_ms: row.int(3)?,
        archived_by: row.text(4)?,
        restored: row.try_int(5)?.zip(row.try_text(6)?),
    })
}
