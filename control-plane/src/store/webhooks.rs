//! The inbox of payment providers' webhooks. Rows are added before a webhook is answered, and none is ever deleted.

use serde::Serialize;

use super::statement::Statement;
use super::value::{Row, json_rows, values};
use super::{Database, StoreError, Tx};
use crate::calendar::HOUR_MS;

/// A webhook to be stored.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct NewWebhook {
    /// The provider's name.
    pub provider: &'static str,
    /// The provider's id of the event.
    pub event_id: String,
    /// Of what it says.
    pub hash: String,
    /// Such as `customer.subscription.updated`.
    pub kind: String,
    /// Whom the provider charges.
    pub account: Option<String>,
    /// The provider's subscription, or the order.
    pub reference: Option<String>,
    /// When it happened, Unix ms.
    pub at_ms: i64,
    /// When it came, Unix ms.
    pub received_ms: i64,
    /// How often it came.
    pub deliveries: i64,
    /// What is to be done with it.
    pub state: &'static str,
    /// Whether one that came before is to be worked off again.
    #[serde(skip)]
    pub again: bool,
    /// What of it matters, JSON.
    pub fact: Option<String>,
    /// As it came.
    pub payload: String,
}

/// What became of a webhook that was to be stored.
#[derive(Debug, Clone, PartialEq)]
pub struct Stored {
    /// The provider's name.
    pub provider: String,
    /// The provider's id of the event.
    pub event_id: String,
    /// Of what it says.
    pub hash: String,
    /// How often it came, with this time.
    pub deliveries: i64,
    /// What is to be done with it, or was.
    pub state: String,
}

/// A webhook, without its payload.
#[derive(Debug, Clone, PartialEq)]
pub struct WebhookRow {
    /// Rises with each webhook.
    pub id: i64,
    /// The provider's name.
    pub provider: String,
    /// The provider's id of the event.
    pub event_id: String,
    /// Such as `customer.subscription.updated`.
    pub kind: String,
    /// Whom the provider charges.
    pub account: Option<String>,
    /// The provider's subscription, or the order.
    pub reference: Option<String>,
    /// When it happened, Unix ms.
    pub at_ms: i64,
    /// When it came first, Unix ms.
    pub received_ms: i64,
    /// How often it came.
    pub deliveries: i64,
    /// `pending`, `done`, `ignored`, `unlinked`, `failed` or `conflict`.
    pub state: String,
    /// How often it was tried.
    pub attempts: i64,
    /// When it is tried next, Unix ms.
    pub next_ms: i64,
    /// Why it is not done.
    pub error: Option<String>,
    /// Whom it was found to be about.
    pub subject: Option<String>,
    /// What of it matters, JSON.
    pub fact: Option<String>,
}

/// What one event of an account says.
#[derive(Debug, Clone, PartialEq)]
pub struct FactRow {
    /// The provider's subscription.
    pub reference: Option<String>,
    /// When it happened, Unix ms.
    pub at_ms: i64,
    /// The provider's id of the event.
    pub event_id: String,
    /// JSON.
    pub fact: String,
}

/// Latest that a webhook is tried again after it was tried, ms.
pub const NEXT_MS_MAX: i64 = 6 * HOUR_MS;

/// How long after it was looked at a webhook that comes again is looked at again, ms.
const AGAIN_MS: i64 = 5_000;

static TAKE_IDS: Statement =
    Statement::new("UPDATE counters SET value = value + $1 WHERE name = 'webhooks' RETURNING value");
