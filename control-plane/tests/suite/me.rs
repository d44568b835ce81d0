//! What end users see and do with their own token: what they have, what they may choose, and that nobody sees or does
//! anything of others.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, EncodingKey};
use reqwest::{Method, StatusCode, header};
use serde_json::{Value, json};
use tollgate_control_plane::config::Settings;
use tollgate_control_plane::store::payments::SnapshotRow;
use tollgate_control_plane::store::{Database, StoreError, payments};
use tollgate_policy::subscription::{Subscription, SubscriptionState};

use super::support::{
    START_MS, Served, TestDatabase, answer, author, eventually, on_each_database, session, sync_body,
};

const SECRET: &[u8] = b"secret-of-32-bytes-for-the-tests!!";

const POLICY: &str = r#"
version: 1
issuers:
  - issuer: https://id.example.com
    audiences: [api]
    keys: {jwks: {keys: [{kty: oct, kid: k1, alg: HS256, k: c2VjcmV0LW9mLTMyLWJ5dGVzLWZvci10aGUtdGVzdHMhIQ}]}}
    claims: {organization: org, tier: tier, organization_admin: {claim: roles, values: [owner, admin]}}
meters: {calls: {}}
default_tier: free
billing: {currency: EUR}
tiers:
  free:
    title: {en: Free, fr: Gratuit}
    limits: [{meter: calls, quota: 5, per: hour}]
  plus:
    title: {en: Plus, fr: Extra}
    free: true
    order: 1
    limits: [{meter: calls, quota: 50, per: hour}]
  pro:
    title: {en: Pro, fr: Pro, de: Profi}
    description: {en: For teams, fr: Pour les équipes}
    order: 2
    features: [export]
    prices: [{flat: 1900}]
    limits:
      - {meter: calls, quota: 1000, per: hour}
      - {meter: calls, quota: 10, per: day, scope: member}
  gold:
    order: 3
    prices: [{flat: 9900}]
    limits: [{meter: calls, quota: 9000, per: hour}]
  inner:
    visible: false
    order: 4
    limits: [{meter: calls, quota: unlimited, per: hour}]
"#;

const PAYMENTS: &str = r#"
stripe:
  signing_secrets: [whsec_0123456789abcdef0123456789abcdef]
  livemode: false
  prices: {price_pro: pro}
  checkout: {pro: "https://buy.stripe.com/test_pro?client_reference_id={subject}"}
"#;

async fn start(url: &str) -> Served {
    let payments =
        tollgate_control_plane::service::payments::PaymentSettings::parse(PAYMENTS, &|_| None).unwrap();
    let allow_origins = vec![header::HeaderValue::from_static("https://app.example.com")];
    let settings =
        Settings { watch_max_ms: 5_000, payments: payments.into(), allow_origins, ..Settings::default() };
    let served = Served::start_with(url, settings).await;
    served.plane.apply_policy(&author(&served.plane), POLICY, None, None).await.unwrap();
    served
}

pub fn sign(claims: Value) -> String {
    let mut all =
        json!({"iss": "https://id.example.com", "aud": "api", "exp": START_MS / 1_000 + 86_400 * 60});
    all.as_object_mut().unwrap().extend(claims.as_object().unwrap().clone());
    let part = |json: &Value| URL_SAFE_NO_PAD.encode(json.to_string());
    let message = format!("{}.{}", part(&json!({"alg": "HS256", "kid": "k1"})), part(&all));
    let key = EncodingKey::from_secret(SECRET);
    let signature = jsonwebtoken::crypto::sign(message.as_bytes(), &key, Algorithm::HS256).unwrap();
    format!("{message}.{signature}")
}

pub fn user(name: &str) -> String {
    sign(json!({"sub": name}))
}

async fn ask(served: &Served, token: &str, method: Method, path: &str, body: Value) -> (u16, Value) {
    let mut request = served.request(method, path, token).header(header::USER_AGENT, "browser/1.0 (test)");
    if !body.is_null() {
        request = request.json(&body);
    }
    let (status, body) = answer(request).await;
    (status.as_u16(), body)
}

