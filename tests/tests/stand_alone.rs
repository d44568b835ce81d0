//! One Envoy that stands alone, with its policy inline: who gets in, what it costs, and what both sides are told.

use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};
use tollgate_tests::client::Answer;
use tollgate_tests::envoy::{Envoy, Options};
use tollgate_tests::moment;
use tollgate_tests::policy;
use tollgate_tests::scene::Scene;
use tollgate_tests::token::{self, Key, Token, now_s};
use tollgate_tests::upstream::Upstream;
use tollgate_tests::wait;

/// An application behind an Envoy with this policy.
fn start(scene: &Scene, policy: &Value) -> (Envoy, Upstream) {
    let upstream = Upstream::start();
    (Options::alone(policy, upstream.port()).start(scene), upstream)
}

fn generous() -> Value {
    policy::free(json!([policy::quota(1_000_000)]))
}

/// What `RateLimit` says is left of a limit, and after how many seconds there is more; read as RFC 9651 says.
fn left(answer: &Answer, limit: &str) -> (i64, i64) {
    let field = answer.header("ratelimit").expect("there is a RateLimit field");
    let items = items(&field);
    let (_, parameters) = items.iter().find(|(name, _)| name == limit).expect("the limit is in RateLimit");
    let number = |name: &str| parameters.iter().find(|(found, _)| found == name).expect("it is there").1;
    (number("r"), number("t"))
}

type Items = Vec<(String, Vec<(String, i64)>)>;

/// A list of strings with parameters that are numbers.
fn items(field: &str) -> Items {
    let list: sfv::List = sfv::Parser::new(field).parse().expect("it is a structured field");
    let of = |entry: &sfv::ListEntry| {
        let sfv::ListEntry::Item(item) = entry else { panic!("an inner list in {field}") };
        let name = item.bare_item.as_string().expect("names are strings").as_str().to_owned();
        let number = |value: &sfv::BareItem| i64::from(value.as_integer().expect("it is an integer"));
        (name, item.params.iter().map(|(key, value)| (key.as_str().to_owned(), number(value))).collect())
    };
    list.iter().map(of).collect()
}

#[test]
fn a_quota_admits_exactly_its_units_to_parallel_callers_on_two_workers() {
    const QUOTA: usize = 100;
    let scene = Scene::new();
    let (mut envoy, upstream) = start(&scene, &policy::free(json!([policy::quota(100)])));
    let token = token::of("alice");
    let statuses: Vec<u16> = std::thread::scope(|scope| {
        let callers: Vec<_> = (0..8)
            .map(|_| {
                // A connection stays with one worker, so each caller takes several.
                scope.spawn(|| {
                    let call = |_| envoy.client().get("/a", &token).status;
                    (0..25).map(call).collect::<Vec<_>>()
                })
            })
            .collect();
        callers.into_iter().flat_map(|caller| caller.join().expect("a caller")).collect()
    });
    assert_eq!(statuses.iter().filter(|status| **status == 200).count(), QUOTA);
    assert_eq!(statuses.iter().filter(|status| **status == 429).count(), statuses.len() - QUOTA);
    assert_eq!(upstream.count(), QUOTA);
    let connections = envoy.stats("worker_[01].downstream_cx_total");
    let by_listener = connections.iter().filter(|(name, _)| !name.contains("admin"));
    assert!(
        by_listener.clone().count() == 2 && by_listener.clone().all(|(_, count)| *count > 0),
        "{connections:?}"
    );
    envoy.assert_no_trap();
}

#[test]
fn answers_say_in_structured_fields_what_is_left() {
    let scene = Scene::new();
    let policy = policy::free(json!([policy::quota(3), policy::rate(10, "60s")]));
    let (envoy, _upstream) = start(&scene, &policy);
    let (token, mut client) = (token::of("alice"), envoy.client());
    for used in 1..=3 {
        let answer = client.get("/a", &token).expect(200);
        assert_eq!(left(&answer, "calls").0, 3 - used);
        assert_eq!(left(&answer, "calls.60s").0, 10 - used);
        let said = items(&answer.header("ratelimit-policy").expect("there is a RateLimit-Policy field"));
        let quantity = |name: &str, units: i64| (name.to_owned(), units);
        let expected: Items = vec![
            ("calls.60s".to_owned(), vec![quantity("q", 10), quantity("w", 60)]),
            ("calls".to_owned(), vec![quantity("q", 3)]),
        ];
        assert_eq!(said, expected);
    }
    let denied = client.get("/a", &token).expect_problem(429, "quota-exceeded");
    let wait_s: i64 = denied.header("retry-after").expect("it says when").parse().expect("in seconds");
    assert_eq!(left(&denied, "calls"), (0, wait_s));
    assert!((0..=31 * 86_400).contains(&wait_s), "a month ends in {wait_s} s");
    let problem = denied.json();
    assert_eq!(
        (&problem["limit"], &problem["maximum"], &problem["tier"]),
        (&json!("calls"), &json!(3), &json!("free"))
    );
}

