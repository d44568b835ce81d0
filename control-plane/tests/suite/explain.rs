//! What `/v1/explain` says of a request: who calls, what it costs, how the limits stand, and what would be decided; and that
//! nothing is taken for it.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use reqwest::Method;
use serde_json::{Value, json};
use sqlx::{Connection as _, SqliteConnection};
use tokio::process::Command;
use tollgate_control_plane::service::sweeper::Sweeper;
use tollgate_control_plane::store::changes;
use tollgate_policy::lease::{BUCKET_WINDOW, CAPACITY_WINDOW, CONCURRENCY_WINDOW, RATE_WINDOW};

use super::support::{
    ADMIN, EDGE, START_MS, Served, TestDatabase, answer, author, on_each_database, session,
};

const SECRET: &[u8] = b"secret-of-32-bytes-for-the-tests!!";

const POLICY: &str = r#"
version: 1
issuers:
  - issuer: https://id.example.com
    audiences: [api]
    require_typ: at+jwt
    keys: {jwks: {keys: [{kty: oct, kid: k1, alg: HS256, k: c2VjcmV0LW9mLTMyLWJ5dGVzLWZvci10aGUtdGVzdHMhIQ}]}}
    claims: {organization: org, tier: tier}
anonymous: {tier: anon, trusted_hops: 0}
bodies: {json_bytes_max: 2000}
meters: {calls: {}, documents: {}, tokens: {}}
default_tier: free
tiers:
  anon: {limits: [{meter: calls, quota: 3, per: day}]}
  free: {limits: [{meter: calls, quota: 5, per: hour}]}
  pro:
    features: [export]
    limits:
      - {meter: calls, quota: 100, per: day}
      - {meter: calls, rate: 60, per: 60s}
      - {meter: calls, rate: 10, per: 1s, burst: 20}
      - {meter: calls, quota: unlimited, per: month}
      - {meter: calls, quota: 7, per: day, scope: member}
      - {meter: documents, capacity: 10}
      - {meter: tokens, quota: 1000, per: month, soft: true}
      - {concurrency: 5}
      - {size: 1000}
routes:
- {name: open, path: /open, auth: none}
- {name: maybe, path: /maybe, auth: optional, charges: {calls: 1}}
- {name: export, path: /export, features: [export], charges: {calls: 1}}
- {name: store, methods: [PUT], path: "/documents/{id}", charges: {documents: {units: 1, id: path.id}}}
- {name: remove, methods: [DELETE], path: "/documents/{id}", charges: {documents: {units: -1, id: path.id}}}
- {name: chat, path: /chat, charges: {tokens: {response_json: /usage/total, estimate: {request_json: /max_tokens, default: 50}}}}
- {name: priced, path: /priced, charges: {calls: {request_header: x-items}}}
- {name: watched, path: /watched, enforcement: shadow, charges: {calls: 6}}
- {name: unlooked, path: /unlooked, enforcement: "off", charges: {calls: 6}}
- {name: search, path: /rpc, jsonrpc: [search], charges: {calls: 1}}
- {name: write, path: /rpc, jsonrpc: [write], features: [export], charges: {calls: 1}}
- {name: ping, path: /rpc, jsonrpc: [ping], auth: none}
default_route: {charges: {calls: 1}}
"#;

async fn start(url: &str) -> Served {
    start_with(url, POLICY).await
}

async fn start_with(url: &str, policy: &str) -> Served {
    tollgate_policy::jwt::provider::install(None);
    let served = Served::start(url).await;
    served.plane.apply_policy(&author(&served.plane), policy, None, None).await.unwrap();
    served
}

async fn explain(served: &Served, wish: Value) -> Value {
    let (status, answer) = served.send(Method::POST, "/v1/explain", Some(wish.clone())).await;
    assert_eq!(status, 200, "{wish}: {answer}");
    answer
}

/// A GET by whoever has a token of this subject.
fn get(subject: &str, path: &str) -> Value {
    json!({"subject": subject, "method": "GET", "path": path})
}

/// The decision in a line: `admit`, or `deny 429 quota-exceeded calls.hour`, and what is only watched or beyond in brackets.
fn said(explained: &Value) -> String {
    let decision = &explained["decision"];
    let mut said = decision["outcome"].as_str().unwrap().to_owned();
    let mut add = |value: &Value| {
        if !value.is_null() {
            said.push_str(&format!(" {}", value.to_string().trim_matches('"')));
        }
    };
    for name in ["status", "code", "limit", "feature", "calls"] {
        add(&decision[name]);
    }
    for name in ["shadow", "over"] {
        let names: Vec<_> = decision[name].as_array().unwrap().iter().filter_map(Value::as_str).collect();
        if !names.is_empty() {
            add(&json!(format!("({name} {})", names.join(", "))));
        }
    }
    said
}

