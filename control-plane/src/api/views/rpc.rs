//! JSON-RPC 2.0 around what a view makes: which calls there are, and the answer to each.

use serde_json::{Value as Json, json};

use super::{DEPTH_MAX, is_deeper};
use crate::api::problem::Problem;
use crate::service::views::Made;

/// Most calls of a batch.
const CALLS_MAX: usize = 100;

// JSON-RPC 2.0 section 5.1.
const PARSE_ERROR: i32 = -32_700;
const INVALID_REQUEST: i32 = -32_600;
const INVALID_PARAMS: i32 = -32_602;
const INTERNAL_ERROR: i32 = -32_603;

/// The calls of a request.
#[derive(Debug, PartialEq)]
pub struct Batch {
    is_list: bool,
    members: Vec<Member>,
}

#[derive(Debug, PartialEq)]
enum Member {
    Call {
        id: Json,
        call: Json,
    },
    /// Nobody waits for an answer.
    Notification,
    Invalid {
        id: Json,
    },
}

impl Batch {
    /// Reads them; or the answer to what has none.
    pub fn read(body: &[u8]) -> Result<Self, String> {
        let refusal = |code, message: &str| error(&Json::Null, code, message, None);
        match serde_json::from_slice(body) {
            Err(_) => Err(refusal(PARSE_ERROR, "Parse error")),
            Ok(json) if is_deeper(&json, DEPTH_MAX) => Err(refusal(INVALID_REQUEST, "Invalid Request")),
            Ok(Json::Array(calls)) if calls.is_empty() => Err(refusal(INVALID_REQUEST, "Invalid Request")),
            Ok(Json::Array(calls)) if calls.len() > CALLS_MAX => {
                Err(refusal(INVALID_REQUEST, &format!("A batch has at most {CALLS_MAX} calls")))
            }
            Ok(Json::Array(calls)) => {
                Ok(Self { is_list: true, members: calls.into_iter().map(Member::of).collect() })
            }
            Ok(call) => Ok(Self { is_list: false, members: vec![Member::of(call)] }),
        }
    }

    /// The calls that are answered, in order.
    pub fn to_answer(&self) -> Vec<Json> {
        let calls = self.members.iter().filter_map(|member| match member {
            Member::Call { call, .. } => Some(call.clone()),
            Member::Notification | Member::Invalid { .. } => None,
        });
        calls.collect()
    }

    /// The whole answer, with what [`Self::to_answer`] came to. Nothing where nobody waits for one.
    pub fn answer(&self, results: Vec<Result<Made, Problem>>) -> Option<String> {
        let mut results = results.into_iter();
        let answers = self.members.iter().filter_map(|member| match member {
            Member::Notification => None,
            Member::Invalid { id } => Some(error(id, INVALID_REQUEST, "Invalid Request", None)),
            Member::Call { id, .. } => Some(match results.next()? {
                // It is JSON already, and stays as the template wrote it.
                Ok(Made { json, .. }) => format!("{{\"jsonrpc\":\"2.0\",\"id\":{id},\"result\":{json}}}"),
                Err(problem) => {
                    let body = problem.into_body();
                    let data = json!({ "code": body.code, "detail": body.detail, "status": body.status });
                    error(id, code(body.status), &body.title, Some(data))
                }
            }),
        });
        let answers: Vec<String> = answers.collect();
        match (answers.as_slice(), self.is_list) {
            ([], _) => None,
            ([one], false) => Some(one.clone()),
            (all, _) => Some(format!("[{}]", all.join(","))),
        }
    }
}

impl Member {
    fn of(call: Json) -> Self {
        let id = call.get("id").cloned();
        let id_is_valid = id.as_ref().is_none_or(|id| id.is_string() || id.is_number() || id.is_null());
        let is_call = call.get("jsonrpc") == Some(&json!("2.0"))
            && call.get("method").is_some_and(Json::is_string)
            && call.get("params").is_none_or(|params| params.is_array() || params.is_object());
        match id {
            None if is_call => Self::Notification,
            Some(id) if is_call && id_is_valid => Self::Call { id, call },
            id => Self::Invalid { id: id.filter(|_| id_is_valid).unwrap_or(Json::Null) },
        }
    }
}

/// The code of a problem with this status: whether the call was wrong, the batch too large, or neither.
fn code(status: u16) -> i32 {
    match status {
        400 => INVALID_PARAMS,
        413 => INVALID_REQUEST,
        _ => INTERNAL_ERROR,
    }
}

