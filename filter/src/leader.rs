//! What one worker does for all workers of an edge: regular syncs, the long poll, fetching the policy, and looking after
//! records that nobody uses any more. Which worker that is, is a lease in shared data.
//!
//! Nothing here is needed to decide a request whose lease suffices. When the leader traps or goes, another takes over and
//! finds everything in shared data.

use std::collections::{BTreeSet, HashMap, HashSet, VecDeque};
use std::rc::Rc;

use tollgate_policy::decision::limits_nobody;
use tollgate_policy::lease::SessionId;
use tollgate_policy::wire::{SyncResponse, WIRE_VERSION, WatchResponse};

use crate::edge::{Edge, InFlight};
use crate::host::{Host, Now};
use crate::records::{BUCKETS, Change, Records, Stuck};
use crate::sync::{Occasion, SYNC_SUBJECTS_MAX, SyncInFlight, prepare_regular};

/// For how long a worker leads without renewing it, ms.
const LEAD_MS: u64 = 2_000;

/// Regular syncs come at this interval, ms, as long as one holds all that is due; then in turn. What an edge that dies
/// leaves unbilled.
const SYNC_MS: u64 = 1_000;

/// A subject that can wait is reported again after this, ms; with its turn it is told within ten seconds.
const SLOW_SYNC_MS: u64 = 8_000;

/// Without anything to report the session is kept alive at this interval, ms. A few may be lost within a lease's time.
const HEARTBEAT_MS: u64 = 5_000;

/// Syncs on their way at once.
const SYNCS_MAX: usize = 4;

/// Longest time of a long poll, ms: the control plane answers after 25 s.
pub const WATCH_TIMEOUT_MS: u64 = 30_000;

/// Long polls are at least this far apart, ms, however fast they are answered.
const WATCH_MS_MIN: u64 = 50;

/// After a lost long poll, or policy, the next one is tried after this, ms.
const RETRY_MS: u64 = 500;

/// A subject is looked at again after this, ms: units that were idle for that long go back.
const REVISIT_MS: u64 = 12_000;

/// An idle subject whose numbers must stay for the hour is looked at this seldom, ms.
const REVISIT_IDLE_MS: u64 = 600_000;

/// Buckets that a new leader goes through in one tick.
const SCAN_BUCKETS: u32 = 1_024;

/// Buckets that a leader goes through again in one tick, for records that nobody told it of: all in four minutes.
const RESCAN_BUCKETS: u32 = 64;

/// Buckets that an edge which stands alone sweeps in one tick.
const SWEEP_BUCKETS: u32 = 256;

/// Messages that are taken from the queue in one tick.
const MESSAGES_MAX: usize = 256;

/// At most one complaint in the log in this time, ms.
const COMPLAIN_MS: u64 = 5_000;

const LEADER: &str = "tollgate.1.leader";

/// When a subject is reported again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Pace {
    /// As soon as it is used.
    Usual,
    /// As soon as it is used; nobody used it since it was looked at before.
    Idle,
    /// When it is looked at, if it is used until then.
    Slow {
        /// It was used.
        used: bool,
    },
}

/// One worker's part in leading.
#[derive(Debug)]
pub struct Leader {
    id: u64,
    /// When this worker's root context was made, monotonic ms.
    made_ms: u64,
    leads: bool,
    /// The session whose records were all looked for.
    session: SessionId,
    /// Touched subjects in the order in which they came, each once.
    due: VecDeque<Rc<str>>,
    due_set: HashSet<Rc<str>>,
    /// Those whose turn is now, before all others. With whether nobody used the subject since it was looked at last.
    now_due: HashMap<Rc<str>, bool>,
    /// When each subject is looked at again.
    followed: HashMap<Rc<str>, (u64, Pace)>,
    /// How many of them are slow.
    slow: usize,
    /// More subjects are busy than one sync holds.
    crowded: bool,
    revisits: BTreeSet<(u64, Rc<str>)>,
    syncs: usize,
    sync_at_ms: u64,
    heard_at_ms: Option<u64>,
    newest_revision: u64,
    policy_busy: bool,
    policy_at_ms: u64,
    /// The session that the long poll on its way is for.
    watching: Option<SessionId>,
    watch_at_ms: u64,
    watch_after: u64,
    scan_next: u32,
    rescan_next: u32,
    complained_at_ms: Option<u64>,
}

