//! `sync`: an edge reports what it used and wants, and is granted leases. One transaction checks the limits and grants;
//! it costs the same few statements for one subject as for a thousand.
//!
//! The arithmetic is `policy::lease::Book`; here is only what surrounds it: which session is open, which subject's row
//! is locked, what is written back.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use tollgate_policy::document::{UNITS_MAX, is_name};
use tollgate_policy::labels;
use tollgate_policy::lease::{Book, Terms, ThingsApplied};
use tollgate_policy::subscription::Entitlements;
use tollgate_policy::window::CALENDAR_END_MS;
use tollgate_policy::wire::{
    SYNC_DENIALS_MAX, SYNC_SUBJECTS_MAX, SubjectAnswer, SubjectReport, SyncRequest, SyncResponse,
    WIRE_VERSION,
};

use super::entitled::{Entitled, Organization, organizations_in};
use super::happenings::{self, Happening};
use super::members::organization_of;
use super::things::Told;
use super::thresholds::Passage;
use super::{ControlPlane, InForce, Invalid, ServiceError};
use crate::calendar::{HOUR_MS, hour_of};
use crate::store::changes::ChangeKind;
use crate::store::denials::DenialWrite;
use crate::store::sessions::Beat;
use crate::store::subjects::{BookWrite, SubjectRow};
use crate::store::usage::UsageWrite;
use crate::store::{StoreError, Tx, changes, denials, sessions, subjects, usage};

/// Most accounts and things of one subject in one report. A tier has at most 64 limits, each with two windows around its
/// border.
const ENTRIES_MAX: usize = 512;

/// Most usage entries of one subject in one report: one for each of 200 meters and each hour that was not told yet, and
/// those that an edge tells apart by labels besides.
const USAGE_ENTRIES_MAX: usize = 4_096;

/// Longest name of a route, limit or code in a report of denials, bytes.
const DENIAL_TEXT_BYTES_MAX: usize = 2_048;

/// How often a sync starts anew because the configuration rose under it.
const REFRESHES_MAX: usize = 4;

/// Longest subject, in characters after its kind.
const SUBJECT_CHARS_MAX: usize = 256;

/// Whether this can be a subject: `user:…`, `org:…` or `anon:…` with 1 to 256 characters, none of them a control
/// character, or `member:<organisation>/<user>`.
pub fn is_subject(text: &str) -> bool {
    let name = ["user:", "org:", "anon:"].iter().find_map(|kind| text.strip_prefix(kind));
    name.map_or_else(|| organization_of(text).is_some(), is_name_of_subject)
}

/// Whether this can stand after a subject's kind.
pub(super) fn is_name_of_subject(name: &str) -> bool {
    !name.is_empty() && name.chars().count() <= SUBJECT_CHARS_MAX && !name.chars().any(char::is_control)
}

