//! A control plane in memory, of the real lease arithmetic: it does what the real one does in its transaction.

use std::collections::{BTreeMap, BTreeSet};

use tollgate_policy::compile::CompiledPolicy;
use tollgate_policy::document::{PolicyDocument, Scope};
use tollgate_policy::lease::{Book, Terms, Things, apply_things};
use tollgate_policy::subject::organization_of;
use tollgate_policy::subscription::{Entitlements, Grant, Subscription};
use tollgate_policy::wire::{
    DenialReport, PolicyBundle, SubjectAnswer, SyncRequest, SyncResponse, WIRE_VERSION, WatchResponse,
};

/// For how long leases are valid, ms.
pub const LEASE_TTL_MS: u64 = 30_000;
/// How much longer the control plane waits before it closes a silent session, ms.
pub const MARGIN_MS: i64 = 5_000;
/// Longest long poll, ms.
pub const WATCH_MS: u64 = 25_000;

#[derive(Default)]
struct Row {
    book: Book,
    entitlements: Entitlements,
    /// As edges are told.
    told: Entitlements,
    revision: u64,
    things: Things,
    /// The last event that was heard, by session.
    things_seq: BTreeMap<String, u64>,
    claim: Option<String>,
}

struct Session {
    heard_ms: i64,
    closed: bool,
}

/// Usage of one meter of a subject, by session, hour and labels: `(taken, freed)`.
type Ledger = BTreeMap<(String, String), BTreeMap<(String, i64, String), (u64, u64)>>;

pub struct Plane {
    pub document: PolicyDocument,
    pub revision: u64,
    compiled: CompiledPolicy,
    rows: BTreeMap<String, Row>,
    sessions: BTreeMap<String, Session>,
    ledger: Ledger,
    /// Subject, and the session that it concerns, or all.
    changes: Vec<(String, Option<String>)>,
    pub lease_ttl_ms: u64,
    /// Every session is told that it is closed.
    pub closes_always: bool,
    pub wire_version: u32,
    /// Bundles are cut in the middle.
    pub breaks_policies: bool,
    pub syncs: Vec<SyncRequest>,
    /// Refusals by what they are told apart by, as `hour subject code limit route`, and by reporter.
    denials: BTreeMap<(String, String), u64>,
    pub asked_for_keys: Vec<String>,
    pub watches: usize,
    pub policies: usize,
}

impl Plane {
    pub fn new(document: PolicyDocument) -> Self {
        let compiled = CompiledPolicy::compile(&document, 1).unwrap();
        Self {
            document,
            revision: 1,
            compiled,
            rows: BTreeMap::new(),
            sessions: BTreeMap::new(),
            ledger: BTreeMap::new(),
            changes: Vec::new(),
            lease_ttl_ms: LEASE_TTL_MS,
            closes_always: false,
            breaks_policies: false,
            wire_version: WIRE_VERSION,
            syncs: Vec::new(),
            denials: BTreeMap::new(),
            asked_for_keys: Vec::new(),
            watches: 0,
            policies: 0,
        }
    }

    pub fn apply(&mut self, document: PolicyDocument) {
        self.compiled = CompiledPolicy::compile(&document, self.revision + 1).unwrap();
        self.apply_unchecked(document);
    }

    /// As a control plane with a defect would.
    pub fn apply_unchecked(&mut self, document: PolicyDocument) {
        self.revision += 1;
        self.document = document;
    }

    pub fn subscribe(&mut self, subject: &str, subscription: Option<Subscription>) {
        let row = self.rows.entry(subject.to_owned()).or_default();
        row.entitlements.subscription = subscription;
        row.revision += 1;
        self.changes.push((subject.to_owned(), None));
    }

    pub fn give(&mut self, subject: &str, id: &str, limit: &str, units: u64, expires_at_ms: Option<i64>) {
        let row = self.rows.entry(subject.to_owned()).or_default();
        let (id, limit) = (id.to_owned(), limit.to_owned());
        row.entitlements.grants.push(Grant { id, limit, units, burnt: 0, expires_at_ms });
        row.revision += 1;
        self.changes.push((subject.to_owned(), None));
    }

