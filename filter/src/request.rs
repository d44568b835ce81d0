//! One request: read, identified, decided, and settled when its response is known.
//!
//! Runs within the stream's callbacks, or, after a wait for the control plane, from the edge's: then the edge selects the
//! stream first. It keeps no numbers; those are in the subject's record.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;

use tollgate_policy::body::Unread;
use tollgate_policy::body::rpc::Calls;
use tollgate_policy::compile::{Amount, CompiledLimit, CompiledRoute};
use tollgate_policy::decision::{Admitted, Bill, Denial, Ending, Fields, Mode, Now, Question, Reservation};
use tollgate_policy::document::Enforcement;
use tollgate_policy::jwt::TokenFault;
use tollgate_policy::label::LabelFrom;
use tollgate_policy::request::{Credentials, Head, Reading};

use crate::answer::{self, Asker};
use crate::edge::{Decision, Edge, Policy};
use crate::identity::Identity;
use crate::intake::Intake;
use crate::response::Watched;
use crate::wait::Cause;

/// Whether the proxy goes on with the request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flow {
    /// It does.
    Continue,
    /// It waits for more of itself, or was answered.
    Pause,
    /// It waits for something else, or copies its body as it comes: the proxy lets the client wait too, keeps no more of the body
    /// than it must, and shows no part of it twice.
    Hold,
}

/// One request.
pub struct Request {
    edge: Rc<Edge>,
    /// The proxy's id of the stream.
    pub stream: u32,
    state: RefCell<State>,
    intake: Intake,
    waited: Cell<bool>,
    /// Nothing more of it comes until it goes on.
    held: Cell<bool>,
    /// It waits for something else than its body, whose callbacks then begin nothing.
    parked: Cell<bool>,
    /// Newer keys did not come in time.
    keyless: Cell<bool>,
    /// The route that the proxy is to go by.
    proxy_route: RefCell<Option<Arc<CompiledRoute>>>,
}

#[derive(Default)]
enum State {
    /// Not decided yet; perhaps its body is needed first.
    #[default]
    New,
    /// Identified, and waiting for the control plane.
    Identified(Rc<Identified>),
    /// On its way to the upstream.
    Passed(Box<Passed>),
    /// Answered here, or over.
    Over,
}

/// What is known of a request before its limits are looked at.
pub struct Identified {
    /// The policy that it is decided by to its end.
    pub policy: Rc<Policy>,
    /// Who calls.
    pub identity: Rc<Identity>,
    /// What it asks for.
    pub bill: Bill,
    /// Its JSON-RPC calls, which denials answer one by one.
    calls: Option<Calls>,
    /// What holds for it apart from limits: the strictest of its routes.
    enforcement: Enforcement,
    /// It is a gRPC call.
    is_grpc: bool,
}

impl Identified {
    /// What is to be decided on a record.
    pub fn question<'a>(&'a self, edge: &'a Edge, now: Now) -> Question<'a> {
        Question {
            policy: &self.policy.compiled,
            kept: &self.identity.plan,
            plans: &edge.plans,
            tier_claim: self.identity.caller.tier.as_deref().unwrap_or(""),
            bill: &self.bill,
            session: edge.session.id(),
            now,
        }
    }
}

struct Passed {
    of: Rc<Identified>,
    /// What it took of its subject's record, and of its member's.
    reservations: Reservations,
    fields: Fields,
    /// The largest bodies that are allowed: first those that are enforced.
    sizes: Vec<(CompiledLimit, Enforcement)>,
    tier: String,
    /// The response, once it is there and something of it is still to be settled.
    watched: Option<Box<Watched>>,
}

/// What of a request is JSON-RPC.
#[derive(Clone, Copy)]
pub struct Rpc<'a> {
    calls: Option<&'a Calls>,
    fault: Option<i32>,
}

impl<'a> Rpc<'a> {
    /// Nothing.
    pub const NONE: Self = Self { calls: None, fault: None };

    fn of(calls: Option<&'a Calls>) -> Self {
        Self { calls, fault: None }
    }
}

/// What a request took.
pub struct Reservations {
    /// Of the subject's record.
    pub subject: Reservation,
    /// Of the record of the member that called.
    pub member: Option<Reservation>,
}

impl Request {
    /// A new stream.
    pub fn new(edge: Rc<Edge>, stream: u32) -> Rc<Self> {
        Rc::new(Self {
            edge,
            stream,
            state: RefCell::default(),
            intake: Intake::default(),
            waited: Cell::new(false),
            held: Cell::new(false),
            parked: Cell::new(false),
            keyless: Cell::new(false),
            proxy_route: RefCell::default(),
        })
    }