async fn get(served: &Served, token: &str, path: &str) -> Value {
    let (status, body) = ask(served, token, Method::GET, path, Value::Null).await;
    assert_eq!(status, 200, "{path}: {body}");
    body
}

async fn post(served: &Served, token: &str, path: &str, body: Value) -> (u16, Value) {
    ask(served, token, Method::POST, path, body).await
}

#[tokio::test]
async fn a_user_sees_its_tier_its_limits_and_how_near_they_are() {
    on_each_database(async |test| {
        let served = start(&test.url).await;
        let token = user("alice");
        let me = get(&served, &token, "/v1/me").await;
        assert_eq!(
            (&me["subject"], &me["state"], &me["tier_from"]),
            (&json!("user:alice"), &json!("free"), &json!("default"))
        );
        assert_eq!(me["tier"], json!({"name": "free", "title": "Free"}));
        assert_eq!((&me["limits"][0]["used"], &me["limits"][0]["remaining"]), (&json!(0), &json!(5)), "{me}");
        assert_eq!(me["warnings"], json!([]));
        // It uses four of five.
        let (status, _) = served.sync(sync_body(&session(1), "user:alice", 4, 0)).await;
        assert_eq!(status, 200);
        let me = get(&served, &token, "/v1/me").await;
        let limit = &me["limits"][0];
        assert_eq!(
            (&limit["used"], &limit["remaining"], &limit["percent"], &limit["warning"]),
            (&json!(4), &json!(1), &json!(80.0), &json!(80)),
            "{me}"
        );
        assert_eq!(limit["resets_at"], "2027-03-01T01:00:00Z");
        assert_eq!(
            (&limit["estimated_days_left"], &limit["runs_out_before_reset"]),
            (&json!(0.2), &json!(false)),
            "{me}"
        );
        assert_eq!(
            (&me["warnings"][0]["limit"], &me["warnings"][0]["percent"]),
            (&json!("calls.hour"), &json!(80))
        );
        served.clock.pass(1_000);
        let usage = get(&served, &token, "/v1/me/usage?by=day").await;
        assert_eq!(
            (&usage["subject"], &usage["usage"][0]["used"]),
            (&json!("user:alice"), &json!(4)),
            "{usage}"
        );
        for (query, rows) in [
            ("by=day&meter=calls", 1),
            ("by=day&meter=tokens", 0),
            ("by=month", 1),
            ("by=total&group=route", 1),
        ] {
            let usage = get(&served, &token, &format!("/v1/me/usage?{query}")).await;
            assert_eq!(usage["usage"].as_array().unwrap().len(), rows, "{query}: {usage}");
        }
        // Another one used nothing.
        let other = get(&served, &user("bob"), "/v1/me").await;
        assert_eq!((&other["subject"], &other["limits"][0]["used"]), (&json!("user:bob"), &json!(0)));
        served.stop().await;
    })
    .await;
}

