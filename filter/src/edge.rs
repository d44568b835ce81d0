//! One worker's part of an edge: its policy, its caches, its share of the session, and the requests that wait.
//!
//! Everything a request needs without a wait is here or in the subject's record. Calls to the control plane are made by
//! the root context alone: the reply to a stream's own call is dropped when the stream is gone.

mod decide;
mod serve;

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;

use tollgate_policy::compile::CompiledPolicy;
use tollgate_policy::decision::{Denial, Plans};
use tollgate_policy::document::PolicyDocument;
use tollgate_policy::jwt::{Keyring, TokenFault};
use tollgate_policy::lease::SessionId;
use tollgate_policy::wire::{SyncResponse, WIRE_VERSION};

use crate::config::{Config, ControlPlane};
use crate::denials::Denials;
use crate::host::{Call, Host, Level, Now, Reply};
use crate::identity::{Identity, Tokens};
use crate::intake::Room;
use crate::leader::Leader;
use crate::metrics::Metrics;
use crate::records::Records;
use crate::request::Identified;
use crate::session::Session;
use crate::shared::Shared;
use crate::sync::{Effect, Occasion, SyncInFlight};
use crate::wait::{Cause, Waiting};

pub use decide::Decision;

/// Period of the regular tick, ms.
pub const TICK_MS: u64 = 250;

/// A request that begins to wait is asked for this soon, ms: what comes within it shares one call.
const SOON_MS: u64 = 1;

/// How soon a question is repeated while units are being recalled from another edge, ms.
const RECALL_RETRY_MS: u64 = 50;

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
    /// Room for what they copy of their bodies.
    pub room: Room,
    /// What the edge counts of itself.
    pub metrics: Metrics,
    /// What it refused.
    pub denials: Denials,
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
            room: Room::default(),
            metrics: Metrics::default(),
            denials: Denials::new(id),
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
        self.denials.heard(sync.denials());
        let mut untold = Vec::new();
        for (subject, effect) in self.apply_sync(sync, response, now) {
            if matches!(effect, Effect::Merged { untold: true, .. }) {
                untold.push(subject.clone());
            }
            if sync.is_urgent() {
                // The leader must hear of every record, or nobody would ever drop it.
                self.touched.borrow_mut().push(subject.clone());
            }
            self.on_effect(&subject, effect, now);
        }
        if !untold.is_empty() {
            self.send_sync(&untold, now, Occasion::Urgent, &|_| Vec::new());
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
}
