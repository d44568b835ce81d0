//! What is worked out now and then from the ledger and from subscriptions, and sums of what was closed and paid. What a page
//! shows is read from small tables; the ledger itself is only read in the background.

use serde::Serialize;

use super::statement::Statement;
use super::value::{json_rows, values};
use super::{Database, StoreError, Tx};

/// Who used how much of a meter in a period.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TopRow {
    /// The meter.
    pub meter: String,
    /// From 1 on.
    pub place: i64,
    /// The subject.
    pub subject: String,
    /// Units.
    pub used: i64,
}

/// When something was worked out, and of how many subjects that used anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Made {
    /// When, Unix ms.
    pub made_ms: i64,
    /// Subjects with usage.
    pub subjects: i64,
}

/// What subscriptions to a version of a tier bring in for a month.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RecurringRow {
    /// Start of the day, Unix ms.
    pub day_ms: i64,
    /// The tier.
    pub tier: String,
    /// Its version.
    pub version: i64,
    /// ISO 4217, or empty.
    pub currency: String,
    /// Subscriptions that are paid.
    pub subscriptions: i64,
    /// Minor units.
    pub month_minor: i64,
}

/// Amounts of one kind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AmountSum {
    /// The tier, or empty.
    pub tier: String,
    /// ISO 4217.
    pub currency: String,
    /// How many.
    pub count: i64,
    /// Minor units.
    pub minor: i64,
}

/// How often a limit refused, and whom.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LimitHits {
    /// The limit.
    pub limit: String,
    /// Requests refused.
    pub refused: i64,
    /// Subjects that were refused.
    pub subjects: i64,
}

static TOPS: Statement = Statement::new(
    "SELECT meter, place, subject, used FROM usage_tops
     WHERE period = $1 AND start_ms = $2 AND (CAST($3 AS TEXT) IS NULL OR meter = $3) AND place <= $4
     ORDER BY meter, place",
);
static MADE: Statement =
    Statement::new("SELECT made_ms, subjects FROM usage_tops_made WHERE period = $1 AND start_ms = $2");
// A period is in hours, in days or in months; what became days is not in hours any more.
static WORK_OUT: Statement = Statement::new(
    "SELECT meter, place, subject, used FROM (
         SELECT meter, subject, used, ROW_NUMBER() OVER (PARTITION BY meter ORDER BY used DESC, subject) AS place
         FROM (
             SELECT meter, subject, CAST(SUM(used) AS BIGINT) AS used FROM (
                 SELECT meter, subject, taken - freed AS used FROM usage_hours WHERE hour_ms >= $1 AND hour_ms < $2
                 UNION ALL
                 SELECT meter, subject, taken - freed AS used FROM usage_days WHERE day_ms >= $1 AND day_ms < $2
             ) AS entries GROUP BY meter, subject
         ) AS summed WHERE used > 0
     ) AS ranked WHERE place <= $3 ORDER BY meter, place",
);
static SUBJECTS: Statement = Statement::new(
    "SELECT COUNT(*) FROM (
         SELECT subject FROM usage_hours WHERE hour_ms >= $1 AND hour_ms < $2
         UNION SELECT subject FROM usage_days WHERE day_ms >= $1 AND day_ms < $2) AS named",
);
static FORGET_TOPS: Statement = Statement::new("DELETE FROM usage_tops WHERE period = $1 AND start_ms = $2");
static KEEP_TOPS: Statement = Statement::new(
    "INSERT INTO usage_tops (period, start_ms, meter, place, subject, used)
     SELECT CAST($2 AS TEXT), CAST($3 AS BIGINT), r.meter, r.place, r.subject, r.used
     FROM {rows $1 r meter text, place bigint, subject text, used bigint} WHERE true",
);
static KEEP_MADE: Statement = Statement::new(
    "INSERT INTO usage_tops_made (period, start_ms, made_ms, subjects) VALUES ($1, $2, $3, $4)
     ON CONFLICT (period, start_ms) DO UPDATE SET made_ms = excluded.made_ms, subjects = excluded.subjects",
);
static FORGET_RECURRING: Statement = Statement::new("DELETE FROM recurring_days WHERE day_ms = $1");
static KEEP_RECURRING: Statement = Statement::new(
    "INSERT INTO recurring_days (day_ms, tier, version, currency, subscriptions, month_minor)
     SELECT r.day_ms, r.tier, r.version, r.currency, r.subscriptions, r.month_minor
     FROM {rows $1 r day_ms bigint, tier text, version bigint, currency text, subscriptions bigint, month_minor bigint}
     WHERE true",
);
static RECURRING: Statement = Statement::new(
    "SELECT day_ms, tier, version, currency, subscriptions, month_minor FROM recurring_days
     WHERE day_ms >= $1 AND day_ms < $2 ORDER BY day_ms, tier, version, currency",
);
static INVOICED: Statement = Statement::new(
    "SELECT '', currency, COUNT(*), CAST(SUM(total_minor) AS BIGINT) FROM invoices
     WHERE closed_ms >= $1 AND closed_ms < $2 GROUP BY currency ORDER BY currency",
);
static ORDERED: Statement = Statement::new(
    "SELECT tier, currency, COUNT(*), CAST(SUM(amount) AS BIGINT) FROM payment_orders
     WHERE paid_ms >= $1 AND paid_ms < $2 AND state = 'paid' GROUP BY tier, currency ORDER BY tier, currency",
);
static LIMIT_HITS: Statement = Statement::new(
    "SELECT limit_name, CAST(SUM(count) AS BIGINT), COUNT(DISTINCT subject) FROM denials
     WHERE hour_ms >= $1 AND hour_ms < $2 AND limit_name <> '' GROUP BY limit_name ORDER BY 2 DESC, 1 LIMIT $3",
);

