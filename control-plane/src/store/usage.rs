//! The ledger of usage: per subject, hour, meter, labels and session, merged by max, so that a repeated or late report
//! changes nothing. What lies back becomes days, then months; sums stay what they were.
//!
//! A subject is locked ([`super::subjects::lock`]) by whoever writes its usage: reports, folds and records then meet one
//! after the other.

pub mod corrections;
mod days;
pub mod fold;
mod late;
pub mod recorded;
pub mod sent;
mod sums;

use serde::{Deserialize, Serialize};

use super::statement::Statement;
use super::value::{json_rows, values};
use super::{StoreError, Tx};
pub use late::add;
pub use sums::{Period, UsageSum, Wanted, subjects_through, sums, sums_of_many};

/// What one session reported of one subject, hour, meter and labels.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct UsageWrite<'a> {
    /// The subject.
    pub subject: &'a str,
    /// Start of the hour, Unix ms.
    pub hour_ms: i64,
    /// The meter.
    pub meter: &'a str,
    /// What its units are told apart by: the text of `policy::labels`.
    pub labels: &'a str,
    /// Units charged in all.
    pub taken: i64,
    /// Units of them that were refunded in all.
    pub freed: i64,
}

/// What came of a report.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Merged {
    /// Entries of months whose days are gone. What the session had reported of them before is not known any more, so they
    /// were left out.
    pub too_late: u64,
}

/// From where on the ledger has hours, and from where on it has days. They only rise.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Horizons {
    /// Hours before this one are days. Start of a day.
    pub hours_from_ms: i64,
    /// Days before this one are months. Start of a month.
    pub days_from_ms: i64,
}

/// Units of an entry.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Units {
    taken: i64,
    freed: i64,
}

impl Units {
    fn max(self, other: Self) -> Self {
        Self { taken: self.taken.max(other.taken), freed: self.freed.max(other.freed) }
    }

    fn plus(self, other: Self) -> Self {
        Self { taken: self.taken.saturating_add(other.taken), freed: self.freed.saturating_add(other.freed) }
    }
}

// Both databases count a row for each that was inserted or met, changed or not.
static MERGE: Statement = Statement::new(
    "INSERT INTO usage_hours (subject, hour_ms, meter, labels, session, taken, freed)
     SELECT r.subject, r.hour_ms, r.meter, r.labels, CAST($2 AS TEXT), r.taken, r.freed
     FROM {rows $1 r subject text, hour_ms bigint, meter text, labels text, taken bigint, freed bigint}
     WHERE r.hour_ms >= (SELECT value FROM counters WHERE name = 'usage_hours_from')
     ON CONFLICT (subject, hour_ms, meter, labels, session) DO UPDATE SET
         taken = CASE WHEN excluded.taken > usage_hours.taken THEN excluded.taken ELSE usage_hours.taken END,
         freed = CASE WHEN excluded.freed > usage_hours.freed THEN excluded.freed ELSE usage_hours.freed END",
);
static HORIZONS: Statement = Statement::new(
    "SELECT (SELECT value FROM counters WHERE name = 'usage_hours_from'),
            (SELECT value FROM counters WHERE name = 'usage_days_from')",
);

/// Merges what `session` reported. Each subject, hour, meter and labels is named once; the subjects are locked.
pub async fn merge(tx: &mut Tx<'_>, session: &str, usage: &[UsageWrite<'_>]) -> Result<Merged, StoreError> {
    if usage.is_empty() {
        return Ok(Merged::default());
    }
    let merged = tx.execute(&MERGE, values![json_rows(&usage)?, session]).await?;
    // Nearly every report is of the last hours, and done with in that one statement.
    match usize::try_from(merged) == Ok(usage.len()) {
        true => Ok(Merged::default()),
        false => late::raise(tx, session, usage).await,
    }
}

/// From where on there are hours, and days.
pub async fn horizons(tx: &mut Tx<'_>) -> Result<Horizons, StoreError> {
    let row = tx.fetch_first(&HORIZONS, Vec::new()).await?;
    let row =
        row.ok_or_else(|| StoreError::Corrupt { what: "no horizons of usage".to_owned(), source: None })?;
    Ok(Horizons { hours_from_ms: row.int(0)?, days_from_ms: row.int(1)? })
}
