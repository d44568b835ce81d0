//! The HTTP interface: what each request is answered, above all each bad one; who may do what; what is written down.

use reqwest::{Method, StatusCode, header};
use serde_json::{Value, json};
use sqlx::{Connection as _, SqliteConnection};
use tollgate_control_plane::api::{Api, openapi, problem::ProblemKind};

use super::support::{
    ADMIN, EDGE, POLICY, START_MS, Served, TestDatabase, answer, on_each_database, session, sync_body,
};

/// Sends each request; compares status and code with what is expected: `METHOD path [body] -> status code`.
async fn check(served: &Served, token: &str, rows: &[(&str, &str, Value, u16, &str)]) {
    for (method, path, body, status, code) in rows {
        let mut request = served.request(Method::from_bytes(method.as_bytes()).unwrap(), path, token);
        if !body.is_null() {
            request = request.json(body);
        }
        let (found, answer) = answer(request).await;
        let found_code = answer.get("code").and_then(Value::as_str).unwrap_or_default();
        assert_eq!((found.as_u16(), found_code), (*status, *code), "{method} {path} {body}: {answer}");
        if found.as_u16() >= 400 {
            assert_eq!(answer["status"], *status, "{answer}");
            assert!(answer["detail"].as_str().is_some_and(|detail| detail.len() > 10), "{answer}");
        }
    }
}

