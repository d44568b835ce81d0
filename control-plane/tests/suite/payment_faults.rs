//! Payments that are wrong, doubtful, for somebody else, or at the same moment as others: nobody keeps what is not paid, and
//! nobody loses what they have.

use std::collections::BTreeSet;

use reqwest::Method;
use serde_json::{Value, json};
use sqlx::Connection as _;
use tollgate_control_plane::service::payments::{Delivery, PaymentSettings, Provider, reference_of};
use tollgate_control_plane::store::audit::Author;

use super::payments::{
    CinetPay, DAY_S, LEMON_SECRET, POLICY, SETTINGS, START_S, lemon_event, mac, notification, of, served,
    served_as, set_clock, settings, stripe_event, stripe_signature,
};
use super::support::{START_MS, Served, TestClock, author, eventually, on_each_database, plane_with};

/// Items of a subscription: of one price.
fn priced(subject: &str, price: &str) -> Value {
    let mut changes = of(subject);
    changes["items"] =
        json!({"data": [{"price": {"id": price}, "current_period_end": START_S + 30 * DAY_S}]});
    changes
}

fn with(mut changes: Value, member: &str, value: Value) -> Value {
    changes[member] = value;
    changes
}

async fn session(served: &Served, name: &str, reference: &str, metadata: Value) {
    let event = json!({
        "id": format!("evt_session_{name}"), "object": "event", "created": START_S, "livemode": false,
        "type": "checkout.session.completed", "data": {"object": {
            "id": "cs_1", "object": "checkout.session", "mode": "subscription", "customer": format!("cus_{name}"),
            "subscription": format!("sub_{name}"), "client_reference_id": reference, "metadata": metadata,
        }},
    });
    served.stripe(&event).await;
}

#[tokio::test]
async fn a_tier_does_not_outlive_what_is_wrong_with_its_newest_event() {
    on_each_database(async |test| {
        let served = served(&test.url).await;
        let kind = "customer.subscription.updated";
        served.stripe(&stripe_event("evt_1", kind, START_S, "a", priced("user:a", "price_pro"))).await;
        served.worked_off().await;
        let other = priced("user:a", "price_nobody_knows");
        served.stripe(&stripe_event("evt_2", kind, START_S + 10, "a", other.clone())).await;
        let again = with(other.clone(), "description", json!("more news"));
        served.stripe(&stripe_event("evt_3", kind, START_S + 20, "a", again)).await;
        let rows = served.worked_off().await;
        assert_eq!((&rows[0]["state"], &rows[2]["state"]), (&json!("failed"), &json!("done")), "{rows:?}");
        let bought = served.get("/v1/subscriptions/user:a").await;
        let end_ms = (START_S + 10 + 3 * DAY_S) * 1_000;
        assert_eq!((&bought["tier"], &bought["expires_at_ms"]), (&json!("pro"), &json!(end_ms)), "{bought}");
        let over = with(other, "status", json!("canceled"));
        let deleted = stripe_event("evt_4", "customer.subscription.deleted", START_S + 30, "a", over);
        served.stripe(&deleted).await;
        let rows = served.worked_off().await;
        assert_eq!(rows[0]["state"], "done", "that it is over needs no price: {rows:?}");
        assert_eq!(served.tier("user:a").await, "free");
        served.stop().await;
    })
    .await;
}

#[tokio::test]
async fn a_price_that_is_taken_out_of_the_file_keeps_no_tier_for_good() {
    on_each_database(async |test| {
        let kind = "customer.subscription.updated";
        let before = served(&test.url).await;
        for name in ["a", "b"] {
            let changes = priced(&format!("user:{name}"), "price_pro");
            before.stripe(&stripe_event(&format!("evt_{name}"), kind, START_S, name, changes)).await;
        }
        before.worked_off().await;
        before.stop().await;
        let served =
            Served::start_with(&test.url, settings(&SETTINGS.replace("price_pro", "price_new"))).await;
        let over = with(priced("user:a", "price_pro"), "status", json!("canceled"));
        served
            .stripe(&stripe_event("evt_a2", "customer.subscription.deleted", START_S + 10, "a", over))
            .await;
        for at_s in [START_S + 20, START_S + DAY_S] {
            let renewed = priced("user:b", "price_pro");
            served.stripe(&stripe_event(&format!("evt_b_{at_s}"), kind, at_s, "b", renewed)).await;
            served.worked_off().await;
        }
        assert_eq!(served.tier("user:a").await, "free");
        let bought = served.get("/v1/subscriptions/user:b").await;
        let end_ms = (START_S + 20 + 3 * DAY_S) * 1_000;
        assert_eq!((&bought["tier"], &bought["expires_at_ms"]), (&json!("pro"), &json!(end_ms)), "{bought}");
        served.stop().await;
    })
    .await;
}