#[test]
fn a_rate_says_when_the_next_call_may_come_and_keeps_its_word() {
    let scene = Scene::new();
    let (envoy, upstream) = start(&scene, &policy::free(json!([policy::rate(2, "2s")])));
    let (token, mut client) = (token::of("alice"), envoy.client());
    let first_sent = Instant::now();
    client.get("/a", &token).expect(200);
    client.get("/a", &token).expect(200);
    let denied = client.get("/a", &token).expect_problem(429, "rate-exceeded");
    let wait_s: u64 = denied.header("retry-after").expect("it says when").parse().expect("in seconds");
    assert!((1..=3).contains(&wait_s), "{wait_s}");
    wait::until("the window slides on", Duration::from_secs(wait_s) + Duration::from_millis(500), || {
        Some(()).filter(|()| client.get("/a", &token).status == 200)
    });
    // Admitted between sending and answer: whatever a call does on its way, these cannot have been closer together.
    let apart = first_sent.elapsed();
    assert!(apart >= Duration::from_millis(1_990), "three calls within {apart:?}");
    assert_eq!(upstream.count(), 3);
}

/// A token, or something in its place, and the code that it is refused with.
fn bad_tokens() -> Vec<(&'static str, Vec<u8>, &'static str)> {
    let good = Token::of("mallory");
    let text = good.sign();
    let parts: Vec<&str> = text.split('.').collect();
    let (header, claims, signature) = (parts[0], parts[1], parts[2]);
    let forged = URL_SAFE_NO_PAD.encode(json!({"iss": token::ISSUER, "sub": "root", "exp": 9e9}).to_string());
    let hours = |hours: i64| json!(now_s() + hours * 3_600);
    let mut bytes = text.clone().into_bytes();
    bytes[20] = 0xff;
    let rows: Vec<(&str, String, &str)> = vec![
        ("no token", String::new(), "token-malformed"),
        ("a word", "hello".into(), "token-malformed"),
        ("two parts", format!("{header}.{claims}"), "token-malformed"),
        ("four parts", format!("{text}.{signature}"), "token-malformed"),
        ("dots", "..".into(), "token-malformed"),
        ("padding", format!("{header}=.{claims}.{signature}"), "token-malformed"),
        ("no signature", format!("{header}.{claims}."), "token-malformed"),
        ("other claims", format!("{header}.{forged}.{signature}"), "token-signature"),
        ("a cut signature", format!("{header}.{claims}.{}", &signature[4..]), "token-signature"),
        ("none", good.with_raw_header(&json!({"alg": "none"})), "token-algorithm"),
        ("None", good.with_raw_header(&json!({"alg": "None", "kid": "rs256"})), "token-algorithm"),
        (
            "the public key as a shared secret",
            good.with_raw_header(&json!({"alg": "HS256", "kid": "rs256"})),
            "token-algorithm",
        ),
        (
            "another algorithm of the same key",
            good.with_raw_header(&json!({"alg": "RS512", "kid": "rs256"})),
            "token-algorithm",
        ),
        (
            "an algorithm of the future",
            good.with_raw_header(&json!({"alg": "XX9", "kid": "rs256"})),
            "token-algorithm",
        ),
        (
            "crit",
            good.with_raw_header(&json!({"alg": "RS256", "kid": "rs256", "crit": ["exp"]})),
            "token-critical-header",
        ),
        ("expired", good.clone().claim("exp", hours(-1)).sign(), "token-expired"),
        ("no exp", good.clone().claim("exp", Value::Null).sign(), "token-claims"),
        ("exp as text", good.clone().claim("exp", json!("tomorrow")).sign(), "token-claims"),
        ("not yet valid", good.clone().claim("nbf", hours(1)).sign(), "token-not-yet-valid"),
        ("issued in the future", good.clone().claim("iat", hours(1)).sign(), "token-not-yet-valid"),
        ("no issuer", good.clone().claim("iss", Value::Null).sign(), "token-unknown-issuer"),
        (
            "another issuer",
            good.clone().claim("iss", json!("https://evil.example")).sign(),
            "token-unknown-issuer",
        ),
        ("no audience", good.clone().claim("aud", Value::Null).sign(), "token-audience"),
        ("another audience", good.clone().claim("aud", json!(["other"])).sign(), "token-audience"),
        ("no subject", good.clone().claim("sub", Value::Null).sign(), "token-claims"),
        ("an empty subject", good.clone().claim("sub", json!("")).sign(), "token-claims"),
        (
            "a subject with a line break",
            good.clone().claim("sub", json!("a\r\nx-tollgate-tier: pro")).sign(),
            "token-claims",
        ),
        ("an unknown kid", good.clone().kid("nobody").sign(), "token-unknown-key"),
        (
            "a key that is not trusted",
            good.clone().key(Key::Es256Other).kid("es256").sign(),
            "token-signature",
        ),
        ("9 KiB", good.clone().claim("scope", json!("x".repeat(9 * 1_024))).sign(), "token-too-large"),
        ("64 KiB", "a".repeat(64 * 1_024), "token-too-large"),
    ];
    let rows = rows.into_iter().map(|(what, text, code)| (what, text.into_bytes(), code));
    rows.chain([("bytes that are not UTF-8", bytes, "token-malformed")]).collect()
}

