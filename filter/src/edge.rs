//! One worker's part of an edge: its policy, its caches, its share of the session, and the requests that wait.
//!
//! Everything a request needs without a wait is here or in the subject's record. Calls to the control plane are made by
//! the root context alone: the reply to a stream's own call is dropped when the stream is gone.

use std::cell::{Cell, RefCell};
use std::collections::{HashMap, HashSet};
use std::rc::Rc;

use tollgate_policy::compile::CompiledPolicy;
use tollgate_policy::decision::{Admitted, Denial, Ending, Mode, Outcome, Plans, Question, Reservation};
use tollgate_policy::document::PolicyDocument;
use tollgate_policy::jwt::{Keyring, TokenFault};
use tollgate_policy::lease::{Record, SessionId};
use tollgate_policy::wire::{SyncResponse, WIRE_VERSION};

use crate::config::{Config, ControlPlane};
use crate::host::{Call, Host, Level, Now, Reply};
use crate::identity::{Identity, Member, Tokens};
use crate::leader::Leader;
use crate::metrics::Metrics;
use crate::records::{Change, Key, Records, Stuck};
use crate::request::{Identified, Reservations, Rpc};
use crate::session::Session;
use crate::shared::Shared;
use crate::sync::{Effect, Occasion, SyncInFlight};
use crate::wait::{Cause, Waiter, Waiting};

/// Period of the regular tick, ms.
pub const TICK_MS: u64 = 250;

/// A request that begins to wait is asked for this soon, ms: what comes within it shares one call.
const SOON_MS: u64 = 1;

/// How soon a question is repeated while units are being recalled from another edge, ms.
const RECALL_RETRY_MS: u64 = 50;

/// A question is repeated at once so often: a subject's record may have to be told, begun anew and filled.
const ROUNDS_AT_ONCE: u32 = 4;

/// After a lost call nobody waits for another one for this long, ms.
const LOST_MS: u64 = 500;

/// Longest time that a sync may take, ms.
const SYNC_TIMEOUT_MS: u64 = 1_500;

/// A wall clock that is set back by more than this ends the session, ms. Less than the time that usage is kept after its
/// hour, and more than clocks are usually corrected by.
const CLOCK_BACK_MS: i64 = 60_000;

/// One question for newer keys in this time, ms.
const KEYS_INTERVAL_MS: u64 = 10_000;

/// A policy in force, with its keys.
pub struct Policy {
    /// Ready to decide with.
    pub compiled: CompiledPolicy,
    /// Ready to verify with.
    pub keyring: Keyring,
    /// Names of the issuers, as the keyring counts them.
    issuers: Vec<String>,
}

impl Policy {
    /// Compiles a document; the error is a sentence for the log.
    pub fn compile(document: &PolicyDocument, revision: u64) -> Result<Self, String> {
        let compiled = CompiledPolicy::compile(document, revision)
            .map_err(|faults| faults.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))?;
        let keyring = Keyring::from_issuers(&document.issuers).map_err(|faults| {
            faults.iter().map(|(path, text)| format!("issuers{path}: {text}")).collect::<Vec<_>>().join("; ")
        })?;
        let issuers = document.issuers.iter().map(|issuer| issuer.issuer.clone()).collect();
        Ok(Self { compiled, keyring, issuers })
    }
}

/// What is to be done with an identified request.
pub enum Decision {
    /// It passes.
    Admit {
        /// By its subject's record.
        admitted: Box<Admitted>,
        /// What it took of its member's.
        member: Option<Reservation>,
    },
    /// It is refused.
    Deny(Box<Denial>),
    /// The control plane must be asked about this subject.
    Ask(Rc<str>),
}

/// A call that is on its way.
#[derive(Debug)]
pub enum InFlight {
    /// Reports of subjects.
    Sync(SyncInFlight),
    /// The long poll.
    Watch(SessionId),
    /// The policy.
    Policy,
    /// A question for newer keys; the answer comes as a policy.
    Keys,
}

