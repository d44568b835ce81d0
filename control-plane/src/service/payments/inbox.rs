//! Webhooks on their way in: checked, stored, and only then answered.
//!
//! All that wait are stored in one transaction, so that a flush to disk is shared by as many webhooks as came meanwhile. The
//! writing goes on when a caller hangs up: others wait for the same transaction.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::oneshot;

use super::fact::{Fact, What};
use super::provider::Provider;
use super::reading::{Reading, hash};
use super::signature::{self, Refusal};
use super::{cinetpay, lemonsqueezy, stripe};
use crate::config::{
    WEBHOOKS_BATCH_BYTES_MAX, WEBHOOKS_BATCH_MAX, WEBHOOKS_WAITING_BYTES_MAX, WEBHOOKS_WAITING_MAX,
};
use crate::service::ControlPlane;
use crate::store::webhooks::{NewWebhook, Stored};
use crate::store::{Database, StoreError, webhooks};

/// What came, besides its body.
#[derive(Debug, Clone, Copy)]
pub struct Delivery<'a> {
    /// Who is said to have sent it.
    pub provider: Provider,
    /// Its signature, if it has one.
    pub signature: Option<&'a str>,
    /// Its body, as it came.
    pub body: &'a [u8],
}

/// Why a webhook was not taken.
#[derive(Debug, thiserror::Error)]
pub enum NotTaken {
    /// No such provider is configured.
    #[error("the provider is not configured")]
    NotConfigured,
    /// It is not believed.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// It cannot be stored now; it comes again.
    #[error("it cannot be stored now")]
    Busy,
}

/// Webhooks that wait to be stored.
#[derive(Debug, Default)]
pub struct Inbox {
    queue: Mutex<Queue>,
}

#[derive(Debug, Default)]
struct Queue {
    waiting: VecDeque<Waiting>,
    /// Of what waits.
    bytes: usize,
    /// Whether somebody writes, and looks here again afterwards.
    is_written: bool,
}

#[derive(Debug)]
struct Waiting {
    webhook: NewWebhook,
    answer: oneshot::Sender<Option<Outcome>>,
}

/// What became of a webhook that was stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    Stored,
    Repeated,
    Conflict,
}

impl ControlPlane {
    /// Takes a webhook: once this answers, it is stored.
    pub async fn take_webhook(&self, delivery: Delivery<'_>) -> Result<(), NotTaken> {
        let provider = delivery.provider;
        let count = |outcome: &str| {
            self.metrics.webhooks_received.with_label_values(&[provider.name(), outcome]).inc();
        };
        let now_ms = self.clock.now_ms();
        let webhook = match self.read_webhook(delivery, now_ms) {
            Ok(webhook) => webhook,
            Err(NotTaken::Refused(refusal)) => {
                count(refusal.label());
                return Err(refusal.into());
            }
            Err(other) => return Err(other),
        };
        let Some(outcome) = self.payments.inbox.store(&self.database, webhook).await else {
            count("busy");
            return Err(NotTaken::Busy);
        };
        match outcome {
            Outcome::Stored => count("stored"),
            Outcome::Repeated => count("repeated"),
            Outcome::Conflict => {
                count("conflict");
                tracing::warn!(provider = provider.name(), "an event's id came again with another event");
            }
        }
        self.payments.wake(provider);
        Ok(())
    }

    fn read_webhook(&self, delivery: Delivery<'_>, now_ms: i64) -> Result<NewWebhook, NotTaken> {
        let Delivery { provider, body, .. } = delivery;
        let reading = self.check_and_read(delivery, now_ms)?;
        // Neither JSON nor a form has it as it is, and PostgreSQL has no place for it.
        let payload = std::str::from_utf8(body).ok().filter(|text| !text.contains('\0'));
        let payload = payload.ok_or(Refusal::Malformed)?;
        let payload = match provider {
            // What is not signed may be anything, and as long as one likes.
            Provider::CinetPay => cinetpay::signed(&cinetpay::fields(body)),
            Provider::Stripe | Provider::LemonSqueezy => payload.to_owned(),
        };
        let fact = reading.fact.as_ref().and_then(|fact| serde_json::to_string(fact).ok());
        Ok(NewWebhook {
            provider: provider.name(),
            event_id: reading.event_id,
            hash: reading.hash,
            kind: reading.kind,
            account: reading.account,
            reference: reading.reference,
            at_ms: reading.at_ms,
            received_ms: now_ms,
            deliveries: 1,
            state: if fact.is_some() { "pending" } else { "ignored" },
            // The same notification is the news that there is news.
            again: provider == Provider::CinetPay,
            fact,
            payload,
        })
    }