fn error(id: &Json, code: i32, message: &str, data: Option<Json>) -> String {
    let mut error = json!({ "code": code, "message": message });
    if let (Some(data), Some(members)) = (data, error.as_object_mut()) {
        members.insert("data".to_owned(), data);
    }
    json!({ "jsonrpc": "2.0", "id": id, "error": error }).to_string()
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;
    use crate::api::problem::ProblemKind;

    fn check(body: &str, expected: Expect) {
        let answer = match Batch::read(body.as_bytes()) {
            Err(refusal) => refusal,
            Ok(batch) => {
                let results = batch.to_answer().into_iter().map(|call| match call["method"].as_str() {
                    Some("from") => Err(Problem::new(ProblemKind::QueryMalformed, "Give a moment.")),
                    Some("much") => Err(Problem::new(ProblemKind::BatchTooLarge, "Send fewer.")),
                    Some("fails") => Err(Problem::new(ProblemKind::ViewFailed, "Tell somebody.")),
                    _ => Ok(Made { status: 200, json: call["method"].to_string() }),
                });
                batch.answer(results.collect()).unwrap_or_else(|| "nothing".to_owned())
            }
        };
        expected.assert_eq(&answer);
    }

    #[test]
    fn each_call_is_answered_with_its_id() {
        check(
            r#"{"jsonrpc": "2.0", "id": 7, "method": "a"}"#,
            expect![[r#"{"jsonrpc":"2.0","id":7,"result":"a"}"#]],
        );
        check(
            r#"{"jsonrpc": "2.0", "id": "x\"y", "method": "a", "params": []}"#,
            expect![[r#"{"jsonrpc":"2.0","id":"x\"y","result":"a"}"#]],
        );
        check(
            r#"[{"jsonrpc": "2.0", "id": 1, "method": "a"}]"#,
            expect![[r#"[{"jsonrpc":"2.0","id":1,"result":"a"}]"#]],
        );
        check(
            r#"[{"jsonrpc": "2.0", "id": 1, "method": "a"}, {"jsonrpc": "2.0", "method": "b"}, {"jsonrpc": "2.0", "id": null, "method": "c"}]"#,
            expect![[r#"[{"jsonrpc":"2.0","id":1,"result":"a"},{"jsonrpc":"2.0","id":null,"result":"c"}]"#]],
        );
        check(
            r#"[{"jsonrpc": "2.0", "id": 1, "method": "fails"}, {"jsonrpc": "2.0", "id": 2, "method": "b"}]"#,
            expect![[
                r#"[{"error":{"code":-32603,"data":{"code":"view-failed","detail":"Tell somebody.","status":500},"message":"The view cannot be answered"},"id":1,"jsonrpc":"2.0"},{"jsonrpc":"2.0","id":2,"result":"b"}]"#
            ]],
        );
    }

    #[test]
    fn what_the_caller_can_mend_is_told_as_the_callers_fault() {
        check(
            r#"{"jsonrpc": "2.0", "id": 1, "method": "from"}"#,
            expect![[
                r#"{"error":{"code":-32602,"data":{"code":"query-malformed","detail":"Give a moment.","status":400},"message":"The query is not understood"},"id":1,"jsonrpc":"2.0"}"#
            ]],
        );
        check(
            r#"{"jsonrpc": "2.0", "id": 1, "method": "much"}"#,
            expect![[
                r#"{"error":{"code":-32600,"data":{"code":"batch-too-large","detail":"Send fewer.","status":413},"message":"The batch asks for too much"},"id":1,"jsonrpc":"2.0"}"#
            ]],
        );
    }

    #[test]
    fn notifications_are_not_answered() {
        check(r#"{"jsonrpc": "2.0", "method": "a"}"#, expect!["nothing"]);
        check(
            r#"[{"jsonrpc": "2.0", "method": "a"}, {"jsonrpc": "2.0", "method": "b"}]"#,
            expect!["nothing"],
        );
    }

    #[test]
    fn what_is_no_call_is_an_invalid_request() {
        check(
            "{",
            expect![[r#"{"error":{"code":-32700,"message":"Parse error"},"id":null,"jsonrpc":"2.0"}"#]],
        );
        check(
            "[]",
            expect![[r#"{"error":{"code":-32600,"message":"Invalid Request"},"id":null,"jsonrpc":"2.0"}"#]],
        );
        check(
            "7",
            expect![[r#"{"error":{"code":-32600,"message":"Invalid Request"},"id":null,"jsonrpc":"2.0"}"#]],
        );
        check(
            r#"{"id": 7, "method": "a"}"#,
            expect![[r#"{"error":{"code":-32600,"message":"Invalid Request"},"id":7,"jsonrpc":"2.0"}"#]],
        );
        check(
            r#"{"jsonrpc": "2.0", "id": [], "method": "a"}"#,
            expect![[r#"{"error":{"code":-32600,"message":"Invalid Request"},"id":null,"jsonrpc":"2.0"}"#]],
        );
        check(
            r#"{"jsonrpc": "2.0", "id": 7, "method": "a", "params": 1}"#,
            expect![[r#"{"error":{"code":-32600,"message":"Invalid Request"},"id":7,"jsonrpc":"2.0"}"#]],
        );
        check(
            r#"[1, {"jsonrpc": "2.0", "id": 2, "method": "b"}]"#,
            expect![[
                r#"[{"error":{"code":-32600,"message":"Invalid Request"},"id":null,"jsonrpc":"2.0"},{"jsonrpc":"2.0","id":2,"result":"b"}]"#
            ]],
        );
        let call = r#"{"jsonrpc": "2.0", "id": 1, "method": "a"}"#;
        assert!(Batch::read(format!("[{}]", vec![call; 100].join(",")).as_bytes()).is_ok());
        check(
            &format!("[{}]", vec![call; 101].join(",")),
            expect![[
                r#"{"error":{"code":-32600,"message":"A batch has at most 100 calls"},"id":null,"jsonrpc":"2.0"}"#
            ]],
        );
    }
}