#[tokio::test]
async fn whoever_buys_for_somebody_else_takes_nothing_away() {
    on_each_database(async |test| {
        let served = served(&test.url).await;
        let overrides = json!({"calls.hour": 2_000});
        served.put("/v1/subscriptions/org:acme", json!({"tier": "pro", "overrides": overrides})).await;
        let mut at_s = START_S;
        let mut send = async |kind: &str, status: &str| {
            at_s += 10;
            let changes = with(priced("org:acme", "price_basic"), "status", json!(status));
            let id = format!("evt_{at_s}");
            let event = stripe_event(&id, &format!("customer.subscription.{kind}"), at_s, "m", changes);
            served.stripe(&event).await;
            let rows = served.worked_off().await;
            assert_eq!(rows[0]["state"], "done", "{rows:?}");
            let has = served.get("/v1/subscriptions/org:acme").await;
            assert_eq!((&has["tier"], &has["state"]), (&json!("pro"), &json!("active")), "{status}: {has}");
            assert_eq!(has["overrides"], overrides);
        };
        send("created", "incomplete").await;
        send("updated", "trialing").await;
        send("updated", "active").await;
        send("paused", "paused").await;
        send("deleted", "canceled").await;
        // What an operator takes away is gone, though, and what is bought holds by itself.
        let (status, _) = served.send(Method::DELETE, "/v1/subscriptions/org:acme", None).await;
        assert_eq!(status, 204);
        let bought = priced("org:acme", "price_basic");
        served.stripe(&stripe_event("evt_n", "customer.subscription.created", at_s, "n", bought)).await;
        served.worked_off().await;
        assert_eq!(served.tier("org:acme").await, "basic");
        served.stop().await;
    })
    .await;
}

#[tokio::test]
async fn what_was_set_by_hand_comes_back_after_what_was_bought() {
    on_each_database(async |test| {
        let served = served(&test.url).await;
        served.put("/v1/subscriptions/user:a", json!({"tier": "basic"})).await;
        let kind = "customer.subscription.updated";
        let pro = with(priced("user:a", "price_pro"), "cancel_at", json!(START_S + 100));
        served.stripe(&stripe_event("evt_1", kind, START_S, "a", pro.clone())).await;
        served.worked_off().await;
        assert_eq!(served.tier("user:a").await, "pro");
        // An operator's change to what is being paid for is none that stays.
        let change = json!({"expires_at_ms": null, "state": "active"});
        let (status, body) = served.send(Method::PATCH, "/v1/subscriptions/user:a", Some(change)).await;
        assert_eq!(status, 200, "{body}");
        served
            .stripe(&stripe_event(
                "evt_2",
                kind,
                START_S + 1,
                "a",
                with(pro, "cancel_at", json!(START_S + 50)),
            ))
            .await;
        served.worked_off().await;
        set_clock(&served, START_S + 50);
        assert_eq!(served.tier("user:a").await, "basic");
        served.stop().await;
    })
    .await;
}

#[tokio::test]
async fn a_trial_that_was_had_is_remembered_whatever_is_bought() {
    on_each_database(async |test| {
        let served = served(&test.url).await;
        let trial_ends_ms = START_MS + 1_000;
        let trial = json!({"tier": "pro", "state": "trialing", "trial_ends_at_ms": trial_ends_ms});
        served.put("/v1/subscriptions/user:a", trial).await;
        set_clock(&served, START_S + 10);
        let basic = priced("user:a", "price_basic");
        served.stripe(&stripe_event("evt_1", "customer.subscription.created", START_S, "a", basic)).await;
        served.worked_off().await;
        let bought = served.get("/v1/subscriptions/user:a").await;
        let (tier, ended) = (&bought["tier"], &bought["trial_ends_at_ms"]);
        assert_eq!((tier, ended), (&json!("basic"), &json!(trial_ends_ms)), "{bought}");
        served.stop().await;
    })
    .await;
}

