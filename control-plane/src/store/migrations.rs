//! The tables' versions: brought up to date when a database is opened, after a backup where the database is a file, and
//! taken back where an operator goes back to an earlier release.
//!
//! Each migration has a `.down.sql` beside it that undoes it; its comment says what is lost.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use sqlx::Row as _;
use sqlx::migrate::{MigrateError, Migration, Migrator};

use super::database::Pools;
use super::earlier::{LIFECYCLE_VERSION, shorten_subscriptions};
use super::{Database, StoreError};

static MIGRATIONS: Migrator = sqlx::migrate!();

/// How many backups of one version are kept beside each other; more mean that something else is wrong.
const BACKUPS_MAX: u32 = 100;

/// A version of the tables.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableVersion {
    /// Its number, from 1.
    pub version: i64,
    /// Its name.
    pub name: String,
    /// Whether the database has it.
    pub applied: bool,
    /// What reverting it loses.
    pub lost: String,
}

/// The newest version that this program knows.
pub fn newest_version() -> i64 {
    ups().map(|migration| migration.version).max().unwrap_or_default()
}

fn ups() -> impl Iterator<Item = &'static Migration> {
    MIGRATIONS.iter().filter(|migration| migration.migration_type.is_up_migration())
}

impl Database {
    /// Brings the tables up to date.
    pub(super) async fn migrate(&self) -> Result<(), StoreError> {
        self.back_up_before_migration().await?;
        let done = match &self.pools {
            Pools::Sqlite { write, .. } => MIGRATIONS.run(write).await,
            Pools::Postgres(pool) => MIGRATIONS.run(pool).await,
        };
        done.map_err(migration_error)
    }

    /// All versions that this program knows, and which of them the database has.
    pub async fn table_versions(&self) -> Result<Vec<TableVersion>, StoreError> {
        let applied = self.applied().await?;
        let down = |version| {
            MIGRATIONS.iter().find(|m| m.version == version && m.migration_type.is_down_migration())
        };
        let version = |migration: &Migration| TableVersion {
            version: migration.version,
            name: migration.description.clone().into_owned(),
            applied: applied.contains(&migration.version),
            lost: down(migration.version).map(|down| comment(down.sql.as_str())).unwrap_or_default(),
        };
        Ok(ups().map(version).collect())
    }

    /// Fails unless the database has exactly the tables that this program knows.
    pub async fn expect_newest(&self) -> Result<(), StoreError> {
        let applied = self.applied().await?;
        if applied == ups().map(|migration| migration.version).collect() {
            return Ok(());
        }
        let (found, newest) = (applied.last().copied().unwrap_or_default(), newest_version());
        let what = format!(
            "its tables are of version {found}, and this program's of {newest}; use the release that serves it, or \
             start `tollgate serve` of this one on it first"
        );
        Err(StoreError::Corrupt { what, source: None })
    }

    /// Takes the tables back to a version: undoes all that came after it. Nothing else may use the database.
    pub async fn revert(&self, version: i64) -> Result<(), StoreError> {
        if version < LIFECYCLE_VERSION && self.applied().await?.contains(&LIFECYCLE_VERSION) {
            shorten_subscriptions(self).await?;
        }
        let done = match &self.pools {
            Pools::Sqlite { write, .. } => MIGRATIONS.undo(write, version).await,
            Pools::Postgres(pool) => MIGRATIONS.undo(pool, version).await,
        };
        done.map_err(migration_error)
    }

    /// Copies the database into a new file, as it is at one moment; others may go on using it. Only of SQLite: answers
    /// whether it is one. Fails when the file is there already.
    pub async fn back_up(&self, to: &Path) -> Result<bool, StoreError> {
        let Pools::Sqlite { write, .. } = &self.pools else {
            return Ok(false);
        };
        let failed =
            |source: std::io::Error| StoreError::Backup { path: to.to_owned(), source: source.into() };
        // It holds what the database holds, secrets too: for its owner alone. SQLite copies into an empty file as well.
        let mut options = std::fs::OpenOptions::new();
        options.write(true).create_new(true);
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        options.open(to).map_err(failed)?;
        let copied =
            sqlx::query("VACUUM INTO $1").bind(to.to_string_lossy().into_owned()).execute(write).await;
        if let Err(source) = copied {
            // A part of a copy is worth nothing.
            let _ = std::fs::remove_file(to);
            return Err(StoreError::Backup { path: to.to_owned(), source: source.into() });
        }
        // SQLite leaves that to us: https://www.sqlite.org/lang_vacuum.html
        std::fs::File::open(to).and_then(|file| file.sync_all()).map_err(failed)?;
        Ok(true)
    }

