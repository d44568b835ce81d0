//! Routes by host, header, JSON-RPC method and MCP tool.

use expect_test::{Expect, expect};
use serde_json::{Value, json};

use super::*;

/// Shows which of some routes takes each of some requests, by number: before the body is read, and for calls. A request is
/// written `HOST HEADER=VALUE… | CALL`, the call as `METHOD[:TOOL]`.
fn check(routes: &[Value], requests: &[&str], expected: Expect) {
    let mut router = Router::default();
    for conditions in routes {
        let mut route = json!({"path": "/"});
        route.as_object_mut().unwrap().extend(conditions.as_object().unwrap().clone());
        let route = serde_json::from_value(route).unwrap();
        router.push(&Template::parse("/").unwrap(), Conditions::of(&route));
    }
    let mut lines = String::new();
    for request in requests {
        let (head, call) = request.split_once('|').unwrap_or((request, ""));
        let mut words = head.split_whitespace();
        let host = words.next().unwrap_or_default();
        let headers: Vec<(&str, &str)> = words.filter_map(|word| word.split_once('=')).collect();
        let header =
            |name: &str| headers.iter().find(|(sent, _)| *sent == name).map(|(_, value)| value.as_bytes());
        let head = Head { method: "POST", path: "/", host, headers: &header };
        let call = match call.trim() {
            "" => None,
            call => Some(match call.split_once(':') {
                Some((method, tool)) => CallName { method, tool: Some(tool) },
                None => CallName { method: call, tool: None },
            }),
        };
        let unread = match router.find(&head, Call::Unread) {
            Some(route) if router.asks_for_call(route) => "needs its body".to_owned(),
            Some(route) => route.to_string(),
            None => "none".to_owned(),
        };
        let read = router.find(&head, Call::Read(call)).map_or("none".to_owned(), |route| route.to_string());
        lines += &format!("{request} -> {unread}, {read}\n");
    }
    expected.assert_eq(&lines);
}

#[test]
fn hosts_are_exact_or_all_below_one() {
    check(
        &[json!({"hosts": ["api.example.com"]}), json!({"hosts": ["*.example.com", "localhost"]})],
        &[
            "api.example.com",
            "API.Example.Com:443",
            "api.example.com.",
            "api.example.com.:8080",
            "a.b.example.com",
            "EU.EXAMPLE.COM",
            "example.com",
            ".example.com",
            "badexample.com",
            "example.com.evil.org",
            "localhost:80",
            "localhost:80a",
            "[::1]:80",
            "é.example.com",
            "é",
            "",
        ],
        expect![[r#"
            api.example.com -> 0, 0
            API.Example.Com:443 -> 0, 0
            api.example.com. -> 0, 0
            api.example.com.:8080 -> 0, 0
            a.b.example.com -> 1, 1
            EU.EXAMPLE.COM -> 1, 1
            example.com -> none, none
            .example.com -> none, none
            badexample.com -> none, none
            example.com.evil.org -> none, none
            localhost:80 -> 1, 1
            localhost:80a -> none, none
            [::1]:80 -> none, none
            é.example.com -> 1, 1
            é -> none, none
             -> none, none
        "#]],
    );
}

#[test]
fn headers_have_a_value_or_any() {
    check(
        &[json!({"headers": {"x-version": "2", "x-beta": "*"}}), json!({"headers": {"x-version": "2"}})],
        &[
            "h",
            "h x-version=2",
            "h x-version=2 x-beta=",
            "h x-version=2 x-beta=no",
            "h x-version=22 x-beta=a",
            "h x-beta=a",
        ],
        expect![[r#"
            h -> none, none
            h x-version=2 -> 1, 1
            h x-version=2 x-beta= -> 0, 0
            h x-version=2 x-beta=no -> 0, 0
            h x-version=22 x-beta=a -> none, none
            h x-beta=a -> none, none
        "#]],
    );
}

#[test]
fn calls_are_told_by_method_and_tool() {
    check(
        &[
            json!({"mcp_tools": ["search", "admin.*"]}),
            json!({"jsonrpc": ["tools/*"]}),
            json!({"jsonrpc": ["execute"]}),
        ],
        &[
            "h | tools/call:search",
            "h | tools/call:admin.drop",
            "h | tools/call:searches",
            "h | tools/call",
            "h | tools/list:search",
            "h | execute",
            "h | execute:search",
            "h | executed",
            "h | Execute",
            "h",
        ],
        expect![[r#"
            h | tools/call:search -> needs its body, 0
            h | tools/call:admin.drop -> needs its body, 0
            h | tools/call:searches -> needs its body, 1
            h | tools/call -> needs its body, 1
            h | tools/list:search -> needs its body, 1
            h | execute -> needs its body, 2
            h | execute:search -> needs its body, 2
            h | executed -> needs its body, none
            h | Execute -> needs its body, none
            h -> needs its body, none
        "#]],
    );
}

#[test]
fn a_body_is_asked_for_only_where_it_could_decide() {
    check(
        &[
            json!({"hosts": ["plain.example"]}),
            json!({"hosts": ["rpc.example", "plain.example"], "jsonrpc": ["a"]}),
            json!({"methods": ["GET"], "jsonrpc": ["b"]}),
            json!({"headers": {"x-any": "*"}}),
            json!({"jsonrpc": ["*"], "headers": {"x-rpc": "*"}}),
        ],
        &[
            "plain.example | a",
            "rpc.example | a",
            "rpc.example | b",
            "rpc.example x-any=1 | b",
            "other.example x-any=1 | a",
            "other.example x-rpc=1 | anything",
            "other.example x-rpc=1",
            "other.example | b",
        ],
        expect![[r#"
            plain.example | a -> 0, 0
            rpc.example | a -> needs its body, 1
            rpc.example | b -> needs its body, none
            rpc.example x-any=1 | b -> needs its body, 3
            other.example x-any=1 | a -> 3, 3
            other.example x-rpc=1 | anything -> needs its body, 4
            other.example x-rpc=1 -> needs its body, none
            other.example | b -> none, none
        "#]],
    );
}

#[test]
fn a_route_without_rare_conditions_has_none() {
    let of = |conditions: Value| Conditions::of(&serde_json::from_value(conditions).unwrap()).more.is_none();
    assert!(of(json!({"path": "/", "methods": ["GET"]})));
    assert!(!of(json!({"path": "/", "headers": {"x-a": "*"}})));
}