#[tokio::test]
async fn bad_requests_are_refused_with_a_code() {
    on_each_database(async |test| {
        let served = Served::start_with_policy(&test.url).await;
        let long = format!("user:{}", "x".repeat(257));
        let nothing = Value::Null;
        check(
            &served,
            ADMIN,
            &[
                ("GET", "/nowhere", nothing.clone(), 404, "route-unknown"),
                ("DELETE", "/v1/policy", nothing.clone(), 405, "method-unknown"),
                ("GET", "/v1/policy/versions/7", nothing.clone(), 404, "version-unknown"),
                ("GET", "/v1/policy/versions/x", nothing.clone(), 400, "path-malformed"),
                ("GET", "/v1/policy/versions?limit=0", nothing.clone(), 400, "query-malformed"),
                ("GET", "/v1/policy/versions?limit=x", nothing.clone(), 400, "query-malformed"),
                ("GET", "/v1/policy/versions?wrong=1", nothing.clone(), 400, "query-malformed"),
                ("GET", "/v1/policy/versions?cursor=%21", nothing.clone(), 400, "cursor-malformed"),
                ("POST", "/v1/policy/rollback", json!({"version": 7}), 404, "version-unknown"),
                ("POST", "/v1/policy/rollback", json!({"versoin": 7}), 422, "body-invalid"),
                ("GET", "/v1/tiers/gold", nothing.clone(), 404, "tier-missing"),
                ("GET", "/v1/subscriptions/user:a", nothing.clone(), 404, "subscription-missing"),
                ("DELETE", "/v1/subscriptions/user:a", nothing.clone(), 404, "subscription-missing"),
                ("PATCH", "/v1/subscriptions/user:a", json!({"tier": "pro"}), 404, "subscription-missing"),
                ("PUT", "/v1/subscriptions/alice", json!({"tier": "pro"}), 400, "subject-malformed"),
                ("PUT", "/v1/subscriptions/user:", json!({"tier": "pro"}), 400, "subject-malformed"),
                ("PUT", "/v1/subscriptions/user:%00", json!({"tier": "pro"}), 400, "subject-malformed"),
                ("PUT", "/v1/subscriptions/user:%ff", json!({"tier": "pro"}), 400, "path-malformed"),
                (
                    "PUT",
                    &format!("/v1/subscriptions/{long}"),
                    json!({"tier": "pro"}),
                    400,
                    "subject-malformed",
                ),
                ("PUT", "/v1/subscriptions/user:a", json!({"tier": "gold"}), 422, "tier-unknown"),
                ("PUT", "/v1/subscriptions/user:a", json!({}), 422, "tier-unknown"),
                ("PUT", "/v1/subscriptions/user:a", json!({"tier": 1}), 422, "body-invalid"),
                (
                    "PUT",
                    "/v1/subscriptions/user:a",
                    json!({"tier": "pro", "state": "x"}),
                    422,
                    "body-invalid",
                ),
                ("PUT", "/v1/subscriptions/user:a", json!({"tier": "pro", "teir": "x"}), 422, "body-invalid"),
                (
                    "PUT",
                    "/v1/subscriptions/user:a",
                    json!({"tier": "pro", "overrides": {"calls.day": 1}}),
                    422,
                    "limit-unknown",
                ),
                (
                    "PUT",
                    "/v1/subscriptions/user:a",
                    json!({"tier": "pro", "overrides": {"calls.hour": 1_u64 << 53}}),
                    422,
                    "subscription-invalid",
                ),
                (
                    "PUT",
                    "/v1/subscriptions/user:a",
                    json!({"tier": "pro", "overrides": {"calls.hour": "many"}}),
                    422,
                    "body-invalid",
                ),
                (
                    "PUT",
                    "/v1/subscriptions/user:a",
                    json!({"tier": "pro", "overrides": {"calls.hour": -1}}),
                    422,
                    "body-invalid",
                ),
                (
                    "PUT",
                    "/v1/subscriptions/user:a",
                    json!({"tier": "pro", "anchor_ms": i64::MAX}),
                    422,
                    "subscription-invalid",
                ),
                ("GET", "/v1/subscriptions?state=odd", nothing.clone(), 400, "query-malformed"),
                ("GET", "/v1/subjects/nobody", nothing.clone(), 400, "subject-malformed"),
                ("GET", "/v1/subjects/user:a/usage?from=yesterday", nothing.clone(), 400, "query-malformed"),
                ("GET", "/v1/subjects/user:a/usage?by=week", nothing.clone(), 400, "query-malformed"),
                (
                    "GET",
                    "/v1/subjects/user:a/usage?from=2027-01-02T00:00:00Z&to=2027-01-01T00:00:00Z",
                    nothing.clone(),
                    400,
                    "range-invalid",
                ),
                (
                    "GET",
                    "/v1/subjects/user:a/usage?from=2001-01-01T00:00:00Z",
                    nothing.clone(),
                    400,
                    "range-invalid",
                ),
                ("POST", "/v1/tokens", json!({"name": "ci", "role": "root"}), 422, "token-unmakeable"),
                ("POST", "/v1/tokens", json!({"name": "", "role": "read"}), 422, "token-unmakeable"),
                ("DELETE", "/v1/tokens/none", nothing.clone(), 404, "token-unknown"),
                ("GET", "/v1/audit?cursor=eA", nothing.clone(), 400, "cursor-malformed"),
            ],
        )
        .await;
        let wrong_version = json!({"version": 2, "session": session(1), "shape": "unknown"});
        let many: Vec<Value> = (0..1_001).map(|n| json!({"subject": format!("user:{n}")})).collect();
        check(
            &served,
            EDGE,
            &[
                ("POST", "/edge/v1/sync", wrong_version, 400, "wire-version"),
                (
                    "POST",
                    "/edge/v1/sync",
                    json!({"version": 2, "session": session(1), "subjects": []}),
                    400,
                    "wire-version",
                ),
                (
                    "POST",
                    "/edge/v1/sync",
                    json!({"version": 1, "session": "S", "subjects": []}),
                    400,
                    "session-malformed",
                ),
                ("POST", "/edge/v1/sync", json!({"version": 1}), 422, "body-invalid"),
                (
                    "POST",
                    "/edge/v1/sync",
                    json!({"version": 1, "session": session(1), "subjects": many}),
                    413,
                    "subjects-too-many",
                ),
                ("GET", "/edge/v1/watch", Value::Null, 400, "query-malformed"),
                ("GET", "/edge/v1/watch?session=x", Value::Null, 400, "session-malformed"),
                ("POST", "/edge/v1/keys", json!({"issuer": "https://who"}), 404, "issuer-unknown"),
            ],
        )
        .await;
        served.stop().await;
    })
    .await;
}

