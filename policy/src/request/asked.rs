//! What a request asks for: its routes, and what each costs it.

use std::cell::Cell;
use std::sync::Arc;

use super::{Head, address};
use crate::body::rpc::{Calls, RpcFault};
use crate::body::{Unread, json};
use crate::compile::{self, CallName, CompiledCharge, CompiledPolicy, CompiledRoute, IdSource, Match};
use crate::decision::{BEYOND, Bill, Denial, Facts, Line};
use crate::document::{Auth, OverBodies};
use crate::thing::ThingId;

/// A body that may have been needed.
pub enum Body {
    /// It was not needed. So many bytes, where it is through already.
    Unread(Option<u64>),
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
    /// The route that the proxy is to go by, where the request, and every call of it, took that one.
    pub proxy_route: Option<Arc<CompiledRoute>>,
}

/// Who is to be charged, as far as the request says.
pub enum Credentials<'a> {
    /// Nobody: all may call, and nothing is counted.
    Nobody,
    /// Whoever calls from this address.
    Address {
        /// Its subject.
        subject: String,
        /// The tier of callers without a token.
        tier: &'a str,
    },
    /// Whom this token names, once it is verified.
    Token(&'a [u8]),
}

/// A request that cannot be priced.
pub struct Unpriced {
    /// What is wrong.
    pub denial: Box<Denial>,
    /// Its JSON-RPC calls, as far as there are some.
    pub calls: Option<Calls>,
    /// JSON-RPC's own code of it, where it has one.
    pub code: Option<i32>,
}

/// JSON-RPC 2.0 section 5.1.
const PARSE_ERROR: i32 = -32_700;
const INVALID_REQUEST: i32 = -32_600;