#[tokio::test]
async fn tokens_are_verified_as_edges_do_and_reach_nobody_else() {
    let test = TestDatabase::sqlite();
    let served = start(&test.url).await;
    let good = user("alice");
    let forged = format!("{}AAAA", &good[..good.len() - 4]);
    let late = sign(json!({"sub": "alice", "exp": START_MS / 1_000 - 60}));
    let foreign = sign(json!({"sub": "alice", "aud": "other"}));
    for (token, code) in [
        (forged.as_str(), "token-signature"),
        (&late, "token-expired"),
        (&foreign, "token-audience"),
        ("x", "token-malformed"),
        (super::support::ADMIN, "token-malformed"),
    ] {
        for (method, path) in [
            ("GET", "/v1/me"),
            ("GET", "/v1/me/usage"),
            ("GET", "/v1/me/organization"),
            ("POST", "/v1/me/cancel"),
        ] {
            let (status, body) =
                ask(&served, token, Method::from_bytes(method.as_bytes()).unwrap(), path, Value::Null).await;
            assert_eq!((status, &body["code"]), (401, &json!(code)), "{method} {path}: {body}");
        }
    }
    // What is there of others and what is not is refused with the same words.
    served.put("/v1/subscriptions/user:bob", json!({"tier": "pro"})).await;
    let mut told = Vec::new();
    for path in [
        "/v1/subjects/user:bob",
        "/v1/subjects/user:nobody",
        "/v1/subscriptions/user:bob",
        "/v1/subscriptions/user:nobody",
        "/v1/subjects/user:bob/usage",
        "/v1/audit",
        "/v1/analytics/subjects",
    ] {
        told.push(ask(&served, &good, Method::GET, path, Value::Null).await);
    }
    assert_eq!((told[0].0, &told[0].1["code"]), (403, &json!("right-missing")));
    assert!(told.iter().all(|one| *one == told[0]), "{told:?}");
    // Nor with a forged one: that is no token at all.
    let (status, _) = ask(&served, &forged, Method::GET, "/v1/subjects/user:bob", Value::Null).await;
    assert_eq!(status, 401);
    let (status, body) = ask(&served, &good, Method::GET, "/v1/me?subject=user:bob", Value::Null).await;
    assert_eq!(
        (status, &body["subject"]),
        (200, &json!("user:alice")),
        "nothing but the token says who it is"
    );
    let twice = served
        .request(Method::GET, "/v1/me", &good)
        .header(header::AUTHORIZATION, format!("Bearer {}", user("bob")));
    assert_eq!(answer(twice).await.0, StatusCode::UNAUTHORIZED);
    served.stop().await;
}

#[tokio::test]
async fn a_tier_that_costs_something_is_never_granted_without_a_payment() {
    on_each_database(async |test| {
        let served = start(&test.url).await;
        let token = user("alice");
        let (status, body) = post(&served, &token, "/v1/me/upgrade", json!({"tier": "pro"})).await;
        assert_eq!(
            (status, &body["status"], &body["provider"]),
            (200, &json!("checkout"), &json!("stripe")),
            "{body}"
        );
        let reference = format!("tg_{}", URL_SAFE_NO_PAD.encode("user:alice"));
        assert_eq!(body["url"], format!("https://buy.stripe.com/test_pro?client_reference_id={reference}"));
        for (path, body, status, code) in [
            ("upgrade", json!({"tier": "gold"}), 409, "payment-not-configured"),
            ("upgrade", json!({"tier": "inner"}), 422, "tier-unknown"),
            ("upgrade", json!({"tier": "nothing"}), 422, "tier-unknown"),
            ("upgrade", json!({"tier": "free"}), 409, "action-refused"),
            ("downgrade", json!({"tier": "pro"}), 409, "action-refused"),
            ("downgrade", json!({"tier": "free"}), 409, "action-refused"),
            ("upgrade", json!({"tier": "plus", "subject": "user:bob"}), 422, "body-invalid"),
            ("upgrade", json!({"tier": "plus", "state": "active"}), 422, "body-invalid"),
            ("cancel", json!({}), 404, "subscription-missing"),
        ] {
            let (found, answer) = post(&served, &token, &format!("/v1/me/{path}"), body.clone()).await;
            assert_eq!((found, &answer["code"]), (status, &json!(code)), "{path} {body}: {answer}");
        }
        let me = get(&served, &token, "/v1/me").await;
        assert_eq!((&me["tier"]["name"], &me["state"]), (&json!("free"), &json!("free")), "{me}");
        let rows = served.get("/v1/audit?actor=user:alice").await;
        assert_eq!(rows["items"].as_array().unwrap().len(), 1, "only what was asked to be paid: {rows}");
        let row = &rows["items"][0];
        assert_eq!(
            (&row["action"], &row["target"], &row["agent"]),
            (&json!("me.checkout"), &json!("user:alice"), &json!("browser/1.0 (test)"))
        );
        assert!(row["remote"].as_str().unwrap().starts_with("127.0.0.1:"), "{row}");
        served.stop().await;
    })
    .await;
}

