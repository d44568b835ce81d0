//! What is in force: the policy's version, and a revision that rises with every change of the policy or of an issuer's
//! keys.

use super::statement::Statement;
use super::value::values;
use super::{Database, StoreError, Tx};

/// What is in force.
#[derive(Debug, Clone, PartialEq)]
pub struct Configuration {
    /// Rises with every change of the policy or of an issuer's keys.
    pub revision: i64,
    /// Version and document (JSON) of the policy in force, if there ever was one. As text, because a newer program may
    /// have written what this one does not understand.
    pub policy: Option<(i64, String)>,
}

/// How far everything is: one cheap look that tells whether there is anything to read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Pulse {
    /// The newest change.
    pub seq: i64,
    /// The newest configuration.
    pub revision: i64,
}

static READ: Statement = Statement::new(
    "SELECT (SELECT value FROM counters WHERE name = 'configuration'), p.version, p.document
     FROM configuration c LEFT JOIN policies p ON p.version = c.policy_version",
);
static LOCK: Statement = Statement::new("SELECT policy_version FROM configuration WHERE id = 1 {lock}");
static SET: Statement = Statement::new("UPDATE configuration SET policy_version = $1 WHERE id = 1");
static RAISE: Statement =
    Statement::new("UPDATE counters SET value = value + 1 WHERE name = 'configuration' RETURNING value");
static PULSE: Statement = Statement::new(
    "SELECT (SELECT value FROM counters WHERE name = 'changes'),
            (SELECT value FROM counters WHERE name = 'configuration')",
);

/// Reads what is in force.
pub async fn read(database: &Database) -> Result<Configuration, StoreError> {
    let row = database.fetch_first(&READ, Vec::new()).await?;
    let row = row.ok_or_else(|| StoreError::Corrupt { what: "no configuration".to_owned(), source: None })?;
    let policy = match (row.try_int(1)?, row.try_text(2)?) {
        (Some(version), Some(document)) => Some((version, document)),
        _ => None,
    };
    Ok(Configuration { revision: row.int(0)?, policy })
}

/// Locks the configuration until the transaction ends; answers the version of the policy in force.
pub async fn lock(tx: &mut Tx<'_>) -> Result<Option<i64>, StoreError> {
    let row = tx.fetch_first(&LOCK, Vec::new()).await?;
    row.map_or(Ok(None), |row| row.try_int(0))
}

/// Puts a version in force. Raise the revision with it.
pub async fn set_policy(tx: &mut Tx<'_>, version: i64) -> Result<(), StoreError> {
    tx.execute(&SET, values![version]).await.map(drop)
}

/// Raises the revision; answers the new one.
pub async fn raise(tx: &mut Tx<'_>) -> Result<i64, StoreError> {
    let row = tx.fetch_first(&RAISE, Vec::new()).await?;
    row.ok_or_else(|| StoreError::Corrupt { what: "no configuration counter".to_owned(), source: None })?
        .int(0)
}

/// How far everything is.
pub async fn pulse(database: &Database) -> Result<Pulse, StoreError> {
    let row = database.fetch_first(&PULSE, Vec::new()).await?;
    let row = row.ok_or_else(|| StoreError::Corrupt { what: "no counters".to_owned(), source: None })?;
    Ok(Pulse { seq: row.int(0)?, revision: row.int(1)? })
}
