//! What a request costs, as far as it is known when it is admitted: each charge of each route that it takes, in units.

use std::cell::Cell;
use std::sync::Arc;

use crate::body::json;
use crate::body::pointer::Pointer;
use crate::compile::{Amount, CompiledCharge, CompiledPolicy, CompiledRoute, EstimateSource};
use crate::document::{Enforcement, UNITS_MAX};
use crate::label::{LabelFrom, Labels, RequestLabels};
use crate::thing::ThingId;

/// More than any limit can be, and little enough that sums of it overflow nothing soon.
pub const BEYOND: u64 = UNITS_MAX + 1;

/// What a request asks for: the routes that it takes (several only for a JSON-RPC batch) and what each comes to.
#[derive(Debug, Clone)]
pub struct Bill {
    /// Each route once.
    pub lines: Vec<Line>,
    /// Bytes of the request's body, where they are known before it is through.
    pub body_bytes: Option<u64>,
}

/// One route of a request.
#[derive(Debug, Clone)]
pub struct Line {
    /// The route.
    pub route: Arc<CompiledRoute>,
    /// Units by charge of the route; `None`: all are constants, counted once.
    units: Option<Vec<u64>>,
    /// Ids of things, by charge of the route.
    pub things: Vec<Option<ThingId>>,
    /// Labels that the request tells, by charge of the route; empty where it tells none.
    labels: Vec<Option<RequestLabels>>,
    /// Positions of the JSON-RPC calls that take the route.
    pub calls: Vec<usize>,
}

/// What the request itself says of its costs.
pub struct Facts<'a> {
    /// The first header of a name in lower case.
    pub header: &'a dyn Fn(&str) -> Option<&'a [u8]>,
    /// Bytes of its body, where they are known.
    pub body_bytes: Option<u64>,
    /// The policy's pointers into request bodies.
    pub pointers: &'a [Pointer],
    /// What was found at each of them, for each JSON-RPC call that takes the route; one row for any other JSON body.
    pub values: &'a [&'a [Option<u64>]],
    /// The policy's pointers to labels in request bodies.
    pub label_pointers: &'a [Pointer],
    /// What was found at each of them, as `values`.
    pub labels: &'a [&'a [Option<Box<str>>]],
    /// Amounts that were not where the policy says are counted here.
    pub unread: &'a Cell<usize>,
    /// The meter of such an amount that has no default: what cannot be priced cannot pass.
    pub unpriced: &'a Cell<Option<usize>>,
}

impl Bill {
    /// A request that takes one route and was not looked into.
    pub fn plain(route: &Arc<CompiledRoute>) -> Self {
        let line = Line {
            route: route.clone(),
            units: None,
            things: Vec::new(),
            labels: Vec::new(),
            calls: Vec::new(),
        };
        Self { lines: vec![line], body_bytes: None }
    }

    /// What holds for the request apart from limits: the strictest of its routes.
    pub fn enforcement(&self, policy: &CompiledPolicy) -> Enforcement {
        let of = |line: &Line| policy.enforcement_of(&line.route, None);
        self.lines.iter().map(of).reduce(Enforcement::strictest).unwrap_or(policy.enforcement)
    }

    /// Whether anything is charged at all.
    pub fn has_charges(&self) -> bool {
        self.lines.iter().any(|line| !line.route.charges.is_empty())
    }
}

impl Line {
    /// What the route costs the request. What cannot be read counts as the charge's default, or nothing.
    pub fn of(
        route: &Arc<CompiledRoute>,
        facts: &Facts<'_>,
        thing: &dyn Fn(&CompiledCharge) -> Option<ThingId>,
    ) -> Self {
        let units = route.charges.iter().map(|charge| facts.units(charge)).collect();
        let things = route.charges.iter().map(thing).collect();
        let labels = match route.charges.iter().any(|charge| charge.labels.is_read()) {
            true => route.charges.iter().map(|charge| facts.labels(charge)).collect(),
            false => Vec::new(),
        };
        Self { route: route.clone(), units: Some(units), things, labels, calls: Vec::new() }
    }

