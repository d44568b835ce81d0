//! What can go wrong in the store, named for what a caller can do about it.

/// Why the store did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Two transactions met; the same one may pass when it is run again. [`super::Database::transact`] does so itself,
    /// so a caller sees this only when the database stayed locked.
    #[error("the database is locked by another transaction")]
    Conflict(#[source] sqlx::Error),
    /// The database does not answer. It may later; nothing was changed.
    #[error("the database does not answer")]
    Unavailable(#[source] sqlx::Error),
    /// There is no copy of the database, and so nothing was changed.
    #[error("cannot copy the database to {}", path.display())]
    Backup {
        /// Where the copy was to be.
        path: std::path::PathBuf,
        /// Why not.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The database holds, or was asked, something that this program does not understand. Trying again does not help.
    #[error("the database holds something unexpected: {what}")]
    Corrupt {
        /// What was being read or done.
        what: String,
        /// The cause, where there is one.
        #[source]
        source: Option<Box<dyn std::error::Error + Send + Sync>>,
    },
}

impl StoreError {
    /// A row that cannot be read.
    pub(crate) fn corrupt(
        what: impl Into<String>,
        source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> Self {
        Self::Corrupt { what: what.into(), source: Some(source.into()) }
    }
}

/// SQLite's primary result codes (the low byte of the extended ones): https://www.sqlite.org/rescode.html
const SQLITE_BUSY: i64 = 5;
const SQLITE_LOCKED: i64 = 6;
/// PERM, READONLY, INTERRUPT, IOERR, FULL, CANTOPEN, PROTOCOL: the file's surroundings are at fault, not the statement.
const SQLITE_AWAY: [i64; 7] = [3, 8, 9, 10, 13, 14, 15];

impl From<sqlx::Error> for StoreError {
    fn from(error: sqlx::Error) -> Self {
        let kind = match &error {
            sqlx::Error::Database(database) => {
                let code = database.code().unwrap_or_default().into_owned();
                match database.try_downcast_ref::<sqlx::sqlite::SqliteError>() {
                    Some(_) => sqlite_kind(&code),
                    None => postgres_kind(&code),
                }
            }
            sqlx::Error::Io(_)
            | sqlx::Error::Tls(_)
            | sqlx::Error::Protocol(_)
            | sqlx::Error::PoolTimedOut
            | sqlx::Error::PoolClosed
            | sqlx::Error::WorkerCrashed => Kind::Unavailable,
            _ => Kind::Corrupt,
        };
        match kind {
            Kind::Conflict => Self::Conflict(error),
            Kind::Unavailable => Self::Unavailable(error),
            Kind::Corrupt => Self::corrupt("a statement", error),
        }
    }
}

enum Kind {
    Conflict,
    Unavailable,
    Corrupt,
}

fn sqlite_kind(code: &str) -> Kind {
    match code.parse::<i64>().map(|code| code & 0xff) {
        Ok(SQLITE_BUSY | SQLITE_LOCKED) => Kind::Conflict,
        Ok(code) if SQLITE_AWAY.contains(&code) => Kind::Unavailable,
        _ => Kind::Corrupt,
    }
}

/// By SQLSTATE: https://www.postgresql.org/docs/current/errcodes-appendix.html
fn postgres_kind(code: &str) -> Kind {
    match code {
        // serialization_failure, deadlock_detected, lock_not_available
        "40001" | "40P01" | "55P03" => Kind::Conflict,
        // query_canceled (a statement time-out), read_only_sql_transaction (a standby)
        "57014" | "25006" => Kind::Unavailable,
        // connection exception, insufficient resources, operator intervention, system error
        _ if ["08", "53", "57", "58"].iter().any(|class| code.starts_with(class)) => Kind::Unavailable,
        _ => Kind::Corrupt,
    }
}
