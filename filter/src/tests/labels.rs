//! By what the ledger tells units apart: read where the policy says, told with the usage, and of no cost to others.

use std::collections::BTreeMap;

use expect_test::{Expect, expect};
use serde_json::json;

use super::*;

/// A policy whose tokens are told apart by route and model, and its calls by route.
fn chat(labels: &Value) -> Value {
    let mut policy = policy(json!([{"meter": "tokens", "quota": 100_000, "per": "day"}]));
    policy["meters"] =
        json!({"tokens": {"by": ["route", "model"]}, "calls": {"by": ["route"]}, "exports": {}});
    policy["tiers"]["pro"]["limits"] = json!([]);
    let tokens =
        json!({"response_json": "/usage/total_tokens", "estimate": 1_000, "default": 7, "labels": labels});
    policy["routes"] = json!([
        {"path": "/chat", "methods": ["POST"], "name": "chat", "charges": {"tokens": tokens, "calls": 1},
         "refund": ["5xx"]},
        {"path": "/fixed", "charges": {"tokens": {"units": 5, "labels": {"model": "small one"}}}},
        {"path": "/heavy", "charges": {"calls": 3, "exports": 1}},
        {"path": "/plain", "charges": {"exports": 1}},
    ]);
    policy
}

fn in_body() -> Value {
    chat(&json!({"model": {"response_json": "/model"}}))
}

fn shown(w: &World) -> String {
    let of = |meter: &str| {
        let sums = w.plane.billed_by("user:alice", meter);
        sums.into_iter().map(|(labels, units)| format!("{meter}[{labels}] {units}\n")).collect::<String>()
    };
    ["tokens", "calls", "exports"].map(of).concat()
}

fn post(body: &str) -> Headers {
    let mut headers = headers("/chat", &token("alice"));
    headers[0].1 = b"POST".to_vec();
    headers.push(("content-type".to_owned(), b"application/json".to_vec()));
    headers.push(("content-length".to_owned(), body.len().to_string().into_bytes()));
    headers
}

/// Sends a request to `/chat`, and answers it with these chunks.
fn chat_once(w: &mut World, worker: usize, request: &str, status: u16, content_type: &str, chunks: &[&str]) {
    let sending = w.send(worker, post(request));
    w.request_body(sending, request.as_bytes(), true);
    for _ in 0..300 {
        if w.has_passed(sending) {
            break;
        }
        w.run(10);
    }
    assert!(w.has_passed(sending));
    let headers = [("content-type".to_owned(), content_type.to_owned())];
    w.response_head(sending, status, headers.into(), false);
    for (at, chunk) in chunks.iter().enumerate() {
        w.response_body(sending, chunk.as_bytes(), at + 1 == chunks.len());
    }
    w.end(sending);
}

fn check(policy: &Value, requests: &[(&str, u16, &str, &[&str])], expected: &Expect) {
    let mut w = world(policy);
    for (at, (request, status, content_type, chunks)) in requests.iter().enumerate() {
        chat_once(&mut w, at % 2, request, *status, content_type, chunks);
    }
    w.run(3_000);
    expected.assert_eq(&shown(&w));
}

const JSON: &str = "application/json";
const EVENTS: &str = "text/event-stream";

