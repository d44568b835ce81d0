//! Webhooks that are stored are worked off here: each in one transaction that has its effect and makes it done. What cannot
//! be done now is tried again, later each time, for some days; then it has failed, and an operator can replay it.

use std::time::Duration;

use tokio::sync::watch;

use super::account::{View, work_off};
use super::provider::Provider;
use crate::service::{ControlPlane, ServiceError};
use crate::store::audit::Author;
use crate::store::webhooks::WebhookRow;
use crate::store::{StoreError, webhooks};

/// How often it is looked for webhooks that nobody told this process of: those of replicas, and those to be tried again.
const INTERVAL: Duration = Duration::from_secs(1);

/// Webhooks that are read at a time.
const BATCH: i64 = 64;

/// When a webhook is tried again after the first time, and at most how much later each time, ms.
const RETRY_MS: i64 = 5_000;
const RETRY_MS_MAX: i64 = webhooks::NEXT_MS_MAX;

/// How often a webhook is tried: some two days.
const ATTEMPTS_MAX: i64 = 20;

impl ControlPlane {
    /// Works off what is due of a provider's webhooks; answers how many that were.
    pub async fn work_off_webhooks(&self, provider: Provider) -> Result<usize, StoreError> {
        let due = webhooks::due(&self.database, provider.name(), self.clock.now_ms(), BATCH).await?;
        for row in &due {
            self.work_off_webhook(row, false).await?;
        }
        Ok(due.len())
    }

    /// Works off one webhook. An error means that the database does not answer: nothing has changed.
    pub(super) async fn work_off_webhook(&self, row: &WebhookRow, anew: bool) -> Result<(), StoreError> {
        let done = match Provider::of(&row.provider) {
            Some(Provider::CinetPay) => self.work_off_notification(row).await,
            _ => self.work_off_event(row, anew).await,
        };
        let count = |state: &str| {
            self.metrics.webhooks_worked_off.with_label_values(&[row.provider.as_str(), state]).inc();
        };
        let error = match done {
            Ok(state) => {
                count(state);
                return Ok(());
            }
            Err(ServiceError::Store(error @ (StoreError::Conflict(_) | StoreError::Unavailable(_)))) => {
                return Err(error);
            }
            Err(error) => error,
        };
        count("postponed");
        tracing::warn!(
            webhook = row.id,
            provider = row.provider,
            error = &error as &dyn std::error::Error,
            "cannot work off a webhook"
        );
        let state = if row.attempts + 1 >= ATTEMPTS_MAX { "failed" } else { "pending" };
        let later_ms = RETRY_MS.saturating_mul(1 << row.attempts.clamp(0, 20)).min(RETRY_MS_MAX);
        let (text, next_ms) = (&error.to_string(), self.clock.now_ms().saturating_add(later_ms));
        self.database
            .transact("postpone webhook", |tx| {
                Box::pin(async move { webhooks::postpone(tx, row.id, state, text, next_ms).await })
            })
            .await
    }

    async fn work_off_event(&self, row: &WebhookRow, anew: bool) -> Result<&'static str, ServiceError> {
        let in_force = &self.newest().await?;
        let author = &self.webhook_author(row);
        let view = View { settings: &self.settings.payments, in_force, author };
        let verdict = self
            .database
            .transact("work off webhook", |tx| {
                Box::pin(async move {
                    if !webhooks::lock_pending(tx, row.id).await? {
                        return Ok(None);
                    }
                    work_off(tx, view, row, anew).await.map(Some)
                })
            })
            .await?;
        self.hub.poke();
        Ok(verdict.map_or("done", |verdict| verdict.state))
    }

    pub(super) fn webhook_author(&self, row: &WebhookRow) -> Author {
        Author {
            actor: format!("webhook:{}", row.provider),
            remote: row.provider.clone(),
            now_ms: self.clock.now_ms(),
        }
    }

    /// Works off webhooks until `stopped`. Providers do not wait for each other.
    pub async fn run_webhooks(&self, stopped: watch::Receiver<bool>) {
        let [stripe, lemon, cinetpay] = Provider::ALL;
        tokio::join!(
            self.run_webhooks_of(stripe, stopped.clone()),
            self.run_webhooks_of(lemon, stopped.clone()),
            self.run_webhooks_of(cinetpay, stopped),
        );
    }

    async fn run_webhooks_of(&self, provider: Provider, mut stopped: watch::Receiver<bool>) {
        let is_configured = match provider {
            Provider::CinetPay => self.settings.payments.cinetpay.is_some(),
            _ => self.settings.payments.rules(provider).is_some(),
        };
        if !is_configured {
            return;
        }
        let mut down = false;
        loop {
            let worked = tokio::select! {
                worked = self.work_off_webhooks(provider) => worked,
                _ = stopped.wait_for(|stopped| *stopped) => return,
            };
            match worked {
                // There may be more.
                Ok(count) if count > 0 => {
                    down = false;
                    continue;
                }
                Ok(_) => down = false,
                Err(error) if !down => {
                    down = true;
                    tracing::warn!(
                        error = &error as &dyn std::error::Error,
                        "cannot work off webhooks; trying on"
                    );
                }
                Err(_) => {}
            }
            tokio::select! {
                () = self.payments.woken(provider) => {}
                () = tokio::time::sleep(INTERVAL) => {}
                _ = stopped.wait_for(|stopped| *stopped) => return,
            }
        }
    }
}