#[test]
fn a_bad_token_gets_401_with_its_code_and_never_traps_or_passes() {
    let scene = Scene::new();
    let (mut envoy, upstream) = start(&scene, &generous());
    let good = token::of("alice");
    for (what, token, code) in bad_tokens() {
        let bearer = [b"Bearer ".as_slice(), &token].concat();
        let answer = envoy.client().request("GET", "/a").header("authorization", bearer).send();
        assert_eq!((answer.status, answer.code().as_str()), (401, code), "{what}: {}", answer.text());
        let challenge = answer.header("www-authenticate").expect("a 401 says how (RFC 9110, 11.6.1)");
        assert!(challenge.starts_with("Bearer error=\"invalid_token\""), "{what}: {challenge}");
    }
    assert_eq!(upstream.count(), 0);
    // Twice, since what is refused must not be remembered as good, nor what is good be forgotten.
    envoy.client().get("/a", &good).expect(200);
    envoy.client().get("/a", &good).expect(200);
    envoy.assert_no_trap();
}

#[test]
fn an_authorization_header_that_is_not_one_bearer_token_gets_401() {
    let scene = Scene::new();
    let (mut envoy, upstream) = start(&scene, &generous());
    let good = token::of("alice");
    let none = envoy.client().request("GET", "/a").send().expect_problem(401, "token-missing");
    assert_eq!(none.header("www-authenticate").as_deref(), Some("Bearer"));
    let bearer = format!("Bearer {good}").into_bytes();
    let list = format!("Bearer {good}, Bearer {good}").into_bytes();
    let cases: [&[&[u8]]; 7] = [
        &[&bearer, &bearer],
        &[&bearer, b"Basic YTpi"],
        &[b"Basic YTpi"],
        &[b"Bearer"],
        &[b"\xff\xfe\xfd"],
        &[b"Bearer \xff\xfe\xfd"],
        &[&list],
    ];
    for values in cases {
        let mut bytes = b"GET /a HTTP/1.1\r\nhost: a\r\n".to_vec();
        for value in values {
            bytes.extend([b"Authorization: ", *value, b"\r\n"].concat());
        }
        bytes.extend(b"\r\n");
        let answer = envoy.client().send_raw(&bytes).expect("an answer");
        answer.expect_problem(401, "token-malformed");
    }
    assert_eq!(upstream.count(), 0);
    // The scheme's case does not matter (RFC 9110, 11.1).
    envoy.client().request("GET", "/a").header("AUTHORIZATION", format!("bEARER  {good}")).send().expect(200);
    envoy.assert_no_trap();
}

