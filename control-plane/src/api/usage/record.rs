//! `POST /v1/usage`: usage that does not pass Envoy.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::State;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::api::extract;
use crate::api::problem::{Problem, ProblemBody};
use crate::api::state::Api;
use crate::service::usage::record::Entry;
use crate::store::audit::Author;

/// What is to be recorded.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RecordWish {
    /// Who records: a program, or a part of one. Keys are its own.
    #[schema(min_length = 1, max_length = 256)]
    source: String,
    /// 1 to 1,000 entries. All are recorded, or none is.
    #[schema(min_items = 1, max_items = 1000)]
    entries: Vec<EntryWish>,
}

/// One entry.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct EntryWish {
    /// Names the entry among those of its source, however often it is sent.
    #[schema(min_length = 1, max_length = 256)]
    key: String,
    /// Such as `user:alice` or `org:acme`.
    subject: String,
    /// A meter of the policy in force.
    meter: String,
    /// How much.
    #[schema(minimum = 1)]
    units: u64,
    /// When it was used, RFC 3339: in the last 35 days.
    #[schema(value_type = String, format = DateTime)]
    at: Timestamp,
    /// What its units are told apart by, such as `{"model": "large"}`.
    #[serde(default)]
    labels: BTreeMap<String, String>,
}

/// What was recorded.
#[derive(Debug, Serialize, ToSchema)]
pub struct RecordBody {
    /// Entries that count from now on.
    recorded: usize,
    /// Entries that were recorded before, with the same values.
    repeated: usize,
}

/// Records usage in the ledger. Sending the same again changes nothing; the same key with other values is a conflict. Limits
/// do not count it.
#[utoipa::path(
    post, path = "/v1/usage", tag = "usage", request_body = RecordWish,
    responses(
        (status = 200, body = RecordBody),
        (status = 409, body = ProblemBody, description = "idempotency-conflict, no-policy")
    )
)]
pub async fn record(
    State(api): State<Api>,
    author: Author,
    extract::Json(wish): extract::Json<RecordWish>,
) -> Result<Json<RecordBody>, Problem> {
    let entries = wish.entries.into_iter().map(|entry| {
        let EntryWish { key, subject, meter, units, at, labels } = entry;
        Entry { key, subject, meter, units, at, labels }
    });
    let entries: Vec<Entry> = entries.collect();
    let outcome = api.plane.record_usage(&author, &wish.source, &entries).await?;
    Ok(Json(RecordBody { recorded: outcome.recorded, repeated: outcome.repeated }))
}
