//! Deliveries: which event is due at which endpoint, and the log of attempts. Replicas share the work by claiming: whoever
//! attempts a delivery first puts it off, so that another takes it up only when nothing was heard of it since.

use super::statement::Statement;
use super::value::{Row, values};
use super::{Database, StoreError, Tx};

/// Where a delivery is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeliveryState {
    /// It is attempted when it is due.
    Pending,
    /// It has arrived.
    Delivered,
    /// It was attempted often enough.
    GivenUp,
}

impl DeliveryState {
    /// All states.
    pub const ALL: [Self; 3] = [Self::Pending, Self::Delivered, Self::GivenUp];

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Delivered => "delivered",
            Self::GivenUp => "given_up",
        }
    }

    /// The state of a name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.name() == name)
    }
}

/// A delivery that was claimed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claimed {
    /// The event.
    pub event: String,
    /// Its type.
    pub kind: String,
    /// The body as it is signed and sent.
    pub body: String,
    /// All attempts so far.
    pub attempts: i64,
    /// Those since it was last begun anew.
    pub tries: i64,
}

/// How an attempt ended, and what becomes of its delivery.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AttemptRow {
    /// The event.
    pub event: String,
    /// The endpoint.
    pub endpoint: String,
    /// From 1.
    pub attempt: i64,
    /// When it was begun, Unix ms.
    pub at_ms: i64,
    /// How long it took, ms.
    pub took_ms: i64,
    /// The HTTP status, where there was an answer.
    pub status: Option<i64>,
    /// Why it failed, where it did.
    pub error: Option<String>,
}

/// A delivery in a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeliveryRow {
    /// The event.
    pub event: String,
    /// Its type, while the event is known.
    pub kind: Option<String>,
    /// The endpoint.
    pub endpoint: String,
    /// Where it is.
    pub state: String,
    /// All attempts so far.
    pub attempts: i64,
    /// When it is due, Unix ms; of one that is pending.
    pub next_ms: i64,
}

static DUE_ENDPOINTS: Statement = Statement::new(
    "SELECT e.id FROM event_endpoints e WHERE e.disabled_ms IS NULL AND EXISTS (
         SELECT 1 FROM event_deliveries d WHERE d.endpoint = e.id AND d.state = 'pending' AND d.next_ms <= $1)",
);
// The condition stands twice: PostgreSQL looks at it again for a row that another claimed meanwhile.
static CLAIM: Statement = Statement::new(
    "UPDATE event_deliveries SET next_ms = $3
     WHERE endpoint = $1 AND state = 'pending' AND next_ms <= $2 AND event IN (
         SELECT d.event FROM event_deliveries d
         WHERE d.endpoint = $1 AND d.state = 'pending' AND d.next_ms <= $2 ORDER BY d.next_ms, d.event LIMIT $4)
     RETURNING event, attempts, tries,
         (SELECT type FROM events WHERE id = event_deliveries.event),
         (SELECT body FROM events WHERE id = event_deliveries.event)",
);
static LOG: Statement = Statement::new(
    "INSERT INTO event_attempts (event, endpoint, attempt, at_ms, took_ms, status, error)
     VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT (event, endpoint, attempt) DO NOTHING",
);
static SETTLE: Statement = Statement::new(
    "UPDATE event_deliveries SET state = $3, attempts = $4, tries = $5, next_ms = $6
     WHERE event = $1 AND endpoint = $2 AND state = 'pending'",
);
static AGAIN: Statement = Statement::new(
    "INSERT INTO event_deliveries (event, endpoint, state, next_ms) VALUES ($1, $2, 'pending', $3)
     ON CONFLICT (event, endpoint) DO UPDATE SET state = 'pending', tries = 0, next_ms = excluded.next_ms",
);
static AGAIN_MISSED: Statement = Statement::new(
    "UPDATE event_deliveries SET state = 'pending', tries = 0, next_ms = $4
     WHERE endpoint = $1 AND state = 'given_up' AND event IN (
         SELECT d.event FROM event_deliveries d
         WHERE d.endpoint = $1 AND d.state = 'given_up' AND d.event >= $2 ORDER BY d.event LIMIT $3)",
);
static OF_EVENT: Statement = Statement::new(
    "SELECT d.event, e.type, d.endpoint, d.state, d.attempts, d.next_ms
     FROM event_deliveries d LEFT JOIN events e ON e.id = d.event WHERE d.event = $1 ORDER BY d.endpoint",
);
static OF_ENDPOINT: Statement = Statement::new(
    "SELECT d.event, e.type, d.endpoint, d.state, d.attempts, d.next_ms
     FROM event_deliveries d LEFT JOIN events e ON e.id = d.event
     WHERE d.endpoint = $1 AND d.event < $2 AND (CAST($3 AS TEXT) IS NULL OR d.state = $3)
     ORDER BY d.event DESC LIMIT $4",
);
static ATTEMPTS: Statement = Statement::new(
    "SELECT event, endpoint, attempt, at_ms, took_ms, status, error FROM event_attempts
     WHERE event = $1 ORDER BY at_ms DESC, endpoint, attempt DESC LIMIT $2",
);
static PRUNE_ATTEMPTS: Statement = Statement::new(
    "DELETE FROM event_attempts WHERE (event, endpoint, attempt) IN (
         SELECT event, endpoint, attempt FROM event_attempts WHERE event < $1 LIMIT $2)",
);
static PRUNE: Statement = Statement::new(
    "DELETE FROM event_deliveries WHERE (event, endpoint) IN (
         SELECT event, endpoint FROM event_deliveries WHERE event < $1 LIMIT $2)",
);
static PRUNE_ORPHANS: Statement = Statement::new(
    "DELETE FROM event_deliveries WHERE (event, endpoint) IN (
         SELECT d.event, d.endpoint FROM event_deliveries d
         WHERE d.state = 'pending' AND NOT EXISTS (SELECT 1 FROM event_endpoints e WHERE e.id = d.endpoint) LIMIT $1)",
);

