//! What the control plane answers in the words of another API: that the numbers are right, that nothing in them changes the
//! answer's structure, and that nobody sees anything of others.

use reqwest::{Method, StatusCode, header};
use serde_json::{Value, json};
use tollgate_control_plane::config::Settings;

use super::me::{sign, user};
use super::support::{START_MS, Served, TestDatabase, answer, author, on_each_database, session};

const POLICY: &str = r#"
version: 1
issuers:
  - issuer: https://id.example.com
    audiences: [api]
    keys: {jwks: {keys: [{kty: oct, kid: k1, alg: HS256, k: c2VjcmV0LW9mLTMyLWJ5dGVzLWZvci10aGUtdGVzdHMhIQ}]}}
    claims: {organization: org, organization_admin: {claim: roles, values: [admin]}}
meters: {messages: {by: [route]}, storage: {}}
default_tier: free
billing: {currency: EUR}
tiers:
  free:
    title: {en: Free, fr: Gratuit}
    limits:
      - {meter: messages, quota: 5, per: hour}
      - {meter: messages, rate: 60, per: 60s}
      - {meter: storage, capacity: 10737418240}
  pro:
    title: {en: Pro, fr: Pro}
    order: 1
    prices: [{flat: 1900}, {meter: messages, unit: {amount: 5}}]
    limits: [{meter: messages, quota: unlimited, per: hour}]
  inner: {visible: false, order: 2, limits: [{meter: messages, quota: 7, per: hour}]}
views:
  quota:
    body: |
      {% set l = limit("messages.hour") %}
      {
        "user_id": {{ me.subject_id }}, "name": {{ me.claims.name }}, "plan": {{ me.tier.title }},
        "used": {{ l.used }}, "maximum": {{ l.maximum }}, "left": {{ l.remaining }}, "percent": {{ l.percent }},
        "resets_at": {{ l.resets_at }}, "can_send": {{ l.remaining != 0 }},
        "per_minute": {{ limit("messages.60s").maximum }}, "used_this_minute": {{ limit("messages.60s").used }},
        "none": {{ limit("nothing").used }}, "or": {{ limit("nothing").used | default(0) }}, "there": {{ limit("nothing").maximum is defined }},
        "storage_gb": {{ limit("storage").maximum | gb(1) }}, "own": {{ plan(me.tier.name).order }}
      }
  request: {body: '{{ {"method": request.method, "query": request.query, "json": request.json, "language": request.language, "now": now} }}'}
  usage:
    body: '{{ usage("messages", by=request.query.by, group=["route"], from=request.query.from) }}'
  often: {body: '[{% for n in range(request.query.n | int) %}{{ usage(by="total", from="2027-0" ~ (n % 3 + 1) ~ "-01") | length }},{% endfor %}0]'}
  too-often: {body: '[{% for n in range(9) %}{{ usage(by="total", from="2026-0" ~ (n + 1) ~ "-01") | length }},{% endfor %}0]'}
  costs:
    body: |
      {% set c = costs() %}{"currency": {{ c.currency }}, "total": {{ c.total_minor }}, "major": {{ c.total_minor | money(c.exponent) }},
      "lines": [{% for line in c.lines %}{"title": {{ line.title }}, "minor": {{ line.amount_minor }}}{% if not loop.last %},{% endif %}{% endfor %}]}
  tiers:
    public: true
    body: '{"currency": {{ plans.currency }}, "names": {{ plans.items | map(attribute="title") | list }}, "pro": {{ plan("pro").prices[0].flat }}, "inner": {{ plan("inner").order }}}'
  plan:
    public: true
    body: |
      {% set wanted = plan(request.query.tier) %}{% if not wanted %}{% set status = 404 %}{% endif %}
      {"name": {{ title(request.query.tier) }}, "name_fr": {{ title(request.query.tier, "fr") }}, "week": {{ ago(days=7) }}, "hours": {{ ago(hours=36) }}}
  bought: {body: '{"tier": {{ me.subscription.tier }}, "since": {{ me.subscription.since }}, "effective": {{ me.tier.name }}}'}
  stats: {jsonrpc: true, body: '{"method": {{ request.json.method }}, "days": {{ request.json.params.days }}, "used": {{ limit("messages.hour").used }}}'}
  since: {body: '{"from": {{ ago(days=request.query.days, hours=request.query.hours) }}}'}
  public-since: {public: true, body: '{"from": {{ ago(days=request.query.days) }}}'}
  used-since: {jsonrpc: true, body: '{{ usage(by="total", from=request.json.params.from) | length }}'}
  long: {jsonrpc: true, body: '{{ "x" * 1000000 }}'}
  endless: {body: '{% for a in range(9999) %}{% for b in range(9999) %}{% set c = a %}{% endfor %}{% endfor %}1'}
  broken: {body: '{"used": {{ limit("messages.hour").used }}'}
  broken-rpc: {jsonrpc: true, body: '{{ me.subject + 1 }}'}