#[tokio::test]
async fn what_costs_nothing_is_changed_at_once_or_at_the_end_of_the_period() {
    on_each_database(async |test| {
        let served = start(&test.url).await;
        let token = user("alice");
        let (status, body) = post(&served, &token, "/v1/me/upgrade", json!({"tier": "plus"})).await;
        assert_eq!(
            (status, &body["status"], &body["subscription"]["tier"]),
            (200, &json!("changed"), &json!("plus")),
            "{body}"
        );
        let me = get(&served, &token, "/v1/me").await;
        assert_eq!((&me["tier"]["name"], &me["state"]), (&json!("plus"), &json!("active")), "{me}");
        // A payment came, and an operator says so.
        served.put("/v1/subscriptions/user:alice", json!({"tier": "pro"})).await;
        let (status, body) = post(&served, &token, "/v1/me/downgrade", json!({"tier": "free"})).await;
        assert_eq!((status, &body["subscription"]["tier"]), (200, &json!("pro")), "{body}");
        let me = get(&served, &token, "/v1/me").await;
        assert_eq!((&me["tier"]["name"], &me["changes"][0]["tier"]), (&json!("pro"), &json!("free")), "{me}");
        assert_eq!(me["period_ends_at"], "2027-04-01T00:00:00Z");
        let (status, body) = post(&served, &token, "/v1/me/cancel", json!({})).await;
        assert_eq!((status, &body["subscription"]["state"]), (200, &json!("cancelled")), "{body}");
        let me = get(&served, &token, "/v1/me").await;
        assert_eq!(
            (&me["state"], &me["expires_at"], &me["tier"]["name"]),
            (&json!("cancelled"), &json!("2027-04-01T00:00:00Z"), &json!("pro"))
        );
        // And at that very moment it is over.
        served.clock.pass(31 * 86_400_000);
        let me = get(&served, &token, "/v1/me").await;
        assert_eq!((&me["state"], &me["tier"]["name"]), (&json!("expired"), &json!("free")), "{me}");
        let (status, body) = post(&served, &token, "/v1/me/upgrade", json!({"tier": "plus"})).await;
        assert_eq!((status, &body["subscription"]["state"]), (200, &json!("active")), "{body}");
        served.put("/v1/subscriptions/user:alice", json!({"tier": "pro", "state": "paused"})).await;
        let (_, body) = post(&served, &token, "/v1/me/upgrade", json!({"tier": "plus"})).await;
        assert_eq!(body["subscription"]["state"], "paused", "who is paused stays so: {body}");
        served.stop().await;
    })
    .await;
}

