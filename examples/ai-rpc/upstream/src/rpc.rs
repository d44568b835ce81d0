//! JSON-RPC 2.0: one call or a batch of them, each with its own answer. Tokens, prices and permissions are not looked at.

use std::time::Duration;

use axum::Json;
use axum::body::Bytes;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse as _, Response};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::model::{self, Answer, Options};

/// Longest time that a stand-in of a model takes, ms.
const DELAY_MS_MAX: u64 = 10_000;
/// Most requests of one chain.
const CHAIN_MAX: usize = 16;

/// An error of JSON-RPC.
struct RpcError {
    code: i32,
    message: String,
}

/// The parameters of `executeAIRequest`.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct AiRequest {
    content: String,
    #[serde(default)]
    system_prompt: String,
    options: Options,
}

/// The parameters of `executeAIChain`: each request is asked together with the answer to the one before it. `maxTokens` is
/// for all answers together.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct AiChain {
    steps: Vec<String>,
    #[serde(default)]
    system_prompt: String,
    options: Options,
}

/// Answers the body of a request.
pub async fn answer(headers: HeaderMap, body: Bytes) -> Response {
    let id = headers.get("x-request-id").and_then(|id| id.to_str().ok()).unwrap_or_default();
    let request_id = format!("req_{}", id.replace('-', ""));
    match serde_json::from_slice(&body) {
        Err(_) => Json(failed(&Value::Null, RpcError::new(-32_700, "Parse error"))).into_response(),
        Ok(Value::Array(calls)) => {
            let mut answers = Vec::new();
            for call in &calls {
                answers.extend(answer_call(call, &request_id).await);
            }
            if answers.is_empty() {
                StatusCode::NO_CONTENT.into_response()
            } else {
                Json(answers).into_response()
            }
        }
        Ok(call) => match answer_call(&call, &request_id).await {
            Some(answer) => Json(answer).into_response(),
            None => StatusCode::NO_CONTENT.into_response(),
        },
    }
}

/// Answers one call. A notification, which has no id, is not carried out: nothing here is worth doing for nobody, and what it
/// took could not be told.
async fn answer_call(call: &Value, request_id: &str) -> Option<Value> {
    let id = call.get("id")?;
    let outcome = match call.get("method").and_then(Value::as_str) {
        Some(method) => {
            let params = call.get("params").cloned().unwrap_or_else(|| json!({}));
            carry_out(method, params, request_id).await
        }
        None => Err(RpcError::new(-32_600, "Invalid Request")),
    };
    Some(match outcome {
        Ok(result) => json!({"jsonrpc": "2.0", "result": result, "id": id}),
        Err(error) => failed(id, error),
    })
}

async fn carry_out(method: &str, params: Value, request_id: &str) -> Result<Value, RpcError> {
    let answer = match method {
        "health" => return Ok(json!({"status": "healthy"})),
        "ping" => return Ok("pong".into()),
        "listModels" => return Ok(model::all()),
        "executeAIRequest" => {
            let AiRequest { content, system_prompt, options } = read(params)?;
            ask(&system_prompt, &content, &options, options.max_tokens()).await?
        }
        "executeAIChain" => {
            let AiChain { steps, system_prompt, options } = read(params)?;
            if !(1..=CHAIN_MAX).contains(&steps.len()) {
                return Err(RpcError::params(&format!("give 1 to {CHAIN_MAX} steps")));
            }
            let max_tokens = options.max_tokens();
            let mut whole = Answer::default();
            for step in &steps {
                let prompt = format!("{system_prompt} {}", whole.content);
                let left = max_tokens.saturating_sub(whole.output_tokens);
                let next = ask(&prompt, step, &options, left).await?;
                whole = Answer {
                    content: next.content,
                    input_tokens: whole.input_tokens + next.input_tokens,
                    output_tokens: whole.output_tokens + next.output_tokens,
                };
            }
            whole
        }
        _ => return Err(RpcError::new(-32_601, "Method not found")),
    };
    Ok(json!({
        "content": answer.content,
        "usage": {
            "inputTokens": answer.input_tokens,
            "outputTokens": answer.output_tokens,
            "totalTokens": answer.input_tokens + answer.output_tokens,
        },
        "requestId": request_id,
    }))
}

async fn ask(
    system_prompt: &str,
    content: &str,
    options: &Options,
    max_tokens: u64,
) -> Result<Answer, RpcError> {
    tokio::time::sleep(Duration::from_millis(options.delay_ms.min(DELAY_MS_MAX))).await;
    model::ask(system_prompt, content, options, max_tokens).map_err(|message| RpcError::params(&message))
}

fn read<T: DeserializeOwned>(params: Value) -> Result<T, RpcError> {
    serde_json::from_value(params).map_err(|error| RpcError::params(&error.to_string()))
}

fn failed(id: &Value, error: RpcError) -> Value {
    json!({"jsonrpc": "2.0", "error": {"code": error.code, "message": error.message}, "id": id})
}

impl RpcError {
    fn new(code: i32, message: &str) -> Self {
        Self { code, message: message.to_owned() }
    }

    fn params(fault: &str) -> Self {
        Self::new(-32_602, &format!("Invalid params: {fault}"))
    }
}
