//! Closes sessions that fell silent, and forgets changes that nobody can ask for any more. Any replica may do it.
//!
//! Silence is measured on this process' monotonic clock, as the time since a session's count of syncs last rose before
//! its eyes. No two clocks are compared, so a clock that is set, or replicas that disagree on the time, close nothing too
//! early. A sweeper that has just started waits a full time-out first.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::sync::watch;

use super::ControlPlane;
use crate::config::CHANGE_RETENTION_MS;
use crate::store::{StoreError, changes, sessions};

/// How often it looks.
const INTERVAL: Duration = Duration::from_secs(1);

/// How often it forgets old changes, ms.
const PRUNE_INTERVAL_MS: u64 = 60_000;

/// What a sweeper has seen.
#[derive(Debug, Default)]
pub struct Sweeper {
    /// For each open session: its count of syncs, and since when (monotonic ms) it has been that.
    seen: BTreeMap<String, (i64, u64)>,
    pruned_ms: u64,
}

impl Sweeper {
    /// Looks once. Answers how many sessions it closed.
    pub async fn sweep(&mut self, plane: &ControlPlane) -> Result<u64, StoreError> {
        let mono_ms = plane.clock.monotonic_ms();
        let open = sessions::open(&plane.database).await?;
        self.seen.retain(|session, _| open.contains_key(session));
        for (session, beats) in open {
            let seen = self.seen.entry(session).or_insert((beats, mono_ms));
            if seen.0 != beats {
                *seen = (beats, mono_ms);
            }
        }
        plane.metrics.open_sessions.set(i64::try_from(self.seen.len()).unwrap_or(i64::MAX));
        let patience_ms = plane.settings.lease_ttl_ms.saturating_add(plane.settings.lease_margin_ms);
        let silent: Vec<(String, i64)> = self
            .seen
            .iter()
            .filter(|(_, (_, since_ms))| mono_ms.saturating_sub(*since_ms) > patience_ms)
            .map(|(session, (beats, _))| (session.clone(), *beats))
            .collect();
        let now_ms = plane.clock.now_ms();
        let mut closed = 0;
        if !silent.is_empty() {
            let silent = silent.as_slice();
            closed = plane
                .database
                .transact("close silent", |tx| {
                    Box::pin(async move { sessions::close_silent(tx, silent, now_ms).await })
                })
                .await?;
            plane.metrics.silenced_sessions.inc_by(closed);
            tracing::info!(closed, "closed sessions of edges that fell silent");
        }
        if mono_ms.saturating_sub(self.pruned_ms) > PRUNE_INTERVAL_MS {
            self.pruned_ms = mono_ms;
            let before_ms = now_ms.saturating_sub(CHANGE_RETENTION_MS);
            plane
                .database
                .transact("prune changes", |tx| Box::pin(async move { changes::prune(tx, before_ms).await }))
                .await?;
        }
        Ok(closed)
    }

    /// Sweeps until `stopped`.
    pub async fn run(mut self, plane: &ControlPlane, mut stopped: watch::Receiver<bool>) {
        let mut down = false;
        loop {
            tokio::select! {
                () = tokio::time::sleep(INTERVAL) => {}
                _ = stopped.wait_for(|stopped| *stopped) => return,
            }
            match self.sweep(plane).await {
                Ok(_) => down = false,
                Err(error) if !down => {
                    down = true;
                    tracing::warn!(
                        error = &error as &dyn std::error::Error,
                        "cannot close silent sessions; trying on"
                    );
                }
                Err(_) => {}
            }
        }
    }
}