#[tokio::test]
async fn only_administrators_see_and_change_what_concerns_the_organisation() {
    on_each_database(async |test| {
        let served = start(&test.url).await;
        served.put("/v1/subscriptions/org:acme", json!({"tier": "pro"})).await;
        let member = |name: &str| sign(json!({"sub": name, "org": "acme"}));
        let admin = sign(json!({"sub": "carol", "org": "acme", "roles": ["reader", "admin"]}));
        let elsewhere = sign(json!({"sub": "mallory", "org": "acme2", "roles": "owner"}));
        let (status, _) = served.sync(json!({"version": 1, "session": session(1), "subjects": [
            {"subject": "member:acme/alice", "accounts": [
                {"limit": "calls.day.member", "window": START_MS, "taken": 3, "freed": 0, "returned": 0, "want": 0}]},
            {"subject": "org:acme", "accounts": [
                {"limit": "calls.hour", "window": START_MS, "taken": 3, "freed": 0, "returned": 0, "want": 0}],
             "usage": [{"meter": "calls", "hour": START_MS, "taken": 3, "freed": 0}]},
        ]})).await;
        assert_eq!(status, 200);
        let me = get(&served, &member("alice"), "/v1/me").await;
        assert_eq!((&me["subject"], &me["member"]), (&json!("org:acme"), &json!("member:acme/alice")));
        let limits: Vec<_> = me["limits"].as_array().unwrap().iter().map(|limit| (&limit["limit"], &limit["used"])).collect();
        assert_eq!(limits, [(&json!("calls.day.member"), &json!(3)), (&json!("calls.hour"), &json!(3))], "{me}");
        let bob = get(&served, &member("bob"), "/v1/me").await;
        assert_eq!(bob["limits"][0]["used"], 0, "another member's is his own: {bob}");
        for (method, path, body) in [
            (Method::GET, "/v1/me/organization", Value::Null),
            (Method::GET, "/v1/me/organization/usage", Value::Null),
            (Method::GET, "/v1/me/organization/members", Value::Null),
            (Method::GET, "/v1/me/organization/members/alice", Value::Null),
            (Method::GET, "/v1/me/organization/members/nobody", Value::Null),
            (Method::GET, "/v1/me/usage", Value::Null),
            (Method::POST, "/v1/me/cancel", json!({})),
            (Method::POST, "/v1/me/upgrade", json!({"tier": "gold"})),
        ] {
            let (status, refused) = ask(&served, &member("bob"), method, path, body).await;
            assert_eq!((status, &refused["code"]), (403, &json!("right-missing")), "{path}: {refused}");
        }
        let organization = get(&served, &admin, "/v1/me/organization").await;
        assert_eq!((&organization["subject"], &organization["limits"][0]["used"]), (&json!("org:acme"), &json!(3)));
        served.clock.pass(1_000);
        let usage = get(&served, &admin, "/v1/me/organization/usage?by=total").await;
        assert_eq!(usage["usage"][0]["used"], 3, "{usage}");
        let members = get(&served, &admin, "/v1/me/organization/members").await;
        assert_eq!(members["items"], json!([{"user": "alice", "subject": "member:acme/alice"}]));
        let alice = get(&served, &admin, "/v1/me/organization/members/alice").await;
        assert_eq!((&alice["subject"], &alice["limits"][0]["used"]), (&json!("member:acme/alice"), &json!(3)), "{alice}");
        let (_, others) = ask(&served, &elsewhere, Method::GET, "/v1/me/organization/members", Value::Null).await;
        assert_eq!(others["items"], json!([]), "an administrator elsewhere");
        let (status, body) = post(&served, &admin, "/v1/me/cancel", json!({"when": "period_end"})).await;
        assert_eq!((status, &body["subscription"]["subject"]), (200, &json!("org:acme")), "{body}");
        let row = &served.get("/v1/audit?actor=member:acme/carol").await["items"][0];
        assert_eq!((&row["action"], &row["target"]), (&json!("subscription.cancel"), &json!("org:acme")));
        served.stop().await;
    })
    .await;
}

#[tokio::test]
async fn plans_are_public_in_order_in_the_readers_language_and_cached() {
    let test = TestDatabase::sqlite();
    let served = start(&test.url).await;
    let url = format!("http://{}/v1/plans", served.address);
    let response =
        served.client.get(&url).header("accept-language", "fr-CH, fr;q=0.9, en;q=0.8").send().await.unwrap();
    let headers = response.headers().clone();
    assert_eq!((response.status().as_u16(), &headers["content-language"]), (200, &"fr".parse().unwrap()));
    assert_eq!(headers["cache-control"], "public, max-age=60");
    assert!(headers["vary"].to_str().unwrap().contains("Accept-Language"));
    let plans: Value = response.json().await.unwrap();
    let shown: Vec<_> = plans["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|plan| {
            (
                plan["name"].as_str().unwrap(),
                plan["title"].as_str().unwrap(),
                plan["is_free"].as_bool().unwrap(),
            )
        })
        .collect();
    assert_eq!(
        shown,
        [("free", "Gratuit", true), ("plus", "Extra", true), ("pro", "Pro", false), ("gold", "gold", false)]
    );
    assert_eq!((&plans["currency"], &plans["items"][2]["prices"][0]["flat"]), (&json!("EUR"), &json!(1900)));
    let again = served
        .client
        .get(&url)
        .header("accept-language", "fr")
        .header("if-none-match", &headers["etag"])
        .send()
        .await
        .unwrap();
    assert_eq!(again.status(), StatusCode::NOT_MODIFIED);
    let english = served
        .client
        .get(&url)
        .header("accept-language", "it")
        .header("if-none-match", &headers["etag"])
        .send()
        .await
        .unwrap();
    assert_eq!(
        (english.status(), &english.headers()["content-language"]),
        (StatusCode::OK, &"en".parse().unwrap())
    );
    let newer = POLICY.replace("flat: 1900", "flat: 2900");
    served.plane.apply_policy(&author(&served.plane), &newer, None, None).await.unwrap();
    let changed = served
        .client
        .get(&url)
        .header("accept-language", "fr")
        .header("if-none-match", &headers["etag"])
        .send()
        .await
        .unwrap();
    assert_eq!(changed.status(), StatusCode::OK, "a new policy is a new page");
    served.stop().await;
}

