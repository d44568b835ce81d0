//! Payment providers' webhooks, over HTTP: what is believed, what is kept, and what it comes to.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use axum::Router;
use axum::routing::post;
use hmac::{Hmac, Mac as _};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use sha2::Sha256;
use tokio::net::TcpListener;
use tollgate_control_plane::config::Settings;
use tollgate_control_plane::service::payments::{PaymentSettings, reference_of};
use tollgate_control_plane::service::usage::retention::Keeper;
use tollgate_control_plane::store::payments;

use super::support::{ADMIN, START_MS, Served, TestDatabase, answer, author, eventually, on_each_database};

pub const POLICY: &str = "
version: 1
meters: {calls: {}}
default_tier: free
default_route: {auth: none}
billing: {grace_days: 3}
tiers:
  free: {limits: [{meter: calls, quota: 5, per: hour}]}
  basic: {order: 1, limits: [{meter: calls, quota: 50, per: hour}]}
  pro: {order: 2, limits: [{meter: calls, quota: 1000, per: hour}]}
";

pub const STRIPE_SECRET: &str = "whsec_test_secret_of_the_vectors";
pub const LEMON_SECRET: &str = "secret-of-the-vectors";
const CINETPAY_SECRET: &str = "secret-of-cinetpay";

pub const SETTINGS: &str = "
stripe:
  livemode: false
  signing_secrets: [whsec_the_next_secret, whsec_test_secret_of_the_vectors]
  prices: {price_basic: basic, price_pro: {tier: pro, amount: 2900, currency: EUR}}
  checkout: {pro: 'https://buy.stripe.com/test?client_reference_id={subject}'}
lemonsqueezy:
  livemode: false
  signing_secrets: secret-of-the-vectors
  variants: {'10': basic, '11': {tier: pro, amount: 2900, currency: eur}}
  checkout: {basic: 'https://shop.example/buy/1?checkout[custom][subject]={subject}'}
";

pub const START_S: i64 = START_MS / 1_000;
pub const DAY_S: i64 = 86_400;

pub fn mac(secret: &str, parts: &[&[u8]]) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).unwrap();
    parts.iter().for_each(|part| mac.update(part));
    mac.finalize().into_bytes().iter().map(|byte| format!("{byte:02x}")).collect()
}

pub fn stripe_signature(body: &str, at_s: i64) -> String {
    let time = at_s.to_string();
    format!("t={time},v1={}", mac(STRIPE_SECRET, &[time.as_bytes(), b".", body.as_bytes()]))
}

/// An event on a subscription; `changes` are merged into the subscription.
pub fn stripe_event(id: &str, kind: &str, at_s: i64, name: &str, changes: Value) -> Value {
    let mut subscription = json!({
        "id": format!("sub_{name}"), "object": "subscription", "customer": format!("cus_{name}"), "status": "active",
        "billing_cycle_anchor": START_S, "cancel_at": null, "cancel_at_period_end": false, "canceled_at": null,
        "ended_at": null, "metadata": {}, "pause_collection": null, "trial_end": null,
        "items": {"object": "list", "data": [{
            "id": "si_1", "current_period_start": START_S, "current_period_end": START_S + 30 * DAY_S, "quantity": 1,
            "price": {"id": "price_pro", "object": "price", "unit_amount": 2900, "currency": "eur"},
        }]},
    });
    for (member, value) in changes.as_object().unwrap() {
        subscription[member] = value.clone();
    }
    json!({
        "id": id, "object": "event", "api_version": "2026-07-29", "created": at_s, "livemode": false,
        "pending_webhooks": 1, "request": {"id": null}, "type": kind, "data": {"object": subscription},
    })
}

pub fn of(subject: &str) -> Value {
    json!({"metadata": {"tollgate_subject": subject}})
}

/// A subscription of `user:<name>` that begins now, and its signature: for a program with the machine's clock.
#[expect(clippy::disallowed_methods, reason = "the program that is tested reads the machine's clock")]
pub fn created_now(name: &str) -> (String, String) {
    let now_s = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs().cast_signed();
    let subject = of(&format!("user:{name}"));
    let event = stripe_event(&format!("evt_{name}"), "customer.subscription.created", now_s, name, subject);
    let body = event.to_string();
    let signature = stripe_signature(&body, now_s);
    (body, signature)
}

pub fn lemon_event(kind: &str, at: &str, status: &str, changes: Value) -> Value {
    let mut attributes = json!({
        "store_id": 1, "customer_id": 7, "order_id": 2, "variant_id": 11, "status": status, "pause": null,
        "trial_ends_at": null, "first_subscription_item": null, "renews_at": "2027-04-01T00:00:00.000000Z",
        "ends_at": null, "created_at": "2027-03-01T00:00:00.000000Z", "updated_at": at, "test_mode": true,
    });
    for (member, value) in changes.as_object().unwrap() {
        attributes[member] = value.clone();
    }
    json!({
        "meta": {"event_name": kind, "test_mode": true, "custom_data": {"subject": "user:lemon"}},
        "data": {"type": "subscriptions", "id": "21", "attributes": attributes},
    })
}