#[tokio::test]
async fn bodies_that_cannot_be_read_are_refused_with_a_code() {
    let test = TestDatabase::sqlite();
    let served = Served::start_with_policy(&test.url).await;
    let put = |path: &str, media_type: &'static str, body: Vec<u8>| {
        served.request(Method::PUT, path, ADMIN).header(header::CONTENT_TYPE, media_type).body(body)
    };
    let subscription = "/v1/subscriptions/user:a";
    let huge = || vec![b' '; 5 << 20];
    let rows = [
        (put(subscription, "application/json", b"{".to_vec()), 400, "json-malformed"),
        (put(subscription, "application/json", Vec::new()), 400, "json-malformed"),
        (put(subscription, "text/plain", b"{}".to_vec()), 415, "media-type"),
        (put(subscription, "application/json", huge()), 413, "body-too-large"),
        (put("/v1/policy", "application/yaml", huge()), 413, "body-too-large"),
        (put("/v1/policy", "application/yaml", vec![0xff, 0xfe]), 400, "text-malformed"),
        (put("/v1/policy", "application/x-www-form-urlencoded", b"x".to_vec()), 415, "media-type"),
        (put("/v1/policy", "application/yaml", b"version: 2".to_vec()), 422, "policy-invalid"),
        (put("/v1/policy", "application/yaml", b"not: [closed".to_vec()), 422, "policy-invalid"),
        (
            put("/v1/policy", "application/yaml", POLICY.into()).header(header::IF_MATCH, "\"9\""),
            409,
            "version-conflict",
        ),
        (
            put("/v1/policy", "application/yaml", POLICY.into()).header(header::IF_MATCH, "x"),
            400,
            "header-malformed",
        ),
    ];
    for (request, status, code) in rows {
        let (found, answer) = answer(request).await;
        assert_eq!((found.as_u16(), answer["code"].as_str()), (status, Some(code)), "{answer}");
    }
    served.stop().await;
}

#[tokio::test]
async fn a_bad_policy_is_refused_with_its_lines_and_the_old_one_stays() {
    on_each_database(async |test| {
        let served = Served::start_with_policy(&test.url).await;
        let bad = POLICY
            .replace("quota: 5, per: hour", "quota: 5, per: fortnight")
            .replace("meter: tokens", "meter: tokns");
        let request =
            served.request(Method::PUT, "/v1/policy", ADMIN).header(header::CONTENT_TYPE, "application/yaml");
        let response = request.body(bad).send().await.unwrap();
        assert_eq!(response.headers()[header::CONTENT_TYPE], "application/problem+json");
        let problem: Value = response.json().await.unwrap();
        let faults = problem["faults"].as_array().unwrap();
        let places: Vec<_> =
            faults.iter().map(|fault| (fault["path"].as_str().unwrap(), &fault["line"])).collect();
        assert_eq!(
            places,
            [("tiers.free.limits[0].per", &json!(9)), ("tiers.pro.limits[1].meter", &json!(15))],
            "{problem}"
        );
        let policy = served.get("/v1/policy").await;
        assert_eq!((&policy["version"], &policy["source"]), (&json!(1), &json!(POLICY)));

        let file = "version: 1\nissuers: [{issuer: i, keys: {file: keys.json}}]\nmeters: {}\ntiers: {}\n";
        let request =
            served.request(Method::PUT, "/v1/policy", ADMIN).header(header::CONTENT_TYPE, "application/yaml");
        let (_, problem) = answer(request.body(file)).await;
        assert_eq!(problem["faults"][0]["path"], "issuers[0].keys.file", "{problem}");
        served.stop().await;
    })
    .await;
}

#[tokio::test]
async fn policies_have_versions_and_can_be_rolled_back() {
    on_each_database(async |test| {
        let served = Served::start(&test.url).await;
        let apply = async |text: &str, query: &str| {
            let request = served.request(Method::PUT, &format!("/v1/policy{query}"), ADMIN);
            let (status, body) =
                answer(request.header(header::CONTENT_TYPE, "application/yaml").body(text.to_owned())).await;
            assert_eq!(status, 200, "{body}");
            body
        };
        let (status, missing) = served.send(Method::GET, "/v1/policy", None).await;
        assert_eq!((status.as_u16(), missing["code"].as_str()), (404, Some("policy-missing")));
        let subscription = json!({"tier": "pro"});
        let (status, early) = served.send(Method::PUT, "/v1/subscriptions/user:a", Some(subscription)).await;
        assert_eq!((status.as_u16(), early["code"].as_str()), (409, Some("no-policy")));

        assert_eq!(apply(POLICY, "").await["version"], 1);
        let again = apply(POLICY, "").await;
        assert_eq!((&again["version"], &again["changed"]), (&json!(1), &json!(false)), "nothing to change");
        let more = POLICY.replace("quota: 5", "quota: 6");
        let dry = apply(&more, "?dry_run=true").await;
        assert_eq!((&dry["version"], &dry["changes"][0]["path"]), (&json!(2), &json!("tiers.free")));
        assert_eq!(served.get("/v1/policy").await["version"], 1, "a dry run changes nothing");
        assert_eq!(apply(&more, "?note=more").await["version"], 2);
        assert_eq!(served.get("/v1/tiers/free").await["limits"][0]["units"], 6);

        let (_, back) = served.send(Method::POST, "/v1/policy/rollback", Some(json!({"version": 1}))).await;
        assert_eq!(back["version"], 3, "going back is a version of its own: {back}");
        assert_eq!(served.get("/v1/tiers/free").await["limits"][0]["units"], 5);
        let page = served.get("/v1/policy/versions?limit=2").await;
        let versions = |page: &Value| {
            page["items"].as_array().unwrap().iter().map(|v| v["version"].clone()).collect::<Vec<_>>()
        };
        assert_eq!(versions(&page), [json!(3), json!(2)]);
        let cursor = page["next_cursor"].as_str().unwrap();
        let rest = served.get(&format!("/v1/policy/versions?limit=2&cursor={cursor}")).await;
        assert_eq!((versions(&rest), rest.get("next_cursor")), (vec![json!(1)], None));
        assert_eq!(served.get("/v1/policy/versions/2").await["note"], "more");
        served.stop().await;
    })
    .await;
}

