//! Usage that does not pass Envoy, recorded by the program that knows it: each key of a source counts once. It is in the
//! ledger, and in invoices; it uses up no limit, which is for edges to do.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use serde_json::json;
use tollgate_policy::document::UNITS_MAX;

use super::{AHEAD_MS_MAX, check_key, check_meter, labels_text};
use crate::calendar::{DAY_MS, hour_of};
use crate::service::entitled::check_known_subject;
use crate::service::{ControlPlane, Invalid, ServiceError};
use crate::store::audit::Author;
use crate::store::usage::recorded::{self, Recorded, SESSION};
use crate::store::usage::{UsageWrite, add, sent};
use crate::store::{audit, subjects};

/// Most entries of one request.
pub const ENTRIES_MAX: usize = 1_000;

/// How late usage may be recorded, days.
pub const LATE_DAYS_MAX: i64 = 35;

/// How long after the usage its key is kept, days: longer than the same may be recorded again.
pub const KEY_DAYS: i64 = 40;

/// What a program used, or saw used.
#[derive(Debug, Clone)]
pub struct Entry {
    /// Names the entry among those of its source.
    pub key: String,
    /// The subject.
    pub subject: String,
    /// The meter.
    pub meter: String,
    /// How much.
    pub units: u64,
    /// When.
    pub at: Timestamp,
    /// What its units are told apart by.
    pub labels: BTreeMap<String, String>,
}

/// What came of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Outcome {
    /// Entries that count from now on.
    pub recorded: usize,
    /// Entries that were recorded before, with the same values.
    pub repeated: usize,
}

impl ControlPlane {
    /// Records usage, all entries or none. Repeating it is harmless.
    pub async fn record_usage(
        &self,
        author: &Author,
        source: &str,
        entries: &[Entry],
    ) -> Result<Outcome, ServiceError> {
        let given = self.check_entries(author, source, entries).await?;
        let (given, source) = (given.as_slice(), &source);
        let recorded = self
            .database
            .transact("record usage", |tx| {
                Box::pin(async move {
                    let names: BTreeSet<&str> = given.iter().map(|entry| entry.subject.as_str()).collect();
                    subjects::lock(tx, &names.into_iter().collect::<Vec<_>>()).await?;
                    let fresh: BTreeSet<_> = recorded::insert(tx, given).await?.into_iter().collect();
                    let is_fresh =
                        |entry: &&Recorded| fresh.contains(&(entry.source.clone(), entry.key.clone()));
                    let known: Vec<&Recorded> = given.iter().filter(|entry| !is_fresh(entry)).collect();
                    for there in recorded::read(tx, &known).await? {
                        if !known.contains(&&there) {
                            return Err(ServiceError::KeyConflict(there.key));
                        }
                    }
                    let usage = usage_of(given.iter().filter(is_fresh));
                    if add(tx, SESSION, &usage).await? > i64::try_from(UNITS_MAX).unwrap_or(i64::MAX) {
                        let message =
                            format!("Record at most {UNITS_MAX} units of one subject and meter in an hour.");
                        return Err(ServiceError::invalid(Invalid::Usage, message));
                    }
                    sent::note(tx, &usage).await?;
                    if !fresh.is_empty() {
                        let after = json!({ "entries": fresh.len(), "repeated": known.len() });
                        audit::append(tx, author, "usage.record", source, None, Some(&after)).await?;
                    }
                    Ok(fresh.len())
                })
            })
            .await?;
        Ok(Outcome { recorded, repeated: entries.len() - recorded })
    }

    /// The entries as they are kept, each key once and in order.
    async fn check_entries(
        &self,
        author: &Author,
        source: &str,
        entries: &[Entry],
    ) -> Result<Vec<Recorded>, ServiceError> {
        let refused = |message: String| ServiceError::invalid(Invalid::Usage, message);
        check_key("source", source)?;
        if entries.is_empty() || entries.len() > ENTRIES_MAX {
            return Err(refused(format!("Record 1 to {ENTRIES_MAX} entries at once.")));
        }
        let in_force = self.newest().await?;
        let Some(policy) = &in_force.policy else {
            return Err(ServiceError::invalid(
                Invalid::NoPolicy,
                "Apply a policy first: it names the meters.",
            ));
        };
        let mut kept: BTreeMap<&str, Recorded> = BTreeMap::new();
        for entry in entries {
            check_key("key", &entry.key)?;
            check_known_subject(&entry.subject)?;
            check_meter(&entry.meter)?;
            let key = &entry.key;
            if !policy.compiled.meters.contains(&entry.meter) {
                let meter = &entry.meter;
                return Err(refused(format!("{key:?}: the policy in force has no meter {meter:?}.")));
            }
            if entry.units == 0 || entry.units > UNITS_MAX {
                let sentence = "To take usage back, make a correction.";
                return Err(refused(format!("{key:?}: record 1 to {UNITS_MAX} units. {sentence}")));
            }
            let at_ms = entry.at.as_millisecond();
            let oldest_ms = author.now_ms.saturating_sub(LATE_DAYS_MAX * DAY_MS);
            if at_ms < oldest_ms.max(0) || at_ms > author.now_ms.saturating_add(AHEAD_MS_MAX) {
                let sentence =
                    format!("record usage of the last {LATE_DAYS_MAX} days, and none of the future.");
                return Err(refused(format!("{key:?}: {sentence}")));
            }
            let recorded = Recorded {
                source: source.to_owned(),
                key: key.clone(),
                subject: entry.subject.clone(),
                meter: entry.meter.clone(),
                labels: labels_text(&entry.labels)?,
                at_ms,
                units: i64::try_from(entry.units).unwrap_or(i64::MAX),
            };
            if kept.get(key.as_str()).is_some_and(|other| *other != recorded) {
                return Err(ServiceError::KeyConflict(key.clone()));
            }
            kept.insert(key, recorded);
        }
        Ok(kept.into_values().collect())
    }
}

/// Entries by hour.
fn usage_of<'a>(entries: impl Iterator<Item = &'a Recorded>) -> Vec<UsageWrite<'a>> {
    let mut hours: BTreeMap<(&str, i64, &str, &str), i64> = BTreeMap::new();
    for entry in entries {
        let key = (entry.subject.as_str(), hour_of(entry.at_ms), entry.meter.as_str(), entry.labels.as_str());
        let taken = hours.entry(key).or_default();
        *taken = taken.saturating_add(entry.units);
    }
    hours
        .into_iter()
        .map(|((subject, hour_ms, meter, labels), taken)| UsageWrite {
            subject,
            hour_ms,
            meter,
            labels,
            taken,
            freed: 0,
        })
        .collect()
}