    /// The request headers are there; `end` says that nothing follows them.
    pub fn on_request_headers(self: &Rc<Self>, end: bool) -> Flow {
        self.intake.begin(end);
        let now = self.edge.host.now();
        self.begin(now)
    }

    /// A part of the body is there, `length` bytes of which the proxy shows.
    pub fn on_request_body(self: &Rc<Self>, length: usize, end: bool) -> Flow {
        let passed = matches!(&*self.state.borrow(), State::Passed(_));
        if passed {
            self.intake.passes(length);
            return self.check_size();
        }
        if matches!(&*self.state.borrow(), State::Over) {
            return Flow::Continue;
        }
        let host = &*self.edge.host;
        self.intake.shows(host, length, end);
        let is_enough = self.intake.is_reading() && self.intake.is_ready() && !self.parked.get();
        let begun = is_enough.then(|| self.begin(host.now()));
        let flow = match begun {
            // By a newer policy it may not have been enough.
            Some(flow) if self.parked.get() || !matches!(&*self.state.borrow(), State::New) => flow,
            _ if self.held.get() || self.intake.keep(host, &self.edge.room) => Flow::Hold,
            _ => Flow::Pause,
        };
        self.intake.slows_client(flow == Flow::Hold);
        flow
    }

    /// The request's trailers are there: the body is through.
    pub fn on_request_trailers(self: &Rc<Self>) -> Flow {
        self.intake.ends();
        match &*self.state.borrow() {
            State::Passed(_) | State::Over => return Flow::Continue,
            State::New | State::Identified(_) => {}
        }
        if self.intake.is_reading() && !self.parked.get() {
            return self.begin(self.edge.host.now());
        }
        Flow::Pause
    }

    /// Reads and decides the request from its start; the stream must be the current one.
    pub fn begin(self: &Rc<Self>, now: Now) -> Flow {
        self.parked.set(false);
        if !matches!(&*self.state.borrow(), State::New) {
            // The proxy has answered it meanwhile.
            return Flow::Pause;
        }
        let headers = self.edge.host.request_headers();
        let head = Head::of(&headers);
        self.intake.declares(head.content_length);
        for name in &head.spoofed {
            self.edge.host.remove_request_header(name);
        }
        let policy = match self.edge.policy() {
            Ok(policy) => policy,
            Err(None) => return self.park(Cause::Policy, now),
            Err(Some(denial)) => return self.deny(&denial, None, Rpc::NONE),
        };
        let by_policy = policy.compiled.enforcement;
        let path = match head.normalised_path() {
            Ok(path) => path,
            Err(denial) => return self.refuse(&denial, &policy, Rpc::NONE, by_policy),
        };
        let reading = Reading { policy: &policy.compiled, head: &head, path: &path };
        let body = match self.intake.read(&*self.edge.host, &reading) {
            Some(body) => body,
            // A newer policy wants to read what cannot come any more.
            None if self.held.get() || self.intake.is_gone() => {
                return self.refuse(&Denial::busy(), &policy, Rpc::NONE, by_policy);
            }
            None => {
                // From here on it waits for its own body, whose callback lets it go on.
                self.waited.set(false);
                return Flow::Pause;
            }
        };
        let asked = match reading.price(body) {
            Ok(asked) => asked,
            Err(fault) => {
                let rpc = Rpc { calls: fault.calls.as_ref(), fault: fault.code };
                return self.refuse(&fault.denial, &policy, rpc, by_policy);
            }
        };
        self.edge.metrics.unreadable(asked.unreadable);
        let enforcement = asked.bill.enforcement(&policy.compiled);
        let credentials = asked.credentials(&policy.compiled, &head, || self.edge.host.client_address());
        let calls = asked.calls;
        self.proxy_route.replace(asked.proxy_route);
        let identity = match credentials {
            Ok(Credentials::Nobody) => return self.pass_public(&policy, None),
            Ok(Credentials::Address { subject, tier }) => Ok(self.edge.anonymous(&subject, tier)),
            Ok(Credentials::Token(token)) => self.edge.identify(&policy, token, now),
            Err(denial) => return self.refuse(&denial, &policy, Rpc::of(calls.as_ref()), enforcement),
        };
        match identity {
            Ok(identity) => {
                let (bill, is_grpc) = (asked.bill, head.is_grpc);
                let identified = Identified { policy, identity, bill, calls, enforcement, is_grpc };
                let identified = Rc::new(identified);
                self.replace(State::Identified(identified));
                let valid = self.edge.lease_is_valid(now);
                self.decide(now, Mode::Leased { valid })
            }
            Err(fault @ TokenFault::UnknownKey { .. })
                if !self.keyless.get() && self.edge.ask_for_keys(&policy, fault, now) =>
            {
                self.park(Cause::Key, now)
            }
            Err(fault) => {
                self.refuse(&Denial::bad_token(fault), &policy, Rpc::of(calls.as_ref()), enforcement)
            }
        }
    }