pub fn settings(text: &str) -> Settings {
    let payments = PaymentSettings::parse(text, &|_| None).unwrap();
    Settings { payments: Arc::new(payments), ..Settings::default() }
}

pub async fn served(url: &str) -> Served {
    served_as(url, SETTINGS).await
}

pub async fn served_as(url: &str, text: &str) -> Served {
    let served = Served::start_with(url, settings(text)).await;
    served.plane.apply_policy(&author(&served.plane), POLICY, None, None).await.unwrap();
    served
}

impl Served {
    pub async fn hook(&self, provider: &str, header: (&str, &str), body: &str) -> (StatusCode, Value) {
        let request = self.client.post(format!("http://{}/webhooks/{provider}", self.address));
        answer(request.header(header.0, header.1).body(body.to_owned())).await
    }

    pub async fn stripe(&self, event: &Value) {
        let body = event.to_string();
        let signature = stripe_signature(&body, self.plane.clock.now_ms() / 1_000);
        let (status, answer) = self.hook("stripe", ("stripe-signature", &signature), &body).await;
        assert_eq!(status, 200, "{answer}");
    }

    pub async fn lemon(&self, event: &Value) {
        let body = event.to_string();
        let signature = mac(LEMON_SECRET, &[body.as_bytes()]);
        let (status, answer) = self.hook("lemonsqueezy", ("x-signature", &signature), &body).await;
        assert_eq!(status, 200, "{answer}");
    }

    /// Waits until nothing is pending; answers all webhooks, the newest first.
    pub async fn worked_off(&self) -> Vec<Value> {
        eventually("webhooks are worked off", async || {
            let page = self.get("/v1/webhooks?limit=500").await;
            let items = page["items"].as_array().unwrap().clone();
            items.iter().all(|item| item["state"] != "pending").then_some(items)
        })
        .await
    }

    pub async fn tier(&self, subject: &str) -> Value {
        self.get(&format!("/v1/subjects/{subject}")).await["tier"].clone()
    }

    async fn metric(&self, line: &str) -> bool {
        let text = self.client.get(format!("http://{}/metrics", self.address)).send().await.unwrap();
        text.text().await.unwrap().lines().any(|found| found == line)
    }
}

/// Sets the wall clock to this second.
pub fn set_clock(served: &Served, at_s: i64) {
    let ahead_ms = at_s * 1_000 - served.plane.clock.now_ms();
    match u64::try_from(ahead_ms) {
        Ok(ms) => served.clock.pass(ms),
        Err(_) => served.clock.set_wall_back(-ahead_ms),
    }
}

#[tokio::test]
async fn signatures_are_judged_as_the_providers_own_libraries_do() {
    on_each_database(async |test| {
        let served = served(&test.url).await;
        let stripe: Value = serde_json::from_str(include_str!("../vectors/stripe.json")).unwrap();
        let lemon: Value = serde_json::from_str(include_str!("../vectors/lemonsqueezy.json")).unwrap();
        let mut accepted = 0;
        for (provider, header, vectors) in
            [("stripe", "stripe-signature", &stripe), ("lemonsqueezy", "x-signature", &lemon)]
        {
            for vector in vectors["vectors"].as_array().unwrap() {
                set_clock(&served, vector["now_s"].as_i64().unwrap_or(START_S));
                let (body, signature) =
                    (vector["body"].as_str().unwrap(), vector["header"].as_str().unwrap());
                let (status, answer) = served.hook(provider, (header, signature), body).await;
                let is_accepted = vector["accepted"] == true;
                assert_eq!(status == 200, is_accepted, "{provider}: {}: {answer}", vector["name"]);
                assert!(is_accepted || answer["code"] == "webhook-refused", "{answer}");
                accepted += usize::from(is_accepted);
            }
        }
        set_clock(&served, START_S);
        let rows = served.worked_off().await;
        assert_eq!(rows.len(), 4, "each event once, and nothing of what was refused: {rows:?}");
        let deliveries: i64 = rows.iter().map(|row| row["deliveries"].as_i64().unwrap()).sum();
        assert_eq!(usize::try_from(deliveries).unwrap(), accepted);
        assert!(rows.iter().all(|row| row["state"] == "done" && row["subject"] == "user:élodie"), "{rows:?}");
        assert_eq!(served.tier("user:élodie").await, "pro");
        served.stop().await;
    })
    .await;
}

