//! What subscriptions were: a row for each write of one, added in the transaction of the write and not touched again, but for
//! the moments of those that a clock wrote which was ahead.

use serde::Serialize;
use tollgate_policy::subscription::{Move, Stage, Subscription, moves};

use super::statement::Statement;
use super::subjects::state_text;
use super::value::{Row, from_json, json_rows, to_json, values};
use super::{Database, StoreError, Tx};
use crate::calendar::day_of;

/// What a subscription became at a moment.
#[derive(Debug, Clone, PartialEq)]
pub struct HistoryRow {
    /// Rises with each write, with gaps.
    pub seq: i64,
    /// When it was written, Unix ms. Never less than that of the row before, and not much later than the row after.
    pub at_ms: i64,
    /// What it became; nothing where it was deleted.
    pub subscription: Option<Subscription>,
}

/// How many subscriptions went from one stage to another.
#[derive(Debug, Clone, PartialEq)]
pub struct Moves {
    /// Start of the day of UTC, Unix ms; 0 where days are summed.
    pub day_ms: i64,
    /// From where.
    pub from: Stage,
    /// To where.
    pub to: Stage,
    /// How many.
    pub count: i64,
}

#[derive(Debug, Serialize)]
struct MoveRow {
    day_ms: i64,
    from_tier: String,
    from_state: String,
    to_tier: String,
    to_state: String,
}

static LAST: Statement = Statement::new(
    "SELECT seq, at_ms, subscription, tier, state FROM subscription_history WHERE subject = $1
     ORDER BY seq DESC LIMIT 1",
);
static APPEND: Statement = Statement::new(
    "INSERT INTO subscription_history (subject, seq, at_ms, subscription, tier, state)
     VALUES ($1, $2, $3, $4, $5, $6)",
);
static BRING_BACK: Statement =
    Statement::new("UPDATE subscription_history SET at_ms = $2 WHERE subject = $1 AND at_ms > $2");
static ADD_MOVE: Statement = Statement::new(
    "INSERT INTO subscription_moves (day_ms, from_tier, from_state, to_tier, to_state, count)
     SELECT r.day_ms, r.from_tier, r.from_state, r.to_tier, r.to_state, 1
     FROM {rows $1 r day_ms bigint, from_tier text, from_state text, to_tier text, to_state text} WHERE true
     ON CONFLICT (day_ms, from_tier, from_state, to_tier, to_state) DO UPDATE SET
         count = subscription_moves.count + 1",
);
static MOVES: Statement = Statement::new(
    "SELECT day_ms, from_tier, from_state, to_tier, to_state, count FROM subscription_moves
     WHERE day_ms >= $1 AND day_ms < $2 ORDER BY day_ms",
);
static MOVED_BEFORE: Statement = Statement::new(
    "SELECT from_tier, from_state, to_tier, to_state, CAST(SUM(count) AS BIGINT) FROM subscription_moves
     WHERE day_ms < $1 GROUP BY from_tier, from_state, to_tier, to_state",
);
static RANGE: Statement = Statement::new(
    "SELECT seq, at_ms, subscription FROM subscription_history
     WHERE subject = $1 AND at_ms < $3 AND seq >= COALESCE(
         (SELECT MAX(seq) FROM subscription_history WHERE subject = $1 AND at_ms <= $2), 0)
     ORDER BY seq",
);

/// By how much clocks may differ, ms. A row that is further ahead was written by a clock that was wrong: it is brought back,
/// or all that comes after it would be as late, and be missing from invoices until then.
const AHEAD_MS_MAX: i64 = 5 * 60_000;

