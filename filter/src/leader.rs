//! What one worker does for all workers of an edge: regular syncs, the long poll, fetching the policy, and looking after
//! records that nobody uses any more. Which worker that is, is a lease in shared data.
//!
//! Nothing here is needed to decide a request whose lease suffices. When the leader traps or goes, another takes over and
//! finds everything in shared data.

use std::collections::{HashSet, VecDeque};
use std::rc::Rc;

use tollgate_policy::wire::{SyncResponse, WatchResponse};

use crate::edge::{Edge, InFlight};
use crate::host::{Host, Now};
use crate::records::{BUCKETS, Change, Records};
use crate::sync::{SYNC_SUBJECTS_MAX, prepare_regular};

/// For how long a worker leads without renewing it, ms.
const LEAD_MS: u64 = 2_000;

/// Regular syncs come at this interval, ms: what an edge that dies leaves unbilled.
const SYNC_MS: u64 = 1_000;

/// Without anything to report the session is kept alive at this interval, ms. A few may be lost within a lease's time.
const HEARTBEAT_MS: u64 = 5_000;

/// Syncs on their way at once.
const SYNCS_MAX: usize = 4;

/// Longest time of a long poll, ms: the control plane answers after 25 s.
pub const WATCH_TIMEOUT_MS: u64 = 30_000;

/// After a lost long poll, or policy, the next one is tried after this, ms.
const RETRY_MS: u64 = 500;

/// A subject is looked at again after this, ms: units that were idle for that long go back.
const REVISIT_MS: u64 = 12_000;

/// An idle subject whose numbers must stay for the hour is looked at this seldom, ms.
const REVISIT_IDLE_MS: u64 = 600_000;

/// Buckets that a new leader goes through in one tick.
const SCAN_BUCKETS: u32 = 1_024;

/// Messages that are taken from the queue in one tick.
const MESSAGES_MAX: usize = 256;

/// At most one complaint in the log in this time, ms.
const COMPLAIN_MS: u64 = 5_000;

const LEADER: &str = "tollgate.1.leader";

/// One worker's part in leading.
#[derive(Debug)]
pub struct Leader {
    id: u64,
    leads: bool,
    due: HashSet<Rc<str>>,
    now_due: HashSet<Rc<str>>,
    revisits: VecDeque<(u64, Rc<str>)>,
    idle_revisits: VecDeque<(u64, Rc<str>)>,
    queued: HashSet<Rc<str>>,
    syncs: usize,
    sync_at_ms: u64,
    heard_at_ms: Option<u64>,
    newest_revision: u64,
    policy_busy: bool,
    policy_at_ms: u64,
    watch_busy: bool,
    watch_at_ms: u64,
    watch_after: u64,
    scan_next: u32,
    complained_at_ms: Option<u64>,
}

impl Leader {
    /// A worker that does not lead yet.
    pub fn new(id: u64) -> Self {
        Self {
            id,
            leads: false,
            due: HashSet::new(),
            now_due: HashSet::new(),
            revisits: VecDeque::new(),
            idle_revisits: VecDeque::new(),
            queued: HashSet::new(),
            syncs: 0,
            sync_at_ms: 0,
            heard_at_ms: None,
            newest_revision: 0,
            policy_busy: false,
            policy_at_ms: 0,
            watch_busy: false,
            watch_at_ms: 0,
            watch_after: 0,
            scan_next: 0,
            complained_at_ms: None,
        }
    }

    /// The control plane answered a sync.
    pub fn heard(&mut self, now: Now, response: &SyncResponse) {
        self.syncs = self.syncs.saturating_sub(1);
        self.heard_at_ms = Some(now.mono_ms);
        self.newest_revision = self.newest_revision.max(response.policy_revision);
    }

    /// A call was lost.
    pub fn lost(&mut self, what: &InFlight, now: Now) {
        let retry_ms = now.mono_ms.saturating_add(RETRY_MS + self.id % RETRY_MS);
        match what {
            InFlight::Sync(_) => {
                self.syncs = self.syncs.saturating_sub(1);
                self.sync_at_ms = retry_ms;
            }
            InFlight::Watch => {
                self.watch_busy = false;
                self.watch_at_ms = retry_ms;
            }
            InFlight::Policy => {
                self.policy_busy = false;
                self.policy_at_ms = retry_ms;
            }
            InFlight::Keys => {}
        }
    }

    /// The subject is to be synced at the next tick, whatever its turn.
    pub fn sync_now(&mut self, subject: Rc<str>) {
        self.now_due.insert(subject);
    }

