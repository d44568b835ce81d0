//! Policies and keys that change, and edges that stand alone.

use serde_json::json;

use super::world::Net;
use super::*;

const EXCEEDED: &str = "429 quota-exceeded";

fn document(policy: &Value) -> tollgate_policy::document::PolicyDocument {
    serde_json::from_value(policy.clone()).unwrap()
}

/// A world whose edges stand alone with this configuration.
fn alone(configuration: &str) -> World {
    let mut w = World::configured(&daily(1), &[2], configuration);
    w.net = Net::Refused;
    w.run(1_000);
    w
}

fn inline(policy: &Value) -> World {
    alone(&json!({ "policy": policy }).to_string())
}

#[test]
fn requests_before_the_first_policy_wait_for_it() {
    let mut w = World::new(&daily(5), &[2]);
    let sending = w.ask(0, "alice", "/x");
    assert!(w.is_waiting(sending));
    assert_eq!(w.settle(sending, 200), "pass");
    let mut w = World::new(&daily(5), &[2]);
    w.net = Net::Dead;
    assert_eq!(w.get(0, "alice", "/x"), "503 policy-unavailable");
    assert_eq!(w.get(0, "alice", "/status"), "503 policy-unavailable");
    w.net = Net::Fine(4);
    w.run(3_000);
    assert_eq!(w.get(0, "alice", "/x"), "pass");
}

#[test]
fn a_request_under_way_ends_by_the_policy_that_it_began_with() {
    let mut w = world(&daily(5));
    let failing = w.ask(0, "alice", "/x");
    w.run(50);
    let mut stricter = daily(5);
    stricter["default_route"]["refund"] = json!([]);
    w.plane.apply(document(&stricter));
    w.run(1_000);
    assert_eq!(w.settle(failing, 500), "pass");
    let failing = w.ask(1, "alice", "/x");
    assert_eq!(w.settle(failing, 500), "pass");
    assert_eq!(w.admitted(&[0, 1], "alice", "/x", 8), (4, vec![EXCEEDED.to_owned()]));
}

#[test]
fn a_new_limit_is_in_force_within_a_second() {
    let mut w = world(&daily(3));
    assert_eq!(w.admitted(&[0, 1], "alice", "/x", 5).0, 3);
    w.plane.apply(document(&daily(6)));
    w.run(1_000);
    assert_eq!(w.admitted(&[0, 1], "alice", "/x", 5).0, 3);
    w.plane.apply(document(&daily(2)));
    w.run(1_000);
    assert_eq!(w.get(1, "alice", "/x"), EXCEEDED);
}

#[test]
fn a_bad_policy_is_refused_and_the_last_good_one_stays() {
    let mut w = world(&daily(5));
    let mut bad = daily(9);
    bad["default_tier"] = json!("no-such-tier");
    w.plane.apply_unchecked(document(&bad));
    w.run(3_000);
    assert_eq!(w.admitted(&[0, 1], "alice", "/x", 8).0, 5);
    let refused: usize = w
        .seats
        .iter()
        .map(|s| s.host.log.borrow().iter().filter(|line| line.contains("refused")).count())
        .sum();
    assert_eq!(refused, 1, "{:?}", w.seats[0].host.log.borrow());
    w.plane.apply(document(&daily(7)));
    w.run(1_000);
    assert_eq!(w.admitted(&[0, 1], "alice", "/x", 8).0, 2);
}

#[test]
fn messages_of_another_version_are_not_believed() {
    let mut w = world(&daily(5));
    w.plane.wire_version = 2;
    w.plane.apply(document(&daily(9)));
    w.run(2_000);
    assert_eq!(w.get(0, "alice", "/x"), "503 control-plane-unavailable");
    w.plane.wire_version = 1;
    w.plane.apply(document(&daily(7)));
    w.run(2_000);
    assert_eq!(w.admitted(&[0, 1], "alice", "/x", 9).0, 7);
}

