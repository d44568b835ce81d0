//! Reports of subjects to the control plane, and what its answers change.
//!
//! A report is made of the record as it is at that moment; an answer is merged into that same record, or dropped.

use std::collections::BTreeMap;
use std::io::Write;
use std::rc::Rc;

use tollgate_policy::lease::{Account, AccountKind, Record, SessionId};
use tollgate_policy::wire::{
    DenialReport, SubjectAnswer, SubjectReport, SyncRequest, SyncResponse, WIRE_VERSION,
};

use crate::edge::{Edge, InFlight};
use crate::host::Now;
use crate::records::{Change, Records, Stuck};

/// Most subjects in one sync: some 100 KiB.
pub const SYNC_SUBJECTS_MAX: usize = 500;

/// Most bytes of reports in one sync, since labels make them long. The control plane reads at most 8 MiB by default; what
/// it refuses would come again, as long, for ever.
pub const SYNC_BYTES_MAX: usize = 2 * 1_024 * 1_024;

/// A unit that was not needed for this long goes back, ms.
const IDLE_MS: u64 = 10_000;

/// A subject that has this many times the units which it used since the last report need not be reported soon.
const ROOMY: u64 = 8;

/// An account used within this time keeps half of what it is asked to give back, ms.
const BUSY_MS: u64 = 1_000;

/// The record of one report of a sync that is on its way.
#[derive(Debug)]
struct Told {
    subject: Rc<str>,
    born_ms: u64,
    /// Its leases cover what it uses for long.
    roomy: bool,
}

/// Reports, and the records that they are of.
#[derive(Debug, Default)]
struct Batch {
    reports: Vec<SubjectReport>,
    told: Vec<Told>,
}

impl Batch {
    /// Takes as many reports as one sync may have, at least one.
    fn take_part(&mut self) -> Self {
        // One always fits; it may be one that a request waits for.
        if self.told.len() == 1 {
            return std::mem::take(self);
        }
        let mut bytes = 0_usize;
        let fits = |report: &&SubjectReport| {
            bytes = bytes.saturating_add(length_of(report));
            bytes <= SYNC_BYTES_MAX
        };
        let count = self.reports.iter().rev().take(SYNC_SUBJECTS_MAX).take_while(fits).count().max(1);
        let at = self.told.len().saturating_sub(count);
        Self { reports: self.reports.split_off(at), told: self.told.split_off(at) }
    }
}

/// Counts what is written, and keeps nothing.
struct Length(usize);

impl Write for Length {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0 = self.0.saturating_add(bytes.len());
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

fn length_of(report: &SubjectReport) -> usize {
    let mut length = Length(0);
    match serde_json::to_writer(&mut length, report) {
        Ok(()) => length.0,
        Err(_) => SYNC_BYTES_MAX,
    }
}

/// Why subjects are reported.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Occasion {
    /// Requests, or other edges, wait for it.
    Urgent,
    /// Something was used since the last report, or the session is kept alive.
    Regular,
    /// Nobody used these subjects for a while: a record without anything to remember is dropped. On any other occasion
    /// a request may be about to use it.
    Unused,
}

/// A sync that is on its way.
#[derive(Debug)]
pub struct SyncInFlight {
    session: SessionId,
    request: SyncRequest,
    occasion: Occasion,
    sent_ms: u64,
    /// One for each report of the request.
    told: Vec<Told>,
}

impl SyncInFlight {
    /// Whether it counts among the leader's.
    pub fn is_urgent(&self) -> bool {
        self.occasion == Occasion::Urgent
    }

    /// The refusals that it reports.
    pub fn denials(&self) -> &[DenialReport] {
        &self.request.denials
    }

    /// The subjects that it is about.
    pub fn subjects(&self) -> impl Iterator<Item = &Rc<str>> {
        self.told.iter().map(|told| &told.subject)
    }
}

/// What an answer means for the requests that wait for a subject.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// It was merged.
    Merged {
        /// Units are being recalled from other edges: asking again in a moment may help.
        pending: bool,
        /// It has changed by the answer: units were given back that it asked for, or what was taken before the first answer can
        /// be told now. Say so at once.
        untold: bool,
    },
    /// The record was not that of the report any more, or begins anew: ask again.
    Again,
}

