//! From a verified caller and a route to a decision: which limits apply, and whether the edge's lease covers them.
//!
//! One read and one swap of the subject's record, and no question to anyone. What it cannot know it says.

use std::cell::RefCell;
use std::fmt::Write as _;
use std::rc::Rc;
use std::sync::Arc;

use tollgate_policy::compile::{CompiledLimit, CompiledPolicy, CompiledRoute, CompiledTier};
use tollgate_policy::lease::{self, Account, Admission, Demand, Record, SessionId, Verdict};
use tollgate_policy::limit::LimitKind;
use tollgate_policy::subscription::effective_tier;
use tollgate_policy::window::Window;

use crate::answer::Denial;
use crate::host::Now;
use crate::identity::Identity;

/// How long an edge that stands alone keeps a window that is over, for refunds, ms.
const REFUND_LINGER_MS: i64 = 300_000;

/// Routes that a plan remembers: a worker holds a plan for each token that it knows, and memory is bounded.
const ROUTES_MAX: usize = 4;

/// What a subject has, worked out once per subscription and policy.
#[derive(Debug)]
pub struct Plan {
    policy_revision: u64,
    subscription_revision: u64,
    session: SessionId,
    /// From this moment on (Unix ms) it holds.
    from_ms: i64,
    /// From this moment (Unix ms) the subscription says something else, or a window has ended.
    until_ms: i64,
    /// The tier in force; without one the subject gets 402.
    pub tier: Option<Arc<CompiledTier>>,
    /// The limits, each with its window: 0 and `i64::MAX` for a rate.
    limits: Vec<(CompiledLimit, Window)>,
    routes: RefCell<Vec<Rc<RoutePlan>>>,
}

/// What one route costs a subject.
#[derive(Debug)]
pub struct RoutePlan {
    route: Arc<CompiledRoute>,
    /// Limits that it touches, rates before quotas: the order in which the first failure wins.
    costs: Vec<Cost>,
    /// `RateLimit-Policy`, or empty.
    pub policy_header: String,
    /// The first feature that the route needs and the tier lacks.
    missing_feature: Option<String>,
}

#[derive(Debug)]
struct Cost {
    limit: CompiledLimit,
    window: Window,
    units: u64,
}

/// Units that a request took, to give them back if it fails.
#[derive(Debug)]
pub struct Reservation {
    session: SessionId,
    plan: Rc<RoutePlan>,
    at_ms: i64,
}

/// What is to be done with a request.
#[derive(Debug)]
pub enum Outcome {
    /// It passes.
    Admit {
        /// What it took.
        reservation: Reservation,
        /// Its tier.
        tier: Arc<CompiledTier>,
        /// `RateLimit`, or empty.
        ratelimit: String,
    },
    /// It is refused.
    Deny(Box<Denial>),
    /// The control plane must be asked.
    Ask,
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
    /// The control plane is lost and the policy says `open`: admit and count.
    Debt,
    /// The edge stands alone: the whole limit is its own.
    Alone,
}

/// Everything a decision reads besides the record.
#[derive(Debug, Clone, Copy)]
pub struct Question<'a> {
    /// The policy in force when the request came.
    pub policy: &'a CompiledPolicy,
    /// Who calls.
    pub identity: &'a Identity,
    /// What it calls.
    pub route: &'a Arc<CompiledRoute>,
    /// The session whose leases may be used.
    pub session: SessionId,
    /// When.
    pub now: Now,
}