    /// No newer keys came: its token is refused like any other that cannot be verified. The stream must be the current one.
    pub fn go_without_keys(self: &Rc<Self>, now: Now) {
        self.keyless.set(true);
        self.begin(now);
    }

    /// Decides an identified request; the stream must be the current one.
    pub fn decide(self: &Rc<Self>, now: Now, mode: Mode) -> Flow {
        let Some(of) = self.identified() else {
            return Flow::Pause;
        };
        let mode = if self.edge.is_alone() { Mode::Alone } else { mode };
        match self.edge.decide(&of, mode, now) {
            Ok(Decision::Admit { admitted, member }) => self.admit(of, *admitted, member, mode),
            // What is only shadowed was not refused: a limit may be enforced where nothing else is.
            Ok(Decision::Deny(denial)) => self.deny(&denial, Some(&of.policy), Rpc::of(of.calls.as_ref())),
            Ok(Decision::Ask(subject)) => self.park(Cause::Subject(subject), now),
            Err(_) => self.refuse_identified(&Denial::busy(), &of),
        }
    }

    /// The identified parts, while the request waits.
    pub fn identified(&self) -> Option<Rc<Identified>> {
        match &*self.state.borrow() {
            State::Identified(of) => Some(of.clone()),
            _ => None,
        }
    }

    /// Refuses an identified request, unless what holds for it is only shadowed.
    pub fn refuse_identified(&self, denial: &Denial, of: &Identified) -> Flow {
        self.refuse(denial, &of.policy, Rpc::of(of.calls.as_ref()), of.enforcement)
    }

    /// Answers the request; the stream must be the current one.
    pub fn deny(&self, denial: &Denial, policy: Option<&Policy>, rpc: Rpc<'_>) -> Flow {
        self.end_with(denial, policy, rpc, true)
    }

    /// Answers a denial. `held`: the request's head has not gone on, and can still be written on; after that the proxy has
    /// none, and would take an attempt for a fault.
    fn end_with(&self, denial: &Denial, policy: Option<&Policy>, rpc: Rpc<'_>, held: bool) -> Flow {
        let of = match self.replace(State::Over) {
            State::Identified(of) => Some(of),
            _ => None,
        };
        self.edge.metrics.decided("deny", denial.code, &denial.tier);
        let line = of.as_ref().and_then(|of| denial.line_of(&of.bill));
        if !self.edge.is_alone() {
            let subject = of.as_ref().map_or("", |of| &of.identity.subject);
            let route = line.or_else(|| of.as_ref()?.bill.lines.first());
            let route = route.map_or("", |line| &line.route.name);
            self.edge.denials.count(denial, subject, route, self.edge.host.now());
        }
        let asker = Asker {
            policy: policy.map(|policy| &policy.compiled),
            route: line.map(|line| &*line.route),
            subject: of.as_ref().map_or("", |of| &of.identity.subject),
            calls: rpc.calls,
            rpc_fault: rpc.fault,
            refused: line.map(|line| &*line.calls),
        };
        if held {
            answer::note(&*self.edge.host, denial, &asker);
        }
        answer::send(&*self.edge.host, denial, &asker);
        Flow::Pause
    }

    /// The response headers are there; `end` says that nothing follows them.
    pub fn on_response_headers(&self, end: bool) {
        let State::Passed(mut passed) = self.replace(State::Over) else {
            return;
        };
        let host = &*self.edge.host;
        let charges = passed.of.bill.has_charges();
        let waits = passed.waits_for_end();
        let status = if waits || charges { host.response_status() } else { None };
        answer::tell(host, &passed.fields);
        if waits {
            let routes = passed.of.bill.lines.iter().map(|line| &*line.route);
            let bytes_max =
                usize::try_from(passed.of.policy.compiled.bodies.json_bytes_max).unwrap_or(usize::MAX);
            passed.watched = Some(Box::new(Watched::begin(host, status, routes, bytes_max)));
            if end {
                return self.finish(&mut passed);
            }
            self.replace(State::Passed(passed));
        } else if status.is_some_and(|status| passed.reservations.is_refunded(status)) {
            self.settle(&passed, status, None);
        }
    }

