//! Things: what exists of a capacity and has an id. Edges tell of each addition and removal as an event with a number, in
//! order; each is applied once, however often it is told. An addition of what is there replaces it, and a removal of what
//! is not there changes nothing, so that no deletion frees twice.

use std::collections::{BTreeMap, BTreeSet};

use tollgate_policy::document::{UNITS_MAX, is_name};
use tollgate_policy::lease::{Things, ThingsApplied, apply_things};
use tollgate_policy::thing::ThingId;
use tollgate_policy::wire::{SubjectReport, ThingReport};

use super::entitled::Entitled;
use super::sync::is_subject;
use super::{ControlPlane, Invalid, ServiceError};
use crate::store::audit::Author;
use crate::store::subjects::BookWrite;
use crate::store::things::{ThingKey, ThingSum};
use crate::store::{StoreError, Tx, audit, subjects, things};

/// Most things of one import.
pub const IMPORT_MAX: usize = 1_000;

/// Largest number of an event: what the store can hold.
const SEQ_MAX: u64 = i64::MAX as u64;

/// Longest id of a thing, in characters.
pub const ID_CHARS_MAX: usize = 1_024;

/// What a sync's reports say of things, on what is there.
#[derive(Debug, Default)]
pub(super) struct Told {
    subjects: BTreeMap<String, Subject>,
}

/// A subject of which a report tells things.
#[derive(Debug, Default)]
struct Subject {
    /// Up to which event the session was heard.
    seq: u64,
    /// What was there of all that the reports name, and what is there now.
    before: Things,
    after: Things,
}

impl Told {
    /// Reads what is there of all that the reports name; nothing is asked where they name none.
    pub(super) async fn read(
        tx: &mut Tx<'_>,
        session: &str,
        reports: &[SubjectReport],
    ) -> Result<Self, StoreError> {
        let telling = || reports.iter().filter(|r| !r.things.is_empty() && is_subject(&r.subject));
        let names: BTreeSet<&str> = telling().map(|report| report.subject.as_str()).collect();
        if names.is_empty() {
            return Ok(Self::default());
        }
        let key = |report: &SubjectReport, event: &ThingReport| ThingKey {
            subject: report.subject.clone(),
            meter: event.meter.clone(),
            id: event.id,
        };
        let keys: BTreeSet<ThingKey> = telling()
            .flat_map(|report| report.things.iter().filter(|e| is_thing(e)).map(move |e| key(report, e)))
            .collect();
        let mut subjects: BTreeMap<String, Subject> = BTreeMap::new();
        let names: Vec<&str> = names.into_iter().collect();
        for (name, seq) in things::heard(tx, session, &names).await? {
            subjects.entry(name).or_default().seq = u64::try_from(seq).unwrap_or_default();
        }
        let keys: Vec<ThingKey> = keys.into_iter().collect();
        for (key, units) in things::find(tx, &keys).await? {
            let units = u64::try_from(units).unwrap_or_default();
            subjects.entry(key.subject).or_default().before.insert((key.meter, key.id), units);
        }
        subjects.values_mut().for_each(|subject| subject.after.clone_from(&subject.before));
        Ok(Self { subjects })
    }

    /// Applies a report's events that were not heard yet; answers the units that they release, by meter.
    pub(super) fn apply(&mut self, report: &SubjectReport) -> ThingsApplied {
        if report.things.is_empty() || !is_subject(&report.subject) {
            return ThingsApplied::default();
        }
        // What cannot be a thing changes nothing, and is heard all the same: it would be told for ever.
        let (mut events, odd): (Vec<_>, Vec<_>) = report.things.iter().cloned().partition(is_thing);
        events.sort_by_key(|event| event.seq);
        let subject = self.subjects.entry(report.subject.clone()).or_default();
        let mut applied = apply_things(&mut subject.after, subject.seq, &events);
        let odd = odd.iter().map(|event| event.seq).filter(|seq| *seq <= SEQ_MAX).max();
        applied.seq = applied.seq.max(odd.unwrap_or_default());
        subject.seq = applied.seq;
        applied
    }

    /// Writes what changed.
    pub(super) async fn write(&self, tx: &mut Tx<'_>, session: &str) -> Result<(), StoreError> {
        if self.subjects.is_empty() {
            return Ok(());
        }
        let mut changed = BTreeMap::new();
        for (name, subject) in &self.subjects {
            let keys: BTreeSet<_> = subject.before.keys().chain(subject.after.keys()).collect();
            for place in keys {
                let (before, after) = (subject.before.get(place), subject.after.get(place));
                if before != after {
                    let (meter, id) = place.clone();
                    let units = after.map(|units| i64::try_from(*units).unwrap_or(i64::MAX));
                    changed.insert(ThingKey { subject: name.clone(), meter, id }, units);
                }
            }
        }
        things::write(tx, &changed).await?;
        let heard = self
            .subjects
            .iter()
            .map(|(name, subject)| (name.as_str(), i64::try_from(subject.seq).unwrap_or(i64::MAX)));
        things::note_heard(tx, session, &heard.collect()).await
    }
}

