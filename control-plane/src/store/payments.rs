//! What is known of payments besides the webhooks themselves: whose accounts are, what subscriptions at providers come to,
//! and orders of single payments.

use tollgate_policy::subscription::Subscription;

use super::statement::Statement;
use super::value::{Row, from_json, to_json, values};
use super::{Database, StoreError, Tx};

/// A subscription at a provider.
#[derive(Debug, Clone, PartialEq)]
pub struct SnapshotRow {
    /// The provider's name.
    pub provider: String,
    /// The provider's id of it.
    pub reference: String,
    /// Whom the provider charges.
    pub account: String,
    /// Whose it is, if that is known.
    pub subject: Option<String>,
    /// What it comes to.
    pub outcome: Subscription,
}

/// An operator's word on whose an account, or one subscription of it, is.
#[derive(Debug, Clone, PartialEq)]
pub struct LinkRow {
    /// The subscription; empty: the whole account.
    pub reference: String,
    /// Whose it is.
    pub subject: String,
}

/// An order of a single payment.
#[derive(Debug, Clone, PartialEq)]
pub struct OrderRow {
    /// The provider's name.
    pub provider: String,
    /// Its id, as the provider knows it.
    pub id: String,
    /// Who buys.
    pub subject: String,
    /// What is bought.
    pub tier: String,
    /// Minor units.
    pub amount: i64,
    /// ISO 4217.
    pub currency: String,
    /// For how long.
    pub months: i64,
    /// `open`, `paid`, `refused` or `differs`.
    pub state: String,
    /// When it was made, Unix ms.
    pub created_ms: i64,
    /// When the provider was seen to say that it is paid, Unix ms.
    pub paid_ms: Option<i64>,
}

static MAKE_ACCOUNT: Statement = Statement::new(
    "INSERT INTO payment_accounts (provider, account) VALUES ($1, $2) ON CONFLICT (provider, account) DO NOTHING",
);
static LOCK_ACCOUNT: Statement =
    Statement::new("SELECT account FROM payment_accounts WHERE provider = $1 AND account = $2 {lock}");
static LINKS: Statement =
    Statement::new("SELECT reference, subject FROM payment_links WHERE provider = $1 AND account = $2");
static LINK: Statement = Statement::new(
    "INSERT INTO payment_links (provider, account, reference, subject) VALUES ($1, $2, $3, $4)
     ON CONFLICT (provider, account, reference) DO UPDATE SET subject = excluded.subject",
);
static OF_ACCOUNT: Statement = Statement::new(
    "SELECT provider, reference, account, subject, outcome FROM payment_snapshots WHERE provider = $1 AND account = $2
     ORDER BY reference",
);
static OF_SUBJECT: Statement = Statement::new(
    "SELECT provider, reference, account, subject, outcome FROM payment_snapshots WHERE subject = $1
     ORDER BY CASE {text outcome state}
                  WHEN 'expired' THEN 2 WHEN 'paused' THEN 1 WHEN 'pending' THEN 1 ELSE 0 END,
              COALESCE({bigint outcome expires_at_ms}, 9223372036854775807) DESC, provider, reference
     LIMIT $2",
);
static SNAPSHOT: Statement = Statement::new(
    "SELECT provider, reference, account, subject, outcome FROM payment_snapshots
     WHERE provider = $1 AND reference = $2",
);
static FORGET_SNAPSHOT: Statement =
    Statement::new("DELETE FROM payment_snapshots WHERE provider = $1 AND reference = $2");
static WRITE_SNAPSHOT: Statement = Statement::new(
    "INSERT INTO payment_snapshots (provider, reference, account, subject, outcome) VALUES ($1, $2, $3, $4, $5)
     ON CONFLICT (provider, reference) DO UPDATE SET
         account = excluded.account, subject = excluded.subject, outcome = excluded.outcome",
);
static MAKE_ORDER: Statement = Statement::new(
    "INSERT INTO payment_orders (provider, id, subject, tier, amount, currency, months, state, created_ms, paid_ms)
     VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)",
);
static ORDER: Statement = Statement::new(
    "SELECT provider, id, subject, tier, amount, currency, months, state, created_ms, paid_ms FROM payment_orders
     WHERE provider = $1 AND id = $2",
);
static LOCK_ORDER: Statement = Statement::new(
    "SELECT provider, id, subject, tier, amount, currency, months, state, created_ms, paid_ms FROM payment_orders
     WHERE provider = $1 AND id = $2 {lock}",
);
static SETTLE_ORDER: Statement =
    Statement::new("UPDATE payment_orders SET state = $3, paid_ms = $4 WHERE provider = $1 AND id = $2");
static PAID: Statement = Statement::new(
    "SELECT provider, id, subject, tier, amount, currency, months, state, created_ms, paid_ms FROM payment_orders
     WHERE provider = $1 AND subject = $2 AND tier = $3 AND state = 'paid' ORDER BY paid_ms, id",
);

/// Locks an account until the transaction ends.
pub async fn lock_account(tx: &mut Tx<'_>, provider: &str, account: &str) -> Result<(), StoreError> {
    tx.execute(&MAKE_ACCOUNT, values![provider, account]).await?;
    tx.fetch_all(&LOCK_ACCOUNT, values![provider, account]).await.map(drop)
}

