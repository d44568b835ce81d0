//! What earlier releases can read: they refuse members of a subscription that they do not know, and SQL that both databases
//! speak cannot take members out of JSON.

use serde_json::{Map, Value as Json, json};

use super::statement::Statement;
use super::value::{json_rows, to_json, values};
use super::{Database, StoreError};

/// The first version of the tables with which subscriptions have more than [`MEMBERS`].
pub(super) const LIFECYCLE_VERSION: i64 = 3;

/// What a subscription consisted of before.
const MEMBERS: [&str; 5] = ["tier", "state", "anchor_ms", "expires_at_ms", "overrides"];

static PAGE: Statement = Statement::new(
    "SELECT subject, subscription FROM subjects
     WHERE subscription IS NOT NULL AND subject > $1 ORDER BY subject LIMIT 1000",
);
static WRITE: Statement = Statement::new(
    "UPDATE subjects SET subscription = r.subscription FROM {rows $1 r subject text, subscription text}
     WHERE subjects.subject = r.subject",
);

/// Takes out of all subscriptions what earlier releases do not know. A trial ends when it would have ended.
pub(super) async fn shorten_subscriptions(database: &Database) -> Result<(), StoreError> {
    let mut after = String::new();
    loop {
        let rows = database.fetch_all(&PAGE, values![after.as_str()]).await?;
        let Some(last) = rows.last() else {
            return Ok(());
        };
        after = last.text(0)?;
        let mut shorter = Vec::new();
        for row in &rows {
            if let Ok(Json::Object(subscription)) = serde_json::from_str(&row.text(1)?) {
                let text = to_json("a subscription", &shorten(subscription))?;
                shorter.push(json!({ "subject": row.text(0)?, "subscription": text }));
            }
        }
        let shorter = &json_rows(&shorter)?;
        database
            .transact("shorten subscriptions", |tx| {
                Box::pin(async move { tx.execute(&WRITE, values![shorter.as_str()]).await.map(drop) })
            })
            .await?;
    }
}

fn shorten(mut subscription: Map<String, Json>) -> Map<String, Json> {
    let moment = |name: &str| subscription.get(name).and_then(Json::as_i64);
    let trial_ends_at_ms = moment("trial_ends_at_ms")
        .filter(|_| subscription.get("state").and_then(Json::as_str) == Some("trialing"));
    let ends = [moment("expires_at_ms"), trial_ends_at_ms].into_iter().flatten().min();
    if let Some(end_ms) = ends {
        subscription.insert("expires_at_ms".to_owned(), end_ms.into());
    }
    subscription.retain(|name, _| MEMBERS.contains(&name.as_str()));
    subscription
}