#[tokio::test]
async fn subscriptions_are_set_changed_listed_and_deleted() {
    on_each_database(async |test| {
        let served = Served::start_with_policy(&test.url).await;
        let made = served.put("/v1/subscriptions/user:a", json!({"tier": "pro"})).await;
        assert_eq!(
            (&made["anchor_ms"], &made["state"], &made["revision"]),
            (&json!(START_MS), &json!("active"), &json!(1))
        );
        served.clock.pass(1_000);
        let again = served.put("/v1/subscriptions/user:a", json!({"tier": "pro"})).await;
        assert_eq!(again["revision"], 1, "nothing changed");
        let body =
            json!({"tier": "free", "expires_at_ms": START_MS + 10_000, "overrides": {"calls.hour": 9}});
        let changed = served.put("/v1/subscriptions/user:a", body).await;
        assert_eq!(
            (&changed["anchor_ms"], &changed["revision"]),
            (&json!(START_MS), &json!(2)),
            "its months go on"
        );
        let view = served.get("/v1/subjects/user:a").await;
        assert_eq!((&view["tier_from"], &view["limits"][0]["units"]), (&json!("subscription"), &json!(9)));
        served.clock.pass(9_000);
        let view = served.get("/v1/subjects/user:a").await;
        assert_eq!(
            (&view["tier_from"], &view["limits"][0]["units"]),
            (&json!("default"), &json!(5)),
            "it expired"
        );
        let patch = Some(json!({"expires_at_ms": null}));
        let (_, patched) = served.send(Method::PATCH, "/v1/subscriptions/user:a", patch).await;
        assert_eq!(
            (&patched["expires_at_ms"], &patched["overrides"]),
            (&Value::Null, &json!({"calls.hour": 9}))
        );
        assert_eq!(patched["in_force"], true);

        let boundless = Some(json!({"overrides": {"calls.hour": "unlimited"}}));
        let (_, patched) = served.send(Method::PATCH, "/v1/subscriptions/user:a", boundless).await;
        assert_eq!(patched["overrides"], json!({"calls.hour": "unlimited"}));
        let listed = served.get("/v1/subscriptions?tier=free").await;
        assert_eq!(listed["items"][0]["overrides"], json!({"calls.hour": "unlimited"}), "as it is stored");

        for number in 0..5 {
            served.put(&format!("/v1/subscriptions/org:{number}"), json!({"tier": "pro"})).await;
        }
        let (mut found, mut cursor) = (Vec::new(), String::new());
        loop {
            let page = served.get(&format!("/v1/subscriptions?tier=pro&limit=2{cursor}")).await;
            found.extend(page["items"].as_array().unwrap().iter().map(|item| item["subject"].clone()));
            match page["next_cursor"].as_str() {
                Some(next) => cursor = format!("&cursor={next}"),
                None => break,
            }
        }
        assert_eq!(found, ["org:0", "org:1", "org:2", "org:3", "org:4"], "each once, in order");

        let (status, _) = served.send(Method::DELETE, "/v1/subscriptions/user:a", None).await;
        assert_eq!(status, 204);
        let back = served.put("/v1/subscriptions/user:a", json!({"tier": "pro"})).await;
        assert_eq!(back["revision"], 6, "a revision never comes twice");
        served.stop().await;
    })
    .await;
}