#[test]
fn bytes_that_are_not_utf8_in_any_header_or_path_neither_trap_nor_pass_as_something_else() {
    let scene = Scene::new();
    let (mut envoy, upstream) = start(&scene, &generous());
    let good = token::of("alice");
    let header = |name: &[u8], value: &[u8]| {
        let bearer = format!("authorization: Bearer {good}\r\n");
        [b"GET /a HTTP/1.1\r\nhost: a\r\n", bearer.as_bytes(), name, b": ", value, b"\r\n\r\n"].concat()
    };
    for (name, value) in
        [(&b"x-any"[..], &b"\xff\xfe"[..]), (b"cookie", b"\x80=\xc3\x28"), (b"user-agent", b"\xf0")]
    {
        let answer = envoy.client().send_raw(&header(name, value)).expect("an answer");
        answer.expect(200);
    }
    let passed = upstream.count();
    let path = [b"GET /\xff\xfe HTTP/1.1\r\nhost: a\r\nauthorization: Bearer ", good.as_bytes(), b"\r\n\r\n"]
        .concat();
    if let Some(answer) = envoy.client().send_raw(&path) {
        answer.expect(400);
    }
    let tier = envoy.client().send_raw(&header(b"x-tollgate-tier", b"\xff")).expect("an answer").expect(200);
    drop(tier);
    assert_eq!(upstream.last().header("x-tollgate-tier").as_deref(), Some("free"));
    assert_eq!(upstream.count(), passed + 1);
    envoy.assert_no_trap();
}

#[test]
fn tokens_of_every_algorithm_are_accepted() {
    let scene = Scene::new();
    let (mut envoy, upstream) = start(&scene, &generous());
    for key in Key::TRUSTED {
        let user = format!("user-of-{}", key.id());
        envoy.client().get("/a", &Token::of(&user).key(key).sign()).expect(200);
        assert_eq!(upstream.last().header("x-tollgate-subject"), Some(format!("user:{user}")));
    }
    envoy.assert_no_trap();
}

#[test]
fn a_token_that_expires_is_refused_from_then_on_though_it_was_remembered() {
    let scene = Scene::new();
    let mut policy = generous();
    policy["issuers"][0]["clock_tolerance_s"] = json!(0);
    let (envoy, _upstream) = start(&scene, &policy);
    let exp_s = now_s() + 3;
    let token = Token::of("alice").claim("exp", json!(exp_s)).claim("iat", json!(now_s() - 1)).sign();
    moment::assert_ends_at(&[&envoy], "/a", &token, exp_s * 1_000);
    envoy.client().get("/a", &token).expect_problem(401, "token-expired");
}

#[test]
fn the_application_learns_who_calls_from_the_filter_and_from_nobody_else() {
    let scene = Scene::new();
    let mut policy = policy::tiers(json!({
        "free": {},
        "pro": {"features": ["export", "search"]},
    }));
    policy["issuers"][0]["claims"] = json!({"organization": "/org/id", "tier": "plan"});
    let (envoy, upstream) = start(&scene, &policy);
    let identity = |request: &tollgate_tests::http::Message| {
        let mut names = request.header_names("x-tollgate");
        names.sort_unstable();
        names
            .iter()
            .map(|name| format!("{name}={}", request.header(name).expect("it is there")))
            .collect::<Vec<_>>()
    };
    let spoofed = |path: &str, token: Option<&str>| {
        let mut client = envoy.client();
        let request = client.request("GET", path);
        let request = match token {
            Some(token) => request.token(token),
            None => request,
        };
        let names = [
            "x-tollgate-subject",
            "X-Tollgate-Tier",
            "x-tollgate-features",
            "X-TOLLGATE-DECISION",
            "x-tollgate-new",
        ];
        names.iter().fold(request, |request, name| request.header(name, "user:root")).send().expect(200);
        identity(&upstream.last())
    };
    assert_eq!(
        spoofed("/a", Some(&token::of("alice"))),
        ["x-tollgate-subject=user:alice", "x-tollgate-tier=free"]
    );
    let member = Token::of("alice").claim("org", json!({"id": "acme"})).claim("plan", json!("pro")).sign();
    assert_eq!(
        spoofed("/a", Some(&member)),
        ["x-tollgate-features=export,search", "x-tollgate-subject=org:acme", "x-tollgate-tier=pro"]
    );
    assert_eq!(spoofed("/public/a", None), ["x-tollgate-decision=allow"]);
    // Many servers read x_tollgate_tier as x-tollgate-tier.
    let reached = upstream.count();
    let answer =
        envoy.client().request("GET", "/a").token(&token::of("a")).header("x_tollgate_tier", "pro").send();
    answer.expect(400);
    assert_eq!(upstream.count(), reached);
}