    /// Whether a line in the log is due.
    pub fn may_complain(&mut self, now: Now) -> bool {
        let due = self.complained_at_ms.is_none_or(|at_ms| now.mono_ms >= at_ms.saturating_add(COMPLAIN_MS));
        if due {
            self.complained_at_ms = Some(now.mono_ms);
        }
        due
    }

    /// Takes or renews the lease on leading.
    fn elect(&mut self, host: &dyn Host, now: Now) {
        let (bytes, cas) = host.shared_get(LEADER);
        let current = bytes.and_then(|bytes| {
            let (id, until) = bytes.split_first_chunk::<8>()?;
            Some((u64::from_le_bytes(*id), u64::from_le_bytes(until.try_into().ok()?)))
        });
        let free = current.is_none_or(|(id, until_ms)| id == self.id || now.mono_ms >= until_ms);
        let mut value = [0; 16];
        value[..8].copy_from_slice(&self.id.to_le_bytes());
        value[8..].copy_from_slice(&now.mono_ms.saturating_add(LEAD_MS).to_le_bytes());
        let leads = free && host.shared_swap(LEADER, &value, cas).is_ok();
        if leads && !self.leads {
            self.scan_next = 0;
        }
        self.leads = leads;
    }

    /// Subjects that it is time to look at, and whether they were idle when they were last looked at.
    fn revisit_due(&mut self, now: Now) -> Vec<(Rc<str>, bool)> {
        let mut due = Vec::new();
        for (queue, idle) in [(&mut self.revisits, false), (&mut self.idle_revisits, true)] {
            while let Some((_, subject)) = queue.pop_front_if(|(at_ms, _)| *at_ms <= now.mono_ms) {
                self.queued.remove(&subject);
                due.push((subject, idle));
            }
        }
        due
    }
}

impl Edge {
    /// The regular duties, every tick: of the leader, or of a worker that hands its touched subjects to it.
    pub fn lead(&self, now: Now) {
        let touched = self.take_touched();
        let mut leader = self.leader.borrow_mut();
        leader.elect(&*self.host, now);
        if !leader.leads {
            drop(leader);
            for part in touched.into_iter().collect::<Vec<_>>().chunks(256) {
                self.host.enqueue(part.join("\n").as_bytes());
            }
            return;
        }
        leader.due.extend(touched);
        for _ in 0..MESSAGES_MAX {
            let Some(message) = self.host.dequeue() else { break };
            leader.due.extend(String::from_utf8_lossy(&message).split('\n').map(Rc::from));
        }
        if leader.scan_next < BUCKETS {
            let start = leader.scan_next;
            leader.scan_next = (start + SCAN_BUCKETS).min(BUCKETS);
            for bucket in start..leader.scan_next {
                leader.due.extend(Records::subjects_in(&*self.host, bucket).into_iter().map(Rc::from));
            }
        }
        let revisits = leader.revisit_due(now);
        drop(leader);
        self.fetch_policy(now);
        self.watch(now);
        self.revisit(now, revisits);
        self.sync_due(now);
        self.gauge(now);
    }

    fn fetch_policy(&self, now: Now) {
        let mut leader = self.leader.borrow_mut();
        let known = self.policy_revision().max(self.refused_revision());
        if leader.policy_busy
            || now.mono_ms < leader.policy_at_ms
            || (known > 0 && leader.newest_revision <= known)
        {
            return;
        }
        leader.policy_busy = true;
        leader.policy_at_ms = now.mono_ms.saturating_add(RETRY_MS);
        drop(leader);
        self.call("GET", "/edge/v1/policy", &[], InFlight::Policy);
    }

    fn watch(&self, now: Now) {
        let mut leader = self.leader.borrow_mut();
        if leader.watch_busy || now.mono_ms < leader.watch_at_ms {
            return;
        }
        leader.watch_busy = true;
        let path = format!(
            "/edge/v1/watch?session={}&after={}&revision={}",
            self.session.id(),
            leader.watch_after,
            self.policy_revision().max(self.refused_revision())
        );
        drop(leader);
        self.call("GET", &path, &[], InFlight::Watch);
    }

