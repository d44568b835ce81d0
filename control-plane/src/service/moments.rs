//! Writes down what happened to subscriptions by itself: a trial or a subscription that ended, a change that was scheduled.
//! Any replica may do it, and it may be late: which tier is in force never waits for it, but lists by state, the audit log
//! and whoever listens to events do.

use std::time::Duration;

use tokio::sync::watch;

use super::subscriptions::{settle, trial_ending};
use super::{ControlPlane, ServiceError, happenings};
use crate::store::subjects;

/// How often it looks.
const INTERVAL: Duration = Duration::from_secs(1);

/// Most subjects in one transaction: a month's end may have many, and edges wait for their syncs meanwhile.
const BATCH_MAX: i64 = 100;

/// Writes down what happened.
#[derive(Debug)]
pub struct Moments;

impl Moments {
    /// Looks once, and writes down all that happened. Answers of how many subjects.
    pub async fn look(&self, plane: &ControlPlane) -> Result<u64, ServiceError> {
        let mut seen = 0;
        loop {
            let now_ms = plane.clock.now_ms();
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