impl Reading<'_> {
    /// Whether the body must be read before anything can be said of the request.
    pub fn needs_body(&self) -> bool {
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

    /// Most bytes of a body that are read.
    pub fn body_bytes_max(&self) -> usize {
        usize::try_from(self.policy.bodies.json_bytes_max).unwrap_or(usize::MAX)
    }

    /// The route of a JSON-RPC call of the request, or, without one, of a request that has none.
    pub fn route_of_call(&self, call: Option<CallName<'_>>) -> Arc<CompiledRoute> {
        self.with_head(|head| self.policy.route_of_call(head, call).clone())
    }

    /// The first header that decides on the route and comes more than once: the application may go by another of its values.
    fn repeated_header(&self) -> Option<&str> {
        let names = self.policy.route_headers.iter().map(|name| &**name);
        let mut names = names.filter(|name| self.head.header(name).is_some());
        names.find(|name| self.head.only_header(name).is_none())
    }

    /// What the request asks for, or what is wrong with it.
    pub fn price(&self, body: Body) -> Result<Asked, Unpriced> {
        if let Some(name) = self.repeated_header() {
            let denial = Box::new(Denial::ambiguous_header(name));
            return Err(Unpriced { denial, calls: None, code: None });
        }
        let (body_bytes, bytes) = match body {
            Body::Whole(bytes) => (Some(bytes.len() as u64), bytes),
            Body::Unread(bytes) => return self.one(bytes.or(self.head.content_length), &[], &[]),
            // What holds for a call that nobody reads cannot be known: only amounts may go unmetered. Labels refuse nobody.
            Body::TooLong if self.is_rpc() || (self.refuses_long() && self.reads_amounts()) => {
                let denial = Denial::body_too_large(self.policy.bodies.json_bytes_max);
                return Err(Unpriced { denial: Box::new(denial), calls: None, code: None });
            }
            Body::TooLong => return self.one(self.head.content_length, &[], &[]),
        };
        let (pointers, labels) = (&self.policy.request_pointers, &self.policy.request_labels);
        if self.is_rpc() {
            match Calls::parse(&bytes, pointers, labels) {
                // Some servers are less strict than the protocol, and would carry out what nobody has counted.
                Ok(calls) if calls.has_invalid() => {
                    let denial = Denial::bad_body("each member of a batch must be a JSON-RPC 2.0 request");
                    return Err(Unpriced {
                        denial: Box::new(denial),
                        calls: Some(calls),
                        code: Some(INVALID_REQUEST),
                    });
                }
                // A client's answers to its server ask for nothing.
                Ok(calls) if calls.calls().next().is_none() => return self.one(body_bytes, &[], &[]),
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
                    return Err(Unpriced { denial: Box::new(denial), calls: None, code: Some(code) });
                }
            }
        }
        let values = match json::numbers(&bytes, pointers) {
            Ok(values) => values.into_iter().map(amount).collect(),
            Err(_) => vec![None; pointers.len()],
        };
        let labels = match labels.is_empty() {
            true => Vec::new(),
            false => json::texts(&bytes, labels).unwrap_or_default(),
        };
        self.one(body_bytes, &values, &labels)
    }

    fn refuses_long(&self) -> bool {
        self.policy.bodies.over == OverBodies::Refuse
    }

    /// Whether what the request costs stands in its body.
    fn reads_amounts(&self) -> bool {
        self.route_of_call(None).charges.iter().any(CompiledCharge::counts_request_json)
    }

    fn is_rpc(&self) -> bool {
        self.with_head(|head| self.policy.route(head) == Match::NeedsBody)
    }

    /// A request that is one thing.
    fn one(
        &self,
        body_bytes: Option<u64>,
        values: &[Option<u64>],
        labels: &[Option<Box<str>>],
    ) -> Result<Asked, Unpriced> {
        let route = &self.route_of_call(None);
        let auth = route.auth;
        let proxy_route = route.proxy_route.then(|| route.clone());
        if route.is_plain() {
            let bill = Bill { body_bytes, ..Bill::plain(route) };
            return Ok(Asked { bill, calls: None, auth, unreadable: 0, proxy_route });
        }
        let rows = [values];
        let rows = if values.is_empty() { &rows[..0] } else { &rows[..] };
        let unpriced = |denial| Unpriced { denial, calls: None, code: None };
        let (line, unreadable) = self.line(route, body_bytes, rows, &[labels]).map_err(unpriced)?;
        let bill = Bill { lines: vec![line], body_bytes };
        Ok(Asked { bill, calls: None, auth, unreadable, proxy_route })
    }

    /// Each call takes its own route; those that take the same one are counted together.
    fn several(&self, calls: Calls, body_bytes: Option<u64>) -> Result<Asked, Unpriced> {
        let mut routes: Vec<(Arc<CompiledRoute>, Vec<usize>)> = Vec::new();
        let mut auth = Auth::None;
        let mut only: Option<Arc<CompiledRoute>> = None;
        let mut is_mixed = false;
        let amounts: Vec<Vec<Option<u64>>> =
            calls.calls().map(|call| call.amounts.iter().copied().map(amount).collect()).collect();
        let labels: Vec<Vec<Option<Box<str>>>> = match self.policy.request_labels.is_empty() {
            true => Vec::new(),
            false => calls.calls().map(|call| call.texts.clone()).collect(),
        };
        let labels: Vec<&[Option<Box<str>>]> = labels.iter().map(Vec::as_slice).collect();
        for (position, call) in calls.calls().enumerate() {
            let name = CallName { method: &call.method, tool: call.tool.as_deref() };
            let route = self.route_of_call(Some(name));
            auth = auth.strictest(route.auth);
            is_mixed |= only.as_ref().is_some_and(|only| !Arc::ptr_eq(only, &route));
            only = Some(route.clone());
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
            let labels: Vec<&[Option<Box<str>>]> =
                taking.iter().filter_map(|at| labels.get(*at)).copied().collect();
            let (mut line, missing) = match self.line(&route, body_bytes, &rows, &labels) {
                Ok(line) => line,
                Err(denial) => return Err(Unpriced { denial, calls: Some(calls), code: None }),
            };
            line.calls = taking;
            lines.push(line);
            unreadable += missing;
        }
        let proxy_route = only.filter(|route| route.proxy_route && !is_mixed);
        Ok(Asked { bill: Bill { lines, body_bytes }, calls: Some(calls), auth, unreadable, proxy_route })
    }

    fn line(
        &self,
        route: &Arc<CompiledRoute>,
        body_bytes: Option<u64>,
        values: &[&[Option<u64>]],
        labels: &[&[Option<Box<str>>]],
    ) -> Result<(Line, usize), Box<Denial>> {
        let header = |name: &str| self.head.only_header(name);
        let (unread, unpriced) = (Cell::new(0), Cell::new(None));
        let facts = Facts {
            header: &header,
            body_bytes,
            pointers: &self.policy.request_pointers,
            values,
            label_pointers: &self.policy.request_labels,
            labels,
            unread: &unread,
            unpriced: &unpriced,
        };
        let line = Line::of(route, &facts, &|charge| self.thing(route, charge));
        match unpriced.get() {
            Some(meter) => {
                let meter = self.policy.meters.get(meter).map_or("units", String::as_str);
                Err(Box::new(Denial::unpriced(meter)))
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
    /// Who is to be charged. `peer` is the address that the proxy takes the client to have, asked only where it counts.
    pub fn credentials<'a>(
        &self,
        policy: &'a CompiledPolicy,
        head: &Head<'a>,
        peer: impl FnOnce() -> Option<String>,
    ) -> Result<Credentials<'a>, Box<Denial>> {
        match (self.auth, &policy.anonymous) {
            (Auth::None, _) => Ok(Credentials::Nobody),
            (Auth::Optional, None) if !head.has_token() => Ok(Credentials::Nobody),
            (Auth::Optional, Some(rules)) if !head.has_token() => {
                let (peer, forwarded) = match rules.trusted_hops {
                    0 => (peer(), Vec::new()),
                    _ => (None, head.all("x-forwarded-for").collect()),
                };
                let subject = address::subject(peer.as_deref(), &forwarded, rules.trusted_hops);
                Ok(Credentials::Address { subject, tier: &rules.tier })
            }
            (Auth::Required | Auth::Optional, _) => head.token().map(Credentials::Token),
        }
    }
}

/// An amount that can be charged.
fn amount(found: Result<u64, Unread>) -> Option<u64> {
    found.ok().map(|units| units.min(BEYOND))
}