#[tokio::test]
async fn what_is_not_signed_leaves_a_count_and_no_row() {
    on_each_database(async |test| {
        let served = served(&test.url).await;
        let event = stripe_event("evt_1", "customer.subscription.created", START_S, "a", of("user:a"));
        let body = event.to_string();
        for provider in ["stripe", "lemonsqueezy"] {
            let url = format!("http://{}/webhooks/{provider}", served.address);
            let (status, answer) = answer(served.client.post(&url).body(body.clone())).await;
            assert_eq!((status.as_u16(), &answer["code"]), (400, &json!("webhook-refused")), "{answer}");
            let line = format!(
                "tollgate_webhooks_received_total{{outcome=\"signature_missing\",provider=\"{provider}\"}} 1"
            );
            assert!(served.metric(&line).await, "{line}");
        }
        let refused = async |body: &str, label: &str| {
            let signature = stripe_signature(body, START_S);
            let (status, answer) = served.hook("stripe", ("stripe-signature", &signature), body).await;
            assert_eq!(status, 400, "{answer}");
            let line =
                format!("tollgate_webhooks_received_total{{outcome=\"{label}\",provider=\"stripe\"}} 1");
            assert!(served.metric(&line).await, "{line}");
        };
        let mut live = event.clone();
        live["livemode"] = json!(true);
        refused(&live.to_string(), "livemode").await;
        refused("[1, 2", "malformed").await;
        let (status, _) = served.hook("stripe", ("stripe-signature", "t=1,v1=é"), &body).await;
        assert_eq!(status, 400);
        let long = " ".repeat((1 << 20) + 1);
        let (status, answer) = served.hook("stripe", ("stripe-signature", "t=1,v1=0"), &long).await;
        assert_eq!((status.as_u16(), &answer["code"]), (413, &json!("body-too-large")));
        let (status, answer) = served.hook("cinetpay", ("x-token", "0"), "cpm_trans_id=1").await;
        assert_eq!((status.as_u16(), &answer["code"]), (404, &json!("provider-unconfigured")));
        assert_eq!(served.get("/v1/webhooks").await["items"], json!([]));
        assert_eq!(served.tier("user:a").await, "free");
        served.stop().await;
    })
    .await;
}

#[tokio::test]
async fn a_stripe_subscription_is_followed_through_its_life() {
    on_each_database(async |test| {
        let served = served(&test.url).await;
        let mut at_s = START_S;
        let mut send = async |kind: &str, mut changes: Value, state: &str, tier: &str| {
            at_s += 10;
            changes["metadata"] = json!({"tollgate_subject": "user:a"});
            let id = format!("evt_{at_s}");
            served
                .stripe(&stripe_event(&id, &format!("customer.subscription.{kind}"), at_s, "a", changes))
                .await;
            let rows = served.worked_off().await;
            assert_eq!(rows[0]["state"], "done", "{}", rows[0]);
            let bought = served.get("/v1/subscriptions/user:a").await;
            assert_eq!(bought["state"], state, "{kind}: {bought}");
            assert_eq!(served.tier("user:a").await, tier, "{kind}: {bought}");
            (at_s, bought)
        };
        let end_s = START_S + 30 * DAY_S;
        send("created", json!({"status": "incomplete"}), "pending", "free").await;
        send("updated", json!({}), "active", "pro").await;
        let (_, trial) =
            send("updated", json!({"status": "trialing", "trial_end": end_s}), "trialing", "pro").await;
        assert_eq!(trial["expires_at_ms"], (end_s + 3 * DAY_S) * 1_000, "graced while nothing is heard");
        let (failed_s, due) = send("updated", json!({"status": "past_due"}), "past_due", "pro").await;
        let (_, again) =
            send("updated", json!({"status": "past_due", "description": "x"}), "past_due", "pro").await;
        let graced_ms = (failed_s + 3 * DAY_S) * 1_000;
        assert_eq!((&due["expires_at_ms"], &again["expires_at_ms"]), (&json!(graced_ms), &json!(graced_ms)));
        send("updated", json!({"status": "unpaid"}), "expired", "free").await;
        let (_, bought) = send("updated", json!({"cancel_at_period_end": true}), "cancelled", "pro").await;
        assert_eq!(bought["expires_at_ms"], end_s * 1_000);
        send("updated", json!({}), "active", "pro").await;
        send("paused", json!({"status": "paused"}), "paused", "free").await;
        send("resumed", json!({}), "active", "pro").await;
        send("updated", json!({"pause_collection": {"behavior": "void"}}), "paused", "free").await;
        send("updated", json!({"pause_collection": {"behavior": "keep_as_draft"}}), "active", "pro").await;
        let basic = json!({"data": [{"current_period_end": end_s, "price": {"id": "price_basic"}}]});
        send("updated", json!({"items": basic}), "active", "basic").await;
        send("deleted", json!({"status": "canceled", "ended_at": START_S + 100}), "expired", "free").await;
        served.stop().await;
    })
    .await;
}

#[tokio::test]
async fn a_period_s_end_is_read_on_the_items_and_on_the_subscription_of_before() {
    let test = TestDatabase::sqlite();
    let served = served(&test.url).await;
    let item = |end_s: Option<i64>| {
        let mut item = json!({"id": "si_1", "price": {"id": "price_basic"}});
        if let Some(end_s) = end_s {
            item["current_period_end"] = json!(end_s);
        }
        json!({"object": "list", "data": [item]})
    };
    let (one_s, two_s) = (START_S + 20 * DAY_S, START_S + 25 * DAY_S);
    for (name, of_item, of_subscription, expected_s) in [
        ("now", Some(one_s), None, one_s),
        ("before", None, Some(one_s), one_s),
        ("both", Some(one_s), Some(two_s), one_s),
    ] {
        let mut changes = of(&format!("user:{name}"));
        changes["items"] = item(of_item);
        changes["current_period_end"] = json!(of_subscription);
        let id = format!("evt_{name}");
        served.stripe(&stripe_event(&id, "customer.subscription.created", START_S, name, changes)).await;
        served.worked_off().await;
        let bought = served.get(&format!("/v1/subscriptions/user:{name}")).await;
        assert_eq!(bought["current_period_ends_at_ms"], expected_s * 1_000, "{name}: {bought}");
    }
    served.stop().await;
}

