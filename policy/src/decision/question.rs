//! The decision itself: one subject's record, one bill, all limits together or none.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

use crate::compile::{CompiledLimit, CompiledPolicy, CompiledTier};
use crate::document::{Enforcement, OnControlPlaneLoss};
use crate::lease::{self, Account, Admission, Demand, OnShort, Record, Refusal, SessionId, Verdict};

use super::Now;
use super::bill::Bill;
use super::denial::{Denial, LimitFacts, reset_at_ms};
use super::fields::Fields;
use super::plan::{Cost, KeptPlan, Plan, Plans, REFUND_LINGER_MS, RoutePlan, rank};
use super::settle::Reservation;

/// What is to be done with a request.
#[derive(Debug)]
pub enum Outcome {
    /// It passes.
    Admit(Box<Admitted>),
    /// It is refused.
    Deny(Box<Denial>),
    /// The control plane must be asked.
    Ask,
}

/// A request that passes.
#[derive(Debug)]
pub struct Admitted {
    /// What it took.
    pub reservation: Reservation,
    /// Its tier; none where enforcement is off for a subject without one.
    pub tier: Option<Arc<CompiledTier>>,
    /// What the caller learns of its limits.
    pub fields: Fields,
    /// It passes by an administrator's grant.
    pub bypass: bool,
    /// Codes of the denials that shadowed limits and rules would have been.
    pub shadow: Vec<&'static str>,
    /// Soft limits that it went beyond.
    pub over: Vec<Arc<str>>,
    /// The largest bodies that its routes allow, to be held against a body whose length is not known yet: first those that
    /// are enforced.
    pub sizes: Vec<(CompiledLimit, Enforcement)>,
}

impl Admitted {
    /// What a decision on the member's record says besides.
    pub fn join(&mut self, member: Self) -> Reservation {
        self.fields.join(member.fields);
        self.shadow.extend(member.shadow);
        self.over.extend(member.over);
        member.reservation
    }
}

/// How sure the decision must be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Within the lease; `valid` says whether it may be used.
    Leased {
        /// It may.
        valid: bool,
    },
    /// The control plane was asked and has answered: what is not there now is refused, if the lease is still valid.
    Answered {
        /// It is.
        valid: bool,
    },
    /// The control plane is lost: limits that the policy opens then are admitted and counted, the others go on within
    /// the lease.
    Debt {
        /// The lease may be used.
        valid: bool,
    },
    /// The edge stands alone: the whole limit is its own.
    Alone,
}

/// Whose record is decided on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Whose {
    /// The subject's, which all is counted on.
    Subject,
    /// That of the member of an organisation: limits of each member alone.
    Member,
}

/// Everything a decision reads besides the record.
#[derive(Clone, Copy)]
pub struct Question<'a> {
    /// The policy in force when the request came.
    pub policy: &'a CompiledPolicy,
    /// Where the subject's plan is kept between requests.
    pub kept: &'a RefCell<Option<KeptPlan>>,
    /// Where plans are shared.
    pub plans: &'a Plans,
    /// The tier that the verified token claims, or empty.
    pub tier_claim: &'a str,
    /// What is asked for.
    pub bill: &'a Bill,
    /// The session whose leases may be used.
    pub session: SessionId,
    /// When.
    pub now: Now,
}

/// One limit that the request touches, and how many units of it.
pub(super) struct Need<'p> {
    /// Position of the bill's line.
    pub(super) line: usize,
    pub(super) cost: &'p Cost,
    pub(super) units: u64,
}

