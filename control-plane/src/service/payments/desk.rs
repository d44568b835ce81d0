//! What operators do with webhooks: look at them, say whose they are, have them worked off again.

use super::provider::Provider;
use crate::service::subscriptions::check_subject;
use crate::service::{ControlPlane, Invalid, NotFound, ServiceError};
use crate::store::audit::Author;
use crate::store::payments::LinkRow;
use crate::store::webhooks::WebhookRow;
use crate::store::{audit, payments, webhooks};

/// States of webhooks.
pub const STATES: [&str; 6] = ["pending", "done", "ignored", "unlinked", "failed", "conflict"];

impl ControlPlane {
    /// At most `limit` webhooks before `before_id`, the newest first.
    pub async fn webhooks(
        &self,
        before_id: i64,
        provider: Option<&str>,
        state: Option<&str>,
        limit: i64,
    ) -> Result<Vec<WebhookRow>, ServiceError> {
        Ok(webhooks::list(&self.database, before_id, provider, state, limit).await?)
    }

    /// A webhook and its payload.
    pub async fn webhook(&self, id: i64) -> Result<(WebhookRow, String), ServiceError> {
        let found = webhooks::show(&self.database, id).await?;
        found.ok_or(ServiceError::NotFound(NotFound::Webhook))
    }

    /// Works a webhook off again, as this program reads it, and writes what its subject has even if that seems to be there.
    pub async fn replay_webhook(&self, author: &Author, id: i64) -> Result<WebhookRow, ServiceError> {
        let (row, payload) = self.webhook(id).await?;
        let reading = Provider::of(&row.provider)
            .and_then(|provider| self.read_again(provider, &payload, row.received_ms));
        let fact = reading.as_ref().and_then(|reading| serde_json::to_string(reading.fact.as_ref()?).ok());
        let Some((reading, fact)) = reading.zip(fact) else {
            let message = "Nothing is to be done with this webhook: it is of a kind that only passes by.";
            return Err(ServiceError::invalid(Invalid::Webhook, message));
        };
        let (account, reference) = (reading.account.as_deref(), reading.reference.as_deref());
        let (target, fact) = (&format!("webhook {id}"), &fact);
        self.database
            .transact("replay webhook", |tx| {
                Box::pin(async move {
                    webhooks::replay(tx, id, author.now_ms, Some(fact), account, reference).await?;
                    audit::append(tx, author, "webhook.replay", target, None, None).await?;
                    Ok::<_, ServiceError>(())
                })
            })
            .await?;
        self.work_off_now(id).await
    }

    /// Says whose the subscription of a webhook is, and its account where that is nobody's yet.
    pub async fn link_webhook(
        &self,
        author: &Author,
        id: i64,
        subject: &str,
    ) -> Result<WebhookRow, ServiceError> {
        check_subject(subject)?;
        let (row, _) = self.webhook(id).await?;
        let Some(account) = row.account.as_deref() else {
            let message = "This webhook is of no subscription, so it cannot be linked to a subject.";
            return Err(ServiceError::invalid(Invalid::Webhook, message));
        };
        let (row, target) = (&row, &format!("{}:{account}", row.provider));
        self.database
            .transact("link webhook", |tx| {
                Box::pin(async move {
                    payments::lock_account(tx, &row.provider, account).await?;
                    let links = payments::links(tx, &row.provider, account).await?;
                    let link = |reference: &str| LinkRow {
                        reference: reference.to_owned(),
                        subject: subject.to_owned(),
                    };
                    if let Some(reference) = &row.reference {
                        payments::link(tx, &row.provider, account, &link(reference)).await?;
                    }
                    if !links.iter().any(|link| link.reference.is_empty()) {
                        payments::link(tx, &row.provider, account, &link("")).await?;
                    }
                    let state = row.fact.as_deref();
                    webhooks::replay(tx, id, author.now_ms, state, Some(account), row.reference.as_deref())
                        .await?;
                    let after = serde_json::json!({ "subject": subject, "reference": row.reference });
                    audit::append(tx, author, "webhook.link", target, None, Some(&after)).await?;
                    Ok::<_, ServiceError>(())
                })
            })
            .await?;
        self.work_off_now(id).await
    }

    async fn work_off_now(&self, id: i64) -> Result<WebhookRow, ServiceError> {
        let (row, _) = self.webhook(id).await?;
        self.work_off_webhook(&row, true).await?;
        // Others of the account may have waited for it.
        Provider::ALL.into_iter().for_each(|provider| self.payments.wake(provider));
        Ok(self.webhook(id).await?.0)
    }
}