"#;

async fn start_with(url: &str, settings: Settings) -> Served {
    let served = Served::start_with(url, settings).await;
    served.plane.apply_policy(&author(&served.plane), POLICY, None, None).await.unwrap();
    served
}

async fn start(url: &str) -> Served {
    start_with(url, Settings::default()).await
}

async fn use_up(served: &Served, subject: &str, taken: u64) {
    let body = json!({"version": 1, "session": session(1), "subjects": [{
        "subject": subject,
        "accounts": [{"limit": "messages.hour", "window": START_MS, "taken": taken, "freed": 0, "returned": 0, "want": 0}],
        "usage": [
            {"meter": "messages", "labels": "route=chat", "hour": START_MS, "taken": taken - 1, "freed": 0},
            {"meter": "messages", "labels": "route=search", "hour": START_MS, "taken": 1, "freed": 0},
        ],
    }]});
    let (status, said) = served.sync(body).await;
    assert_eq!(status, 200, "{said}");
    served.clock.pass(1_000);
}

async fn view(served: &Served, token: &str, path: &str) -> (u16, Value) {
    let (status, body) = answer(served.request(Method::GET, &format!("/v1/views/{path}"), token)).await;
    (status.as_u16(), body)
}

async fn good(served: &Served, token: &str, path: &str) -> Value {
    let (status, body) = view(served, token, path).await;
    assert_eq!(status, 200, "{path}: {body}");
    body
}

async fn post(served: &Served, token: &str, path: &str, body: &str) -> (u16, Value) {
    let request = served.request(Method::POST, &format!("/v1/views/{path}"), token);
    let request = request.header(header::CONTENT_TYPE, "application/json").body(body.to_owned());
    let (status, body) = answer(request).await;
    (status.as_u16(), body)
}

#[tokio::test]
async fn texts_are_in_any_language_and_what_there_is_not_has_a_status() {
    on_each_database(async |test| {
        let served = start(&test.url).await;
        let free = json!({"name": "Free", "name_fr": "Gratuit", "week": "2027-02-22T00:00:00Z", "hours": "2027-02-27T12:00:00Z"});
        assert_eq!(view(&served, "", "plan?tier=free").await, (200, free.clone()));
        // So Envoy puts a path's part and a client's own query together.
        assert_eq!(view(&served, "", "plan?tier=free&?days=3").await, (200, free));
        // A tier that is not offered is no plan; without a title it is called by its name.
        let (status, inner) = view(&served, "", "plan?tier=inner").await;
        assert_eq!((status, &inner["name_fr"]), (404, &json!("inner")), "{inner}");
        assert_eq!(view(&served, "", "plan?tier=none").await.1["name_fr"], Value::Null);
        let nothing = json!({"tier": null, "since": null, "effective": "free"});
        assert_eq!(good(&served, &user("alice"), "bought").await, nothing);
        served.put("/v1/subscriptions/user:alice", json!({"tier": "pro", "expires_at_ms": START_MS + 1_000})).await;
        served.clock.pass(2_000);
        let over = json!({"tier": "pro", "since": "2027-03-01T00:00:00Z", "effective": "free"});
        assert_eq!(good(&served, &user("alice"), "bought").await, over);
    })
    .await;
}

