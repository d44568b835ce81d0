//! `POST /api/v1/chat`: a message, and its answer with what the language model says it took. The model is played: it
//! repeats what it is told, and can be asked for a long answer, or to fail.

use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use serde::Deserialize;
use serde_json::json;

use crate::refuse;

/// A message.
#[derive(Debug, Deserialize)]
pub struct Message {
    message: String,
    #[serde(default)]
    simulate: Simulate,
}

/// What the played model does.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Simulate {
    /// Tokens that the answer takes; else one for each word.
    answer_tokens: Option<u64>,
    /// A status to fail with.
    status: Option<u16>,
}

/// Answers a message.
pub async fn answer(Json(given): Json<Message>) -> Response {
    if given.message.trim().is_empty() {
        return refuse(StatusCode::UNPROCESSABLE_ENTITY, "The message is empty");
    }
    if let Some(status) = given.simulate.status.and_then(|status| StatusCode::from_u16(status).ok()) {
        return refuse(status, "The language model does not answer");
    }
    let prompt_tokens = words(&given.message);
    let answer = format!("You said: {}", given.message);
    let completion_tokens = given.simulate.answer_tokens.unwrap_or_else(|| words(&answer));
    let usage = json!({
        "prompt_tokens": prompt_tokens,
        "completion_tokens": completion_tokens,
        "total_tokens": prompt_tokens.saturating_add(completion_tokens),
    });
    Json(json!({"answer": answer, "usage": usage})).into_response()
}

/// A token is a word, as far as this example goes.
fn words(text: &str) -> u64 {
    text.split_whitespace().count().try_into().unwrap_or(u64::MAX)
}