impl Leader {
    /// A worker that does not lead yet.
    pub fn new(id: u64, made_ms: u64) -> Self {
        Self {
            id,
            made_ms,
            leads: false,
            session: SessionId::default(),
            due: VecDeque::new(),
            due_set: HashSet::new(),
            now_due: HashMap::new(),
            followed: HashMap::new(),
            slow: 0,
            crowded: false,
            revisits: BTreeSet::new(),
            syncs: 0,
            sync_at_ms: 0,
            heard_at_ms: None,
            newest_revision: 0,
            policy_busy: false,
            policy_at_ms: 0,
            watching: None,
            watch_at_ms: 0,
            watch_after: 0,
            scan_next: 0,
            rescan_next: 0,
            complained_at_ms: None,
        }
    }

    /// One of its syncs is sent.
    pub fn sends(&mut self) {
        self.syncs += 1;
    }

    /// The control plane answered a sync.
    pub fn heard(&mut self, sync: &SyncInFlight, now: Now, response: &SyncResponse) {
        if !sync.is_urgent() {
            self.syncs = self.syncs.saturating_sub(1);
        }
        self.heard_at_ms = Some(now.mono_ms);
        self.newest_revision = self.newest_revision.max(response.policy_revision);
    }

    /// A call was lost.
    pub fn lost(&mut self, what: &InFlight, now: Now) {
        let retry_ms = now.mono_ms.saturating_add(RETRY_MS + self.id % RETRY_MS);
        match what {
            InFlight::Sync(sync) => {
                if !sync.is_urgent() {
                    self.syncs = self.syncs.saturating_sub(1);
                }
                self.sync_at_ms = retry_ms;
            }
            InFlight::Watch(session) => {
                if self.watching == Some(*session) {
                    self.watching = None;
                    self.watch_at_ms = retry_ms;
                }
            }
            InFlight::Policy => {
                self.policy_busy = false;
                self.policy_at_ms = retry_ms;
            }
            InFlight::Keys => {}
        }
    }

    /// Whether a line in the log is due.
    pub fn may_complain(&mut self, now: Now) -> bool {
        let due = self.complained_at_ms.is_none_or(|at_ms| now.mono_ms >= at_ms.saturating_add(COMPLAIN_MS));
        if due {
            self.complained_at_ms = Some(now.mono_ms);
        }
        due
    }

    /// Takes or renews the lease on leading. A worker that was made later takes it at once: after a change of the
    /// plugin configuration the old root contexts go on ticking until the proxy has drained, with a token or a cluster that
    /// may be gone. Who stops leading forgets: his successor looks for all records.
    fn elect(&mut self, host: &dyn Host, now: Now) {
        let (bytes, cas) = host.shared_get(LEADER);
        let current = bytes.and_then(|bytes| {
            let (id, rest) = bytes.split_first_chunk::<8>()?;
            let (made, until) = rest.split_first_chunk::<8>()?;
            let until = u64::from_le_bytes(until.try_into().ok()?);
            Some((u64::from_le_bytes(*id), u64::from_le_bytes(*made), until))
        });
        let free = current.is_none_or(|(id, made_ms, until_ms)| {
            id == self.id || made_ms < self.made_ms || now.mono_ms >= until_ms
        });
        let until_ms = now.mono_ms.saturating_add(LEAD_MS);
        let value = [self.id, self.made_ms, until_ms].map(u64::to_le_bytes).concat();
        let leads = free && host.shared_swap(LEADER, &value, cas).is_ok();
        if leads != self.leads {
            self.due.clear();
            self.due_set.clear();
            self.now_due.clear();
            self.followed.clear();
            self.slow = 0;
            self.revisits.clear();
            self.scan_next = 0;
        }
        self.leads = leads;
    }

    fn enlist(&mut self, subject: Rc<str>) {
        if let Some((_, Pace::Slow { used })) = self.followed.get_mut(&subject) {
            *used = true;
        } else if self.due_set.insert(subject.clone()) {
            self.due.push_back(subject);
        }
    }

    /// Subjects that it is time to look at, and whether they were idle when they were last looked at.
    fn revisit_due(&mut self, now: Now) -> Vec<(Rc<str>, bool)> {
        let mut due = Vec::new();
        while self.revisits.first().is_some_and(|(at_ms, _)| *at_ms <= now.mono_ms) {
            let Some((_, subject)) = self.revisits.pop_first() else { break };
            match self.followed.remove(&subject) {
                Some((at_ms, Pace::Slow { used })) => {
                    self.slow = self.slow.saturating_sub(1);
                    if used {
                        self.enlist(subject);
                    } else {
                        self.follow(subject, at_ms.saturating_add(REVISIT_MS - SLOW_SYNC_MS), Pace::Usual);
                    }
                }
                other => due.push((subject, other.is_some_and(|(_, pace)| pace == Pace::Idle))),
            }
        }
        due
    }