#[tokio::test]
async fn a_view_has_the_user_s_own_numbers_with_their_types() {
    on_each_database(async |test| {
        let served = start(&test.url).await;
        use_up(&served, "user:alice", 4).await;
        let alice = sign(json!({"sub": "alice", "name": "Alice"}));
        let expected = json!({
            "user_id": "alice", "name": "Alice", "plan": "Free", "used": 4, "maximum": 5, "left": 1, "percent": 80.0,
            "resets_at": "2027-03-01T01:00:00Z", "can_send": true, "per_minute": 60, "used_this_minute": null, "none": null,
            "or": 0, "there": false, "storage_gb": 10.0, "own": 0,
        });
        assert_eq!(good(&served, &alice, "quota").await, expected);
        let bob = good(&served, &user("bob"), "quota").await;
        assert_eq!((&bob["user_id"], &bob["used"], &bob["name"]), (&json!("bob"), &json!(0), &Value::Null), "{bob}");
        served.put("/v1/subscriptions/user:bob", json!({"tier": "pro"})).await;
        let bob = good(&served, &user("bob"), "quota").await;
        let shown = (&bob["maximum"], &bob["left"], &bob["percent"], &bob["per_minute"], &bob["can_send"]);
        assert_eq!(shown, (&json!("unlimited"), &json!("unlimited"), &Value::Null, &Value::Null, &json!(true)), "{bob}");
        served.put("/v1/subscriptions/user:bob", json!({"tier": "inner"})).await;
        let bob = good(&served, &user("bob"), "quota").await;
        assert_eq!((&bob["maximum"], &bob["own"]), (&json!(7), &json!(2)), "one's own tier is known though it is not offered");
        served.stop().await;
    })
    .await;
}

#[tokio::test]
async fn a_view_asks_the_ledger_and_the_prices() {
    on_each_database(async |test| {
        let served = start(&test.url).await;
        served.put("/v1/subscriptions/user:alice", json!({"tier": "pro"})).await;
        use_up(&served, "user:alice", 4).await;
        let token = user("alice");
        let row = |label: &str, units: u64| {
            json!({"meter": "messages", "start": "2027-03-01T00:00:00Z", "end": "2027-04-01T00:00:00Z", "labels": {"route": label}, "units": units})
        };
        assert_eq!(good(&served, &token, "usage").await, json!([row("chat", 3), row("search", 1)]));
        let by_day = good(&served, &token, "usage?by=day&from=2027-02-01").await;
        assert_eq!(by_day[0]["end"], "2027-03-02T00:00:00Z", "{by_day}");
        assert_eq!(good(&served, &user("bob"), "usage").await, json!([]), "nothing of others");
        for (query, code) in [
            ("by=week", "query-malformed"),
            ("from=yesterday", "query-malformed"),
            ("from=2028-01-01", "range-invalid"),
        ] {
            let (status, body) = view(&served, &token, &format!("usage?{query}")).await;
            assert_eq!((status, &body["code"]), (400, &json!(code)), "{query}: {body}");
        }
        // The same question is asked once, and of others there are eight.
        assert_eq!(good(&served, &token, "often?n=30").await.as_array().unwrap().len(), 31);
        let (status, body) = view(&served, &token, "too-often").await;
        assert_eq!((status, &body["code"]), (500, &json!("view-failed")), "{body}");
        let costs = good(&served, &token, "costs").await;
        assert_eq!((&costs["currency"], &costs["total"], &costs["major"]), (&json!("EUR"), &json!(1920), &json!(19.2)), "{costs}");
        assert_eq!(costs["lines"].as_array().unwrap().len(), 2, "{costs}");
        served.stop().await;
    })
    .await;
}

#[tokio::test]
async fn only_administrators_see_what_their_organisation_used() {
    let test = TestDatabase::sqlite();
    let served = start(&test.url).await;
    use_up(&served, "org:acme", 3).await;
    let member = sign(json!({"sub": "alice", "org": "acme"}));
    let admin = sign(json!({"sub": "carol", "org": "acme", "roles": "admin"}));
    for path in ["usage", "costs"] {
        let (status, body) = view(&served, &member, path).await;
        assert_eq!((status, &body["code"]), (403, &json!("right-missing")), "{path}: {body}");
    }
    assert_eq!(good(&served, &admin, "usage").await.as_array().unwrap().len(), 2);
    assert_eq!(good(&served, &member, "quota").await["used"], 3, "what limits it a member sees");
    served.stop().await;
}