#[tokio::test]
async fn pages_of_other_origins_may_ask_only_what_users_may_and_only_where_allowed() {
    let test = TestDatabase::sqlite();
    let served = start(&test.url).await;
    let preflight = async |path: &str, origin: &str| {
        let request = served.client.request(Method::OPTIONS, format!("http://{}{path}", served.address));
        let request = request.header("origin", origin).header("access-control-request-method", "GET");
        let response =
            request.header("access-control-request-headers", "authorization").send().await.unwrap();
        response.headers().get("access-control-allow-origin").map(|value| value.to_str().unwrap().to_owned())
    };
    let ours = "https://app.example.com";
    assert_eq!(preflight("/v1/me", ours).await.as_deref(), Some(ours));
    assert_eq!(preflight("/v1/plans", ours).await.as_deref(), Some(ours));
    assert_eq!(preflight("/v1/me", "https://evil.example").await, None);
    assert_eq!(preflight("/v1/subscriptions", ours).await, None, "what operators do is not for browsers");
    // A refused token is told to the page, too, or it could not ask for another.
    let request = served.request(Method::GET, "/v1/me", "x").header("origin", ours);
    let response = request.send().await.unwrap();
    assert_eq!(
        (response.status().as_u16(), response.headers()["access-control-allow-origin"].to_str().unwrap()),
        (401, ours)
    );
    served.stop().await;
}

#[tokio::test]
async fn a_tier_that_nobody_called_free_is_not_taken_for_nothing() {
    on_each_database(async |test| {
        let served = start(&test.url).await;
        let token = user("alice");
        let plans = get(&served, &token, "/v1/plans").await;
        let free = |plans: &Value| -> Vec<String> {
            let free = plans["items"].as_array().unwrap().iter().filter(|plan| plan["is_free"] == true);
            free.map(|plan| plan["name"].as_str().unwrap().to_owned()).collect()
        };
        assert_eq!(free(&plans), ["free", "plus"]);
        // As in the quickstart's policy: tiers without a word about money.
        let unsaid = POLICY.replace("    free: true\n", "").replace("    prices: [{flat: 1900}]\n", "");
        served.plane.apply_policy(&author(&served.plane), &unsaid, None, None).await.unwrap();
        eventually("the new policy", async || {
            (free(&get(&served, &token, "/v1/plans").await) == ["free"]).then_some(())
        })
        .await;
        let (status, body) = post(&served, &token, "/v1/me/upgrade", json!({"tier": "plus"})).await;
        assert_eq!((status, &body["code"]), (409, &json!("payment-not-configured")), "{body}");
        // The payments file alone says that it is sold.
        let (status, body) = post(&served, &token, "/v1/me/upgrade", json!({"tier": "pro"})).await;
        assert_eq!((status, &body["status"]), (200, &json!("checkout")), "{body}");
        // And it has the last word.
        let both = unsaid.replace("    order: 2\n", "    order: 2\n    free: true\n");
        served.plane.apply_policy(&author(&served.plane), &both, None, None).await.unwrap();
        let (status, body) = post(&served, &token, "/v1/me/upgrade", json!({"tier": "pro"})).await;
        assert_eq!((status, &body["status"]), (200, &json!("checkout")), "{body}");
        assert_eq!(get(&served, &token, "/v1/me").await["tier"]["name"], "free");
        // An operator gives it; back to the default tier goes whoever likes.
        served.put("/v1/subscriptions/user:alice", json!({"tier": "gold"})).await;
        let (status, body) =
            post(&served, &token, "/v1/me/downgrade", json!({"tier": "free", "when": "now"})).await;
        assert_eq!((status, &body["subscription"]["tier"]), (200, &json!("free")), "{body}");
        served.stop().await;
    })
    .await;
}