/// Whether this can be a session: 32 hex digits in small letters.
pub fn is_session(text: &str) -> bool {
    text.len() == 32 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

enum Outcome {
    Done {
        closed: bool,
        answers: Vec<SubjectAnswer>,
        counts: Counts,
    },
    /// The configuration rose; read it outside of the transaction and start anew.
    Stale,
}

#[derive(Default, Clone, Copy)]
struct Counts {
    grants: u64,
    units: u64,
    recalls: u64,
    /// Entries of usage that came too late to be counted once.
    too_late: u64,
}

/// What a sync reads around its subjects' rows.
struct Around {
    beat: Beat,
    /// Closed sessions, with the moment each was last heard.
    closed: BTreeMap<String, i64>,
    /// The organisations of members.
    organizations: BTreeMap<String, Organization>,
}

/// What a sync does besides.
#[derive(Default)]
struct Effects {
    counts: Counts,
    /// Subjects and sessions that must give units back.
    recalled: Vec<(String, String)>,
    /// What others are told.
    happenings: Vec<Happening>,
}

impl ControlPlane {
    /// Merges what an edge reports, grants what it wants within the limits, and answers. Repeating it is harmless.
    /// `remote` is the edge's address, for people.
    pub async fn sync(&self, request: &SyncRequest, remote: &str) -> Result<SyncResponse, ServiceError> {
        check_request(request)?;
        let mut in_force = self.in_force();
        for _ in 0..REFRESHES_MAX {
            let now_ms = self.clock.now_ms();
            let sync = &Sync { plane: self, request, in_force: &in_force, now_ms };
            let outcome = self
                .database
                .transact("sync", |tx| Box::pin(async move { sync.run(tx, remote).await }))
                .await?;
            let Outcome::Done { closed, answers, counts } = outcome else {
                in_force = self.refresh().await?;
                continue;
            };
            self.metrics.syncs.inc();
            self.metrics.sync_subjects.observe(answers.len() as f64);
            self.metrics.grants.inc_by(counts.grants);
            self.metrics.granted_units.inc_by(counts.units);
            self.metrics.recalls.inc_by(counts.recalls);
            if counts.too_late > 0 {
                self.metrics.usage_too_late.inc_by(counts.too_late);
                let (entries, session) = (counts.too_late, request.session.as_str());
                tracing::warn!(entries, session, "left out usage of months whose days are gone");
            }
            if counts.recalls > 0 {
                self.hub.poke();
            }
            return Ok(SyncResponse {
                version: WIRE_VERSION,
                closed,
                lease_ttl_ms: self.settings.lease_ttl_ms,
                now_ms,
                policy_revision: in_force.revision,
                subjects: answers,
            });
        }
        Err(ServiceError::Busy("The configuration is changing. Try again in a moment."))
    }
}

fn check_request(request: &SyncRequest) -> Result<(), ServiceError> {
    if request.version != WIRE_VERSION {
        let message = format!(
            "This control plane speaks version {WIRE_VERSION} of the edge's messages, not {}. Run the same release on \
             both sides.",
            request.version
        );
        return Err(ServiceError::invalid(Invalid::WireVersion, message));
    }
    check_session(&request.session)?;
    if request.subjects.len() > SYNC_SUBJECTS_MAX {
        let message = format!(
            "Send at most {SYNC_SUBJECTS_MAX} subjects in one sync; there were {}.",
            request.subjects.len()
        );
        return Err(ServiceError::invalid(Invalid::TooManySubjects, message));
    }
    if request.denials.len() > SYNC_DENIALS_MAX {
        let message = format!("Send at most {SYNC_DENIALS_MAX} denials in one sync.");
        return Err(ServiceError::invalid(Invalid::Report, message));
    }
    let is_long = |s: &&SubjectReport| {
        s.accounts.len() > ENTRIES_MAX || s.things.len() > ENTRIES_MAX || s.usage.len() > USAGE_ENTRIES_MAX
    };
    let long = request.subjects.iter().find(is_long);
    match long {
        Some(report) => {
            let message = format!(
                "Send at most {ENTRIES_MAX} accounts and things, and {USAGE_ENTRIES_MAX} usage entries, of {:?}.",
                report.subject
            );
            Err(ServiceError::invalid(Invalid::Report, message))
        }
        None => Ok(()),
    }
}

/// Refuses what cannot be a session.
pub(super) fn check_session(session: &str) -> Result<(), ServiceError> {
    match is_session(session) {
        true => Ok(()),
        false => {
            Err(ServiceError::invalid(Invalid::Session, "Send a session of 32 hex digits in small letters."))
        }
    }
}

struct Sync<'a> {
    plane: &'a ControlPlane,
    request: &'a SyncRequest,
    in_force: &'a Arc<InForce>,
    now_ms: i64,
}