#[tokio::test]
async fn a_view_needs_a_token_unless_it_is_public() {
    let test = TestDatabase::sqlite();
    let allow_origins = vec![header::HeaderValue::from_static("https://app.example.com")];
    let served = start_with(&test.url, Settings { allow_origins, ..Settings::default() }).await;
    let bare = |path: &str| served.client.get(format!("http://{}/v1/views/{path}", served.address));
    let (status, body) = answer(bare("quota")).await;
    assert_eq!((status, &body["code"]), (StatusCode::UNAUTHORIZED, &json!("token-missing")), "{body}");
    let (status, body) = view(&served, super::support::ADMIN, "quota").await;
    assert_eq!((status, &body["code"]), (401, &json!("token-malformed")), "{body}");
    let late = sign(json!({"sub": "alice", "exp": START_MS / 1_000 - 60}));
    assert_eq!(view(&served, &late, "quota").await.1["code"], "token-expired");
    let (status, body) = view(&served, &user("alice"), "nothing").await;
    assert_eq!((status, &body["code"]), (404, &json!("view-missing")), "{body}");

    let expected = json!({"currency": "EUR", "names": ["Free", "Pro"], "pro": 1900, "inner": null});
    assert_eq!(answer(bare("tiers")).await, (StatusCode::OK, expected.clone()));
    assert_eq!(view(&served, "no-token-at-all", "tiers").await, (200, expected), "none is looked at");
    let french = bare("tiers")
        .header(header::ACCEPT_LANGUAGE, "fr-CH")
        .header(header::ORIGIN, "https://app.example.com");
    let response = french.send().await.unwrap();
    let told = |name: &str| response.headers().get(name).map(|value| value.to_str().unwrap().to_owned());
    assert_eq!(told("cache-control").as_deref(), Some("public, max-age=60"));
    assert_eq!(told("content-type").as_deref(), Some("application/json"));
    assert_eq!(told("access-control-allow-origin").as_deref(), Some("https://app.example.com"));
    assert_eq!(response.json::<Value>().await.unwrap()["names"], json!(["Gratuit", "Pro"]));
    let mine =
        served.request(Method::GET, "/v1/views/quota", &user("alice")).header(header::ACCEPT_LANGUAGE, "fr");
    let response = mine.send().await.unwrap();
    assert_eq!(response.headers().get("cache-control").unwrap(), "no-store");
    assert_eq!(response.json::<Value>().await.unwrap()["plan"], "Gratuit");
    served.stop().await;
}

#[tokio::test]
async fn nothing_that_a_caller_says_changes_the_structure() {
    let test = TestDatabase::sqlite();
    let served = start(&test.url).await;
    for name in [
        "\"",
        "a\", \"used\": 0, \"x\": \"",
        "</script><script>alert(1)</script>",
        "\n\r\t",
        "\u{2028}",
        "{{ 7 * 7 }}",
        "\\",
    ] {
        let token = sign(json!({"sub": "alice", "name": name}));
        let shown = good(&served, &token, "quota").await;
        assert_eq!((&shown["name"], &shown["used"]), (&json!(name), &json!(0)));
        let body = json!({ "text": name, name: [1, null, true, 1.5] });
        let (status, shown) = post(&served, &token, "request?a=1&b=%22%7D&a=2", &body.to_string()).await;
        assert_eq!((status, &shown["json"]), (200, &body));
        assert_eq!(shown["query"], json!({"a": "2", "b": "\"}"}));
        assert_eq!((&shown["method"], &shown["now"]), (&json!("POST"), &json!("2027-03-01T00:00:00Z")));
    }
    // A subject that is named so is told as it is.
    for sub in ["a\"b", "</script>", "a, \"used\": 0"] {
        let (status, shown) = view(&served, &sign(json!({ "sub": sub })), "quota").await;
        if status == 200 {
            assert_eq!((&shown["user_id"], &shown["used"]), (&json!(sub), &json!(0)));
        } else {
            assert_eq!((status, &shown["code"]), (401, &json!("token-claims")), "{shown}");
        }
    }
    served.stop().await;
}

