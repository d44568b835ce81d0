//! Whatever the order in which the events of a history come, and however often, a subject ends up with the same.

use std::sync::Arc;

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use serde_json::{Value, json};
use tollgate_control_plane::config::Settings;
use tollgate_control_plane::service::ControlPlane;
use tollgate_control_plane::service::payments::{Delivery, PaymentSettings, Provider, reference_of};
use tollgate_control_plane::service::subscriptions::Wish;

use super::payments::{POLICY, SETTINGS, stripe_event, stripe_signature};
use super::support::{START_MS, TestClock, author, plane_with};

const START_S: i64 = START_MS / 1_000;

/// One thing that happens to one of two subscriptions of a customer.
#[derive(Debug, Clone)]
struct Step {
    /// Seconds since the step before: often the same second.
    pause_s: i64,
    subscription: u8,
    kind: &'static str,
    status: &'static str,
    price: &'static str,
    cancels: bool,
    has_subject: bool,
    /// A checkout instead of a change.
    is_checkout: bool,
}

fn step() -> impl Strategy<Value = Step> {
    let kinds = ["created", "updated", "updated", "paused", "resumed", "deleted"];
    let statuses = [
        "incomplete",
        "trialing",
        "active",
        "active",
        "past_due",
        "past_due",
        "unpaid",
        "paused",
        "canceled",
    ];
    let prices = ["price_basic", "price_pro", "price_basic", "price_pro", "price_nobody_knows"];
    let pauses = [0, 0, 1, 3_600, 86_400];
    let select = |values: &'static [&'static str]| proptest::sample::select(values);
    (
        proptest::sample::select(pauses.to_vec()),
        0..2_u8,
        proptest::sample::select(kinds.to_vec()),
        proptest::sample::select(statuses.to_vec()),
        proptest::sample::select(prices.to_vec()),
        any::<bool>(),
        any::<bool>(),
        select(&["no", "no", "no", "yes"]),
    )
        .prop_map(|(pause_s, subscription, kind, status, price, cancels, has_subject, checkout)| Step {
            pause_s,
            subscription,
            kind,
            status,
            price,
            cancels,
            has_subject,
            is_checkout: checkout == "yes",
        })
}

/// A history, the order in which it is told: every event once or more, and whether the subject had something before that
/// nobody paid for.
fn told() -> impl Strategy<Value = (Vec<Step>, Vec<usize>, bool)> {
    proptest::collection::vec(step(), 1..10).prop_flat_map(|steps| {
        let count = steps.len();
        let repeated = proptest::collection::vec(0..count, 0..6);
        let order = repeated.prop_flat_map(move |repeated| {
            Just((0..count).chain(repeated).collect::<Vec<_>>()).prop_shuffle()
        });
        (Just(steps), order, any::<bool>())
    })
}

/// The events of a history, of a customer of this name, who is `user:<name>`.
fn events(steps: &[Step], name: &str) -> Vec<Value> {
    let subject = format!("user:{name}");
    let mut at_s = START_S;
    let event = |(number, step): (usize, &Step)| {
        at_s += step.pause_s;
        let (id, customer) = (format!("evt_{name}_{number:03}"), format!("cus_{name}"));
        let subscription = format!("sub_{name}_{}", step.subscription);
        if step.is_checkout {
            return json!({
                "id": id, "object": "event", "created": at_s, "livemode": false, "type": "checkout.session.completed",
                "data": {"object": {
                    "id": "cs", "customer": customer, "subscription": subscription,
                    "client_reference_id": reference_of(&subject),
                }},
            });
        }
        let period_end_s = START_S + 30 * 86_400;
        let changes = json!({
            "id": subscription, "customer": customer, "status": step.status, "cancel_at_period_end": step.cancels,
            "metadata": if step.has_subject { json!({"subject": subject}) } else { json!({}) },
            "trial_end": START_S + 14 * 86_400, "ended_at": (step.status == "canceled").then_some(at_s),
            "items": {"data": [{"price": {"id": step.price}, "current_period_end": period_end_s}]},
        });
        stripe_event(&id, &format!("customer.subscription.{}", step.kind), at_s, name, changes)
    };
    steps.iter().enumerate().map(event).collect()
}

/// Tells events, and has them worked off now and then; answers what the subject has in the end.
async fn tell(plane: &ControlPlane, events: &[&Value], subject: &str) -> Option<Value> {
    for (number, event) in events.iter().enumerate() {
        let body = event.to_string();
        let signature = stripe_signature(&body, plane.clock.now_ms() / 1_000);
        let delivery =
            Delivery { provider: Provider::Stripe, signature: Some(&signature), body: body.as_bytes() };
        plane.take_webhook(delivery).await.unwrap();
        if number % 2 == 0 {
            plane.work_off_webhooks(Provider::Stripe).await.unwrap();
        }
    }
    while plane.work_off_webhooks(Provider::Stripe).await.unwrap() > 0 {}
    let bought = plane.subscription(subject).await.ok()?;
    Some(serde_json::to_value(bought.subscription).unwrap())
}

#[test]
fn any_order_and_repetition_of_a_history_ends_in_the_same_state() {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let payments = Arc::new(PaymentSettings::parse(SETTINGS, &|_| None).unwrap());
    let settings = Settings { payments, ..Settings::default() };
    let plane = runtime.block_on(async {
        let plane = plane_with("sqlite::memory:", TestClock::shared(), settings).await;
        plane.apply_policy(&author(&plane), POLICY, None, None).await.unwrap();
        plane
    });
    let cases = std::env::var("PROPTEST_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(200);
    let number = std::cell::Cell::new(0_u32);
    let mut runner = TestRunner::new(Config { cases, failure_persistence: None, ..Config::default() });
    runner
        .run(&told(), |(steps, order, has_before)| {
            number.set(number.get() + 1);
            let (one, other) = (format!("one{}", number.get()), format!("oth{}", number.get()));
            let ends = runtime.block_on(async {
                if has_before {
                    for name in [&one, &other] {
                        let wish = Wish { tier: Some("basic".to_owned()), ..Wish::default() };
                        let subject = format!("user:{name}");
                        plane.set_subscription(&author(&plane), &subject, &wish).await.unwrap();
                    }
                }
                let (first, second) = (events(&steps, &one), events(&steps, &other));
                let in_order: Vec<&Value> = first.iter().collect();
                let shuffled: Vec<&Value> = order.iter().filter_map(|at| second.get(*at)).collect();
                let in_order = tell(&plane, &in_order, &format!("user:{one}")).await;
                (in_order, tell(&plane, &shuffled, &format!("user:{other}")).await)
            });
            prop_assert!(!has_before || ends.0.as_ref().is_some_and(|has| has["state"] != "expired"));
            prop_assert_eq!(ends.0, ends.1);
            Ok(())
        })
        .unwrap();
}