/// One worker's part of an edge.
pub struct Edge {
    /// The proxy.
    pub host: Rc<dyn Host>,
    config: Result<Config, String>,
    policy: RefCell<Option<Rc<Policy>>>,
    tokens: RefCell<Tokens>,
    /// Limits worked out for subjects that have the same.
    pub plans: Plans,
    /// Subjects' records.
    pub records: Records,
    /// Whose leases these are.
    pub session: Session,
    /// Requests that wait.
    pub waiting: Waiting,
    /// What the edge counts of itself.
    pub metrics: Metrics,
    /// What all workers share besides records.
    pub shared: Shared,
    /// This worker's part in what one worker does for all.
    pub leader: RefCell<Leader>,
    /// Subjects whose numbers changed in this round; rarely one twice.
    touched: RefCell<Vec<Rc<str>>>,
    touch_round: Cell<u64>,
    calls: RefCell<HashMap<u32, InFlight>>,
    tick_ms: Cell<u64>,
    duties_at_ms: Cell<u64>,
    lost_until_ms: Cell<u64>,
    keys_asked_at_ms: Cell<Option<u64>>,
    clock_offset_ms: Cell<Option<i64>>,
}

impl Edge {
    /// An edge of this plugin configuration. A bad one denies everything: refusing to start would let requests pass.
    pub fn new(host: Rc<dyn Host>, configuration: &[u8]) -> Self {
        let mut config = Config::parse(configuration);
        let mut policy = None;
        if let Ok(Config::Alone(document)) = &config {
            match Policy::compile(document, 1) {
                Ok(compiled) => policy = Some(Rc::new(compiled)),
                Err(error) => config = Err(format!("the inline policy cannot be used: {error}")),
            }
        }
        if let Err(error) = &config {
            host.log(Level::Error, &format!("tollgate: denying every request: {error}"));
        }
        let id = host.random();
        let leader_id = u64::from_le_bytes([id[0], id[1], id[2], id[3], id[4], id[5], id[6], id[7]]);
        let edge = Self {
            records: Records::open(&*host),
            leader: RefCell::new(Leader::new(leader_id, host.now().mono_ms)),
            host,
            config,
            policy: RefCell::new(policy),
            tokens: RefCell::default(),
            plans: Plans::default(),
            session: Session::default(),
            waiting: Waiting::default(),
            metrics: Metrics::default(),
            shared: Shared::default(),
            touched: RefCell::default(),
            touch_round: Cell::new(1),
            calls: RefCell::default(),
            tick_ms: Cell::new(0),
            duties_at_ms: Cell::new(0),
            lost_until_ms: Cell::new(0),
            keys_asked_at_ms: Cell::new(None),
            clock_offset_ms: Cell::new(None),
        };
        edge.session.join(&*edge.host);
        // Nothing may be sent from here; the first tick comes with jitter, so that workers do not all come at once.
        edge.tick(1 + u64::from(id[8]) / 16);
        edge
    }

    /// The policy, or `Err(None)` while it has not arrived, or `Err(Some(_))` when it never will.
    pub fn policy(&self) -> Result<Rc<Policy>, Option<Box<Denial>>> {
        match (&*self.policy.borrow(), &self.config) {
            (Some(policy), Ok(_)) => Ok(policy.clone()),
            (None, Ok(_)) => Err(None),
            (_, Err(_)) => Err(Some(Box::new(Denial::misconfigured()))),
        }
    }

    /// Whether it stands alone.
    pub fn is_alone(&self) -> bool {
        matches!(self.config, Ok(Config::Alone(_)))
    }

    /// Whether leases may be used now.
    pub fn lease_is_valid(&self, now: Now) -> bool {
        self.is_alone() || self.session.is_valid(&*self.host, now)
    }

    /// Who calls.
    pub fn identify(&self, policy: &Policy, token: &[u8], now: Now) -> Result<Rc<Identity>, TokenFault> {
        self.tokens.borrow_mut().identify(&self.records, &policy.keyring, token, now.wall_ms)
    }