#[tokio::test]
async fn a_body_is_read_as_elsewhere() {
    let test = TestDatabase::sqlite();
    let served = start(&test.url).await;
    let token = user("alice");
    let shown = good(&served, &token, "request").await;
    assert_eq!(
        (&shown["method"], &shown["json"], &shown["language"]),
        (&json!("GET"), &Value::Null, &Value::Null)
    );
    let (status, body) = post(&served, &token, "request", "{").await;
    assert_eq!((status, &body["code"]), (400, &json!("json-malformed")), "{body}");
    let (status, body) = post(&served, &token, "request", &format!("\"{}\"", "x".repeat(70_000))).await;
    assert_eq!((status, &body["code"]), (413, &json!("body-too-large")), "{body}");
    let nested = |levels: usize| format!("{}{}", "[".repeat(levels), "]".repeat(levels));
    assert_eq!(post(&served, &token, "request", &nested(64)).await.0, 200);
    let (status, body) = post(&served, &token, "request", &nested(65)).await;
    assert_eq!((status, &body["code"]), (400, &json!("json-malformed")), "{body}");
    let (status, body) = post(&served, &token, "request", "").await;
    assert_eq!((status, &body["json"]), (200, &Value::Null));
    let plain = served.request(Method::POST, "/v1/views/request", &token).body("{}");
    assert_eq!(answer(plain).await.0, StatusCode::UNSUPPORTED_MEDIA_TYPE);
    let french = served
        .request(Method::GET, "/v1/views/request", &token)
        .header(header::ACCEPT_LANGUAGE, "en;q=0.5, fr-CH");
    assert_eq!(answer(french).await.1["language"], "fr-ch");
    served.stop().await;
}

#[tokio::test]
async fn a_view_that_cannot_be_answered_is_no_panic_and_ends() {
    let test = TestDatabase::sqlite();
    let served = start(&test.url).await;
    let token = user("alice");
    for path in ["endless", "broken"] {
        let (status, body) = view(&served, &token, path).await;
        assert_eq!((status, &body["code"]), (500, &json!("view-failed")), "{path}: {body}");
        let said = body.to_string();
        assert!(
            !said.contains("messages.hour") && !said.contains("range"),
            "the template is nobody's business: {said}"
        );
    }
    assert_eq!(good(&served, &token, "quota").await["used"], 0, "others are answered");
    served.stop().await;
}

#[tokio::test]
async fn json_rpc_is_answered_call_by_call() {
    let test = TestDatabase::sqlite();
    let served = start(&test.url).await;
    use_up(&served, "user:alice", 4).await;
    let token = user("alice");
    let call =
        |id: Value| json!({"jsonrpc": "2.0", "id": id, "method": "getUsageStats", "params": {"days": 7}});
    let result = |id: Value| json!({"jsonrpc": "2.0", "id": id, "result": {"method": "getUsageStats", "days": 7, "used": 4}});
    let (status, body) = post(&served, &token, "stats", &call(json!(1)).to_string()).await;
    assert_eq!((status, body), (200, result(json!(1))));
    let note = json!({"jsonrpc": "2.0", "method": "getUsageStats"});
    let batch = json!([call(json!("a")), note, 7, call(json!(2))]);
    let (status, body) = post(&served, &token, "stats", &batch.to_string()).await;
    let invalid =
        json!({"jsonrpc": "2.0", "id": null, "error": {"code": -32600, "message": "Invalid Request"}});
    assert_eq!((status, body), (200, json!([result(json!("a")), invalid, result(json!(2))])));
    assert_eq!(post(&served, &token, "stats", &note.to_string()).await, (204, Value::Null));
    assert_eq!(post(&served, &token, "stats", &json!([note, note]).to_string()).await, (204, Value::Null));
    let (status, body) = post(&served, &token, "stats", "{").await;
    assert_eq!((status, &body["error"]["code"]), (200, &json!(-32700)), "{body}");
    let (status, body) = post(&served, &token, "stats", &json!(vec![call(json!(1)); 101]).to_string()).await;
    assert_eq!((status, &body["error"]["code"]), (200, &json!(-32600)), "{body}");
    let (status, body) = post(&served, &token, "broken-rpc", &call(json!(1)).to_string()).await;
    let failed = (&body["id"], &body["error"]["code"], &body["error"]["data"]["code"]);
    assert_eq!((status, failed), (200, (&json!(1), &json!(-32603), &json!("view-failed"))), "{body}");
    let (status, body) = view(&served, &token, "stats").await;
    assert_eq!((status, &body["error"]["code"]), (200, &json!(-32700)), "a call has a body: {body}");
    let bare = served.client.post(format!("http://{}/v1/views/stats", served.address)).json(&call(json!(1)));
    assert_eq!(answer(bare).await.0, StatusCode::UNAUTHORIZED);
    served.stop().await;
}

