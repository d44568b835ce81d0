//! What comes in: how much of a request's body was seen, whether it must be read before the request can be decided, and
//! what the request asks for.

use std::cell::Cell;
use std::sync::Arc;

use tollgate_policy::body::rpc::{Calls, RpcFault};
use tollgate_policy::body::{Unread, json};
use tollgate_policy::compile::{
    self, CallName, CompiledCharge, CompiledPolicy, CompiledRoute, IdSource, Match,
};
use tollgate_policy::decision::{BEYOND, Bill, Denial, Facts, Line};
use tollgate_policy::document::{Auth, Enforcement};
use tollgate_policy::thing::ThingId;

use crate::head::Head;
use crate::host::Host;

/// How far a request's body is.
#[derive(Debug, Default)]
pub struct Intake {
    bytes: Cell<usize>,
    whole: Cell<bool>,
    /// More than this is not read; 0 while nothing is to be read.
    bytes_max: Cell<usize>,
}

/// A body that may have been needed.
pub enum Body {
    /// It was not needed, or there is none.
    Unread,
    /// All of it.
    Whole(Vec<u8>),
    /// There is more than is read.
    TooLong,
}

/// What it takes to know what a request asks for.
pub struct Reading<'a> {
    /// The policy.
    pub policy: &'a CompiledPolicy,
    /// Its headers.
    pub head: &'a Head<'a>,
    /// Its path, normalised.
    pub path: &'a str,
}

/// What a request asks for.
pub struct Asked {
    /// Its costs.
    pub bill: Bill,
    /// Its JSON-RPC calls, where it has some.
    pub calls: Option<Calls>,
    /// Whether a token is needed: the strictest of its routes.
    pub auth: Auth,
    /// Amounts that were not where the policy says.
    pub unreadable: usize,
}

/// A request that cannot be priced.
pub struct Unpriced {
    /// What is wrong.
    pub denial: Denial,
    /// Its JSON-RPC calls, as far as there are some.
    pub calls: Option<Calls>,
    /// JSON-RPC's own code of it, where it has one.
    pub code: Option<i32>,
}

/// JSON-RPC 2.0 section 5.1.
const PARSE_ERROR: i32 = -32_700;
const INVALID_REQUEST: i32 = -32_600;

impl Intake {
    /// The headers are there; `end` says that nothing follows.
    pub fn begin(&self, end: bool) {
        self.whole.set(end);
    }

    /// The proxy keeps so many bytes of the body.
    pub fn holds(&self, bytes: usize, end: bool) {
        self.bytes.set(bytes);
        self.whole.set(self.whole.get() || end);
    }

    /// So many more bytes pass.
    pub fn passes(&self, bytes: usize) {
        self.bytes.set(self.bytes.get().saturating_add(bytes));
    }

    /// The body is through.
    pub fn ends(&self) {
        self.whole.set(true);
    }

    /// Bytes seen so far.
    pub fn bytes(&self) -> u64 {
        self.bytes.get() as u64
    }

    /// Whether the body is awaited before anything can be decided.
    pub fn is_reading(&self) -> bool {
        self.bytes_max.get() > 0
    }

    /// Whether there is enough of it.
    pub fn is_ready(&self) -> bool {
        self.whole.get() || self.bytes.get() > self.bytes_max.get()
    }

    /// The body, where it is needed. `None`: it is, and must be awaited.
    pub fn read(&self, host: &dyn Host, reading: &Reading<'_>) -> Option<Body> {
        if !reading.needs_body() {
            return Some(Body::Unread);
        }
        let bytes_max = usize::try_from(reading.policy.bodies.json_bytes_max).unwrap_or(usize::MAX);
        self.bytes_max.set(bytes_max.max(1));
        if reading.head.content_length.is_some_and(|length| length > bytes_max as u64)
            || self.bytes.get() > bytes_max
        {
            return Some(Body::TooLong);
        }
        match (self.whole.get(), self.bytes.get()) {
            (true, 0) => Some(Body::Unread),
            (true, bytes) => Some(Body::Whole(host.request_body(bytes))),
            (false, _) => None,
        }
    }
}