    /// Decides an identified request, in one read and one swap of its subject's record; where limits of each member of an
    /// organisation are touched, in those of the member's record too.
    pub fn decide(&self, of: &Identified, mode: Mode, now: Now) -> Result<Decision, Stuck> {
        let question = of.question(self, now);
        let member = match &of.identity.member {
            Some(member) if of.policy.compiled.limits_members => {
                self.decide_member(of, member, &question, mode)?
            }
            _ => None,
        };
        let member = match member {
            None => None,
            Some(Decision::Admit { admitted, .. }) => Some(*admitted),
            Some(refused) => return Ok(refused),
        };
        let subject = &of.identity.subject;
        let outcome =
            self.update(&of.identity.key, subject, mode, now, |record| question.decide(record, mode));
        match outcome {
            Ok(Outcome::Admit(mut admitted)) => {
                let reservation = member.map(|member| admitted.join(member));
                Ok(Decision::Admit { admitted, member: reservation })
            }
            other => {
                // All limits of a request are taken together or none is.
                if let (Some(member), Some(at)) = (member, &of.identity.member) {
                    self.undo_one(of, &at.key, &at.subject, &member.reservation);
                }
                Ok(match other? {
                    Outcome::Deny(denial) => Decision::Deny(denial),
                    _ => Decision::Ask(subject.clone()),
                })
            }
        }
    }

    /// `None`: the request touches no limit of each member.
    fn decide_member(
        &self,
        of: &Identified,
        member: &Member,
        question: &Question<'_>,
        mode: Mode,
    ) -> Result<Option<Decision>, Stuck> {
        let plan = Records::update(&*self.host, &of.identity.key, &of.identity.subject, |record| {
            let begins = mode == Mode::Alone || matches!(mode, Mode::Debt { .. });
            let record = record.or_else(|| {
                begins.then(|| Record::new(&of.identity.subject, question.session, question.now.mono_ms))
            });
            (Change::Keep, record.and_then(|mut record| question.member_plan(&mut record, mode)))
        })?;
        let Some(plan) = plan else { return Ok(None) };
        let decide = |record: &mut Record| question.decide_member(record, &plan, mode);
        Ok(Some(match self.update(&member.key, &member.subject, mode, question.now, decide)? {
            Outcome::Admit(admitted) => Decision::Admit { admitted, member: None },
            Outcome::Deny(denial) => Decision::Deny(denial),
            Outcome::Ask => Decision::Ask(member.subject.clone()),
        }))
    }

    /// Decides on one record, and writes it where the request is admitted.
    fn update(
        &self,
        key: &Key,
        subject: &str,
        mode: Mode,
        now: Now,
        decide: impl Fn(&mut Record) -> Outcome,
    ) -> Result<Outcome, Stuck> {
        let begins = mode == Mode::Alone || matches!(mode, Mode::Debt { .. });
        Records::update(&*self.host, key, subject, |record| {
            let record =
                record.or_else(|| begins.then(|| Record::new(subject, self.session.id(), now.mono_ms)));
            let Some(mut record) = record else { return (Change::Keep, Outcome::Ask) };
            let outcome = decide(&mut record);
            let change =
                if matches!(outcome, Outcome::Admit(_)) { Change::Put(record) } else { Change::Keep };
            (change, outcome)
        })
    }