#[tokio::test]
async fn a_cancelled_lemonsqueezy_subscription_holds_until_its_end() {
    on_each_database(async |test| {
        let served = served(&test.url).await;
        let cancelled = json!({"ends_at": "2027-04-01T00:00:00.000000Z", "cancelled": true});
        let (created, gone) = ("2027-03-01T00:00:00.000000Z", "2027-03-02T00:00:00.000000Z");
        // The later one first.
        served.lemon(&lemon_event("subscription_cancelled", gone, "cancelled", cancelled.clone())).await;
        served.lemon(&lemon_event("subscription_created", created, "active", json!({}))).await;
        served.lemon(&lemon_event("subscription_updated", gone, "cancelled", cancelled)).await;
        served.worked_off().await;
        let bought = served.get("/v1/subscriptions/user:lemon").await;
        assert_eq!(bought["state"], "cancelled", "{bought}");
        assert_eq!(served.tier("user:lemon").await, "pro");
        set_clock(&served, START_S + 31 * DAY_S - 1);
        assert_eq!(served.tier("user:lemon").await, "pro");
        set_clock(&served, START_S + 31 * DAY_S);
        assert_eq!(served.tier("user:lemon").await, "free");
        served.stop().await;
    })
    .await;
}

#[tokio::test]
async fn a_payment_is_noted_once_and_one_of_another_amount_is_told() {
    on_each_database(async |test| {
        let served = served(&test.url).await;
        let time = "2027-03-01T00:00:00.000000Z";
        served.lemon(&lemon_event("subscription_created", time, "active", json!({}))).await;
        served.worked_off().await;
        let invoice = |kind: &str, subtotal: i64, time: &str| {
            json!({
                "meta": {"event_name": kind, "test_mode": true},
                "data": {"type": "subscription-invoices", "id": "31", "attributes": {
                    "subscription_id": 21, "customer_id": 7, "billing_reason": "renewal", "status": "paid",
                    "currency": "EUR", "subtotal": subtotal, "total": subtotal, "updated_at": time, "test_mode": true,
                }},
            })
        };
        let later = "2027-03-01T00:00:01.000000Z";
        for event in [
            invoice("subscription_payment_success", 2_900, time),
            invoice("subscription_payment_success", 2_900, time),
            invoice("subscription_payment_success", 29, later),
            invoice("subscription_payment_failed", 2_900, later),
        ] {
            served.lemon(&event).await;
        }
        let rows = served.worked_off().await;
        let failed: Vec<_> = rows.iter().filter(|row| row["state"] == "failed").collect();
        assert_eq!(failed.len(), 1, "{rows:?}");
        assert_eq!(failed[0]["error"], "the amount is 29 EUR, where the payments file says 2900 EUR");
        let audit = served.get("/v1/audit?target=user:lemon").await;
        let noted: Vec<_> = audit["items"]
            .as_array()
            .unwrap()
            .iter()
            .filter(|row| row["action"] != "subscription.payment")
            .map(|row| (row["action"].as_str().unwrap(), row["after"]["differs"].is_string()))
            .collect();
        let expected = [("payment.failed", false), ("payment.paid", true), ("payment.paid", false)];
        assert_eq!(noted, expected, "{audit}");
        assert!(audit["items"].as_array().unwrap().iter().all(|row| row["actor"] == "webhook:lemonsqueezy"));
        served.stop().await;
    })
    .await;
}

#[tokio::test]
async fn an_event_of_an_unknown_subject_waits_until_it_is_linked() {
    on_each_database(async |test| {
        let served = served(&test.url).await;
        let event = |name: &str| {
            stripe_event(&format!("evt_{name}"), "customer.subscription.created", START_S, name, json!({}))
        };
        served.stripe(&event("a")).await;
        served.stripe(&event("b")).await;
        let rows = served.worked_off().await;
        assert!(rows.iter().all(|row| row["state"] == "unlinked"), "{rows:?}");
        // By an operator.
        let path = format!("/v1/webhooks/{}/link", rows[1]["id"]);
        let (status, row) = served.send(Method::POST, &path, Some(json!({"subject": "user:a"}))).await;
        assert_eq!((status.as_u16(), &row["state"]), (200, &json!("done")), "{row}");
        assert_eq!(served.tier("user:a").await, "pro");
        // By the checkout, which is heard later.
        let session = json!({
            "id": "evt_session", "object": "event", "created": START_S, "livemode": false,
            "type": "checkout.session.completed", "data": {"object": {
                "id": "cs_1", "object": "checkout.session", "mode": "subscription", "customer": "cus_b",
                "subscription": "sub_b", "client_reference_id": reference_of("user:b c"),
            }},
        });
        served.stripe(&session).await;
        eventually("the checkout says whose it is", async || {
            (served.tier("user:b c").await == "pro").then_some(())
        })
        .await;
        let rows = served.worked_off().await;
        assert!(rows.iter().all(|row| row["state"] == "done"), "{rows:?}");
        let (status, body) =
            served.send(Method::POST, "/v1/webhooks/999/link", Some(json!({"subject": "user:a"}))).await;
        assert_eq!((status.as_u16(), &body["code"]), (404, &json!("webhook-missing")));
        served.stop().await;
    })
    .await;
}

