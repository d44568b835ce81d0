//! What edges refused, by subject, hour, code, limit, route and reporter: merged by max, so that a repeated or late report
//! changes nothing.

use serde::Serialize;

use super::statement::Statement;
use super::value::{json_rows, values};
use super::{Database, StoreError, Tx};

/// How often one reporter saw one refusal in one hour.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct DenialWrite<'a> {
    /// The subject, or empty.
    pub subject: &'a str,
    /// Start of the hour, Unix ms.
    pub hour_ms: i64,
    /// The denial's code.
    pub code: &'a str,
    /// The limit that refused, or empty.
    pub limit_name: &'a str,
    /// The route's name, or empty.
    pub route: &'a str,
    /// Who counted.
    pub reporter: &'a str,
    /// In all.
    pub count: i64,
}

/// What refusals are told apart by. What is not is empty, or 0, in all sums.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct DenialGroup {
    /// The subject.
    pub subject: bool,
    /// The code.
    pub code: bool,
    /// The limit.
    pub limit: bool,
    /// The route.
    pub route: bool,
    /// Periods of this length, ms, from the beginning of Unix time: hours, days and weeks of UTC.
    pub period_ms: Option<i64>,
}

/// How often something was refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DenialSum {
    /// The subject.
    pub subject: String,
    /// The denial's code.
    pub code: String,
    /// The limit that refused.
    pub limit: String,
    /// The route's name.
    pub route: String,
    /// Start of the period, Unix ms.
    pub start_ms: i64,
    /// Requests refused.
    pub count: i64,
}

static MERGE: Statement = Statement::new(
    "INSERT INTO denials (subject, hour_ms, code, limit_name, route, reporter, count)
     SELECT r.subject, r.hour_ms, r.code, r.limit_name, r.route, r.reporter, r.count
     FROM {rows $1 r subject text, hour_ms bigint, code text, limit_name text, route text, reporter text, count bigint}
     WHERE true
     ON CONFLICT (subject, hour_ms, code, limit_name, route, reporter) DO UPDATE SET
         count = CASE WHEN excluded.count > denials.count THEN excluded.count ELSE denials.count END",
);
static SUMS: Statement = Statement::new(
    "SELECT CASE WHEN CAST($4 AS BIGINT) = 1 THEN subject ELSE '' END,
            CASE WHEN CAST($5 AS BIGINT) = 1 THEN code ELSE '' END,
            CASE WHEN CAST($6 AS BIGINT) = 1 THEN limit_name ELSE '' END,
            CASE WHEN CAST($7 AS BIGINT) = 1 THEN route ELSE '' END,
            CASE WHEN CAST($8 AS BIGINT) > 0 THEN hour_ms - hour_ms % CAST($8 AS BIGINT) ELSE 0 END,
            CAST(SUM(count) AS BIGINT)
     FROM denials
     WHERE hour_ms >= $1 AND hour_ms < $2 AND (CAST($3 AS TEXT) IS NULL OR subject = $3)
     GROUP BY 1, 2, 3, 4, 5 ORDER BY 6 DESC, 5, 1, 2, 3, 4 LIMIT $9",
);
// Summed in the order of the index first, which leaves little to sort.
static SUMS_OF_ALL: Statement = Statement::new(
    "SELECT CASE WHEN CAST($4 AS BIGINT) = 1 THEN '' ELSE '' END,
            CASE WHEN CAST($5 AS BIGINT) = 1 THEN code ELSE '' END,
            CASE WHEN CAST($6 AS BIGINT) = 1 THEN limit_name ELSE '' END,
            CASE WHEN CAST($7 AS BIGINT) = 1 THEN route ELSE '' END,
            CASE WHEN CAST($8 AS BIGINT) > 0 THEN hour_ms - hour_ms % CAST($8 AS BIGINT) ELSE 0 END,
            CAST(SUM(units) AS BIGINT)
     FROM (SELECT hour_ms, limit_name, code, route, SUM(count) AS units FROM denials
           WHERE hour_ms >= $1 AND hour_ms < $2 AND CAST($3 AS TEXT) IS NULL
           GROUP BY hour_ms, limit_name, code, route) AS hours
     GROUP BY 1, 2, 3, 4, 5 ORDER BY 6 DESC, 5, 1, 2, 3, 4 LIMIT $9",
);
static SUMS_OF_SUBJECT: Statement = Statement::new(
    "SELECT CASE WHEN CAST($4 AS BIGINT) = 1 THEN subject ELSE '' END,
            CASE WHEN CAST($5 AS BIGINT) = 1 THEN code ELSE '' END,
            CASE WHEN CAST($6 AS BIGINT) = 1 THEN limit_name ELSE '' END,
            CASE WHEN CAST($7 AS BIGINT) = 1 THEN route ELSE '' END,
            CASE WHEN CAST($8 AS BIGINT) > 0 THEN hour_ms - hour_ms % CAST($8 AS BIGINT) ELSE 0 END,
            CAST(SUM(count) AS BIGINT)
     FROM denials
     WHERE subject = $3 AND hour_ms >= $1 AND hour_ms < $2
     GROUP BY 1, 2, 3, 4, 5 ORDER BY 6 DESC, 5, 1, 2, 3, 4 LIMIT $9",
);