async fn check(served: &Served, wish: Value, expected: &str) -> Value {
    let explained = explain(served, wish.clone()).await;
    assert_eq!(said(&explained), expected, "{wish}: {explained:#}");
    explained
}

fn limit<'a>(explained: &'a Value, name: &str) -> &'a Value {
    let limits = explained["limits"].as_array().unwrap();
    limits.iter().find(|limit| limit["limit"] == name).unwrap_or_else(|| panic!("{name}: {explained:#}"))
}

fn claims() -> Value {
    let now_s = START_MS / 1_000;
    json!({"iss": "https://id.example.com", "aud": "api", "sub": "alice", "iat": now_s - 10, "exp": now_s + 3_600})
}

fn with(changes: &[(&str, Value)]) -> Value {
    let mut claims = claims();
    for (name, value) in changes {
        claims[*name] = value.clone();
    }
    claims
}

fn sign(claims: &Value) -> String {
    sign_as(&json!({"alg": "HS256", "kid": "k1", "typ": "at+jwt"}), claims)
}

/// A token with this header, signed as HS256 over it whatever it says.
fn sign_as(header: &Value, claims: &Value) -> String {
    let part = |json: &Value| URL_SAFE_NO_PAD.encode(json.to_string());
    let message = format!("{}.{}", part(header), part(claims));
    let key = EncodingKey::from_secret(SECRET);
    let signature = jsonwebtoken::crypto::sign(message.as_bytes(), &key, Algorithm::HS256).unwrap();
    format!("{message}.{signature}")
}

async fn subscribe(served: &Served, subject: &str, tier: &str) {
    served.put(&format!("/v1/subscriptions/{subject}"), json!({"tier": tier})).await;
}

/// A session reports that so much of a limit was taken, and wants to hold so much.
async fn report(
    served: &Served,
    number: u32,
    subject: &str,
    limit: &str,
    window: i64,
    [taken, want]: [u64; 2],
) {
    let account =
        json!({"limit": limit, "window": window, "taken": taken, "freed": 0, "returned": 0, "want": want});
    let claim = subject.starts_with("anon:").then_some("anon");
    let subjects = json!([{"subject": subject, "tier_claim": claim, "accounts": [account]}]);
    let body = json!({"version": 1, "session": session(number), "subjects": subjects});
    let (status, answer) = served.sync(body).await;
    assert_eq!(status, 200, "{answer}");
}

#[tokio::test]
async fn each_fault_of_a_token_is_explained_and_is_no_error_of_the_endpoint() {
    let test = TestDatabase::sqlite();
    let served = start(&test.url).await;
    let now_s = START_MS / 1_000;
    let good = json!({"alg": "HS256", "kid": "k1", "typ": "at+jwt"});
    let header = |name: &str, value: Value| {
        let mut header = good.clone();
        header[name] = value;
        sign_as(&header, &claims())
    };
    let foreign = jsonwebtoken::encode(
        &Header { kid: Some("k1".into()), typ: Some("at+jwt".into()), ..Header::new(Algorithm::HS256) },
        &claims(),
        &EncodingKey::from_secret(b"another secret of some thirty-two"),
    );
    for (token, code) in [
        ("no.token".to_owned(), "token-malformed"),
        ("x".repeat(8_193), "token-too-large"),
        (header("alg", json!("none")), "token-algorithm"),
        (sign(&with(&[("iss", json!("https://evil.example"))])), "token-unknown-issuer"),
        (header("kid", json!("k2")), "token-unknown-key"),
        (foreign.unwrap(), "token-signature"),
        (sign(&with(&[("exp", json!(now_s - 3_600))])), "token-expired"),
        (sign(&with(&[("nbf", json!(now_s + 3_600))])), "token-not-yet-valid"),
        (sign(&with(&[("aud", json!("another"))])), "token-audience"),
        (header("typ", json!("JWT")), "token-type"),
        (header("crit", json!(["b64"])), "token-critical-header"),
        (sign(&with(&[("sub", json!(""))])), "token-claims"),
    ] {
        let wish = json!({"token": token, "method": "GET", "path": "/a"});
        let explained = check(&served, wish, &format!("deny 401 {code}")).await;
        assert_eq!(explained["caller"], Value::Null, "{explained}");
        assert_eq!(explained["routes"][0]["name"], "default", "what it would have cost is told: {explained}");
        assert!(explained["decision"]["detail"].as_str().unwrap().len() > 10);
    }
    let twice = json!({"token": sign(&claims()), "method": "GET", "path": "/a", "headers": {"Authorization": "Bearer x"}});
    check(&served, twice, "deny 401 token-malformed").await;
    check(&served, json!({"method": "GET", "path": "/a"}), "deny 401 token-missing").await;
    let header = json!({"method": "GET", "path": "/a", "headers": {"Authorization": format!("bearer {}", sign(&claims()))}});
    check(&served, header, "admit").await;
    served.stop().await;
}

