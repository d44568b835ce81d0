//! Requests by example, those of JSON-RPC 2.0 section 7 among them, and what reading them costs.

mod properties;

use expect_test::{Expect, expect};
use serde_json::json;

use super::super::work;
use super::*;
use crate::template::JsonText;

fn pointers() -> Vec<Pointer> {
    ["/params/max_tokens", "/params/list/0"].map(|text| Pointer::parse(text).unwrap()).to_vec()
}

fn refused(call: &Call) -> RpcError {
    RpcError {
        code: -32_001,
        message: format!("No \"{}\" today", call.method),
        data: call.tool.as_deref().map(|tool| JsonText::from(&json!({ "tool": tool }))),
    }
}

/// Shows what each body calls, and how the calls are refused.
fn check(bodies: &[&str], expected: Expect) {
    let mut lines = String::new();
    for body in bodies {
        lines += &format!("{body}\n");
        match Calls::parse(body.as_bytes(), &pointers(), &[]) {
            Ok(calls) => {
                for member in &calls.members {
                    lines += &match member {
                        Member::Call(Call { id, method, tool, amounts, .. }) => {
                            let id = id.as_ref().map_or("-", Id::as_str);
                            format!("    {id} {method:?} {} {amounts:?}\n", tool.as_deref().unwrap_or("-"))
                        }
                        member => format!("    {member:?}\n"),
                    };
                }
                let answer = error_responses(&calls, refused);
                lines += &format!("    => {}\n", if answer.is_empty() { "nothing" } else { &answer });
            }
            Err(fault) => lines += &format!("    {fault}\n"),
        }
    }
    expected.assert_eq(&lines);
}

