//! Sends usage elsewhere, as batches of CloudEvents: each hour when it is over, and again when it changes afterwards. At
//! least once: the cursor moves when the other side has answered, and an event that is sent again has the same id.
//!
//! Any replica may send, one at a time: whoever holds the cursor.

use std::time::Duration;

use serde_json::Value as Json;
use tokio::sync::watch;

use super::UsagePeriod;
use super::cloudevents::{BATCH_MEDIA_TYPE, event_of};
use crate::calendar::{HOUR_MS, hour_of};
use crate::config::SinkSettings;
use crate::http_client::http_client_without_redirects;
use crate::service::ControlPlane;
use crate::service::tokens::random_hex;
use crate::store::usage::sent::{self, Cursor, Resend};
use crate::store::usage::{Wanted, sums};
use crate::store::{Retry, StoreError};

/// How long after its end an hour is sent: nearly all edges have told all of it by then.
const SETTLE_MS: i64 = 5 * 60_000;

/// How long a transaction that began before changes were noted may still take, ms: more than a statement may.
const IN_FLIGHT_MS: u64 = 15_000;

/// How long a holder may be silent before another takes the cursor, ms. More than a batch may take.
const PATIENCE_MS: i64 = 60_000;

/// Most subjects that are read at once, most hours that are sent again at once, and most events of a batch.
const SUBJECTS_MAX: i64 = 100;
const RESENDS_MAX: i64 = 100;
const BATCH_EVENTS_MAX: usize = 200;

/// How long the other side may take to answer.
const TIMEOUT: Duration = Duration::from_secs(10);

/// How often it looks whether an hour is over.
const INTERVAL: Duration = Duration::from_secs(5);

/// The wait after a failure doubles with each, from this until the longest.
const BACKOFF: Duration = Duration::from_secs(1);
const BACKOFF_MAX: Duration = Duration::from_secs(300);
const BACKOFF_DOUBLED_MAX: u32 = 9;

/// Why usage could not be sent.
#[derive(Debug, thiserror::Error)]
pub enum SinkError {
    /// Nobody answers.
    #[error("the sink of usage does not answer")]
    Unreachable(#[source] reqwest::Error),
    /// The answer was no success.
    #[error("the sink of usage answered {0}")]
    Refused(u16),
    /// The store did not do it.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Retry for SinkError {
    fn is_conflict(&self) -> bool {
        matches!(self, Self::Store(error) if error.is_conflict())
    }
}

/// What a pass came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pass {
    /// There is nothing to send now.
    Idle,
    /// There may be more.
    More,
}

/// Sends usage to one address.
#[derive(Debug)]
pub struct Sink {
    client: reqwest::Client,
    to: SinkSettings,
    holder: String,
    /// Changes of hours before this one are noted since this moment (monotonic ms).
    noted: (i64, u64),
    /// And of hours before this one they have been for long enough.
    settled_ms: i64,
}

impl Sink {
    /// A sink to an address. Fails when the system's certificates, or random numbers, cannot be read.
    pub fn new(to: SinkSettings) -> std::io::Result<Self> {
        Self::with_timeout(to, TIMEOUT)
    }

    /// A sink to an address that must answer in another time.
    pub fn with_timeout(to: SinkSettings, timeout: Duration) -> std::io::Result<Self> {
        let client = http_client_without_redirects(timeout).map_err(std::io::Error::other)?;
        let holder = random_hex::<16>().map_err(std::io::Error::other)?;
        Ok(Self { client, to, holder, noted: (0, 0), settled_ms: 0 })
    }

    /// Sends what changed, and a piece of the next hour.
    pub async fn pass(&mut self, plane: &ControlPlane) -> Result<Pass, SinkError> {
        let now_ms = plane.clock.now_ms();
        let holder = self.holder.as_str();
        let held = plane
            .database
            .transact("hold the sink", |tx| {
                Box::pin(async move { sent::hold(tx, holder, now_ms, PATIENCE_MS).await })
            })
            .await?;
        let Some(cursor) = held else {
            return Ok(Pass::Idle);
        };
        self.note_changes(plane, now_ms).await?;
        if cursor.hour_ms == 0 {
            // What was used before is for an export.
            self.advance(plane, Cursor { hour_ms: hour_of(now_ms), subject: String::new() }).await?;
            return Ok(Pass::Idle);
        }
        let resent = self.resend(plane).await?;
        let hour_end_ms = cursor.hour_ms + HOUR_MS;
        plane.metrics.usage_sink_lag.set((now_ms - hour_end_ms).max(0) / 1_000);
        if now_ms < hour_end_ms + SETTLE_MS || self.settled_ms < hour_end_ms {
            return Ok(resent);
        }
        let after = cursor.subject.as_str();
        let subjects = sent::subjects(&plane.database, cursor.hour_ms, after, SUBJECTS_MAX).await?;
        let Some(last) = subjects.last() else {
            self.advance(plane, Cursor { hour_ms: hour_end_ms, subject: String::new() }).await?;
            return Ok(Pass::More);
        };
        let mut events = Vec::new();
        for subject in &subjects {
            events.extend(events_of(plane, subject, cursor.hour_ms).await?);
        }
        self.send(plane, &events).await?;
        self.advance(plane, Cursor { hour_ms: cursor.hour_ms, subject: last.clone() }).await?;
        Ok(Pass::More)
    }