    /// Keeps a copy of a file that has data and is about to get other tables.
    async fn back_up_before_migration(&self) -> Result<(), StoreError> {
        let Some(file) = self.file().await? else {
            return Ok(());
        };
        if !self.is_behind().await? {
            return Ok(());
        }
        let version = newest_version();
        let path = |end: &str| {
            let mut name = file.as_os_str().to_owned();
            name.push(format!(".before-{version}{end}"));
            PathBuf::from(name)
        };
        static COPIES: AtomicU32 = AtomicU32::new(0);
        let copy = COPIES.fetch_add(1, Ordering::Relaxed);
        let partial = path(&format!(".{}-{copy}.partial", std::process::id()));
        // Of an earlier process with this id, that was killed.
        let _ = std::fs::remove_file(&partial);
        self.back_up(&partial).await?;
        let kept = match self.is_behind().await? {
            true => keep(&partial, path),
            // Another process brought it up to date meanwhile, so this may be no copy of what was before.
            false => Ok(None),
        };
        let _ = std::fs::remove_file(&partial);
        let kept = kept.map_err(|source| StoreError::Backup { path: partial, source: source.into() })?;
        if let Some(kept) = kept {
            tracing::info!(backup = %kept.display(), version, "kept a copy before the tables change");
        }
        Ok(())
    }

    /// Whether the database has tables, and not all that this program knows.
    async fn is_behind(&self) -> Result<bool, StoreError> {
        let applied = self.applied().await?;
        Ok(!applied.is_empty() && ups().any(|migration| !applied.contains(&migration.version)))
    }

    /// The file of SQLite's, unless the database is in memory.
    pub async fn file(&self) -> Result<Option<PathBuf>, StoreError> {
        let Pools::Sqlite { write, .. } = &self.pools else {
            return Ok(None);
        };
        let query = sqlx::query("SELECT file FROM pragma_database_list WHERE name = 'main'");
        let file: String = query.fetch_one(write).await?.try_get(0)?;
        Ok((!file.is_empty()).then(|| file.into()))
    }

    /// The versions that the database has; none of one without tables.
    async fn applied(&self) -> Result<BTreeSet<i64>, StoreError> {
        const APPLIED: &str = "SELECT version FROM _sqlx_migrations ORDER BY version";
        let versions: Vec<i64> = match &self.pools {
            Pools::Sqlite { write, .. } => {
                let there = "SELECT EXISTS (SELECT 1 FROM sqlite_master WHERE name = '_sqlx_migrations')";
                match sqlx::query_scalar(there).fetch_one(write).await? {
                    true => sqlx::query_scalar(APPLIED).fetch_all(write).await?,
                    false => Vec::new(),
                }
            }
            Pools::Postgres(pool) => {
                let there = "SELECT to_regclass('_sqlx_migrations') IS NOT NULL";
                match sqlx::query_scalar(there).fetch_one(pool).await? {
                    true => sqlx::query_scalar(APPLIED).fetch_all(pool).await?,
                    false => Vec::new(),
                }
            }
        };
        Ok(versions.into_iter().collect())
    }
}

/// Gives the copy a name that nothing has.
fn keep(partial: &Path, path: impl Fn(&str) -> PathBuf) -> std::io::Result<Option<PathBuf>> {
    for number in 1..=BACKUPS_MAX {
        let name = match number {
            1 => path(".backup"),
            number => path(&format!(".{number}.backup")),
        };
        // A link, since renaming would replace what is there.
        match std::fs::hard_link(partial, &name) {
            Ok(()) => return Ok(Some(name)),
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
            // There are file systems without links.
            Err(_) if !name.exists() => return std::fs::rename(partial, &name).map(|()| Some(name)),
            Err(error) => return Err(error),
        }
    }
    Err(std::io::ErrorKind::AlreadyExists.into())
}

/// The comment that a text of SQL begins with.
fn comment(sql: &str) -> String {
    let lines = sql.lines().map_while(|line| line.strip_prefix("--"));
    lines.map(str::trim).collect::<Vec<_>>().join(" ")
}

fn migration_error(error: MigrateError) -> StoreError {
    match error {
        MigrateError::Execute(error) | MigrateError::ExecuteMigration(error, _) => error.into(),
        other => StoreError::corrupt("the tables' versions", other),
    }
}
