//! Events: what happened and was to be told to anyone, each once. Who is told is in [`super::event_endpoints`], how that
//! went in [`super::event_deliveries`].

use serde::Serialize;

use super::statement::Statement;
use super::value::{Row, from_json, json_rows, values};
use super::{Database, StoreError, Tx};

/// An event.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct EventRow {
    /// In the order of time.
    pub id: String,
    /// Such as `tier.changed`.
    #[serde(rename = "type")]
    pub kind: String,
    /// Whom it concerns, where it concerns a subject.
    pub subject: Option<String>,
    /// What makes it the same event.
    pub once: String,
    /// Until then (Unix ms) it may happen again and must be known.
    pub keep_until_ms: i64,
    /// When it happened, Unix ms.
    pub created_ms: i64,
    /// The body as it is signed and sent.
    pub body: String,
}

/// An endpoint that is told events, as noting one needs it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listener {
    /// The endpoint.
    pub endpoint: String,
    /// Types that it is told; none: all.
    pub types: Vec<String>,
}

/// An event that an endpoint is to be told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Due<'a> {
    /// The event.
    pub event: &'a str,
    /// The endpoint.
    pub endpoint: &'a str,
}

static LISTENERS: Statement =
    Statement::new("SELECT id, types FROM event_endpoints WHERE disabled_ms IS NULL ORDER BY id");
static INSERT: Statement = Statement::new(
    "INSERT INTO events (id, type, subject, once, keep_until_ms, created_ms, body)
     SELECT r.id, r.type, r.subject, r.once, r.keep_until_ms, r.created_ms, r.body
     FROM {rows $1 r id text, type text, subject text, once text, keep_until_ms bigint, created_ms bigint, body text}
     WHERE true ORDER BY r.once
     ON CONFLICT DO NOTHING RETURNING id",
);
static ENQUEUE: Statement = Statement::new(
    "INSERT INTO event_deliveries (event, endpoint, state, next_ms)
     SELECT r.event, r.endpoint, 'pending', CAST($2 AS BIGINT) FROM {rows $1 r event text, endpoint text} WHERE true
     ON CONFLICT (event, endpoint) DO NOTHING",
);
static PAGE: Statement = Statement::new(
    "SELECT id, type, subject, once, keep_until_ms, created_ms, body FROM events
     WHERE id < $1 AND (CAST($2 AS TEXT) IS NULL OR type = $2) AND (CAST($3 AS TEXT) IS NULL OR subject = $3)
     ORDER BY id DESC LIMIT $4",
);
static READ: Statement = Statement::new(
    "SELECT id, type, subject, once, keep_until_ms, created_ms, body FROM events WHERE id = $1",
);
static PRUNE: Statement = Statement::new(
    "DELETE FROM events WHERE id IN (SELECT id FROM events WHERE id < $1 AND keep_until_ms < $2 LIMIT $3)",
);

/// The endpoints that are told anything now.
pub async fn listeners(tx: &mut Tx<'_>) -> Result<Vec<Listener>, StoreError> {
    let rows = tx.fetch_all(&LISTENERS, Vec::new()).await?;
    rows.iter()
        .map(|row| {
            let types = from_json("an endpoint's types", &row.text(1)?)?;
            Ok(Listener { endpoint: row.text(0)?, types })
        })
        .collect()
}

/// Adds those of `events` that are not known yet, all in one statement; answers their ids.
pub async fn insert(tx: &mut Tx<'_>, events: &[EventRow]) -> Result<Vec<String>, StoreError> {
    tx.fetch_all(&INSERT, values![json_rows(&events)?]).await?.iter().map(|row| row.text(0)).collect()
}

/// Makes deliveries due, all in one statement.
pub async fn enqueue(tx: &mut Tx<'_>, due: &[Due<'_>], now_ms: i64) -> Result<(), StoreError> {
    tx.execute(&ENQUEUE, values![json_rows(&due)?, now_ms]).await.map(drop)
}

/// At most `limit` events older than the event `before`, the newest first; of one type or subject where they are given.
pub async fn page(
    database: &Database,
    before: &str,
    kind: Option<&str>,
    subject: Option<&str>,
    limit: i64,
) -> Result<Vec<EventRow>, StoreError> {
    database.fetch_all(&PAGE, values![before, kind, subject, limit]).await?.iter().map(read_row).collect()
}

/// One event.
pub async fn read(database: &Database, id: &str) -> Result<Option<EventRow>, StoreError> {
    database.fetch_first(&READ, values![id]).await?.map(|row| read_row(&row)).transpose()
}

/// Forgets at most `limit` events before the id `before` that need not be known any more. Answers how many.
pub async fn prune(tx: &mut Tx<'_>, before: &str, now_ms: i64, limit: i64) -> Result<u64, StoreError> {
    tx.execute(&PRUNE, values![before, now_ms, limit]).await
}

fn read_row(row: &Row) -> Result<EventRow, StoreError> {
    Ok(EventRow {
        id: row.text(0)?,
        kind: row.text(1)?,
        subject: row.try_text(2)?,
        once: row.text(3)?,
        keep_until_ms: row.int(4)?,
        created_ms: row.int(5)?,
        body: row.text(6)?,
    })
}