#[test]
fn one_request_is_one_call() {
    check(
        &[
            r#"{"jsonrpc":"2.0","method":"executeAIRequest","params":{"max_tokens":1000,"list":[7]},"id":1}"#,
            r#"{"id":"a\"b\u00e9\/","params":[1,2],"method":"sub\u0074ract","jsonrpc":"2.0","headers":{}}"#,
            r#"{"jsonrpc":"2.0","method":"update","params":{"max_tokens":"5"}}"#,
        ],
        expect![[r#"
            {"jsonrpc":"2.0","method":"executeAIRequest","params":{"max_tokens":1000,"list":[7]},"id":1}
                1 "executeAIRequest" - [Ok(1000), Ok(7)]
                => {"jsonrpc":"2.0","error":{"code":-32001,"message":"No \"executeAIRequest\" today"},"id":1}
            {"id":"a\"b\u00e9\/","params":[1,2],"method":"sub\u0074ract","jsonrpc":"2.0","headers":{}}
                "a\"b\u00e9\/" "subtract" - [Err(Missing), Err(Missing)]
                => {"jsonrpc":"2.0","error":{"code":-32001,"message":"No \"subtract\" today"},"id":"a\"b\u00e9\/"}
            {"jsonrpc":"2.0","method":"update","params":{"max_tokens":"5"}}
                - "update" - [Err(NotANumber), Err(Missing)]
                => nothing
        "#]],
    );
}

#[test]
fn an_mcp_tool_is_named_by_its_parameters() {
    check(
        &[
            r#"{"jsonrpc":"2.0","method":"tools/call","params":{"name":"search","arguments":{"name":"x"}},"id":1}"#,
            r#"{"jsonrpc":"2.0","method":"tools/call","params":{"name":7},"id":1}"#,
            r#"{"jsonrpc":"2.0","method":"tools/call","params":["search"],"id":1}"#,
            r#"{"jsonrpc":"2.0","method":"tools/call","id":1}"#,
            r#"{"jsonrpc":"2.0","method":"tools/list","params":{"name":"search"},"id":1}"#,
        ],
        expect![[r#"
            {"jsonrpc":"2.0","method":"tools/call","params":{"name":"search","arguments":{"name":"x"}},"id":1}
                1 "tools/call" search [Err(Missing), Err(Missing)]
                => {"jsonrpc":"2.0","error":{"code":-32001,"message":"No \"tools/call\" today","data":{"tool":"search"}},"id":1}
            {"jsonrpc":"2.0","method":"tools/call","params":{"name":7},"id":1}
                1 "tools/call" - [Err(Missing), Err(Missing)]
                => {"jsonrpc":"2.0","error":{"code":-32001,"message":"No \"tools/call\" today"},"id":1}
            {"jsonrpc":"2.0","method":"tools/call","params":["search"],"id":1}
                1 "tools/call" - [Err(Missing), Err(Missing)]
                => {"jsonrpc":"2.0","error":{"code":-32001,"message":"No \"tools/call\" today"},"id":1}
            {"jsonrpc":"2.0","method":"tools/call","id":1}
                1 "tools/call" - [Err(Missing), Err(Missing)]
                => {"jsonrpc":"2.0","error":{"code":-32001,"message":"No \"tools/call\" today"},"id":1}
            {"jsonrpc":"2.0","method":"tools/list","params":{"name":"search"},"id":1}
                1 "tools/list" - [Err(Missing), Err(Missing)]
                => {"jsonrpc":"2.0","error":{"code":-32001,"message":"No \"tools/list\" today"},"id":1}
        "#]],
    );
}

#[test]
fn an_id_is_echoed_as_it_came_or_the_request_is_invalid() {
    let ids = [
        "1",
        "-1.50e+3",
        "\"\"",
        "null",
        "12345678901234567890123",
        "1e999",
        r#""\ud800""#,
        r#""\u2028</script>""#,
        "true",
        "{}",
        "[1]",
        "1,\"id\":2",
        "1,\"ID\":2",
    ];
    let bodies = ids.map(|id| format!(r#"{{"jsonrpc":"2.0","method":"m","id":{id}}}"#));
    check(
        &bodies.each_ref().map(String::as_str),
        expect![[r#"
        {"jsonrpc":"2.0","method":"m","id":1}
            1 "m" - [Err(Missing), Err(Missing)]
            => {"jsonrpc":"2.0","error":{"code":-32001,"message":"No \"m\" today"},"id":1}
        {"jsonrpc":"2.0","method":"m","id":-1.50e+3}
            -1.50e+3 "m" - [Err(Missing), Err(Missing)]
            => {"jsonrpc":"2.0","error":{"code":-32001,"message":"No \"m\" today"},"id":-1.50e+3}
        {"jsonrpc":"2.0","method":"m","id":""}
            "" "m" - [Err(Missing), Err(Missing)]
            => {"jsonrpc":"2.0","error":{"code":-32001,"message":"No \"m\" today"},"id":""}
        {"jsonrpc":"2.0","method":"m","id":null}
            null "m" - [Err(Missing), Err(Missing)]
            => {"jsonrpc":"2.0","error":{"code":-32001,"message":"No \"m\" today"},"id":null}
        {"jsonrpc":"2.0","method":"m","id":12345678901234567890123}
            12345678901234567890123 "m" - [Err(Missing), Err(Missing)]
            => {"jsonrpc":"2.0","error":{"code":-32001,"message":"No \"m\" today"},"id":12345678901234567890123}
        {"jsonrpc":"2.0","method":"m","id":1e999}
            1e999 "m" - [Err(Missing), Err(Missing)]
            => {"jsonrpc":"2.0","error":{"code":-32001,"message":"No \"m\" today"},"id":1e999}
        {"jsonrpc":"2.0","method":"m","id":"\ud800"}
            "\ud800" "m" - [Err(Missing), Err(Missing)]
            => {"jsonrpc":"2.0","error":{"code":-32001,"message":"No \"m\" today"},"id":"\ud800"}
        {"jsonrpc":"2.0","method":"m","id":"\u2028</script>"}
            "\u2028</script>" "m" - [Err(Missing), Err(Missing)]
            => {"jsonrpc":"2.0","error":{"code":-32001,"message":"No \"m\" today"},"id":"\u2028</script>"}
        {"jsonrpc":"2.0","method":"m","id":true}
            Invalid(None)
            => {"jsonrpc":"2.0","error":{"code":-32600,"message":"Invalid Request"},"id":null}
        {"jsonrpc":"2.0","method":"m","id":{}}
            Invalid(None)
            => {"jsonrpc":"2.0","error":{"code":-32600,"message":"Invalid Request"},"id":null}
        {"jsonrpc":"2.0","method":"m","id":[1]}
            Invalid(None)
            => {"jsonrpc":"2.0","error":{"code":-32600,"message":"Invalid Request"},"id":null}
        {"jsonrpc":"2.0","method":"m","id":1,"id":2}
            Invalid(None)
            => {"jsonrpc":"2.0","error":{"code":-32600,"message":"Invalid Request"},"id":null}
        {"jsonrpc":"2.0","method":"m","id":1,"ID":2}
            Invalid(None)
            => {"jsonrpc":"2.0","error":{"code":-32600,"message":"Invalid Request"},"id":null}
    "#]],
    );
    let body = b"{\"jsonrpc\":\"2.0\",\"method\":\"m\",\"id\":\"\xff\"}";
    assert_eq!(Calls::parse(body, &[], &[]).unwrap().members, [Member::Invalid(None)]);
}

#[test]
fn what_servers_could_read_in_two_ways_is_invalid() {
    check(
        &[
            r#"{"jsonrpc":"2.0","method":"free","method":"paid","id":1}"#,
            r#"{"jsonrpc":"2.0","method":"free","METHOD":"paid","id":1}"#,
            r#"{"jsonrpc":"2.0","Method":"paid","id":1}"#,
            r#"{"JSONRPC":"2.0","method":"paid","id":1}"#,
            r#"{"jsonrpc":"1.0","method":"paid","jsonrpc":"2.0","id":1}"#,
            r#"{"jsonrpc":"2.0","method":"tools/call","params":{"name":"free","name":"paid"},"id":1}"#,
            r#"{"jsonrpc":"2.0","method":"tools/call","params":{"name":"free"},"param\u017f":{"name":"paid"},"id":1}"#,
            r#"{"jsonrpc":"2.0","method":"tools/call","params":{"name":"free"},"params":{"name":"paid"},"id":1}"#,
            r#"{"jsonrpc":"2.0","method":"m","params":{"name":"x","name":"y","max_tokens":1,"max_tokens":2},"id":1}"#,
            r#"{"jsonrpc":"2.0","method":1,"params":"bar","id":"x"}"#,
            r#"{"jsonrpc":"2.0","method":null,"id":"x"}"#,
        ],
        expect![[r#"
            {"jsonrpc":"2.0","method":"free","method":"paid","id":1}
                Invalid(Some(Id("1")))
                => {"jsonrpc":"2.0","error":{"code":-32600,"message":"Invalid Request"},"id":1}
            {"jsonrpc":"2.0","method":"free","METHOD":"paid","id":1}
                Invalid(Some(Id("1")))
                => {"jsonrpc":"2.0","error":{"code":-32600,"message":"Invalid Request"},"id":1}
            {"jsonrpc":"2.0","Method":"paid","id":1}
                Invalid(Some(Id("1")))
                => {"jsonrpc":"2.0","error":{"code":-32600,"message":"Invalid Request"},"id":1}
            {"JSONRPC":"2.0","method":"paid","id":1}
                Invalid(Some(Id("1")))
                => {"jsonrpc":"2.0","error":{"code":-32600,"message":"Invalid Request"},"id":1}
            {"jsonrpc":"1.0","method":"paid","jsonrpc":"2.0","id":1}
                Invalid(Some(Id("1")))
                => {"jsonrpc":"2.0","error":{"code":-32600,"message":"Invalid Request"},"id":1}
            {"jsonrpc":"2.0","method":"tools/call","params":{"name":"free","name":"paid"},"id":1}
                Invalid(Some(Id("1")))
                => {"jsonrpc":"2.0","error":{"code":-32600,"message":"Invalid Request"},"id":1}
            {"jsonrpc":"2.0","method":"tools/call","params":{"name":"free"},"param\u017f":{"name":"paid"},"id":1}
                Invalid(Some(Id("1")))
                => {"jsonrpc":"2.0","error":{"code":-32600,"message":"Invalid Request"},"id":1}
            {"jsonrpc":"2.0","method":"tools/call","params":{"name":"free"},"params":{"name":"paid"},"id":1}
                Invalid(Some(Id("1")))
                => {"jsonrpc":"2.0","error":{"code":-32600,"message":"Invalid Request"},"id":1}
            {"jsonrpc":"2.0","method":"m","params":{"name":"x","name":"y","max_tokens":1,"max_tokens":2},"id":1}
                1 "m" - [Ok(2), Err(Missing)]
                => {"jsonrpc":"2.0","error":{"code":-32001,"message":"No \"m\" today"},"id":1}
            {"jsonrpc":"2.0","method":1,"params":"bar","id":"x"}
                Invalid(Some(Id("\"x\"")))
                => {"jsonrpc":"2.0","error":{"code":-32600,"message":"Invalid Request"},"id":"x"}
            {"jsonrpc":"2.0","method":null,"id":"x"}
                Invalid(Some(Id("\"x\"")))
                => {"jsonrpc":"2.0","error":{"code":-32600,"message":"Invalid Request"},"id":"x"}
        "#]],
    );
}

#[test]
fn another_protocol_is_told_from_malformed_json() {
    check(
        &[
            r#"{"method":"paid","id":1}"#,
            r#"{"jsonrpc":"1.0","method":"paid","id":1}"#,
            r#"{"jsonrpc":2.0,"method":"paid","id":1}"#,
            r#"{"jsonrpc":"2.0","id":1}"#,
            r#"{"jsonrpc":"2.0","id":1,"result":{}}"#,
            r#"{"amount":5}"#,
            "7",
            "null",
            "[1,2,3]",
            r#"[[{"jsonrpc":"2.0","method":"m","id":1}]]"#,
            r#"[{"a":1},{"method":"m","id":1}]"#,
            "",
            r#"{"jsonrpc":"2.0","method":"foobar, "params":"bar","baz]"#,
            r#"{"jsonrpc":"2.0","method":"m","id":1"#,
            r#"{"jsonrpc":"2.0","method":"m","id":1}{"jsonrpc":"2.0","method":"paid","id":2}"#,
        ],
        expect![[r#"
            {"method":"paid","id":1}
                the body names a method without "jsonrpc": "2.0"
            {"jsonrpc":"1.0","method":"paid","id":1}
                the body names a method without "jsonrpc": "2.0"
            {"jsonrpc":2.0,"method":"paid","id":1}
                the body names a method without "jsonrpc": "2.0"
            {"jsonrpc":"2.0","id":1}
                the body is not JSON-RPC
            {"jsonrpc":"2.0","id":1,"result":{}}
                the body is not JSON-RPC
            {"amount":5}
                the body is not JSON-RPC
            7
                the body is not JSON-RPC
            null
                the body is not JSON-RPC
            [1,2,3]
                the body is not JSON-RPC
            [[{"jsonrpc":"2.0","method":"m","id":1}]]
                the body is not JSON-RPC
            [{"a":1},{"method":"m","id":1}]
                the body names a method without "jsonrpc": "2.0"

                the JSON text ends too early
            {"jsonrpc":"2.0","method":"foobar, "params":"bar","baz]
                the text is not JSON
            {"jsonrpc":"2.0","method":"m","id":1
                the JSON text ends too early
            {"jsonrpc":"2.0","method":"m","id":1}{"jsonrpc":"2.0","method":"paid","id":2}
                the text is not JSON
        "#]],
    );
}

#[test]
fn a_batch_is_answered_call_by_call() {
    check(
        &[
            r#"[{"jsonrpc":"2.0","method":"sum","params":[1],"id":"1"},{"jsonrpc":"2.0","method":"notify_hello"},1,{"foo":"boo"},{"jsonrpc":"2.0","id":5},{"method":"m","id":6},[],{"jsonrpc":"2.0","id":9,"result":{}},{"jsonrpc":"2.0","method":"get","params":{"max_tokens":3},"id":null}]"#,
            r#"[{"jsonrpc":"2.0","method":"a","id":1}]"#,
            r#"[{"jsonrpc":"2.0","method":"a"},{"jsonrpc":"2.0","method":"b"}]"#,
            "[]",
        ],
        expect![[r#"
            [{"jsonrpc":"2.0","method":"sum","params":[1],"id":"1"},{"jsonrpc":"2.0","method":"notify_hello"},1,{"foo":"boo"},{"jsonrpc":"2.0","id":5},{"method":"m","id":6},[],{"jsonrpc":"2.0","id":9,"result":{}},{"jsonrpc":"2.0","method":"get","params":{"max_tokens":3},"id":null}]
                "1" "sum" - [Err(Missing), Err(Missing)]
                - "notify_hello" - [Err(Missing), Err(Missing)]
                Invalid(None)
                Invalid(None)
                Invalid(Some(Id("5")))
                Invalid(Some(Id("6")))
                Invalid(None)
                Response
                null "get" - [Ok(3), Err(Missing)]
                => [{"jsonrpc":"2.0","error":{"code":-32001,"message":"No \"sum\" today"},"id":"1"},{"jsonrpc":"2.0","error":{"code":-32600,"message":"Invalid Request"},"id":null},{"jsonrpc":"2.0","error":{"code":-32600,"message":"Invalid Request"},"id":null},{"jsonrpc":"2.0","error":{"code":-32600,"message":"Invalid Request"},"id":5},{"jsonrpc":"2.0","error":{"code":-32600,"message":"Invalid Request"},"id":6},{"jsonrpc":"2.0","error":{"code":-32600,"message":"Invalid Request"},"id":null},{"jsonrpc":"2.0","error":{"code":-32001,"message":"No \"get\" today"},"id":null}]
            [{"jsonrpc":"2.0","method":"a","id":1}]
                1 "a" - [Err(Missing), Err(Missing)]
                => [{"jsonrpc":"2.0","error":{"code":-32001,"message":"No \"a\" today"},"id":1}]
            [{"jsonrpc":"2.0","method":"a"},{"jsonrpc":"2.0","method":"b"}]
                - "a" - [Err(Missing), Err(Missing)]
                - "b" - [Err(Missing), Err(Missing)]
                => nothing
            []
                the batch is empty
        "#]],
    );
}

#[test]
fn a_batch_has_a_bound_that_nothing_hides() {
    let call = r#"{"jsonrpc":"2.0","method":"m","id":1}"#;
    let parse = |members: Vec<&str>| Calls::parse(format!("[{}]", members.join(",")).as_bytes(), &[], &[]);
    assert_eq!(parse(vec![call; CALLS_MAX]).unwrap().calls().count(), CALLS_MAX);
    assert_eq!(parse(vec![call; CALLS_MAX + 1]), Err(RpcFault::TooManyCalls));
    assert_eq!(parse(vec![call; 10_000]), Err(RpcFault::TooManyCalls));
    assert_eq!(parse(vec!["1"; 10_000]), Err(RpcFault::NotJsonRpc));
    assert_eq!(parse([vec!["1"; 10_000], vec![call]].concat()), Err(RpcFault::TooManyCalls));
    assert_eq!(parse([vec![call; 10_000], vec!["}"]].concat()), Err(RpcFault::NotJson(JsonFault::Malformed)));
}

#[test]
fn what_is_no_call_is_answered_without_an_id() {
    let error = RpcError { code: -32_700, message: "Parse error\n\"".into(), data: None };
    expect![[r#"{"jsonrpc":"2.0","error":{"code":-32700,"message":"Parse error\n\""},"id":null}"#]]
        .assert_eq(&error_response_without_id(&error));
}

#[test]
fn work_grows_with_the_body_and_no_faster() {
    let body = |count: usize| {
        let call = r#"{"jsonrpc":"2.0","method":"tools/call","params":{"name":"a","NAME":"b","name":"c"},"id":"\u0031"},"#;
        format!("[{}1]", call.repeat(count))
    };
    let cost = |body: &str| work::of(|| drop(Calls::parse(body.as_bytes(), &pointers(), &[])));
    let (small, large) = (body(400), body(4_000));
    let (cost_small, cost_large) = (cost(&small), cost(&large));
    assert!(cost_small <= 4 * small.len(), "{cost_small} for {} bytes", small.len());
    assert!(cost_large <= 11 * cost_small, "{cost_small}, then {cost_large}");
}
