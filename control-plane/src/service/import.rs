//! Moving in: subscriptions of users whom another system knew, and archives of what they had there. A batch is one
//! transaction; a row that cannot be imported is told and does not keep the others back. Repeating an import changes
//! nothing, and nobody's subscription is replaced unless that is asked for.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value as Json;
use tollgate_policy::document::Maximum;
use tollgate_policy::subscription::{Subscription, SubscriptionState};

use super::archives::{Archived, archive_in};
use super::subscriptions::{check_subject, write_in};
use super::{ControlPlane, InForce, Invalid, ServiceError};
use crate::store::audit::Author;
use crate::store::{Retry, StoreError, Tx, subjects};

/// Most rows of one batch.
pub const ROWS_MAX: usize = 1_000;

/// Most archives of one row.
pub const ARCHIVES_MAX: usize = 16;

/// A user whom another system knew.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct ImportRow {
    /// Who: `user:alice`.
    pub subject: String,
    /// The tier it gets; nothing: it gets no subscription.
    pub tier: Option<String>,
    /// Default: active.
    pub state: SubscriptionState,
    /// Start of the first billing period, Unix ms. Default: the one it has, else now.
    pub anchor_ms: Option<i64>,
    /// From this moment (Unix ms) the tier is no longer in force.
    pub expires_at_ms: Option<i64>,
    /// End of the trial, Unix ms.
    pub trial_ends_at_ms: Option<i64>,
    /// Since when it is of its tier, Unix ms. Default: now.
    pub tier_since_ms: Option<i64>,
    /// Maximums of this subject alone.
    pub overrides: BTreeMap<String, Maximum>,
    /// What it had, by kind.
    pub archives: BTreeMap<String, Json>,
}

/// How a batch is imported.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ImportOptions {
    /// Replace subscriptions and archives that differ; else they are kept.
    pub replace: bool,
    /// Only tell what would be done.
    pub dry_run: bool,
}

/// What became of a row.
#[derive(Debug, Clone, PartialEq)]
pub enum Outcome {
    /// It has a subscription now, and had none.
    Created,
    /// It had another subscription, which was replaced.
    Replaced,
    /// It had this very subscription.
    Unchanged,
    /// It has another subscription, which was kept.
    Kept,
    /// No tier was asked for.
    Unsubscribed,
    /// Nothing of it was imported; why.
    Failed(Invalid, String),
}

/// What became of a batch.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Imported {
    /// Of each row, in their order.
    pub rows: Vec<Outcome>,
    /// Archives that were added or replaced.
    pub archived: usize,
}

/// Why a batch was not committed.
enum Stop {
    Service(ServiceError),
    /// That was all that was asked for.
    Dry(Imported),
}

impl From<StoreError> for Stop {
    fn from(error: StoreError) -> Self {
        Self::Service(error.into())
    }
}

impl Retry for Stop {
    fn is_conflict(&self) -> bool {
        matches!(self, Self::Service(error) if error.is_conflict())
    }
}

impl ControlPlane {
    /// Imports a batch of at most [`ROWS_MAX`] rows. A row that could not even be read comes as an error, and is told with
    /// the others.
    pub async fn import(
        &self,
        author: &Author,
        rows: &[Result<ImportRow, String>],
        options: ImportOptions,
    ) -> Result<Imported, ServiceError> {
        if rows.is_empty() || rows.len() > ROWS_MAX {
            let message = format!("Send 1 to {ROWS_MAX} rows at a time.");
            return Err(ServiceError::invalid(Invalid::Import, message));
        }
        let in_force = &self.newest().await?;
        if in_force.policy.is_none() {
            let message = "Apply a policy first: it says which tiers there are.";
            return Err(ServiceError::invalid(Invalid::NoPolicy, message));
        }
        let done = self
            .database
            .transact("import", |tx| {
                Box::pin(async move {
                    let imported =
                        import_in(tx, in_force, author, rows, options).await.map_err(Stop::Service)?;
                    match options.dry_run {
                        // An error, so that all of it is undone: what a dry run tells is what the import would do.
                        true => Err(Stop::Dry(imported)),
                        false => Ok(imported),
                    }
                })
            })
            .await;
        match done {
            Ok(imported) => {
                self.hub.poke();
                Ok(imported)
            }
            Err(Stop::Dry(imported)) => Ok(imported),
            Err(Stop::Service(error)) => Err(error),
        }
    }
}