#[test]
fn an_unknown_key_is_asked_for_once_and_its_tokens_wait() {
    let mut w = world(&daily(5));
    let fresh = sign("k2", &claims("alice"));
    let sent: Vec<Sending> = (0..5).map(|_| w.send(0, headers("/x", &fresh))).collect();
    w.run(400);
    assert!(sent.iter().all(|sending| w.is_waiting(*sending)));
    assert_eq!(w.plane.asked_for_keys, [ISSUER]);
    let mut rotated = daily(5);
    rotated["issuers"][0]["keys"]["jwks"]["keys"][0]["kid"] = json!("k2");
    w.plane.apply(document(&rotated));
    w.run(600);
    assert!(sent.iter().all(|sending| w.has_passed(*sending)));
    // The old key is gone, and with it what was remembered of its tokens.
    assert_eq!(w.get(0, "alice", "/x"), "401 token-unknown-key");
    let again = w.ask(0, "alice", "/x");
    assert_eq!(w.shown(again), "401 token-unknown-key");
    assert_eq!(w.plane.asked_for_keys.len(), 1);
    w.run(10_000);
    assert_eq!(w.get(0, "alice", "/x"), "401 token-unknown-key");
    assert_eq!(w.plane.asked_for_keys.len(), 2);
}

#[test]
fn tokens_with_unknown_keys_do_not_fill_the_waiting_room() {
    let mut w = world(&daily(5));
    let sent: Vec<Sending> =
        (0..3_000).map(|n| w.send(0, headers("/x", &sign(&format!("no{n}"), &claims("mallory"))))).collect();
    assert_eq!(w.get(0, "alice", "/x"), "pass");
    w.run(3_000);
    assert!(sent.iter().all(|sending| w.answer(*sending).is_some()));
}

#[test]
fn an_edge_that_stands_alone_keeps_its_own_limits() {
    let mut w = inline(&daily(5));
    let sending = w.ask(0, "alice", "/x");
    assert!(w.has_passed(sending), "nobody needs to be asked");
    w.upstream(sending, 200);
    let sending = w.ask(1, "alice", "/x");
    w.upstream(sending, 500);
    assert_eq!(w.admitted(&[0, 1], "alice", "/x", 8), (4, vec![EXCEEDED.to_owned()]));
    assert_eq!(w.get(0, "alice", "/export"), "403 feature-required");
    assert_eq!(w.get(0, "bob", "/status"), "pass");
    w.run(12 * 3_600_000);
    assert_eq!(w.admitted(&[0, 1], "alice", "/x", 8).0, 5);
    let rate = policy(json!([{"meter": "calls", "rate": 2, "per": "10s"}]));
    let mut w = inline(&rate);
    assert_eq!(w.admitted(&[0, 1], "alice", "/x", 4), (2, vec!["429 rate-exceeded".to_owned()]));
    w.run(10_000);
    assert_eq!(w.admitted(&[0, 1], "alice", "/x", 4).0, 2);
}

#[test]
fn an_edge_that_stands_alone_forgets_who_has_nothing_to_remember() {
    let mut w = inline(&policy(json!([{"meter": "calls", "rate": 2, "per": "10s"}])));
    for user in 0..50 {
        w.get(user % 2, &format!("u{user}"), "/x");
    }
    assert_eq!(w.proxies[0].records(), 50);
    w.run(600_000);
    assert_eq!(w.proxies[0].records(), 0);
    let mut w = inline(&daily(2));
    w.get(0, "alice", "/x");
    w.run(600_000);
    assert_eq!(w.admitted(&[0, 1], "alice", "/x", 4).0, 1, "a day is not over in ten minutes");
}

#[test]
fn a_bad_configuration_denies_every_request() {
    let mut bad = daily(5);
    bad["default_tier"] = json!("no-such-tier");
    let bad = json!({ "policy": bad }).to_string();
    for configuration in ["", "\u{0}", "[]", "{}", r#"{"policy": {}}"#, &bad] {
        let mut w = alone(configuration);
        for (path, token) in [("/x", token("alice")), ("/status", token("alice")), ("/x", String::new())] {
            let sending = w.send(0, headers(path, &token));
            assert_eq!(w.shown(sending), "503 gateway-misconfigured", "{configuration}");
        }
        assert_eq!(w.seats[0].host.log.borrow().len(), 1);
    }
}

