//! Requests that end in odd ways: bodies that go on too long, records that were dropped, and waits for nothing.

use std::collections::BTreeMap;

use serde_json::json;

use super::world::Net;
use super::*;

const EXCEEDED: &str = "429 quota-exceeded";

fn alone(policy: &Value) -> World {
    let mut w = World::configured(policy, &[2], &json!({ "policy": policy }).to_string());
    w.net = Net::Refused;
    w.run(1_000);
    w
}

#[test]
fn who_has_his_answer_gets_nothing_back_for_sending_too_much() {
    let mut policy =
        policy(json!([{"meter": "calls", "quota": 1, "per": "day"}, {"size": 10}, {"concurrency": 5}]));
    policy["default_route"]["charges"] = json!({"calls": 1});
    let mut w = alone(&policy);
    let sending = w.send(0, chunked("alice", "/x"));
    w.request_body(sending, b"all of it", false);
    w.response_head(sending, 200, BTreeMap::new(), false);
    w.response_body(sending, b"the answer", false);
    w.request_body(sending, b"and much more than that", false);
    w.end(sending);
    assert_eq!(w.get(1, "alice", "/x"), EXCEEDED);
}

#[test]
fn a_body_that_goes_on_while_its_request_waits_for_keys_begins_it_once() {
    let mut policy = daily(5);
    policy["bodies"] = json!({"json_bytes_max": 10, "over": "unmetered"});
    policy["routes"] =
        json!([{"path": "/cost", "charges": {"calls": {"request_json": "/cost", "default": 1}}}]);
    let mut w = world(&policy);
    assert_eq!(w.get(0, "alice", "/x"), "pass");
    let mut head = chunked("alice", "/cost");
    head[3].1 = format!("Bearer {}", sign("k2", &claims("alice"))).into_bytes();
    let sending = w.send(0, head);
    for _ in 0..4 {
        w.request_body(sending, b"some of a long body", false);
    }
    w.run(100);
    assert!(w.is_waiting(sending));
    policy["issuers"][0]["keys"]["jwks"]["keys"][0]["kid"] = json!("k2");
    w.plane.apply(serde_json::from_value(policy).unwrap());
    w.run(1_000);
    assert!(w.has_passed(sending));
    w.upstream(sending, 200);
    w.run(2_000);
    assert_eq!(w.plane.billed("user:alice", "calls"), 2);
}

#[test]
fn a_short_body_is_read_again_when_newer_keys_have_come() {
    let mut policy = daily(5);
    policy["routes"] = json!([{"path": "/cost", "charges": {"calls": {"request_json": "/cost"}}}]);
    let mut w = world(&policy);
    let mut head = chunked("alice", "/cost");
    head[3].1 = format!("Bearer {}", sign("k2", &claims("alice"))).into_bytes();
    let sending = w.send(0, head);
    w.request_body(sending, br#"{"cost": 3}"#, true);
    w.run(100);
    policy["issuers"][0]["keys"]["jwks"]["keys"][0]["kid"] = json!("k2");
    w.plane.apply(serde_json::from_value(policy).unwrap());
    w.run(1_000);
    assert!(w.has_passed(sending));
    w.upstream(sending, 200);
    w.run(2_000);
    assert_eq!(w.plane.billed("user:alice", "calls"), 3);
}

#[test]
fn an_answer_counts_though_nothing_was_remembered_of_its_caller() {
    let mut policy = daily(5);
    policy["default_route"]["charges"] = json!({"calls": {"response_header": "x-used"}});
    let mut w = alone(&policy);
    let sending = w.ask(0, "alice", "/x");
    w.run(200_000);
    assert_eq!(w.proxies[0].records(), 0);
    w.response_head(sending, 200, BTreeMap::from([("x-used".to_owned(), "4".to_owned())]), true);
    w.end(sending);
    let headers = {
        let sending = w.ask(0, "alice", "/x");
        w.upstream(sending, 200)
    };
    assert!(headers["ratelimit"].starts_with(r#""calls.day";r=1;"#), "{headers:?}");
}

#[test]
fn keys_that_do_not_come_refuse_nobody_in_shadow() {
    let mut policy = daily(5);
    policy["enforcement"] = json!("shadow");
    let mut w = world(&policy);
    let sending = w.send(0, headers("/x", &sign("k2", &claims("alice"))));
    w.run(3_000);
    assert!(w.has_passed(sending), "{:?}", w.answer(sending));
}

#[test]
fn what_is_not_enforced_needs_no_control_plane() {
    for enforcement in ["shadow", "off"] {
        let mut policy = daily(1);
        policy["enforcement"] = json!(enforcement);
        let mut w = world(&policy);
        w.net = Net::Dead;
        for _ in 0..3 {
            assert_eq!(w.get(0, "alice", "/x"), "pass", "{enforcement}");
        }
        w.net = Net::Fine(4);
        w.run(10_000);
        assert_eq!(w.plane.billed("user:alice", "calls"), 3, "{enforcement}");
    }
}