    /// Settles what a request took, now that its end is known.
    pub fn settle(&self, of: &Identified, reservations: &Reservations, ending: &Ending<'_>) {
        let now = self.host.now();
        let identity = &of.identity;
        let settle = |reservation: &Reservation, key: &Key, subject: &str| {
            let settled = Records::update(&*self.host, key, subject, |record| {
                // One that had nothing to remember was dropped meanwhile; what the response says is counted all the same.
                let before = record.unwrap_or_else(|| Record::new(subject, self.session.id(), now.mono_ms));
                let mut record = before.clone();
                let unheard = reservation.settle(&of.policy.compiled, &of.bill, &mut record, ending, now);
                (if record == before { Change::Keep } else { Change::Put(record) }, unheard)
            });
            if let Ok(unheard @ 1..) = settled {
                self.metrics.add(
                    &*self.host,
                    "tollgate.things.unheard",
                    i64::try_from(unheard).unwrap_or(i64::MAX),
                );
            }
            self.note_stuck(settled.map(|_| ()));
        };
        settle(&reservations.subject, &identity.key, &identity.subject);
        if let (Some(reservation), Some(member)) = (&reservations.member, &identity.member) {
            settle(reservation, &member.key, &member.subject);
        }
        self.touch(of);
    }

    /// Takes back what a request took, as if it had never been.
    pub fn undo(&self, of: &Identified, reservations: &Reservations) {
        self.undo_one(of, &of.identity.key, &of.identity.subject, &reservations.subject);
        if let (Some(reservation), Some(member)) = (&reservations.member, &of.identity.member) {
            self.undo_one(of, &member.key, &member.subject, reservation);
        }
        self.touch(of);
    }

    fn undo_one(&self, of: &Identified, key: &Key, subject: &str, reservation: &Reservation) {
        let undone = Records::update(&*self.host, key, subject, |record| match record {
            Some(mut record) => {
                reservation.undo(&of.policy.compiled, &of.bill, &mut record);
                (Change::Put(record), ())
            }
            None => (Change::Keep, ()),
        });
        self.note_stuck(undone);
    }

    /// A record that cannot be written keeps its charges: never a free pass.
    fn note_stuck(&self, written: Result<(), Stuck>) {
        if written.is_err() {
            self.metrics.add(&*self.host, "tollgate.records.stuck", 1);
        }
    }

    /// Who calls without a token.
    pub fn anonymous(&self, subject: &str, tier: &str) -> Rc<Identity> {
        self.tokens.borrow_mut().anonymous(&self.records, subject, tier)
    }

    /// The subject's numbers changed and are to be reported.
    pub fn touch(&self, of: &Identified) {
        let identity = &of.identity;
        if self.is_alone() || identity.touched.replace(self.touch_round.get()) == self.touch_round.get() {
            return;
        }
        let mut touched = self.touched.borrow_mut();
        touched.push(identity.subject.clone());
        if let Some(member) = identity.member.as_ref().filter(|_| of.policy.compiled.limits_members) {
            touched.push(member.subject.clone());
        }
    }

    /// Takes the subjects touched since the last time.
    pub fn take_touched(&self) -> Vec<Rc<str>> {
        self.touch_round.set(self.touch_round.get() + 1);
        std::mem::take(&mut *self.touched.borrow_mut())
    }

    /// Asks for newer keys because of a token's unknown one; says whether waiting for them makes sense.
    pub fn ask_for_keys(&self, policy: &Policy, fault: TokenFault, now: Now) -> bool {
        let (TokenFault::UnknownKey { issuer }, false) = (fault, self.is_alone()) else {
            return false;
        };
        let Some(name) = policy.issuers.get(issuer) else { return false };
        match self.keys_asked_at_ms.get() {
            // Those that come while the answer is on its way wait for it too.
            Some(at_ms) if now.mono_ms < at_ms.saturating_add(KEYS_INTERVAL_MS) => {
                now.mono_ms < at_ms.saturating_add(SYNC_TIMEOUT_MS)
            }
            _ => {
                self.keys_asked_at_ms.set(Some(now.mono_ms));
                self.shared.want_keys(name);
                true
            }
        }
    }

    /// Makes the next tick come soon.
    pub fn wake_soon(&self) {
        self.tick(SOON_MS);
    }

    fn tick(&self, period_ms: u64) {
        if self.tick_ms.get() != period_ms {
            self.tick_ms.set(period_ms);
            self.host.set_tick(period_ms);
        }
    }