impl Edge {
    /// Sends reports of `subjects`, in as many syncs as it takes. `prepare` changes the record before it is reported and
    /// says how many units each account wants on top. Answers the subjects whose record could not be written.
    pub fn send_sync(
        &self,
        subjects: &[Rc<str>],
        now: Now,
        occasion: Occasion,
        prepare: &dyn Fn(&mut Record) -> Vec<u64>,
    ) -> Vec<Rc<str>> {
        let mut by_session: BTreeMap<[u8; 16], Batch> = BTreeMap::new();
        let mut stuck = Vec::new();
        self.session.join(&*self.host);
        let current = self.session.id();
        for subject in subjects {
            let key = self.records.key(subject);
            let told = Records::update(&*self.host, &key, subject, |record| {
                // A change may name a subject that this edge dropped; only a request that waits makes it anew.
                let known = record.as_ref().map(shape);
                if known.is_none() && occasion != Occasion::Urgent {
                    return (Change::Keep, None);
                }
                let mut record = record.unwrap_or_else(|| Record::new(subject, current, now.mono_ms));
                // Numbers of a session that was replaced are final: nothing is prepared, wanted or given back.
                let more = if record.session == current { prepare(&mut record) } else { Vec::new() };
                let mut more = more.into_iter();
                let report = match record.session == current {
                    true => record.report_open(|_| more.next().unwrap_or(0)),
                    false => record.report(|_| 0),
                };
                let roomy =
                    occasion == Occasion::Regular && record.session == current && is_roomy(&record, now);
                let told = Told { subject: subject.clone(), born_ms: record.born_ms, roomy };
                let session = record.session;
                let change = if known == Some(shape(&record)) { Change::Keep } else { Change::Put(record) };
                (change, Some((session, told, report)))
            });
            match told {
                Ok(Some((session, told, report))) => {
                    let batch = by_session.entry(session.0).or_default();
                    batch.told.push(told);
                    batch.reports.push(report);
                }
                Ok(None) => {}
                Err(Stuck) => stuck.push(subject.clone()),
            }
        }
        // Only now is it certain that a record of another session is of an older one: a worker that has not heard of the
        // newest would report that one as over, and its units would be granted again while they are used.
        self.session.join(&*self.host);
        let current = self.session.id();
        for (session, mut batch) in by_session {
            let session = SessionId(session);
            while !batch.told.is_empty() {
                self.dispatch_sync(session, session != current, occasion, batch.take_part(), now);
            }
        }
        stuck
    }

    /// Sends a sync that only keeps the session alive.
    pub fn send_heartbeat(&self, now: Now) {
        self.dispatch_sync(self.session.id(), false, Occasion::Regular, Batch::default(), now);
    }

    fn dispatch_sync(&self, session: SessionId, last: bool, occasion: Occasion, batch: Batch, now: Now) {
        let Batch { reports: subjects, told } = batch;
        // Nobody waits for a regular one; what is lost with it is told again.
        let denials = match occasion {
            Occasion::Regular if !last => self.denials.report(now),
            _ => Vec::new(),
        };
        let session_id = session.to_string();
        let request = SyncRequest { version: WIRE_VERSION, session: session_id, last, subjects, denials };
        let Ok(body) = serde_json::to_vec(&request) else { return };
        let sync = SyncInFlight { session, request, occasion, sent_ms: now.mono_ms, told };
        if !sync.is_urgent() {
            self.leader.borrow_mut().sends();
        }
        self.call("POST", "/edge/v1/sync", &body, InFlight::Sync(sync));
    }

    /// Merges the response of a sync; answers each subject's effect.
    pub fn apply_sync(
        &self,
        sync: &SyncInFlight,
        response: &SyncResponse,
        now: Now,
    ) -> Vec<(Rc<str>, Effect)> {
        if response.closed && !sync.request.last {
            self.session.replace(&*self.host, sync.session);
            return sync.told.iter().map(|told| (told.subject.clone(), Effect::Again)).collect();
        }
        if !sync.request.last {
            let until_ms = sync.sent_ms.saturating_add(response.lease_ttl_ms);
            self.session.extend(&*self.host, sync.session, until_ms);
        }
        let mut answers = response.subjects.iter();
        let mut effect = |told: &Told, report: &SubjectReport| match answers.next() {
            Some(answer) if *told.subject == *answer.subject => {
                if sync.request.last {
                    self.begin_anew(sync, told, report, now)
                } else {
                    self.merge(sync, told, report, answer, now)
                }
            }
            _ => Effect::Again,
        };
        let told = sync.told.iter().zip(&sync.request.subjects);
        let mut leader = self.leader.borrow_mut();
        let apply = |(told, report): (&Told, &SubjectReport)| {
            let effect = effect(told, report);
            if told.roomy && matches!(effect, Effect::Merged { untold: false, .. }) {
                leader.slow_down(&told.subject, now);
            }
            (told.subject.clone(), effect)
        };
        told.map(apply).collect()
    }