#[tokio::test]
async fn a_token_and_its_subject_are_explained_alike() {
    on_each_database(async |test| {
        let served = start(&test.url).await;
        subscribe(&served, "org:acme", "pro").await;
        for (token, subject, tier) in [
            (claims(), "user:alice", ("free", "default")),
            (with(&[("tier", json!("pro"))]), "user:alice", ("pro", "claim")),
            (with(&[("tier", json!("gold"))]), "user:alice", ("free", "default")),
            (with(&[("org", json!("acme")), ("tier", json!("free"))]), "member:acme/alice", ("pro", "subscription")),
        ] {
            let by_token = json!({"token": sign(&token), "method": "GET", "path": "/a"});
            let by_token = check(&served, by_token, "admit").await;
            let mut named = get(subject, "/a");
            named["tier_claim"] = token["tier"].clone();
            let mut by_subject = check(&served, named, "admit").await;
            let note = by_subject["notes"].as_array_mut().unwrap().remove(0);
            assert!(note.as_str().unwrap().contains("no token was looked at"), "{note}");
            assert_eq!(by_token, by_subject);
            let caller = &by_token["caller"];
            assert_eq!((&caller["tier"], &caller["tier_from"]), (&json!(tier.0), &json!(tier.1)), "{caller}");
        }
        // Without a word on it, what the subject's newest token claimed holds.
        let claimed = json!({"version": 1, "session": session(1), "subjects": [{"subject": "user:bob", "tier_claim": "pro"}]});
        served.sync(claimed).await;
        assert_eq!(explain(&served, get("user:bob", "/a")).await["caller"]["tier_from"], "claim");
        subscribe(&served, "user:bob", "free").await;
        assert_eq!(explain(&served, get("user:bob", "/a")).await["caller"]["tier"], "free");
        served.stop().await;
    })
    .await;
}

#[tokio::test]
async fn callers_without_a_token_are_told_by_their_address() {
    let test = TestDatabase::sqlite();
    let served = start(&test.url).await;
    let from = |address: &str| json!({"method": "GET", "path": "/maybe", "client_address": address});
    for (address, subject) in [
        ("203.0.113.7:4711", "anon:203.0.113.7"),
        ("2001:db8:1:2:3:4:5:6", "anon:2001:db8:1:2::/64"),
        ("/tmp/socket", "anon:unknown"),
    ] {
        let explained = check(&served, from(address), "admit").await;
        let caller = &explained["caller"];
        let found = (&caller["subject"], &caller["tier"], &caller["tier_from"]);
        assert_eq!(found, (&json!(subject), &json!("anon"), &json!("anonymous")));
        assert_eq!(limit(&explained, "calls.day")["maximum"], 3);
    }
    report(&served, 1, "anon:203.0.113.7", "calls.day", START_MS, [3, 3]).await;
    check(&served, from("203.0.113.7"), "deny 429 quota-exceeded calls.day").await;
    check(&served, get("anon:203.0.113.7", "/maybe"), "deny 429 quota-exceeded calls.day").await;
    check(&served, get("anon:203.0.113.7", "/a"), "deny 401 token-missing").await;
    check(&served, get("user:alice", "/maybe"), "admit").await;
    let bad_token = json!({"token": "x", "method": "GET", "path": "/maybe"});
    check(&served, bad_token, "deny 401 token-malformed").await;

    let behind_two = POLICY.replace("trusted_hops: 0", "trusted_hops: 2");
    served.plane.apply_policy(&author(&served.plane), &behind_two, None, None).await.unwrap();
    let mut forwarded = from("10.0.0.1");
    forwarded["headers"] = json!({"x-forwarded-for": ["6.6.6.6, 198.51.100.1", "10.0.0.9"]});
    assert_eq!(explain(&served, forwarded).await["caller"]["subject"], "anon:198.51.100.1");
    served.stop().await;
}