#[tokio::test]
async fn a_reference_that_the_payer_wrote_is_not_believed() {
    on_each_database(async |test| {
        let served = served(&test.url).await;
        for name in ["bare", "other", "server"] {
            let event = stripe_event(
                &format!("evt_{name}"),
                "customer.subscription.created",
                START_S,
                name,
                json!({}),
            );
            served.stripe(&event).await;
        }
        session(&served, "bare", "org:acme", json!({})).await;
        // The same name, encoded otherwise than a link of ours has it.
        session(&served, "other", &format!("{}=", reference_of("org:acme")), json!({})).await;
        session(&served, "server", &reference_of("org:acme"), json!({"tollgate_subject": "user:a"})).await;
        let rows = served.worked_off().await;
        let unlinked: BTreeSet<_> = rows
            .iter()
            .filter(|row| row["state"] == "unlinked")
            .map(|row| row["account"].as_str().unwrap())
            .collect();
        assert_eq!(unlinked, BTreeSet::from(["cus_bare", "cus_other"]), "{rows:?}");
        assert_eq!(served.tier("org:acme").await, "free");
        assert_eq!(served.tier("user:a").await, "pro", "metadata is the merchant's word");
        served.stop().await;
    })
    .await;
}

fn invoice(id: u32, subtotal: i64, time: &str) -> Value {
    json!({
        "meta": {"event_name": "subscription_payment_success", "test_mode": true},
        "data": {"type": "subscription-invoices", "id": id.to_string(), "attributes": {
            "subscription_id": 21, "customer_id": 7, "billing_reason": "renewal", "status": "paid",
            "currency": "EUR", "subtotal": subtotal, "total": subtotal, "updated_at": time, "test_mode": true,
        }},
    })
}

#[tokio::test]
async fn a_lemonsqueezy_payment_of_another_amount_buys_nothing() {
    on_each_database(async |test| {
        let served = served(&test.url).await;
        let day = |day: u32| format!("2027-03-{day:02}T00:00:00.000000Z");
        // Whichever is heard first.
        served.lemon(&invoice(31, 29, &day(1))).await;
        served.lemon(&lemon_event("subscription_created", &day(1), "active", json!({}))).await;
        served.worked_off().await;
        assert_eq!(served.tier("user:lemon").await, "free");
        let bought = served.get("/v1/subscriptions/user:lemon").await;
        assert_eq!(bought["state"], "pending", "not paid yet: {bought}");
        // The right amount does; the wrong one after it leaves the time to look into it, once.
        served.lemon(&invoice(32, 2_900, &day(2))).await;
        served.worked_off().await;
        let bought = served.get("/v1/subscriptions/user:lemon").await;
        assert_eq!((&bought["tier"], &bought["state"]), (&json!("pro"), &json!("active")), "{bought}");
        served.lemon(&invoice(33, 29, &day(3))).await;
        served.lemon(&invoice(34, 30, &day(4))).await;
        served.worked_off().await;
        let bought = served.get("/v1/subscriptions/user:lemon").await;
        let end_ms = (START_S + (2 + 3) * DAY_S) * 1_000;
        assert_eq!((&bought["tier"], &bought["expires_at_ms"]), (&json!("pro"), &json!(end_ms)), "{bought}");
        served.stop().await;
    })
    .await;
}

#[tokio::test]
async fn a_payment_is_noted_once_also_where_its_price_was_unknown_at_first() {
    on_each_database(async |test| {
        let served = served_as(&test.url, &SETTINGS.replace("'11'", "'12'")).await;
        let time = "2027-03-01T00:00:00.000000Z";
        served.lemon(&lemon_event("subscription_created", time, "active", json!({}))).await;
        served.lemon(&invoice(31, 2_900, time)).await;
        let rows = served.worked_off().await;
        assert!(rows.iter().all(|row| row["state"] == "failed"), "{rows:?}");
        served.stop().await;
        let served = Served::start_with(&test.url, settings(SETTINGS)).await;
        for row in &rows {
            let path = format!("/v1/webhooks/{}/replay", row["id"]);
            let (status, row) = served.send(Method::POST, &path, None).await;
            assert_eq!((status.as_u16(), &row["state"]), (200, &json!("done")), "{row}");
        }
        assert_eq!(served.tier("user:lemon").await, "pro");
        let audit = served.get("/v1/audit?target=user:lemon").await;
        let paid = audit["items"].as_array().unwrap().iter().filter(|row| row["action"] == "payment.paid");
        assert_eq!(paid.count(), 1, "{audit}");
        served.stop().await;
    })
    .await;
}

