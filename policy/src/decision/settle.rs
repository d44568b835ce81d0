//! What a request took, and what of it stays charged once its end is known: refunds, amounts that only the response told,
//! releases, and requests that are no longer in flight.

use std::rc::Rc;

use crate::body::Unread;
use crate::compile::{Amount, CompiledCharge, CompiledPolicy, CompiledRoute, On};
use crate::label::LabelFrom;
use crate::lease::{Account, AccountKind, Record, SessionId};

use super::Now;
use super::bill::{Bill, Line};
use super::plan::{Cost, RoutePlan};
use super::question::{Need, Whose, bit, demand, needs};

/// What a request took of one record.
#[derive(Debug)]
pub struct Reservation {
    session: SessionId,
    at_ms: i64,
    routes: Vec<Rc<RoutePlan>>,
    whose: Whose,
    /// Where the units of each need rest, monotonic ms; empty where no settlement asks.
    ends: Vec<u64>,
    /// Needs of shadowed limits that had too little left: nothing was taken there.
    untaken: u64,
    /// A control plane is told of it. An edge that stands alone keeps no things: nobody would ever release them.
    is_told: bool,
}

/// How a request ended.
pub struct Ending<'a> {
    /// The response's HTTP status, or what a gRPC status is in HTTP's terms. `None`: the upstream never answered.
    pub status: Option<u16>,
    /// Bytes of the request's body that passed.
    pub request_bytes: u64,
    /// An amount that the response told, or why it did not.
    pub amount: &'a dyn Fn(&Amount) -> Result<u64, Unread>,
    /// A label that the response told.
    pub label: &'a dyn Fn(&LabelFrom) -> Option<Box<str>>,
}

/// What one charge came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Settled {
    /// What was reserved stays charged.
    Stays,
    /// The request failed: what was reserved is given back.
    Refunded,
    /// The request failed, and what was reserved was only an estimate: it was never used, and does not rest either.
    Unused,
    /// So many units, however many were reserved.
    Is(u64),
    /// So many units are given back to capacities.
    Released(u64),
}

impl Reservation {
    pub(super) fn new(
        session: SessionId,
        at_ms: i64,
        routes: Vec<Rc<RoutePlan>>,
        whose: Whose,
        ends: Vec<u64>,
        untaken: u64,
    ) -> Self {
        Self { session, at_ms, routes, whose, ends, untaken, is_told: true }
    }

    /// Of an edge that stands alone.
    pub(super) fn alone(self) -> Self {
        Self { is_told: false, ..self }
    }

    /// Whether the end of the request, and not only the response's status, settles something.
    pub fn waits_for_end(&self) -> bool {
        self.routes.iter().any(|plan| {
            let counted_later = |charge: &CompiledCharge| {
                let of_end = charge.amount.is_of_response() || charge.amount == Amount::RequestBytes;
                let of_end = of_end || charge.labels.is_of_response();
                charge.release || charge.id.is_some() || charge.on == On::Response || of_end
            };
            plan.route.charges.iter().any(counted_later)
                || plan.costs_of(self.whose).iter().any(|cost| cost.kind == AccountKind::Concurrency)
        })
    }

    /// Whether a response of this status gives something back.
    pub fn is_refunded(&self, status: u16) -> bool {
        let gives_back = |route: &CompiledRoute, charge: &CompiledCharge| match charge.on {
            On::Request | On::Response => route.refund.contains(status),
            On::Success => !route.success.contains(status),
        };
        self.routes.iter().any(|plan| plan.route.charges.iter().any(|charge| gives_back(&plan.route, charge)))
    }

    /// Settles on the record that it was taken from. A new session's record knows nothing of the units: those stay
    /// charged, and only what comes on top is counted. Answers how many things the control plane will not hear of, because
    /// too many wait to be told already.
    pub fn settle(
        &self,
        policy: &CompiledPolicy,
        bill: &Bill,
        record: &mut Record,
        ending: &Ending<'_>,
        now: Now,
    ) -> usize {
        let mut unheard = 0;
        let same = record.session == self.session;
        let needs = needs(bill, &self.routes, self.whose);
        for (at, (plan, line)) in self.routes.iter().zip(&bill.lines).enumerate() {
            for (charge, rule) in plan.route.charges.iter().enumerate() {
                let settled = ending.settle(&plan.route, rule, line.units(charge));
                self.settle_accounts(&needs, record, (at, charge), line.units(charge), settled, same, now);
                if self.whose == Whose::Subject {
                    // Nobody asks an edge that stands alone what was used.
                    if self.is_told {
                        let told = line.labels_told(charge, ending.label);
                        let labels = (line.labels(charge), told.as_deref().unwrap_or(line.labels(charge)));
                        self.settle_usage(
                            policy,
                            record,
                            rule,
                            labels,
                            line.units(charge),
                            settled,
                            same,
                            now,
                        );
                    }
                    let noted =
                        !self.is_told || settle_thing(policy, record, (rule, charge), line, settled, now);
                    unheard += usize::from(!noted);
                }
            }
            self.release(record, plan, line, ending, now);
        }
        if same {
            self.end(&needs, record);
        }
        unheard
    }