#[tokio::test]
async fn tiers_show_every_kind_of_limit() {
    let test = TestDatabase::sqlite();
    let served = Served::start(&test.url).await;
    let author = super::support::author(&served.plane);
    served.plane.apply_policy(&author, super::support::KINDS, None, None).await.unwrap();
    let limit = |name: &str, kind: &str, units: Value, more: Value| {
        let mut limit =
            json!({"name": name, "kind": kind, "units": units, "soft": false, "scope": "subject"});
        limit.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        limit
    };
    let shadow = json!({"meter": "calls", "per": "month", "soft": true, "enforcement": "shadow"});
    assert_eq!(
        served.get("/v1/tiers/pro").await["limits"],
        json!([
            limit("calls.month", "quota", json!(1000), shadow),
            limit("calls.1s.burst", "rate", json!(20), json!({"meter": "calls", "per": "1s", "refill": 10})),
            limit("documents", "capacity", json!(10), json!({"meter": "documents"})),
            limit(
                "calls.lifetime",
                "quota",
                json!("unlimited"),
                json!({"meter": "calls", "per": "lifetime"})
            ),
            limit("concurrency", "concurrency", json!(5), json!({})),
            limit("size", "size", json!(1000), json!({})),
            limit(
                "calls.day.member",
                "quota",
                json!(7),
                json!({"meter": "calls", "per": "day", "scope": "member"})
            ),
        ])
    );
    served.stop().await;
}

#[tokio::test]
async fn usage_is_read_by_hour_day_month_and_in_all() {
    on_each_database(async |test| {
        let served = Served::start_with_policy(&test.url).await;
        let hour = 3_600_000;
        let mut body = sync_body(&session(1), "user:a", 3, 5);
        let usage = |at: i64, meter: &str, taken: u64, freed: u64| json!({"meter": meter, "hour": START_MS + at * hour, "taken": taken, "freed": freed});
        body["subjects"][0]["usage"] = json!([
            usage(0, "calls", 3, 1), usage(1, "calls", 4, 0), usage(25, "calls", 5, 0), usage(0, "tokens", 100, 0),
            usage(24 * 40, "calls", 7, 0), usage(0, "Not a meter", 7, 0),
            {"meter": "calls", "hour": START_MS + 1, "taken": 9, "freed": 0},
        ]);
        assert_eq!(served.sync(body).await.0, 200);
        served.clock.pass(50 * 24 * 3_600_000);
        let sums = async |query: &str| {
            let usage = served.get(&format!("/v1/subjects/user:a/usage?from=2027-03-01T00:00:00Z&{query}")).await;
            let rows = usage["usage"].as_array().unwrap().clone();
            rows.iter()
                .map(|row| format!("{} {} {}", row["meter"].as_str().unwrap(), &row["start"].as_str().unwrap()[5..13], row["used"]))
                .collect::<Vec<_>>()
                .join(", ")
        };
        assert_eq!(sums("by=hour&meter=calls&to=2027-03-03T00:00:00Z").await, "calls 03-01T00 2, calls 03-01T01 4, calls 03-02T01 5");
        assert_eq!(sums("by=day&meter=calls").await, "calls 03-01T00 6, calls 03-02T00 5, calls 04-10T00 7");
        assert_eq!(sums("by=month").await, "calls 03-01T00 11, calls 04-01T00 7, tokens 03-01T00 100");
        assert_eq!(sums("by=total").await, "calls 03-01T00 18, tokens 03-01T00 100");
        assert_eq!(sums("by=total&to=2027-03-01T00:30:00Z").await, "calls 03-01T00 2, tokens 03-01T00 100", "up to whole hours");
        served.stop().await;
    })
    .await;
}