    fn check_and_read(&self, delivery: Delivery<'_>, now_ms: i64) -> Result<Reading, NotTaken> {
        let Delivery { provider, signature, body } = delivery;
        let settings = &self.settings.payments;
        match provider {
            Provider::Stripe => {
                let stripe = settings.stripe.as_ref().ok_or(NotTaken::NotConfigured)?;
                signature::check_stripe(stripe, signature, body, now_ms)?;
                Ok(stripe::read(body, stripe.livemode)?)
            }
            Provider::LemonSqueezy => {
                let lemon = settings.lemonsqueezy.as_ref().ok_or(NotTaken::NotConfigured)?;
                signature::check_hex(&lemon.signing_secrets, signature, body)?;
                Ok(lemonsqueezy::read(body, lemon.livemode)?)
            }
            Provider::CinetPay => {
                let cinetpay = settings.cinetpay.as_ref().ok_or(NotTaken::NotConfigured)?;
                let fields = cinetpay::fields(body);
                let token = signature.ok_or(Refusal::Missing)?;
                if !cinetpay::is_signed(cinetpay, &fields, token) {
                    return Err(Refusal::Wrong.into());
                }
                if cinetpay::field(&fields, "cpm_site_id") != cinetpay.site_id {
                    return Err(Refusal::Malformed.into());
                }
                Ok(read_notification(&fields, now_ms)?)
            }
        }
    }

    /// Reads a stored webhook again, as this program reads it; `None` where it cannot.
    pub(super) fn read_again(&self, provider: Provider, payload: &str, received_ms: i64) -> Option<Reading> {
        let (settings, body) = (&self.settings.payments, payload.as_bytes());
        match provider {
            Provider::Stripe => stripe::read(body, settings.stripe.as_ref()?.livemode).ok(),
            Provider::LemonSqueezy => lemonsqueezy::read(body, settings.lemonsqueezy.as_ref()?.livemode).ok(),
            Provider::CinetPay => read_notification(&cinetpay::fields(body), received_ms).ok(),
        }
    }
}

/// All notifications of one order are one: they say no more than that there may be news of it.
fn read_notification(fields: &[(String, String)], now_ms: i64) -> Result<Reading, Refusal> {
    let order = Some(cinetpay::field(fields, "cpm_trans_id")).filter(|id| !id.is_empty());
    let order = order.ok_or(Refusal::Malformed)?.to_owned();
    let hash = hash(format!("{} {order}", cinetpay::field(fields, "cpm_site_id")).as_bytes());
    Reading {
        event_id: hash.clone(),
        hash,
        kind: "notification".to_owned(),
        account: None,
        reference: Some(order),
        at_ms: now_ms,
        fact: Some(Fact { subject: None, what: What::Notice }),
    }
    .checked()
}

impl Inbox {
    /// Stores a webhook, with all that wait; nothing where it could not be.
    async fn store(self: &Arc<Self>, database: &Database, webhook: NewWebhook) -> Option<Outcome> {
        let (answer, answered) = oneshot::channel();
        let begins = self.with(|queue| {
            if queue.waiting.len() >= WEBHOOKS_WAITING_MAX || queue.bytes >= WEBHOOKS_WAITING_BYTES_MAX {
                return None;
            }
            queue.bytes += webhook.payload.len();
            queue.waiting.push_back(Waiting { webhook, answer });
            Some(!std::mem::replace(&mut queue.is_written, true))
        })?;
        if begins {
            let (inbox, database) = (self.clone(), database.clone());
            tokio::spawn(async move { inbox.write_all(&database).await });
        }
        answered.await.ok().flatten()
    }