    /// The subject's leases cover what it uses for long. While more subjects are busy than one sync holds it is left alone
    /// for a while, so that those come sooner that cannot wait.
    pub fn slow_down(&mut self, subject: &Rc<str>, now: Now) {
        if self.leads && self.crowded && !self.due_set.contains(subject) {
            let at_ms = now.mono_ms.saturating_add(SLOW_SYNC_MS);
            self.follow(subject.clone(), at_ms, Pace::Slow { used: false });
        }
    }

    /// Looks at the subject again at that moment, and not at the one that was planned before.
    fn follow(&mut self, subject: Rc<str>, at_ms: u64, pace: Pace) {
        if let Some((before_ms, before)) = self.followed.insert(subject.clone(), (at_ms, pace)) {
            self.revisits.remove(&(before_ms, subject.clone()));
            self.slow = self.slow.saturating_sub(usize::from(matches!(before, Pace::Slow { .. })));
        }
        self.slow += usize::from(matches!(pace, Pace::Slow { .. }));
        self.revisits.insert((at_ms, subject));
    }
}

impl Edge {
    /// An edge that stands alone drops the records that limit nobody any more, some buckets each tick.
    pub fn sweep(&self, now: Now) {
        let mut leader = self.leader.borrow_mut();
        leader.elect(&*self.host, now);
        if !leader.leads {
            return;
        }
        let start = if leader.scan_next < BUCKETS { leader.scan_next } else { 0 };
        leader.scan_next = (start + SWEEP_BUCKETS).min(BUCKETS);
        for bucket in start..leader.scan_next {
            for subject in Records::subjects_in(&*self.host, bucket) {
                let key = self.records.key(&subject);
                let swept = Records::update(&*self.host, &key, &subject, |mut record| {
                    let over = record.as_mut().is_some_and(|record| limits_nobody(record, now));
                    (if over { Change::Remove } else { Change::Keep }, ())
                });
                // What cannot be written now is swept the next time.
                let _: Result<(), Stuck> = swept;
            }
        }
    }

