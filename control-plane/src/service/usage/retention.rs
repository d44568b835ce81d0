//! Folds what lies back: hours into days, days into months, in batches that leave room for syncs. Sums stay what they were;
//! what goes is detail. Any replica may do it. It also forgets what is kept for a time only: denials, and orders that nobody
//! paid.
//!
//! Time is that of the clock, but never later than the newest of what is there: a clock that is set years ahead folds
//! nothing that is still being counted, and forgets nothing that is new.

use std::time::Duration;

use tokio::sync::watch;

use super::record::KEY_DAYS;
use crate::calendar::DAY_MS;
use crate::service::ControlPlane;
use crate::store::usage::{Horizons, fold, recorded};
use crate::store::{StoreError, denials, orders, subjects};

/// How often it looks whether there is something to fold.
const INTERVAL: Duration = Duration::from_secs(60);

/// Most rows of one batch, about: some tens of milliseconds on SQLite, whose one writer syncs wait for.
const BATCH_ROWS_MAX: i64 = 2_000;

/// Most subjects of one batch, which it locks.
const BATCH_SUBJECTS_MAX: i64 = 100;

/// How long an order is kept that nobody paid, days: much longer than it can still be paid.
const UNPAID_DAYS: i64 = 30;

/// Least pause between two batches. It is as long as the batch took where that was longer: half the writer's time is for syncs.
const PAUSE_MS_MIN: u64 = 20;

/// What keeps the ledger small.
#[derive(Debug, Default)]
pub struct Keeper {
    horizons: Option<Horizons>,
}

impl Keeper {
    /// Folds or forgets one batch. Answers how many rows it was; 0 when there is nothing to do.
    pub async fn fold(&mut self, plane: &ControlPlane) -> Result<u64, StoreError> {
        match self.fold_usage(plane).await? {
            0 => forget(plane).await,
            rows => Ok(rows),
        }
    }

    async fn fold_usage(&mut self, plane: &ControlPlane) -> Result<u64, StoreError> {
        let Some(newest_ms) = fold::newest(&plane.database).await? else {
            return Ok(0);
        };
        let now_ms = plane.clock.now_ms().min(newest_ms);
        let settings = &plane.settings.usage;
        let back = |days: u32| now_ms.saturating_sub(i64::from(days).saturating_mul(DAY_MS)).max(0);
        let wanted =
            &Horizons { hours_from_ms: back(settings.hours_days), days_from_ms: back(settings.days_days) };
        let horizons = match self.horizons {
            Some(horizons) if wanted.hours_from_ms < horizons.hours_from_ms + DAY_MS => horizons,
            _ => {
                plane
                    .database
                    .transact("raise horizons", |tx| Box::pin(async move { fold::raise(tx, wanted).await }))
                    .await?
            }
        };
        self.horizons = Some(horizons);
        let database = &plane.database;
        let hours = fold::subjects_with_hours(database, horizons.hours_from_ms, BATCH_SUBJECTS_MAX).await?;
        if !hours.is_empty() {
            let names: &Vec<&str> = &hours.iter().map(String::as_str).collect();
            return database
                .transact("fold hours", |tx| {
                    Box::pin(async move {
                        subjects::lock(tx, names).await?;
                        fold::hours(tx, names, BATCH_ROWS_MAX).await
                    })
                })
                .await;
        }
        let days = fold::subjects_with_days(database, horizons.days_from_ms, BATCH_SUBJECTS_MAX).await?;
        if !days.is_empty() {
            let names: &Vec<&str> = &days.iter().map(String::as_str).collect();
            return database
                .transact("fold days", |tx| {
                    Box::pin(async move {
                        subjects::lock(tx, names).await?;
                        fold::days(tx, names, BATCH_ROWS_MAX.unsigned_abs()).await
                    })
                })
                .await;
        }
        let before_ms = now_ms.saturating_sub(KEY_DAYS * DAY_MS);
        database
            .transact("forget keys", |tx| {
                Box::pin(async move { recorded::prune(tx, before_ms, BATCH_ROWS_MAX).await })
            })
            .await
    }

    /// Folds until `stopped`.
    pub async fn run(mut self, plane: &ControlPlane, mut stopped: watch::Receiver<bool>) {
        let mut pause = Duration::ZERO;
        let mut down = false;
        loop {
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                _ = stopped.wait_for(|stopped| *stopped) => return,
            }
            let began_ms = plane.clock.monotonic_ms();
            pause = match self.fold(plane).await {
                Ok(0) => INTERVAL,
                Ok(rows) => {
                    plane.metrics.usage_folded.inc_by(rows);
                    let took_ms = plane.clock.monotonic_ms().saturating_sub(began_ms);
                    Duration::from_millis(took_ms.max(PAUSE_MS_MIN))
                }
                Err(error) => {
                    if !std::mem::replace(&mut down, true) {
                        tracing::warn!(
                            error = &error as &dyn std::error::Error,
                            "cannot fold usage; trying on"
                        );
                    }
                    INTERVAL
                }
            };
            down = down && pause == INTERVAL;
        }
    }
}

/// Forgets one batch of what is kept for a time only.
async fn forget(plane: &ControlPlane) -> Result<u64, StoreError> {
    let database = &plane.database;
    let back = |newest_ms: i64, days: i64| {
        plane.clock.now_ms().min(newest_ms).saturating_sub(days.saturating_mul(DAY_MS)).max(0)
    };
    if let Some(newest_ms) = denials::newest(database).await? {
        let before_ms = back(newest_ms, i64::from(plane.settings.usage.denials_days));
        let work = database.transact("forget denials", |tx| {
            Box::pin(async move { denials::prune(tx, before_ms, BATCH_ROWS_MAX).await })
        });
        let rows: u64 = work.await?;
        if rows > 0 {
            return Ok(rows);
        }
    }
    let Some(newest_ms) = orders::newest_unpaid(database).await? else { return Ok(0) };
    let before_ms = back(newest_ms, UNPAID_DAYS);
    database
        .transact("forget orders", |tx| {
            Box::pin(async move { orders::prune(tx, before_ms, BATCH_ROWS_MAX).await })
        })
        .await
}
