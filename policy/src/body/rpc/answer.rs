//! Errors for calls that are refused: per call, with its id as it came.

use serde_json::Value;

use super::{Call, Calls, Id, Member};
use crate::template::JsonText;

/// JSON-RPC 2.0 section 5.1: the JSON sent is not a valid request.
const INVALID_REQUEST: i32 = -32600;

/// An error as JSON-RPC 2.0 section 5.1 has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RpcError {
    /// -32768 to -32000 are the protocol's own, of which -32099 to -32000 are a server's to use.
    pub code: i32,
    /// A short sentence.
    pub message: String,
    /// More, in any shape.
    pub data: Option<JsonText>,
}

/// The body of an answer that refuses calls: `error` says why, for each that has an id. Invalid members get -32600.
///
/// An array if the calls came as one. Empty if nothing is to be answered: there were only notifications and responses.
pub fn error_responses(calls: &Calls, mut error: impl FnMut(&Call) -> RpcError) -> String {
    let mut body = String::new();
    for member in &calls.members {
        let (error, id) = match member {
            Member::Call(Call { id: None, .. }) | Member::Response => continue,
            Member::Call(call) => (error(call), call.id.as_ref()),
            Member::Invalid(id) => (invalid_request(), id.as_ref()),
        };
        body.push(if body.is_empty() { '[' } else { ',' });
        push_response(&mut body, &error, id);
    }
    match (body.is_empty(), calls.batch) {
        (true, _) => body,
        (false, true) => body + "]",
        (false, false) => body.split_off(1),
    }
}

/// The body of an answer to what is not even a call, such as malformed JSON or an empty batch: its id is null.
pub fn error_response_without_id(error: &RpcError) -> String {
    let mut body = String::new();
    push_response(&mut body, error, None);
    body
}

fn push_response(body: &mut String, error: &RpcError, id: Option<&Id>) {
    let message = Value::from(error.message.as_str());
    *body += &format!("{{\"jsonrpc\":\"2.0\",\"error\":{{\"code\":{},\"message\":{message}", error.code);
    if let Some(data) = &error.data {
        *body += ",\"data\":";
        *body += data.as_str();
    }
    *body += "},\"id\":";
    *body += id.map_or("null", Id::as_str);
    *body += "}";
}

fn invalid_request() -> RpcError {
    RpcError { code: INVALID_REQUEST, message: "Invalid Request".to_owned(), data: None }
}
