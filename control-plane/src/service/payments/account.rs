//! What all that is known of an account comes to: whose its subscriptions are, how they stand, and so what subjects have.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::json;

use super::fact::{Fact, Fault, Folded, Known, KnownPayment, Meaning, Payment, What, check_payment, fold};
use super::provider::Provider;
use super::settings::PaymentSettings;
use super::settle::{lock, settle};
use crate::calendar::DAY_MS;
use crate::service::happenings::{self, Happening};
use crate::service::lifecycle::GRACE_DAYS;
use crate::service::{InForce, ServiceError};
use crate::store::audit::Author;
use crate::store::payments::{LinkRow, SnapshotRow};
use crate::store::webhooks::{FactRow, WebhookRow};
use crate::store::{StoreError, Tx, audit, payments, webhooks};

/// Most events of one account that are looked at, the newest: years of a subscription that changes every week.
const FACTS_MAX: i64 = 2_000;

/// What is looked at besides the database.
#[derive(Debug, Clone, Copy)]
pub(super) struct View<'a> {
    pub settings: &'a PaymentSettings,
    pub in_force: &'a InForce,
    pub author: &'a Author,
}

/// What became of a webhook.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Verdict {
    pub state: &'static str,
    pub error: Option<String>,
    pub subject: Option<String>,
}

/// Works a webhook off: all that is known of its account is looked at, and what has changed by it is written. `anew`: what
/// its subject has is written even if nothing has changed, because an operator asked for it.
pub(super) async fn work_off(
    tx: &mut Tx<'_>,
    view: View<'_>,
    row: &WebhookRow,
    anew: bool,
) -> Result<Verdict, ServiceError> {
    let (Some(provider), Some(account)) = (Provider::of(&row.provider), row.account.as_deref()) else {
        return Ok(Verdict { state: "ignored", error: Some("it names nobody".to_owned()), subject: None });
    };
    let fact: Option<Fact> = row.fact.as_deref().map(read_fact).transpose()?;
    let is_payment = matches!(&fact, Some(Fact { what: What::Payment(_), .. }));
    payments::lock_account(tx, provider.name(), account).await?;
    let facts = webhooks::facts(tx, provider.name(), account, FACTS_MAX).await?;
    let known = Facts::of(facts, payments::links(tx, provider.name(), account).await?)?;
    let before: BTreeMap<String, SnapshotRow> = payments::of_account(tx, provider.name(), account)
        .await?
        .into_iter()
        .map(|row| (row.reference.clone(), row))
        .collect();
    let none = BTreeMap::new();
    let meaning =
        Meaning { rules: view.settings.rules(provider).unwrap_or(&none), grace_ms: grace_ms(view.in_force) };
    let mut changed: BTreeSet<String> = BTreeSet::new();
    let mut fault: Option<Fault> = None;
    for (reference, snapshots) in &known.snapshots {
        let is_this = row.reference.as_ref() == Some(reference);
        let before = before.get(reference);
        let payments = known.payments.get(reference).map(Vec::as_slice).unwrap_or_default();
        let held = before.map(|before| &before.outcome);
        let Folded { outcome, fault: found } = fold(snapshots, payments, meaning, held);
        // A payment is answered for itself, below.
        fault = fault.or(found.filter(|_| is_this && !is_payment));
        let Some(outcome) = outcome else { continue };
        let after = SnapshotRow {
            provider: provider.name().to_owned(),
            reference: reference.clone(),
            account: account.to_owned(),
            subject: known.subject_of(reference),
            outcome,
        };
        if before != Some(&after) {
            payments::write_snapshot(tx, &after).await?;
            changed.extend(before.and_then(|before| before.subject.clone()));
            changed.extend(after.subject);
        } else if anew && is_this {
            changed.extend(after.subject);
        }
    }
    let subject = match &row.reference {
        Some(reference) => known.subject_of(reference),
        None => known.account_subject(),
    };
    // All at once, and before anything that others wait for: another payment may be of the same subjects.
    lock(tx, &changed).await?;
    if subject.is_some() {
        webhooks::relink(tx, provider.name(), account, row.id, view.author.now_ms).await?;
    }
    if let (Some(Fact { what: What::Payment(payment), .. }), Some(subject)) = (&fact, &subject) {
        let snapshots = row.reference.as_ref().and_then(|reference| known.snapshots.get(reference));
        let snapshots = snapshots.map(Vec::as_slice).unwrap_or_default();
        fault = check_payment(payment, row.at_ms, snapshots.iter(), meaning.rules).err();
        // Whose subject was found was noted then: an operator may have it worked off again.
        if row.subject.is_none() {
            note_payment(tx, view.author, subject, row, payment, fault.as_ref()).await?;
        }
    }
    let verdict = match (&fault, subject) {
        (Some(fault), subject) => Verdict { state: "failed", error: Some(fault.to_string()), subject },
        (None, None) => {
            let error = Some("nobody knows whose it is: link it to a subject".to_owned());
            Verdict { state: "unlinked", error, subject: None }
        }
        (None, subject) => Verdict { state: "done", error: None, subject },
    };
    // Before subscriptions are written: that ends with a counter that others wait for.
    webhooks::finish(tx, row.id, verdict.state, verdict.error.as_deref(), verdict.subject.as_deref()).await?;
    for subject in &changed {
        settle(tx, view, subject).await?;
    }
    Ok(verdict)
}