    /// Takes back all that was taken, as if the request had never been: another part of it was refused.
    pub fn undo(&self, policy: &CompiledPolicy, bill: &Bill, record: &mut Record) {
        if record.session != self.session {
            return;
        }
        for (position, need) in needs(bill, &self.routes, self.whose).iter().enumerate() {
            let Some(account) =
                self.account(record, position, &need.cost.limit.name, need.cost.window.start_ms)
            else {
                continue;
            };
            account.undo(self.end_of(position), need.units);
        }
        if self.whose == Whose::Subject {
            for line in &bill.lines {
                for (charge, rule) in line.route.charges.iter().enumerate().filter(|(_, rule)| !rule.release)
                {
                    if let Some(meter) = policy.meters.get(rule.meter) {
                        record.uncount(meter, line.labels(charge), line.units(charge), self.at_ms);
                    }
                }
            }
        }
    }

    #[allow(clippy::too_many_arguments, reason = "one charge of one line, and how it ended")]
    fn settle_accounts(
        &self,
        needs: &[Need<'_>],
        record: &mut Record,
        (line, charge): (usize, usize),
        reserved: u64,
        settled: Settled,
        same: bool,
        now: Now,
    ) {
        if settled == Settled::Stays {
            return;
        }
        for (position, need) in needs.iter().enumerate() {
            if need.line != line || need.cost.charge != Some(charge) {
                continue;
            }
            let end_ms = self.end_of(position);
            let cost = need.cost;
            if let Settled::Is(units) = settled
                && units > reserved
                && !self.is_untaken(position)
            {
                // A record that was begun anew in between may not have the account yet.
                if let Some(account) = self.open(record, cost, now) {
                    account.take(units - reserved, cost.rest_ms, cost.limit.units, now.mono_ms);
                }
                continue;
            }
            let Some(account) = self.account(record, position, &cost.limit.name, cost.window.start_ms) else {
                continue;
            };
            match settled {
                Settled::Refunded if same => account.refund(reserved),
                Settled::Unused if same => account.undo(end_ms, reserved),
                Settled::Is(units) if units < reserved && same => account.undo(end_ms, reserved - units),
                _ => {}
            }
        }
    }

    #[allow(clippy::too_many_arguments, reason = "one charge, and how it ended")]
    fn settle_usage(
        &self,
        policy: &CompiledPolicy,
        record: &mut Record,
        rule: &CompiledCharge,
        (before, labels): (&str, &str),
        reserved: u64,
        settled: Settled,
        same: bool,
        now: Now,
    ) {
        let Some(meter) = policy.meters.get(rule.meter) else { return };
        match settled {
            Settled::Stays if before == labels || rule.release || !same => {}
            // It was counted in the session before, whose numbers are final.
            Settled::Refunded | Settled::Unused if !same => {}
            Settled::Is(units) if units < reserved && !same => {}
            Settled::Refunded | Settled::Unused => {
                record.uncount(meter, before, reserved, self.at_ms);
            }
            Settled::Released(units) => record.count_released(meter, labels, units, now.wall_ms),
            // It was counted by what the request told; now it is known what it really was.
            Settled::Stays | Settled::Is(_) if before != labels && same => {
                let units = if let Settled::Is(units) = settled { units } else { reserved };
                // What can no longer be taken back there stays there.
                let gone = reserved - record.uncount(meter, before, reserved, self.at_ms);
                record.count(meter, labels, units.saturating_sub(gone), now.wall_ms);
            }
            Settled::Is(units) if units < reserved => {
                record.uncount(meter, before, reserved - units, self.at_ms);
            }
            Settled::Is(units) => {
                record.count(meter, labels, units.saturating_sub(reserved), now.wall_ms);
            }
            Settled::Stays => {}
        }
    }

    /// Gives back to capacities. What has an id is released by the control plane, which knows whether it was there.
    fn release(&self, record: &mut Record, plan: &RoutePlan, line: &Line, ending: &Ending<'_>, now: Now) {
        for cost in plan.releases_of(self.whose) {
            let Some(charge) = cost.charge else { continue };
            let Some(rule) = plan.route.charges.get(charge).filter(|rule| rule.id.is_none()) else {
                continue;
            };
            if let Settled::Released(units) = ending.settle(&plan.route, rule, line.units(charge))
                && let Some(account) = self.open(record, cost, now)
            {
                account.release(units);
            }
        }
    }

    /// The account of a cost, opened if it is missing: an edge that stands alone holds all of its limit from then on.
    fn open<'r>(&self, record: &'r mut Record, cost: &Cost, now: Now) -> Option<&'r mut Account> {
        let at = demand(record, cost, 0).account;
        let account = record.accounts.get_mut(at)?;
        account.settle(now.mono_ms);
        if !self.is_told {
            account.hold_all(cost.limit.units);
        }
        Some(account)
    }

    /// The request is no longer in flight.
    fn end(&self, needs: &[Need<'_>], record: &mut Record) {
        for (position, need) in needs.iter().enumerate() {
            if need.cost.kind == AccountKind::Concurrency
                && let Some(account) =
                    self.account(record, position, &need.cost.limit.name, need.cost.window.start_ms)
            {
                account.end(self.end_of(position), need.units);
            }
        }
    }

    /// The account of a need that something was taken from.
    fn account<'r>(
        &self,
        record: &'r mut Record,
        position: usize,
        limit: &str,
        window_start_ms: i64,
    ) -> Option<&'r mut Account> {
        if self.is_untaken(position) {
            return None;
        }
        record.account(limit, window_start_ms).and_then(|at| record.accounts.get_mut(at))
    }

    fn is_untaken(&self, position: usize) -> bool {
        bit(self.untaken, position)
    }

    fn end_of(&self, position: usize) -> u64 {
        self.ends.get(position).copied().unwrap_or(0)
    }
}