#[tokio::test]
async fn an_id_that_comes_again_with_something_else_is_told_and_does_nothing() {
    on_each_database(async |test| {
        let served = served(&test.url).await;
        let kind = "customer.subscription.updated";
        let event = stripe_event("evt_1", kind, START_S, "a", of("user:a"));
        let mut again = event.clone();
        again["pending_webhooks"] = json!(0);
        let mut other = of("user:a");
        other["status"] = json!("canceled");
        served.stripe(&event).await;
        served.stripe(&again).await;
        served.stripe(&stripe_event("evt_1", kind, START_S + 5, "a", other)).await;
        let mut unknown = event.clone();
        (unknown["id"], unknown["type"]) = (json!("evt_2"), json!("charge.succeeded"));
        served.stripe(&unknown).await;
        let rows = served.worked_off().await;
        let states: Vec<_> = rows.iter().map(|row| (&row["state"], &row["deliveries"])).collect();
        let (one, two) = (json!(1), json!(2));
        let expected = [(&json!("ignored"), &one), (&json!("conflict"), &one), (&json!("done"), &two)];
        assert_eq!(states, expected, "{rows:?}");
        assert_eq!(served.tier("user:a").await, "pro");
        let conflicts = served.get("/v1/webhooks?state=conflict").await;
        assert_eq!(conflicts["items"].as_array().unwrap().len(), 1);
        served.stop().await;
    })
    .await;
}

#[tokio::test]
async fn an_unknown_price_or_amount_fails_and_can_be_replayed() {
    on_each_database(async |test| {
        let served = served(&test.url).await;
        let mut other = of("user:a");
        other["items"] = json!({"data": [{"price": {"id": "price_other"}}]});
        served.stripe(&stripe_event("evt_1", "customer.subscription.created", START_S, "a", other)).await;
        let mut cheap = of("user:b");
        cheap["items"] =
            json!({"data": [{"price": {"id": "price_pro", "unit_amount": 1, "currency": "eur"}}]});
        served.stripe(&stripe_event("evt_2", "customer.subscription.created", START_S, "b", cheap)).await;
        let rows = served.worked_off().await;
        assert!(rows.iter().all(|row| row["state"] == "failed"), "{rows:?}");
        assert_eq!(
            (served.tier("user:a").await, served.tier("user:b").await),
            (json!("free"), json!("free"))
        );
        let id = rows[1]["id"].clone();
        served.stop().await;
        let served =
            Served::start_with(&test.url, settings(&SETTINGS.replace("price_basic", "price_other"))).await;
        let (status, row) = served.send(Method::POST, &format!("/v1/webhooks/{id}/replay"), None).await;
        assert_eq!((status.as_u16(), &row["state"]), (200, &json!("done")), "{row}");
        assert_eq!(served.tier("user:a").await, "basic");
        served.stop().await;
    })
    .await;
}

#[tokio::test]
async fn of_two_subscriptions_the_better_holds_and_the_other_follows() {
    on_each_database(async |test| {
        let served = served(&test.url).await;
        let mut basic = of("user:a");
        basic["items"] = json!({"data": [{"price": {"id": "price_basic"}}]});
        served.stripe(&stripe_event("evt_1", "customer.subscription.created", START_S, "basic", basic)).await;
        let mut pro = of("user:a");
        pro["cancel_at"] = json!(START_S + 100);
        served.stripe(&stripe_event("evt_2", "customer.subscription.created", START_S, "pro", pro)).await;
        served.worked_off().await;
        assert_eq!(served.tier("user:a").await, "pro");
        set_clock(&served, START_S + 100);
        assert_eq!(served.tier("user:a").await, "basic");
        served.stop().await;
    })
    .await;
}

/// A stand-in of CinetPay's API: what it says of each payment, and what it was asked.
#[derive(Clone, Default)]
pub struct CinetPay {
    says: Arc<Mutex<Value>>,
    asked: Arc<Mutex<Vec<Value>>>,
}