    /// A part of the response's body passes.
    pub fn on_response_body(&self, length: usize, end: bool) {
        let State::Passed(mut passed) = self.replace(State::Over) else {
            return;
        };
        if let Some(watched) = &mut passed.watched {
            let bytes = watched.reads().then(|| self.edge.host.response_body(length));
            watched.body(length, bytes.as_deref());
        }
        if end {
            return self.finish(&mut passed);
        }
        self.replace(State::Passed(passed));
    }

    /// The response's trailers are there: its body is through.
    pub fn on_response_trailers(&self) {
        let State::Passed(mut passed) = self.replace(State::Over) else {
            return;
        };
        if let Some(watched) = &mut passed.watched {
            watched.trailers(&*self.edge.host);
        }
        self.finish(&mut passed);
    }

    /// The stream is over, however it ended. What a request took that the upstream never answered stays charged: a caller
    /// must not get work for nothing by hanging up.
    pub fn on_end(&self) {
        if let State::Passed(mut passed) = self.replace(State::Over)
            && passed.waits_for_end()
        {
            self.finish(&mut passed);
        }
        self.edge.waiting.forget(self.stream);
    }

    fn finish(&self, passed: &mut Passed) {
        let unread = passed.watched.as_mut().map_or(0, |watched| watched.finish());
        self.edge.metrics.unreadable(unread);
        let watched = passed.watched.as_deref();
        self.settle(passed, watched.and_then(|watched| watched.status), watched);
    }

    fn settle(&self, passed: &Passed, status: Option<u16>, watched: Option<&Watched>) {
        let amount =
            &|amount: &Amount| watched.map_or(Err(Unread::Missing), |watched| watched.amount(amount));
        let label = &|from: &LabelFrom| watched.and_then(|watched| watched.label(from));
        let ending = Ending { status, request_bytes: self.intake.bytes(), amount, label };
        self.edge.settle(&passed.of, &passed.reservations, &ending);
    }

    fn admit(&self, of: Rc<Identified>, admitted: Admitted, member: Option<Reservation>, mode: Mode) -> Flow {
        let host = &*self.edge.host;
        let tier = admitted.tier.as_deref();
        let tier_name = tier.map_or("", |tier| &tier.name);
        host.set_request_header("x-tollgate-subject", &of.identity.subject);
        host.set_request_header("x-tollgate-tier", tier_name);
        if let Some(tier) = tier.filter(|tier| !tier.features_header.is_empty()) {
            host.set_request_header("x-tollgate-features", &tier.features_header);
        }
        for code in &admitted.shadow {
            self.edge.metrics.decided("shadow", code, tier_name);
        }
        if !admitted.shadow.is_empty() {
            host.set_request_header("x-tollgate-shadow", &admitted.shadow.join(","));
        }
        if !admitted.over.is_empty() {
            host.set_request_header("x-tollgate-overage", &admitted.over.join(","));
        }
        match mode {
            _ if admitted.bypass => {
                host.set_request_header("x-tollgate-decision", "bypass");
                self.edge.metrics.decided("allow", "bypass", tier_name);
            }
            Mode::Debt { .. } => {
                host.set_request_header("x-tollgate-decision", "open");
                self.edge.metrics.decided("open", "control-plane-unavailable", tier_name);
            }
            _ => self.edge.metrics.decided("allow", "within-limits", tier_name),
        }
        if of.bill.lines.iter().any(|line| line.route.reads_response()) {
            // What the upstream compresses cannot be read.
            host.remove_request_header("accept-encoding");
        }
        if self.tell_route(&of.policy) || of.policy.compiled.route_by_tier {
            host.choose_route_again();
        }
        self.edge.touch(&of);
        let tier = if admitted.sizes.is_empty() { String::new() } else { tier_name.to_owned() };
        let passed = Passed {
            of,
            reservations: Reservations { subject: admitted.reservation, member },
            fields: admitted.fields,
            sizes: admitted.sizes,
            tier,
            watched: None,
        };
        self.replace(State::Passed(Box::new(passed)));
        match self.check_size() {
            Flow::Continue => self.pass(),
            refused => refused,
        }
    }