impl Ending<'_> {
    fn settle(&self, route: &CompiledRoute, rule: &CompiledCharge, reserved: u64) -> Settled {
        let failed = self.status.is_some_and(|status| route.refund.contains(status));
        let succeeded = self.status.is_some_and(|status| route.success.contains(status));
        let amount = match &rule.amount {
            Amount::RequestBytes => Ok(self.request_bytes),
            amount => (self.amount)(amount),
        };
        let told = match (amount, rule.default) {
            (Ok(units), _) => Settled::Is(units),
            // Callers have a say in how long an answer is: by that none becomes cheaper than what was reserved for it.
            (Err(Unread::TooLong), Some(units)) if units <= reserved => Settled::Stays,
            (Err(_), Some(units)) => Settled::Is(units),
            (Err(_), None) => Settled::Stays,
        };
        if rule.release {
            let released = match (self.status, rule.on) {
                (None, _) => false,
                (Some(_), On::Success) => succeeded,
                (Some(_), On::Request | On::Response) => !failed,
            };
            let units = if rule.amount.is_of_response() {
                amount.ok().or(rule.default).unwrap_or(0)
            } else {
                reserved
            };
            return if released { Settled::Released(units) } else { Settled::Stays };
        }
        match (self.status, rule.on) {
            // The upstream may have worked for it: a caller must not get work for nothing by hanging up, nor store for
            // nothing what it sent without saying how much it would be.
            (None, _) if rule.amount == Amount::RequestBytes && self.request_bytes > reserved => {
                Settled::Is(self.request_bytes)
            }
            (None, _) => Settled::Stays,
            (Some(_), On::Request) if failed => Settled::Refunded,
            (Some(_), On::Success) if !succeeded => Settled::Refunded,
            (Some(_), On::Response) if failed => Settled::Unused,
            (Some(_), On::Response) => told,
            (Some(_), On::Request | On::Success) if rule.amount == Amount::RequestBytes => {
                Settled::Is(self.request_bytes)
            }
            (Some(_), On::Request | On::Success) if rule.amount.is_of_response() => told,
            (Some(_), On::Request | On::Success) => Settled::Stays,
        }
    }
}

/// Notes that a thing with an id is there now, or is there no more. `false`: it could not be noted. An addition is then not
/// known when it is removed, and a removal is not heard of: what is charged stays charged.
fn settle_thing(
    policy: &CompiledPolicy,
    record: &mut Record,
    (rule, charge): (&CompiledCharge, usize),
    line: &Line,
    settled: Settled,
    now: Now,
) -> bool {
    let Some(Some(id)) = line.things.get(charge) else { return true };
    let Some(meter) = policy.meters.get(rule.meter) else { return true };
    let (units, present) = match settled {
        Settled::Stays if !rule.release => (line.units(charge), true),
        Settled::Is(units) => (units, true),
        Settled::Released(_) => (0, false),
        Settled::Stays | Settled::Refunded | Settled::Unused => return true,
    };
    record.note_thing(meter, *id, units, present, now.mono_ms)
}