#[tokio::test]
async fn a_route_without_identity_charges_nobody() {
    let test = TestDatabase::sqlite();
    let served = start(&test.url).await;
    let explained = check(&served, json!({"token": "x", "method": "GET", "path": "/open"}), "admit").await;
    assert_eq!((&explained["public"], &explained["limits"]), (&json!(true), &json!([])));
    assert_eq!(explained["routes"][0]["auth"], "none");
    served.stop().await;
}

#[tokio::test]
async fn tier_and_feature_decide_before_any_limit() {
    let test = TestDatabase::sqlite();
    let served = start_with(&test.url, &POLICY.replace("default_tier: free\n", "")).await;
    let explained = check(&served, get("user:alice", "/a"), "deny 402 subscription-required").await;
    assert_eq!(
        (&explained["caller"]["tier"], &explained["caller"]["tier_from"]),
        (&Value::Null, &json!("none"))
    );
    subscribe(&served, "user:alice", "free").await;
    check(&served, get("user:alice", "/a"), "admit").await;
    check(&served, get("user:alice", "/export"), "deny 403 feature-required export").await;
    subscribe(&served, "user:alice", "pro").await;
    check(&served, get("user:alice", "/export"), "admit").await;
    let expired = json!({"tier": "pro", "expires_at_ms": START_MS});
    served.put("/v1/subscriptions/user:alice", expired).await;
    let mut claims_it = get("user:alice", "/a");
    claims_it["tier_claim"] = json!("pro");
    check(&served, claims_it, "deny 402 subscription-required").await;
    served.stop().await;
}

#[tokio::test]
async fn the_size_of_a_body_is_looked_at_as_edges_do() {
    let test = TestDatabase::sqlite();
    let served = start(&test.url).await;
    subscribe(&served, "user:alice", "pro").await;
    let with_body = |path: &str, body: &str| json!({"subject": "user:alice", "method": "POST", "path": path, "body": body});
    let fits = check(&served, with_body("/a", &"x".repeat(1_000)), "admit").await;
    assert_eq!(
        (&limit(&fits, "size")["needed"], &limit(&fits, "size")["kind"]),
        (&json!(1_000), &json!("size"))
    );
    check(&served, with_body("/a", &"x".repeat(1_001)), "deny 413 size-exceeded size").await;
    let mut announced = get("user:alice", "/a");
    announced["headers"] = json!({"content-length": "5000000000"});
    check(&served, announced.clone(), "deny 413 size-exceeded size").await;
    announced["headers"] = json!({"content-length": "-1"});
    check(&served, announced, "deny 400 body-malformed").await;
    check(&served, with_body("/chat", &"x".repeat(2_001)), "deny 413 body-too-large").await;
    served.stop().await;
}

#[tokio::test]
async fn charges_are_told_with_their_amount_or_their_estimate() {
    let test = TestDatabase::sqlite();
    let served = start(&test.url).await;
    subscribe(&served, "user:alice", "pro").await;
    let mut chat =
        json!({"subject": "user:alice", "method": "POST", "path": "/chat", "body": "{\"max_tokens\": 300}"});
    let explained = check(&served, chat.clone(), "admit").await;
    let charge = &explained["routes"][0]["charges"][0];
    assert_eq!(
        charge,
        &json!({"meter": "tokens", "units": 300, "estimate": true, "source": "response_json /usage/total",
            "on": "response", "release": false})
    );
    let tokens = limit(&explained, "tokens.month");
    assert_eq!((&tokens["needed"], &tokens["soft"]), (&json!(300), &json!(true)));
    let span = (&tokens["window_start"], &tokens["window_end"]);
    assert_eq!(span, (&json!("2027-03-01T00:00:00Z"), &json!("2027-04-01T00:00:00Z")));
    chat["body"] = Value::Null;
    let explained = check(&served, chat, "admit").await;
    assert_eq!(explained["routes"][0]["charges"][0]["units"], 50);
    assert!(explained["notes"].to_string().contains("none was given"), "{explained}");

    let mut priced = get("user:alice", "/priced");
    check(&served, priced.clone(), "deny 400 amount-unreadable").await;
    priced["headers"] = json!({"X-Items": "3"});
    assert_eq!(check(&served, priced, "admit").await["routes"][0]["charges"][0]["units"], 3);

    let delete = json!({"subject": "user:alice", "method": "DELETE", "path": "/documents/a%62"});
    let explained = check(&served, delete, "admit").await;
    assert_eq!(explained["path"], "/documents/ab");
    let charge = &explained["routes"][0]["charges"][0];
    assert_eq!((&charge["release"], charge["id"].as_str().map(str::len)), (&json!(true), Some(32)));
    let documents = limit(&explained, "documents");
    assert_eq!((&documents["released"], &documents["needed"]), (&json!(1), &json!(0)));
    served.stop().await;
}