/// Adds what a subscription became, and the moves since its last row to the sums of their days. The subject is locked.
pub(super) async fn append(
    tx: &mut Tx<'_>,
    subject: &str,
    subscription: Option<&Subscription>,
    now_ms: i64,
) -> Result<(), StoreError> {
    let last = tx.fetch_first(&LAST, values![subject]).await?;
    let (mut last, from) = match &last {
        Some(row) => (Some(read_row(row)?), read_stage(row)?),
        None => (None, None),
    };
    let latest_ms = now_ms.saturating_add(AHEAD_MS_MAX);
    if let Some(last) = last.as_mut().filter(|last| last.at_ms > latest_ms) {
        tx.execute(&BRING_BACK, values![subject, latest_ms]).await?;
        last.at_ms = latest_ms;
    }
    let seq = last.as_ref().map_or(1, |last| last.seq + 1);
    let at_ms = last.as_ref().map_or(now_ms, |last| last.at_ms.max(now_ms));
    let before = last.as_ref().and_then(|last| last.subscription.as_ref());
    let since_ms = last.as_ref().map_or(at_ms, |last| last.at_ms);
    let moves = moves(from, before, since_ms, subscription, at_ms);
    let rows = moves.iter().map(MoveRow::new).collect::<Result<Vec<_>, _>>()?;
    for row in rows {
        // One by one: two moves of one subject may be the same, and a statement must not meet its own row.
        tx.execute(&ADD_MOVE, values![json_rows(&[row])?]).await?;
    }
    let text = subscription.map(|subscription| to_json("a subscription", subscription)).transpose()?;
    let stage = subscription.map(|subscription| subscription.stage(at_ms));
    let tier = stage.as_ref().map(|(tier, _)| tier.as_str());
    let state = stage.as_ref().map(|(_, state)| state_text(*state)).transpose()?;
    tx.execute(&APPEND, values![subject, seq, at_ms, text.as_deref(), tier, state.as_deref()]).await.map(drop)
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

/// The moves of the days that start in `from_ms..to_ms`, by day.
pub async fn moves_by_day(database: &Database, from_ms: i64, to_ms: i64) -> Result<Vec<Moves>, StoreError> {
    let rows = database.fetch_all(&MOVES, values![from_ms, to_ms]).await?;
    rows.iter()
        .map(|row| {
            Ok(Moves {
                day_ms: row.int(0)?,
                from: stage(row.text(1)?, &row.text(2)?)?,
                to: stage(row.text(3)?, &row.text(4)?)?,
                count: row.int(5)?,
            })
        })
        .collect()
}

/// All moves of the days before the one that starts at `before_ms`, summed.
pub async fn moves_before(database: &Database, before_ms: i64) -> Result<Vec<Moves>, StoreError> {
    let rows = database.fetch_all(&MOVED_BEFORE, values![before_ms]).await?;
    rows.iter()
        .map(|row| {
            Ok(Moves {
                day_ms: 0,
                from: stage(row.text(0)?, &row.text(1)?)?,
                to: stage(row.text(2)?, &row.text(3)?)?,
                count: row.int(4)?,
            })
        })
        .collect()
}

impl MoveRow {
    fn new(of: &Move) -> Result<Self, StoreError> {
        let parts = |stage: &Stage| match stage {
            None => Ok((String::new(), String::new())),
            Some((tier, state)) => Ok::<_, StoreError>((tier.clone(), state_text(*state)?)),
        };
        let ((from_tier, from_state), (to_tier, to_state)) = (parts(&of.from)?, parts(&of.to)?);
        Ok(Self { day_ms: day_of(of.at_ms), from_tier, from_state, to_tier, to_state })
    }
}

fn stage(tier: String, state: &str) -> Result<Stage, StoreError> {
    match state {
        "" => Ok(None),
        state => Ok(Some((tier, from_json("a state", &format!("\"{state}\""))?))),
    }
}

fn read_stage(row: &Row) -> Result<Stage, StoreError> {
    stage(row.try_text(3)?.unwrap_or_default(), &row.try_text(4)?.unwrap_or_default())
}

fn read_row(row: &Row) -> Result<HistoryRow, StoreError> {
    let subscription = row.try_text(2)?.map(|text| from_json("a subscription", &text)).transpose()?;
    Ok(HistoryRow { seq: row.int(0)?, at_ms: row.int(1)?, subscription })
}
