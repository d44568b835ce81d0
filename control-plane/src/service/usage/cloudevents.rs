//! Usage as CloudEvents 1.0, in their JSON format. An event tells what a subject has used of a meter in a period *in all*:
//! one that comes later with more replaces it.

use serde_json::{Value as Json, json};
use sha2::{Digest as _, Sha256};
use tollgate_policy::labels;

use crate::calendar::rfc3339;
use crate::store::usage::UsageSum;

/// Type of the events.
pub const TYPE: &str = "tollgate.usage";

/// Their source.
pub const SOURCE: &str = "urn:tollgate:usage";

/// Media type of a batch of them.
pub const BATCH_MEDIA_TYPE: &str = "application/cloudevents-batch+json";

/// The event of a sum. Its id is that of what it says: an event that is sent again has the same, and one that says another
/// total another.
pub fn event_of(subject: &str, sum: &UsageSum) -> Json {
    let (start, end) = (rfc3339(sum.start_ms), rfc3339(sum.end_ms));
    json!({
        "specversion": "1.0",
        "id": id_of(subject, sum),
        "source": SOURCE,
        "type": TYPE,
        "subject": subject,
        "time": end,
        "datacontenttype": "application/json",
        "data": {
            "subject": subject,
            "meter": sum.meter,
            "labels": labels::parse(&sum.labels).unwrap_or_default(),
            "start": start,
            "end": end,
            "taken": sum.taken,
            "freed": sum.freed,
            "used": sum.used(),
        },
    })
}

fn id_of(subject: &str, sum: &UsageSum) -> String {
    let mut hash = Sha256::new();
    for text in [subject, &sum.meter, &sum.labels] {
        hash.update((text.len() as u64).to_be_bytes());
        hash.update(text);
    }
    for number in [sum.start_ms, sum.end_ms, sum.taken, sum.freed] {
        hash.update(number.to_be_bytes());
    }
    hash.finalize().iter().take(16).map(|byte| format!("{byte:02x}")).collect()
}