/// What operators said of an account.
pub async fn links(tx: &mut Tx<'_>, provider: &str, account: &str) -> Result<Vec<LinkRow>, StoreError> {
    let rows = tx.fetch_all(&LINKS, values![provider, account]).await?;
    rows.iter().map(|row| Ok(LinkRow { reference: row.text(0)?, subject: row.text(1)? })).collect()
}

/// Notes whose an account, or one subscription of it, is.
pub async fn link(tx: &mut Tx<'_>, provider: &str, account: &str, link: &LinkRow) -> Result<(), StoreError> {
    let values = values![provider, account, link.reference.as_str(), link.subject.as_str()];
    tx.execute(&LINK, values).await.map(drop)
}

/// What is known of an account's subscriptions.
pub async fn of_account(
    tx: &mut Tx<'_>,
    provider: &str,
    account: &str,
) -> Result<Vec<SnapshotRow>, StoreError> {
    tx.fetch_all(&OF_ACCOUNT, values![provider, account]).await?.iter().map(read_snapshot).collect()
}

/// At most `limit` of what a subject has with all providers: first what can be in force for longest, last what is over.
pub async fn of_subject(tx: &mut Tx<'_>, subject: &str, limit: i64) -> Result<Vec<SnapshotRow>, StoreError> {
    tx.fetch_all(&OF_SUBJECT, values![subject, limit]).await?.iter().map(read_snapshot).collect()
}

/// One subscription at a provider.
pub async fn snapshot(
    tx: &mut Tx<'_>,
    provider: &str,
    reference: &str,
) -> Result<Option<SnapshotRow>, StoreError> {
    let row = tx.fetch_first(&SNAPSHOT, values![provider, reference]).await?;
    row.as_ref().map(read_snapshot).transpose()
}

/// Forgets one.
pub async fn forget_snapshot(tx: &mut Tx<'_>, provider: &str, reference: &str) -> Result<(), StoreError> {
    tx.execute(&FORGET_SNAPSHOT, values![provider, reference]).await.map(drop)
}

/// Writes what a subscription at a provider comes to.
pub async fn write_snapshot(tx: &mut Tx<'_>, row: &SnapshotRow) -> Result<(), StoreError> {
    let outcome = to_json("a subscription", &row.outcome)?;
    let values = values![
        row.provider.as_str(),
        row.reference.as_str(),
        row.account.as_str(),
        row.subject.as_deref(),
        outcome
    ];
    tx.execute(&WRITE_SNAPSHOT, values).await.map(drop)
}

/// Makes an order.
pub async fn make_order(tx: &mut Tx<'_>, order: &OrderRow) -> Result<(), StoreError> {
    let values = values![
        order.provider.as_str(),
        order.id.as_str(),
        order.subject.as_str(),
        order.tier.as_str(),
        order.amount,
        order.currency.as_str(),
        order.months,
        order.state.as_str(),
        order.created_ms,
        order.paid_ms,
    ];
    tx.execute(&MAKE_ORDER, values).await.map(drop)
}

/// An order.
pub async fn order(database: &Database, provider: &str, id: &str) -> Result<Option<OrderRow>, StoreError> {
    database.fetch_first(&ORDER, values![provider, id]).await?.as_ref().map(read_order).transpose()
}

/// Locks and reads an order.
pub async fn lock_order(tx: &mut Tx<'_>, provider: &str, id: &str) -> Result<Option<OrderRow>, StoreError> {
    tx.fetch_first(&LOCK_ORDER, values![provider, id]).await?.as_ref().map(read_order).transpose()
}

/// Writes what became of an order.
pub async fn settle_order(
    tx: &mut Tx<'_>,
    provider: &str,
    id: &str,
    state: &str,
    paid_ms: Option<i64>,
) -> Result<(), StoreError> {
    tx.execute(&SETTLE_ORDER, values![provider, id, state, paid_ms]).await.map(drop)
}

/// A subject's paid orders of one tier, in the order in which they were paid.
pub async fn paid_orders(
    tx: &mut Tx<'_>,
    provider: &str,
    subject: &str,
    tier: &str,
) -> Result<Vec<OrderRow>, StoreError> {
    tx.fetch_all(&PAID, values![provider, subject, tier]).await?.iter().map(read_order).collect()
}

fn read_snapshot(row: &Row) -> Result<SnapshotRow, StoreError> {
    Ok(SnapshotRow {
        provider: row.text(0)?,
        reference: row.text(1)?,
        account: row.text(2)?,
        subject: row.try_text(3)?,
        outcome: from_json("a subscription", &row.text(4)?)?,
    })
}

fn read_order(row: &Row) -> Result<OrderRow, StoreError> {
    Ok(OrderRow {
        provider: row.text(0)?,
        id: row.text(1)?,
        subject: row.text(2)?,
        tier: row.text(3)?,
        amount: row.int(4)?,
        currency: row.text(5)?,
        months: row.int(6)?,
        state: row.text(7)?,
        created_ms: row.int(8)?,
        paid_ms: row.try_int(9)?,
    })
}