impl Question<'_> {
    /// Decides on the record, and changes it where the request is admitted.
    pub fn decide(&self, record: &mut Record, mode: Mode) -> Outcome {
        // Debt is counted in whatever session the record is of: its numbers may not have been told yet.
        if record.session != self.session && mode != Mode::Debt {
            if mode != Mode::Alone {
                return Outcome::Ask;
            }
            *record = Record::new(&record.subject, self.session, self.now.mono_ms);
        }
        if mode == Mode::Alone {
            // Nobody is told, so what is over goes at once.
            record.accounts.retain(|a| self.now.wall_ms < a.window_end_ms.saturating_add(REFUND_LINGER_MS));
        }
        let known = record.known || mode == Mode::Alone || mode == Mode::Debt;
        if !known {
            return Outcome::Ask;
        }
        let plan = self.plan(record);
        // What nobody has said yet is not known to be missing.
        let unknown = mode == Mode::Debt && !record.known;
        let Some(tier) = &plan.tier else {
            let denial = if unknown { Denial::control_plane_lost() } else { Denial::no_subscription() };
            return Outcome::Deny(Box::new(denial));
        };
        let route = plan.route(self.route);
        if let Some(feature) = &route.missing_feature {
            if unknown {
                return Outcome::Deny(Box::new(Denial::control_plane_lost()));
            }
            return Outcome::Deny(Box::new(Denial::no_feature(feature, &tier.name)));
        }
        let demands = self.demands(record, &route);
        let verdict = match mode {
            Mode::Leased { valid } => {
                lease::decide(record, &demands, valid, self.now.wall_ms, self.now.mono_ms)
            }
            Mode::Alone => {
                for demand in &demands {
                    if let Some(account) = record.accounts.get_mut(demand.account) {
                        account.granted = demand.limit_units;
                    }
                }
                lease::decide(record, &demands, true, self.now.wall_ms, self.now.mono_ms)
            }
            Mode::Answered { valid: false } => Verdict::Ask,
            Mode::Answered { valid: true } => {
                match lease::decide(record, &demands, true, self.now.wall_ms, self.now.mono_ms) {
                    Verdict::Ask => {
                        Verdict::Refuse(lease::refuse(record, &demands, self.now.wall_ms, self.now.mono_ms))
                    }
                    sure => sure,
                }
            }
            Mode::Debt => {
                lease::take(record, &demands, self.now.mono_ms);
                Verdict::Admit
            }
        };
        match verdict {
            Verdict::Ask => Outcome::Ask,
            Verdict::Refuse(refusal) => {
                let limit = route.costs.get(refusal.demand).map(|cost| &cost.limit);
                Outcome::Deny(Box::new(Denial::exhausted(
                    limit,
                    &tier.name,
                    refusal,
                    self.ratelimit(record, &demands, &route),
                    route.policy_header.clone(),
                )))
            }
            Verdict::Admit => {
                let counted = if mode == Mode::Alone { &[][..] } else { &self.route.charges };
                for (meter, units) in counted {
                    if let Some(meter) = self.policy.meters.get(*meter) {
                        record.count(meter, *units, self.now.wall_ms);
                    }
                }
                Outcome::Admit {
                    ratelimit: self.ratelimit(record, &demands, &route),
                    reservation: Reservation {
                        session: record.session,
                        plan: route,
                        at_ms: self.now.wall_ms,
                    },
                    tier: tier.clone(),
                }
            }
        }
    }

    /// Opens the accounts that the request needs, so that a report can ask for them, and says what is missing in each.
    pub fn needs(&self, record: &mut Record) -> Vec<(usize, u64)> {
        let plan = self.plan(record);
        let route = plan.route(self.route);
        let demands = self.demands(record, &route);
        demands.iter().map(|demand| (demand.account, demand.units)).collect()
    }

    fn plan(&self, record: &mut Record) -> Rc<Plan> {
        let claim = self.identity.caller.tier.as_deref().unwrap_or("");
        if record.tier_claim != claim {
            claim.clone_into(&mut record.tier_claim);
        }
        let mut kept = self.identity.plan.borrow_mut();
        if let Some(plan) = &*kept
            && plan.policy_revision == self.policy.revision
            && plan.subscription_revision == record.subscription_revision
            && plan.session == record.session
            && (plan.from_ms..plan.until_ms).contains(&self.now.wall_ms)
        {
            return plan.clone();
        }
        let plan = Rc::new(Plan::new(self.policy, record, self.now.wall_ms));
        *kept = Some(plan.clone());
        plan
    }

    /// What the request needs of each account; opens those that are missing.
    fn demands(&self, record: &mut Record, route: &RoutePlan) -> Vec<Demand> {
        let mut demands = Vec::with_capacity(route.costs.len());
        for Cost { limit, window, units } in &route.costs {
            let window_ms = match limit.kind {
                LimitKind::Rate { window_ms } => window_ms,
                LimitKind::Quota(_) => 0,
            };
            // By the window that the plan names, not by the moment: an upgrade may have moved the billing month, and
            // units of the month before are not this one's.
            let found = record.account(&limit.name, window.start_ms).unwrap_or_else(|| {
                let window_start_ms = window.start_ms;
                record.accounts.push(Account {
                    limit: limit.name.to_string(),
                    window_start_ms,
                    ..Account::default()
                });
                record.accounts.len() - 1
            });
            if let Some(account) = record.accounts.get_mut(found) {
                // A new policy may end the window elsewhere.
                account.window_end_ms = window.end_ms;
            }
            demands.push(Demand { account: found, units: *units, limit_units: limit.units, window_ms });
        }
        demands
    }

    /// The `RateLimit` field of draft-ietf-httpapi-ratelimit-headers. Names are tokens by validation, so quoting is safe.
    fn ratelimit(&self, record: &Record, demands: &[Demand], route: &RoutePlan) -> String {
        let mut field = String::with_capacity(48 * demands.len());
        for (demand, cost) in demands.iter().zip(&route.costs) {
            let Some(account) = record.accounts.get(demand.account) else { continue };
            let left = Admission::of(account, demand, self.now.wall_ms, self.now.mono_ms);
            let comma = if field.is_empty() { "" } else { ", " };
            let seconds = left.reset_ms.div_ceil(1_000);
            let _ = write!(field, "{comma}\"{}\";r={};t={seconds}", cost.limit.name, left.remaining);
        }
        field
    }
}