#[test]
fn a_public_route_needs_no_token_and_costs_nothing() {
    let scene = Scene::new();
    let (envoy, upstream) = start(&scene, &policy::free(json!([policy::quota(1)])));
    let token = token::of("alice");
    for _ in 0..3 {
        envoy.client().request("GET", "/public/a?x=1").send().expect(200);
        let answer = envoy.client().get("/public/a", &token).expect(200);
        assert_eq!(answer.header("ratelimit"), None);
    }
    // Not even a bad token is looked at.
    envoy.client().get("/public/a", "bad").expect(200);
    envoy.client().get("/a", &token).expect(200);
    envoy.client().get("/a", &token).expect_problem(429, "quota-exceeded");
    envoy.client().request("GET", "/public").send().expect_problem(401, "token-missing");
    assert_eq!(upstream.count(), 8);
}

#[test]
fn a_path_that_servers_read_in_two_ways_reaches_no_route_by_another_name() {
    let scene = Scene::new();
    let (envoy, upstream) = start(&scene, &policy::free(json!([policy::quota(0)])));
    // Each would be `/a`, which costs a call that nobody has, and looks like the public route; or is refused.
    for path in [
        "/public/../a",
        "/public/%2e%2e/a",
        "/public/.%2E/a",
        "/public%2f..%2fa",
        "/public/x/%2e./%2e%2e/a",
        "/public/..;/a",
        "/public/..%5ca",
        "/public\\..\\a",
        "/public/a%00",
        "/public/%zz",
        "/public/a;x=1",
        "/a?/public/b",
        "/a#/public/b",
    ] {
        let answer = envoy.client().get(path, &token::of("alice"));
        assert!(matches!(answer.status, 400 | 429 | 307), "{path}: {} {}", answer.status, answer.text());
        assert_eq!(upstream.count(), 0, "{path}");
    }
    envoy.client().get("/public/a;x=1", "").expect_problem(400, "path-ambiguous");
    for path in ["/public/a", "/public//a", "/./public/./a", "/public/%61"] {
        envoy.client().get(path, "").expect(200);
        let reached = upstream.last().start;
        assert!(
            ["GET /public/a HTTP/1.1", "GET /public/%61 HTTP/1.1"].contains(&&*reached),
            "{path}: {reached}"
        );
    }
}

#[test]
fn what_the_tier_lacks_or_the_caller_has_not_bought_is_refused_and_costs_nothing() {
    let scene = Scene::new();
    let mut policy = policy::tiers(json!({
        "free": {"limits": [policy::quota(1)]},
        "pro": {"features": ["export"]},
    }));
    policy["routes"] = json!([{"path": "/export", "features": ["export"], "charges": {"calls": 1}}]);
    policy["denials"] =
        json!({"upgrade_url": "https://example.com/pricing", "type_base": "https://example.com/p/"});
    let (envoy, upstream) = start(&scene, &policy);
    let token = token::of("alice");
    let problem = envoy.client().get("/export", &token).expect_problem(403, "feature-required").json();
    assert_eq!(
        [&problem["feature"], &problem["tier"], &problem["upgrade_url"], &problem["type"]],
        [
            &json!("export"),
            &json!("free"),
            &json!("https://example.com/pricing"),
            &json!("https://example.com/p/feature-required")
        ]
    );
    envoy.client().get("/a", &token).expect(200);
    assert_eq!(upstream.count(), 1);

    let mut policy = generous();
    policy.as_object_mut().expect("it is an object").remove("default_tier");
    let (envoy, upstream) = start(&scene, &policy);
    envoy.client().get("/a", &token).expect_problem(402, "subscription-required");
    assert_eq!(upstream.count(), 0);
}