/// Notes a payment. What else is to happen once for each payment belongs here: it is in the transaction that makes the
/// webhook done.
async fn note_payment(
    tx: &mut Tx<'_>,
    author: &Author,
    subject: &str,
    row: &WebhookRow,
    payment: &Payment,
    fault: Option<&Fault>,
) -> Result<(), StoreError> {
    let action = match (payment.paid, row.kind.ends_with("refunded")) {
        (true, _) => "payment.paid",
        (false, true) => "payment.refunded",
        (false, false) => "payment.failed",
    };
    let mut after = json!({
        "webhook": row.id,
        "kind": row.kind,
        "reference": row.reference,
        "amount": payment.amount,
        "currency": payment.currency.as_ref().map(|currency| currency.to_ascii_uppercase()),
    });
    if let Some(fault @ Fault::Differs { .. }) = fault {
        after["differs"] = json!(fault.to_string());
    }
    audit::append(tx, author, action, subject, None, Some(&after)).await?;
    if action != "payment.failed" {
        return Ok(());
    }
    let failed = Happening::PaymentFailed {
        subject: subject.to_owned(),
        provider: row.provider.clone(),
        reference: payment.id.clone().unwrap_or_else(|| row.event_id.clone()),
        amount: payment.amount,
        currency: payment.currency.as_ref().map(|currency| currency.to_ascii_uppercase()),
        at_ms: row.at_ms,
    };
    happenings::note(tx, author.now_ms, &[failed]).await
}

/// How long a tier stays in force after a payment failed, ms.
pub(super) fn grace_ms(in_force: &InForce) -> i64 {
    let said = in_force.policy.as_ref().and_then(|policy| policy.document.billing.grace_days);
    i64::from(said.unwrap_or(GRACE_DAYS)).saturating_mul(DAY_MS)
}

/// What is known of an account.
struct Facts {
    snapshots: BTreeMap<String, Vec<Known>>,
    payments: BTreeMap<String, Vec<KnownPayment>>,
    /// Whom events name: by subscription, and when.
    named: Vec<Named>,
    links: Vec<LinkRow>,
}

struct Named {
    reference: Option<String>,
    is_snapshot: bool,
    at_ms: i64,
    event_id: String,
    subject: String,
}

impl Facts {
    fn of(rows: Vec<FactRow>, links: Vec<LinkRow>) -> Result<Self, StoreError> {
        let mut facts =
            Self { snapshots: BTreeMap::new(), payments: BTreeMap::new(), named: Vec::new(), links };
        for row in rows {
            let fact = read_fact(&row.fact)?;
            if let Some(subject) = fact.subject {
                facts.named.push(Named {
                    reference: row.reference.clone(),
                    is_snapshot: matches!(fact.what, What::Snapshot(_)),
                    at_ms: row.at_ms,
                    event_id: row.event_id.clone(),
                    subject,
                });
            }
            let (at_ms, event_id) = (row.at_ms, row.event_id);
            match (fact.what, row.reference) {
                (What::Snapshot(snapshot), Some(reference)) => {
                    let known = Known { at_ms, event_id, snapshot: *snapshot };
                    facts.snapshots.entry(reference).or_default().push(known);
                }
                (What::Payment(payment), Some(reference)) => {
                    let known = KnownPayment { at_ms, event_id, payment };
                    facts.payments.entry(reference).or_default().push(known);
                }
                _ => {}
            }
        }
        Ok(facts)
    }

    /// Whose a subscription is: an operator's word, else what its own events say, else whose the account is.
    fn subject_of(&self, reference: &str) -> Option<String> {
        if let Some(link) = self.links.iter().find(|link| link.reference == reference) {
            return Some(link.subject.clone());
        }
        let own = self.named.iter().filter(|named| named.reference.as_deref() == Some(reference));
        let newest = own.max_by_key(|named| (named.is_snapshot, named.at_ms, &named.event_id));
        newest.map(|named| named.subject.clone()).or_else(|| self.account_subject())
    }

    /// Whose an account is: an operator's word, else the first that it bought for.
    fn account_subject(&self) -> Option<String> {
        if let Some(link) = self.links.iter().find(|link| link.reference.is_empty()) {
            return Some(link.subject.clone());
        }
        let first = self.named.iter().min_by_key(|named| (named.at_ms, &named.event_id));
        first.map(|named| named.subject.clone())
    }
}

fn read_fact(text: &str) -> Result<Fact, StoreError> {
    serde_json::from_str(text).map_err(|error| StoreError::corrupt("what a webhook says", error))
}
