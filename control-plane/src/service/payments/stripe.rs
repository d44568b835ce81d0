//! Stripe's events: which say how a subscription stands, and which only pass by. Field names are those of Stripe's API; the
//! period is read where it is since 2025-03-31, on the items, and else where it was before.

use serde_json::{Map, Value as Json};

use super::checkout::{reference_of, subject_of};
use super::fact::{Fact, Item, Payment, Snapshot, Standing, What};
use super::reading::{Reading, canonical_hash, id_of, integer, string};
use super::signature::Refusal;
use crate::service::subscriptions::check_subject;

/// Keys of `metadata` that name the subject.
const METADATA_KEYS: [&str; 2] = ["tollgate_subject", "subject"];

/// Members of an event that differ between deliveries of one.
const CHANGING: [&str; 2] = ["pending_webhooks", "request"];

/// Reads an event.
pub fn read(body: &[u8], livemode: bool) -> Result<Reading, Refusal> {
    let event: Map<String, Json> = serde_json::from_slice(body).map_err(|_| Refusal::Malformed)?;
    let text = |name: &str| event.get(name).and_then(Json::as_str).filter(|text| !text.is_empty());
    let (Some(id), Some(kind)) = (text("id"), text("type")) else { return Err(Refusal::Malformed) };
    let is_live = event.get("livemode").and_then(Json::as_bool).ok_or(Refusal::Malformed)?;
    if is_live != livemode {
        return Err(Refusal::Livemode);
    }
    let at_ms = event.get("created").and_then(Json::as_i64).unwrap_or_default().saturating_mul(1_000);
    let object = event.get("data").and_then(|data| data.get("object")).unwrap_or(&Json::Null);
    let (reference, fact) = match kind {
        kind if kind.starts_with("customer.subscription.") => {
            (string(object, "/id"), subscription(kind, object))
        }
        "checkout.session.completed" | "checkout.session.async_payment_succeeded" => {
            let reference = object.get("subscription").and_then(id_of);
            let fact = Fact { subject: session_subject(object), what: What::Bought };
            (reference.clone(), reference.is_some().then_some(fact))
        }
        "invoice.paid" | "invoice.payment_failed" | "invoice.payment_action_required" => {
            let reference = object.pointer("/parent/subscription_details/subscription").and_then(id_of);
            let reference = reference.or_else(|| object.get("subscription").and_then(id_of));
            let fact = Fact { subject: None, what: What::Payment(payment(kind, object)) };
            (reference.clone(), reference.is_some().then_some(fact))
        }
        _ => (None, None),
    };
    let account = object.get("customer").and_then(id_of).or_else(|| reference.clone());
    let hash = canonical_hash(&event, &CHANGING);
    Reading { event_id: id.to_owned(), hash, kind: kind.to_owned(), account, reference, at_ms, fact }
        .checked()
}

fn subscription(kind: &str, object: &Json) -> Option<Fact> {
    let items = object.pointer("/items/data").and_then(Json::as_array).map(Vec::as_slice).unwrap_or_default();
    let seconds = |pointer: &str| integer(object, pointer).map(|s| s.saturating_mul(1_000));
    let of_items = items.iter().filter_map(|item| integer(item, "/current_period_end")).max();
    let period_ends_ms = of_items.map(|s| s.saturating_mul(1_000)).or_else(|| seconds("/current_period_end"));
    let trial_ends_ms = seconds("/trial_end");
    let status = object.get("status")?.as_str()?;
    let standing = match status {
        "incomplete" => Standing::Pending,
        "trialing" => Standing::Trialing,
        // "Temporarily unable to provide services": Stripe's documentation of `void`. The other two kinds give them away.
        "active" if string(object, "/pause_collection/behavior").as_deref() == Some("void") => {
            Standing::Paused
        }
        "active" => Standing::Active,
        "past_due" => Standing::PastDue,
        "paused" => Standing::Paused,
        "incomplete_expired" | "unpaid" | "canceled" => Standing::Over,
        _ => return None,
    };
    let at_period_end = object.get("cancel_at_period_end").and_then(Json::as_bool) == Some(true);
    let period_end = || match standing {
        Standing::Trialing => trial_ends_ms.or(period_ends_ms),
        _ => period_ends_ms,
    };
    let ends_ms = match standing {
        Standing::Over => seconds("/ended_at").or_else(|| seconds("/canceled_at")),
        _ => seconds("/cancel_at").or_else(|| at_period_end.then(period_end).flatten()),
    };
    let rank = match kind.rsplit('.').next().unwrap_or_default() {
        "created" => 0,
        "trial_will_end" => 1,
        "updated" => 2,
        "deleted" => 4,
        _ => 3,
    };
    let anchor_ms =
        seconds("/billing_cycle_anchor").or_else(|| seconds("/start_date")).or_else(|| seconds("/created"));
    let metadata = METADATA_KEYS.iter().find_map(|key| string(object, &format!("/metadata/{key}")));
    Some(Fact {
        subject: metadata.filter(|subject| check_subject(subject).is_ok()),
        what: What::Snapshot(Box::new(Snapshot {
            last: matches!(status, "canceled" | "incomplete_expired"),
            rank,
            standing,
            items: items.iter().filter_map(item).collect(),
            anchor_ms: anchor_ms.unwrap_or_default(),
            period_ends_ms,
            trial_ends_ms,
            ends_ms,
        })),
    })
}

fn item(item: &Json) -> Option<Item> {
    let price = item.get("price").filter(|price| !price.is_null()).or_else(|| item.get("plan"))?;
    let amount = integer(price, "/unit_amount").or_else(|| integer(price, "/amount"));
    Some(Item { price: id_of(price)?, amount, currency: string(price, "/currency") })
}

/// Metadata is the merchant's own word. A `client_reference_id` stands in the link, where the payer can change it: only one
/// that this program wrote, or could have, is taken for a subject.
fn session_subject(session: &Json) -> Option<String> {
    let metadata = METADATA_KEYS.iter().find_map(|key| string(session, &format!("/metadata/{key}")));
    let given = || {
        let reference = session.get("client_reference_id").and_then(Json::as_str)?;
        subject_of(reference).filter(|subject| reference_of(subject) == reference)
    };
    metadata.filter(|subject| check_subject(subject).is_ok()).or_else(given)
}

fn payment(kind: &str, invoice: &Json) -> Payment {
    let paid = kind == "invoice.paid";
    let amount = integer(invoice, if paid { "/amount_paid" } else { "/amount_due" });
    // What a period costs is on the price; an invoice may have more and less on it.
    Payment { id: id_of(invoice), paid, whole: false, amount, currency: string(invoice, "/currency") }
}