#[test]
fn a_denied_request_takes_nothing_from_any_limit() {
    let scene = Scene::new();
    let policy = policy::free(json!([
        {"name": "small", "meter": "calls", "quota": 2, "per": "month"},
        {"name": "large", "meter": "calls", "quota": 100, "per": "month"},
        policy::rate(50, "1h"),
    ]));
    let (envoy, _upstream) = start(&scene, &policy);
    let (token, mut client) = (token::of("alice"), envoy.client());
    client.get("/a", &token).expect(200);
    let last = client.get("/a", &token).expect(200);
    let before = (left(&last, "large").0, left(&last, "calls.1h").0);
    for _ in 0..20 {
        let denied = client.get("/a", &token).expect_problem(429, "quota-exceeded");
        assert_eq!(denied.json()["limit"], "small");
        assert_eq!((left(&denied, "large").0, left(&denied, "calls.1h").0), before);
    }
}

#[test]
fn what_the_application_fails_is_given_back_and_what_it_answers_is_not() {
    let scene = Scene::new();
    let mut policy = policy::free(json!([policy::quota(2)]));
    policy["routes"] = json!([{"path": "/own", "charges": {"calls": 1}, "refund": ["404", "410-420"]}]);
    let (envoy, upstream) = start(&scene, &policy);
    let (token, mut client) = (token::of("alice"), envoy.client());
    for path in ["/a?status=500", "/a?status=503", "/a?status=599", "/own?status=404", "/own?status=411"] {
        for _ in 0..3 {
            let answer = client.get(path, &token);
            assert_ne!(answer.status, 429, "{path}");
        }
    }
    assert_eq!(upstream.count(), 15);
    client.get("/a?status=404", &token).expect(404);
    client.get("/own?status=500", &token).expect(500);
    client.get("/a", &token).expect_problem(429, "quota-exceeded");
}

#[test]
fn what_never_reached_the_application_is_given_back() {
    let scene = Scene::new();
    let mut upstream = Upstream::start();
    let policy = policy::free(json!([policy::quota(1)]));
    let envoy = Options::alone(&policy, upstream.port()).edit("timeout: 60s}", "timeout: 1s}").start(&scene);
    let (token, mut client) = (token::of("alice"), envoy.client());
    client.get("/a?delay_ms=3000", &token).expect(504);
    client.get("/a?cut=before", &token).expect(503);
    upstream.stop();
    for _ in 0..3 {
        let answer = client.get("/a", &token).expect(503);
        assert_eq!(answer.code(), "", "this is the proxy's own answer");
    }
    upstream.restart();
    wait::until("the application is back", wait::SOON, || {
        Some(client.get("/a", &token)).filter(|answer| answer.status == 200)
    });
    client.get("/a", &token).expect_problem(429, "quota-exceeded");
}

#[test]
fn a_caller_who_hangs_up_gets_no_work_for_nothing() {
    let scene = Scene::new();
    let (mut envoy, upstream) = start(&scene, &policy::free(json!([policy::quota(2)])));
    let token = token::of("alice");
    // Before the answer, and in the middle of it.
    let mut early = envoy.client();
    early.request("GET", "/a?delay_ms=300").token(&token).open().expect("it is sent");
    wait::until("the application has it", wait::SOON, || Some(()).filter(|()| upstream.count() == 1));
    early.hang_up();
    let mut late = envoy.client();
    late.request("GET", "/a?chunks=20").token(&token).open().expect("it is sent");
    assert_eq!(late.read_answer_head().expect("an answer").expect("an answer").status, 200);
    late.hang_up();
    envoy.client().get("/a", &token).expect_problem(429, "quota-exceeded");
    wait::until("both streams are over", wait::SOON, || {
        Some(()).filter(|()| envoy.stat("http.gateway.downstream_rq_active") == 0)
    });
    envoy.assert_no_trap();
}