/// Whether an event names what can be a thing.
fn is_thing(event: &ThingReport) -> bool {
    event.seq <= SEQ_MAX && is_name(&event.meter) && event.units <= UNITS_MAX
}

/// A thing to be imported.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Import {
    /// The meter.
    pub meter: String,
    /// Its id as the application knows it.
    pub id: String,
    /// Its units.
    pub units: u64,
}

/// What an import did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Imported {
    /// Things that were not there.
    pub added: usize,
    /// Things that were there with other units.
    pub changed: usize,
    /// All things of the subject now, by meter.
    pub sums: Vec<ThingSum>,
}

impl ControlPlane {
    /// Makes `imports` what is there of their ids. Repeating it changes nothing.
    pub async fn import_things(
        &self,
        author: &Author,
        subject: &str,
        imports: &[Import],
    ) -> Result<Imported, ServiceError> {
        let in_force = &self.newest().await?;
        let policy = in_force.policy.as_ref().ok_or_else(|| {
            ServiceError::invalid(Invalid::NoPolicy, "Apply a policy first: it says which meters there are.")
        })?;
        let wish = &keys_of(subject, imports, &policy.compiled.meters)?;
        let (added, changed) = self
            .database
            .transact("import things", |tx| {
                Box::pin(async move {
                    let (mut row, organization) = self.lock_known(tx, subject).await?;
                    let keys: Vec<ThingKey> = wish.keys().cloned().collect();
                    let there = things::find(tx, &keys).await?;
                    let differs = |(key, units): &(&ThingKey, &i64)| there.get(*key) != Some(*units);
                    let news: BTreeMap<ThingKey, Option<i64>> =
                        wish.iter().filter(differs).map(|(key, units)| (key.clone(), Some(*units))).collect();
                    let changed = news.keys().filter(|key| there.contains_key(*key)).count();
                    if !news.is_empty() {
                        things::write(tx, &news).await?;
                        let terms = Entitled::of(&row, organization.as_ref()).terms(in_force, author.now_ms);
                        for (key, units) in &news {
                            let units = units.and_then(|units| u64::try_from(units).ok()).unwrap_or_default();
                            let before = there.get(key).and_then(|units| u64::try_from(*units).ok());
                            row.book.import(&terms, &key.meter, units);
                            row.book.release(&terms, &key.meter, before.unwrap_or_default(), author.now_ms);
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
                        let after = Some(summary(&news));
                        audit::append(tx, author, "things.import", subject, None, after.as_ref()).await?;
                    }
                    Ok::<_, ServiceError>((news.len() - changed, changed))
                })
            })
            .await?;
        Ok(Imported { added, changed, sums: things::sums(&self.database, subject).await? })
    }
}

/// The places of imports with their units, or what is wrong with one.
fn keys_of(
    subject: &str,
    imports: &[Import],
    meters: &[String],
) -> Result<BTreeMap<ThingKey, i64>, ServiceError> {
    let invalid = |message: String| Err(ServiceError::invalid(Invalid::Things, message));
    if imports.is_empty() || imports.len() > IMPORT_MAX {
        return invalid(format!("Send 1 to {IMPORT_MAX} things at a time; there were {}.", imports.len()));
    }
    let mut keys = BTreeMap::new();
    for import in imports {
        let Import { meter, id, units } = import;
        if !meters.contains(meter) {
            let known = meters.join(", ");
            return invalid(format!("The policy in force has no meter {meter:?}; it has: {known}."));
        }
        if id.is_empty() || id.chars().count() > ID_CHARS_MAX {
            return invalid(format!("Give each thing an id of 1 to {ID_CHARS_MAX} characters."));
        }
        if !(1..=UNITS_MAX).contains(units) {
            return invalid(format!("Give {id:?} 1 to {UNITS_MAX} units."));
        }
        let key =
            ThingKey { subject: subject.to_owned(), meter: meter.clone(), id: ThingId::of(id.as_bytes()) };
        if keys.insert(key, i64::try_from(*units).unwrap_or(i64::MAX)).is_some() {
            return invalid(format!("Name {id:?} of {meter:?} once."));
        }
    }
    Ok(keys)
}

/// What the audit log keeps: how many things of each meter, with how many units. Their ids are not readable anyway.
fn summary(things: &BTreeMap<ThingKey, Option<i64>>) -> serde_json::Value {
    let mut meters: BTreeMap<&str, (usize, i64)> = BTreeMap::new();
    for (key, units) in things {
        let sum = meters.entry(&key.meter).or_default();
        *sum = (sum.0 + 1, sum.1.saturating_add(units.unwrap_or_default()));
    }
    let meters = meters.into_iter().map(|(meter, (count, units))| {
        (meter.to_owned(), serde_json::json!({ "things": count, "units": units }))
    });
    serde_json::Value::Object(meters.collect())
}
