//! Payments are felt at every edge: a webhook of a payment provider changes what a caller may do, with nobody in between.

use std::time::{Duration, Instant};

use hmac::{Hmac, Mac as _};
use serde_json::{Value, json};
use sha2::Sha256;
use tollgate_tests::client::Client;
use tollgate_tests::moment;
use tollgate_tests::policy;
use tollgate_tests::scene::Scene;
use tollgate_tests::stage::Stage;
use tollgate_tests::token::{self, now_s};
use tollgate_tests::wait::{self, SOON};

/// What is promised is a second, with room for a machine that does other things.
const FELT_WITHIN: Duration = Duration::from_millis(1_500);

const SETTINGS: &str = "
stripe: {livemode: false, signing_secrets: whsec_of_the_tests, prices: {price_pro: pro}}
lemonsqueezy: {livemode: false, signing_secrets: secret-of-the-tests, variants: {'11': pro}}
";

fn mac(secret: &str, parts: &[&str]) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).expect("a key of any length");
    parts.iter().for_each(|part| mac.update(part.as_bytes()));
    mac.finalize().into_bytes().iter().map(|byte| format!("{byte:02x}")).collect()
}

fn stage() -> Stage {
    let scene = Scene::alone();
    let settings = scene.write("payments.yaml", SETTINGS);
    let policy = policy::tiers(json!({
        "free": {"limits": [policy::quota(2)]},
        "pro": {"limits": [policy::quota(100_000)]},
    }));
    let path = settings.to_str().expect("a path of text").to_owned();
    Stage::start_with(scene, &[("TOLLGATE_PAYMENTS", &path)], &policy)
}

impl Hooks for Stage {
    fn hook(&self, provider: &str, header: &str, signature: &str, body: &str) {
        let mut client = Client::new(self.control_plane.port());
        let request = client.request("POST", &format!("/webhooks/{provider}")).header(header, signature);
        request.header("content-type", "application/json").body(body).send().expect(200);
    }

    fn use_up(&self, token: &str) {
        for edge in self.edges() {
            // Units that the other edge holds and does not use come within moments.
            wait::until_equal("a unit is used", SOON, &200, || edge.client().get("/a", token).status);
        }
        self.felt(token, 429);
    }

    fn felt(&self, token: &str, status: u16) {
        for edge in self.edges() {
            wait::until_equal("the payment is felt", SOON, &status, || edge.client().get("/a", token).status);
        }
    }
}

/// What payment providers send, and what callers see of it.
trait Hooks {
    /// Sends a webhook.
    fn hook(&self, provider: &str, header: &str, signature: &str, body: &str);
    /// Uses the two units of `free`, one at each edge.
    fn use_up(&self, token: &str);
    /// Waits until both edges answer this status.
    fn felt(&self, token: &str, status: u16);
}

fn rfc3339(at_s: i64) -> String {
    // Only whole seconds of this millennium are written.
    let (days, second) = (at_s.div_euclid(86_400), at_s.rem_euclid(86_400));
    let era = days + 719_468;
    let (era, of_era) = (era.div_euclid(146_097), era.rem_euclid(146_097));
    let year = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    let year = year + era * 400 + i64::from(month <= 2);
    let (hour, minute, second) = (second / 3_600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.000000Z")
}

#[test]
fn a_signed_event_of_stripe_upgrades_a_caller_at_both_edges_within_a_second() {
    let mut stage = stage();
    let now_s = now_s();
    let event = |id: &str, user: &str, kind: &str, at_s: i64, status: &str| {
        json!({
            "id": format!("evt_{user}_{id}"), "object": "event", "created": at_s, "livemode": false, "type": kind,
            "data": {"object": {
                "id": format!("sub_{user}"), "object": "subscription", "customer": format!("cus_{user}"),
                "status": status, "billing_cycle_anchor": at_s,
                "metadata": {"tollgate_subject": format!("user:{user}")},
                "items": {"data": [{"current_period_end": at_s + 2_592_000, "price": {"id": "price_pro"}}]},
            }},
        })
    };
    let send = |event: &Value| {
        let (body, time) = (event.to_string(), now_s.to_string());
        let signature = format!("t={time},v1={}", mac("whsec_of_the_tests", &[&time, ".", &body]));
        stage.hook("stripe", "stripe-signature", &signature, &body);
    };
    let mut users = 0;
    // The slower one of the payment and the end counts.
    wait::mostly_within("the payment and the end", FELT_WITHIN, || {
        users += 1;
        let user = format!("user-{users}");
        let token = token::of(&user);
        stage.use_up(&token);
        let start = Instant::now();
        send(&event("1", &user, "customer.subscription.created", now_s, "active"));
        stage.felt(&token, 200);
        let paid = start.elapsed();
        let start = Instant::now();
        send(&event("2", &user, "customer.subscription.deleted", now_s + 1, "canceled"));
        stage.felt(&token, 429);
        paid.max(start.elapsed())
    });
    // An event of before, heard afterwards, brings nothing back.
    send(&event("0", "user-1", "customer.subscription.updated", now_s, "active"));
    let worked_off = || {
        let page = stage.control_plane.ask("GET", "/v1/webhooks?state=done", None).expect(200).json();
        page["items"].as_array().map_or(0, Vec::len)
    };
    wait::until_equal("all is worked off", SOON, &(2 * users + 1), worked_off);
    stage.felt(&token::of("user-1"), 429);
    stage.assert_no_trap();
}

#[test]
fn a_cancelled_subscription_of_lemonsqueezy_holds_until_its_end() {
    let mut stage = stage();
    let alice = token::of("alice");
    stage.use_up(&alice);
    let now_s = now_s();
    let end_s = now_s + 5;
    let body = json!({
        "meta": {"event_name": "subscription_cancelled", "test_mode": true, "custom_data": {"subject": "user:alice"}},
        "data": {"type": "subscriptions", "id": "21", "attributes": {
            "customer_id": 7, "variant_id": 11, "status": "cancelled", "cancelled": true, "test_mode": true, "pause": null,
            "trial_ends_at": null, "first_subscription_item": null, "renews_at": rfc3339(end_s),
            "ends_at": rfc3339(end_s), "created_at": rfc3339(now_s - 86_400), "updated_at": rfc3339(now_s),
        }},
    });
    let body = body.to_string();
    stage.hook("lemonsqueezy", "x-signature", &mac("secret-of-the-tests", &[&body]), &body);
    stage.felt(&alice, 200);
    // Nobody tells the end.
    moment::assert_ends_at(&stage.edges(), "/a", &alice, end_s * 1_000);
    stage.felt(&alice, 429);
    stage.assert_no_trap();
}