#[tokio::test]
async fn each_kind_of_limit_refuses_when_it_is_used_up() {
    on_each_database(async |test| {
        let served = start(&test.url).await;
        for user in ["q", "r", "b", "c", "f", "s"] {
            subscribe(&served, &format!("user:{user}"), "pro").await;
        }
        report(&served, 1, "user:q", "calls.day", START_MS, [0, 100]).await;
        report(&served, 1, "user:q", "calls.day", START_MS, [99, 100]).await;
        let explained = check(&served, get("user:q", "/a"), "admit").await;
        let day = limit(&explained, "calls.day");
        assert_eq!(
            (&day["used"], &day["leased"], &day["remaining"]),
            (&json!(99), &json!(1), &json!(1)),
            "{day}"
        );
        assert!(explained["notes"].to_string().contains("count as free"), "{explained}");
        assert_eq!(limit(&explained, "calls.month")["remaining"], "unlimited");
        report(&served, 1, "user:q", "calls.day", START_MS, [100, 100]).await;
        let explained = check(&served, get("user:q", "/a"), "deny 429 quota-exceeded calls.day").await;
        let decision = &explained["decision"];
        assert_eq!(
            (&decision["retry_after_s"], &decision["reset_at"]),
            (&json!(86_400), &json!("2027-03-02T00:00:00Z"))
        );

        report(&served, 1, "user:c", "documents", CAPACITY_WINDOW, [10, 10]).await;
        let put =
            |user: &str| json!({"subject": format!("user:{user}"), "method": "PUT", "path": "/documents/a"});
        check(&served, put("c"), "deny 403 capacity-exceeded documents").await;
        check(&served, put("q"), "admit").await;
        report(&served, 1, "user:f", "concurrency", CONCURRENCY_WINDOW, [5, 5]).await;
        check(&served, get("user:f", "/a"), "deny 429 concurrency-exceeded concurrency").await;
        report(&served, 1, "user:s", "tokens.month", START_MS, [2_000, 1_000]).await;
        let chat = json!({"subject": "user:s", "method": "POST", "path": "/chat"});
        let explained = check(&served, chat, "admit (over tokens.month)").await;
        assert_eq!(limit(&explained, "tokens.month")["remaining"], 0);

        // What edges used of a rate they alone know, but what one held that is gone nobody gets for a while.
        report(&served, 2, "user:r", "calls.60s", RATE_WINDOW, [60, 60]).await;
        check(&served, get("user:r", "/a"), "admit").await;
        report(&served, 2, "user:b", "calls.1s.burst", BUCKET_WINDOW, [20, 20]).await;
        let mut sweeper = Sweeper::default();
        sweeper.sweep(&served.plane).await.unwrap();
        served.clock.pass(36_000);
        assert!(sweeper.sweep(&served.plane).await.unwrap() > 0);
        let explained = check(&served, get("user:r", "/a"), "deny 429 rate-exceeded calls.60s").await;
        assert_eq!(explained["decision"]["retry_after_s"], 59);
        let rate = limit(&explained, "calls.60s");
        assert_eq!(
            (&rate["resting"], &rate["leased"], &rate["remaining"]),
            (&json!(60), &json!(0), &json!(0))
        );
        check(&served, get("user:b", "/a"), "deny 429 rate-exceeded calls.1s.burst").await;
        served.clock.pass(60_000);
        check(&served, get("user:r", "/a"), "admit").await;
        let mut many = get("user:r", "/priced");
        many["headers"] = json!({"x-items": "101"});
        check(&served, many, "deny 429 rate-exceeded calls.60s").await;
        served.stop().await;
    })
    .await;
}

