//! The audit log: what was changed, by whom, from where. Rows are added, in the transaction of the change, and never
//! touched again.

use serde_json::Value as Json;

use super::statement::Statement;
use super::value::{Row, from_json, to_json, values};
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

/// Which changes.
#[derive(Debug, Clone, Copy, Default)]
pub struct AuditFilter<'a> {
    /// Only of this target.
    pub target: Option<&'a str>,
    /// Only by this actor.
    pub actor: Option<&'a str>,
    /// Only this action.
    pub action: Option<&'a str>,
    /// Not before this moment, Unix ms.
    pub from_ms: Option<i64>,
    /// Before this moment, Unix ms.
    pub to_ms: Option<i64>,
}

/// Who changes something, when, and from where.
#[derive(Debug, Clone)]
pub struct Author {
    /// The name of the token that was used.
    pub actor: String,
    /// The address of the peer that asked; after a space, the program that it uses, of an end user.
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
// One for each way in, so that each is planned by the index that serves it: the most telling filter first.
static PAGE: Statement = Statement::new(
    "SELECT id, at_ms, actor, action, target, before, after, remote FROM audit
     WHERE id < $1 AND (CAST($2 AS TEXT) IS NULL OR target = $2) AND (CAST($3 AS TEXT) IS NULL OR actor = $3)
       AND (CAST($4 AS TEXT) IS NULL OR action = $4) AND at_ms >= $5 AND at_ms < $6 ORDER BY id DESC LIMIT $7",
);
static PAGE_OF_TARGET: Statement = Statement::new(
    "SELECT id, at_ms, actor, action, target, before, after, remote FROM audit
     WHERE id < $1 AND target = $2 AND (CAST($3 AS TEXT) IS NULL OR actor = $3)
       AND (CAST($4 AS TEXT) IS NULL OR action = $4) AND at_ms >= $5 AND at_ms < $6 ORDER BY id DESC LIMIT $7",
);
static PAGE_OF_ACTOR: Statement = Statement::new(
    "SELECT id, at_ms, actor, action, target, before, after, remote FROM audit
     WHERE id < $1 AND (CAST($2 AS TEXT) IS NULL OR target = $2) AND actor = $3
       AND (CAST($4 AS TEXT) IS NULL OR action = $4) AND at_ms >= $5 AND at_ms < $6 ORDER BY id DESC LIMIT $7",
);
static PAGE_OF_ACTION: Statement = Statement::new(
    "SELECT id, at_ms, actor, action, target, before, after, remote FROM audit
     WHERE id < $1 AND (CAST($2 AS TEXT) IS NULL OR target = $2) AND (CAST($3 AS TEXT) IS NULL OR actor = $3)
       AND action = $4 AND at_ms >= $5 AND at_ms < $6 ORDER BY id DESC LIMIT $7",
);

/// The newest rows of a target and an action that are not from before `since_ms`, at most `limit`.
pub async fn latest(
    tx: &mut Tx<'_>,
    target: &str,
    action: &str,
    since_ms: i64,
    limit: i64,
) -> Result<Vec<AuditRow>, StoreError> {
    let values = values![i64::MAX, target, None::<&str>, action, since_ms, i64::MAX, limit];
    tx.fetch_all(&PAGE_OF_TARGET, values).await?.iter().map(read_row).collect()
}

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

/// At most `limit` rows older than the row `before_id`, the newest first; of those that a filter lets pass.
pub async fn page(
    database: &Database,
    before_id: i64,
    filter: &AuditFilter<'_>,
    limit: i64,
) -> Result<Vec<AuditRow>, StoreError> {
    let AuditFilter { target, actor, action, from_ms, to_ms } = *filter;
    let statement = match (target, actor, action) {
        (Some(_), _, _) => &PAGE_OF_TARGET,
        (_, Some(_), _) => &PAGE_OF_ACTOR,
        (_, _, Some(_)) => &PAGE_OF_ACTION,
        _ => &PAGE,
    };
    let (from_ms, to_ms) = (from_ms.unwrap_or(i64::MIN), to_ms.unwrap_or(i64::MAX));
    let values = values![before_id, target, actor, action, from_ms, to_ms, limit];
    let rows = database.fetch_all(statement, values).await?;
    rows.iter().map(read_row).collect()
}

fn read_row(row: &Row) -> Result<AuditRow, StoreError> {
    let json = |text: Option<String>| text.map(|text| from_json("audit", &text)).transpose();
    Ok(AuditRow {
        id: row.int(0)?,
        at_ms: row.int(1)?,
        actor: row.text(2)?,
        action: row.text(3)?,
        target: row.text(4)?,
        before: json(row.try_text(5)?)?,
        after: json(row.try_text(6)?)?,
        remote: row.text(7)?,
    })
}
