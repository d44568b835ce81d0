//! All tables, row by row: for a copy of everything in one format, whichever database it is in. A table that is missing
//! here would be missing in the copy; a test compares this list with the tables that the migrations make.

use std::sync::LazyLock;

use serde_json::{Map, Value as Json};

use super::statement::Statement;
use super::value::{Row, Value, json_rows};
use super::{Database, StoreError, Tx};

/// Most rows that are read or written at a time.
pub const PAGE_ROWS: usize = 1_000;

/// Each table, what its rows are named by, and its columns. A table that another one refers to comes before it.
const TABLES: &[(&str, &str, &str)] = &[
    ("counters", "name", "name text, value bigint"),
    (
        "subjects",
        "subject",
        "subject text, book text, tier_claim text, subscription text, subscription_tier text, subscription_state \
         text, subscription_revision bigint, updated_ms bigint, bypass text, sessions text, grants text, \
         next_moment_ms bigint",
    ),
    (
        "edge_sessions",
        "session",
        "session text, opened_ms bigint, opened_seq bigint, heard_ms bigint, beats bigint, closed_ms bigint, remote \
         text",
    ),
    (
        "policies",
        "version",
        "version bigint, document text, source text, note text, created_ms bigint, created_by text",
    ),
    ("configuration", "id", "id bigint, policy_version bigint"),
    (
        "issuer_keys",
        "issuer",
        "issuer text, url text, jwks text, fetched_ms bigint, due_ms bigint, tried_ms bigint",
    ),
    ("changes", "seq", "seq bigint, kind text, subject text, session text, created_ms bigint"),
    (
        "audit",
        "id",
        "id bigint, at_ms bigint, actor text, action text, target text, before text, after text, remote text",
    ),
    (
        "tokens",
        "id",
        "id text, name text, role text, hash text, created_ms bigint, created_by text, revoked_ms bigint",
    ),
    ("things", "subject, meter, id", "subject text, meter text, id text, units bigint"),
    ("things_heard", "subject, session", "subject text, session text, seq bigint"),
    (
        "usage_hours",
        "subject, hour_ms, meter, labels, session",
        "subject text, hour_ms bigint, meter text, labels text, session text, taken bigint, freed bigint",
    ),
    (
        "usage_days",
        "subject, day_ms, meter, labels, session",
        "subject text, day_ms bigint, meter text, labels text, session text, taken bigint, freed bigint, hours text",
    ),
    (
        "usage_months",
        "subject, month_ms, meter, labels",
        "subject text, month_ms bigint, meter text, labels text, taken bigint, freed bigint",
    ),
    (
        "usage_recorded",
        "source, key",
        "source text, key text, subject text, meter text, labels text, at_ms bigint, units bigint",
    ),
    (
        "usage_corrections",
        "id",
        "id bigint, key text, subject text, meter text, labels text, at_ms bigint, units bigint, reason text, actor \
         text, created_ms bigint",
    ),
    ("usage_sink", "id", "id bigint, hour_ms bigint, subject text, holder text, held_ms bigint"),
    ("usage_resend", "subject, hour_ms", "subject text, hour_ms bigint, changes bigint"),
    (
        "webhook_inbox",
        "id",
        "id bigint, provider text, event_id text, hash text, kind text, account text, reference text, at_ms bigint, \
         received_ms bigint, deliveries bigint, state text, attempts bigint, next_ms bigint, error text, subject \
         text, fact text, payload text",
    ),
    ("payment_accounts", "provider, account", "provider text, account text"),
    (
        "payment_links",
        "provider, account, reference",
        "provider text, account text, reference text, subject text",
    ),
    (
        "payment_snapshots",
        "provider, reference",
        "provider text, reference text, account text, subject text, outcome text",
    ),
    (
        "payment_orders",
        "provider, id",
        "provider text, id text, subject text, tier text, amount bigint, currency text, months bigint, state text, \
         created_ms bigint, paid_ms bigint, page_url text",
    ),
    (
        "invoices",
        "number",
        "number bigint, subject text, from_ms bigint, to_ms bigint, currency text, total_minor bigint, \
         policy_version bigint, closed_ms bigint, closed_by text, content text",
    ),
    (
        "denials",
        "subject, hour_ms, code, limit_name, route, reporter",
        "subject text, hour_ms bigint, code text, limit_name text, route text, reporter text, count bigint",
    ),
    (
        "event_endpoints",
        "id",
        "id text, url text, description text, types text, secrets text, disabled_ms bigint, disabled_because text, \
         failing_ms bigint, created_ms bigint, created_by text",
    ),
    (
        "events",
        "id",
        "id text, type text, subject text, once text, keep_until_ms bigint, created_ms bigint, body text",
    ),
    (
        "event_deliveries",
        "event, endpoint",
        "event text, endpoint text, state text, attempts bigint, tries bigint, next_ms bigint",
    ),
    (
        "event_attempts",
        "event, endpoint, attempt",
        "event text, endpoint text, attempt bigint, at_ms bigint, took_ms bigint, status bigint, error text",
    ),
    (
        "archives",
        "subject, kind",
        "subject text, kind text, data text, archived_ms bigint, archived_by text, restored_ms bigint, restored_by \
         text",
    ),
    (
        "subscription_history",
        "subject, seq",
        "subject text, seq bigint, at_ms bigint, subscription text, tier text, state text",
    ),
    (
        "subscription_moves",
        "day_ms, from_tier, from_state, to_tier, to_state",
        "day_ms bigint, from_tier text, from_state text, to_tier text, to_state text, count bigint",
    ),
    (
        "usage_tops",
        "period, start_ms, meter, place",
        "period text, start_ms bigint, meter text, place bigint, subject text, used bigint",
    ),
    ("usage_tops_made", "period, start_ms", "period text, start_ms bigint, made_ms bigint, subjects bigint"),
    (
        "recurring_days",
        "day_ms, tier, version, currency",
        "day_ms bigint, tier text, version bigint, currency text, subscriptions bigint, month_minor bigint",
    ),
];