async fn import_in(
    tx: &mut Tx<'_>,
    in_force: &InForce,
    author: &Author,
    rows: &[Result<ImportRow, String>],
    options: ImportOptions,
) -> Result<Imported, ServiceError> {
    // All at once and in their order, before anything else is locked: so that two batches, or a batch and a change of one
    // subject, wait for each other instead of meeting.
    let names: BTreeSet<&str> = rows.iter().flatten().map(|row| row.subject.as_str()).collect();
    let names: Vec<&str> = names.into_iter().filter(|name| check_subject(name).is_ok()).collect();
    let known = subjects::lock(tx, &names).await?;
    let mut seen = BTreeSet::new();
    let mut imported = Imported::default();
    for row in rows {
        let done = match row {
            Ok(row) if !seen.insert(row.subject.as_str()) => {
                Err(ServiceError::invalid(Invalid::Import, "The subject is named by an earlier row already."))
            }
            Ok(row) => {
                let before = known.get(&row.subject).and_then(|known| known.subscription.as_ref());
                let before = before.map(|before| before.at(author.now_ms).into_owned());
                // A part, so that a row is imported as a whole or not at all.
                tx.begin_part().await?;
                let done = import_row(tx, in_force, author, row, before.as_ref(), options).await;
                tx.end_part(done.is_ok()).await?;
                done
            }
            Err(why) => Err(ServiceError::invalid(Invalid::Import, why.clone())),
        };
        match done {
            Ok((outcome, archived)) => {
                imported.rows.push(outcome);
                imported.archived += archived;
            }
            Err(ServiceError::Invalid { rule, message }) => {
                imported.rows.push(Outcome::Failed(rule, message));
            }
            Err(error) => return Err(error),
        }
    }
    Ok(imported)
}

/// Imports a row.
async fn import_row(
    tx: &mut Tx<'_>,
    in_force: &InForce,
    author: &Author,
    row: &ImportRow,
    before: Option<&Subscription>,
    options: ImportOptions,
) -> Result<(Outcome, usize), ServiceError> {
    check_subject(&row.subject)?;
    if row.archives.len() > ARCHIVES_MAX {
        let message = format!("Give at most {ARCHIVES_MAX} archives a row.");
        return Err(ServiceError::invalid(Invalid::Import, message));
    }
    let outcome = match &row.tier {
        None => Outcome::Unsubscribed,
        Some(tier) => {
            let wished = wished(row, tier, before, author.now_ms);
            match before {
                Some(before) if *before == wished => Outcome::Unchanged,
                Some(_) if !options.replace => Outcome::Kept,
                before => {
                    let outcome = if before.is_some() { Outcome::Replaced } else { Outcome::Created };
                    let make = |_: Option<&Subscription>| Ok(wished.clone());
                    write_in(tx, in_force, author, &row.subject, "subscription.import", make).await?;
                    outcome
                }
            }
        }
    };
    let mut archived = 0;
    for (kind, data) in &row.archives {
        let done = archive_in(tx, author, (&row.subject, kind, data), options.replace).await?;
        archived += usize::from(done != Archived::Unchanged);
    }
    Ok((outcome, archived))
}

/// The subscription that a row asks for. What a row cannot say stays as it is.
fn wished(row: &ImportRow, tier: &str, before: Option<&Subscription>, now_ms: i64) -> Subscription {
    let same_tier = before.filter(|before| before.tier == tier);
    Subscription {
        tier: tier.to_owned(),
        state: row.state,
        anchor_ms: row.anchor_ms.or(before.map(|before| before.anchor_ms)).unwrap_or(now_ms),
        expires_at_ms: row.expires_at_ms,
        trial_ends_at_ms: row.trial_ends_at_ms,
        period_ends_at_ms: same_tier.and_then(|before| before.period_ends_at_ms),
        tier_since_ms: row.tier_since_ms.or(same_tier.and_then(|before| before.tier_since_ms)),
        changes: same_tier.map(|before| before.changes.clone()).unwrap_or_default(),
        held: None,
        overrides: row.overrides.clone(),
    }
}
