//! The last good keys of each issuer that publishes them at an address, and when each is fetched next: replicas share
//! the fetching by these rows.

use serde_json::Value as Json;

use super::statement::Statement;
use super::value::{Row, from_json, to_json, values};
use super::{Database, StoreError, Tx};

/// The keys of one issuer.
#[derive(Debug, Clone, PartialEq)]
pub struct IssuerKeys {
    /// The exact value of the `iss` claim.
    pub issuer: String,
    /// Where the keys come from.
    pub url: String,
    /// The last good JWKS; nothing until the first was fetched.
    pub jwks: Option<Json>,
    /// When it was fetched, Unix ms.
    pub fetched_ms: Option<i64>,
    /// When the next fetch is due, Unix ms.
    pub due_ms: i64,
}

static ALL: Statement =
    Statement::new("SELECT issuer, url, jwks, fetched_ms, due_ms FROM issuer_keys ORDER BY issuer");
static ENSURE: Statement = Statement::new(
    "INSERT INTO issuer_keys (issuer, url, due_ms, tried_ms) VALUES ($1, $2, 0, 0)
     ON CONFLICT (issuer) DO UPDATE SET url = excluded.url, jwks = NULL, fetched_ms = NULL, due_ms = 0, tried_ms = 0
     WHERE issuer_keys.url <> excluded.url",
);
static CLAIM: Statement = Statement::new(
    "UPDATE issuer_keys SET tried_ms = $3, due_ms = $4 WHERE issuer = $1 AND url = $2 AND due_ms <= $3",
);
static ASK: Statement =
    Statement::new("UPDATE issuer_keys SET due_ms = 0 WHERE issuer = $1 AND tried_ms <= $2 AND due_ms > 0");
static LOCK: Statement = Statement::new(
    "SELECT issuer, url, jwks, fetched_ms, due_ms FROM issuer_keys WHERE issuer = $1 AND url = $2 {lock}",
);
static STORE: Statement = Statement::new(
    "UPDATE issuer_keys SET jwks = $3, fetched_ms = $4, due_ms = $5 WHERE issuer = $1 AND url = $2",
);

/// All issuers with an address, also those of earlier policies.
pub async fn all(database: &Database) -> Result<Vec<IssuerKeys>, StoreError> {
    database.fetch_all(&ALL, Vec::new()).await?.iter().map(read_row).collect()
}

/// Makes sure that an issuer's keys are fetched from `url`. Keys that came from another address are dropped.
pub async fn ensure(tx: &mut Tx<'_>, issuer: &str, url: &str) -> Result<(), StoreError> {
    tx.execute(&ENSURE, values![issuer, url]).await.map(drop)
}

/// Takes over the fetch that is due, and puts the next one off to `due_ms`. Answers whether it was still to be had.
pub async fn claim(
    tx: &mut Tx<'_>,
    issuer: &str,
    url: &str,
    now_ms: i64,
    due_ms: i64,
) -> Result<bool, StoreError> {
    Ok(tx.execute(&CLAIM, values![issuer, url, now_ms, due_ms]).await? > 0)
}

/// Asks for a fetch now, unless one was tried after `tried_before_ms`. Answers whether one will be made.
pub async fn ask(tx: &mut Tx<'_>, issuer: &str, tried_before_ms: i64) -> Result<bool, StoreError> {
    Ok(tx.execute(&ASK, values![issuer, tried_before_ms]).await? > 0)
}

/// Locks and reads the keys of an issuer until the transaction ends.
pub async fn lock(tx: &mut Tx<'_>, issuer: &str, url: &str) -> Result<Option<IssuerKeys>, StoreError> {
    tx.fetch_first(&LOCK, values![issuer, url]).await?.map(|row| read_row(&row)).transpose()
}

/// Stores keys that were fetched.
pub async fn store(
    tx: &mut Tx<'_>,
    issuer: &str,
    url: &str,
    jwks: &Json,
    now_ms: i64,
    due_ms: i64,
) -> Result<(), StoreError> {
    let jwks = to_json("keys", jwks)?;
    tx.execute(&STORE, values![issuer, url, jwks, now_ms, due_ms]).await.map(drop)
}

fn read_row(row: &Row) -> Result<IssuerKeys, StoreError> {
    Ok(IssuerKeys {
        issuer: row.text(0)?,
        url: row.text(1)?,
        jwks: row.try_text(2)?.map(|text| from_json("keys", &text)).transpose()?,
        fetched_ms: row.try_int(3)?,
        due_ms: row.int(4)?,
    })
}