#[test]
fn a_secret_in_a_wrong_place_of_the_configuration_is_not_logged() {
    for configuration in [
        format!(r#"{{"control_plane": "{EDGE_TOKEN}"}}"#),
        format!(r#"{{"control_plane": {{"cluster": "c", "tokens": "{EDGE_TOKEN}"}}}}"#),
        format!(r#"{{"control_plane": {{"cluster": "c", "token": {{"is": "{EDGE_TOKEN}"}}}}}}"#),
        format!(r#""{EDGE_TOKEN}""#),
    ] {
        // The proxy's log refuses secrets.
        alone(&configuration);
    }
}

#[test]
fn a_bypass_lets_pass_until_it_ends_and_not_longer() {
    let mut w = world(&daily(2));
    assert_eq!(w.admitted(&[0, 1], "alice", "/x", 5).0, 2);
    let end_ms = w.now_ms() + 60_000;
    w.plane.bypass("user:alice", end_ms);
    w.run(1_000);
    assert_eq!(w.admitted(&[0, 1], "alice", "/x", 5).0, 5);
    let sending = w.ask(0, "alice", "/export");
    w.run(100);
    assert!(w.has_passed(sending), "features are not looked at either");
    let decision = w.look(sending, |stream| {
        stream.headers.iter().find(|(name, _)| name == "x-tollgate-decision").map(|(_, value)| value.clone())
    });
    assert_eq!(decision.as_deref(), Some(&b"bypass"[..]));
    w.upstream(sending, 200);
    w.run(60_000);
    assert_eq!(w.admitted(&[0, 1], "alice", "/x", 5).0, 0);
    assert_eq!(w.plane.billed("user:alice", "calls"), 8, "what passed is counted all the same");
}

#[test]
fn the_route_is_chosen_again_by_the_tier_where_the_policy_says_so() {
    let mut policy = daily(5);
    for (says, expected) in [(false, None), (true, Some("free".to_owned()))] {
        policy["route_by_tier"] = json!(says);
        let mut w = world(&policy);
        for user in ["alice", "alice"] {
            let sending = w.ask(0, user, "/x");
            assert_eq!(w.settle(sending, 200), "pass");
            assert_eq!(w.look(sending, |stream| stream.routed_by.clone()), expected);
        }
    }
}

#[test]
fn the_route_is_chosen_again_by_the_policy_s_route_where_that_says_so() {
    let mut policy = daily(50);
    policy["default_route"] = json!({"charges": {"calls": 1}});
    policy["routes"] = json!([
        {"name": "usage-stats", "path": "/rpc", "jsonrpc": ["getUsageStats"], "proxy_route": true},
        {"name": "open-stats", "path": "/rpc", "jsonrpc": ["getTiers"], "auth": "none", "proxy_route": true},
        {"name": "ping", "path": "/rpc", "jsonrpc": ["ping"], "auth": "none"},
        {"name": "quota", "path": "/quota", "proxy_route": true, "charges": {"calls": 1}},
        {"name": "tiers", "path": "/tiers", "auth": "none", "proxy_route": true},
        {"name": "status", "path": "/status", "auth": "none"},
    ]);
    let mut w = world(&policy);
    let mut check = |path: &str, methods: &[&str], expected: &str| {
        let mut headers = headers(path, &token("alice"));
        headers.push(("x-tollgate-route".to_owned(), b"usage-stats".to_vec()));
        if !methods.is_empty() {
            headers[0].1 = b"POST".to_vec();
            headers.push(("transfer-encoding".to_owned(), b"chunked".to_vec()));
        }
        let sending = w.send(0, headers);
        if !methods.is_empty() {
            let call = |(id, method): (usize, &&str)| json!({"jsonrpc": "2.0", "id": id, "method": method});
            let calls: Vec<_> = methods.iter().enumerate().map(call).collect();
            let body = if calls.len() == 1 { calls[0].clone() } else { json!(calls) };
            w.request_body(sending, body.to_string().as_bytes(), true);
        }
        assert_eq!(w.settle(sending, 200), "pass", "{path} {methods:?}");
        let (told, chosen) = w.look(sending, |stream| {
            let told = stream.headers.iter().filter(|(name, _)| name == "x-tollgate-route");
            (
                told.map(|(_, value)| String::from_utf8_lossy(value).into_owned()).collect::<Vec<_>>(),
                stream.routed_by.clone(),
            )
        });
        assert_eq!(told.join(" "), expected, "{path} {methods:?}");
        // Always, since the first choice went by what the client has written.
        assert!(chosen.is_some(), "{path} {methods:?}");
    };
    check("/rpc", &["getUsageStats"], "usage-stats");
    check("/rpc", &["getUsageStats", "getUsageStats"], "usage-stats");
    check("/rpc", &["getUsageStats", "execute"], "");
    check("/rpc", &["execute", "getUsageStats"], "");
    check("/rpc", &["getUsageStats", "ping"], "");
    check("/rpc", &["getTiers", "getTiers"], "open-stats");
    check("/rpc", &["ping", "getTiers"], "");
    check("/rpc", &["execute"], "");
    check("/quota", &[], "quota");
    check("/tiers", &[], "tiers");
    check("/status", &[], "");
    check("/x", &[], "");
}
