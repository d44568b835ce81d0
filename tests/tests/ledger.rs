//! What edges tell the control plane of usage and refusals, over two edges: tokens told apart by route and by the model that
//! answers named, refusals by subject, reason and route, and a top-up that both edges use up together, to the unit.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use tollgate_tests::client::{Client, Request};
use tollgate_tests::policy;
use tollgate_tests::scene::Scene;
use tollgate_tests::stage::{Stage, count};
use tollgate_tests::token;
use tollgate_tests::upstream::{CASE, Reply};
use tollgate_tests::wait::{self, SOON};

fn chat() -> Value {
    let mut policy = policy::free(json!([{"meter": "tokens", "quota": 1_000_000, "per": "month"}]));
    policy["meters"] = json!({"tokens": {"by": ["route", "model"]}, "calls": {"by": ["route"]}});
    let tokens = json!({
        "response_json": "/usage/total_tokens",
        "estimate": 500,
        "labels": {"model": {"response_json": "/model"}},
    });
    policy["routes"] = json!([
        {"name": "chat", "path": "/v1/chat", "charges": {"tokens": tokens, "calls": 1}},
        {"name": "embed", "path": "/v1/embed", "charges": {"tokens": tokens, "calls": 1}},
    ]);
    policy
}

fn in_json(model: &str, tokens: u64) -> Reply {
    let body =
        json!({"model": model, "text": "x".repeat(300), "usage": {"total_tokens": tokens}}).to_string();
    let (front, rest) = body.as_bytes().split_at(20);
    let headers = vec![("content-type".to_owned(), b"application/json".to_vec())];
    Reply { status: 200, headers, chunks: vec![front.to_vec(), rest.to_vec()], ..Reply::default() }
}

/// An answer in events, each of which names the model, cut into chunks of this size.
fn in_events(model: &str, tokens: u64, size: usize) -> Reply {
    let mut text = String::new();
    for word in 0..5 {
        text += &format!("data: {}\n\n", json!({"model": model, "choices": [{"delta": word}]}));
    }
    text +=
        &format!("data: {}\n\ndata: [DONE]\n\n", json!({"model": model, "usage": {"total_tokens": tokens}}));
    let headers = vec![("content-type".to_owned(), b"text/event-stream".to_vec())];
    let chunks = text.as_bytes().chunks(size).map(<[u8]>::to_vec).collect();
    Reply { status: 200, headers, chunks, ..Reply::default() }
}

fn ask<'c>(client: &'c mut Client, path: &str, token: &str, case: &str) -> Request<'c> {
    client.request("POST", path).token(token).header(CASE, case).json(&json!({"prompt": "hello"}))
}

/// What the ledger has of a meter, by route and model.
fn usage(stage: &Stage, meter: &str) -> BTreeMap<(String, String), i64> {
    let path = format!("/v1/subjects/user:alice/usage?by=total&group=route,model&meter={meter}");
    let page = stage.control_plane.ask("GET", &path, None).expect(200).json();
    let text = |row: &Value, name: &str| row["labels"][name].as_str().unwrap_or_default().to_owned();
    let rows = page["usage"].as_array().cloned().unwrap_or_default();
    let sums =
        rows.iter().map(|row| ((text(row, "route"), text(row, "model")), row["used"].as_i64().unwrap_or(0)));
    sums.filter(|(_, used)| *used != 0).collect()
}

#[test]
fn tokens_are_told_apart_by_route_and_by_the_model_that_answers_name() {
    let mut stage = Stage::start(Scene::new(), &chat());
    let token = token::of("alice");
    let replies = [
        ("large", in_json("large/1", 30)),
        ("small", in_events("small", 900, 17)),
        ("silent", Reply { chunks: vec![b"{}".to_vec()], ..in_json("", 0) }),
    ];
    for (case, reply) in replies {
        stage.upstream.tell(case, reply);
    }
    for mut client in stage.clients() {
        for (path, case) in [("chat", "large"), ("chat", "small"), ("embed", "small"), ("embed", "silent")] {
            ask(&mut client, &format!("/v1/{path}"), &token, case).send().expect(200);
        }
    }
    let of = |route: &str, model: &str, units: i64| ((route.to_owned(), model.to_owned()), units);
    let tokens = BTreeMap::from([
        of("chat", "large/1", 60),
        of("chat", "small", 1_800),
        of("embed", "small", 1_800),
        // What was reserved stays charged, and nobody has said of which model.
        of("embed", "", 1_000),
    ]);
    wait::until_equal("tokens are told apart", SOON, &tokens, || usage(&stage, "tokens"));
    let calls = BTreeMap::from([of("chat", "", 4), of("embed", "", 4)]);
    wait::until_equal("calls by route alone", SOON, &calls, || usage(&stage, "calls"));
    stage.assert_no_trap();
}

#[test]
fn a_top_up_is_used_up_exactly_over_two_edges() {
    const OWN: u64 = 20;
    const BOUGHT: u64 = 30;
    let mut stage = Stage::start(Scene::new(), &policy::free(json!([policy::quota(OWN)])));
    let grants = "/v1/subjects/user:alice/grants";
    for (id, units) in [("first", 10), ("second", BOUGHT - 10)] {
        let wish = json!({"id": id, "limit": "calls", "units": units});
        stage.control_plane.ask("POST", grants, Some(&wish)).expect(201);
    }
    let token = token::of("alice");
    let statuses = stage.in_parallel(4, |_, client| {
        (0..25).map(|_| client.get("/v1/x", &token).status).collect::<Vec<u16>>()
    });
    let mut passed = count(&statuses.concat(), 200);
    // What one edge still holds for itself comes to those who ask.
    let most = usize::try_from(OWN + BOUGHT).expect("it is small");
    wait::until("all of it is used", SOON, || {
        for mut client in stage.clients() {
            passed += usize::from(client.get("/v1/x", &token).status == 200);
        }
        assert!(passed <= most, "more than there is");
        (passed == most).then_some(())
    });
    for mut client in stage.clients() {
        let refused = client.get("/v1/x", &token).expect_problem(429, "quota-exceeded").json();
        assert_eq!((&refused["maximum"], &refused["used"]), (&json!(OWN + BOUGHT), &json!(OWN + BOUGHT)));
    }
    wait::until_equal("all is burnt", SOON, &vec![(10, 0), (20, 0)], || {
        let page = stage.control_plane.ask("GET", grants, None).expect(200).json();
        let items = page["items"].as_array().cloned().unwrap_or_default();
        let number = |item: &Value, name: &str| item[name].as_u64().unwrap_or(u64::MAX);
        items.iter().map(|item| (number(item, "burnt"), number(item, "left"))).collect()
    });
    stage.control_plane.wait_until_used("user:alice", most);
    assert_eq!(stage.control_plane.standing("user:alice", "calls")["units"], json!(OWN + BOUGHT));
    // Another top-up is felt where everything was refused.
    let wish = json!({"id": "third", "limit": "calls", "units": 1});
    stage.control_plane.ask("POST", grants, Some(&wish)).expect(201);
    let mut client = stage.one.client();
    wait::until_equal("there is one more", SOON, &200, || client.get("/v1/x", &token).status);
    let mut client = stage.two.client();
    client.get("/v1/x", &token).expect_problem(429, "quota-exceeded");
    stage.assert_no_trap();
}