    /// From now on changes of past hours are noted, since they may be sent from now on.
    async fn note_changes(&mut self, plane: &ControlPlane, now_ms: i64) -> Result<(), SinkError> {
        let mono_ms = plane.clock.monotonic_ms();
        if mono_ms.saturating_sub(self.noted.1) >= IN_FLIGHT_MS {
            self.settled_ms = self.noted.0;
        }
        let before_ms = hour_of(now_ms);
        if before_ms > self.noted.0 {
            let noted: Result<(), StoreError> = plane
                .database
                .transact("note changes", |tx| {
                    Box::pin(async move { sent::note_changes_before(tx, before_ms).await })
                })
                .await;
            noted?;
            self.noted = (before_ms, plane.clock.monotonic_ms());
        }
        Ok(())
    }

    async fn resend(&self, plane: &ControlPlane) -> Result<Pass, SinkError> {
        let hours: &Vec<Resend> = &sent::resends(&plane.database, RESENDS_MAX).await?;
        if hours.is_empty() {
            return Ok(Pass::Idle);
        }
        let mut events = Vec::new();
        for hour in hours {
            events.extend(events_of(plane, &hour.subject, hour.hour_ms).await?);
        }
        self.send(plane, &events).await?;
        let forgotten: Result<(), StoreError> = plane
            .database
            .transact("forget resent", |tx| {
                Box::pin(async move {
                    for hour in hours {
                        sent::resent(tx, hour).await?;
                    }
                    Ok(())
                })
            })
            .await;
        forgotten?;
        Ok(Pass::More)
    }

    async fn send(&self, plane: &ControlPlane, events: &[Json]) -> Result<(), SinkError> {
        for batch in events.chunks(BATCH_EVENTS_MAX) {
            let sent = self.post(batch).await;
            let outcome = if sent.is_ok() { "sent" } else { "failed" };
            plane.metrics.usage_sink_batches.with_label_values(&[outcome]).inc();
            sent?;
        }
        Ok(())
    }

    async fn post(&self, batch: &[Json]) -> Result<(), SinkError> {
        // The address may hold a secret, and is known to whoever reads the log.
        let unreachable = |error: reqwest::Error| SinkError::Unreachable(error.without_url());
        let mut request = self.client.post(&self.to.url).header("content-type", BATCH_MEDIA_TYPE);
        if let Some(token) = &self.to.token {
            request = request.bearer_auth(token);
        }
        let body = Json::Array(batch.to_vec()).to_string();
        let response = request.body(body).send().await.map_err(unreachable)?;
        match response.status().is_success() {
            true => Ok(()),
            false => Err(SinkError::Refused(response.status().as_u16())),
        }
    }

    async fn advance(&self, plane: &ControlPlane, to: Cursor) -> Result<(), StoreError> {
        let (holder, to) = (self.holder.as_str(), &to);
        plane
            .database
            .transact("move the sink", |tx| Box::pin(async move { sent::advance(tx, holder, to).await }))
            .await
    }

    /// Sends until `stopped`.
    pub async fn run(mut self, plane: &ControlPlane, mut stopped: watch::Receiver<bool>) {
        let mut wait = Duration::ZERO;
        let mut failures = 0;
        loop {
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                _ = stopped.wait_for(|stopped| *stopped) => return,
            }
            wait = match self.pass(plane).await {
                Ok(pass) => {
                    failures = 0;
                    if pass == Pass::More { Duration::ZERO } else { INTERVAL }
                }
                Err(error) => {
                    if failures == 0 {
                        let error = &error as &dyn std::error::Error;
                        tracing::warn!(error, "cannot send usage; trying on");
                    }
                    failures = (failures + 1).min(BACKOFF_DOUBLED_MAX);
                    (BACKOFF * 2_u32.pow(failures)).min(BACKOFF_MAX)
                }
            };
        }
    }
}

/// What a subject used in an hour: of a month that has no hours any more, the month that starts then.
async fn events_of(plane: &ControlPlane, subject: &str, hour_ms: i64) -> Result<Vec<Json>, StoreError> {
    let wanted =
        Wanted { subject, meter: None, from_ms: hour_ms, to_ms: hour_ms + HOUR_MS, by: UsagePeriod::Hour };
    let sums = sums(&plane.database, &wanted).await?;
    Ok(sums.iter().map(|sum| event_of(subject, sum)).collect())
}