    /// This root context was replaced: no more ticks.
    pub fn retire(&self) {
        self.metrics.flush(&*self.host);
        self.host.set_tick(0);
    }

    /// The root context's tick.
    pub fn on_tick(&self) {
        self.host.read_wall_clock();
        let now = self.host.now();
        self.notice_clock(now);
        if now.mono_ms >= self.duties_at_ms.get() {
            self.duties_at_ms.set(now.mono_ms + TICK_MS);
            self.metrics.flush(&*self.host);
            // The main thread's VM serves no requests, and is another one than the workers'.
            let whose = if self.tokens.borrow().is_empty() { "main" } else { "worker" };
            let memory = format!("tollgate.vm.memory_bytes.{whose}");
            self.metrics.set(&*self.host, &memory, self.host.memory_bytes());
            if self.is_alone() {
                self.sweep(now);
            }
            if self.control_plane().is_some() {
                self.session.join(&*self.host);
                self.load_policy();
                self.lead(now);
                if let Some(issuer) = self.shared.take_wanted_keys() {
                    let body = serde_json::json!({ "issuer": issuer }).to_string();
                    self.call("POST", "/edge/v1/keys", body.as_bytes(), InFlight::Keys);
                }
            }
        }
        self.serve_waiting(now);
        // After a wake-up by a request the regular duties go on at their own pace.
        self.tick(if self.waiting.is_empty() { TICK_MS } else { RECALL_RETRY_MS });
    }

    /// A clock that is set back shows hours again whose usage was told and forgotten: counted from nothing in the same
    /// session, it would be taken for what was told. A new session counts beside the old one.
    fn notice_clock(&self, now: Now) {
        let offset_ms = now.wall_ms.saturating_sub_unsigned(now.mono_ms);
        let before_ms = self.clock_offset_ms.replace(Some(offset_ms));
        if before_ms.is_some_and(|before_ms| offset_ms < before_ms.saturating_sub(CLOCK_BACK_MS)) {
            self.session.replace(&*self.host, self.session.id());
        }
    }

    fn control_plane(&self) -> Option<&ControlPlane> {
        match &self.config {
            Ok(Config::Connected(control_plane)) => Some(control_plane),
            _ => None,
        }
    }

    /// Calls the control plane. A call that cannot be sent is lost at once.
    pub fn call(&self, method: &str, path: &str, body: &[u8], what: InFlight) {
        let Some(ControlPlane { cluster, token }) = self.control_plane() else { return };
        let timeout_ms = match what {
            InFlight::Watch(_) => crate::leader::WATCH_TIMEOUT_MS,
            _ => SYNC_TIMEOUT_MS,
        };
        match self.host.call(&Call { cluster, method, path, token, body, timeout_ms }) {
            Ok(id) => {
                self.calls.borrow_mut().insert(id, what);
            }
            Err(_) => self.lose(&what, self.host.now()),
        }
    }

    /// The control plane's reply to a call, or its loss.
    pub fn on_reply(&self, token: u32, reply: Reply) {
        let Some(what) = self.calls.borrow_mut().remove(&token) else { return };
        let now = self.host.now();
        let body = match reply {
            Reply::Response { status: 200..=299, body } => body,
            Reply::Response { status, body } => {
                let text = String::from_utf8_lossy(body.get(..300).unwrap_or(&body)).into_owned();
                self.complain(now, &format!("tollgate: the control plane answered {status}: {text}"));
                return self.lose(&what, now);
            }
            Reply::Lost => return self.lose(&what, now),
        };
        match &what {
            // As a string, which is checked as one and once; from bytes, each name and text in it would be.
            InFlight::Sync(sync) => {
                match serde_json::from_str::<SyncResponse>(&String::from_utf8_lossy(&body)) {
                    Ok(response) if response.version == WIRE_VERSION => self.on_sync(sync, &response, now),
                    Ok(response) => {
                        let version = response.version;
                        self.complain(now, &format!("tollgate: the control plane speaks version {version}"));
                        self.lose(&what, now);
                    }
                    Err(error) => {
                        self.complain(
                            now,
                            &format!("tollgate: the control plane's answer cannot be read: {error}"),
                        );
                        self.lose(&what, now);
                    }
                }
            }
            InFlight::Watch(session) => self.on_watch(*session, &body, now),
            InFlight::Policy => {
                self.on_policy_answer();
                self.on_policy(&body, now);
            }
            InFlight::Keys => {}
        }
    }

