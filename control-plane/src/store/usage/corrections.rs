//! Corrections of the ledger, each with its reason. Rows are added and never touched again; what they change is added up in
//! the ledger's hours.

use crate::store::audit::Author;
use crate::store::statement::Statement;
use crate::store::value::{Row, values};
use crate::store::{Database, StoreError, Tx};

/// The session that corrections are added up under.
pub const SESSION: &str = "corrected";

/// What is corrected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Correction {
    /// The caller's own name for it, so that a repeated request corrects once.
    pub key: Option<String>,
    /// The subject.
    pub subject: String,
    /// The meter.
    pub meter: String,
    /// What its units are told apart by: the text of `policy::labels`.
    pub labels: String,
    /// When it counts, Unix ms.
    pub at_ms: i64,
    /// How much more was used; less than nothing for less.
    pub units: i64,
    /// Why.
    pub reason: String,
}

/// A correction that was made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CorrectionRow {
    /// Rises with each.
    pub id: i64,
    /// What was corrected.
    pub correction: Correction,
    /// The name of the token that was used.
    pub actor: String,
    /// When, Unix ms.
    pub created_ms: i64,
}

static TAKE_ID: Statement =
    Statement::new("UPDATE counters SET value = value + 1 WHERE name = 'usage_corrections' RETURNING value");
static INSERT: Statement = Statement::new(
    "INSERT INTO usage_corrections (id, key, subject, meter, labels, at_ms, units, reason, actor, created_ms)
     VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)",
);
static FIND: Statement = Statement::new(
    "SELECT id, key, subject, meter, labels, at_ms, units, reason, actor, created_ms FROM usage_corrections
     WHERE subject = $1 AND key = $2",
);
static PAGE: Statement = Statement::new(
    "SELECT id, key, subject, meter, labels, at_ms, units, reason, actor, created_ms FROM usage_corrections
     WHERE subject = $1 AND id < $2 ORDER BY id DESC LIMIT $3",
);

/// Adds a correction; answers it with its number. Its subject is locked.
pub async fn insert(
    tx: &mut Tx<'_>,
    author: &Author,
    correction: &Correction,
) -> Result<CorrectionRow, StoreError> {
    let id = tx.fetch_first(&TAKE_ID, Vec::new()).await?;
    let id = id
        .ok_or_else(|| StoreError::Corrupt { what: "no counter of corrections".to_owned(), source: None })?
        .int(0)?;
    let Correction { key, subject, meter, labels, at_ms, units, reason } = correction;
    let values = values![
        id,
        key.as_deref(),
        subject.as_str(),
        meter.as_str(),
        labels.as_str(),
        *at_ms,
        *units,
        reason.as_str(),
        author.actor.as_str(),
        author.now_ms,
    ];
    tx.execute(&INSERT, values).await?;
    let (correction, actor) = (correction.clone(), author.actor.clone());
    Ok(CorrectionRow { id, correction, actor, created_ms: author.now_ms })
}

/// The correction of this key.
pub async fn find(tx: &mut Tx<'_>, subject: &str, key: &str) -> Result<Option<CorrectionRow>, StoreError> {
    tx.fetch_first(&FIND, values![subject, key]).await?.map(|row| read_row(&row)).transpose()
}

/// At most `limit` corrections of a subject before the one of this number, the newest first.
pub async fn page(
    database: &Database,
    subject: &str,
    before_id: i64,
    limit: i64,
) -> Result<Vec<CorrectionRow>, StoreError> {
    let rows = database.fetch_all(&PAGE, values![subject, before_id, limit]).await?;
    rows.iter().map(read_row).collect()
}

fn read_row(row: &Row) -> Result<CorrectionRow, StoreError> {
    let correction = Correction {
        key: row.try_text(1)?,
        subject: row.text(2)?,
        meter: row.text(3)?,
        labels: row.text(4)?,
        at_ms: row.int(5)?,
        units: row.int(6)?,
        reason: row.text(7)?,
    };
    Ok(CorrectionRow { id: row.int(0)?, correction, actor: row.text(8)?, created_ms: row.int(9)? })
}