#[test]
fn tokens_are_told_apart_by_the_model_that_the_response_names() {
    check(
        &in_body(),
        &[
            ("{}", 200, JSON, &[r#"{"model": "large/1", "usage": {"total_tokens": 30}}"#]),
            ("{}", 200, JSON, &[r#"{"model": "lar"#, r#"ge/1", "usage": {"total_tokens": 12}}"#]),
            (
                "{}",
                200,
                EVENTS,
                &[
                    "data: {\"model\": \"small\"}\n\ndata: {\"mod",
                    "el\": \"small\", \"usage\": {\"total_tokens\": 2000}}\n\ndata: [DONE]\n\n",
                ],
            ),
            ("{}", 200, JSON, &[r#"{"usage": {"total_tokens": 4}}"#]),
            ("{}", 200, JSON, &[r#"{"model": "large/1"}"#]),
            ("{}", 200, "text/plain", &["no model here"]),
            ("{}", 503, JSON, &[r#"{"model": "large/1", "usage": {"total_tokens": 9}}"#]),
        ],
        &expect![[r"
            tokens[model=&route=chat] 11
            tokens[model=large%2F1&route=chat] 49
            tokens[model=small&route=chat] 2000
            calls[route=chat] 6
        "]],
    );
}

#[test]
fn a_label_of_the_request_is_known_at_once_and_stays_when_nobody_answers() {
    let policy = chat(&json!({"model": {"request_json": "/model"}}));
    let mut w = world(&policy);
    let answer: &[&str] = &[r#"{"usage": {"total_tokens": 5}}"#];
    chat_once(&mut w, 0, r#"{"model": "m1"}"#, 200, JSON, answer);
    chat_once(&mut w, 1, r#"{"model": ["m1"]}"#, 200, JSON, answer);
    chat_once(&mut w, 1, r#"{"model": 4}"#, 200, JSON, answer);
    chat_once(&mut w, 1, r#"not JSON"#, 200, JSON, answer);
    let sending = w.send(0, post(r#"{"model": "m2"}"#));
    w.request_body(sending, br#"{"model": "m2"}"#, true);
    assert!(w.has_passed(sending));
    w.end(sending);
    w.run(3_000);
    expect![[r"
        tokens[model=&route=chat] 10
        tokens[model=4&route=chat] 5
        tokens[model=m1&route=chat] 5
        tokens[model=m2&route=chat] 1000
        calls[route=chat] 5
    "]]
    .assert_eq(&shown(&w));
}

#[test]
fn labels_of_headers_and_of_the_policy_itself() {
    let mut policy = chat(&json!({"model": {"response_header": "x-model"}}));
    policy["routes"][2]["charges"]["calls"] = json!({"units": 3});
    let mut w = world(&policy);
    for path in ["/fixed", "/heavy", "/plain", "/fixed"] {
        assert_eq!(w.get(0, "alice", path), "pass");
    }
    let sending = w.send(1, post(""));
    w.request_body(sending, b"", true);
    let headers = [("content-type", "application/json"), ("x-model", "a b")];
    let headers: BTreeMap<String, String> =
        headers.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
    w.response_head(sending, 200, headers, false);
    w.response_body(sending, br#"{"usage": {"total_tokens": 1}}"#, true);
    w.end(sending);
    w.run(3_000);
    expect![[r#"
        tokens[model=a%20b&route=chat] 1
        tokens[model=small%20one&route=%2Ffixed] 10
        calls[route=%2Fheavy] 3
        calls[route=chat] 1
        exports[] 2
    "#]]
    .assert_eq(&shown(&w));
}

#[test]
fn callers_who_name_ever_new_models_fill_no_ledger() {
    let policy = chat(&json!({"model": {"request_json": "/model"}}));
    let mut w = world(&policy);
    for number in 0..50 {
        let request = format!(r#"{{"model": "m{number}"}}"#);
        chat_once(&mut w, 0, &request, 200, JSON, &[r#"{"usage": {"total_tokens": 2}}"#]);
    }
    w.run(3_000);
    let sums = w.plane.billed_by("user:alice", "tokens");
    assert_eq!((sums.len(), sums["model=*&route=*"]), (33, 36));
    assert_eq!(sums.values().sum::<u64>(), 100);
}

/// What one admitted request to a path asks of the proxy, from its head to its end, once all is warm.
fn asked(policy: &Value, path: &str) -> u64 {
    let mut w = world(policy);
    for _ in 0..3 {
        assert_eq!(w.get(0, "alice", path), "pass");
    }
    let before = w.seats[0].host.asked.get();
    let sending = w.ask(0, "alice", path);
    assert!(w.has_passed(sending));
    w.upstream(sending, 200);
    w.seats[0].host.asked.get() - before
}

#[test]
fn who_tells_nothing_apart_asks_no_more_of_the_proxy() {
    let mut without = in_body();
    without["meters"] = json!({"tokens": {}, "calls": {}, "exports": {}});
    without["routes"] = json!([{"path": "/plain", "charges": {"exports": 1}}]);
    assert_eq!(asked(&in_body(), "/plain"), asked(&without, "/plain"));
    // By the route alone, or by a text of the policy, nothing is read either.
    without["routes"] = json!([{"path": "/fixed", "charges": {"tokens": 5}}]);
    assert_eq!(asked(&in_body(), "/fixed"), asked(&without, "/fixed"));
}

#[test]
fn a_body_too_long_to_be_read_for_a_label_passes_without_it() {
    let mut policy = chat(&json!({"model": {"request_json": "/model"}}));
    policy["bodies"] = json!({"json_bytes_max": 50, "over": "refuse"});
    policy["routes"].as_array_mut().unwrap().push(json!(
        {"path": "/amount", "methods": ["POST"], "charges": {"calls": {"request_json": "/n", "default": 1}}}
    ));
    let mut w = world(&policy);
    let answer: &[&str] = &[r#"{"usage": {"total_tokens": 5}}"#];
    chat_once(&mut w, 0, r#"{"model": "m1"}"#, 200, JSON, answer);
    let long = format!(r#"{{"model": "m1", "image": "{}"}}"#, "x".repeat(100));
    chat_once(&mut w, 1, &long, 200, JSON, answer);
    let mut amount = post(&long);
    amount[1].1 = b"/amount".to_vec();
    let sending = w.send(0, amount);
    w.request_body(sending, long.as_bytes(), true);
    w.run(100);
    assert_eq!(w.shown(sending), "413 body-too-large", "an amount is not guessed");
    w.run(3_000);
    expect![[r"
        tokens[model=&route=chat] 5
        tokens[model=m1&route=chat] 5
        calls[route=chat] 2
    "]]
    .assert_eq(&shown(&w));
}

#[test]
fn no_sync_outgrows_what_the_control_plane_reads_however_many_labels_callers_choose() {
    const SUBJECTS: usize = 260;
    const LABELS: usize = 30;
    let mut policy = policy(json!([]));
    policy["meters"] = json!({"calls": {"by": ["model"]}, "tokens": {"by": ["model"]}});
    let rule = json!({"units": 1, "labels": {"model": {"request_header": "x-model"}}});
    policy["routes"] = json!([{"path": "/x", "charges": {"calls": rule, "tokens": rule}}]);
    let mut w = world(&policy);
    for number in 0..SUBJECTS * (LABELS + 1) {
        let (label, subject) = (number / SUBJECTS, number % SUBJECTS);
        let mut headers = headers("/x", &token(&format!("user-{subject}")));
        headers.push(("x-model".to_owned(), format!("{}{label}", "m".repeat(170)).into_bytes()));
        let sending = w.send(0, headers);
        while !w.has_passed(sending) {
            w.run(10);
        }
        w.upstream(sending, 200);
        w.end(sending);
    }
    w.run(5_000);
    let lengths = w.plane.syncs.iter().map(|sync| serde_json::to_vec(sync).unwrap().len());
    let longest = lengths.max().unwrap();
    assert!((1_000_000..2_100_000).contains(&longest), "{longest} bytes");
    for subject in [0, SUBJECTS - 1] {
        let told = w.plane.billed(&format!("user:user-{subject}"), "calls");
        assert_eq!(told, u64::try_from(LABELS).unwrap() + 1);
    }
}