impl CinetPay {
    pub async fn start(self) -> String {
        let (check, begin) = (self.clone(), self);
        let router = Router::new()
            .route(
                "/v2/payment/check",
                post(async move |axum::Json(body): axum::Json<Value>| check.answer(body)),
            )
            .route(
                "/v2/payment",
                post(async move |axum::Json(body): axum::Json<Value>| {
                    begin.asked.lock().unwrap_or_else(PoisonError::into_inner).push(body);
                    let page = json!({"payment_token": "t", "payment_url": "https://checkout.example/t"});
                    axum::Json(json!({"code": "201", "message": "CREATED", "data": page}))
                }),
            );
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move { axum::serve(listener, router).await });
        format!("http://{address}")
    }

    fn answer(&self, body: Value) -> axum::Json<Value> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner).push(body);
        axum::Json(self.says.lock().unwrap_or_else(PoisonError::into_inner).clone())
    }

    pub fn say(&self, code: &str, status: &str, amount: &str, currency: &str) {
        let data = json!({"amount": amount, "currency": currency, "status": status, "payment_method": "OM"});
        *self.says.lock().unwrap_or_else(PoisonError::into_inner) = json!({"code": code, "data": data});
    }

    /// What it was asked, the first time or a later one.
    pub fn asked_of(&self, number: usize) -> Value {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner)[number].clone()
    }

    pub fn asked(&self) -> usize {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner).len()
    }
}

/// The sixteen fields that are signed, in their order.
const SIGNED: [&str; 16] = [
    "cpm_site_id",
    "cpm_trans_id",
    "cpm_trans_date",
    "cpm_amount",
    "cpm_currency",
    "signature",
    "payment_method",
    "cel_phone_num",
    "cpm_phone_prefixe",
    "cpm_language",
    "cpm_version",
    "cpm_payment_config",
    "cpm_page_action",
    "cpm_custom",
    "cpm_designation",
    "cpm_error_message",
];

pub fn notification(order: &str, message: &str) -> (String, String) {
    let value = |name: &str| match name {
        "cpm_site_id" => "445160".to_owned(),
        "cpm_trans_id" => order.to_owned(),
        "cpm_amount" => "10000".to_owned(),
        "cpm_currency" => "XOF".to_owned(),
        "cpm_designation" => "Abonnement été".to_owned(),
        "cpm_error_message" => message.to_owned(),
        _ => String::new(),
    };
    let values: Vec<String> = SIGNED.iter().map(|name| value(name)).collect();
    let signed: Vec<&[u8]> = values.iter().map(String::as_bytes).collect();
    // Not in their order, and without the empty ones.
    let pairs = SIGNED.iter().zip(&values).rev().filter(|(_, value)| !value.is_empty());
    let body = form_urlencoded::Serializer::new(String::new()).extend_pairs(pairs).finish();
    (body, mac(CINETPAY_SECRET, &signed))
}

#[tokio::test]
async fn cinetpay_grants_only_what_its_api_says_is_paid_and_was_ordered() {
    on_each_database(async |test| {
        let cinetpay = CinetPay::default();
        let base_url = cinetpay.clone().start().await;
        let text = format!(
            "cinetpay: {{site_id: '445160', api_key: key, secret_key: {CINETPAY_SECRET}, base_url: '{base_url}', \
             notify_url: 'https://api.example/webhooks/cinetpay', return_url: 'https://example.com', \
             plans: {{pro: {{amount: 10000, currency: XOF, months: 1}}}}}}"
        );
        let served = served_as(&test.url, &text).await;
        let ping = served.client.get(format!("http://{}/webhooks/cinetpay", served.address)).send().await.unwrap();
        assert_eq!(ping.status(), 200);
        let link = served.plane.checkout(&author(&served.plane), "user:a", "pro").await.unwrap().unwrap();
        assert_eq!(link.url, "https://checkout.example/t");
        let begun = cinetpay.asked.lock().unwrap()[0].clone();
        assert_eq!((&begun["amount"], &begun["currency"]), (&json!(10_000), &json!("XOF")), "{begun}");
        let order = begun["transaction_id"].as_str().unwrap().to_owned();
        assert_eq!(served.tier("user:a").await, "free", "an order grants nothing");

        let notify = async |order: &str, message: &str, state: &str, tier: &str| {
            // Later than so soon after the one before that it waits.
            served.clock.pass(10_000);
            let (body, token) = notification(order, message);
            let (status, answer) = served.hook("cinetpay", ("x-token", &token), &body).await;
            assert_eq!(status, 200, "{answer}");
            let rows = served.worked_off().await;
            let row = rows.iter().find(|row| row["reference"] == order).unwrap();
            assert_eq!(row["state"], state, "{rows:?}");
            assert_eq!(served.tier("user:a").await, tier, "{rows:?}");
        };
        cinetpay.say("662", "WAITING_FOR_CUSTOMER", "10000", "XOF");
        notify(&order, "SUCCES", "done", "free").await;
        cinetpay.say("00", "ACCEPTED", "100", "XOF");
        notify(&order, "other amount", "failed", "free").await;
        cinetpay.say("00", "ACCEPTED", "10000", "XAF");
        notify(&order, "other currency", "failed", "free").await;
        cinetpay.say("627", "REFUSED", "10000", "XOF");
        notify(&order, "refused", "done", "free").await;
        notify("another-order", "SUCCES", "ignored", "free").await;
        cinetpay.say("00", "ACCEPTED", "10000", "XOF");
        // The first notification again, word for word: it makes us ask again.
        served.clock.pass(10_000);
        let (body, token) = notification(&order, "SUCCES");
        assert_eq!(served.hook("cinetpay", ("x-token", &token), &body).await.0, 200);
        eventually("the payment is known", async || (served.tier("user:a").await == "pro").then_some(())).await;
        let paid_ms = served.plane.clock.now_ms();
        let asked = cinetpay.asked();
        notify(&order, "once more", "done", "pro").await;
        assert_eq!(cinetpay.asked(), asked, "of a paid order nothing is asked");
        let bought = served.get("/v1/subscriptions/user:a").await;
        assert_eq!(bought["expires_at_ms"], paid_ms + 31 * DAY_S * 1_000, "a month: {bought}");
        let revenue = served.get("/v1/analytics/revenue").await;
        let paid = json!([{"tier": "pro", "currency": "XOF", "count": 1, "minor": 10_000}]);
        assert_eq!(revenue["paid"], paid, "{revenue}");

        let (body, token) = notification(&order, "forged");
        let other = body.replace("forged", "forgot");
        assert_eq!(served.hook("cinetpay", ("x-token", &token), &other).await.0, 400);
        set_clock(&served, paid_ms / 1_000 + 31 * DAY_S);
        assert_eq!(served.tier("user:a").await, "free");
        served.stop().await;
    })
    .await;
}

