//! Telling events: deliveries that are due are claimed, signed and sent in the background, and attempted again until they
//! arrive or are given up. At least once: what was sent by a process that was killed before it could note so is sent again,
//! with the same `webhook-id`.
//!
//! Replicas share the work through the database. One endpoint that is slow keeps no other waiting: each has a task of its
//! own while something is due, with a few requests at once.

pub mod address;
mod schedule;
pub mod signature;

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use reqwest::{StatusCode, header};
use tokio::sync::watch;
use tokio::task::{Id, JoinSet};

use super::happenings::{self, Happening};
use super::{ControlPlane, ServiceError};
use crate::http_client::sending_client;
use crate::store::audit::Author;
use crate::store::event_deliveries::{AttemptRow, Claimed, DeliveryState};
use crate::store::event_endpoints::EndpointRow;
use crate::store::{StoreError, audit, event_deliveries, event_endpoints, events};
use signature::Secret;

/// How often it is looked whether something is due.
const INTERVAL: Duration = Duration::from_millis(500);

/// How long one attempt may take, from the name's resolution to the end of the answer.
const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a claim holds, ms: what is not settled by then is attempted again. Three times what an attempt may take.
pub const CLAIM_MS: i64 = 30_000;

/// How many deliveries to one endpoint are on their way at once.
const AT_ONCE_MAX: i64 = 8;

/// How much of an answer is read, so that its connection can be used again, bytes.
const ANSWER_BYTES_MAX: usize = 64 << 10;

/// How often old events are forgotten, ms, and how many at a time.
const PRUNE_INTERVAL_MS: u64 = 60_000;
const PRUNE_MAX: i64 = 1_000;

/// Who disables endpoints, for the audit log.
const ACTOR: &str = "job:events";

/// Why an attempt failed, as its log says it. Nothing of the answer's body: an endpoint could be used to read what the
/// control plane can reach.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
enum AttemptError {
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
struct Answer {
    status: Option<StatusCode>,
    retry_after_s: Option<i64>,
    error: Option<AttemptError>,
}

impl ControlPlane {
    /// Delivers until `stopped`; then what is on its way is let end.
    pub async fn run_sender(self: &Arc<Self>, mut stopped: watch::Receiver<bool>) {
        let resolver = (!self.settings.events.allow_private).then(address::public_resolver);
        let client = match sending_client(ATTEMPT_TIMEOUT, resolver) {
            Ok(client) => client,
            Err(error) => {
                let error = &error as &dyn std::error::Error;
                tracing::error!(error, "cannot read this machine's certificates; no events are delivered");
                return;
            }
        };
        let mut running: JoinSet<()> = JoinSet::new();
        let mut endpoints: HashMap<Id, String> = HashMap::new();
        let (mut down, mut pruned_ms) = (false, 0);
        loop {
            tokio::select! {
                () = tokio::time::sleep(INTERVAL) => {}
                Some(ended) = running.join_next_with_id() => {
                    let id = match ended {
                        Ok((id, ())) => id,
                        Err(error) => error.id(),
                    };
                    endpoints.remove(&id);
                }
                _ = stopped.wait_for(|stopped| *stopped) => break,
            }
            let busy: BTreeSet<&String> = endpoints.values().collect();
            let due = event_deliveries::due_endpoints(&self.database, self.clock.now_ms()).await;
            let due = due.map(|due| due.into_iter().filter(|id| !busy.contains(id)).collect::<Vec<_>>());
            let looked = match due {
                Ok(due) => {
                    for endpoint in due {
                        let (plane, client, of) = (self.clone(), client.clone(), endpoint.clone());
                        let task = running.spawn(async move { plane.deliver_logged(&client, &of).await });
                        endpoints.insert(task.id(), endpoint);
                    }
                    self.prune_events(&mut pruned_ms).await
                }
                Err(error) => Err(error),
            };
            match looked {
                Ok(()) => down = false,
                Err(error) if !down => {
                    down = true;
                    let error = &error as &dyn std::error::Error;
                    tracing::warn!(error, "cannot look for events to deliver; trying on");
                }
                Err(_) => {}
            }
        }
        while running.join_next().await.is_some() {}
    }

    async fn deliver_logged(&self, client: &reqwest::Client, endpoint: &str) {
        if let Err(error) = self.deliver(client, endpoint).await {
            tracing::warn!(
                error = &error as &dyn std::error::Error,
                endpoint,
                "cannot note a delivery; it is attempted again"
            );
            // Whatever the database suffers from is not cured by asking it at once.
            tokio::time::sleep(INTERVAL).await;
        }
    }