#[tokio::test]
async fn days_and_hours_may_be_of_the_query() {
    let test = TestDatabase::sqlite();
    let served = start(&test.url).await;
    let token = user("alice");
    for (query, from) in [
        ("days=7", "2027-02-22T00:00:00Z"),
        ("days=0&hours=36", "2027-02-27T12:00:00Z"),
        ("", "2027-03-01T00:00:00Z"),
        ("days=36525", "1927-03-01T00:00:00Z"),
    ] {
        assert_eq!(
            good(&served, &token, &format!("since?{query}")).await,
            json!({ "from": from }),
            "{query}"
        );
    }
    for days in ["x", "", "-1", "1.5", "7d", "36526", "99999999999999999999", "9223372036854775807", "NaN"] {
        for (token, path) in [(token.as_str(), "since"), ("", "public-since")] {
            let (status, body) = view(&served, token, &format!("{path}?days={days}")).await;
            assert_eq!((status, &body["code"]), (400, &json!("query-malformed")), "{path} {days}: {body}");
        }
    }
    served.stop().await;
}

#[tokio::test]
async fn a_batch_asks_and_answers_no_more_than_is_bounded() {
    let test = TestDatabase::sqlite();
    let served = start(&test.url).await;
    let token = user("alice");
    let call = |id: usize, from: String| json!({"jsonrpc": "2.0", "id": id, "method": "m", "params": {"from": from}});
    let day = |number: usize| format!("2027-02-{number:02}");
    let batch: Vec<Value> = (1..=20).map(|id| call(id, day(id))).chain([call(21, day(1))]).collect();
    let (status, body) = post(&served, &token, "used-since", &json!(batch).to_string()).await;
    assert_eq!(status, 200, "{body}");
    for (at, answer) in body.as_array().unwrap().iter().enumerate() {
        match at {
            // What was asked before is known.
            0..16 | 20 => assert_eq!(answer["result"], 0, "{answer}"),
            _ => {
                let said = (&answer["error"]["code"], &answer["error"]["data"]["code"]);
                assert_eq!(said, (&json!(-32600), &json!("batch-too-large")), "{answer}");
            }
        }
    }
    let wrong = json!([call(1, "yesterday".to_owned()), call(2, day(1))]);
    let (_, body) = post(&served, &token, "used-since", &wrong.to_string()).await;
    let said = (&body[0]["error"]["code"], &body[0]["error"]["data"]["code"], &body[1]["result"]);
    assert_eq!(said, (&json!(-32602), &json!("query-malformed"), &json!(0)), "{body}");
    let long: Vec<Value> = (1..=3).map(|id| call(id, day(1))).collect();
    let (_, body) = post(&served, &token, "long", &json!(long).to_string()).await;
    assert_eq!(body[0]["result"].as_str().map(str::len), Some(1_000_000));
    for refused in [&body[1], &body[2]] {
        assert_eq!(refused["error"]["data"]["code"], "batch-too-large", "{refused}");
    }
    served.stop().await;
}