#[tokio::test]
async fn a_member_s_limits_are_looked_at_before_its_organisation_s() {
    on_each_database(async |test| {
        let served = start(&test.url).await;
        subscribe(&served, "org:acme", "pro").await;
        report(&served, 1, "member:acme/alice", "calls.day.member", START_MS, [7, 7]).await;
        let explained =
            check(&served, get("member:acme/alice", "/a"), "deny 429 quota-exceeded calls.day.member").await;
        let caller = &explained["caller"];
        assert_eq!(
            (&caller["subject"], &caller["member"]),
            (&json!("org:acme"), &json!("member:acme/alice"))
        );
        assert_eq!(
            (&explained["limits"][0]["scope"], &explained["limits"][0]["used"]),
            (&json!("member"), &json!(7))
        );
        report(&served, 1, "org:acme", "calls.day", START_MS, [100, 100]).await;
        check(&served, get("member:acme/alice", "/a"), "deny 429 quota-exceeded calls.day.member").await;
        check(&served, get("member:acme/bob", "/a"), "deny 429 quota-exceeded calls.day").await;
        let whole = check(&served, get("org:acme", "/a"), "deny 429 quota-exceeded calls.day").await;
        assert!(whole["limits"].as_array().unwrap().iter().all(|limit| limit["scope"] == "subject"));
        served.stop().await;
    })
    .await;
}

#[tokio::test]
async fn what_is_watched_passes_and_says_what_it_would_be_refused_for() {
    let test = TestDatabase::sqlite();
    let served = start(&test.url).await;
    let explained = check(&served, get("user:alice", "/watched"), "admit (shadow quota-exceeded)").await;
    assert_eq!(limit(&explained, "calls.hour")["enforcement"], "shadow");
    assert_eq!(explained["decision"].get("would_deny"), None, "{explained}");
    check(
        &served,
        json!({"token": "x", "method": "GET", "path": "/watched"}),
        "admit (shadow token-malformed)",
    )
    .await;
    let explained = check(&served, get("user:alice", "/unlooked"), "admit").await;
    let hour = limit(&explained, "calls.hour");
    assert_eq!((&hour["enforcement"], &hour["needed"]), (&json!("off"), &json!(6)));
    check(&served, json!({"token": "x", "method": "GET", "path": "/unlooked"}), "deny 401 token-malformed")
        .await;

    let one_enforced = POLICY.replace("quota: 5, per: hour", "quota: 5, per: hour, enforcement: enforce");
    let one_enforced = format!("{one_enforced}enforcement: shadow\n");
    served.plane.apply_policy(&author(&served.plane), &one_enforced, None, None).await.unwrap();
    check(&served, get("user:alice", "/export"), "admit (shadow feature-required)").await;
    report(&served, 1, "user:alice", "calls.hour", START_MS, [5, 5]).await;
    check(&served, get("user:alice", "/a"), "deny 429 quota-exceeded calls.hour").await;
    check(&served, get("user:alice", "/watched"), "admit (shadow quota-exceeded)").await;
    served.stop().await;
}

#[tokio::test]
async fn a_bypass_passes_all_limits_until_it_ends() {
    let test = TestDatabase::sqlite();
    let served = start(&test.url).await;
    report(&served, 1, "user:alice", "calls.hour", START_MS, [5, 5]).await;
    check(&served, get("user:alice", "/a"), "deny 429 quota-exceeded calls.hour").await;
    let grant = json!({"expires_at": "2027-03-01T00:01:00Z", "reason": "a test"});
    served.put("/v1/subjects/user:alice/bypass", grant).await;
    let explained = check(&served, get("user:alice", "/export"), "admit").await;
    assert_eq!(explained["caller"]["bypass_until"], "2027-03-01T00:01:00Z");
    assert_eq!(limit(&explained, "calls.hour")["enforcement"], "off");
    served.clock.pass(60_000);
    let explained = check(&served, get("user:alice", "/a"), "deny 429 quota-exceeded calls.hour").await;
    assert_eq!(explained["caller"].get("bypass_until"), None);
    served.stop().await;
}

#[tokio::test]
async fn each_call_of_a_batch_takes_its_route_and_one_that_is_refused_is_named() {
    let test = TestDatabase::sqlite();
    let served = start(&test.url).await;
    let call = |id: u32, method: &str| json!({"jsonrpc": "2.0", "id": id, "method": method});
    let send =
        |body: String| json!({"subject": "user:alice", "method": "POST", "path": "/rpc", "body": body});
    let batch = json!([call(1, "search"), call(2, "write"), call(3, "ping"), call(4, "search")]);
    let explained = check(&served, send(batch.to_string()), "deny 200 feature-required export [1]").await;
    let routes: Vec<_> = explained["calls"].as_array().unwrap().iter().map(|call| &call["route"]).collect();
    assert_eq!(routes, ["search", "write", "ping", "search"]);
    let search = &explained["routes"][0];
    assert_eq!((&search["calls"], &search["charges"][0]["units"]), (&json!([0, 3]), &json!(2)));
    subscribe(&served, "user:alice", "pro").await;
    let explained = check(&served, send(batch.to_string()), "admit").await;
    assert_eq!(limit(&explained, "calls.day")["needed"], 3);
    assert_eq!(limit(&explained, "concurrency")["needed"], 1, "however many calls are in it");
    check(&served, send(json!([call(1, "search"), 7]).to_string()), "deny 400 body-malformed").await;
    check(&served, send("{".to_owned()), "deny 400 body-malformed").await;
    check(&served, send(call(1, "ping").to_string()), "admit").await;
    served.stop().await;
}