    /// The regular duties, every tick: of the leader, or of a worker that hands its touched subjects to it.
    pub fn lead(&self, now: Now) {
        let touched = self.take_touched();
        let mut leader = self.leader.borrow_mut();
        leader.elect(&*self.host, now);
        if !leader.leads {
            drop(leader);
            for part in touched.chunks(256) {
                self.host.enqueue(part.join("\n").as_bytes());
            }
            self.denials.hand_over(&*self.host);
            // It led before, and has something left to tell.
            if self.denials.is_due(now) {
                self.send_heartbeat(now);
            }
            return;
        }
        self.denials.take_own(now);
        touched.into_iter().for_each(|subject| leader.enlist(subject));
        if leader.session != self.session.id() {
            // Records of the session before are to be told for the last time.
            leader.session = self.session.id();
            leader.scan_next = 0;
        }
        for _ in 0..MESSAGES_MAX {
            let Some(message) = self.host.dequeue() else { break };
            let message = String::from_utf8_lossy(&message);
            if !self.denials.take(&message, now) {
                message.split('\n').for_each(|subject| leader.enlist(Rc::from(subject)));
            }
        }
        let (scan, again) = if leader.scan_next < BUCKETS {
            let start = leader.scan_next;
            leader.scan_next = (start + SCAN_BUCKETS).min(BUCKETS);
            (start..leader.scan_next, false)
        } else {
            // A worker that trapped may have told nobody of its last subjects.
            let start = leader.rescan_next % BUCKETS;
            leader.rescan_next = (start + RESCAN_BUCKETS).min(BUCKETS);
            (start..leader.rescan_next, true)
        };
        for bucket in scan {
            for subject in Records::subjects_in(&*self.host, bucket) {
                if !again || !leader.followed.contains_key(subject.as_str()) {
                    leader.enlist(Rc::from(subject));
                }
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
        let session = self.session.id();
        // One that is for a session before hears nothing of this one's subjects.
        if leader.watching == Some(session) || now.mono_ms < leader.watch_at_ms {
            return;
        }
        if leader.watching.replace(session).is_some() {
            leader.watch_after = 0;
        }
        leader.watch_at_ms = now.mono_ms.saturating_add(WATCH_MS_MIN);
        // What was told once need not be told again: a policy that cannot be fetched must not end each long poll at once.
        let revision = leader.newest_revision.max(self.policy_revision()).max(self.refused_revision());
        let path =
            format!("/edge/v1/watch?session={session}&after={}&revision={revision}", leader.watch_after,);
        drop(leader);
        self.call("GET", &path, &[], InFlight::Watch(session));
    }

    /// The long poll's answer: what it names is synced at once, and the next one is sent.
    pub fn on_watch(&self, session: SessionId, body: &[u8], now: Now) {
        let mut leader = self.leader.borrow_mut();
        if leader.watching != Some(session) {
            return;
        }
        leader.watching = None;
        if !leader.leads {
            return;
        }
        match serde_json::from_slice::<WatchResponse>(body) {
            Ok(response) if response.version == WIRE_VERSION => {
                leader.watch_after = response.after;
                leader.newest_revision = leader.newest_revision.max(response.policy_revision);
                let subjects = response.subjects.iter().map(|subject| (Rc::from(subject.as_str()), false));
                leader.now_due.extend(subjects);
            }
            _ => leader.watch_at_ms = now.mono_ms.saturating_add(RETRY_MS),
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
                Some(holds) if holds || was_idle => {
                    leader.now_due.entry(subject).or_insert(true);
                }
                Some(_) => leader.follow(subject, now.mono_ms.saturating_add(REVISIT_IDLE_MS), Pace::Idle),
                None => {}
            }
        }
    }

    /// Whether the subject's record holds units that are free; `None` when there is no record.
    fn holds_units(&self, subject: &str, now: Now) -> Option<bool> {
        let key = self.records.key(subject);
        let found = Records::update(&*self.host, &key, subject, |record| {
            let holds = record.map(|mut record| {
                record.accounts.iter_mut().any(|account| {
                    account.settle(now.mono_ms);
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
            leader.crowded = leader.due.len() + leader.slow > SYNC_SUBJECTS_MAX;
            for _ in 0..SYNC_SUBJECTS_MAX {
                let Some(subject) = leader.due.pop_front() else { break };
                leader.due_set.remove(&subject);
                leader.now_due.entry(subject).or_insert(false);
            }
            // Where more are due than fit, the next part comes with the next tick: 2,000 subjects a second.
            let pause_ms = if leader.due.is_empty() { SYNC_MS } else { 0 };
            leader.sync_at_ms = now.mono_ms.saturating_add(pause_ms);
        }
        let room = SYNCS_MAX.saturating_sub(leader.syncs) * SYNC_SUBJECTS_MAX;
        let subjects: Vec<Rc<str>> = leader.now_due.keys().take(room).cloned().collect();
        let mut unused = HashSet::new();
        for subject in &subjects {
            if leader.now_due.remove(subject) == Some(true) {
                unused.insert(subject.clone());
            }
        }
        if subjects.is_empty() {
            drop(leader);
            return self.keep_alive(now);
        }
        for subject in &subjects {
            leader.follow(subject.clone(), now.mono_ms.saturating_add(REVISIT_MS), Pace::Usual);
        }
        drop(leader);
        let (unused, used): (Vec<_>, Vec<_>) = subjects.into_iter().partition(|s| unused.contains(s));
        for (subjects, occasion) in [(used, Occasion::Regular), (unused, Occasion::Unused)] {
            let stuck = self.send_sync(&subjects, now, occasion, &|record| prepare_regular(record, now));
            stuck.into_iter().for_each(|subject| self.leader.borrow_mut().enlist(subject));
        }
    }

    fn keep_alive(&self, now: Now) {
        let mut leader = self.leader.borrow_mut();
        let silent = leader.heard_at_ms.is_none_or(|at_ms| now.mono_ms >= at_ms.saturating_add(HEARTBEAT_MS));
        if (silent || self.denials.is_due(now))
            && leader.syncs == 0
            && now.mono_ms >= leader.sync_at_ms.saturating_sub(SYNC_MS)
        {
            leader.sync_at_ms = now.mono_ms.saturating_add(SYNC_MS);
            drop(leader);
            self.send_heartbeat(now);
        }
    }

    fn gauge(&self, now: Now) {
        let leader = self.leader.borrow();
        let age_ms = leader.heard_at_ms.map_or(u64::MAX, |at_ms| now.mono_ms.saturating_sub(at_ms));
        self.metrics.set(&*self.host, "tollgate.sync.age_ms", age_ms);
        self.metrics.set(&*self.host, "tollgate.lease.valid_ms", self.session.valid_for_ms(now));
        self.metrics.set(&*self.host, "tollgate.subjects.followed", leader.followed.len() as u64);
        self.metrics.set(
            &*self.host,
            "tollgate.subjects.due",
            (leader.due.len() + leader.now_due.len()) as u64,
        );
    }
}