#[tokio::test]
async fn who_pays_after_a_trial_has_had_it() {
    on_each_database(async |test| {
        let served = served(&test.url).await;
        let trial = json!({"action": "trial", "tier": "pro", "days": 1});
        let path = "/v1/subscriptions/user:a";
        let begin = async || {
            served.send(Method::POST, &format!("{path}/actions"), Some(trial.clone())).await.0.as_u16()
        };
        assert_eq!(begin().await, 200);
        set_clock(&served, START_S + 2 * DAY_S);
        let at_s = START_S + 2 * DAY_S;
        served.stripe(&stripe_event("evt_1", "customer.subscription.created", at_s, "a", of("user:a"))).await;
        served.worked_off().await;
        let bought = served.get(path).await;
        assert_eq!((&bought["state"], &bought["tier"]), (&json!("active"), &json!("pro")), "{bought}");
        assert_eq!(bought["trial_ends_at_ms"], START_MS + DAY_S * 1_000, "{bought}");
        let over =
            json!({"status": "canceled", "ended_at": at_s, "metadata": {"tollgate_subject": "user:a"}});
        served.stripe(&stripe_event("evt_2", "customer.subscription.deleted", at_s + 1, "a", over)).await;
        served.worked_off().await;
        assert_eq!(served.tier("user:a").await, "free");
        assert_eq!(begin().await, 409);
        served.stop().await;
    })
    .await;
}

#[tokio::test]
async fn whoever_asks_again_is_sent_to_the_same_order() {
    on_each_database(async |test| {
        let cinetpay = CinetPay::default();
        let base_url = cinetpay.clone().start().await;
        let text = format!(
            "cinetpay: {{site_id: '445160', api_key: key, secret_key: {CINETPAY_SECRET}, base_url: '{base_url}', \
             notify_url: 'https://api.example/webhooks/cinetpay', return_url: 'https://example.com', \
             plans: {{pro: {{amount: 10000, currency: XOF}}, basic: {{amount: 5000, currency: XOF}}}}}}"
        );
        let served = served_as(&test.url, &text).await;
        let ask = async |subject: &str, tier: &str| {
            let link = served.plane.checkout(&author(&served.plane), subject, tier).await;
            link.map(|link| link.unwrap().url)
        };
        let id = |number: usize| {
            let asked = cinetpay.asked.lock().unwrap();
            asked[number]["transaction_id"].as_str().unwrap().to_owned()
        };
        for _ in 0..5 {
            assert_eq!(ask("user:a", "pro").await.unwrap(), "https://checkout.example/t");
        }
        assert_eq!(cinetpay.asked(), 1, "one order");
        ask("user:a", "basic").await.unwrap();
        ask("user:b", "pro").await.unwrap();
        assert_eq!(cinetpay.asked(), 3, "another tier and another one's are others");
        // What is paid is done with: the next order follows it.
        cinetpay.say("00", "ACCEPTED", "10000", "XOF");
        let (body, token) = notification(&id(0), "SUCCES");
        assert_eq!(served.hook("cinetpay", ("x-token", &token), &body).await.0, 200);
        eventually("the payment is known", async || (served.tier("user:a").await == "pro").then_some(())).await;
        let before = cinetpay.asked();
        ask("user:a", "pro").await.unwrap();
        assert_eq!(cinetpay.asked(), before + 1);
        // Prices may change, and pages end.
        served.clock.pass(3_600_001);
        ask("user:a", "basic").await.unwrap();
        assert_eq!(cinetpay.asked(), before + 2);
        // After weeks nobody pays any more. What was paid is kept.
        let kept = async |number: usize| {
            payments::order(&served.plane.database, "cinetpay", &id(number)).await.unwrap().is_some()
        };
        served.clock.pass(31 * 86_400_000);
        ask("user:c", "pro").await.unwrap();
        let mut keeper = Keeper::default();
        while keeper.fold(&served.plane).await.unwrap() > 0 {}
        assert_eq!((kept(0).await, kept(1).await, kept(2).await), (true, false, false));
        assert!(kept(cinetpay.asked() - 1).await, "a new one is");
        served.stop().await;
    })
    .await;
}

