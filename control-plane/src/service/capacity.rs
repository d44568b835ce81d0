//! Capacities by an operator's count: for data that exists before Tollgate does, and for repair after an edge was lost with
//! what it held. Exact while edges hold leases: what they report from then on counts on top.

use std::collections::BTreeMap;

use serde_json::json;
use tollgate_policy::document::UNITS_MAX;
use tollgate_policy::lease::{Book, Standing, Term, TermKind, Terms};

use super::bypass::check_reason;
use super::entitled::Entitled;
use super::{ControlPlane, Invalid, ServiceError};
use crate::store::audit::Author;
use crate::store::changes::ChangeKind;
use crate::store::subjects::BookWrite;
use crate::store::{audit, changes, subjects};

impl ControlPlane {
    /// Sets what is in use of the capacity `name`: a limit of the subject, else all its capacities on that meter.
    pub async fn set_capacity(
        &self,
        author: &Author,
        subject: &str,
        name: &str,
        in_use: u64,
        reason: &str,
    ) -> Result<Vec<Standing>, ServiceError> {
        check_reason(reason)?;
        if in_use > UNITS_MAX {
            let message = format!("Give an in_use of at most {UNITS_MAX} units.");
            return Err(ServiceError::invalid(Invalid::Capacity, message));
        }
        let in_force = &self.newest().await?;
        let standings = self
            .database
            .transact("set capacity", |tx| {
                Box::pin(async move {
                    let (mut row, organization) = self.lock_known(tx, subject).await?;
                    let terms = Entitled::of(&row, organization.as_ref()).terms(in_force, author.now_ms);
                    let names = names_of(&terms, name)?;
                    let before = used(&row.book, &terms, &names, author.now_ms);
                    for name in &names {
                        row.book.reconcile(&terms, name, in_use);
                    }
                    row.book.prune(author.now_ms);
                    let write = BookWrite {
                        subject,
                        book: &row.book,
                        grants: &row.grants,
                        revision: row.subscription_revision,
                        tier_claim: row.tier_claim.as_deref(),
                        sessions: &row.sessions,
                    };
                    subjects::write_books(tx, &[write], author.now_ms).await?;
                    let after = used(&row.book, &terms, &names, author.now_ms);
                    let (before, after) =
                        (json!({ "in_use": before }), json!({ "in_use": after, "reason": reason }));
                    audit::append(tx, author, "capacity.set", subject, Some(&before), Some(&after)).await?;
                    // Whoever holds more than there is now gives it back, and whoever was refused may ask again.
                    let holding = row.book.sessions();
                    let told: Vec<_> = holding
                        .iter()
                        .map(|session| (ChangeKind::Recall, subject, session.as_str()))
                        .collect();
                    changes::append(tx, &told, author.now_ms).await?;
                    Ok::<_, ServiceError>(standings(&row.book, &terms, &names, author.now_ms))
                })
            })
            .await?;
        self.hub.poke();
        Ok(standings)
    }

    /// How the capacity `name` stands: a limit of the subject, else all its capacities on that meter.
    pub async fn capacity(&self, subject: &str, name: &str) -> Result<Vec<Standing>, ServiceError> {
        let now_ms = self.clock.now_ms();
        let in_force = self.newest().await?;
        let (row, organization) = self.read_known(subject).await?;
        let terms = Entitled::of(&row, organization.as_ref()).terms(&in_force, now_ms);
        Ok(standings(&row.book, &terms, &names_of(&terms, name)?, now_ms))
    }
}

/// The capacities that `name` names: the limit of this name, else those of the meter of this name.
fn names_of(terms: &Terms, name: &str) -> Result<Vec<String>, ServiceError> {
    let capacities: Vec<&Term> =
        terms.limits.iter().filter(|term| matches!(term.kind, TermKind::Capacity)).collect();
    let named = |is: &dyn Fn(&Term) -> bool| -> Vec<String> {
        capacities.iter().filter(|term| is(term)).map(|term| term.limit.clone()).collect()
    };
    let mut found = named(&|term| term.limit == name);
    if found.is_empty() {
        found = named(&|term| term.meter.as_deref() == Some(name));
    }
    if found.is_empty() {
        let known = named(&|_| true);
        let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
        let message = format!("The subject's tier has no capacity {name:?}; it has: {known}.");
        return Err(ServiceError::invalid(Invalid::LimitUnknown, message));
    }
    Ok(found)
}

fn standings(book: &Book, terms: &Terms, names: &[String], now_ms: i64) -> Vec<Standing> {
    let all = book.standings(terms, now_ms);
    all.into_iter().filter(|standing| names.contains(&standing.limit)).collect()
}

fn used(book: &Book, terms: &Terms, names: &[String], now_ms: i64) -> BTreeMap<String, u64> {
    let named = standings(book, terms, names, now_ms);
    named.into_iter().map(|standing| (standing.limit, standing.used)).collect()
}