#[tokio::test]
async fn a_template_that_cannot_be_read_is_refused_with_its_policy() {
    let test = TestDatabase::sqlite();
    let served = start(&test.url).await;
    let wrong = POLICY
        .replace("{{ l.used }}", "{{ l.used | percent }}")
        .replace("{{ plans.currency }}", "{{ me.subject }}");
    for (method, path) in [
        (Method::PUT, "/v1/policy"),
        (Method::PUT, "/v1/policy?dry_run=true"),
        (Method::POST, "/v1/policy/preview"),
    ] {
        let request = served.request(method, path, super::support::ADMIN);
        let request = request.header(header::CONTENT_TYPE, "application/yaml").body(wrong.clone());
        let (status, body) = answer(request).await;
        assert_eq!((status.as_u16(), &body["code"]), (422, &json!("policy-invalid")), "{path}: {body}");
        let faults: Vec<String> = body["faults"]
            .as_array()
            .unwrap()
            .iter()
            .map(|fault| {
                format!("{}: {}", fault["path"].as_str().unwrap(), fault["message"].as_str().unwrap())
            })
            .collect();
        assert_eq!(
            faults,
            [
                "views.quota.body: line 4 of the template: there is no filter `percent`",
                "views.tiers.body: line 1 of the template: leave out `me`: a public view knows no user",
            ]
        );
    }
    assert_eq!(good(&served, &user("alice"), "quota").await["used"], 0, "the policy in force stays");
    // What edges get has no views.
    let request = served.request(Method::GET, "/edge/v1/policy", super::support::EDGE);
    let (status, body) = answer(request).await;
    assert_eq!(
        (status.as_u16(), body["policy"]["meters"].is_object(), body["policy"].get("views")),
        (200, true, None),
        "{body}"
    );
    served.stop().await;
}

#[test]
fn the_views_in_the_documentation_can_be_rendered() {
    let page = include_str!("../../../docs/views.md");
    let whole = page.split("```yaml\n").nth(1).unwrap().split("```").next().unwrap();
    let faults = tollgate_control_plane::service::policy::check(whole).err().unwrap_or_default();
    assert_eq!(faults.iter().map(ToString::to_string).collect::<Vec<_>>(), [""; 0]);
    // The other pages' are parts of policies.
    for page in [page, include_str!("../../../docs/policy.md")] {
        for part in page.split("```yaml\n").skip(1).filter_map(|rest| rest.split("```").next()) {
            let Some((_, views)) = part.split_once("views:\n").filter(|_| !part.starts_with("version:"))
            else {
                continue;
            };
            let policy = format!(
                "version: 1\nmeters: {{}}\ntiers: {{}}\ndefault_route: {{auth: none}}\nviews:\n{views}"
            );
            let faults = tollgate_control_plane::service::policy::check(&policy).err().unwrap_or_default();
            assert_eq!(faults.iter().map(ToString::to_string).collect::<Vec<_>>(), [""; 0], "{part}");
        }
    }
}

#[tokio::test]
async fn the_answer_in_the_documentation_is_what_the_template_makes() {
    let page = include_str!("../../../docs/views.md");
    let block = |fence: &str| page.split(fence).nth(1).unwrap().split("```").next().unwrap();
    let mut policy: Value = serde_saphyr::from_str(block("```yaml\n")).unwrap();
    policy["issuers"][0]["keys"] = json!({"jwks": {"keys": [{"kty": "oct", "kid": "k1", "alg": "HS256", "k": "c2VjcmV0LW9mLTMyLWJ5dGVzLWZvci10aGUtdGVzdHMhIQ"}]}});
    let test = TestDatabase::sqlite();
    let served = Served::start(&test.url).await;
    served.plane.apply_policy(&author(&served.plane), &policy.to_string(), None, None).await.unwrap();
    let account = |limit: &str| json!({"limit": limit, "window": START_MS, "taken": 4, "freed": 0, "returned": 0, "want": 0});
    let body = json!({"version": 1, "session": session(1), "subjects": [{
        "subject": "user:alice", "accounts": [account("messages.day"), account("messages.month")],
        "usage": [
            {"meter": "tokens", "labels": "model=large", "hour": START_MS, "taken": 1200, "freed": 0},
            {"meter": "tokens", "labels": "model=small", "hour": START_MS, "taken": 300, "freed": 0},
        ],
    }]});
    let (status, said) = served.sync(body).await;
    assert_eq!(status, 200, "{said}");
    served.clock.pass(1_000);
    let expected: Value = serde_json::from_str(block("```json\n")).unwrap();
    assert_eq!(
        good(&served, &sign(json!({"sub": "alice", "iss": "https://id.example.com"})), "quota").await,
        expected
    );
    assert_eq!(
        good(&served, "", "pricing").await,
        json!([{"id": "free", "name": "Free"}, {"id": "pro", "name": "Pro"}])
    );
    served.stop().await;
}