#[tokio::test]
async fn an_ambiguous_path_is_explained_and_only_noted_where_the_policy_watches() {
    let test = TestDatabase::sqlite();
    let served = start(&test.url).await;
    let explained = check(&served, get("user:alice", "/a//b"), "deny 400 path-ambiguous").await;
    assert_eq!((&explained["path"], &explained["routes"]), (&Value::Null, &json!([])));
    let watching = format!("{POLICY}enforcement: shadow\n");
    served.plane.apply_policy(&author(&served.plane), &watching, None, None).await.unwrap();
    let explained = check(&served, get("user:alice", "/a/%2e"), "admit (shadow path-ambiguous)").await;
    assert_eq!(explained["decision"]["would_deny"]["status"], 400);
    check(&served, json!({"method": "GET", "path": "/a"}), "admit (shadow token-missing)").await;
    served.stop().await;
}

#[tokio::test]
async fn a_template_s_status_is_the_one_that_is_told() {
    let test = TestDatabase::sqlite();
    let template = "denials: {templates: {quota-exceeded: {status: 418, body: full}, feature-required: {status: 404, body: gone}}}";
    let served = start_with(&test.url, &format!("{POLICY}{template}\n")).await;
    report(&served, 1, "user:alice", "calls.hour", START_MS, [5, 5]).await;
    check(&served, get("user:alice", "/a"), "deny 418 quota-exceeded calls.hour").await;
    check(&served, get("user:alice", "/export"), "deny 404 feature-required export").await;
    served.stop().await;
}

#[tokio::test]
async fn nothing_is_taken_or_written_by_whoever_may_look() {
    on_each_database(async |test| {
        let served = start(&test.url).await;
        subscribe(&served, "org:acme", "pro").await;
        report(&served, 1, "org:acme", "calls.day", START_MS, [3, 20]).await;
        let state = async || {
            let mut state = Vec::new();
            for path in [
                "/v1/subjects/org:acme",
                "/v1/subjects/member:acme%2Falice",
                "/v1/subjects/user:new",
                "/v1/subjects/org:acme/usage",
                "/v1/audit",
            ] {
                state.push(served.get(path).await);
            }
            (state, changes::since(&served.plane.database, 0, 100).await.unwrap().len())
        };
        let before = state().await;
        let first = explain(&served, get("member:acme/alice", "/a")).await;
        for _ in 0..20 {
            assert_eq!(explain(&served, get("member:acme/alice", "/a")).await, first);
        }
        explain(&served, get("user:new", "/a")).await;
        assert_eq!(state().await, before);

        let made = json!({"name": "looker", "role": "read"});
        let (_, made) = served.send(Method::POST, "/v1/tokens", Some(made)).await;
        let read = made["token"].as_str().unwrap();
        for (token, expected) in [(ADMIN, 200), (read, 200), (EDGE, 403), ("tg_x", 401)] {
            let request = served.request(Method::POST, "/v1/explain", token).json(&get("user:a", "/a"));
            assert_eq!(answer(request).await.0, expected, "{token}");
        }
        served.stop().await;
    })
    .await;
}

#[tokio::test]
async fn what_no_client_could_send_is_refused() {
    let test = TestDatabase::sqlite();
    let served = Served::start(&test.url).await;
    let refused = async |body: Value, status: u16, code: &str| {
        let (found, answer) = served.send(Method::POST, "/v1/explain", Some(body.clone())).await;
        assert_eq!((found.as_u16(), &answer["code"]), (status, &json!(code)), "{body}: {answer}");
    };
    refused(get("user:a", "/a"), 404, "policy-missing").await;
    served.plane.apply_policy(&author(&served.plane), POLICY, None, None).await.unwrap();
    let with = |name: &str, value: Value| {
        let mut wish = get("user:a", "/a");
        wish[name] = value;
        wish
    };
    refused(with("token", json!("x")), 422, "explain-invalid").await;
    refused(with("method", json!("GET /")), 422, "explain-invalid").await;
    refused(with("headers", json!({":path": "/b"})), 422, "explain-invalid").await;
    refused(with("headers", json!({"a": "b\r\nc: d"})), 422, "explain-invalid").await;
    refused(with("headers", json!({"a": 1})), 422, "body-invalid").await;
    refused(with("subject", json!("alice")), 400, "subject-malformed").await;
    refused(with("pathh", json!("/a")), 422, "body-invalid").await;
    refused(json!({"path": "/a"}), 422, "body-invalid").await;
    refused(json!({"method": "GET", "path": "/a", "tier_claim": "pro"}), 422, "explain-invalid").await;
    refused(with("body", json!("x".repeat(3 << 20))), 413, "body-too-large").await;
    served.stop().await;
}

