//! The database: SQLite in a file (or in memory), or PostgreSQL by URL, and transactions that run again when they met
//! another one.

use std::marker::PhantomData;
use std::pin::Pin;
use std::str::FromStr;
use std::time::Duration;

use sqlx::postgres::{PgConnectOptions, PgPool, PgPoolOptions};
use sqlx::sqlite::{
    SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteSynchronous,
};
use sqlx::{Postgres, Sqlite, Transaction};

use super::StoreError;
use super::statement::{Dialect, Statement};
use super::value::{Row, Value};

/// Most connections to PostgreSQL of one control plane. A sync is bounded by the processor, not by connections.
const POSTGRES_CONNECTIONS_MAX: u32 = 16;

/// Most connections that read SQLite. There is one more that writes: SQLite has one writer anyway, and waiting for it
/// in our own queue is fairer and cheaper than in SQLite's busy loop.
const SQLITE_READERS_MAX: u32 = 4;

/// How long a request waits for a connection, or for its turn to write to SQLite, before it gets 503. One whose caller
/// has given up does not wait any longer: it is dropped.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(3);

/// How long SQLite waits for a lock that another process holds; three attempts end before an edge gives up.
const BUSY_TIMEOUT: Duration = Duration::from_millis(400);

/// How often a transaction is run before its conflict is told to the caller.
const ATTEMPTS_MAX: u32 = 3;

/// How long PostgreSQL may take for one statement, and how long it waits for a lock, ms.
const STATEMENT_TIMEOUT_MS: &str = "10000";
const LOCK_TIMEOUT_MS: &str = "1000";

/// A database. Cheap to clone: all clones share the connections.
#[derive(Debug, Clone)]
pub struct Database {
    pub(super) pools: Pools,
}

#[derive(Debug, Clone)]
pub(super) enum Pools {
    Sqlite { write: SqlitePool, read: SqlitePool },
    Postgres(PgPool),
}

/// A transaction that writes. Rolled back when dropped. `'env` is what its work may borrow from around it.
#[derive(Debug)]
pub struct Tx<'env> {
    inner: Inner,
    scope: PhantomData<&'env ()>,
}

/// Work in a transaction, on its way. Boxed, because the compiler cannot yet see that an `AsyncFn`'s futures are `Send`.
pub type Work<'t, T, E> = Pin<Box<dyn Future<Output = Result<T, E>> + Send + 't>>;

