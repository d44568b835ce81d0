//! Orders of single payments while they are not paid: that one is not made twice, and that those nobody paid are forgotten.
//! What becomes of a paid one is in `payments`.

use super::payments::OrderRow;
use super::statement::Statement;
use super::value::values;
use super::{Database, StoreError, Tx};

static PAGE: Statement = Statement::new(
    "SELECT page_url FROM payment_orders
     WHERE provider = $1 AND subject = $2 AND tier = $3 AND amount = $4 AND currency = $5 AND months = $6
       AND state = 'open' AND created_ms > $7 AND page_url IS NOT NULL
     ORDER BY created_ms DESC, id LIMIT 1",
);
static UNPAID: Statement = Statement::new(
    "SELECT COUNT(*) FROM payment_orders
     WHERE provider = $1 AND subject = $2 AND state <> 'paid' AND created_ms > $3",
);
static WRITE_PAGE: Statement =
    Statement::new("UPDATE payment_orders SET page_url = $3 WHERE provider = $1 AND id = $2");
static NEWEST_UNPAID: Statement =
    Statement::new("SELECT MAX(created_ms) FROM payment_orders WHERE state IN ('open', 'refused')");
static PRUNE: Statement = Statement::new(
    "DELETE FROM payment_orders WHERE (provider, id) IN
         (SELECT provider, id FROM payment_orders WHERE state IN ('open', 'refused') AND created_ms < $1
          ORDER BY created_ms LIMIT $2)",
);

/// Where an open order of the same is paid, if one was made after `after_ms`.
pub async fn page(tx: &mut Tx<'_>, order: &OrderRow, after_ms: i64) -> Result<Option<String>, StoreError> {
    let values = values![
        order.provider.as_str(),
        order.subject.as_str(),
        order.tier.as_str(),
        order.amount,
        order.currency.as_str(),
        order.months,
        after_ms,
    ];
    tx.fetch_first(&PAGE, values).await?.map(|row| row.text(0)).transpose()
}

/// How many orders a subject made after `after_ms` and has not paid.
pub async fn unpaid(
    tx: &mut Tx<'_>,
    provider: &str,
    subject: &str,
    after_ms: i64,
) -> Result<i64, StoreError> {
    let row = tx.fetch_first(&UNPAID, values![provider, subject, after_ms]).await?;
    row.map_or(Ok(0), |row| row.int(0))
}

/// Notes where an order is paid.
pub async fn write_page(tx: &mut Tx<'_>, provider: &str, id: &str, page: &str) -> Result<(), StoreError> {
    tx.execute(&WRITE_PAGE, values![provider, id, page]).await.map(drop)
}

/// When the newest order was made that nobody paid.
pub async fn newest_unpaid(database: &Database) -> Result<Option<i64>, StoreError> {
    database.fetch_first(&NEWEST_UNPAID, Vec::new()).await?.map_or(Ok(None), |row| row.try_int(0))
}

/// Forgets at most `limit` orders from before `before_ms` that nobody paid. Answers how many.
pub async fn prune(tx: &mut Tx<'_>, before_ms: i64, limit: i64) -> Result<u64, StoreError> {
    tx.execute(&PRUNE, values![before_ms, limit]).await
}
