//! The audit log: what was changed, by whom, from where. Rows are added, in the transaction of the change, and never
//! touched again.

use serde_json::Value as Json;

use super::statement::Statement;
use super::value::{to_json, values};
use super::{Database, StoreError, Tx};

/// One change.
#[derive(Debug, Clone, PartialEq)]
pub struct AuditRow {
    /// Rises by one with each row.
    pub id: i64,
    /// When, Unix ms.
    pub at_ms: i64,
    /// The name of the token that was used.
    pub actor: String,
    /// Such as `subscription.set`.
    pub action: String,
    /// What was changed, such as a subject.
    pub target: String,
    /// The value before, or nothing.
    pub before: Option<Json>,
    /// The value after, or nothing.
    pub after: Option<Json>,
    /// The address of the peer that asked.
    pub remote: String,
}

/// Who changes something, when, and from where.
#[derive(Debug, Clone)]
pub struct Author {
    /// The name of the token that was used.
    pub actor: String,
    /// The address of the peer that asked.
    pub remote: String,
    /// When, Unix ms.
    pub now_ms: i64,
}

static TAKE_ID: Statement =
    Statement::new("UPDATE counters SET value = value + 1 WHERE name = 'audit' RETURNING value");
static APPEND: Statement = Statement::new(
    "INSERT INTO audit (id, at_ms, actor, action, target, before, after, remote)
     VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
);
static PAGE: Statement = Statement::new(
    "SELECT id, at_ms, actor, action, target, before, after, remote FROM audit
     WHERE id < $1 AND (CAST($2 AS TEXT) IS NULL OR target = $2) ORDER BY id DESC LIMIT $3",
);

/// Adds a row.
pub async fn append(
    tx: &mut Tx<'_>,
    author: &Author,
    action: &str,
    target: &str,
    before: Option<&Json>,
    after: Option<&Json>,
) -> Result<(), StoreError> {
    let id = tx.fetch_first(&TAKE_ID, Vec::new()).await?;
    let id = id
        .ok_or_else(|| StoreError::Corrupt { what: "no audit counter".to_owned(), source: None })?
        .int(0)?;
    let before = before.map(|json| to_json("audit", json)).transpose()?;
    let after = after.map(|json| to_json("audit", json)).transpose()?;
    let values = values![
        id,
        author.now_ms,
        author.actor.as_str(),
        action,
        target,
        before.as_deref(),
        after.as_deref(),
        author.remote.as_str(),
    ];
    tx.execute(&APPEND, values).await.map(drop)
}

/// At most `limit` rows older than the row `before_id`, the newest first; of one target only, where it is given.
pub async fn page(
    database: &Database,
    before_id: i64,
    target: Option<&str>,
    limit: i64,
) -> Result<Vec<AuditRow>, StoreError> {
    let rows = database.fetch_all(&PAGE, values![before_id, target, limit]).await?;
    let read = |text: Option<String>| text.map(|text| super::value::from_json("audit", &text)).transpose();
    rows.iter()
        .map(|row| {
            Ok(AuditRow {
                id: row.int(0)?,
                at_ms: row.int(1)?,
                actor: row.text(2)?,
                action: row.text(3)?,
                target: row.text(4)?,
                before: read(row.try_text(5)?)?,
                after: read(row.try_text(6)?)?,
                remote: row.text(7)?,
            })
        })
        .collect()
}