    /// Units of a grant that are used up.
    pub fn burnt(&self, subject: &str, id: &str) -> u64 {
        self.rows.get(subject).map_or(0, |row| row.book.burnt(id))
    }

    pub fn bypass(&mut self, subject: &str, until_ms: i64) {
        let row = self.rows.entry(subject.to_owned()).or_default();
        row.entitlements.bypass_until_ms = Some(until_ms);
        row.revision += 1;
        self.changes.push((subject.to_owned(), None));
    }

    pub fn bundle(&mut self) -> Vec<u8> {
        self.policies += 1;
        let bundle = PolicyBundle {
            version: self.wire_version,
            revision: self.revision,
            policy: self.document.clone(),
        };
        let mut body = serde_json::to_vec(&bundle).unwrap();
        if self.breaks_policies {
            body.truncate(100);
        }
        body
    }

    /// Closes the sessions that were silent for too long.
    pub fn sweep(&mut self, now_ms: i64) {
        let patience_ms = self.lease_ttl_ms.cast_signed() + MARGIN_MS;
        let silent: Vec<String> = self
            .sessions
            .iter()
            .filter(|(_, session)| !session.closed && now_ms - session.heard_ms >= patience_ms)
            .map(|(id, _)| id.clone())
            .collect();
        silent.iter().for_each(|id| self.close(id));
    }

    pub fn close_all(&mut self) {
        let ids: Vec<String> = self.sessions.keys().cloned().collect();
        ids.iter().for_each(|id| self.close(id));
    }

    fn close(&mut self, id: &str) {
        let Some(session) = self.sessions.get_mut(id) else { return };
        if session.closed {
            return;
        }
        session.closed = true;
        let (heard_ms, ttl_ms) = (session.heard_ms, self.lease_ttl_ms + MARGIN_MS.cast_unsigned());
        for row in self.rows.values_mut() {
            row.book.close(id, heard_ms, ttl_ms);
        }
    }

    pub fn sync(&mut self, request: &SyncRequest, now_ms: i64) -> SyncResponse {
        self.sweep(now_ms);
        self.syncs.push(request.clone());
        for denial in &request.denials {
            let DenialReport { hour, subject, code, limit, route, .. } = denial;
            let key = (format!("{hour} {subject} {code} {limit} {route}"), denial.reporter.clone());
            let count = self.denials.entry(key).or_default();
            *count = denial.count.max(*count);
        }
        let id = &request.session;
        let session = self.sessions.entry(id.clone()).or_insert(Session { heard_ms: now_ms, closed: false });
        let was_closed = session.closed;
        if !was_closed {
            session.heard_ms = now_ms;
        }
        let mut subjects = Vec::new();
        let names: BTreeSet<&str> = request.subjects.iter().map(|s| s.subject.as_str()).collect();
        assert_eq!(names.len(), request.subjects.len(), "a subject comes twice in one sync");
        for report in &request.subjects {
            for usage in &report.usage {
                let ledger = self.ledger.entry((report.subject.clone(), usage.meter.clone())).or_default();
                let entry = ledger.entry((id.clone(), usage.hour, usage.labels.clone())).or_default();
                *entry = (entry.0.max(usage.taken), entry.1.max(usage.freed));
            }
            // Limits of each member come from what its organisation has.
            let organization = organization_of(&report.subject);
            let scope = if organization.is_some() { Scope::Member } else { Scope::Subject };
            let payer = organization.as_ref().and_then(|name| self.rows.get(name));
            let payer = payer.map(|row| (row.entitlements.subscription.clone(), row.claim.clone()));
            let row = self.rows.entry(report.subject.clone()).or_default();
            let mut accounts = Vec::new();
            if was_closed {
                row.book.settle(id, &report.accounts, request.last);
            } else if request.last {
                row.book.close(id, now_ms, self.lease_ttl_ms + MARGIN_MS.cast_unsigned());
                row.book.settle(id, &report.accounts, true);
            } else {
                row.claim.clone_from(&report.tier_claim);
                let own = (row.entitlements.subscription.clone(), row.claim.clone());
                let (subscription, claim) =
                    if organization.is_some() { payer.unwrap_or_default() } else { own };
                let terms = Terms::of(
                    &self.compiled,
                    subscription.as_ref(),
                    claim.as_deref(),
                    scope,
                    &row.entitlements.grants,
                    now_ms,
                );
                let heard_seq = row.things_seq.entry(id.clone()).or_default();
                let applied = apply_things(&mut row.things, *heard_seq, &report.things);
                *heard_seq = applied.seq;
                for (meter, units) in applied.released {
                    row.book.release(&terms, &meter, units, now_ms);
                }
                let answer = row.book.sync(id, &report.accounts, &terms, now_ms);
                let told = answer.recalled.into_iter().map(|other| (report.subject.clone(), Some(other)));
                self.changes.extend(told);
                accounts = answer.accounts;
                row.told = row.entitlements.clone();
                row.revision += u64::from(row.book.tell(&terms, &mut row.told.grants, now_ms));
            }
            row.book.prune(now_ms);
            let things_seq = row.things_seq.get(id).copied().unwrap_or(0);
            subjects.push(SubjectAnswer {
                subject: report.subject.clone(),
                entitlements: (!report.has_entitlements(row.revision)).then(|| row.told.clone()),
                revision: row.revision,
                things_seq,
                accounts,
            });
        }
        if request.last {
            self.close(id);
        }
        SyncResponse {
            version: self.wire_version,
            closed: was_closed || request.last || self.closes_always,
            lease_ttl_ms: self.lease_ttl_ms,
            now_ms,
            policy_revision: self.revision,
            subjects,
        }
    }