    async fn write_all(&self, database: &Database) {
        loop {
            let batch = self.with(|queue| {
                let batch = queue.take();
                queue.is_written = !batch.is_empty();
                batch
            });
            if batch.is_empty() {
                return;
            }
            write(database, batch).await;
        }
    }

    fn with<T>(&self, look: impl FnOnce(&mut Queue) -> T) -> T {
        // Poisoned by a panic under the lock; the queue is whole between any two of its statements.
        look(&mut self.queue.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Queue {
    fn take(&mut self) -> Vec<Waiting> {
        let (mut bytes, mut count) = (0, 0);
        for waiting in self.waiting.iter().take(WEBHOOKS_BATCH_MAX) {
            bytes += waiting.webhook.payload.len();
            if count > 0 && bytes > WEBHOOKS_BATCH_BYTES_MAX {
                break;
            }
            count += 1;
        }
        let batch: Vec<Waiting> = self.waiting.drain(..count).collect();
        self.bytes -= batch.iter().map(|waiting| waiting.webhook.payload.len()).sum::<usize>();
        batch
    }
}

async fn write(database: &Database, batch: Vec<Waiting>) {
    let (webhooks, answers): (Vec<_>, Vec<_>) =
        batch.into_iter().map(|waiting| (waiting.webhook, waiting.answer)).unzip();
    let keys: Vec<_> =
        webhooks.iter().map(|webhook| (webhook.event_id.clone(), webhook.hash.clone())).collect();
    let merged = merge(webhooks);
    let mut outcomes = BTreeMap::new();
    match store(database, &merged).await {
        Ok(stored) => outcomes.extend(stored),
        // One that the database does not take must not keep the others out.
        Err(StoreError::Corrupt { .. }) if merged.len() > 1 => {
            for one in &merged {
                if let Ok(stored) = store(database, std::slice::from_ref(one)).await {
                    outcomes.extend(stored);
                }
            }
        }
        Err(error) => {
            tracing::warn!(
                error = &error as &dyn std::error::Error,
                "cannot store webhooks; they come again"
            );
        }
    }
    for (key, answer) in keys.into_iter().zip(answers) {
        // A caller that has hung up does not ask.
        let _ = answer.send(outcomes.get(&key).copied());
    }
}

/// Each event once, with how often it came; one with an id of another is set apart.
fn merge(webhooks: Vec<NewWebhook>) -> Vec<NewWebhook> {
    let mut merged: Vec<NewWebhook> = Vec::with_capacity(webhooks.len());
    let mut known: BTreeMap<(&'static str, String), Vec<usize>> = BTreeMap::new();
    for mut webhook in webhooks {
        let same_id = known.entry((webhook.provider, webhook.event_id.clone())).or_default();
        let same = same_id.iter().find(|at| merged.get(**at).is_some_and(|other| other.hash == webhook.hash));
        if let Some(other) = same.and_then(|at| merged.get_mut(*at)) {
            other.deliveries += 1;
            continue;
        }
        if !same_id.is_empty() {
            webhook.state = "conflict";
        }
        same_id.push(merged.len());
        merged.push(webhook);
    }
    merged
}

async fn store(
    database: &Database,
    webhooks: &[NewWebhook],
) -> Result<Vec<((String, String), Outcome)>, StoreError> {
    let stored = database
        .transact("store webhooks", |tx| Box::pin(async move { webhooks::store(tx, webhooks).await }))
        .await?;
    let outcome = |stored: Stored| {
        let new = webhooks.iter().find(|w| w.event_id == stored.event_id && w.hash == stored.hash);
        let outcome = match stored.state.as_str() {
            "conflict" => Outcome::Conflict,
            _ if new.is_some_and(|webhook| webhook.deliveries < stored.deliveries) => Outcome::Repeated,
            _ => Outcome::Stored,
        };
        ((stored.event_id, stored.hash), outcome)
    };
    Ok(stored.into_iter().map(outcome).collect())
}