/// The endpoints at which something is due.
pub async fn due_endpoints(database: &Database, now_ms: i64) -> Result<Vec<String>, StoreError> {
    database.fetch_all(&DUE_ENDPOINTS, values![now_ms]).await?.iter().map(|row| row.text(0)).collect()
}

/// Claims at most `limit` deliveries that are due at an endpoint, until `until_ms`.
pub async fn claim(
    tx: &mut Tx<'_>,
    endpoint: &str,
    now_ms: i64,
    until_ms: i64,
    limit: i64,
) -> Result<Vec<Claimed>, StoreError> {
    let rows = tx.fetch_all(&CLAIM, values![endpoint, now_ms, until_ms, limit]).await?;
    let mut claimed = Vec::with_capacity(rows.len());
    for row in rows {
        // An event that was forgotten meanwhile is told to nobody; its delivery is forgotten next.
        if let (Some(kind), Some(body)) = (row.try_text(3)?, row.try_text(4)?) {
            let (event, attempts, tries) = (row.text(0)?, row.int(1)?, row.int(2)?);
            claimed.push(Claimed { event, kind, body, attempts, tries });
        }
    }
    Ok(claimed)
}

/// Logs an attempt, and says what becomes of its delivery: its state, its tries, and when it is due again.
pub async fn settle(
    tx: &mut Tx<'_>,
    attempt: &AttemptRow,
    state: DeliveryState,
    tries: i64,
    next_ms: i64,
) -> Result<(), StoreError> {
    let (event, endpoint) = (attempt.event.as_str(), attempt.endpoint.as_str());
    let logged = values![
        event,
        endpoint,
        attempt.attempt,
        attempt.at_ms,
        attempt.took_ms,
        attempt.status,
        attempt.error.as_deref(),
    ];
    tx.execute(&LOG, logged).await?;
    let settled = values![event, endpoint, state.name(), attempt.attempt, tries, next_ms];
    tx.execute(&SETTLE, settled).await.map(drop)
}

/// Makes an event due at an endpoint now, whether it was there or not.
pub async fn again(tx: &mut Tx<'_>, event: &str, endpoint: &str, now_ms: i64) -> Result<(), StoreError> {
    tx.execute(&AGAIN, values![event, endpoint, now_ms]).await.map(drop)
}

/// Makes at most `limit` deliveries due now that were given up, of events from the id `from` on. Answers how many.
pub async fn again_missed(
    tx: &mut Tx<'_>,
    endpoint: &str,
    from: &str,
    limit: i64,
    now_ms: i64,
) -> Result<u64, StoreError> {
    tx.execute(&AGAIN_MISSED, values![endpoint, from, limit, now_ms]).await
}

/// All deliveries of an event.
pub async fn of_event(database: &Database, event: &str) -> Result<Vec<DeliveryRow>, StoreError> {
    database.fetch_all(&OF_EVENT, values![event]).await?.iter().map(read_row).collect()
}

/// At most `limit` deliveries to an endpoint of events older than `before`, the newest first.
pub async fn of_endpoint(
    database: &Database,
    endpoint: &str,
    before: &str,
    state: Option<DeliveryState>,
    limit: i64,
) -> Result<Vec<DeliveryRow>, StoreError> {
    let values = values![endpoint, before, state.map(DeliveryState::name), limit];
    database.fetch_all(&OF_ENDPOINT, values).await?.iter().map(read_row).collect()
}

/// At most `limit` attempts of an event, the newest first.
pub async fn attempts(database: &Database, event: &str, limit: i64) -> Result<Vec<AttemptRow>, StoreError> {
    let rows = database.fetch_all(&ATTEMPTS, values![event, limit]).await?;
    rows.iter()
        .map(|row| {
            Ok(AttemptRow {
                event: row.text(0)?,
                endpoint: row.text(1)?,
                attempt: row.int(2)?,
                at_ms: row.int(3)?,
                took_ms: row.int(4)?,
                status: row.try_int(5)?,
                error: row.try_text(6)?,
            })
        })
        .collect()
}

/// Forgets at most `limit` attempts and as many deliveries of events before the id `before`, and as many deliveries to
/// endpoints that are gone. Answers how many.
pub async fn prune(tx: &mut Tx<'_>, before: &str, limit: i64) -> Result<u64, StoreError> {
    let attempts = tx.execute(&PRUNE_ATTEMPTS, values![before, limit]).await?;
    let deliveries = tx.execute(&PRUNE, values![before, limit]).await?;
    Ok(attempts + deliveries + tx.execute(&PRUNE_ORPHANS, values![limit]).await?)
}

fn read_row(row: &Row) -> Result<DeliveryRow, StoreError> {
    Ok(DeliveryRow {
        event: row.text(0)?,
        kind: row.try_text(1)?,
        endpoint: row.text(2)?,
        state: row.text(3)?,
        attempts: row.int(4)?,
        next_ms: row.int(5)?,
    })
}