#[test]
fn bodies_trailers_and_streams_pass_and_are_charged_once() {
    let scene = Scene::new();
    let (mut envoy, upstream) = start(&scene, &policy::free(json!([policy::quota(4)])));
    let token = token::of("alice");
    let mut client = envoy.client();
    let big = vec![b'x'; 3 << 20];
    client.request("POST", "/a").token(&token).body(&big).send().expect(200);
    assert_eq!(upstream.last().body.len(), big.len());
    let chunked = format!(
        "POST /a HTTP/1.1\r\nhost: a\r\nauthorization: Bearer {token}\r\ntransfer-encoding: chunked\r\n\
         trailer: x-sum\r\n\r\n5\r\nhello\r\n0\r\nx-sum: 1\r\n\r\n"
    );
    client.hang_up();
    client.send_raw(chunked.as_bytes()).expect("an answer").expect(200);
    assert_eq!(upstream.last().body, b"hello");
    client.request("GET", "/a?chunks=15").token(&token).open().expect("it is sent");
    let head = client.read_answer_head().expect("an answer").expect("an answer").expect(200);
    assert_eq!(left(&head, "calls").0, 1);
    let mut chunks = 0;
    while client.read_chunk().expect("a chunk").is_some() {
        chunks += 1;
    }
    assert!(chunks >= 2, "events come when they are sent, not all at the end; there were {chunks} pieces");
    client.get("/a?status=204", &token).expect(204);
    client.get("/a", &token).expect_problem(429, "quota-exceeded");
    envoy.assert_no_trap();
}

#[test]
fn a_configuration_that_makes_no_sense_lets_nothing_pass() {
    let scene = Scene::new();
    let mut unknown_field = generous();
    unknown_field["tiers"]["free"]["limitz"] = json!([]);
    let mut unknown_meter = generous();
    unknown_meter["default_route"]["charges"] = json!({"nothing": 1});
    let mut bad_key = generous();
    bad_key["issuers"][0]["keys"]["jwks"]["keys"][0]["n"] = json!("AQAB");
    for (name, plugin) in [
        ("empty", String::new()),
        ("garbage", "{{{ \u{fffd}".to_owned()),
        ("a list", "[]".to_owned()),
        ("nothing chosen", "{}".to_owned()),
        ("another version", json!({"policy": {"version": 2, "meters": {}, "tiers": {}}}).to_string()),
        ("an unknown field", json!({ "policy": unknown_field }).to_string()),
        ("an unknown meter", json!({ "policy": unknown_meter }).to_string()),
        ("a key that is none", json!({ "policy": bad_key }).to_string()),
        (
            "both",
            json!({"policy": generous(), "control_plane": {"cluster": "tollgate", "token": "t"}}).to_string(),
        ),
    ] {
        let upstream = Upstream::start();
        let mut envoy = Options::of(plugin, upstream.port()).start(&scene);
        for (path, token) in [("/a", token::of("alice")), ("/public/a", String::new())] {
            let answer = envoy.client().get(path, &token);
            assert_eq!((answer.status, answer.code().as_str()), (503, "gateway-misconfigured"), "{name}");
            assert!(answer.header("retry-after").is_some(), "{name}");
        }
        assert_eq!(upstream.count(), 0, "{name}");
        let log = envoy.process().log();
        assert!(log.contains("tollgate: denying every request"), "the log says why: {name}");
        envoy.assert_no_trap();
    }
}

#[test]
fn metrics_tell_decisions_by_reason_and_tier() {
    let scene = Scene::new();
    let (envoy, _upstream) = start(&scene, &policy::free(json!([policy::quota(2)])));
    let token = token::of("alice");
    for _ in 0..5 {
        envoy.client().get("/a", &token);
    }
    envoy.client().get("/a", "bad");
    envoy.client().request("GET", "/public/a").send();
    let expected = [
        ("allow", "within-limits", "free", 2),
        ("deny", "quota-exceeded", "free", 3),
        ("deny", "token-malformed", "none", 1),
        ("allow", "public", "none", 1),
    ];
    for (decision, reason, tier, count) in expected {
        wait::until_equal(&format!("{decision} {reason} is told"), wait::SOON, &count, || {
            envoy.decided(decision, reason, tier)
        });
    }
    let page = envoy.admin("/stats/prometheus?filter=tollgate").body;
    let page = String::from_utf8_lossy(&page);
    let line = page.lines().find(|line| line.contains("quota-exceeded")).expect("Prometheus gets it too");
    for part in [
        "tollgate_requests{",
        r#"tollgate_decision="deny""#,
        r#"tollgate_reason="quota-exceeded""#,
        r#"tollgate_tier="free""#,
    ] {
        assert!(line.contains(part), "{line}");
    }
    assert!(line.ends_with(" 3"), "{line}");
}
