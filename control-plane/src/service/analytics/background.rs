//! Works out now and then what no page could wait for: who used most in a day and a month, and what subscriptions bring in.
//! It only reads, but for a few rows at the end, so that syncs never wait for it. Replicas that do the same at once keep the
//! same.

use std::time::Duration;

use tokio::sync::watch;

use super::recurring::Recurring;
use super::{ControlPlane, ServiceError, TopPeriod};
use crate::calendar::{HOUR_MS, day_of};
use crate::store::analytics::Made;
use crate::store::{StoreError, analytics, subjects};

/// How often it looks whether something is due.
const INTERVAL: Duration = Duration::from_secs(30);

/// How old a day's numbers may be, ms. A day of 100,000 subjects takes a second to read.
const DAY_AGE_MAX_MS: i64 = 300_000;

/// How old a month's may be, ms: it takes thirty times as long.
const MONTH_AGE_MAX_MS: i64 = HOUR_MS;

/// For how long after its end a period is looked at again, ms: reports of edges that were cut off come late.
const LATE_MS: i64 = 2 * HOUR_MS;

/// Subjects of each meter that are kept.
pub const PLACES_MAX: i64 = 500;

/// Subscriptions that are read at a time.
const PAGE: i64 = 1_000;

/// Works out what is due.
#[derive(Debug)]
pub struct Background;

impl Background {
    /// Looks once: works out what is older than it may be.
    pub async fn look(&self, plane: &ControlPlane) -> Result<(), ServiceError> {
        let now_ms = plane.clock.now_ms();
        for (period, age_max_ms) in [(TopPeriod::Day, DAY_AGE_MAX_MS), (TopPeriod::Month, MONTH_AGE_MAX_MS)] {
            let (start_ms, _) = period.at(now_ms);
            // The one that ended just now, too: its last reports may have come after it was last worked out.
            for at_ms in [now_ms, start_ms - 1] {
                self.tops(plane, period, at_ms, age_max_ms).await?;
            }
        }
        self.recurring(plane).await
    }

    async fn tops(
        &self,
        plane: &ControlPlane,
        period: TopPeriod,
        at_ms: i64,
        age_max_ms: i64,
    ) -> Result<(), ServiceError> {
        let now_ms = plane.clock.now_ms();
        let (start_ms, end_ms) = period.at(at_ms);
        let made = analytics::made(&plane.database, period.name(), start_ms).await?;
        let is_due = made.is_none_or(|made| {
            let is_old = now_ms - made.made_ms >= age_max_ms || now_ms < made.made_ms;
            is_old && made.made_ms < end_ms + LATE_MS
        });
        if !is_due {
            return Ok(());
        }
        let (tops, subjects) = analytics::work_out(&plane.database, start_ms, end_ms, PLACES_MAX).await?;
        let (tops, made) = (&tops, Made { made_ms: now_ms, subjects });
        let kept: Result<(), StoreError> = plane
            .database
            .transact("keep tops", |tx| {
                Box::pin(async move { analytics::keep_tops(tx, period.name(), start_ms, tops, made).await })
            })
            .await;
        Ok(kept?)
    }

    async fn recurring(&self, plane: &ControlPlane) -> Result<(), ServiceError> {
        let in_force = plane.newest().await?;
        let Some(policy) = &in_force.policy else { return Ok(()) };
        let now_ms = plane.clock.now_ms();
        let (mut recurring, mut after) = (Recurring::default(), String::new());
        loop {
            let page = subjects::list(&plane.database, &after, None, None, PAGE).await?;
            for listed in &page {
                recurring.count(policy, &listed.subscription, now_ms);
            }
            match page.into_iter().last() {
                Some(last) => after = last.subject,
                None => break,
            }
        }
        let day_ms = day_of(now_ms);
        let rows = &recurring.rows(policy, day_ms);
        let kept: Result<(), StoreError> = plane
            .database
            .transact("keep recurring revenue", |tx| {
                Box::pin(async move { analytics::keep_recurring(tx, day_ms, rows).await })
            })
            .await;
        Ok(kept?)
    }

    /// Looks until `stopped`.
    pub async fn run(self, plane: &ControlPlane, mut stopped: watch::Receiver<bool>) {
        let mut due_ms = 0;
        loop {
            let now_ms = plane.clock.now_ms();
            // A clock that was set back must not hold it up for long.
            if now_ms >= due_ms || due_ms - now_ms > DAY_AGE_MAX_MS {
                due_ms = now_ms.saturating_add(DAY_AGE_MAX_MS);
                let looked = tokio::select! {
                    looked = self.look(plane) => looked,
                    _ = stopped.wait_for(|stopped| *stopped) => return,
                };
                if let Err(error) = looked {
                    let error = &error as &dyn std::error::Error;
                    tracing::warn!(error, "cannot work out analytics; trying again");
                }
            }
            tokio::select! {
                () = tokio::time::sleep(INTERVAL) => {}
                _ = stopped.wait_for(|stopped| *stopped) => return,
            }
        }
    }
}