    fn on_sync(&self, sync: &SyncInFlight, response: &SyncResponse, now: Now) {
        self.metrics.add(&*self.host, "tollgate.syncs.ok", 1);
        self.leader.borrow_mut().heard(sync, now, response);
        let mut gave_back = Vec::new();
        for (subject, effect) in self.apply_sync(sync, response, now) {
            if matches!(effect, Effect::Merged { gave_back: true, .. }) {
                gave_back.push(subject.clone());
            }
            if sync.is_urgent() {
                // The leader must hear of every record, or nobody would ever drop it.
                self.touched.borrow_mut().push(subject.clone());
            }
            self.on_effect(&subject, effect, now);
        }
        if !gave_back.is_empty() {
            self.send_sync(&gave_back, now, Occasion::Urgent, &|_| Vec::new());
        }
        self.serve_waiting(now);
    }

    fn complain(&self, now: Now, message: &str) {
        if self.leader.borrow_mut().may_complain(now) {
            self.host.log(Level::Warn, message);
        }
    }

    fn lose(&self, what: &InFlight, now: Now) {
        self.leader.borrow_mut().lost(what, now);
        if let InFlight::Sync(sync) = what {
            self.metrics.add(&*self.host, "tollgate.syncs.lost", 1);
            self.lost_until_ms.set(now.mono_ms + LOST_MS);
            // Nothing is lost: the numbers are in the records, and are told again.
            self.touched.borrow_mut().extend(sync.subjects().cloned());
            for subject in sync.subjects().filter(|_| sync.is_urgent()) {
                for waiter in self.waiting.take(|w| w.asked && w.cause == Cause::Subject(subject.clone())) {
                    self.without_control_plane(&waiter, now);
                }
            }
        }
    }

    fn on_effect(&self, subject: &Rc<str>, effect: Effect, now: Now) {
        let (answered, pending) = match effect {
            Effect::Merged { pending, .. } => (true, pending),
            Effect::Again => (false, false),
        };
        for waiter in self.waiting.take(|waiter| waiter.cause == Cause::Subject(subject.clone())) {
            self.host.select_stream(waiter.request.stream);
            waiter.request.decide(now, Mode::Leased { valid: self.lease_is_valid(now) });
            let pause_ms = if pending || waiter.rounds >= ROUNDS_AT_ONCE { RECALL_RETRY_MS } else { 0 };
            let retry_at_ms = now.mono_ms.saturating_add(pause_ms);
            self.waiting.resume(waiter.request.stream, &waiter, answered, retry_at_ms);
        }
    }

    /// A new policy, or new keys: those that waited for it begin again.
    pub fn on_new_policy(&self, policy: Rc<Policy>, now: Now) {
        *self.policy.borrow_mut() = Some(policy);
        self.tokens.borrow_mut().clear();
        for waiter in self.waiting.take(|waiter| matches!(waiter.cause, Cause::Policy | Cause::Key)) {
            self.host.select_stream(waiter.request.stream);
            waiter.request.begin(now);
            self.waiting.resume(waiter.request.stream, &waiter, false, now.mono_ms);
        }
    }

    /// The revision of the policy in force, 0 without one.
    pub fn policy_revision(&self) -> u64 {
        self.policy.borrow().as_ref().map_or(0, |policy| policy.compiled.revision)
    }