#[derive(Debug)]
enum Inner {
    Sqlite(Transaction<'static, Sqlite>),
    Postgres(Transaction<'static, Postgres>),
}

impl Database {
    /// Opens the database of a URL (`sqlite://FILE`, `sqlite::memory:`, `postgres://…`) and brings its tables up to date.
    pub async fn open(url: &str) -> Result<Self, StoreError> {
        if url.starts_with("postgres:") || url.starts_with("postgresql:") {
            let database = Self::open_postgres(url).await?;
            database.migrate().await?;
            return Ok(database);
        }
        // PostgreSQL lets one replica migrate and the others wait. SQLite lets two processes that start at once on a new
        // file trip over each other's journal or tables; the second finds them done when it looks again.
        let mut attempt = 1;
        loop {
            let opened = match Self::open_sqlite(url).await {
                Ok(database) => database.migrate().await.map(|()| database),
                Err(error) => Err(error),
            };
            if opened.is_ok() || attempt == ATTEMPTS_MAX {
                return opened;
            }
            tokio::time::sleep(BUSY_TIMEOUT).await;
            attempt += 1;
        }
    }

    /// Opens a database that is there, and leaves its tables as they are.
    pub async fn open_unchanged(url: &str) -> Result<Self, StoreError> {
        match url.starts_with("postgres:") || url.starts_with("postgresql:") {
            true => Self::open_postgres(url).await,
            false => {
                Self::open_sqlite_with(SqliteConnectOptions::from_str(url)?.create_if_missing(false)).await
            }
        }
    }

    async fn open_postgres(url: &str) -> Result<Self, StoreError> {
        let options = PgConnectOptions::from_str(url)?
            .application_name("tollgate")
            .options([("statement_timeout", STATEMENT_TIMEOUT_MS), ("lock_timeout", LOCK_TIMEOUT_MS)]);
        let pool = PgPoolOptions::new()
            .max_connections(POSTGRES_CONNECTIONS_MAX)
            .acquire_timeout(ACQUIRE_TIMEOUT)
            .connect_with(options)
            .await?;
        Ok(Self { pools: Pools::Postgres(pool) })
    }

    async fn open_sqlite(url: &str) -> Result<Self, StoreError> {
        Self::open_sqlite_with(SqliteConnectOptions::from_str(url)?.create_if_missing(true)).await
    }

    async fn open_sqlite_with(options: SqliteConnectOptions) -> Result<Self, StoreError> {
        let options = options
            .journal_mode(SqliteJournalMode::Wal)
            // In WAL mode NORMAL survives a killed process, but a power cut may undo the last commits. An edge that was
            // granted units in one of them would use them, and a second edge would be granted them again. So FULL: one
            // flush for each commit, that is, for each batch of a sync.
            .synchronous(SqliteSynchronous::Full)
            .busy_timeout(BUSY_TIMEOUT)
            .foreign_keys(true);
        let pool = |connections: u32| {
            SqlitePoolOptions::new()
                .max_connections(connections)
                .acquire_timeout(ACQUIRE_TIMEOUT)
                .idle_timeout(None)
                .max_lifetime(None)
        };
        let write = pool(1).connect_with(options.clone()).await?;
        // A database in memory lives in its one connection.
        let read = match options.get_filename().to_string_lossy().contains("memory") {
            true => write.clone(),
            false => pool(SQLITE_READERS_MAX).connect_lazy_with(options),
        };
        Ok(Self { pools: Pools::Sqlite { write, read } })
    }

    /// The name of the kind of database, for people.
    pub fn kind(&self) -> &'static str {
        match self.dialect() {
            Dialect::Sqlite => "sqlite",
            Dialect::Postgres => "postgres",
        }
    }

    fn dialect(&self) -> Dialect {
        match &self.pools {
            Pools::Sqlite { .. } => Dialect::Sqlite,
            Pools::Postgres(_) => Dialect::Postgres,
        }
    }

    /// Whether the database answers.
    pub async fn ping(&self) -> Result<(), StoreError> {
        static PING: Statement = Statement::new("SELECT value FROM counters WHERE name = 'configuration'");
        self.fetch_all(&PING, Vec::new()).await.map(drop)
    }

    /// Closes all connections, after the transactions that run.
    pub async fn close(&self) {
        match &self.pools {
            Pools::Sqlite { write, read } => {
                read.close().await;
                write.close().await;
            }
            Pools::Postgres(pool) => pool.close().await,
        }
    }

    /// Runs `work` in a transaction and commits it. `work` **may run twice**: it is run again from the start when the
    /// database says that it met another transaction. So it must have no effect but through its [`Tx`].
    pub async fn transact<'env, T, E, W>(&self, name: &'static str, work: W) -> Result<T, E>
    where
        E: From<StoreError> + Retry,
        W: for<'t> Fn(&'t mut Tx<'env>) -> Work<'t, T, E>,
    {
        let mut attempt = 1;
        loop {
            let error = match self.attempt(&work).await {
                Ok(done) => return Ok(done),
                Err(error) => error,
            };
            if !error.is_conflict() || attempt == ATTEMPTS_MAX {
                return Err(error);
            }
            tracing::debug!(transaction = name, attempt, "met another transaction, running again");
            tokio::time::sleep(Duration::from_millis(u64::from(attempt) * 10)).await;
            attempt += 1;
        }
    }

    async fn attempt<'env, T, E, W>(&self, work: &W) -> Result<T, E>
    where
        E: From<StoreError>,
        W: for<'t> Fn(&'t mut Tx<'env>) -> Work<'t, T, E>,
    {
        let mut tx = self.begin().await?;
        let done = work(&mut tx).await?;
        tx.commit().await?;
        Ok(done)
    }

    async fn begin<'env>(&self) -> Result<Tx<'env>, StoreError> {
        let inner = match &self.pools {
            // IMMEDIATE: take the write lock now, since one that starts by reading cannot always get it later.
            Pools::Sqlite { write, .. } => Inner::Sqlite(write.begin_with("BEGIN IMMEDIATE").await?),
            Pools::Postgres(pool) => Inner::Postgres(pool.begin().await?),
        };
        Ok(Tx { inner, scope: PhantomData })
    }

    /// A transaction that only reads, and sees the database as it is when it first does so.
    pub(super) async fn snapshot<'env>(&self) -> Result<Tx<'env>, StoreError> {
        let inner = match &self.pools {
            Pools::Sqlite { read, .. } => Inner::Sqlite(read.begin_with("BEGIN").await?),
            Pools::Postgres(pool) => {
                Inner::Postgres(pool.begin_with("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY").await?)
            }
        };
        Ok(Tx { inner, scope: PhantomData })
    }