#[tokio::test]
async fn the_command_says_first_what_is_decided_and_then_why() {
    let test = TestDatabase::sqlite();
    let served = start(&test.url).await;
    subscribe(&served, "org:acme", "pro").await;
    report(&served, 1, "member:acme/alice", "calls.day.member", START_MS, [7, 7]).await;
    let run = async |arguments: &[&str]| {
        let output = Command::new(env!("CARGO_BIN_EXE_tollgate"))
            .arg("explain")
            .args(arguments)
            .env("TOLLGATE_SERVER", format!("http://{}", served.address))
            .env("TOLLGATE_ADMIN_TOKEN", ADMIN)
            .output()
            .await
            .unwrap();
        let text = if output.status.success() { output.stdout } else { output.stderr };
        String::from_utf8(text).unwrap()
    };
    let said = run(&["--subject", "member:acme/alice", "GET", "/a"]).await;
    let lines: Vec<&str> = said.lines().collect();
    assert!(
        lines[0].starts_with("GET /a is refused with 429 quota-exceeded: The plan pro allows 7 per day"),
        "{said}"
    );
    assert_eq!(lines[2], "org:acme, for its member:acme/alice has pro (from its subscription)");
    assert_eq!(lines[3], "Route default (auth required): charges 1 calls (units)");
    assert!(lines[5].starts_with("LIMIT") && lines[6].starts_with("calls.day.member  "), "{said}");
    assert!(said.contains("\nNote: "), "{said}");

    let token = sign(&claims());
    let said = run(&["--bearer", &token, "GET", "/priced", "-H", "X-Items: 9", "--json"]).await;
    let json: Value = serde_json::from_str(&said).unwrap();
    assert_eq!(
        (&json["decision"]["code"], &json["limits"][0]["needed"]),
        (&json!("quota-exceeded"), &json!(9))
    );
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "{\"max_tokens\": 7}").unwrap();
    let body = format!("@{}", file.path().display());
    let said = run(&["--subject", "user:bob", "--tier-claim", "pro", "POST", "/chat", "--body", &body]).await;
    assert!(said.starts_with("POST /chat passes.\n\nuser:bob has pro (from its claim)\n"), "{said}");
    assert!(said.contains("charges 7 tokens (response_json /usage/total, an estimate)"), "{said}");
    let said = run(&["GET", "/maybe", "--client-address", "203.0.113.7"]).await;
    assert!(said.contains("anon:203.0.113.7 has anon"), "{said}");
    let said = run(&["--subject", "a", "GET", "/a", "-H", "x"]).await;
    assert!(said.contains("write it as NAME:VALUE"), "{said}");
    served.stop().await;
}

#[tokio::test]
async fn tokens_are_verified_by_the_keys_that_edges_have_and_a_fault_in_new_ones_leaves_them() {
    let test = TestDatabase::sqlite();
    let served = start(&test.url).await;
    let wish = json!({"token": sign(&claims()), "method": "GET", "path": "/a"});
    check(&served, wish.clone(), "admit").await;
    let mut other = SqliteConnection::connect(&test.url).await.unwrap();
    for change in [
        "UPDATE policies SET document = replace(document, 'c2VjcmV0LW9mLTMyLWJ5dGVzLWZvci10aGUtdGVzdHMhIQ', 'c2hvcnQ')",
        "UPDATE counters SET value = value + 1 WHERE name = 'configuration'",
    ] {
        sqlx::query(change).execute(&mut other).await.unwrap();
    }
    let explained = check(&served, wish.clone(), "admit").await;
    assert_eq!(explained["policy_version"], 1, "the last good one");
    let rotated = POLICY.replace("kid: k1", "kid: k2");
    served.plane.apply_policy(&author(&served.plane), &rotated, None, None).await.unwrap();
    check(&served, wish, "deny 401 token-unknown-key").await;
    served.stop().await;
}
