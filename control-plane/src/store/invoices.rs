//! Closed invoices. Rows are added, in the transaction that closes, and never touched again.

use serde::{Deserialize, Serialize};
use tollgate_policy::price::Line;

use super::statement::Statement;
use super::value::{Row, from_json, to_json, values};
use super::{Database, StoreError, Tx};

/// A closed invoice.
#[derive(Debug, Clone, PartialEq)]
pub struct InvoiceRow {
    /// Rises by one with each, without gaps.
    pub number: i64,
    /// Who is charged.
    pub subject: String,
    /// Start of the time that it is for, Unix ms.
    pub from_ms: i64,
    /// Its end.
    pub to_ms: i64,
    /// ISO 4217.
    pub currency: String,
    /// The sum of its lines, minor units.
    pub total_minor: i64,
    /// The version of the policy whose prices they are.
    pub policy_version: i64,
    /// When it was closed, Unix ms.
    pub closed_ms: i64,
    /// The name of the token that closed it.
    pub closed_by: String,
    /// What stands in it.
    pub content: Content,
}

/// What stands in an invoice, and what it was worked out from.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Content {
    /// Its lines.
    pub lines: Vec<Line>,
    /// The tier that the subject's token claimed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub claimed: Option<String>,
    /// Between which moments (Unix ms) usage was summed. Empty: no usage has a price.
    pub cuts: Vec<i64>,
    /// Of that usage, SHA-256: another one means that usage came late.
    pub usage: String,
    /// Earlier invoices whose late usage is in this one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub adjusted: Vec<Adjusted>,
}

/// An earlier invoice whose late usage is in another one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Adjusted {
    /// The earlier invoice.
    pub number: i64,
    /// Of all usage of its time that is charged for now, SHA-256.
    pub usage: String,
}

static TAKE_NUMBER: Statement =
    Statement::new("UPDATE counters SET value = value + 1 WHERE name = 'invoices' RETURNING value");
static APPEND: Statement = Statement::new(
    "INSERT INTO invoices (number, subject, from_ms, to_ms, currency, total_minor, policy_version, closed_ms, closed_by,
                           content)
     VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)",
);
static READ: Statement = Statement::new(
    "SELECT number, subject, from_ms, to_ms, currency, total_minor, policy_version, closed_ms, closed_by, content
     FROM invoices WHERE number = $1",
);
static LATEST: Statement = Statement::new(
    "SELECT number, subject, from_ms, to_ms, currency, total_minor, policy_version, closed_ms, closed_by, content
     FROM invoices WHERE subject = $1 ORDER BY number DESC LIMIT $2",
);
static LAST_NUMBER: Statement =
    Statement::new("SELECT number FROM invoices WHERE subject = $1 ORDER BY number DESC LIMIT 1");
static PAGE: Statement = Statement::new(
    "SELECT number, subject, from_ms, to_ms, currency, total_minor, policy_version, closed_ms, closed_by, content
     FROM invoices WHERE number < $1 ORDER BY number DESC LIMIT $2",
);
static PAGE_OF_SUBJECT: Statement = Statement::new(
    "SELECT number, subject, from_ms, to_ms, currency, total_minor, policy_version, closed_ms, closed_by, content
     FROM invoices WHERE subject = $3 AND number < $1 ORDER BY number DESC LIMIT $2",
);
static DAYS_FROM: Statement = Statement::new("SELECT value FROM counters WHERE name = 'usage_days_from'");

/// Adds an invoice, whose number it takes; answers the number. The subject is locked.
pub async fn append(tx: &mut Tx<'_>, invoice: &InvoiceRow) -> Result<i64, StoreError> {
    let number = tx.fetch_first(&TAKE_NUMBER, Vec::new()).await?;
    let number = number
        .ok_or_else(|| StoreError::Corrupt { what: "no counter of invoices".to_owned(), source: None })?
        .int(0)?;
    let values = values![
        number,
        invoice.subject.as_str(),
        invoice.from_ms,
        invoice.to_ms,
        invoice.currency.as_str(),
        invoice.total_minor,
        invoice.policy_version,
        invoice.closed_ms,
        invoice.closed_by.as_str(),
        to_json("an invoice", &invoice.content)?,
    ];
    tx.execute(&APPEND, values).await?;
    Ok(number)
}

/// The invoice of a number.
pub async fn read(database: &Database, number: i64) -> Result<Option<InvoiceRow>, StoreError> {
    database.fetch_first(&READ, values![number]).await?.as_ref().map(read_row).transpose()
}

/// The newest invoices of a subject, at most `limit`, the newest first.
pub async fn latest(database: &Database, subject: &str, limit: i64) -> Result<Vec<InvoiceRow>, StoreError> {
    database.fetch_all(&LATEST, values![subject, limit]).await?.iter().map(read_row).collect()
}

/// The number of a subject's newest invoice. The subject is locked.
pub async fn last_number(tx: &mut Tx<'_>, subject: &str) -> Result<Option<i64>, StoreError> {
    tx.fetch_first(&LAST_NUMBER, values![subject]).await?.map(|row| row.int(0)).transpose()
}

/// At most `limit` invoices with numbers below `before`, the newest first; of one subject only, where it is given.
pub async fn page(
    database: &Database,
    before: i64,
    subject: Option<&str>,
    limit: i64,
) -> Result<Vec<InvoiceRow>, StoreError> {
    let rows = match subject {
        Some(subject) => database.fetch_all(&PAGE_OF_SUBJECT, values![before, limit, subject]).await?,
        None => database.fetch_all(&PAGE, values![before, limit]).await?,
    };
    rows.iter().map(read_row).collect()
}

/// From where on the ledger tells days apart, Unix ms.
pub async fn days_from(database: &Database) -> Result<i64, StoreError> {
    database.fetch_first(&DAYS_FROM, Vec::new()).await?.map_or(Ok(0), |row| row.int(0))
}

fn read_row(row: &Row) -> Result<InvoiceRow, StoreError> {
    Ok(InvoiceRow {
        number: row.int(0)?,
        subject: row.text(1)?,
        from_ms: row.int(2)?,
        to_ms: row.int(3)?,
        currency: row.text(4)?,
        total_minor: row.int(5)?,
        policy_version: row.int(6)?,
        closed_ms: row.int(7)?,
        closed_by: row.text(8)?,
        content: from_json("an invoice", &row.text(9)?)?,
    })
}