    /// The long poll's answer: what it names is synced at once, and the next one is sent.
    pub fn on_watch(&self, body: &[u8], now: Now) {
        let mut leader = self.leader.borrow_mut();
        leader.watch_busy = false;
        match serde_json::from_slice::<WatchResponse>(body) {
            Ok(response) => {
                leader.watch_after = response.after;
                leader.newest_revision = leader.newest_revision.max(response.policy_revision);
                leader.now_due.extend(response.subjects.iter().map(|subject| Rc::from(subject.as_str())));
            }
            Err(_) => leader.watch_at_ms = now.mono_ms.saturating_add(RETRY_MS),
        }
        drop(leader);
        self.fetch_policy(now);
        self.sync_due(now);
        self.watch(now);
    }

    /// The policy's answer is here, good or not.
    pub fn on_policy_answer(&self) {
        self.leader.borrow_mut().policy_busy = false;
    }

    /// A subject with idle units gives them back at its next sync. One without is left alone for long, and then synced,
    /// so that what is over and told is dropped.
    fn revisit(&self, now: Now, subjects: Vec<(Rc<str>, bool)>) {
        for (subject, was_idle) in subjects {
            let holds = self.holds_units(&subject, now);
            let mut leader = self.leader.borrow_mut();
            match holds {
                Some(true) => drop(leader.now_due.insert(subject)),
                Some(false) if was_idle => drop(leader.now_due.insert(subject)),
                Some(false) if leader.queued.insert(subject.clone()) => {
                    leader.idle_revisits.push_back((now.mono_ms.saturating_add(REVISIT_IDLE_MS), subject));
                }
                _ => {}
            }
        }
    }

    /// Whether the subject's record holds units that are free; `None` when there is no record.
    fn holds_units(&self, subject: &str, now: Now) -> Option<bool> {
        let key = self.records.key(subject);
        let found = Records::update(&*self.host, &key, subject, |record| {
            let holds = record.map(|mut record| {
                record.accounts.iter_mut().any(|account| {
                    account.rest.expire(now.mono_ms);
                    account.free() > 0
                })
            });
            (Change::Keep, holds)
        });
        found.ok().flatten()
    }

    fn sync_due(&self, now: Now) {
        let mut leader = self.leader.borrow_mut();
        if now.mono_ms >= leader.sync_at_ms {
            let due = std::mem::take(&mut leader.due);
            leader.now_due.extend(due);
            leader.sync_at_ms = now.mono_ms.saturating_add(SYNC_MS);
        }
        let room = SYNCS_MAX.saturating_sub(leader.syncs) * SYNC_SUBJECTS_MAX;
        let mut subjects: Vec<Rc<str>> = leader.now_due.iter().take(room).cloned().collect();
        for subject in &subjects {
            leader.now_due.remove(subject);
        }
        // Only subjects that this edge has a record of: a change may name one that it dropped.
        drop(leader);
        subjects.retain(|subject| self.holds_units(subject, now).is_some());
        if subjects.is_empty() {
            return self.keep_alive(now);
        }
        let mut leader = self.leader.borrow_mut();
        leader.syncs += subjects.len().div_ceil(SYNC_SUBJECTS_MAX);
        for subject in &subjects {
            if leader.queued.insert(subject.clone()) {
                leader.revisits.push_back((now.mono_ms.saturating_add(REVISIT_MS), subject.clone()));
            }
        }
        drop(leader);
        let unsent = self.send_sync(&subjects, now, &|record| prepare_regular(record, now));
        self.leader.borrow_mut().due.extend(unsent);
    }

    fn keep_alive(&self, now: Now) {
        let mut leader = self.leader.borrow_mut();
        let silent = leader.heard_at_ms.is_none_or(|at_ms| now.mono_ms >= at_ms.saturating_add(HEARTBEAT_MS));
        if silent && leader.syncs == 0 && now.mono_ms >= leader.sync_at_ms.saturating_sub(SYNC_MS) {
            leader.syncs += 1;
            leader.sync_at_ms = now.mono_ms.saturating_add(SYNC_MS);
            drop(leader);
            self.dispatch_sync(self.session.id(), false, Vec::new(), now);
        }
    }

    fn gauge(&self, now: Now) {
        let leader = self.leader.borrow();
        let age_ms = leader.heard_at_ms.map_or(u64::MAX, |at_ms| now.mono_ms.saturating_sub(at_ms));
        self.metrics.set(&*self.host, "tollgate.sync.age_ms", age_ms);
        self.metrics.set(&*self.host, "tollgate.lease.valid_ms", self.session.valid_for_ms(now));
        self.metrics.set(&*self.host, "tollgate.subjects.followed", leader.queued.len() as u64);
        self.metrics.set(
            &*self.host,
            "tollgate.subjects.due",
            (leader.due.len() + leader.now_due.len()) as u64,
        );
    }
}