impl Sync<'_> {
    /// May run twice; so it changes nothing but through `tx`.
    async fn run(&self, tx: &mut Tx<'_>, remote: &str) -> Result<Outcome, ServiceError> {
        let session = self.request.session.as_str();
        let beat = sessions::beat(tx, session, remote, self.now_ms).await?;
        if u64::try_from(beat.revision).ok() != Some(self.in_force.revision) {
            return Ok(Outcome::Stale);
        }
        // A subject that cannot be one gets no units, and does not spoil the batch for the others.
        let names: BTreeSet<&str> =
            self.request.subjects.iter().map(|s| s.subject.as_str()).filter(|s| is_subject(s)).collect();
        let names: Vec<&str> = names.into_iter().collect();
        let before = match names.is_empty() {
            true => BTreeMap::new(),
            false => subjects::lock(tx, &names).await?,
        };
        let around = Around {
            beat,
            closed: self.closed_sessions(tx, &before, &beat).await?,
            organizations: organizations_in(tx, &names).await?,
        };
        let mut things = Told::read(tx, session, &self.request.subjects).await?;
        let mut after = before.clone();
        let mut effects = Effects::default();
        let unknown = Book::default();
        let mut answers = Vec::with_capacity(self.request.subjects.len());
        for report in &self.request.subjects {
            let mut nobody = SubjectRow::default();
            let row = match is_subject(&report.subject) {
                true => after.entry(report.subject.clone()).or_default(),
                false => &mut nobody,
            };
            let told = things.apply(report);
            let known = before.get(&report.subject).map_or(&unknown, |row| &row.book);
            answers.push(self.apply(report, row, known, &told, &around, &mut effects));
        }
        effects.counts.too_late = self.write(tx, &before, &after).await?;
        denials::merge(tx, &denials_of(self.request)).await?;
        things.write(tx, session).await?;
        if self.request.last && beat.closed_ms.is_none() {
            sessions::close(tx, session, self.now_ms).await?;
        }
        let Effects { mut counts, mut recalled, happenings } = effects;
        happenings::note(tx, self.now_ms, &happenings).await?;
        recalled.sort();
        recalled.dedup();
        counts.recalls = recalled.len() as u64;
        let changes: Vec<(ChangeKind, &str, &str)> = recalled
            .iter()
            .map(|(subject, session)| (ChangeKind::Recall, subject.as_str(), session.as_str()))
            .collect();
        changes::append(tx, &changes, self.now_ms).await?;
        let closed = beat.closed_ms.is_some() || self.request.last;
        Ok(Outcome::Done { closed, answers, counts })
    }

    /// The closed ones among the sessions that know the subjects, with the moment each was last heard.
    async fn closed_sessions(
        &self,
        tx: &mut Tx<'_>,
        rows: &BTreeMap<String, SubjectRow>,
        beat: &Beat,
    ) -> Result<BTreeMap<String, i64>, StoreError> {
        let mut named: BTreeSet<String> = rows.values().flat_map(SubjectRow::knowing).collect();
        match beat.closed_ms {
            Some(_) => named.insert(self.request.session.clone()),
            None => named.remove(&self.request.session),
        };
        let named: Vec<&str> = named.iter().map(String::as_str).collect();
        sessions::closed_among(tx, &named).await
    }

    fn apply(
        &self,
        report: &SubjectReport,
        row: &mut SubjectRow,
        known: &Book,
        told: &ThingsApplied,
        around: &Around,
        effects: &mut Effects,
    ) -> SubjectAnswer {
        let session = self.request.session.as_str();
        let ttl_ms = self.plane.session_ttl_ms();
        for named in row.knowing() {
            if let Some(heard_ms) = around.closed.get(&named) {
                row.book.close(&named, *heard_ms, ttl_ms);
                row.sessions.remove(&named);
            }
        }
        let is_open = around.beat.closed_ms.is_none() && !self.request.last;
        if is_open {
            row.sessions.insert(session.to_owned());
            row.tier_claim = report.tier_claim.clone().filter(|claim| is_name(claim));
        }
        let organization = around.organizations.get(&report.subject);
        let terms = Entitled::of(row, organization).terms(self.in_force, self.now_ms);
        // Before anything is granted: what was released may be granted again.
        for (meter, units) in &told.released {
            row.book.release(&terms, meter, *units, self.now_ms);
        }
        let mut accounts = Vec::new();
        if around.beat.closed_ms.is_some() {
            row.book.settle(session, &report.accounts, self.request.last);
        } else if self.request.last {
            row.book.close(session, self.now_ms, ttl_ms);
            row.book.settle(session, &report.accounts, true);
            row.sessions.remove(session);
        } else {
            let committed = |book: &Book| -> Vec<u64> {
                let of = |a: &tollgate_policy::wire::AccountReport| {
                    book.committed(&a.limit, a.window, self.now_ms)
                };
                report.accounts.iter().map(of).collect()
            };
            let before = committed(&row.book);
            let answer = row.book.sync(session, &report.accounts, &terms, self.now_ms);
            for (before, after) in before.into_iter().zip(committed(&row.book)) {
                effects.counts.grants += u64::from(after > before);
                effects.counts.units += after.saturating_sub(before);
            }
            let recalled = answer.recalled.into_iter();
            effects.recalled.extend(recalled.map(|session| (report.subject.clone(), session)));
            accounts = answer.accounts;
        }
        let entitlements = self.settle_grants(row, &terms);
        let passage = Passage {
            subject: &report.subject,
            before: known,
            after: &row.book,
            terms: &terms,
            now_ms: self.now_ms,
        };
        passage.thresholds(&mut effects.happenings);
        passage.hits(&report.accounts, &accounts, &mut effects.happenings);
        row.book.prune(self.now_ms);
        let revision = u64::try_from(row.subscription_revision).unwrap_or_default();
        SubjectAnswer {
            subject: report.subject.clone(),
            // What the edge has already is left out.
            entitlements: (report.revision != Some(revision)).then_some(entitlements),
            revision,
            things_seq: told.seq,
            accounts,
        }
    }

    /// Writes down what is burnt of the subject's grants, and answers what its edges are told it is entitled to. That has
    /// a new revision where other windows burn more than before.
    fn settle_grants(&self, row: &mut SubjectRow, terms: &Terms) -> Entitlements {
        if row.grants.is_empty() && !row.book.has_drawn() {
            return row.entitlements();
        }
        row.book.draw(terms, self.now_ms);
        for grant in &mut row.grants {
            grant.burnt = row.book.burnt(&grant.id);
        }
        let mut told = row.entitlements();
        if row.book.tell(terms, &mut told.grants, self.now_ms) {
            row.subscription_revision += 1;
        }
        told
    }

    /// Answers how many entries of usage came too late.
    async fn write(
        &self,
        tx: &mut Tx<'_>,
        before: &BTreeMap<String, SubjectRow>,
        after: &BTreeMap<String, SubjectRow>,
    ) -> Result<u64, StoreError> {
        let books: Vec<BookWrite<'_>> = after
            .iter()
            .filter(|(subject, row)| before.get(*subject) != Some(row))
            .map(|(subject, row)| BookWrite {
                subject,
                book: &row.book,
                grants: &row.grants,
                revision: row.subscription_revision,
                tier_claim: row.tier_claim.as_deref(),
                sessions: &row.sessions,
            })
            .collect();
        subjects::write_books(tx, &books, self.now_ms).await?;
        let used = usage_of(self.request);
        let merged = usage::merge(tx, &self.request.session, &used).await?;
        // What is of this hour was not sent anywhere yet.
        let past: Vec<_> = used.into_iter().filter(|entry| entry.hour_ms < hour_of(self.now_ms)).collect();
        usage::sent::note(tx, &past).await?;
        Ok(merged.too_late)
    }
}