    /// Rows of a statement that only reads, outside of any transaction.
    pub(super) async fn fetch_all(
        &self,
        statement: &'static Statement,
        values: Vec<Value>,
    ) -> Result<Vec<Row>, StoreError> {
        let text = statement.text(self.dialect());
        match &self.pools {
            Pools::Sqlite { read, .. } => {
                let rows = bind_sqlite(text, values).fetch_all(read).await?;
                Ok(rows.into_iter().map(Row::Sqlite).collect())
            }
            Pools::Postgres(pool) => {
                let rows = bind_postgres(text, values).fetch_all(pool).await?;
                Ok(rows.into_iter().map(Row::Postgres).collect())
            }
        }
    }

    /// The first row of a statement that only reads.
    pub(super) async fn fetch_first(
        &self,
        statement: &'static Statement,
        values: Vec<Value>,
    ) -> Result<Option<Row>, StoreError> {
        Ok(self.fetch_all(statement, values).await?.into_iter().next())
    }
}

impl Tx<'_> {
    async fn commit(self) -> Result<(), StoreError> {
        match self.inner {
            Inner::Sqlite(tx) => tx.commit().await?,
            Inner::Postgres(tx) => tx.commit().await?,
        }
        Ok(())
    }

    /// Begins a part of the transaction that can be undone alone. Not after an error of the database.
    pub async fn begin_part(&mut self) -> Result<(), StoreError> {
        static BEGIN: Statement = Statement::new("SAVEPOINT part");
        self.execute(&BEGIN, Vec::new()).await.map(drop)
    }

    /// Ends the part: keeps it or undoes it.
    pub async fn end_part(&mut self, keep: bool) -> Result<(), StoreError> {
        static UNDO: Statement = Statement::new("ROLLBACK TO SAVEPOINT part");
        static END: Statement = Statement::new("RELEASE SAVEPOINT part");
        if !keep {
            self.execute(&UNDO, Vec::new()).await?;
        }
        self.execute(&END, Vec::new()).await.map(drop)
    }

    /// Whether rows must be made before they can be locked: where several transactions write at a time.
    pub(super) fn has_many_writers(&self) -> bool {
        matches!(self.inner, Inner::Postgres(_))
    }

    /// Runs a statement; answers how many rows it changed.
    pub(super) async fn execute(
        &mut self,
        statement: &'static Statement,
        values: Vec<Value>,
    ) -> Result<u64, StoreError> {
        let changed = match &mut self.inner {
            Inner::Sqlite(tx) => {
                let text = statement.text(Dialect::Sqlite);
                bind_sqlite(text, values).execute(&mut **tx).await?.rows_affected()
            }
            Inner::Postgres(tx) => {
                let text = statement.text(Dialect::Postgres);
                bind_postgres(text, values).execute(&mut **tx).await?.rows_affected()
            }
        };
        Ok(changed)
    }

    /// Rows of a statement.
    pub(super) async fn fetch_all(
        &mut self,
        statement: &'static Statement,
        values: Vec<Value>,
    ) -> Result<Vec<Row>, StoreError> {
        match &mut self.inner {
            Inner::Sqlite(tx) => {
                let text = statement.text(Dialect::Sqlite);
                let rows = bind_sqlite(text, values).fetch_all(&mut **tx).await?;
                Ok(rows.into_iter().map(Row::Sqlite).collect())
            }
            Inner::Postgres(tx) => {
                let text = statement.text(Dialect::Postgres);
                let rows = bind_postgres(text, values).fetch_all(&mut **tx).await?;
                Ok(rows.into_iter().map(Row::Postgres).collect())
            }
        }
    }

    /// The first row of a statement.
    pub(super) async fn fetch_first(
        &mut self,
        statement: &'static Statement,
        values: Vec<Value>,
    ) -> Result<Option<Row>, StoreError> {
        Ok(self.fetch_all(statement, values).await?.into_iter().next())
    }
}

/// Says whether running the same transaction again may help.
pub trait Retry {
    /// Whether two transactions met.
    fn is_conflict(&self) -> bool;
}

impl Retry for StoreError {
    fn is_conflict(&self) -> bool {
        matches!(self, Self::Conflict(_))
    }
}

type SqliteQuery = sqlx::query::Query<'static, Sqlite, sqlx::sqlite::SqliteArguments>;
type PostgresQuery = sqlx::query::Query<'static, Postgres, sqlx::postgres::PgArguments>;

fn bind_sqlite(text: &'static str, values: Vec<Value>) -> SqliteQuery {
    values.into_iter().fold(sqlx::query(text), |query, value| match value {
        Value::Int(value) => query.bind(value),
        Value::Text(value) => query.bind(value),
    })
}

fn bind_postgres(text: &'static str, values: Vec<Value>) -> PostgresQuery {
    values.into_iter().fold(sqlx::query(text), |query, value| match value {
        Value::Int(value) => query.bind(value),
        Value::Text(value) => query.bind(value),
    })
}