#[tokio::test]
async fn what_is_paid_holds_beside_any_number_of_what_is_over() {
    on_each_database(async |test| {
        let served = served(&test.url).await;
        let kind = "customer.subscription.deleted";
        for number in 0..101 {
            let (id, name) = (format!("evt_{number:03}"), format!("{number:03}"));
            let over = with(of("user:a"), "status", json!("canceled"));
            served.stripe(&stripe_event(&id, kind, START_S, &name, over)).await;
        }
        let paid = stripe_event("evt_z", "customer.subscription.created", START_S, "z", of("user:a"));
        served.stripe(&paid).await;
        served.worked_off().await;
        assert_eq!(served.tier("user:a").await, "pro");
        served.stop().await;
    })
    .await;
}

fn cinetpay_settings(base_url: &str) -> String {
    format!(
        "cinetpay: {{site_id: '445160', api_key: key, secret_key: secret-of-cinetpay, base_url: '{base_url}', \
         notify_url: 'https://api.example/webhooks/cinetpay', return_url: 'https://example.com', \
         plans: {{pro: {{amount: 10000, currency: XOF, months: 1}}}}}}"
    )
}

#[tokio::test]
async fn a_cinetpay_notification_that_is_repeated_with_more_in_it_is_one_and_asks_once_in_a_while() {
    on_each_database(async |test| {
        let cinetpay = CinetPay::default();
        let served = served_as(&test.url, &cinetpay_settings(&cinetpay.clone().start().await)).await;
        served.plane.checkout(&author(&served.plane), "user:a", "pro").await.unwrap().unwrap();
        let order = cinetpay.asked_of(0)["transaction_id"].as_str().unwrap().to_owned();
        cinetpay.say("662", "WAITING_FOR_CUSTOMER", "10000", "XOF");
        let (body, token) = notification(&order, "SUCCES");
        let begun = cinetpay.asked();
        for number in 0..10 {
            let body = format!("{body}&more={number}");
            let (status, answer) = served.hook("cinetpay", ("x-token", &token), &body).await;
            assert_eq!(status, 200, "{answer}");
            eventually("the first is worked off", async || (cinetpay.asked() > begun).then_some(())).await;
        }
        let rows = served.get("/v1/webhooks").await;
        assert_eq!(rows["items"].as_array().unwrap().len(), 1, "{rows}");
        let row = served.get(&format!("/v1/webhooks/{}", rows["items"][0]["id"])).await;
        assert!(!row["payload"].to_string().contains("more"), "only what is signed is kept: {row}");
        assert_eq!(cinetpay.asked(), begun + 1, "the time has not passed that is between two questions");
        served.clock.pass(10_000);
        served.worked_off().await;
        assert_eq!(cinetpay.asked(), begun + 2, "the news is asked for all the same");
        served.stop().await;
    })
    .await;
}

#[test]
fn cinetpay_sells_only_in_currencies_without_decimals() {
    let text = cinetpay_settings("https://example.com");
    for (currency, is_taken) in [
        ("XOF", true),
        ("XAF", true),
        ("GNF", true),
        ("USD", false),
        ("CDF", false),
        ("xof", false),
        ("XYZ", false),
    ] {
        let parsed = PaymentSettings::parse(&text.replace("XOF", currency), &|_| None);
        assert_eq!(parsed.is_ok(), is_taken, "{currency}");
        let message = parsed.err().map(|error| error.to_string()).unwrap_or_default();
        assert!(is_taken || message.contains("without decimals"), "{message}");
    }
}

