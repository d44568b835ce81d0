//! Writes down what happened to subscriptions by itself: a trial or a subscription that ended, a change that was scheduled.
//! Any replica may do it, and it may be late: which tier is in force never waits for it, but lists by state, the audit log
//! and whoever listens to events do.
//!
//! What it writes stays written, so a clock that jumps ahead is not believed before it has been steady for a while.

use std::sync::Mutex;
use std::time::Duration;

use tokio::sync::watch;

use super::steadiness::{Belief, Steadiness};
use super::subscriptions::{settle, trial_ending};
use super::{ControlPlane, ServiceError, happenings};
use crate::store::{StoreError, moments, subjects};

/// How often it looks.
const INTERVAL: Duration = Duration::from_secs(1);

/// Most subjects in one transaction: a month's end may have many, and edges wait for their syncs meanwhile.
const BATCH_MAX: i64 = 100;

/// How far what is known of the clock may be behind it, ms.
const SEEN_MS: i64 = 60_000;

/// Writes down what happened.
#[derive(Debug)]
pub struct Moments;

/// What is known of the clock.
#[derive(Debug, Default)]
pub struct Believed(Mutex<(Steadiness, i64)>);

impl Believed {
    /// What the clock shows, if that may be written down, Unix ms.
    async fn look(&self, plane: &ControlPlane) -> Result<Option<i64>, StoreError> {
        let is_new = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner).0.is_new();
        let seen_ms = if is_new { moments::seen(&plane.database).await? } else { 0 };
        let (belief, now_ms, noted_ms) = {
            let mut known = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            let (now_ms, mono_ms) = (plane.clock.now_ms(), plane.clock.monotonic_ms());
            (known.0.look(now_ms, mono_ms, seen_ms), now_ms, known.1)
        };
        if belief == Belief::Jumped {
            tracing::warn!(
                "the clock is ahead of the time that passed since it was last looked at: what happened to subscriptions is \
                 written down when it has been steady for ten minutes"
            );
        }
        if belief != Belief::Steady {
            return Ok(None);
        }
        if now_ms.abs_diff(noted_ms) > SEEN_MS.unsigned_abs() {
            plane
                .database
                .transact("note the clock", |tx| {
                    Box::pin(async move { moments::write_seen(tx, now_ms).await })
                })
                .await?;
            self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner).1 = now_ms;
        }
        Ok(Some(now_ms))
    }
}

impl Moments {
    /// Looks once, and writes down all that happened, if the clock is to be believed. Answers of how many subjects.
    pub async fn look(&self, plane: &ControlPlane) -> Result<u64, ServiceError> {
        let mut seen = 0;
        // Not read again: it may jump in between.
        let Some(now_ms) = plane.believed.look(plane).await? else { return Ok(seen) };
        loop {
            let due = subjects::due(&plane.database, now_ms, BATCH_MAX).await?;
            if due.is_empty() {
                return Ok(seen);
            }
            let in_force = &plane.newest().await?;
            let names: Vec<&str> = due.iter().map(String::as_str).collect();
            let names = names.as_slice();
            plane
                .database
                .transact("write down moments", |tx| {
                    Box::pin(async move {
                        for (subject, row) in subjects::lock(tx, names).await? {
                            let row = settle(tx, in_force, &subject, row, now_ms).await?;
                            let bought = row.subscription.as_ref();
                            let ending = bought.and_then(|bought| trial_ending(&subject, bought, now_ms));
                            happenings::note(tx, now_ms, ending.as_slice()).await?;
                            // Also where nothing had to be written down: or the same subject would be due for ever.
                            let next_ms = bought.and_then(|bought| bought.next_notice_ms(now_ms));
                            subjects::write_next_moment(tx, &subject, next_ms).await?;
                        }
                        Ok::<_, ServiceError>(())
                    })
                })
                .await?;
            seen += due.len() as u64;
        }
    }

    /// Looks until `stopped`.
    pub async fn run(self, plane: &ControlPlane, mut stopped: watch::Receiver<bool>) {
        let mut down = false;
        loop {
            tokio::select! {
                () = tokio::time::sleep(INTERVAL) => {}
                _ = stopped.wait_for(|stopped| *stopped) => return,
            }
            match self.look(plane).await {
                Ok(_) => down = false,
                Err(error) if !down => {
                    down = true;
                    tracing::warn!(
                        error = &error as &dyn std::error::Error,
                        "cannot write down what happened to subscriptions; trying on"
                    );
                }
                Err(_) => {}
            }
        }
    }
}