/// Tables in which something is though nobody has used the database: what the migrations put there, and what is only worked
/// out from others. Any other has something that would be lost, such as webhooks that a provider does not send again.
const NO_SIGNS_OF_USE: [&str; 6] =
    ["counters", "configuration", "usage_sink", "usage_tops", "usage_tops_made", "recurring_days"];

/// A table.
#[derive(Debug)]
pub struct Table {
    /// Its name.
    pub name: &'static str,
    /// Its columns.
    pub columns: Vec<Column>,
    keys: Vec<&'static str>,
    first: Statement,
    next: Statement,
    insert: Statement,
    clear: Statement,
}

/// A column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Column {
    /// Its name.
    pub name: &'static str,
    /// Whether it holds whole numbers; else it holds text.
    pub is_number: bool,
}

static ALL: LazyLock<Vec<Table>> = LazyLock::new(|| TABLES.iter().map(Table::new).collect());

impl Table {
    fn new((name, keys, columns): &(&'static str, &'static str, &'static str)) -> Self {
        let keys: Vec<&str> = keys.split(", ").collect();
        let listed = columns.split(',').filter_map(|column| column.trim().split_once(' '));
        let listed = listed.map(|(name, kind)| Column { name, is_number: kind == "bigint" });
        let listed: Vec<Column> = listed.collect();
        let names: Vec<&str> = listed.iter().map(|column| column.name).collect();
        let (select, order) = (names.join(", "), keys.join(", "));
        let places: Vec<String> = (1..=keys.len()).map(|place| format!("${place}")).collect();
        let inserted: Vec<String> = names.iter().map(|name| format!("r.{name}")).collect();
        // Made once, and there are as many as there are tables.
        let statement = |text: String| Statement::new(Box::leak(text.into_boxed_str()));
        Self {
            name,
            first: statement(format!("SELECT {select} FROM {name} ORDER BY {order} LIMIT {PAGE_ROWS}")),
            next: statement(format!(
                "SELECT {select} FROM {name} WHERE ({order}) > ({}) ORDER BY {order} LIMIT {PAGE_ROWS}",
                places.join(", ")
            )),
            insert: statement(format!(
                "INSERT INTO {name} ({select}) SELECT {} FROM {{rows $1 r {columns}}}",
                inserted.join(", ")
            )),
            clear: statement(format!("DELETE FROM {name}")),
            columns: listed,
            keys,
        }
    }

    fn read(&self, row: &Row) -> Result<Map<String, Json>, StoreError> {
        let columns = self.columns.iter().enumerate();
        let read = columns.map(|(index, column)| {
            let value = match column.is_number {
                true => row.try_int(index)?.map_or(Json::Null, Json::from),
                false => row.try_text(index)?.map_or(Json::Null, Json::from),
            };
            Ok((column.name.to_owned(), value))
        });
        read.collect()
    }

    /// What a row is named by.
    fn key(&self, row: &Map<String, Json>) -> Vec<Value> {
        let value = |name: &&str| match row.get(*name) {
            Some(Json::String(text)) => Value::from(text.as_str()),
            other => Value::Int(other.and_then(Json::as_i64)),
        };
        self.keys.iter().map(value).collect()
    }
}

/// All tables, each after those that it refers to.
pub fn tables() -> &'static [Table] {
    &ALL
}

/// A transaction that sees everything as it is at one moment.
pub async fn snapshot(database: &Database) -> Result<Tx<'static>, StoreError> {
    database.snapshot().await
}

/// The rows after the row `after`, at most [`PAGE_ROWS`].
pub async fn page(
    tx: &mut Tx<'_>,
    table: &'static Table,
    after: Option<&Map<String, Json>>,
) -> Result<Vec<Map<String, Json>>, StoreError> {
    let rows = match after {
        None => tx.fetch_all(&table.first, Vec::new()).await?,
        Some(after) => tx.fetch_all(&table.next, table.key(after)).await?,
    };
    rows.iter().map(|row| table.read(row)).collect()
}

/// Adds rows.
pub async fn insert(tx: &mut Tx<'_>, table: &'static Table, rows: &[Json]) -> Result<(), StoreError> {
    tx.execute(&table.insert, vec![Value::from(json_rows(&rows)?)]).await.map(drop)
}

/// Whether nobody has used the database yet.
pub async fn is_unused(tx: &mut Tx<'_>) -> Result<bool, StoreError> {
    for table in tables().iter().filter(|table| !NO_SIGNS_OF_USE.contains(&table.name)) {
        if !page(tx, table, None).await?.is_empty() {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Removes what the migrations put into an unused database.
pub async fn clear(tx: &mut Tx<'_>) -> Result<(), StoreError> {
    for table in tables().iter().rev() {
        tx.execute(&table.clear, Vec::new()).await?;
    }
    Ok(())
}