    /// Holds the bytes that were seen of the body against the largest one allowed: a body may come without its length.
    fn check_size(&self) -> Flow {
        let bytes = self.intake.bytes();
        let over = match &mut *self.state.borrow_mut() {
            // Once the upstream answers there is nothing to refuse, and nothing to take back: it has done its work.
            State::Passed(passed) if passed.watched.is_none() => {
                let over = passed.sizes.iter().position(|(limit, _)| bytes > limit.units);
                over.map(|at| passed.sizes.remove(at))
            }
            _ => None,
        };
        let Some((limit, holds)) = over else { return Flow::Continue };
        if holds != Enforcement::Enforce {
            self.edge.metrics.decided("shadow", "size-exceeded", "");
            return self.check_size();
        }
        let State::Passed(passed) = self.replace(State::Over) else { return Flow::Continue };
        self.edge.undo(&passed.of, &passed.reservations);
        let denial = Denial::too_large(&limit, &passed.tier, bytes);
        let of = passed.of.clone();
        self.replace(State::Identified(passed.of));
        self.end_with(&denial, Some(&of.policy), Rpc::of(of.calls.as_ref()), false)
    }

    /// Refuses a request, or lets it pass with a note where nothing is to be refused yet.
    fn refuse(&self, denial: &Denial, policy: &Policy, rpc: Rpc<'_>, enforcement: Enforcement) -> Flow {
        if enforcement != Enforcement::Shadow {
            return self.deny(denial, Some(policy), rpc);
        }
        self.edge.metrics.decided("shadow", denial.code, &denial.tier);
        self.pass_public(policy, Some(denial.code))
    }

    /// Lets a request pass without a subject.
    fn pass_public(&self, policy: &Policy, shadow: Option<&'static str>) -> Flow {
        self.edge.host.set_request_header("x-tollgate-decision", "allow");
        match shadow {
            Some(code) => self.edge.host.set_request_header("x-tollgate-shadow", code),
            None => self.edge.metrics.decided("allow", "public", ""),
        }
        if self.tell_route(policy) {
            self.edge.host.choose_route_again();
        }
        self.replace(State::Over);
        self.pass()
    }

    /// Tells the proxy which route was taken, where it is to go by that. Answers whether it must choose its own again.
    fn tell_route(&self, policy: &Policy) -> bool {
        if let Some(route) = &*self.proxy_route.borrow() {
            self.edge.host.set_request_header("x-tollgate-route", &route.name);
        }
        // Its first choice was made before the client's own headers were removed, and may be by a name that stood there.
        policy.compiled.has_proxy_routes
    }

    fn pass(&self) -> Flow {
        if self.waited.get() {
            self.edge.host.resume_request();
        }
        Flow::Continue
    }

    fn park(self: &Rc<Self>, cause: Cause, now: Now) -> Flow {
        let flow = match cause {
            // A policy may ask for the body.
            Cause::Policy => Flow::Pause,
            // It begins anew, and reads its body again from where that is.
            Cause::Key if self.intake.is_with_proxy() => Flow::Pause,
            Cause::Key | Cause::Subject(_) => Flow::Hold,
        };
        if self.edge.waiting.add(self, cause, now) {
            self.waited.set(true);
            self.parked.set(true);
            self.held.set(flow == Flow::Hold);
            self.edge.wake_soon();
            return flow;
        }
        match self.identified() {
            Some(of) => self.refuse_identified(&Denial::busy(), &of),
            None => self.deny(&Denial::busy(), None, Rpc::NONE),
        }
    }

    /// Goes on to another state, where nothing reads the request's body any more.
    fn replace(&self, state: State) -> State {
        self.intake.release();
        std::mem::replace(&mut *self.state.borrow_mut(), state)
    }
}

impl Passed {
    /// Whether the end of the response settles something, and not only its status.
    fn waits_for_end(&self) -> bool {
        self.reservations.waits_for_end() || (self.of.is_grpc && self.of.bill.has_charges())
    }
}

impl Reservations {
    fn waits_for_end(&self) -> bool {
        self.subject.waits_for_end() || self.member.as_ref().is_some_and(Reservation::waits_for_end)
    }

    fn is_refunded(&self, status: u16) -> bool {
        self.subject.is_refunded(status)
            || self.member.as_ref().is_some_and(|member| member.is_refunded(status))
    }
}
