//! One request: read, identified, decided, and settled when its response comes.
//!
//! Runs within the stream's callbacks, or, after a wait for the control plane, from the edge's: then the edge selects the
//! stream first. It keeps no numbers; those are in the subject's record.

use std::borrow::Cow;
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;

use tollgate_policy::compile::{CompiledRoute, CompiledTier};
use tollgate_policy::document::Auth;
use tollgate_policy::jwt::TokenFault;
use tollgate_policy::path;

use crate::admission::{Mode, Outcome, Question, Reservation};
use crate::answer::Denial;
use crate::edge::{Edge, Policy};
use crate::host::{HeaderMap, Now};
use crate::identity::Identity;
use crate::wait::Cause;

/// Whether the proxy goes on with the request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flow {
    /// It does.
    Continue,
    /// It waits, or was answered.
    Pause,
}

/// One request.
pub struct Request {
    edge: Rc<Edge>,
    /// The proxy's id of the stream.
    pub stream: u32,
    state: RefCell<State>,
    waited: Cell<bool>,
}

#[derive(Default)]
enum State {
    /// Not decided yet.
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
    /// What it calls.
    pub route: Arc<CompiledRoute>,
}

struct Passed {
    of: Rc<Identified>,
    reservation: Reservation,
    ratelimit: String,
}

/// What the request headers say, as they stand in the proxy's answer.
struct Parsed<'a> {
    method: Cow<'a, str>,
    path: Cow<'a, str>,
    authorization: Authorization<'a>,
    spoofed: Vec<String>,
}

/// The `Authorization` headers of a request.
enum Authorization<'a> {
    None,
    One(&'a [u8]),
    Several,
}

/// Headers that only this filter sets.
const OURS: &[u8] = b"x-tollgate-";

impl Request {
    /// A new stream.
    pub fn new(edge: Rc<Edge>, stream: u32) -> Rc<Self> {
        Rc::new(Self { edge, stream, state: RefCell::default(), waited: Cell::new(false) })
    }

    /// The request headers are there.
    pub fn on_request_headers(self: &Rc<Self>) -> Flow {
        let now = self.edge.host.now();
        self.begin(now)
    }

    /// Reads and decides the request from its start; the stream must be the current one.
    pub fn begin(self: &Rc<Self>, now: Now) -> Flow {
        let headers = self.edge.host.request_headers();
        let parsed = Parsed::from(&headers);
        for name in &parsed.spoofed {
            self.edge.host.remove_request_header(name);
        }
        let policy = match self.edge.policy() {
            Ok(policy) => policy,
            Err(None) => return self.park(Cause::Policy, now),
            Err(Some(denial)) => return self.deny(&denial, None),
        };
        let path = match path::normalise(&parsed.path) {
            Ok(path) => path,
            Err(fault) => return self.deny(&Denial::ambiguous_path(fault), Some(&policy)),
        };
        let route = policy.compiled.route(&parsed.method, &path).clone();
        if route.auth == Auth::None {
            self.edge.host.set_request_header("x-tollgate-decision", "allow");
            self.edge.metrics.decided("allow", "public", "");
            *self.state.borrow_mut() = State::Over;
            return self.pass();
        }
        let token = match parsed.token() {
            Ok(token) => token,
            Err(denial) => return self.deny(&denial, Some(&policy)),
        };
        match self.edge.identify(&policy, token, now) {
            Ok(identity) => {
                let identified = Rc::new(Identified { policy, identity, route });
                *self.state.borrow_mut() = State::Identified(identified);
                let valid = self.edge.lease_is_valid(now);
                self.decide(now, Mode::Leased { valid })
            }
            Err(fault @ TokenFault::UnknownKey { .. }) if self.edge.ask_for_keys(&policy, fault, now) => {
                self.park(Cause::Key, now)
            }
            Err(fault) => self.deny(&Denial::bad_token(fault), Some(&policy)),
        }
    }

    /// Decides an identified request; the stream must be the current one.
    pub fn decide(self: &Rc<Self>, now: Now, mode: Mode) -> Flow {
        let Some(of) = self.identified() else {
            return Flow::Pause;
        };
        let mode = if self.edge.is_alone() { Mode::Alone } else { mode };
        let outcome = self.edge.decide(&of, mode, now);
        match outcome {
            Ok(Outcome::Admit { reservation, tier, ratelimit }) => {
                self.admit(of, reservation, &tier, ratelimit, mode)
            }
            Ok(Outcome::Deny(denial)) => self.deny(&denial, Some(&of.policy)),
            Ok(Outcome::Ask) => self.park(Cause::Subject(of.identity.subject.clone()), now),
            Err(_) => self.deny(&Denial::busy(), Some(&of.policy)),
        }
    }