    fn merge(
        &self,
        sync: &SyncInFlight,
        told: &Told,
        report: &SubjectReport,
        answer: &SubjectAnswer,
        now: Now,
    ) -> Effect {
        let key = self.records.key(&told.subject);
        let merged = Records::update(&*self.host, &key, &told.subject, |record| {
            let Some(mut record) = record.filter(|r| r.session == sync.session && r.born_ms == told.born_ms)
            else {
                return (Change::Keep, Effect::Again);
            };
            let was_known = record.known;
            record.merge(report, answer, sync.sent_ms, now.mono_ms);
            // What was taken before the first answer is told on top of it.
            let mut untold = !was_known && !record.is_told(report);
            for answer in answer.accounts.iter().filter(|answer| answer.recall) {
                let at = record.account(&answer.limit, answer.window);
                if let Some(account) = at.and_then(|at| record.accounts.get_mut(at)) {
                    untold |= give_back_recalled(account, now);
                }
            }
            record.forget_told(report, now.wall_ms);
            let pending = answer.accounts.iter().any(|account| account.pending);
            let effect = Effect::Merged { pending, untold };
            let unused = sync.occasion == Occasion::Unused;
            if unused && record.is_told(report) && record.is_idle(now.mono_ms) {
                (Change::Remove, effect)
            } else {
                (Change::Put(record), effect)
            }
        });
        merged.unwrap_or(Effect::Again)
    }

    /// The final numbers of an old session have arrived: the record begins anew in the current one, unless something
    /// came in between that must be told first.
    fn begin_anew(&self, sync: &SyncInFlight, told: &Told, report: &SubjectReport, now: Now) -> Effect {
        let key = self.records.key(&told.subject);
        let session = self.session.id();
        let changed = Records::update(&*self.host, &key, &told.subject, |record| match record {
            Some(record)
                if record.session == sync.session
                    && record.born_ms == told.born_ms
                    && record.is_told(report) =>
            {
                (Change::Put(Record::new(&told.subject, session, now.mono_ms)), ())
            }
            _ => (Change::Keep, ()),
        });
        let _: Result<(), Stuck> = changed;
        Effect::Again
    }
}

/// What preparing a report may change: accounts are opened, and units given back.
fn shape(record: &Record) -> (usize, u64) {
    let returned = record.accounts.iter().fold(0_u64, |sum, account| sum.wrapping_add(account.returned));
    (record.accounts.len(), returned)
}

/// Whether each limit leaves many times what was used of it since the last report. What rests must have been expired.
fn is_roomy(record: &Record, now: Now) -> bool {
    record.accounts.iter().all(|account| {
        let recent = account.taken.saturating_sub(account.told);
        now.wall_ms >= account.window_end_ms || account.free() >= recent.saturating_mul(ROOMY)
    })
}

/// Gives back what another edge needs: all that is idle, or half of it while this edge uses the account itself.
fn give_back_recalled(account: &mut Account, now: Now) -> bool {
    account.settle(now.mono_ms);
    let free = account.free();
    let busy = now.mono_ms < account.used_at_ms.saturating_add(BUSY_MS);
    account.give_back(if busy { free.div_ceil(2) } else { free }) > 0
}

/// Prepares a record for the regular sync: idle units go back, and what was used since the last sync is wanted twice
/// again, for this sync and the next.
pub fn prepare_regular(record: &mut Record, now: Now) -> Vec<u64> {
    record
        .accounts
        .iter_mut()
        .map(|account| {
            if account.window_end_ms <= now.wall_ms {
                return 0;
            }
            account.settle(now.mono_ms);
            let recent = account.taken.saturating_sub(account.told);
            // Of a capacity nothing is kept in stock: what a killed edge held of it would stay charged.
            if recent > 0 && account.kind != AccountKind::Capacity {
                return account.missing(recent.saturating_mul(2));
            }
            if now.mono_ms >= account.used_at_ms.saturating_add(IDLE_MS) {
                let free = account.free();
                account.give_back(free);
            }
            0
        })
        .collect()
}