    /// By what the ledger tells the units of the route's charge at this position apart, as far as the request says.
    pub fn labels(&self, charge: usize) -> &str {
        match (self.labels.get(charge), self.route.charges.get(charge).map(|charge| &charge.labels)) {
            (Some(Some(read)), _) => read.as_str(),
            (_, Some(Labels::Fixed(text))) => text,
            _ => "",
        }
    }

    /// The same, once the response has told its part; `None` where it has none to tell.
    pub fn labels_told(
        &self,
        charge: usize,
        told: &dyn Fn(&LabelFrom) -> Option<Box<str>>,
    ) -> Option<Box<str>> {
        let labels = self.route.charges.get(charge).map(|charge| &charge.labels)?;
        let read = self.labels.get(charge)?.as_ref()?;
        labels.is_of_response().then(|| labels.complete(read, told))
    }

    /// Units of the route's charge at this position: reserved, or known by now.
    pub fn units(&self, charge: usize) -> u64 {
        match &self.units {
            Some(units) => units.get(charge).copied().unwrap_or(0),
            None => self.route.charges.get(charge).map_or(0, |charge| match charge.amount {
                Amount::Units(units) => units,
                _ => 0,
            }),
        }
    }
}

impl Facts<'_> {
    fn units(&self, charge: &CompiledCharge) -> u64 {
        let calls = if charge.per_request { 1 } else { self.values.len().max(1) as u64 };
        let missing = || {
            self.unread.set(self.unread.get() + 1);
            // A release that does not say how much releases nothing; that costs nobody anything.
            if charge.default.is_none() && !charge.release {
                self.unpriced.set(Some(charge.meter));
            }
            charge.default.unwrap_or(0)
        };
        match &charge.amount {
            Amount::Units(units) => units.saturating_mul(calls),
            Amount::RequestBytes => self.body_bytes.unwrap_or_else(|| self.estimate(charge)),
            Amount::RequestHeader(name) => self.header(name).unwrap_or_else(missing),
            Amount::RequestJson(pointer) => self.sum(pointer, missing),
            Amount::ResponseBytes | Amount::ResponseHeader(_) | Amount::ResponseJson(_) => {
                self.estimate(charge)
            }
        }
    }

    fn estimate(&self, charge: &CompiledCharge) -> u64 {
        let default = charge.estimate.default;
        match &charge.estimate.source {
            None => default,
            Some(EstimateSource::RequestHeader(name)) => self.header(name).unwrap_or(default),
            Some(EstimateSource::RequestJson(pointer)) => self.sum(pointer, || default),
        }
    }

    fn labels(&self, charge: &CompiledCharge) -> Option<RequestLabels> {
        charge.labels.read(&|from| match from {
            LabelFrom::RequestHeader(name) => {
                (self.header)(name).map(|value| String::from_utf8_lossy(value).into())
            }
            LabelFrom::RequestJson(pointer) => {
                let at = self.label_pointers.iter().position(|known| known == pointer)?;
                let mut said = None;
                for row in self.labels {
                    json::agree(&mut said, row.get(at).cloned().flatten());
                }
                said.flatten()
            }
            LabelFrom::Fixed(_) | LabelFrom::ResponseHeader(_) | LabelFrom::ResponseJson(_) => None,
        })
    }

    fn header(&self, name: &str) -> Option<u64> {
        (self.header)(name).and_then(number)
    }

    /// The values at a pointer in all calls; what is missing counts as `default` says.
    fn sum(&self, pointer: &Pointer, default: impl Fn() -> u64) -> u64 {
        let at = self.pointers.iter().position(|known| known == pointer);
        if self.values.is_empty() {
            return default();
        }
        let value =
            |row: &&[Option<u64>]| at.and_then(|at| row.get(at).copied().flatten()).unwrap_or_else(&default);
        self.values.iter().map(value).fold(0, u64::saturating_add)
    }
}

/// A whole number of a header's value. One that is more than any limit is that; one that no 64 bits hold is none.
pub fn number(value: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(value.trim_ascii()).ok()?;
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|_| digits).map(|units: u64| units.min(BEYOND))
}