    /// What has changed for a session, or nothing yet.
    pub fn watch(&self, session: &str, after: u64, revision: u64) -> Option<WatchResponse> {
        let subjects: BTreeSet<String> = self
            .changes
            .iter()
            .skip(usize::try_from(after).unwrap())
            .filter(|(subject, whose)| match whose {
                Some(whose) => whose == session,
                None => {
                    self.rows.get(subject).is_some_and(|row| row.book.sessions().iter().any(|s| s == session))
                }
            })
            .map(|(subject, _)| subject.clone())
            .collect();
        (revision != self.revision || !subjects.is_empty())
            .then(|| self.watched(subjects.into_iter().collect()))
    }

    /// What the end of a long poll answers.
    pub fn watched(&self, subjects: Vec<String>) -> WatchResponse {
        WatchResponse {
            version: WIRE_VERSION,
            after: self.changes.len() as u64,
            policy_revision: self.revision,
            subjects,
        }
    }

    /// Units of a meter that the ledger has for a subject.
    pub fn billed(&self, subject: &str, meter: &str) -> u64 {
        let ledger = self.ledger.get(&(subject.to_owned(), meter.to_owned()));
        ledger.map_or(0, |by| by.values().map(|(taken, freed)| taken - freed).sum())
    }

    /// How often what was refused, by what it is told apart by.
    pub fn refused(&self) -> BTreeMap<String, u64> {
        let mut sums = BTreeMap::new();
        for ((refused, _), count) in &self.denials {
            *sums.entry(refused.clone()).or_insert(0) += count;
        }
        sums
    }

    /// The same by labels; those that come to nothing are left out.
    pub fn billed_by(&self, subject: &str, meter: &str) -> BTreeMap<String, u64> {
        let mut sums = BTreeMap::new();
        let ledger = self.ledger.get(&(subject.to_owned(), meter.to_owned()));
        for ((_, _, labels), (taken, freed)) in ledger.into_iter().flatten() {
            *sums.entry(labels.clone()).or_insert(0) += taken - freed;
        }
        sums.retain(|_, units| *units > 0);
        sums
    }

    /// Units of a limit that are held or charged now.
    pub fn committed(&self, subject: &str, limit: &str, window: i64, now_ms: i64) -> u64 {
        self.rows.get(subject).map_or(0, |row| row.book.committed(limit, window, now_ms))
    }

    pub fn open_sessions(&self) -> usize {
        self.sessions.values().filter(|session| !session.closed).count()
    }
}