#[tokio::test]
async fn every_change_is_in_the_audit_log() {
    on_each_database(async |test| {
        let served = Served::start_with_policy(&test.url).await;
        served.put("/v1/subscriptions/user:a", json!({"tier": "free"})).await;
        served.put("/v1/subscriptions/user:a", json!({"tier": "pro"})).await;
        served.send(Method::PUT, "/v1/subscriptions/user:a", Some(json!({"tier": "gold"}))).await;
        served.send(Method::DELETE, "/v1/subscriptions/user:a", None).await;
        served.send(Method::POST, "/v1/policy/rollback", Some(json!({"version": 1}))).await;
        let made = json!({"name": "ci", "role": "read"});
        let (status, token) = served.send(Method::POST, "/v1/tokens", Some(made)).await;
        assert_eq!(status, StatusCode::CREATED);
        let id = token["id"].as_str().unwrap();
        served.send(Method::DELETE, &format!("/v1/tokens/{id}"), None).await;
        let audit = served.get("/v1/audit").await;
        let rows: Vec<_> = audit["items"].as_array().unwrap().iter().rev().collect();
        let actions: Vec<_> = rows.iter().map(|row| row["action"].as_str().unwrap()).collect();
        assert_eq!(
            actions,
            [
                "policy.apply",
                "subscription.set",
                "subscription.set",
                "subscription.delete",
                "policy.rollback",
                "token.create",
                "token.revoke"
            ],
            "what was refused is no change"
        );
        assert_eq!((&rows[2]["before"]["tier"], &rows[2]["after"]["tier"]), (&json!("free"), &json!("pro")));
        assert_eq!((&rows[3]["before"]["tier"], &rows[3]["after"]), (&json!("pro"), &Value::Null));
        assert_eq!(rows[1]["actor"], "admin");
        assert!(rows[1]["remote"].as_str().unwrap().starts_with("127.0.0.1:"));
        assert!(!audit.to_string().contains(token["token"].as_str().unwrap()), "no token is written down");
        let of_subject = served.get("/v1/audit?target=user:a&limit=2").await;
        assert_eq!(of_subject["items"].as_array().unwrap().len(), 2);
        assert!(of_subject["next_cursor"].is_string());
        served.stop().await;
    })
    .await;
}

#[tokio::test]
async fn each_token_can_do_what_it_may_and_no_more() {
    on_each_database(async |test| {
        let served = Served::start_with_policy(&test.url).await;
        let make = async |role: &str| {
            let (_, made) =
                served.send(Method::POST, "/v1/tokens", Some(json!({"name": role, "role": role}))).await;
            (made["token"].as_str().unwrap().to_owned(), made["id"].as_str().unwrap().to_owned())
        };
        let (read, read_id) = make("read").await;
        let (edge, _) = make("edge").await;
        let (admin, _) = make("admin").await;
        let last = if read.ends_with('0') { '1' } else { '0' };
        let forged = format!("{}{last}", &read[..read.len() - 1]);
        let sync = json!({"version": 1, "session": session(1), "subjects": []});
        let change = json!({"tier": "pro"});
        let status = async |token: &str, method: Method, path: &str, body: &Value| {
            let request = served.request(method, path, token);
            let request = if body.is_null() { request } else { request.json(body) };
            answer(request).await.0.as_u16()
        };
        for (token, look, put, tokens, synced) in [
            (ADMIN, 200, 200, 200, 403),
            (&*admin, 200, 200, 200, 403),
            (&*read, 200, 403, 403, 403),
            (EDGE, 403, 403, 403, 200),
            (&*edge, 403, 403, 403, 200),
            (&*forged, 401, 401, 401, 401),
            ("tg_x", 401, 401, 401, 401),
        ] {
            assert_eq!(status(token, Method::GET, "/v1/policy", &Value::Null).await, look, "look");
            assert_eq!(status(token, Method::PUT, "/v1/subscriptions/user:a", &change).await, put, "change");
            assert_eq!(status(token, Method::GET, "/v1/tokens", &Value::Null).await, tokens, "tokens");
            assert_eq!(status(token, Method::POST, "/edge/v1/sync", &sync).await, synced, "sync");
        }
        let bare = served.client.get(format!("http://{}/v1/policy", served.address)).send().await.unwrap();
        assert_eq!(bare.status(), 401);
        assert_eq!(bare.headers()[header::WWW_AUTHENTICATE], "Bearer");
        served.send(Method::DELETE, &format!("/v1/tokens/{read_id}"), None).await;
        assert_eq!(status(&read, Method::GET, "/v1/policy", &Value::Null).await, 401, "revoked");
        let listed = served.get("/v1/tokens").await.to_string();
        assert!(!listed.contains(&read) && listed.contains("revoked_at"));
        served.stop().await;
    })
    .await;
}