impl Question<'_> {
    /// Decides on the subject's record, and changes it where the request is admitted.
    pub fn decide(&self, record: &mut Record, mode: Mode) -> Outcome {
        if let Some(outcome) = self.begin(record, mode) {
            return outcome;
        }
        let plan = self.plan(record);
        let routes = self.routes(&plan);
        // What nobody has said yet is not known to be missing.
        let unknown = matches!(mode, Mode::Debt { .. }) && !record.known;
        let refuses = routes.iter().any(|route| route.enforcement == Enforcement::Enforce);
        if unknown && refuses && self.policy.on_control_plane_loss == OnControlPlaneLoss::Closed {
            return deny(Denial::control_plane_lost());
        }
        match self.check_rules(&plan, &routes, unknown) {
            Ok(shadow) => self.decide_limits(record, &plan, routes, Whose::Subject, mode, shadow),
            Err(denial) => Outcome::Deny(denial),
        }
    }

    /// Decides on the record of the member that calls, by its organisation's plan (see [`Question::member_plan`]).
    pub fn decide_member(&self, record: &mut Record, plan: &Rc<Plan>, mode: Mode) -> Outcome {
        let routes = self.routes(plan);
        // They come before all limits, and so before those of a member. A debt's are the organisation's to decide.
        if !matches!(mode, Mode::Debt { .. })
            && let Err(denial) = self.check_rules(plan, &routes, false)
        {
            return Outcome::Deny(denial);
        }
        if let Some(outcome) = self.begin(record, mode) {
            return outcome;
        }
        self.note_claim(record);
        self.decide_limits(record, plan, routes, Whose::Member, mode, Vec::new())
    }

    /// The plan of `record`, an organisation's, if the request touches limits that are of each member alone. `None` too
    /// while nobody has said what the organisation has: [`Question::decide`] asks.
    pub fn member_plan(&self, record: &mut Record, mode: Mode) -> Option<Rc<Plan>> {
        let is_known = record.known && record.session == self.session;
        if !is_known && !matches!(mode, Mode::Alone | Mode::Debt { .. }) {
            return None;
        }
        let plan = self.plan(record);
        let touched = self.routes(&plan).iter().any(|route| route.touches_member());
        touched.then_some(plan)
    }

    /// Opens the accounts that the request needs, so that a report can ask for them, and says how many units it needs of
    /// each, by position. `member_plan` is given for a member's record.
    pub fn needs(&self, record: &mut Record, member_plan: Option<&Rc<Plan>>) -> Vec<(usize, u64)> {
        let (plan, whose) = match member_plan {
            Some(plan) => {
                self.note_claim(record);
                (plan.clone(), Whose::Member)
            }
            None => (self.plan(record), Whose::Subject),
        };
        let routes = self.routes(&plan);
        let needs = needs(self.bill, &routes, whose);
        let demands = demands(record, &needs);
        demands
            .iter()
            .zip(&needs)
            // Soft and shadowed limits never make a request wait, so that they need not ask for more than others.
            .map(|(demand, need)| (demand.account, need.units))
            .collect()
    }

    /// The record, or a new one where nobody needs to be asked what it holds.
    pub fn begun(&self, record: Option<Record>, subject: &str, mode: Mode) -> Option<Record> {
        let begins = matches!(mode, Mode::Alone | Mode::Debt { .. });
        record.or_else(|| begins.then(|| Record::new(subject, self.session, self.now.mono_ms)))
    }

    /// Makes the record one that can be decided on, or says why it is not.
    fn begin(&self, record: &mut Record, mode: Mode) -> Option<Outcome> {
        let debt = matches!(mode, Mode::Debt { .. });
        // Debt is counted in whatever session the record is of: its numbers may not have been told yet.
        if record.session != self.session && !debt {
            if mode != Mode::Alone {
                return Some(Outcome::Ask);
            }
            *record = Record::new(&record.subject, self.session, self.now.mono_ms);
        }
        if mode == Mode::Alone {
            // Nobody is told, so what is over goes at once.
            record.accounts.retain(|a| self.now.wall_ms < a.window_end_ms.saturating_add(REFUND_LINGER_MS));
        }
        (!record.known && mode != Mode::Alone && !debt).then_some(Outcome::Ask)
    }

    /// Tier, features and the announced size; answers what a shadowed rule would have said.
    fn check_rules(
        &self,
        plan: &Plan,
        routes: &[Rc<RoutePlan>],
        unknown: bool,
    ) -> Result<Vec<&'static str>, Box<Denial>> {
        let mut shadow = Vec::new();
        let mut refuse = |holds: Enforcement, denial: Denial| match holds {
            Enforcement::Enforce if unknown => Err(Box::new(Denial::control_plane_lost())),
            Enforcement::Enforce => Err(Box::new(denial)),
            Enforcement::Shadow => {
                shadow.push(denial.code);
                Ok(())
            }
            Enforcement::Off => Ok(()),
        };
        let Some(tier) = &plan.tier else {
            for route in routes {
                refuse(
                    if plan.bypass { Enforcement::Off } else { route.enforcement },
                    Denial::no_subscription(),
                )?;
            }
            return Ok(shadow);
        };
        for (line, route) in routes.iter().enumerate() {
            if let Some(feature) = &route.missing_feature {
                refuse(route.enforcement, Denial { line, ..Denial::no_feature(feature, &tier.name) })?;
            }
        }
        let bytes = self.bill.body_bytes.unwrap_or(0);
        for (line, route) in routes.iter().enumerate() {
            for (limit, holds) in route.sizes.iter().filter(|(limit, _)| bytes > limit.units) {
                refuse(*holds, Denial { line, ..Denial::too_large(limit, &tier.name, bytes) })?;
            }
        }
        Ok(shadow)
    }

    fn decide_limits(
        &self,
        record: &mut Record,
        plan: &Plan,
        routes: Vec<Rc<RoutePlan>>,
        whose: Whose,
        mode: Mode,
        mut shadow: Vec<&'static str>,
    ) -> Outcome {
        let needs = needs(self.bill, &routes, whose);
        let demands = demands(record, &needs);
        let verdict = self.verdict(record, &needs, &demands, mode);
        let over = match verdict {
            Verdict::Ask if matches!(mode, Mode::Debt { .. }) => return deny(Denial::control_plane_lost()),
            Verdict::Ask => return Outcome::Ask,
            Verdict::Refuse(refusal) => {
                return deny(self.exhausted(record, plan, &needs, &demands, &routes, refusal));
            }
            Verdict::Admit { over } => over,
        };
        let mut untaken = 0;
        let mut beyond = Vec::new();
        for (position, need) in needs.iter().enumerate().filter(|(position, _)| bit(over, *position)) {
            if need.cost.holds == Enforcement::Shadow {
                shadow.push(need.cost.code());
            } else if need.cost.holds == Enforcement::Enforce {
                beyond.push(need.cost.limit.name.clone());
            }
            if need.cost.on_short == OnShort::Shadow {
                untaken |= 1 << position;
            }
        }
        if whose == Whose::Subject && mode != Mode::Alone {
            self.count(record);
        }
        let fields = self.fields(record, &needs, &demands, &routes);
        let keeps_ends = needs.iter().any(|need| need.cost.needs_end());
        let end_of = |demand: &Demand| record.accounts.get(demand.account).map_or(0, Account::taken_end_ms);
        let ends = if keeps_ends { demands.iter().map(end_of).collect() } else { Vec::new() };
        let mut sizes: Vec<_> = routes.iter().flat_map(|route| route.sizes.iter().cloned()).collect();
        sizes.sort_by_key(|(limit, holds)| (*holds, limit.units));
        drop(needs);
        let reservation = Reservation::new(record.session, self.now.wall_ms, routes, whose, ends, untaken);
        Outcome::Admit(Box::new(Admitted {
            reservation: if mode == Mode::Alone { reservation.alone() } else { reservation },
            tier: plan.tier.clone(),
            fields,
            bypass: plan.bypass,
            shadow,
            over: beyond,
            sizes,
        }))
    }

    fn verdict(&self, record: &mut Record, needs: &[Need<'_>], demands: &[Demand], mode: Mode) -> Verdict {
        let Now { wall_ms, mono_ms } = self.now;
        match mode {
            Mode::Leased { valid } => lease::decide(record, demands, valid, wall_ms, mono_ms),
            Mode::Alone => {
                for demand in demands {
                    if let Some(account) = record.accounts.get_mut(demand.account) {
                        account.settle(mono_ms);
                        account.hold_all(demand.limit_units);
                    }
                }
                lease::decide(record, demands, true, wall_ms, mono_ms)
            }
            Mode::Answered { valid: false } => Verdict::Ask,
            Mode::Answered { valid: true } => match lease::decide(record, demands, true, wall_ms, mono_ms) {
                Verdict::Ask => Verdict::Refuse(lease::refuse(record, demands, wall_ms, mono_ms)),
                sure => sure,
            },
            Mode::Debt { valid } => {
                // Limits that stay closed are decided within what is left of the lease, all together; the others are
                // only counted.
                let closed =
                    |need: &Need<'_>| !need.cost.limit.open && need.cost.holds == Enforcement::Enforce;
                let is_closed: Vec<bool> = needs.iter().map(closed).collect();
                let pick = |wanted: bool| -> Vec<(usize, Demand)> {
                    let picked = demands.iter().copied().enumerate();
                    picked.filter(|(at, _)| is_closed.get(*at) == Some(&wanted)).collect()
                };
                let (shut, open) = (pick(true), pick(false));
                let only: Vec<Demand> = shut.iter().map(|(_, demand)| *demand).collect();
                match lease::decide(record, &only, valid, wall_ms, mono_ms) {
                    Verdict::Refuse(refusal) => {
                        let demand = shut.get(refusal.demand).map_or(0, |(at, _)| *at);
                        Verdict::Refuse(Refusal { demand, ..refusal })
                    }
                    Verdict::Admit { over } => {
                        let open: Vec<Demand> = open.into_iter().map(|(_, demand)| demand).collect();
                        lease::take(record, &open, mono_ms);
                        let at = |bits: u64, (position, (at, _)): (usize, &(usize, Demand))| match at {
                            0..64 if bit(over, position) => bits | 1 << at,
                            _ => bits,
                        };
                        Verdict::Admit { over: shut.iter().enumerate().fold(0, at) }
                    }
                    Verdict::Ask => Verdict::Ask,
                }
            }
        }
    }

    /// Counts what is charged now in the ledger's hour.
    fn count(&self, record: &mut Record) {
        for line in &self.bill.lines {
            for (position, charge) in
                line.route.charges.iter().enumerate().filter(|(_, charge)| !charge.release)
            {
                let units = line.units(position);
                if let (Some(meter), true) = (self.policy.meters.get(charge.meter), units > 0) {
                    record.count(meter, line.labels(position), units, self.now.wall_ms);
                }
            }
        }
    }

    fn exhausted(
        &self,
        record: &Record,
        plan: &Plan,
        needs: &[Need<'_>],
        demands: &[Demand],
        routes: &[Rc<RoutePlan>],
        refusal: Refusal,
    ) -> Denial {
        let tier = plan.tier.as_ref().map_or("", |tier| &tier.name);
        let fields = self.fields(record, needs, demands, routes);
        let (Some(need), Some(demand)) = (needs.get(refusal.demand), demands.get(refusal.demand)) else {
            return Denial::busy();
        };
        let limit = &need.cost.limit;
        let left = record
            .accounts
            .get(demand.account)
            .map(|account| Admission::of(account, demand, self.now.wall_ms, self.now.mono_ms));
        let (remaining, reset_ms) = left.map_or((0, 0), |left| (left.remaining, left.reset_ms));
        let reset_at_ms = reset_at_ms(limit, &need.cost.window, self.now.wall_ms, reset_ms);
        let meter = limit.meter.and_then(|meter| self.policy.meters.get(meter));
        let facts = LimitFacts {
            name: limit.name.to_string(),
            meter: meter.cloned().unwrap_or_default(),
            maximum: limit.units,
            used: limit.units.saturating_sub(remaining),
            remaining,
            needed: need.units,
            per: limit.per(),
            reset_at_ms,
            reset_s: reset_at_ms.map(|_| reset_ms.div_ceil(1_000)),
        };
        let mut denial = Denial::exhausted(limit, tier, refusal, facts, fields);
        denial.line = need.line;
        denial
    }

    fn fields(
        &self,
        record: &Record,
        needs: &[Need<'_>],
        demands: &[Demand],
        routes: &[Rc<RoutePlan>],
    ) -> Fields {
        let policy_header = match routes {
            [route] => route.policy_header.as_str(),
            // Several routes of a batch: told by what each limit has left alone.
            _ => "",
        };
        Fields::of(self.policy, record, needs, demands, policy_header, self.now)
    }

    fn routes(&self, plan: &Plan) -> Vec<Rc<RoutePlan>> {
        self.bill.lines.iter().map(|line| plan.route(self.policy, &line.route)).collect()
    }

    /// The control plane works out by it what may be granted.
    fn note_claim(&self, record: &mut Record) {
        if record.tier_claim != self.tier_claim {
            self.tier_claim.clone_into(&mut record.tier_claim);
        }
    }

    /// The plan of the subject's record.
    pub fn plan(&self, record: &mut Record) -> Rc<Plan> {
        self.note_claim(record);
        let mut kept = self.kept.borrow_mut();
        match &*kept {
            Some(kept) if kept.is_current(self.policy, record, self.now) => kept.plan.clone(),
            _ => {
                let fresh = KeptPlan::new(self.plans, self.policy, record, self.now);
                kept.insert(fresh).plan.clone()
            }
        }
    }
}

/// What the bill needs of each limit, in the order in which the first failure wins.
pub(super) fn needs<'p>(bill: &Bill, routes: &'p [Rc<RoutePlan>], whose: Whose) -> Vec<Need<'p>> {
    let mut needs: Vec<Need<'p>> =
        Vec::with_capacity(routes.iter().map(|route| route.costs_of(whose).len()).sum());
    for (line, route) in routes.iter().enumerate() {
        for cost in route.costs_of(whose) {
            let units = match cost.charge {
                Some(charge) => bill.lines.get(line).map_or(0, |line| line.units(charge)),
                // However many calls are in a request, it is one in flight; what one of them enforces holds for all.
                None => match needs.iter_mut().find(|need| need.cost.limit.name == cost.limit.name) {
                    Some(need) if need.cost.holds <= cost.holds => continue,
                    Some(need) => {
                        (need.line, need.cost) = (line, cost);
                        continue;
                    }
                    None => 1,
                },
            };
            needs.push(Need { line, cost, units });
        }
    }
    if routes.len() > 1 {
        needs.sort_by_key(|need| rank(&need.cost.limit.kind));
    }
    needs
}

/// The demands of needs on a record; opens accounts that are missing.
fn demands(record: &mut Record, needs: &[Need<'_>]) -> Vec<Demand> {
    needs.iter().map(|need| demand(record, need.cost, need.units)).collect()
}

/// What a cost of so many units demands of a record; opens the account if it is missing.
pub(super) fn demand(record: &mut Record, cost: &Cost, units: u64) -> Demand {
    // By the window that the plan names, not by the moment: an upgrade may have moved the billing month, and units of the
    // month before are not this one's.
    let account = record.open(&cost.limit.name, cost.kind, cost.window);
    Demand { account, units, limit_units: cost.limit.units, window_ms: cost.rest_ms, on_short: cost.on_short }
}

fn deny(denial: Denial) -> Outcome {
    Outcome::Deny(Box::new(denial))
}

/// A batch of many calls may need more than there are bits: those beyond have none (see [`lease::decide`]), and are refused
/// or taken like all others.
pub(super) fn bit(bits: u64, position: usize) -> bool {
    position < 64 && bits >> position & 1 == 1
}