    /// The identified parts, while the request waits.
    pub fn identified(&self) -> Option<Rc<Identified>> {
        match &*self.state.borrow() {
            State::Identified(of) => Some(of.clone()),
            _ => None,
        }
    }

    /// Answers the request; the stream must be the current one.
    pub fn deny(&self, denial: &Denial, policy: Option<&Policy>) -> Flow {
        self.replace(State::Over);
        self.edge.metrics.decided("deny", denial.code, &denial.tier);
        denial.send(&*self.edge.host, policy.map(|policy| &policy.compiled));
        Flow::Pause
    }

    /// The response headers are there: settle.
    pub fn on_response_headers(&self) {
        let State::Passed(passed) = self.replace(State::Over) else {
            return;
        };
        let host = &*self.edge.host;
        if !passed.reservation.is_empty()
            && host.response_status().is_some_and(|status| passed.reservation.is_refunded(status))
        {
            self.edge.refund(&passed.of, &passed.reservation);
        }
        if !passed.ratelimit.is_empty() {
            host.set_response_header("ratelimit", &passed.ratelimit);
            host.set_response_header("ratelimit-policy", passed.reservation.policy_header());
        }
    }

    /// The stream is over, however it ended. What a request took that the upstream never answered stays charged: a caller
    /// must not get work for nothing by hanging up.
    pub fn on_log(&self) {
        self.replace(State::Over);
        self.edge.waiting.forget(self.stream);
    }

    fn admit(
        &self,
        of: Rc<Identified>,
        reservation: Reservation,
        tier: &CompiledTier,
        ratelimit: String,
        mode: Mode,
    ) -> Flow {
        let host = &*self.edge.host;
        host.set_request_header("x-tollgate-subject", &of.identity.subject);
        host.set_request_header("x-tollgate-tier", &tier.name);
        if !tier.features_header.is_empty() {
            host.set_request_header("x-tollgate-features", &tier.features_header);
        }
        if mode == Mode::Debt {
            host.set_request_header("x-tollgate-decision", "open");
            self.edge.metrics.decided("open", "control-plane-unavailable", &tier.name);
        } else {
            self.edge.metrics.decided("allow", "within-limits", &tier.name);
        }
        self.edge.touch(&of.identity);
        self.replace(State::Passed(Box::new(Passed { of, reservation, ratelimit })));
        self.pass()
    }

    fn pass(&self) -> Flow {
        if self.waited.get() {
            self.edge.host.resume_request();
        }
        Flow::Continue
    }

    fn park(self: &Rc<Self>, cause: Cause, now: Now) -> Flow {
        self.waited.set(true);
        if self.edge.waiting.add(self, cause, now) {
            self.edge.wake_soon();
            return Flow::Pause;
        }
        self.deny(&Denial::busy(), None)
    }

    fn replace(&self, state: State) -> State {
        std::mem::replace(&mut *self.state.borrow_mut(), state)
    }

    /// The question that the edge's asks are made of.
    pub fn question<'a>(of: &'a Identified, edge: &Edge, now: Now) -> Question<'a> {
        Question {
            policy: &of.policy.compiled,
            identity: &of.identity,
            route: &of.route,
            session: edge.session.id(),
            now,
        }
    }
}

impl<'a> Parsed<'a> {
    fn from(headers: &'a HeaderMap) -> Self {
        let mut parsed = Self {
            method: Cow::Borrowed(""),
            path: Cow::Borrowed(""),
            authorization: Authorization::None,
            spoofed: Vec::new(),
        };
        for (name, value) in headers.iter() {
            match name {
                // Bytes that are not UTF-8 become U+FFFD, which no route and no method has, and no path may have.
                b":method" => parsed.method = String::from_utf8_lossy(value),
                b":path" => parsed.path = String::from_utf8_lossy(value),
                b"authorization" => {
                    parsed.authorization = match parsed.authorization {
                        Authorization::None => Authorization::One(value),
                        _ => Authorization::Several,
                    }
                }
                _ if name.starts_with(OURS) => {
                    parsed.spoofed.push(String::from_utf8_lossy(name).into_owned());
                }
                _ => {}
            }
        }
        parsed
    }

    /// The one bearer token (RFC 6750 2.1); the scheme's case does not matter (RFC 9110 11.1).
    fn token(&self) -> Result<&'a [u8], Box<Denial>> {
        match self.authorization {
            Authorization::None => Err(Box::new(Denial::no_token())),
            Authorization::One(value) => match value.split_at_checked(7) {
                Some((scheme, token)) if scheme.eq_ignore_ascii_case(b"Bearer ") => Ok(token.trim_ascii()),
                _ => Err(Box::new(Denial::bad_authorization())),
            },
            Authorization::Several => Err(Box::new(Denial::bad_authorization())),
        }
    }
}