#[tokio::test]
async fn a_sync_repeated_grants_no_more_and_counts_no_more() {
    on_each_database(async |test| {
        let served = Served::start_with_policy(&test.url).await;
        let body = sync_body(&session(1), "user:a", 0, 2);
        let (_, first) = served.sync(body.clone()).await;
        let granted = first["subjects"][0]["accounts"][0]["granted"].as_u64().unwrap();
        assert!((2..=5).contains(&granted), "{first}");
        let (_, second) = served.sync(body).await;
        assert_eq!(second["subjects"], first["subjects"]);
        let (_, other) = served.sync(sync_body(&session(2), "user:a", 0, 100)).await;
        let theirs = other["subjects"][0]["accounts"][0]["granted"].as_u64().unwrap();
        assert!(granted + theirs <= 5, "two edges hold {granted} and {theirs} of 5");

        let odd = json!({"version": 1, "session": session(3), "subjects": [
            {"subject": "nobody", "usage": [{"meter": "calls", "hour": START_MS, "taken": 9, "freed": 0}]},
            {"subject": "user:b", "accounts": [{"limit": "calls.hour", "window": START_MS, "taken": 0, "freed": 0, "returned": 0, "want": 1}]},
        ]});
        let (status, answer) = served.sync(odd).await;
        assert_eq!(status, 200);
        assert_eq!(answer["subjects"][0], json!({"subject": "nobody", "entitlements": {}, "revision": 0}));
        assert!(answer["subjects"][1]["accounts"][0]["granted"].as_u64().unwrap() >= 1, "one bad subject spoils nothing");
        served.stop().await;
    })
    .await;
}

#[tokio::test]
async fn entitlements_are_answered_until_the_edge_has_them() {
    on_each_database(async |test| {
        let served = Served::start_with_policy(&test.url).await;
        served.put("/v1/subscriptions/user:a", json!({"tier": "pro", "overrides": {"calls.hour": "unlimited"}})).await;
        let told = async |revision: Value| {
            let mut body = sync_body(&session(1), "user:a", 0, 1);
            body["subjects"][0]["revision"] = revision;
            let (_, answer) = served.sync(body).await;
            let answer = answer["subjects"][0].clone();
            assert!(answer["accounts"][0]["granted"].is_u64(), "units go on being granted: {answer}");
            (answer["entitlements"].clone(), answer["revision"].clone())
        };
        let bought = json!({"tier": "pro", "state": "active", "anchor_ms": START_MS, "tier_since_ms": START_MS, "overrides": {"calls.hour": "unlimited"}});
        let pro = json!({"subscription": bought});
        assert_eq!(told(Value::Null).await, (pro.clone(), json!(1)), "an edge that knows nothing");
        assert_eq!(told(json!(1)).await, (Value::Null, json!(1)));
        assert_eq!(told(json!(7)).await, (pro.clone(), json!(1)), "as after a restored backup");
        let wish = json!({"expires_at": "2027-03-01T01:00:00Z", "reason": "test"});
        served.put("/v1/subjects/user:a/bypass", wish).await;
        let both = json!({"subscription": pro["subscription"], "bypass_until_ms": START_MS + 3_600_000});
        assert_eq!(told(json!(1)).await, (both, json!(2)));
        served.send(Method::DELETE, "/v1/subjects/user:a/bypass", None).await;
        served.send(Method::DELETE, "/v1/subscriptions/user:a", None).await;
        assert_eq!(told(json!(2)).await, (json!({}), json!(4)));
        served.stop().await;
    })
    .await;
}

#[tokio::test]
async fn a_silent_session_is_closed_and_its_final_numbers_replace_what_it_forfeited() {
    on_each_database(async |test| {
        let served = Served::start_with_policy(&test.url).await;
        let mut sweeper = tollgate_control_plane::service::sweeper::Sweeper::default();
        served.sync(sync_body(&session(1), "user:a", 0, 5)).await;
        sweeper.sweep(&served.plane).await.unwrap();
        served.clock.set_wall_back(3_600_000);
        served.clock.pass(34_999);
        served.sync(sync_body(&session(2), "user:b", 0, 1)).await;
        assert_eq!(sweeper.sweep(&served.plane).await.unwrap(), 0, "not before the time-out and its margin");
        served.clock.set_wall_back(-3_600_000);
        served.clock.pass(2);
        assert_eq!(sweeper.sweep(&served.plane).await.unwrap(), 1);
        let (_, other) = served.sync(sync_body(&session(2), "user:a", 0, 5)).await;
        assert_eq!(other["subjects"][0]["accounts"][0]["granted"], 0, "all five are forfeited: {other}");
        let (_, late) = served.sync(sync_body(&session(1), "user:a", 1, 0)).await;
        assert_eq!(late["closed"], true);
        let (_, other) = served.sync(sync_body(&session(2), "user:a", 0, 5)).await;
        assert_eq!(
            other["subjects"][0]["accounts"][0]["granted"], 0,
            "that was late, but not final: {other}"
        );
        let mut last = sync_body(&session(1), "user:a", 2, 0);
        last["last"] = json!(true);
        let (_, closed) = served.sync(last).await;
        assert_eq!(closed["closed"], true);
        let (_, other) = served.sync(sync_body(&session(2), "user:a", 0, 5)).await;
        assert_eq!(other["subjects"][0]["accounts"][0]["granted"], 3, "two were used: {other}");
        served.stop().await;
    })
    .await;
}

