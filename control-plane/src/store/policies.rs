//! Every policy that was ever applied, by version. Versions are never changed or deleted.

use tollgate_policy::document::PolicyDocument;

use super::audit::Author;
use super::statement::Statement;
use super::value::{Row, from_json, to_json, values};
use super::{Database, StoreError, Tx};

/// One version, without its text.
#[derive(Debug, Clone, PartialEq)]
pub struct PolicyVersion {
    /// From 1, without gaps.
    pub version: i64,
    /// Its author's words on it.
    pub note: Option<String>,
    /// When it was applied, Unix ms.
    pub created_ms: i64,
    /// The name of the token that was used.
    pub created_by: String,
}

/// One version with its text.
#[derive(Debug, Clone, PartialEq)]
pub struct PolicyRow {
    /// What lists show.
    pub about: PolicyVersion,
    /// The document.
    pub document: PolicyDocument,
    /// As its author wrote it.
    pub source: String,
}

static TAKE_VERSION: Statement =
    Statement::new("UPDATE counters SET value = value + 1 WHERE name = 'policies' RETURNING value");
static INSERT: Statement = Statement::new(
    "INSERT INTO policies (version, document, source, note, created_ms, created_by)
     VALUES ($1, $2, $3, $4, $5, $6)",
);
static READ: Statement = Statement::new(
    "SELECT version, note, created_ms, created_by, document, source FROM policies WHERE version = $1",
);
static PAGE: Statement = Statement::new(
    "SELECT version, note, created_ms, created_by FROM policies WHERE version < $1 ORDER BY version DESC LIMIT $2",
);

/// Stores a new version; answers its number.
pub async fn insert(
    tx: &mut Tx<'_>,
    author: &Author,
    document: &PolicyDocument,
    source: &str,
    note: Option<&str>,
) -> Result<i64, StoreError> {
    let row = tx.fetch_first(&TAKE_VERSION, Vec::new()).await?;
    let row =
        row.ok_or_else(|| StoreError::Corrupt { what: "no policy counter".to_owned(), source: None })?;
    let version = row.int(0)?;
    let document = to_json("a policy", document)?;
    let values = values![version, document, source, note, author.now_ms, author.actor.as_str()];
    tx.execute(&INSERT, values).await?;
    Ok(version)
}

/// Reads a version.
pub async fn read(database: &Database, version: i64) -> Result<Option<PolicyRow>, StoreError> {
    database.fetch_first(&READ, values![version]).await?.map(|row| read_row(&row)).transpose()
}

/// Reads a version within a transaction.
pub async fn read_in(tx: &mut Tx<'_>, version: i64) -> Result<Option<PolicyRow>, StoreError> {
    tx.fetch_first(&READ, values![version]).await?.map(|row| read_row(&row)).transpose()
}

/// At most `limit` versions below `before`, the newest first.
pub async fn page(database: &Database, before: i64, limit: i64) -> Result<Vec<PolicyVersion>, StoreError> {
    database.fetch_all(&PAGE, values![before, limit]).await?.iter().map(read_about).collect()
}

fn read_about(row: &Row) -> Result<PolicyVersion, StoreError> {
    Ok(PolicyVersion {
        version: row.int(0)?,
        note: row.try_text(1)?,
        created_ms: row.int(2)?,
        created_by: row.text(3)?,
    })
}

fn read_row(row: &Row) -> Result<PolicyRow, StoreError> {
    Ok(PolicyRow {
        about: read_about(row)?,
        document: from_json("a policy", &row.text(4)?)?,
        source: row.text(5)?,
    })
}
