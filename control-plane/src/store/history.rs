//! What subscriptions were: a row for each write of one, added in the transaction of the write and never touched again.

use tollgate_policy::subscription::Subscription;

use super::statement::Statement;
use super::value::{Row, from_json, to_json, values};
use super::{Database, StoreError, Tx};

/// What a subscription became at a moment.
#[derive(Debug, Clone, PartialEq)]
pub struct HistoryRow {
    /// Rises with each write, with gaps.
    pub seq: i64,
    /// When it was written, Unix ms. Never less than that of the row before.
    pub at_ms: i64,
    /// What it became; nothing where it was deleted.
    pub subscription: Option<Subscription>,
}

static LAST: Statement = Statement::new(
    "SELECT seq, at_ms, subscription FROM subscription_history WHERE subject = $1 ORDER BY seq DESC LIMIT 1",
);
static APPEND: Statement = Statement::new(
    "INSERT INTO subscription_history (subject, seq, at_ms, subscription, tier, state)
     VALUES ($1, $2, $3, $4, $5, $6)",
);
static RANGE: Statement = Statement::new(
    "SELECT seq, at_ms, subscription FROM subscription_history
     WHERE subject = $1 AND at_ms < $3 AND seq >= COALESCE(
         (SELECT MAX(seq) FROM subscription_history WHERE subject = $1 AND at_ms <= $2), 0)
     ORDER BY seq",
);

/// Adds what a subscription became. The subject is locked.
pub(super) async fn append(
    tx: &mut Tx<'_>,
    subject: &str,
    seq: i64,
    subscription: Option<&Subscription>,
    now_ms: i64,
) -> Result<(), StoreError> {
    let last = tx.fetch_first(&LAST, values![subject]).await?;
    let last = last.as_ref().map(read_row).transpose()?;
    let at_ms = last.as_ref().map_or(now_ms, |last| last.at_ms.max(now_ms));
    let text = subscription.map(|subscription| to_json("a subscription", subscription)).transpose()?;
    let tier = subscription.map(|subscription| subscription.tier.as_str());
    let state = subscription.map(|subscription| to_json("a state", &subscription.state)).transpose()?;
    let state = state.as_deref().map(|state| state.trim_matches('"'));
    tx.execute(&APPEND, values![subject, seq, at_ms, text.as_deref(), tier, state]).await.map(drop)
}

/// What a subject's subscription was in `from_ms..to_ms`, the oldest first: as it was at `from_ms`, where there was one, and
/// as each write in the range left it. A row holds until the next one's `at_ms`; what it says of moments in between (scheduled
/// changes, the end of a trial) happens within that time.
pub async fn range(
    database: &Database,
    subject: &str,
    from_ms: i64,
    to_ms: i64,
) -> Result<Vec<HistoryRow>, StoreError> {
    let rows = database.fetch_all(&RANGE, values![subject, from_ms, to_ms]).await?;
    rows.iter().map(read_row).collect()
}

/// As [`range`], in a transaction.
pub async fn range_in(
    tx: &mut Tx<'_>,
    subject: &str,
    from_ms: i64,
    to_ms: i64,
) -> Result<Vec<HistoryRow>, StoreError> {
    let rows = tx.fetch_all(&RANGE, values![subject, from_ms, to_ms]).await?;
    rows.iter().map(read_row).collect()
}

fn read_row(row: &Row) -> Result<HistoryRow, StoreError> {
    let subscription = row.try_text(2)?.map(|text| from_json("a subscription", &text)).transpose()?;
    Ok(HistoryRow { seq: row.int(0)?, at_ms: row.int(1)?, subscription })
}