impl Reading<'_> {
    fn needs_body(&self) -> bool {
        self.with_head(|head| match self.policy.route(head) {
            Match::NeedsBody => true,
            Match::Route(route) => route.charges.iter().any(CompiledCharge::reads_request_json),
        })
    }

    fn with_head<T>(&self, look: impl FnOnce(&compile::Head<'_>) -> T) -> T {
        let headers = |name: &str| self.head.header(name);
        look(&compile::Head {
            method: &self.head.method,
            path: self.path,
            host: &self.head.host,
            headers: &headers,
        })
    }

    /// What the request asks for, or what is wrong with its body.
    pub fn price(&self, body: Body, intake: &Intake) -> Result<Asked, Unpriced> {
        let body_bytes = match &body {
            Body::Whole(bytes) => Some(bytes.len() as u64),
            Body::Unread if intake.whole.get() => Some(intake.bytes()),
            Body::Unread | Body::TooLong => self.head.content_length,
        };
        let Body::Whole(bytes) = body else {
            return self.one(body_bytes, &[]);
        };
        let pointers = &self.policy.request_pointers;
        if self.is_rpc() {
            match Calls::parse(&bytes, pointers) {
                // Some servers are less strict than the protocol, and would carry out what nobody has counted.
                Ok(calls) if calls.has_invalid() => {
                    let denial = Denial::bad_body("each member of a batch must be a JSON-RPC 2.0 request");
                    return Err(Unpriced { denial, calls: Some(calls), code: Some(INVALID_REQUEST) });
                }
                // A client's answers to its server ask for nothing.
                Ok(calls) if calls.calls().next().is_none() => return self.one(body_bytes, &[]),
                Ok(calls) => return self.several(calls, body_bytes),
                Err(RpcFault::NotJsonRpc) => {}
                Err(fault) => {
                    let code = match fault {
                        RpcFault::NotJson(_) => PARSE_ERROR,
                        _ => INVALID_REQUEST,
                    };
                    let denial = match fault {
                        RpcFault::TooManyCalls => Denial::batch_too_large(&fault.to_string()),
                        _ => Denial::bad_body(&fault.to_string()),
                    };
                    return Err(Unpriced { denial, calls: None, code: Some(code) });
                }
            }
        }
        let values = match json::numbers(&bytes, pointers) {
            Ok(values) => values.into_iter().map(amount).collect(),
            Err(_) => vec![None; pointers.len()],
        };
        self.one(body_bytes, &values)
    }

    fn is_rpc(&self) -> bool {
        self.with_head(|head| self.policy.route(head) == Match::NeedsBody)
    }

    /// A request that is one thing.
    fn one(&self, body_bytes: Option<u64>, values: &[Option<u64>]) -> Result<Asked, Unpriced> {
        let route = &self.with_head(|head| self.policy.route_of_call(head, None).clone());
        let auth = route.auth;
        if route.is_plain() {
            let bill = Bill { body_bytes, ..Bill::plain(route) };
            return Ok(Asked { bill, calls: None, auth, unreadable: 0 });
        }
        let rows = [values];
        let rows = if values.is_empty() { &rows[..0] } else { &rows[..] };
        let unpriced = |denial| Unpriced { denial, calls: None, code: None };
        let (line, unreadable) = self.line(route, body_bytes, rows).map_err(unpriced)?;
        Ok(Asked { bill: Bill { lines: vec![line], body_bytes }, calls: None, auth, unreadable })
    }

    /// Each call takes its own route; those that take the same one are counted together.
    fn several(&self, calls: Calls, body_bytes: Option<u64>) -> Result<Asked, Unpriced> {
        let mut routes: Vec<(Arc<CompiledRoute>, Vec<usize>)> = Vec::new();
        let mut auth = Auth::None;
        let amounts: Vec<Vec<Option<u64>>> =
            calls.calls().map(|call| call.amounts.iter().copied().map(amount).collect()).collect();
        for (position, call) in calls.calls().enumerate() {
            let name = CallName { method: &call.method, tool: call.tool.as_deref() };
            let route = self.with_head(|head| self.policy.route_of_call(head, Some(name)).clone());
            auth = auth.strictest(route.auth);
            if route.auth == Auth::None {
                continue;
            }
            match routes.iter_mut().find(|(known, _)| Arc::ptr_eq(known, &route)) {
                Some((_, taking)) => taking.push(position),
                None => routes.push((route, vec![position])),
            }
        }
        let mut lines = Vec::with_capacity(routes.len());
        let mut unreadable = 0;
        for (route, taking) in routes {
            let rows: Vec<&[Option<u64>]> =
                taking.iter().filter_map(|at| amounts.get(*at)).map(Vec::as_slice).collect();
            let (mut line, missing) = match self.line(&route, body_bytes, &rows) {
                Ok(line) => line,
                Err(denial) => return Err(Unpriced { denial, calls: Some(calls), code: None }),
            };
            line.calls = taking;
            lines.push(line);
            unreadable += missing;
        }
        Ok(Asked { bill: Bill { lines, body_bytes }, calls: Some(calls), auth, unreadable })
    }

    fn line(
        &self,
        route: &Arc<CompiledRoute>,
        body_bytes: Option<u64>,
        values: &[&[Option<u64>]],
    ) -> Result<(Line, usize), Denial> {
        let header = |name: &str| self.head.only_header(name);
        let (unread, unpriced) = (Cell::new(0), Cell::new(None));
        let facts = Facts {
            header: &header,
            body_bytes,
            pointers: &self.policy.request_pointers,
            values,
            unread: &unread,
            unpriced: &unpriced,
        };
        let line = Line::of(route, &facts, &|charge| self.thing(route, charge));
        match unpriced.get() {
            Some(meter) => {
                Err(Denial::unpriced(self.policy.meters.get(meter).map_or("units", String::as_str)))
            }
            None => Ok((line, unread.get())),
        }
    }

    /// The id of the thing that a charge adds or removes. Without one an addition counts, and nothing is released.
    fn thing(&self, route: &CompiledRoute, charge: &CompiledCharge) -> Option<ThingId> {
        match charge.id.as_ref()? {
            IdSource::Path(name) => route.path_parameter(self.path, name).map(ThingId::of_path_parameter),
            IdSource::Header(name) => {
                self.head.only_header(name).filter(|value| !value.is_empty()).map(ThingId::of)
            }
        }
    }
}

impl Asked {
    /// What holds for the request apart from limits: the strictest of its routes.
    pub fn enforcement(&self, policy: &CompiledPolicy) -> Enforcement {
        let of = |line: &Line| policy.enforcement_of(&line.route, None);
        self.bill.lines.iter().map(of).reduce(Enforcement::strictest).unwrap_or(policy.enforcement)
    }
}

/// An amount that can be charged.
fn amount(found: Result<u64, Unread>) -> Option<u64> {
    found.ok().map(|units| units.min(BEYOND))
}