#[tokio::test]
async fn the_quickstarts_pro_is_not_taken_for_nothing() {
    let quickstart = include_str!("../../../examples/quickstart/policy.yaml");
    let issuers = POLICY.split("issuers:").nth(1).unwrap().split("meters:").next().unwrap();
    let (head, rest) = quickstart.split_once("issuers:").unwrap();
    let rest = rest.split_once("meters:").unwrap().1;
    let policy = format!("{head}issuers:{issuers}meters:{rest}");
    let test = TestDatabase::sqlite();
    let served = Served::start(&test.url).await;
    served.plane.apply_policy(&author(&served.plane), &policy, None, None).await.unwrap();
    let (status, body) = post(&served, &user("alice"), "/v1/me/upgrade", json!({"tier": "pro"})).await;
    assert_eq!((status, &body["code"]), (409, &json!("payment-not-configured")), "{body}");
    assert_eq!(get(&served, &user("alice"), "/v1/me").await["tier"]["name"], "free");
    served.stop().await;
}

#[tokio::test]
async fn nobody_is_sold_a_second_subscription_beside_one_that_goes_on() {
    on_each_database(async |test| {
        let served = start(&test.url).await;
        let token = user("alice");
        let snapshot = async |provider: &str, state| {
            let snapshot = SnapshotRow {
                provider: provider.to_owned(),
                reference: "sub_1".to_owned(),
                account: "cus_1".to_owned(),
                subject: Some("user:alice".to_owned()),
                outcome: Subscription { tier: "pro".to_owned(), state, ..Subscription::default() },
            };
            let database = Database::open(&test.url).await.unwrap();
            let snapshot = &snapshot;
            let written: Result<(), StoreError> = database
                .transact("snapshot", |tx| {
                    Box::pin(async move { payments::write_snapshot(tx, snapshot).await })
                })
                .await;
            written.unwrap();
            database.close().await;
        };
        served.put("/v1/subscriptions/user:alice", json!({"tier": "gold"})).await;
        snapshot("stripe", SubscriptionState::Active).await;
        for (path, body) in [
            ("downgrade", json!({"tier": "pro"})),
            ("downgrade", json!({"tier": "plus"})),
            ("cancel", json!({})),
        ] {
            let (status, answer) = post(&served, &token, &format!("/v1/me/{path}"), body.clone()).await;
            assert_eq!((status, &answer["code"]), (409, &json!("action-refused")), "{path} {body}: {answer}");
            assert!(answer["detail"].as_str().unwrap().contains("stripe"), "it says where: {answer}");
        }
        // Once it is cancelled there.
        snapshot("stripe", SubscriptionState::Cancelled).await;
        let (status, body) = post(&served, &token, "/v1/me/downgrade", json!({"tier": "pro"})).await;
        assert_eq!((status, &body["status"]), (200, &json!("checkout")), "{body}");
        // Single payments are not repeated, so nothing is in the way.
        snapshot("cinetpay", SubscriptionState::Active).await;
        let (status, body) = post(&served, &token, "/v1/me/downgrade", json!({"tier": "pro"})).await;
        assert_eq!((status, &body["status"]), (200, &json!("checkout")), "{body}");
        assert_eq!(post(&served, &token, "/v1/me/cancel", json!({})).await.0, 200);
        served.stop().await;
    })
    .await;
}