#[tokio::test]
async fn webhooks_that_were_stored_by_a_clock_that_was_ahead_are_worked_off() {
    on_each_database(async |test| {
        let clock = TestClock::shared();
        let plane = plane_with(&test.url, clock.clone(), settings(SETTINGS)).await;
        let take = async |id: &str| {
            let body =
                stripe_event(id, "customer.subscription.created", START_S, id, of("user:a")).to_string();
            let signature = stripe_signature(&body, plane.clock.now_ms() / 1_000);
            let signature = Some(signature.as_str());
            let delivery = Delivery { provider: Provider::Stripe, signature, body: body.as_bytes() };
            plane.take_webhook(delivery).await.unwrap();
        };
        let year_ms = 365 * DAY_S * 1_000;
        clock.set_wall_back(-year_ms);
        take("evt_tried").await;
        // There is no policy, so this one is put off.
        assert_eq!(plane.work_off_webhooks(Provider::Stripe).await.unwrap(), 1);
        take("evt_new").await;
        clock.set_wall_back(year_ms);
        assert_eq!(plane.work_off_webhooks(Provider::Stripe).await.unwrap(), 2);
        assert_eq!(
            plane.work_off_webhooks(Provider::Stripe).await.unwrap(),
            0,
            "tried again, not over and over"
        );
        let author = Author { now_ms: START_MS, ..author(&plane) };
        plane.apply_policy(&author, POLICY, None, None).await.unwrap();
        clock.pass(60_000);
        assert_eq!(plane.work_off_webhooks(Provider::Stripe).await.unwrap(), 2);
        assert_eq!(plane.subscription("user:a").await.unwrap().subscription.tier, "pro");
    })
    .await;
}

#[tokio::test]
async fn of_two_payments_of_one_subject_at_once_none_is_lost() {
    on_each_database(async |test| {
        // SQLite has one writer.
        if !test.url.starts_with("postgres") {
            return;
        }
        let plane = plane_with(&test.url, TestClock::shared(), settings(SETTINGS)).await;
        plane.apply_policy(&author(&plane), POLICY, None, None).await.unwrap();
        let pro = with(priced("user:lemon", "price_pro"), "cancel_at", json!(START_S + 100));
        let stripe = stripe_event("evt_1", "customer.subscription.created", START_S, "a", pro).to_string();
        let basic = json!({"variant_id": 10});
        let lemon = lemon_event("subscription_created", "2027-03-01T00:00:00Z", "active", basic).to_string();
        for (provider, signature, body) in [
            (Provider::Stripe, stripe_signature(&stripe, START_S), &stripe),
            (Provider::LemonSqueezy, mac(LEMON_SECRET, &[lemon.as_bytes()]), &lemon),
        ] {
            let delivery = Delivery { provider, signature: Some(&signature), body: body.as_bytes() };
            plane.take_webhook(delivery).await.unwrap();
        }
        // Both are held up at the subject, and then go on together.
        let mut holder = sqlx::PgConnection::connect(&test.url).await.unwrap();
        let mut looker = sqlx::PgConnection::connect(&test.url).await.unwrap();
        sqlx::query("INSERT INTO subjects (subject) VALUES ('user:lemon')").execute(&mut holder).await.unwrap();
        let pid: i32 = sqlx::query_scalar("SELECT pg_backend_pid()").fetch_one(&mut holder).await.unwrap();
        sqlx::query("BEGIN").execute(&mut holder).await.unwrap();
        sqlx::query("SELECT 1 FROM subjects WHERE subject = 'user:lemon' FOR UPDATE")
            .execute(&mut holder)
            .await
            .unwrap();
        let waiting = "WITH RECURSIVE waiting (pid) AS (
                SELECT CAST($1 AS INT)
                UNION SELECT a.pid FROM pg_stat_activity a, waiting w WHERE w.pid = ANY (pg_blocking_pids(a.pid))
            ) SELECT COUNT(*) FROM waiting";
        let both = async {
            tokio::join!(
                plane.work_off_webhooks(Provider::Stripe),
                plane.work_off_webhooks(Provider::LemonSqueezy)
            )
        };
        let let_go = async {
            let mut looker = Some(&mut looker);
            eventually("both wait", async || {
                let looker = looker.as_mut().unwrap();
                let count: i64 = sqlx::query_scalar(waiting).bind(pid).fetch_one(&mut **looker).await.unwrap();
                (count == 3).then_some(())
            })
            .await;
            sqlx::query("COMMIT").execute(&mut holder).await.unwrap();
        };
        let ((stripe, lemon), ()) = tokio::join!(both, let_go);
        assert_eq!((stripe.unwrap(), lemon.unwrap()), (1, 1));
        let bought = plane.subscription("user:lemon").await.unwrap().subscription;
        assert_eq!(bought.effective(START_MS).tier, "pro", "{bought:?}");
        assert_eq!(bought.effective(START_MS + 100_000).tier, "basic", "{bought:?}");
    })
    .await;
}