/// The usage of a report, each subject, hour, meter and labels once. What cannot be usage is left out: names that no meter
/// can have, labels that no edge writes, hours that do not start at an hour.
fn usage_of(request: &SyncRequest) -> Vec<UsageWrite<'_>> {
    let mut merged: BTreeMap<(&str, i64, &str, &str), (i64, i64)> = BTreeMap::new();
    for report in request.subjects.iter().filter(|report| is_subject(&report.subject)) {
        for usage in &report.usage {
            let is_hour = usage.hour >= 0 && usage.hour < CALENDAR_END_MS && usage.hour % HOUR_MS == 0;
            if !is_name(&usage.meter) || !is_hour || labels::parse(&usage.labels).is_none() {
                continue;
            }
            // An hour of one session holds no more than a limit may: sums of what callers claim must not overflow.
            let bounded = |units: u64| i64::try_from(units.min(UNITS_MAX)).unwrap_or(i64::MAX);
            let (taken, freed) = (bounded(usage.taken), bounded(usage.freed));
            let key = (report.subject.as_str(), usage.hour, usage.meter.as_str(), usage.labels.as_str());
            let merged = merged.entry(key).or_default();
            *merged = (merged.0.max(taken), merged.1.max(freed));
        }
    }
    merged
        .into_iter()
        .map(|((subject, hour_ms, meter, labels), (taken, freed))| UsageWrite {
            subject,
            hour_ms,
            meter,
            labels,
            taken,
            freed,
        })
        .collect()
}

/// The denials of a report, each key once. What cannot be one is left out, so that it does not spoil the batch.
fn denials_of(request: &SyncRequest) -> Vec<DenialWrite<'_>> {
    let is_text = |text: &str| text.len() <= DENIAL_TEXT_BYTES_MAX && !text.chars().any(char::is_control);
    let mut merged: BTreeMap<_, i64> = BTreeMap::new();
    for denial in &request.denials {
        let is_hour = (0..CALENDAR_END_MS).contains(&denial.hour) && denial.hour % HOUR_MS == 0;
        let is_known = denial.subject.is_empty() || is_subject(&denial.subject);
        let texts = [&denial.code, &denial.limit, &denial.route];
        if is_hour && is_known && is_session(&denial.reporter) && texts.into_iter().all(|text| is_text(text))
        {
            let [code, limit_name, route] = texts.map(String::as_str);
            let key =
                (denial.subject.as_str(), denial.hour, code, limit_name, route, denial.reporter.as_str());
            let count = i64::try_from(denial.count.min(UNITS_MAX)).unwrap_or(i64::MAX);
            let merged = merged.entry(key).or_default();
            *merged = (*merged).max(count);
        }
    }
    merged
        .into_iter()
        .map(|((subject, hour_ms, code, limit_name, route, reporter), count)| DenialWrite {
            subject,
            hour_ms,
            code,
            limit_name,
            route,
            reporter,
            count,
        })
        .collect()
}
