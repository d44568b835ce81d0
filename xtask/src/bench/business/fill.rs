//! A database that has grown: written by SQL into the tables that the program has made, since a year of requests takes a
//! year. What is written is what the program itself would have.

use std::str::FromStr as _;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, ensure};
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection, SqliteJournalMode, SqliteSynchronous};
use sqlx::{Connection as _, Row as _};

use crate::progress::note;

/// Rows that are written in one transaction.
const CHUNK: u64 = 1_000_000;

const HOUR_MS: i64 = 3_600_000;
const DAY_MS: i64 = 24 * HOUR_MS;

/// What there is afterwards.
pub struct Filled {
    pub subjects: u64,
    pub usage: u64,
}

/// `$1` subjects; every second one has bought `pro`, of which one in ten was cancelled. Those who bought did so on
/// different days of the last year.
const SUBJECTS: &str = "
    WITH RECURSIVE n (i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i + 1 < $1)
    INSERT INTO subjects (subject, subscription, subscription_tier, subscription_state, subscription_revision, updated_ms)
    SELECT 'user:bench-' || i,
        CASE WHEN i % 2 = 0 THEN json_object(
            'tier', 'pro', 'state', CASE WHEN i % 20 = 0 THEN 'cancelled' ELSE 'active' END,
            'anchor_ms', $2 - (i % 365) * 86400000) END,
        CASE WHEN i % 2 = 0 THEN 'pro' END,
        CASE WHEN i % 20 = 0 THEN 'cancelled' WHEN i % 2 = 0 THEN 'active' END,
        1 - i % 2, $2 - (i % 365) * 86400000
    FROM n";

/// The last hours of each subject, two meters in each.
const USAGE: &str = "
    WITH RECURSIVE n (i) AS (SELECT $3 UNION ALL SELECT i + 1 FROM n WHERE i + 1 < $4)
    INSERT INTO usage_hours (subject, hour_ms, meter, labels, session, taken, freed)
    SELECT 'user:bench-' || (i / $1), $2 - (i % $1) / 2 * 3600000,
        CASE i % 2 WHEN 0 THEN 'calls' ELSE 'tokens' END, '', '0000000000000000000000000000be4c', 1 + i % 97, 0
    FROM n";

/// What the writes of the subscriptions would have left behind.
const HISTORY: &[&str] = &[
    "INSERT INTO subscription_history (subject, seq, at_ms, subscription, tier, state)
     SELECT subject, 1, updated_ms, subscription, subscription_tier, subscription_state
     FROM subjects WHERE subscription IS NOT NULL",
    "INSERT INTO subscription_moves (day_ms, from_tier, from_state, to_tier, to_state, count)
     SELECT at_ms - at_ms % 86400000, '', '', tier, state, COUNT(*)
     FROM subscription_history GROUP BY at_ms - at_ms % 86400000, tier, state",
];

/// What edges refused in the last 30 days: one in ten subjects, in as many hours as fit.
const DENIALS: &str = "
    WITH RECURSIVE n (i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i + 1 < $1 * 3)
    INSERT INTO denials (subject, hour_ms, code, limit_name, route, reporter, count)
    SELECT 'user:bench-' || (i % ($1 / 10 + 1)), $2 - i % 720 * 3600000, 'quota-exceeded', 'calls.month', 'default',
        printf('%032x', i / 720), 1 + i % 13
    FROM n WHERE true
    ON CONFLICT DO NOTHING";

/// Fills the database at `url`, which has its tables and no subjects.
pub fn fill(url: &str, subjects: u64, usage: u64) -> Result<Filled> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(write(url, i64::try_from(subjects)?, i64::try_from(usage)?))
}

#[allow(clippy::disallowed_methods, reason = "windows are on the real clock")]
async fn write(url: &str, subjects: i64, usage: i64) -> Result<Filled> {
    // Nothing that is lost here would be missed.
    let options = SqliteConnectOptions::from_str(url)?
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Off)
        .pragma("cache_size", "-512000");
    let mut connection = SqliteConnection::connect_with(&options).await?;
    let now_ms = i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH)?.as_millis())?;
    let (day_ms, hour_ms) = (now_ms / DAY_MS * DAY_MS, now_ms / HOUR_MS * HOUR_MS);
    sqlx::query(SUBJECTS).bind(subjects).bind(day_ms).execute(&mut connection).await.context("subjects")?;
    for statement in HISTORY {
        sqlx::query(*statement).execute(&mut connection).await.context("history")?;
    }
    sqlx::query(DENIALS).bind(subjects).bind(hour_ms).execute(&mut connection).await.context("denials")?;
    let each = (usage / subjects.max(1)).max(2);
    let rows = each * subjects;
    let chunk = i64::try_from(CHUNK)?;
    let mut from = 0;
    while from < rows {
        let to = rows.min(from + chunk);
        sqlx::query(USAGE)
            .bind(each)
            .bind(hour_ms)
            .bind(from)
            .bind(to)
            .execute(&mut connection)
            .await
            .context("usage")?;
        note(&format!("{to} of {rows} rows of usage"));
        from = to;
    }
    let count = |table: &'static str| sqlx::query(table);
    let found: i64 = count("SELECT COUNT(*) FROM usage_hours").fetch_one(&mut connection).await?.get(0);
    ensure!(found == rows, "{found} rows of usage, not {rows}");
    sqlx::query("PRAGMA wal_checkpoint(TRUNCATE)").execute(&mut connection).await?;
    connection.close().await?;
    Ok(Filled { subjects: u64::try_from(subjects)?, usage: u64::try_from(rows)? })
}