#[tokio::test]
async fn who_had_a_trial_has_had_it_whatever_the_user_does() {
    let test = TestDatabase::sqlite();
    let served = start(&test.url).await;
    let token = user("alice");
    let path = "/v1/subscriptions/user:alice/actions";
    let trial = json!({"action": "trial", "tier": "pro", "days": 3});
    let (status, body) = served.send(Method::POST, path, Some(trial.clone())).await;
    assert_eq!(status, 200, "{body}");
    served.clock.pass(4 * 86_400_000);
    assert_eq!(post(&served, &token, "/v1/me/upgrade", json!({"tier": "plus"})).await.0, 200);
    assert_eq!(post(&served, &token, "/v1/me/cancel", json!({"when": "now"})).await.0, 200);
    let (status, body) = served.send(Method::POST, path, Some(trial)).await;
    assert_eq!((status.as_u16(), &body["code"]), (409, &json!("action-refused")), "{body}");
    served.stop().await;
}

#[tokio::test]
async fn what_an_operator_paused_is_not_ended_by_the_user() {
    let test = TestDatabase::sqlite();
    let served = start(&test.url).await;
    let token = user("alice");
    for state in ["paused", "pending"] {
        served.put("/v1/subscriptions/user:alice", json!({"tier": "pro", "state": state})).await;
        for when in ["now", "period_end"] {
            let (status, body) = post(&served, &token, "/v1/me/cancel", json!({"when": when})).await;
            assert_eq!((status, &body["code"]), (409, &json!("action-refused")), "{state}: {body}");
        }
        let (_, body) = post(&served, &token, "/v1/me/upgrade", json!({"tier": "plus"})).await;
        assert_eq!(body["subscription"]["state"], state, "{body}");
    }
    served.stop().await;
}

#[tokio::test]
async fn asking_for_a_checkout_again_and_again_writes_nothing_more() {
    let test = TestDatabase::sqlite();
    let served = start(&test.url).await;
    let notes = async || served.get("/v1/audit?action=me.checkout").await["items"].as_array().unwrap().len();
    for _ in 0..5 {
        assert_eq!(post(&served, &user("alice"), "/v1/me/upgrade", json!({"tier": "pro"})).await.0, 200);
    }
    assert_eq!(notes().await, 1);
    assert_eq!(post(&served, &user("bob"), "/v1/me/upgrade", json!({"tier": "pro"})).await.0, 200);
    assert_eq!(notes().await, 2, "another one's is another");
    served.clock.pass(3_600_001);
    assert_eq!(post(&served, &user("alice"), "/v1/me/upgrade", json!({"tier": "pro"})).await.0, 200);
    assert_eq!(notes().await, 3);
    served.stop().await;
}

#[tokio::test]
async fn the_audit_log_has_the_address_that_trusted_proxies_tell() {
    for (trusted_hops, expected) in
        [(0, "127.0.0.1:"), (1, "198.51.100.7"), (2, "203.0.113.9"), (3, "127.0.0.1:")]
    {
        let test = TestDatabase::sqlite();
        let served = Served::start_with(&test.url, Settings { trusted_hops, ..Settings::default() }).await;
        served.plane.apply_policy(&author(&served.plane), POLICY, None, None).await.unwrap();
        let forwarded = "203.0.113.9, 198.51.100.7";
        let admin = served.request(Method::PUT, "/v1/subscriptions/user:alice", super::support::ADMIN);
        let admin = admin.json(&json!({"tier": "free"})).header("x-forwarded-for", forwarded);
        assert!(answer(admin).await.0.is_success());
        let mine = served.request(Method::POST, "/v1/me/cancel", &user("alice")).json(&json!({}));
        let (status, body) =
            answer(mine.header("x-forwarded-for", forwarded).header(header::USER_AGENT, "app/1.0")).await;
        assert_eq!(status, 200, "{body}");
        let rows = served.get("/v1/audit?target=user:alice").await;
        let rows = rows["items"].as_array().unwrap();
        assert_eq!(rows.len(), 2);
        for row in rows {
            let remote = row["remote"].as_str().unwrap();
            assert!(
                remote == expected || (expected.ends_with(':') && remote.starts_with(expected)),
                "{trusted_hops}: {row}"
            );
        }
        assert_eq!(rows[0]["agent"], "app/1.0");
        served.stop().await;
    }
}
