//! Where events are told: addresses with what they are signed with.

use serde::{Deserialize, Serialize};

use super::statement::Statement;
use super::value::{Row, from_json, to_json, values};
use super::{Database, StoreError, Tx};

/// An endpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EndpointRow {
    /// Its id.
    pub id: String,
    /// Where it is told.
    pub url: String,
    /// For people.
    pub description: Option<String>,
    /// Types that it is told; none: all.
    pub types: Vec<String>,
    /// What is signed with, the newest first.
    pub secrets: Vec<StoredSecret>,
    /// Since when it is told nothing any more, Unix ms.
    pub disabled_ms: Option<i64>,
    /// Why.
    pub disabled_because: Option<String>,
    /// Since when nothing has arrived though it was tried, Unix ms.
    pub failing_ms: Option<i64>,
    /// When it was made, Unix ms.
    pub created_ms: i64,
    /// The name of the token it was made with.
    pub created_by: String,
}

/// A secret as it is stored: it signs, so that a hash of it would not do.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredSecret {
    /// `whsec_` and base64.
    pub secret: String,
    /// From then on (Unix ms) it signs no more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_ms: Option<i64>,
}

impl std::fmt::Debug for StoredSecret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "StoredSecret(until {:?})", self.expires_ms)
    }
}

static INSERT: Statement = Statement::new(
    "INSERT INTO event_endpoints (id, url, description, types, secrets, created_ms, created_by)
     VALUES ($1, $2, $3, $4, $5, $6, $7)",
);
static UPDATE: Statement = Statement::new(
    "UPDATE event_endpoints SET url = $2, description = $3, types = $4, secrets = $5, disabled_ms = $6,
         disabled_because = $7, failing_ms = $8
     WHERE id = $1",
);
static COUNT: Statement = Statement::new("SELECT COUNT(*) FROM event_endpoints");
static READ: Statement = Statement::new(
    "SELECT id, url, description, types, secrets, disabled_ms, disabled_because, failing_ms, created_ms, created_by
     FROM event_endpoints WHERE id = $1",
);
static LOCK: Statement = Statement::new(
    "SELECT id, url, description, types, secrets, disabled_ms, disabled_because, failing_ms, created_ms, created_by
     FROM event_endpoints WHERE id = $1 {lock}",
);
static PAGE: Statement = Statement::new(
    "SELECT id, url, description, types, secrets, disabled_ms, disabled_because, failing_ms, created_ms, created_by
     FROM event_endpoints WHERE id > $1 ORDER BY id LIMIT $2",
);
static DELETE: Statement = Statement::new("DELETE FROM event_endpoints WHERE id = $1");
static WORKS: Statement =
    Statement::new("UPDATE event_endpoints SET failing_ms = NULL WHERE id = $1 AND failing_ms IS NOT NULL");
static FAILS: Statement =
    Statement::new("UPDATE event_endpoints SET failing_ms = $2 WHERE id = $1 AND failing_ms IS NULL");
static DISABLE: Statement = Statement::new(
    "UPDATE event_endpoints SET disabled_ms = $2, disabled_because = $3 WHERE id = $1 AND disabled_ms IS NULL",
);

/// Stores a new endpoint.
pub async fn insert(tx: &mut Tx<'_>, endpoint: &EndpointRow) -> Result<(), StoreError> {
    let (types, secrets) = texts(endpoint)?;
    let values = values![
        endpoint.id.as_str(),
        endpoint.url.as_str(),
        endpoint.description.as_deref(),
        types,
        secrets,
        endpoint.created_ms,
        endpoint.created_by.as_str(),
    ];
    tx.execute(&INSERT, values).await.map(drop)
}

/// Writes all that may change of an endpoint. It is locked.
pub async fn update(tx: &mut Tx<'_>, endpoint: &EndpointRow) -> Result<(), StoreError> {
    let (types, secrets) = texts(endpoint)?;
    let values = values![
        endpoint.id.as_str(),
        endpoint.url.as_str(),
        endpoint.description.as_deref(),
        types,
        secrets,
        endpoint.disabled_ms,
        endpoint.disabled_because.as_deref(),
        endpoint.failing_ms,
    ];
    tx.execute(&UPDATE, values).await.map(drop)
}

/// How many there are.
pub async fn count(tx: &mut Tx<'_>) -> Result<i64, StoreError> {
    tx.fetch_first(&COUNT, Vec::new()).await?.map_or(Ok(0), |row| row.int(0))
}

/// Reads an endpoint.
pub async fn read(database: &Database, id: &str) -> Result<Option<EndpointRow>, StoreError> {
    database.fetch_first(&READ, values![id]).await?.map(|row| read_row(&row)).transpose()
}

/// Reads an endpoint within a transaction, without locking it.
pub async fn read_in(tx: &mut Tx<'_>, id: &str) -> Result<Option<EndpointRow>, StoreError> {
    tx.fetch_first(&READ, values![id]).await?.map(|row| read_row(&row)).transpose()
}

/// Locks and reads an endpoint.
pub async fn lock(tx: &mut Tx<'_>, id: &str) -> Result<Option<EndpointRow>, StoreError> {
    tx.fetch_first(&LOCK, values![id]).await?.map(|row| read_row(&row)).transpose()
}

/// At most `limit` endpoints after the id `after`, by id.
pub async fn page(database: &Database, after: &str, limit: i64) -> Result<Vec<EndpointRow>, StoreError> {
    database.fetch_all(&PAGE, values![after, limit]).await?.iter().map(read_row).collect()
}

/// Deletes an endpoint. What was to be told to it is forgotten by and by.
pub async fn delete(tx: &mut Tx<'_>, id: &str) -> Result<(), StoreError> {
    tx.execute(&DELETE, values![id]).await.map(drop)
}

/// Something arrived.
pub async fn note_success(tx: &mut Tx<'_>, id: &str) -> Result<(), StoreError> {
    tx.execute(&WORKS, values![id]).await.map(drop)
}

/// Something did not arrive.
pub async fn note_failure(tx: &mut Tx<'_>, id: &str, now_ms: i64) -> Result<(), StoreError> {
    tx.execute(&FAILS, values![id, now_ms]).await.map(drop)
}

/// Tells it nothing from now on. Answers whether it was told before.
pub async fn disable(tx: &mut Tx<'_>, id: &str, now_ms: i64, because: &str) -> Result<bool, StoreError> {
    Ok(tx.execute(&DISABLE, values![id, now_ms, because]).await? > 0)
}

fn texts(endpoint: &EndpointRow) -> Result<(String, String), StoreError> {
    Ok((
        to_json("an endpoint's types", &endpoint.types)?,
        to_json("an endpoint's secrets", &endpoint.secrets)?,
    ))
}

fn read_row(row: &Row) -> Result<EndpointRow, StoreError> {
    Ok(EndpointRow {
        id: row.text(0)?,
        url: row.text(1)?,
        description: row.try_text(2)?,
        types: from_json("an endpoint's types", &row.text(3)?)?,
        secrets: from_json("an endpoint's secrets", &row.text(4)?)?,
        disabled_ms: row.try_int(5)?,
        disabled_because: row.try_text(6)?,
        failing_ms: row.try_int(7)?,
        created_ms: row.int(8)?,
        created_by: row.text(9)?,
    })
}