/// The `limit` subjects that used most of a meter in a period, or of each meter, as last worked out.
pub async fn tops(
    database: &Database,
    period: &str,
    start_ms: i64,
    meter: Option<&str>,
    limit: i64,
) -> Result<Vec<TopRow>, StoreError> {
    let rows = database.fetch_all(&TOPS, values![period, start_ms, meter, limit]).await?;
    rows.iter().map(read_top).collect()
}

/// When a period was last worked out.
pub async fn made(database: &Database, period: &str, start_ms: i64) -> Result<Option<Made>, StoreError> {
    let row = database.fetch_first(&MADE, values![period, start_ms]).await?;
    row.map(|row| Ok(Made { made_ms: row.int(0)?, subjects: row.int(1)? })).transpose()
}

/// Works out from the ledger who used most of each meter in `from_ms..to_ms`: the first `places` of each, and how many
/// subjects used anything. Reads all entries of that time: only for the background.
pub async fn work_out(
    database: &Database,
    from_ms: i64,
    to_ms: i64,
    places: i64,
) -> Result<(Vec<TopRow>, i64), StoreError> {
    let rows = database.fetch_all(&WORK_OUT, values![from_ms, to_ms, places]).await?;
    let tops = rows.iter().map(read_top).collect::<Result<_, StoreError>>()?;
    let subjects = database.fetch_first(&SUBJECTS, values![from_ms, to_ms]).await?;
    Ok((tops, subjects.map_or(Ok(0), |row| row.int(0))?))
}

/// Keeps what was worked out of a period, instead of what was before.
pub async fn keep_tops(
    tx: &mut Tx<'_>,
    period: &str,
    start_ms: i64,
    tops: &[TopRow],
    made: Made,
) -> Result<(), StoreError> {
    // Two replicas that keep the same meet at this row first.
    tx.execute(&KEEP_MADE, values![period, start_ms, made.made_ms, made.subjects]).await?;
    tx.execute(&FORGET_TOPS, values![period, start_ms]).await?;
    tx.execute(&KEEP_TOPS, values![json_rows(&tops)?, period, start_ms]).await.map(drop)
}

/// Keeps what subscriptions bring in as of a day, instead of what was before.
pub async fn keep_recurring(tx: &mut Tx<'_>, day_ms: i64, rows: &[RecurringRow]) -> Result<(), StoreError> {
    tx.execute(&FORGET_RECURRING, values![day_ms]).await?;
    tx.execute(&KEEP_RECURRING, values![json_rows(&rows)?]).await.map(drop)
}

/// What subscriptions brought in for a month, as of each day that starts in `from_ms..to_ms`.
pub async fn recurring(
    database: &Database,
    from_ms: i64,
    to_ms: i64,
) -> Result<Vec<RecurringRow>, StoreError> {
    let rows = database.fetch_all(&RECURRING, values![from_ms, to_ms]).await?;
    rows.iter()
        .map(|row| {
            Ok(RecurringRow {
                day_ms: row.int(0)?,
                tier: row.text(1)?,
                version: row.int(2)?,
                currency: row.text(3)?,
                subscriptions: row.int(4)?,
                month_minor: row.int(5)?,
            })
        })
        .collect()
}

/// Invoices that were closed in `from_ms..to_ms`, by currency.
pub async fn invoiced(database: &Database, from_ms: i64, to_ms: i64) -> Result<Vec<AmountSum>, StoreError> {
    amounts(database, &INVOICED, from_ms, to_ms).await
}

/// Single payments that came in in `from_ms..to_ms`, by tier and currency.
pub async fn ordered(database: &Database, from_ms: i64, to_ms: i64) -> Result<Vec<AmountSum>, StoreError> {
    amounts(database, &ORDERED, from_ms, to_ms).await
}

/// The `limit` limits that refused most in the hours that start in `from_ms..to_ms`.
pub async fn limit_hits(
    database: &Database,
    from_ms: i64,
    to_ms: i64,
    limit: i64,
) -> Result<Vec<LimitHits>, StoreError> {
    let rows = database.fetch_all(&LIMIT_HITS, values![from_ms, to_ms, limit]).await?;
    rows.iter()
        .map(|row| Ok(LimitHits { limit: row.text(0)?, refused: row.int(1)?, subjects: row.int(2)? }))
        .collect()
}

async fn amounts(
    database: &Database,
    statement: &'static Statement,
    from_ms: i64,
    to_ms: i64,
) -> Result<Vec<AmountSum>, StoreError> {
    let rows = database.fetch_all(statement, values![from_ms, to_ms]).await?;
    rows.iter()
        .map(|row| {
            Ok(AmountSum {
                tier: row.text(0)?,
                currency: row.text(1)?,
                count: row.int(2)?,
                minor: row.int(3)?,
            })
        })
        .collect()
}

fn read_top(row: &super::value::Row) -> Result<TopRow, StoreError> {
    Ok(TopRow { meter: row.text(0)?, place: row.int(1)?, subject: row.text(2)?, used: row.int(3)? })
}