static STORE: Statement = Statement::new(
    "INSERT INTO webhook_inbox (id, provider, event_id, hash, kind, account, reference, at_ms, received_ms, deliveries,
                                state, next_ms, fact, payload)
     SELECT r.id, r.provider, r.event_id, r.hash, r.kind, r.account, r.reference, r.at_ms, r.received_ms, r.deliveries,
            CASE WHEN EXISTS (SELECT 1 FROM webhook_inbox w
                              WHERE w.provider = r.provider AND w.event_id = r.event_id AND w.hash <> r.hash)
                 THEN 'conflict' ELSE r.state END,
            r.received_ms, r.fact, r.payload
     FROM {rows $1 r id bigint, provider text, event_id text, hash text, kind text, account text, reference text, at_ms bigint, received_ms bigint, deliveries bigint, state text, fact text, payload text}
     WHERE true
     ON CONFLICT (provider, event_id, hash) DO UPDATE SET deliveries = webhook_inbox.deliveries + excluded.deliveries
     RETURNING provider, event_id, hash, deliveries, state",
);
// One that was looked at just now is looked at again in a moment, not at once: whoever repeats a notification must not set the
// pace of what is asked of the provider.
static AGAIN: Statement = Statement::new(
    "UPDATE webhook_inbox
     SET state = 'pending', attempts = CASE state WHEN 'pending' THEN attempts ELSE 0 END,
         next_ms = CASE WHEN next_ms > $2 - $3 THEN $2 + $3 ELSE $2 END
     WHERE (state IN ('done', 'failed', 'ignored') OR (state = 'pending' AND next_ms > $2 + $3)) AND EXISTS (
         SELECT 1 FROM {rows $1 r provider text, event_id text, hash text}
         WHERE r.provider = webhook_inbox.provider AND r.event_id = webhook_inbox.event_id
           AND r.hash = webhook_inbox.hash)",
);
// One that is to be tried later than can be was stored by a clock that was ahead: it must not wait until then.
static DUE: Statement = Statement::new(
    "SELECT id, provider, event_id, kind, account, reference, at_ms, received_ms, deliveries, state, attempts, next_ms,
            error, subject, fact
     FROM webhook_inbox
     WHERE state = 'pending' AND provider = $2
       AND (next_ms <= $1 OR next_ms > $1 + $4 OR (attempts = 0 AND next_ms > $1 + $5))
     ORDER BY next_ms, id LIMIT $3",
);
static LOCK_PENDING: Statement =
    Statement::new("SELECT id FROM webhook_inbox WHERE id = $1 AND state = 'pending' {lock}");
static FACTS: Statement = Statement::new(
    "SELECT reference, at_ms, event_id, fact FROM webhook_inbox
     WHERE provider = $1 AND account = $2 AND fact IS NOT NULL AND state <> 'conflict'
     ORDER BY at_ms DESC, event_id LIMIT $3",
);
static FINISH: Statement = Statement::new(
    "UPDATE webhook_inbox SET state = $2, error = $3, subject = $4, attempts = attempts + 1 WHERE id = $1",
);
static POSTPONE: Statement = Statement::new(
    "UPDATE webhook_inbox SET state = $2, error = $3, next_ms = $4, attempts = attempts + 1
     WHERE id = $1 AND state = 'pending'",
);
static RELINK: Statement = Statement::new(
    "UPDATE webhook_inbox SET state = 'pending', attempts = 0, next_ms = $4, error = NULL
     WHERE provider = $1 AND account = $2 AND state = 'unlinked' AND id <> $3",
);
static REPLAY: Statement = Statement::new(
    "UPDATE webhook_inbox SET state = 'pending', attempts = 0, next_ms = $2, fact = $3, account = $4, reference = $5
     WHERE id = $1",
);
static LIST: Statement = Statement::new(
    "SELECT id, provider, event_id, kind, account, reference, at_ms, received_ms, deliveries, state, attempts, next_ms,
            error, subject, fact
     FROM webhook_inbox
     WHERE id < $1 AND (CAST($2 AS TEXT) IS NULL OR provider = $2) AND (CAST($3 AS TEXT) IS NULL OR state = $3)
     ORDER BY id DESC LIMIT $4",
);
static SHOW: Statement = Statement::new(
    "SELECT id, provider, event_id, kind, account, reference, at_ms, received_ms, deliveries, state, attempts, next_ms,
            error, subject, fact, payload
     FROM webhook_inbox WHERE id = $1",
);

/// Stores webhooks, all in one statement; those that came before are counted. Each event is named once.
pub async fn store(tx: &mut Tx<'_>, webhooks: &[NewWebhook]) -> Result<Vec<Stored>, StoreError> {
    #[derive(Serialize)]
    struct Written<'a> {
        id: i64,
        #[serde(flatten)]
        webhook: &'a NewWebhook,
    }
    let count = i64::try_from(webhooks.len()).unwrap_or(i64::MAX);
    // Of two replicas one waits here, and then sees what the other has stored.
    let row = tx.fetch_first(&TAKE_IDS, values![count]).await?;
    let row =
        row.ok_or_else(|| StoreError::Corrupt { what: "no webhook counter".to_owned(), source: None })?;
    let first = row.int(0)? - count + 1;
    let rows: Vec<_> = (first..).zip(webhooks).map(|(id, webhook)| Written { id, webhook }).collect();
    let stored = tx.fetch_all(&STORE, values![json_rows(&rows)?]).await?;
    let again: Vec<_> = webhooks.iter().filter(|webhook| webhook.again).collect();
    if let Some(now_ms) = again.iter().map(|webhook| webhook.received_ms).max() {
        let keys: Vec<_> = again
            .iter()
            .map(|w| serde_json::json!({"provider": w.provider, "event_id": w.event_id, "hash": w.hash}))
            .collect();
        tx.execute(&AGAIN, values![json_rows(&keys)?, now_ms, AGAIN_MS]).await?;
    }
    let read = |row: &Row| {
        Ok(Stored {
            provider: row.text(0)?,
            event_id: row.text(1)?,
            hash: row.text(2)?,
            deliveries: row.int(3)?,
            state: row.text(4)?,
        })
    };
    stored.iter().map(read).collect()
}

