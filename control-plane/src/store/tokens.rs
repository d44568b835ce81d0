//! Tokens made through the API: kept hashed, so that whoever reads the database cannot use them.

use super::statement::Statement;
use super::value::{Row, values};
use super::{Database, StoreError, Tx};

/// A token, without the token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenRow {
    /// Its public id; the part of the token that is no secret.
    pub id: String,
    /// For people and the audit log.
    pub name: String,
    /// What it may do.
    pub role: String,
    /// SHA-256 of the whole token, hex.
    pub hash: String,
    /// When it was made, Unix ms.
    pub created_ms: i64,
    /// The name of the token it was made with.
    pub created_by: String,
    /// Since when it is worthless, Unix ms.
    pub revoked_ms: Option<i64>,
}

static INSERT: Statement = Statement::new(
    "INSERT INTO tokens (id, name, role, hash, created_ms, created_by) VALUES ($1, $2, $3, $4, $5, $6)",
);
static READ: Statement = Statement::new(
    "SELECT id, name, role, hash, created_ms, created_by, revoked_ms FROM tokens WHERE id = $1",
);
static PAGE: Statement = Statement::new(
    "SELECT id, name, role, hash, created_ms, created_by, revoked_ms FROM tokens
     WHERE id > $1 ORDER BY id LIMIT $2",
);
static REVOKE: Statement =
    Statement::new("UPDATE tokens SET revoked_ms = $2 WHERE id = $1 AND revoked_ms IS NULL");

/// Stores a token.
pub async fn insert(tx: &mut Tx<'_>, token: &TokenRow) -> Result<(), StoreError> {
    let values = values![
        token.id.as_str(),
        token.name.as_str(),
        token.role.as_str(),
        token.hash.as_str(),
        token.created_ms,
        token.created_by.as_str(),
    ];
    tx.execute(&INSERT, values).await.map(drop)
}

/// Reads a token, revoked or not.
pub async fn read(database: &Database, id: &str) -> Result<Option<TokenRow>, StoreError> {
    database.fetch_first(&READ, values![id]).await?.map(|row| read_row(&row)).transpose()
}

/// Reads a token within a transaction.
pub async fn read_in(tx: &mut Tx<'_>, id: &str) -> Result<Option<TokenRow>, StoreError> {
    tx.fetch_first(&READ, values![id]).await?.map(|row| read_row(&row)).transpose()
}

/// At most `limit` tokens after the id `after`, by id.
pub async fn page(database: &Database, after: &str, limit: i64) -> Result<Vec<TokenRow>, StoreError> {
    database.fetch_all(&PAGE, values![after, limit]).await?.iter().map(read_row).collect()
}

/// Makes a token worthless. Answers whether it was not so before.
pub async fn revoke(tx: &mut Tx<'_>, id: &str, now_ms: i64) -> Result<bool, StoreError> {
    Ok(tx.execute(&REVOKE, values![id, now_ms]).await? > 0)
}

fn read_row(row: &Row) -> Result<TokenRow, StoreError> {
    Ok(TokenRow {
        id: row.text(0)?,
        name: row.text(1)?,
        role: row.text(2)?,
        hash: row.text(3)?,
        created_ms: row.int(4)?,
        created_by: row.text(5)?,
        revoked_ms: row.try_int(6)?,
    })
}