#[tokio::test]
async fn orders_that_come_to_nothing_are_not_made_without_end() {
    let test = TestDatabase::sqlite();
    // Nobody answers there.
    let text = format!(
        "cinetpay: {{site_id: '445160', api_key: key, secret_key: {CINETPAY_SECRET}, base_url: 'http://127.0.0.1:1', \
         notify_url: 'https://api.example/webhooks/cinetpay', return_url: 'https://example.com', \
         plans: {{pro: {{amount: 10000, currency: XOF}}}}}}"
    );
    let served = served_as(&test.url, &text).await;
    let ask = async || {
        let refused = served.plane.checkout(&author(&served.plane), "user:a", "pro").await.unwrap_err();
        refused.to_string()
    };
    for _ in 0..10 {
        assert!(ask().await.contains("does not answer"));
    }
    assert!(ask().await.contains("try again in an hour"), "CinetPay is not asked any more");
    served.clock.pass(3_600_001);
    assert!(ask().await.contains("does not answer"));
    served.stop().await;
}

#[tokio::test]
async fn links_to_a_checkout_carry_the_subject() {
    on_each_database(async |test| {
        let served = served(&test.url).await;
        let link = async |tier: &str| {
            served.plane.checkout(&author(&served.plane), "org:a&b c", tier).await.unwrap()
        };
        let stripe = link("pro").await.unwrap().url;
        let reference = stripe.strip_prefix("https://buy.stripe.com/test?client_reference_id=").unwrap();
        assert!(
            reference.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte)),
            "{reference}"
        );
        let lemon = link("basic").await.unwrap().url;
        assert!(lemon.ends_with("[subject]=org%3Aa%26b%20c"), "{lemon}");
        assert_eq!(link("free").await, None);
        served.stop().await;
    })
    .await;
}

#[tokio::test]
async fn a_thousand_webhooks_at_once_are_all_stored_and_each_once() {
    on_each_database(async |test| {
        let served = Arc::new(served(&test.url).await);
        let mut senders = tokio::task::JoinSet::new();
        for sender in 0..20 {
            let served = served.clone();
            senders.spawn(async move {
                for number in 0..50 {
                    let name = format!("{}", (sender * 50 + number) % 500);
                    let mut event =
                        stripe_event(&format!("evt_{name}"), "charge.updated", START_S, &name, json!({}));
                    event["pending_webhooks"] = json!(number);
                    served.stripe(&event).await;
                }
            });
        }
        senders.join_all().await;
        let rows = served.get("/v1/webhooks?limit=500").await;
        let rows = rows["items"].as_array().unwrap();
        assert_eq!(rows.len(), 500);
        assert!(rows.iter().all(|row| row["deliveries"] == 2 && row["state"] == "ignored"));
        Arc::into_inner(served).unwrap().stop().await;
    })
    .await;
}

#[test]
fn secrets_are_never_shown() {
    let secrets = ["whsec_the_next_secret", STRIPE_SECRET, LEMON_SECRET];
    let shown = format!("{:?}", settings(SETTINGS));
    assert!(secrets.iter().all(|secret| !shown.contains(secret)), "{shown}");
    for (text, expected) in [
        ("stripe: whsec_secret_in_a_wrong_place", ""),
        ("stripe: {livemode: whsec_secret, prices: {}, signing_secrets: a}", ""),
        ("stripe: {livemode: false, prices: {}, signing_secrets: {whsec: secret}}", ""),
        ("stripe: {livemode: false, prices: {}, signing_secrets: [12345678]}", ""),
        ("stripe: {livemode: false, prices: {}, signing_secrets: secr}", "6 characters or more"),
        ("stripe: {livemode: false, prices: {}, signing_secrets: {env: NOT_THERE}}", "NOT_THERE"),
        (
            "stripe: {livemode: false, prices: {}, signing_secrets: abcdefgh, checkout: {pro: 'https://a.example'}}",
            "{subject}",
        ),
    ] {
        let error = PaymentSettings::parse(text, &|_| None).unwrap_err().to_string();
        assert!(error.contains(expected), "{text}: {error}");
        assert!(!error.contains("whsec_secret") && !error.contains("12345678"), "{error}");
    }
    let text = "stripe: {livemode: false, prices: {}, signing_secrets: {env: THERE}}";
    assert!(PaymentSettings::parse(text, &|name| (name == "THERE").then(|| "abcdefgh".to_owned())).is_ok());
}

#[tokio::test]
async fn only_operators_look_at_webhooks() {
    on_each_database(async |test| {
        let served = served(&test.url).await;
        let request = served.client.get(format!("http://{}/v1/webhooks", served.address));
        assert_eq!(answer(request).await.0, 401);
        let (status, _) = answer(served.request(Method::GET, "/v1/webhooks?state=odd", ADMIN)).await;
        assert_eq!(status, 400);
        served.stop().await;
    })
    .await;
}