/// At most `limit` webhooks of a provider that are to be worked off at `now_ms`, the longest due first. What a clock that was
/// ahead put off is due, too.
pub async fn due(
    database: &Database,
    provider: &str,
    now_ms: i64,
    limit: i64,
) -> Result<Vec<WebhookRow>, StoreError> {
    let values = values![now_ms, provider, limit, NEXT_MS_MAX, AGAIN_MS];
    database.fetch_all(&DUE, values).await?.iter().map(read_row).collect()
}

/// Locks a webhook; answers whether it is still to be worked off.
pub async fn lock_pending(tx: &mut Tx<'_>, id: i64) -> Result<bool, StoreError> {
    Ok(tx.fetch_first(&LOCK_PENDING, values![id]).await?.is_some())
}

/// What the newest `limit` events of an account say.
pub async fn facts(
    tx: &mut Tx<'_>,
    provider: &str,
    account: &str,
    limit: i64,
) -> Result<Vec<FactRow>, StoreError> {
    let rows = tx.fetch_all(&FACTS, values![provider, account, limit]).await?;
    let read = |row: &Row| {
        Ok(FactRow {
            reference: row.try_text(0)?,
            at_ms: row.int(1)?,
            event_id: row.text(2)?,
            fact: row.text(3)?,
        })
    };
    rows.iter().map(read).collect()
}

/// Writes what became of a webhook.
pub async fn finish(
    tx: &mut Tx<'_>,
    id: i64,
    state: &str,
    error: Option<&str>,
    subject: Option<&str>,
) -> Result<(), StoreError> {
    tx.execute(&FINISH, values![id, state, error, subject]).await.map(drop)
}

/// Writes that a webhook could not be worked off, and when it is tried again.
pub async fn postpone(
    tx: &mut Tx<'_>,
    id: i64,
    state: &str,
    error: &str,
    next_ms: i64,
) -> Result<(), StoreError> {
    tx.execute(&POSTPONE, values![id, state, error, next_ms]).await.map(drop)
}

/// Has an account's webhooks worked off that waited for its subject to be known; answers how many.
pub async fn relink(
    tx: &mut Tx<'_>,
    provider: &str,
    account: &str,
    but: i64,
    now_ms: i64,
) -> Result<u64, StoreError> {
    tx.execute(&RELINK, values![provider, account, but, now_ms]).await
}

/// Has a webhook worked off again, as it is read now.
pub async fn replay(
    tx: &mut Tx<'_>,
    id: i64,
    now_ms: i64,
    fact: Option<&str>,
    account: Option<&str>,
    reference: Option<&str>,
) -> Result<(), StoreError> {
    tx.execute(&REPLAY, values![id, now_ms, fact, account, reference]).await.map(drop)
}

/// At most `limit` webhooks before `before_id`, the newest first.
pub async fn list(
    database: &Database,
    before_id: i64,
    provider: Option<&str>,
    state: Option<&str>,
    limit: i64,
) -> Result<Vec<WebhookRow>, StoreError> {
    let rows = database.fetch_all(&LIST, values![before_id, provider, state, limit]).await?;
    rows.iter().map(read_row).collect()
}

/// A webhook and its payload.
pub async fn show(database: &Database, id: i64) -> Result<Option<(WebhookRow, String)>, StoreError> {
    let row = database.fetch_first(&SHOW, values![id]).await?;
    row.as_ref().map(|row| Ok((read_row(row)?, row.text(15)?))).transpose()
}

fn read_row(row: &Row) -> Result<WebhookRow, StoreError> {
    Ok(WebhookRow {
        id: row.int(0)?,
        provider: row.text(1)?,
        event_id: row.text(2)?,
        kind: row.text(3)?,
        account: row.try_text(4)?,
        reference: row.try_text(5)?,
        at_ms: row.int(6)?,
        received_ms: row.int(7)?,
        deliveries: row.int(8)?,
        state: row.text(9)?,
        attempts: row.int(10)?,
        next_ms: row.int(11)?,
        error: row.try_text(12)?,
        subject: row.try_text(13)?,
        fact: row.try_text(14)?,
    })
}