impl Plan {
    fn new(policy: &CompiledPolicy, record: &Record, now_ms: i64) -> Self {
        let subscription = record.parse_subscription();
        let subscription = subscription.as_ref();
        let claim = Some(record.tier_claim.as_str()).filter(|name| policy.tier(name).is_some());
        let name = effective_tier(subscription, claim, policy.default_tier.as_deref(), now_ms);
        let tier = name.and_then(|name| policy.tier(name)).cloned();
        let in_force = subscription.filter(|s| s.in_force(now_ms));
        let none = std::collections::BTreeMap::new();
        let overrides = in_force.map_or(&none, |s| &s.overrides);
        let anchor_ms = subscription.map_or(0, |s| s.anchor_ms);
        let limits = tier.as_ref().map_or_else(Vec::new, |tier| policy.limits_of(tier, overrides));
        let limits: Vec<_> = limits
            .into_iter()
            .map(|limit| {
                let window = match &limit.kind {
                    LimitKind::Rate { .. } => Window { start_ms: 0, end_ms: i64::MAX },
                    LimitKind::Quota(period) => period.window_at(now_ms, anchor_ms),
                };
                (limit, window)
            })
            .collect();
        let expires_ms = in_force.and_then(|s| s.expires_at_ms).unwrap_or(i64::MAX);
        Self {
            policy_revision: policy.revision,
            subscription_revision: record.subscription_revision,
            session: record.session,
            from_ms: limits.iter().map(|(_, window)| window.start_ms).max().unwrap_or(i64::MIN),
            until_ms: limits.iter().map(|(_, window)| window.end_ms).fold(expires_ms, i64::min),
            limits,
            tier,
            routes: RefCell::new(Vec::new()),
        }
    }

    fn route(&self, route: &Arc<CompiledRoute>) -> Rc<RoutePlan> {
        let mut routes = self.routes.borrow_mut();
        if let Some(known) = routes.iter().find(|known| Arc::ptr_eq(&known.route, route)) {
            return known.clone();
        }
        let charge = |limit: &CompiledLimit| route.charges.iter().find(|(meter, _)| *meter == limit.meter);
        let mut costs: Vec<Cost> = self
            .limits
            .iter()
            .filter_map(|(limit, window)| {
                let (_, units) = charge(limit)?;
                Some(Cost { limit: limit.clone(), window: *window, units: *units })
            })
            .collect();
        costs.sort_by_key(|cost| matches!(cost.limit.kind, LimitKind::Quota(_)));
        let has = |feature: &&String| !self.tier.as_ref().is_some_and(|t| t.features.contains(*feature));
        let plan = Rc::new(RoutePlan {
            route: route.clone(),
            policy_header: policy_header(&costs),
            costs,
            missing_feature: route.features.iter().find(has).cloned(),
        });
        if routes.len() >= ROUTES_MAX {
            routes.remove(0);
        }
        routes.push(plan.clone());
        plan
    }
}

/// Whether an edge that stands alone may forget the record: all that was used is free again.
pub fn limits_nobody(record: &mut Record, now: Now) -> bool {
    record.accounts.iter_mut().all(|account| {
        account.rest.expire(now.mono_ms);
        let over = now.wall_ms >= account.window_end_ms.saturating_add(REFUND_LINGER_MS);
        over || if account.is_rate() { account.rest.units() == 0 } else { account.used() == 0 }
    })
}

/// `RateLimit-Policy`: the maximum, and the window in seconds where it has a fixed length.
fn policy_header(costs: &[Cost]) -> String {
    let mut field = String::new();
    for Cost { limit, .. } in costs {
        let comma = if field.is_empty() { "" } else { ", " };
        let _ = write!(field, "{comma}\"{}\";q={}", limit.name, limit.units);
        if let LimitKind::Rate { window_ms } = &limit.kind {
            let _ = write!(field, ";w={}", window_ms.div_ceil(1_000));
        }
    }
    field
}

impl Reservation {
    /// Gives the units back in the record they came from. A new session's record knows nothing of them: they stay charged.
    pub fn refund(&self, policy: &CompiledPolicy, record: &mut Record) {
        if record.session != self.session {
            return;
        }
        for cost in &self.plan.costs {
            let at = record.account(&cost.limit.name, cost.window.start_ms);
            if let Some(account) = at.and_then(|at| record.accounts.get_mut(at)) {
                account.refund(cost.units);
            }
        }
        for (meter, units) in &self.plan.route.charges {
            if let Some(meter) = policy.meters.get(*meter) {
                record.uncount(meter, *units, self.at_ms);
            }
        }
    }

    /// Whether a response of this status gives the units back.
    pub fn is_refunded(&self, status: u16) -> bool {
        self.plan.route.refund.contains(status)
    }

    /// Whether nothing was taken that a refund could give back.
    pub fn is_empty(&self) -> bool {
        self.plan.route.charges.is_empty()
    }

    /// `RateLimit-Policy`, or empty.
    pub fn policy_header(&self) -> &str {
        &self.plan.policy_header
    }
}