#[tokio::test]
async fn a_stored_policy_of_a_newer_release_leaves_the_last_good_one_in_force() {
    let test = TestDatabase::sqlite();
    let served = Served::start_with_policy(&test.url).await;
    let mut other = SqliteConnection::connect(&test.url).await.unwrap();
    for change in [
        "INSERT INTO policies VALUES (2, '{\"version\": 9}', '', NULL, 0, 'newer')",
        "UPDATE configuration SET policy_version = 2",
        "UPDATE counters SET value = value + 1 WHERE name IN ('configuration', 'policies')",
    ] {
        sqlx::query(change).execute(&mut other).await.unwrap();
    }
    let (status, answer) = served.sync(sync_body(&session(1), "user:a", 0, 5)).await;
    assert_eq!(
        (status.as_u16(), &answer["subjects"][0]["accounts"][0]["granted"]),
        (200, &json!(5)),
        "{answer}"
    );
    assert_eq!(answer["policy_revision"], 2, "told once, so that edges do not ask forever");
    served.stop().await;
}

#[tokio::test]
async fn operators_are_answered_without_a_token() {
    let test = TestDatabase::sqlite();
    let served = Served::start_with_policy(&test.url).await;
    served.sync(sync_body(&session(1), "user:a", 0, 2)).await;
    for path in ["/healthz", "/readyz", "/metrics", "/openapi.json"] {
        let response = served.client.get(format!("http://{}{path}", served.address)).send().await.unwrap();
        assert_eq!(response.status(), 200, "{path}");
    }
    let metrics = served.client.get(format!("http://{}/metrics", served.address)).send().await.unwrap();
    let metrics = metrics.text().await.unwrap();
    for line in [
        "tollgate_syncs_total 1",
        "tollgate_grants_total 1",
        "tollgate_http_requests_total{method=\"POST\",route=\"/edge/v1/sync\",status=\"200\"} 1",
    ] {
        assert!(metrics.contains(line), "{line} is missing in:\n{metrics}");
    }
    served.stop().await;
}

/// Every route is made by the same call that describes it; what could be missing are statuses, and routes added
/// otherwise.
#[tokio::test]
async fn the_description_has_every_route_and_every_status() {
    let test = TestDatabase::sqlite();
    let served = Served::start(&test.url).await;
    let (_stop, stopped) = tokio::sync::watch::channel(false);
    let description = openapi(&Api { plane: served.plane.clone(), stopped });
    let description = serde_json::to_value(description).unwrap();
    let paths = description["paths"].as_object().unwrap();
    let mut statuses: Vec<String> = Vec::new();
    let mut operations = 0;
    for (path, item) in paths {
        for (method, operation) in item.as_object().unwrap() {
            operations += 1;
            statuses.extend(operation["responses"].as_object().unwrap().keys().cloned());
            for (status, response) in operation["responses"].as_object().unwrap() {
                let problem = &response["content"]["application/problem+json"];
                assert_eq!(problem.is_object(), status.starts_with(['4', '5']), "{method} {path} {status}");
            }
            let filled = path.replace("{subject}", "user:a").replace(['{', '}'], "");
            let request = served.request(
                Method::from_bytes(method.to_uppercase().as_bytes()).unwrap(),
                &filled,
                "none",
            );
            let (status, answer) = answer(request).await;
            assert_ne!(
                (status.as_u16(), answer["code"].as_str()),
                (404, Some("route-unknown")),
                "{method} {path}"
            );
            assert_ne!(status, 405, "{method} {path}");
        }
    }
    assert_eq!(operations, 92, "update this number with the routes: {:?}", paths.keys());
    for kind in ProblemKind::ALL {
        let status = kind.status().as_u16().to_string();
        assert!(statuses.contains(&status), "no operation documents {status} ({})", kind.code());
    }
    let mut sources = vec![std::path::PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/src/api"))];
    while let Some(path) = sources.pop() {
        if path.is_dir() {
            sources.extend(std::fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
            continue;
        }
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(!text.contains(".route("), "{}: a route without a description", path.display());
    }
    served.stop().await;
}