static NEWEST: Statement = Statement::new("SELECT MAX(hour_ms) FROM denials");
static PRUNE: Statement = Statement::new(
    "DELETE FROM denials WHERE (subject, hour_ms, code, limit_name, route, reporter) IN
         (SELECT subject, hour_ms, code, limit_name, route, reporter FROM denials WHERE hour_ms < $1
          ORDER BY hour_ms LIMIT $2)",
);

/// Start of the newest hour in which something was refused.
pub async fn newest(database: &Database) -> Result<Option<i64>, StoreError> {
    database.fetch_first(&NEWEST, Vec::new()).await?.map_or(Ok(None), |row| row.try_int(0))
}

/// Forgets at most `limit` sums of hours before `before_ms`. Answers how many.
pub async fn prune(tx: &mut Tx<'_>, before_ms: i64, limit: i64) -> Result<u64, StoreError> {
    tx.execute(&PRUNE, values![before_ms, limit]).await
}

/// Merges what edges counted, all in one statement. Each key is named once.
pub async fn merge(tx: &mut Tx<'_>, denials: &[DenialWrite<'_>]) -> Result<(), StoreError> {
    if denials.is_empty() {
        return Ok(());
    }
    tx.execute(&MERGE, values![json_rows(&denials)?]).await.map(drop)
}

/// The `limit` largest sums of what was refused in the hours that start in `from_ms..to_ms`, the largest first: of one
/// subject, or of all.
pub async fn sums(
    database: &Database,
    from_ms: i64,
    to_ms: i64,
    subject: Option<&str>,
    group: DenialGroup,
    limit: i64,
) -> Result<Vec<DenialSum>, StoreError> {
    // Three statements, so that each is planned by the index that serves it.
    let statement = match (subject, group.subject) {
        (Some(_), _) => &SUMS_OF_SUBJECT,
        (None, true) => &SUMS,
        (None, false) => &SUMS_OF_ALL,
    };
    let values = values![
        from_ms,
        to_ms,
        subject,
        i64::from(group.subject),
        i64::from(group.code),
        i64::from(group.limit),
        i64::from(group.route),
        group.period_ms.unwrap_or(0),
        limit,
    ];
    let rows = database.fetch_all(statement, values).await?;
    rows.iter()
        .map(|row| {
            Ok(DenialSum {
                subject: row.text(0)?,
                code: row.text(1)?,
                limit: row.text(2)?,
                route: row.text(3)?,
                start_ms: row.int(4)?,
                count: row.int(5)?,
            })
        })
        .collect()
}