    fn serve_waiting(&self, now: Now) {
        if self.waiting.is_empty() {
            return;
        }
        for waiter in self.waiting.take(|waiter| waiter.is_late(now)) {
            self.host.select_stream(waiter.request.stream);
            match waiter.cause {
                Cause::Policy => drop(waiter.request.deny(&Denial::no_policy(), None, Rpc::NONE)),
                Cause::Key => waiter.request.go_without_keys(now),
                Cause::Subject(_) if waiter.answered => {
                    waiter.request.decide(now, Mode::Answered { valid: self.lease_is_valid(now) });
                    // What still cannot be decided after an answer and a long wait is not decided better by waiting.
                    for waiter in self.waiting.take(|again| again.request.stream == waiter.request.stream) {
                        self.without_control_plane(&waiter, now);
                    }
                }
                Cause::Subject(_) => self.without_control_plane(&waiter, now),
            }
        }
        let mut asking: HashMap<Rc<str>, Vec<Rc<Identified>>> = HashMap::new();
        let mut in_flight = HashSet::new();
        self.waiting.each(|waiter| {
            if let (Cause::Subject(subject), true) = (&waiter.cause, waiter.asked) {
                in_flight.insert(subject.clone());
            }
        });
        self.waiting.each(|waiter| {
            let Cause::Subject(subject) = &waiter.cause else { return };
            if waiter.asked || in_flight.contains(subject) || now.mono_ms < waiter.retry_at_ms {
                return;
            }
            if let Some(of) = waiter.request.identified() {
                waiter.asked = true;
                asking.entry(subject.clone()).or_default().push(of);
            }
        });
        if asking.is_empty() {
            return;
        }
        if now.mono_ms < self.lost_until_ms.get() {
            let asked =
                |w: &Waiter| matches!(&w.cause, Cause::Subject(subject) if asking.contains_key(subject));
            for waiter in self.waiting.take(|waiter| waiter.asked && asked(waiter)) {
                self.without_control_plane(&waiter, now);
            }
            return;
        }
        let subjects: Vec<Rc<str>> = asking.keys().cloned().collect();
        self.metrics.add(&*self.host, "tollgate.asks", 1);
        let stuck = self.send_sync(&subjects, now, Occasion::Urgent, &|record| {
            let mut needs: HashMap<usize, u64> = HashMap::new();
            for of in asking.get(record.subject.as_str()).into_iter().flatten() {
                let question = of.question(self, now);
                // A member's record is asked about by its organisation's plan.
                let plan = if *record.subject == *of.identity.subject {
                    None
                } else {
                    match &*of.identity.plan.borrow() {
                        Some(kept) => Some(kept.plan.clone()),
                        None => continue,
                    }
                };
                for (account, units) in question.needs(record, plan.as_ref()) {
                    let sum = needs.entry(account).or_default();
                    *sum = sum.saturating_add(units);
                }
            }
            let wants = record.accounts.iter_mut().enumerate().map(|(at, account)| {
                account.settle(now.mono_ms);
                needs.get(&at).map_or(0, |units| units.saturating_sub(account.free()))
            });
            wants.collect()
        });
        for subject in stuck {
            for waiter in self.waiting.take(|w| w.asked && w.cause == Cause::Subject(subject.clone())) {
                self.host.select_stream(waiter.request.stream);
                if let Some(of) = waiter.request.identified() {
                    waiter.request.refuse_identified(&Denial::busy(), &of);
                }
            }
        }
    }

    /// The control plane cannot be asked: the policy says, for each limit, what happens.
    fn without_control_plane(&self, waiter: &Waiter, now: Now) {
        let Some(of) = waiter.request.identified() else { return };
        self.host.select_stream(waiter.request.stream);
        waiter.request.decide(now, Mode::Debt { valid: self.lease_is_valid(now) });
        // What waits again after that waits for nothing.
        for again in self.waiting.take(|again| again.request.stream == waiter.request.stream) {
            again.request.refuse_identified(&Denial::control_plane_lost(), &of);
        }
    }
}
