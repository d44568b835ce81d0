//! One attempt: an event signed and sent to an endpoint, and how that ended. Writes nothing down.

use std::time::Duration;

use reqwest::{StatusCode, header};

use super::address;
use super::signature::{Secret, sign};
use crate::store::event_deliveries::Claimed;
use crate::store::event_endpoints::EndpointRow;

/// How long one attempt may take, from the name's resolution to the end of the answer.
pub const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(10);

/// How much of an answer is read, so that its connection can be used again, bytes.
const ANSWER_BYTES_MAX: usize = 64 << 10;

/// Why an attempt failed, as its log says it. Nothing of the answer's body: an endpoint could be used to read what the
/// control plane can reach.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AttemptError {
    #[error("its address may not be used: {0}")]
    Address(#[from] address::AddressError),
    #[error("it has no secret in force")]
    NoSecret,
    #[error("no answer within {} s", ATTEMPT_TIMEOUT.as_secs())]
    Timeout,
    #[error("no answer: {0}")]
    Unreachable(String),
    #[error("answered {0}")]
    Status(u16),
}

/// How an attempt ended.
pub struct Answer {
    /// The status, where there was an answer.
    pub status: Option<StatusCode>,
    /// For how long the receiver asked to be left alone, s.
    pub retry_after_s: Option<i64>,
    /// Why it failed, if it did.
    pub error: Option<AttemptError>,
}

/// Sends one event to one endpoint.
pub async fn attempt(
    client: &reqwest::Client,
    endpoint: &EndpointRow,
    delivery: &Claimed,
    now_ms: i64,
    allow_private: bool,
) -> Answer {
    match send(client, endpoint, delivery, now_ms, allow_private).await {
        Ok((status, retry_after_s)) => {
            let error = (!status.is_success()).then(|| AttemptError::Status(status.as_u16()));
            Answer { status: Some(status), retry_after_s, error }
        }
        Err(error) => Answer { status: None, retry_after_s: None, error: Some(error) },
    }
}

async fn send(
    client: &reqwest::Client,
    endpoint: &EndpointRow,
    delivery: &Claimed,
    now_ms: i64,
    allow_private: bool,
) -> Result<(StatusCode, Option<i64>), AttemptError> {
    // An address in figures passes no resolver; and an operator may have stopped allowing private ones.
    let url = address::check_url(&endpoint.url, allow_private)?;
    let in_force = endpoint.secrets.iter().filter(|s| s.expires_ms.is_none_or(|end| now_ms < end));
    let secrets: Vec<Secret> = in_force.filter_map(|stored| Secret::parse(&stored.secret)).collect();
    if secrets.is_empty() {
        return Err(AttemptError::NoSecret);
    }
    let timestamp_s = now_ms.div_euclid(1_000);
    let request = client
        .post(url)
        .header(header::CONTENT_TYPE, "application/json")
        .header("webhook-id", &delivery.event)
        .header("webhook-timestamp", timestamp_s)
        .header("webhook-signature", sign(&secrets, &delivery.event, timestamp_s, &delivery.body))
        .body(delivery.body.clone());
    let mut response = request.send().await.map_err(unreachable)?;
    let status = response.status();
    let retry_after = response.headers().get(header::RETRY_AFTER).and_then(|value| value.to_str().ok());
    let retry_after_s = retry_after.and_then(|text| text.trim().parse().ok());
    let mut read = 0;
    // The status says it all; the rest is read for the next request's sake.
    while let Ok(Some(chunk)) = response.chunk().await {
        read += chunk.len();
        if read > ANSWER_BYTES_MAX {
            break;
        }
    }
    Ok((status, retry_after_s))
}

/// Why there was no answer, without the address: it may hold a secret, and the log says whose it is.
fn unreachable(error: reqwest::Error) -> AttemptError {
    if error.is_timeout() {
        return AttemptError::Timeout;
    }
    let error = error.without_url();
    let mut cause: &dyn std::error::Error = &error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    match cause.downcast_ref::<address::AddressError>() {
        Some(address) => AttemptError::Address(*address),
        None => AttemptError::Unreachable(cause.to_string()),
    }
}
