//! What is read of a webhook before it is stored, the same for all providers, and how its JSON is looked into.

use serde_json::{Map, Value as Json};
use sha2::{Digest as _, Sha256};

use super::fact::Fact;
use super::signature::Refusal;
use crate::hex::hex;

/// Longest id that a provider gives anything.
const ID_BYTES_MAX: usize = 255;

/// What is read of a webhook.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reading {
    /// The provider's id of the event.
    pub event_id: String,
    /// Of what it says: an id that comes again with another hash says something else.
    pub hash: String,
    /// Such as `customer.subscription.updated`.
    pub kind: String,
    /// Whom the provider charges.
    pub account: Option<String>,
    /// The provider's subscription, or the order.
    pub reference: Option<String>,
    /// When it happened, Unix ms.
    pub at_ms: i64,
    /// What of it matters; nothing of an event that only passes by.
    pub fact: Option<Fact>,
}

impl Reading {
    /// Refuses ids that are none.
    pub fn checked(self) -> Result<Self, Refusal> {
        let ids = [Some(&self.event_id), Some(&self.kind), self.account.as_ref(), self.reference.as_ref()];
        let good = |id: &String| id.len() <= ID_BYTES_MAX && !id.chars().any(char::is_control);
        let all_good = ids.into_iter().flatten().all(good);
        if all_good { Ok(self) } else { Err(Refusal::Malformed) }
    }
}

/// SHA-256 of what an event says, hex, whatever the order of its members, and without those that say nothing.
pub fn canonical_hash(event: &Map<String, Json>, but: &[&str]) -> String {
    let mut event = event.clone();
    event.retain(|name, _| !but.contains(&name.as_str()));
    let mut event = Json::Object(event);
    event.sort_all_objects();
    hash(event.to_string().as_bytes())
}

/// SHA-256, hex.
pub fn hash(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

/// The id of what is an id, or a whole object.
pub fn id_of(json: &Json) -> Option<String> {
    let id = json.as_str().or_else(|| json.get("id").and_then(Json::as_str));
    id.filter(|id| !id.is_empty()).map(str::to_owned)
}

/// A text that says something.
pub fn string(json: &Json, pointer: &str) -> Option<String> {
    json.pointer(pointer).and_then(Json::as_str).filter(|text| !text.is_empty()).map(str::to_owned)
}

/// A whole number.
pub fn integer(json: &Json, pointer: &str) -> Option<i64> {
    json.pointer(pointer).and_then(Json::as_i64)
}

/// A text, or a whole number as text.
pub fn text_or_number(json: &Json, pointer: &str) -> Option<String> {
    string(json, pointer).or_else(|| integer(json, pointer).map(|number| number.to_string()))
}
