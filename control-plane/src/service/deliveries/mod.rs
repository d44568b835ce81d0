//! Telling events: deliveries that are due are claimed, signed and sent in the background, and attempted again until they
//! arrive or are given up. At least once: what was sent by a process that was killed before it could note so is sent again,
//! with the same `webhook-id`.
//!
//! Replicas share the work through the database. One endpoint that is slow keeps no other waiting: each has a task of its
//! own while something is due, with a few requests at once.

pub mod address;
mod attempt;
mod schedule;
pub mod signature;

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use reqwest::StatusCode;
use tokio::sync::watch;
use tokio::task::{Id, JoinSet};

use super::happenings::{self, Happening};
use super::{ControlPlane, ServiceError};
use crate::calendar::DAY_MS;
use crate::http_client::sending_client;
use crate::store::audit::Author;
use crate::store::event_deliveries::{AttemptRow, Claimed, DeliveryState};
use crate::store::event_endpoints::EndpointRow;
use crate::store::{StoreError, audit, event_deliveries, event_endpoints, events};
use attempt::{ATTEMPT_TIMEOUT, Answer, AttemptError, attempt};

/// How often it is looked whether something is due.
const INTERVAL: Duration = Duration::from_millis(500);

/// How long a claim holds, ms: what is not settled by then is attempted again. Three times what an attempt may take.
pub const CLAIM_MS: i64 = 30_000;

/// How many deliveries to one endpoint are on their way at once.
const AT_ONCE_MAX: i64 = 8;

/// How often old events are forgotten, ms, and how many at a time.
const PRUNE_INTERVAL_MS: u64 = 60_000;
const PRUNE_MAX: i64 = 1_000;

/// Who disables endpoints, for the audit log.
const ACTOR: &str = "job:events";

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
        let disabled = self
            .database
            .transact("settle delivery", |tx| {
                Box::pin(async move {
                    let id = endpoint.id.as_str();
                    // The endpoint before the delivery, as whoever has deliveries told again locks them.
                    if state == DeliveryState::Delivered {
                        event_endpoints::note_success(tx, id).await?;
                        event_deliveries::settle(tx, attempt, state, tries, next_ms).await?;
                        return Ok(None);
                    }
                    event_endpoints::note_failure(tx, id, now_ms).await?;
                    event_deliveries::settle(tx, attempt, state, tries, next_ms).await?;
                    // Read again: another delivery may have arrived meanwhile.
                    let row = event_endpoints::lock(tx, id).await?;
                    let failing_ms = row.and_then(|row| row.failing_ms).unwrap_or(now_ms);
                    let because = match now_ms.saturating_sub(failing_ms) {
                        _ if gone => "It answered 410 Gone.",
                        failing_ms if failing_ms >= schedule::FAILING_MS_MAX => {
                            "Nothing has arrived for five days."
                        }
                        _ => return Ok(None),
                    };
                    let disabled = event_endpoints::disable(tx, id, now_ms, because).await?;
                    if disabled {
                        let author = Author { actor: ACTOR.to_owned(), remote: String::new(), now_ms };
                        let after = serde_json::json!({ "enabled": false, "because": because });
                        audit::append(tx, &author, "event_endpoint.disable", id, None, Some(&after)).await?;
                        let (endpoint, because) = (id.to_owned(), because.to_owned());
                        let told = Happening::EndpointDisabled { endpoint, because, at_ms: now_ms };
                        happenings::note(tx, now_ms, &[told]).await?;
                    }
                    Ok::<_, ServiceError>(disabled.then_some(because))
                })
            })
            .await?;
        if let Some(because) = disabled {
            tracing::warn!(endpoint = endpoint.id, because, "an endpoint is told no more events");
        }
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
        let kept_ms = i64::from(self.settings.events.retention_days).saturating_mul(DAY_MS);
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
