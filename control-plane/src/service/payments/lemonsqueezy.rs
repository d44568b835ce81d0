//! LemonSqueezy's events. They have no id and no time of their own: the body's hash tells them apart, and
//! `updated_at` of what they are about puts them in order.

use jiff::Timestamp;
use serde_json::{Map, Value as Json};

use super::fact::{Fact, Item, Payment, Snapshot, Standing, What};
use super::reading::{Reading, canonical_hash, integer, string, text_or_number};
use super::signature::Refusal;
use crate::service::subscriptions::check_subject;

/// Keys of a checkout's custom data that name the subject.
const CUSTOM_KEYS: [&str; 2] = ["subject", "tollgate_subject"];

/// Reads an event. `X-Event-Name` is not looked at: it is not signed.
pub fn read(body: &[u8], livemode: bool) -> Result<Reading, Refusal> {
    let event: Map<String, Json> = serde_json::from_slice(body).map_err(|_| Refusal::Malformed)?;
    let hash = canonical_hash(&event, &[]);
    let event = Json::Object(event);
    let kind = string(&event, "/meta/event_name").ok_or(Refusal::Malformed)?;
    let flag = |pointer: &str| event.pointer(pointer).and_then(Json::as_bool);
    let is_test = flag("/data/attributes/test_mode").or_else(|| flag("/meta/test_mode")).unwrap_or_default();
    if is_test == livemode {
        return Err(Refusal::Livemode);
    }
    let attributes = event.pointer("/data/attributes").unwrap_or(&Json::Null);
    let custom =
        CUSTOM_KEYS.iter().find_map(|key| text_or_number(&event, &format!("/meta/custom_data/{key}")));
    let subject = custom.filter(|subject| check_subject(subject).is_ok());
    let at_ms = time_ms(attributes, "/updated_at").or_else(|| time_ms(attributes, "/created_at"));
    let what = string(&event, "/data/type").unwrap_or_default();
    let (reference, what) = match what.as_str() {
        "subscriptions" if kind.starts_with("subscription_") => (
            text_or_number(&event, "/data/id"),
            snapshot(&kind, attributes).map(|s| What::Snapshot(Box::new(s))),
        ),
        "subscription-invoices" if kind.starts_with("subscription_payment_") => {
            (text_or_number(attributes, "/subscription_id"), Some(What::Payment(payment(&kind, &event))))
        }
        _ => (None, None),
    };
    let account = text_or_number(attributes, "/customer_id").or_else(|| reference.clone());
    let fact = what.filter(|_| reference.is_some()).map(|what| Fact { subject, what });
    let at_ms = at_ms.unwrap_or_default();
    Reading { event_id: hash.clone(), hash, kind, account, reference, at_ms, fact }.checked()
}

fn snapshot(kind: &str, attributes: &Json) -> Option<Snapshot> {
    let moment = |pointer: &str| time_ms(attributes, pointer);
    let period_ends_ms = moment("/renews_at");
    let (standing, ends_ms) = match attributes.get("status")?.as_str()? {
        "on_trial" => (Standing::Trialing, None),
        "active" => (Standing::Active, None),
        // `free`: "offer your services for free while paused"; `void`: do not.
        "paused" if string(attributes, "/pause/mode").as_deref() == Some("free") => (Standing::Active, None),
        "paused" => (Standing::Paused, None),
        "past_due" => (Standing::PastDue, None),
        // Valid until its end, unlike Stripe's `canceled`. One without an end is over when it says so.
        "cancelled" => {
            (Standing::Active, moment("/ends_at").or(period_ends_ms).or_else(|| moment("/updated_at")))
        }
        "unpaid" | "expired" => (Standing::Over, moment("/ends_at")),
        _ => return None,
    };
    let rank = match kind {
        "subscription_created" => 0,
        "subscription_updated" => 1,
        _ => 2,
    };
    let price = text_or_number(attributes, "/variant_id");
    let items = price.into_iter().map(|price| Item { price, amount: None, currency: None }).collect();
    Some(Snapshot {
        last: false,
        rank,
        standing,
        items,
        anchor_ms: moment("/created_at").unwrap_or_default(),
        period_ends_ms,
        trial_ends_ms: moment("/trial_ends_at"),
        ends_ms,
    })
}

fn payment(kind: &str, event: &Json) -> Payment {
    let invoice = event.pointer("/data/attributes").unwrap_or(&Json::Null);
    let paid = matches!(kind, "subscription_payment_success" | "subscription_payment_recovered");
    let reason = string(invoice, "/billing_reason").unwrap_or_default();
    Payment {
        id: text_or_number(event, "/data/id"),
        paid,
        whole: matches!(reason.as_str(), "initial" | "renewal"),
        amount: integer(invoice, "/subtotal"),
        currency: string(invoice, "/currency"),
    }
}

fn time_ms(json: &Json, pointer: &str) -> Option<i64> {
    let time: Timestamp = json.pointer(pointer)?.as_str()?.parse().ok()?;
    Some(time.as_millisecond())
}