    /// Attempts some of what is due at an endpoint.
    async fn deliver(&self, client: &reqwest::Client, endpoint: &str) -> Result<(), ServiceError> {
        let now_ms = self.clock.now_ms();
        let (endpoint, claimed) = self
            .database
            .transact("claim deliveries", |tx| {
                Box::pin(async move {
                    let row = event_endpoints::read_in(tx, endpoint).await?;
                    let Some(row) = row.filter(|row| row.disabled_ms.is_none()) else {
                        return Ok((None, Vec::new()));
                    };
                    let until_ms = now_ms.saturating_add(CLAIM_MS);
                    let claimed =
                        event_deliveries::claim(tx, endpoint, now_ms, until_ms, AT_ONCE_MAX).await?;
                    Ok::<_, StoreError>((Some(row), claimed))
                })
            })
            .await?;
        let Some(endpoint) = &endpoint else { return Ok(()) };
        let mut attempts = JoinSet::new();
        for delivery in claimed {
            let (client, endpoint) = (client.clone(), endpoint.clone());
            let (clock, allow_private) = (self.clock.clone(), self.settings.events.allow_private);
            attempts.spawn(async move {
                let (at_ms, begun_ms) = (clock.now_ms(), clock.monotonic_ms());
                let answer = attempt(&client, &endpoint, &delivery, at_ms, allow_private).await;
                let took_ms = clock.monotonic_ms().saturating_sub(begun_ms);
                (delivery, answer, at_ms, i64::try_from(took_ms).unwrap_or(i64::MAX))
            });
        }
        let mut noted = Ok(());
        while let Some(ended) = attempts.join_next().await {
            // One that panicked is attempted again when its claim ends, as is one that cannot be noted.
            if let Ok((delivery, answer, at_ms, took_ms)) = ended {
                let settled = self.settle(endpoint, &delivery, &answer, at_ms, took_ms).await;
                noted = noted.and(settled);
            }
        }
        noted
    }

    /// Notes how an attempt ended.
    async fn settle(
        &self,
        endpoint: &EndpointRow,
        delivery: &Claimed,
        answer: &Answer,
        at_ms: i64,
        took_ms: i64,
    ) -> Result<(), ServiceError> {
        let now_ms = self.clock.now_ms();
        let tries = delivery.tries.saturating_add(1);
        // Without randomness deliveries come again together, and still come.
        let random = getrandom::u32().unwrap_or(0);
        let (state, next_ms) = match &answer.error {
            None => (DeliveryState::Delivered, now_ms),
            Some(_) => match schedule::wait_ms(tries, random, answer.retry_after_s) {
                Some(wait_ms) => (DeliveryState::Pending, now_ms.saturating_add(wait_ms)),
                None => (DeliveryState::GivenUp, now_ms),
            },
        };
        let attempt = &AttemptRow {
            event: delivery.event.clone(),
            endpoint: endpoint.id.clone(),
            attempt: delivery.attempts.saturating_add(1),
            at_ms,
            took_ms,
            status: answer.status.map(|status| i64::from(status.as_u16())),
            error: answer.error.as_ref().map(ToString::to_string),
        };
        let gone = answer.status == Some(StatusCode::GONE);
        self.database
            .transact("settle delivery", |tx| {
                Box::pin(async move {
                    let id = endpoint.id.as_str();
                    event_deliveries::settle(tx, attempt, state, tries, next_ms).await?;
                    if state == DeliveryState::Delivered {
                        return Ok(event_endpoints::note_success(tx, id).await?);
                    }
                    event_endpoints::note_failure(tx, id, now_ms).await?;
                    // Read again: another delivery may have arrived meanwhile.
                    let row = event_endpoints::lock(tx, id).await?;
                    let failing_ms = row.and_then(|row| row.failing_ms).unwrap_or(now_ms);
                    let because = match now_ms.saturating_sub(failing_ms) {
                        _ if gone => "It answered 410 Gone.",
                        failing_ms if failing_ms >= schedule::FAILING_MS_MAX => {
                            "Nothing has arrived for five days."
                        }
                        _ => return Ok(()),
                    };
                    if event_endpoints::disable(tx, id, now_ms, because).await? {
                        let author = Author { actor: ACTOR.to_owned(), remote: String::new(), now_ms };
                        let after = serde_json::json!({ "enabled": false, "because": because });
                        audit::append(tx, &author, "event_endpoint.disable", id, None, Some(&after)).await?;
                        tracing::warn!(endpoint = id, because, "an endpoint is told no more events");
                        let (endpoint, because) = (id.to_owned(), because.to_owned());
                        let told = Happening::EndpointDisabled { endpoint, because, at_ms: now_ms };
                        happenings::note(tx, now_ms, &[told]).await?;
                    }
                    Ok::<_, ServiceError>(())
                })
            })
            .await?;
        let outcome = match (state, &answer.error) {
            (DeliveryState::Delivered, _) => "delivered",
            (DeliveryState::GivenUp, _) => "given_up",
            (DeliveryState::Pending, Some(AttemptError::Status(_))) => "refused",
            (DeliveryState::Pending, _) => "unreachable",
        };
        self.metrics.event_attempts.with_label_values(&[outcome]).inc();
        Ok(())
    }

    /// Forgets some of what was kept long enough, once a while.
    async fn prune_events(&self, pruned_ms: &mut u64) -> Result<(), StoreError> {
        let mono_ms = self.clock.monotonic_ms();
        if mono_ms.saturating_sub(*pruned_ms) < PRUNE_INTERVAL_MS {
            return Ok(());
        }
        *pruned_ms = mono_ms;
        let now_ms = self.clock.now_ms();
        let kept_ms = i64::from(self.settings.events.retention_days).saturating_mul(86_400_000);
        let before = &happenings::id_at(now_ms.saturating_sub(kept_ms));
        loop {
            let forgotten = self
                .database
                .transact("prune events", |tx| {
                    Box::pin(async move {
                        let deliveries = event_deliveries::prune(tx, before, PRUNE_MAX).await?;
                        Ok::<_, StoreError>(deliveries + events::prune(tx, before, now_ms, PRUNE_MAX).await?)
                    })
                })
                .await?;
            if forgotten == 0 {
                return Ok(());
            }
        }
    }
}

/// Sends one event to one endpoint.
async fn attempt(
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
        .header("webhook-signature", signature::sign(&secrets, &delivery.event, timestamp_s, &delivery.body))
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
