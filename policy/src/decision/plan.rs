//! What a subject has: its tier and limits, worked out once per subscription and policy and kept while they hold.

use std::cell::RefCell;
use std::fmt::Write as _;
use std::rc::Rc;
use std::sync::Arc;

use crate::compile::{CompiledLimit, CompiledPolicy, CompiledRoute, CompiledTier, UNLIMITED};
use crate::document::{Enforcement, Scope};
use crate::lease::{AccountKind, OnShort, Record, SessionId};
use crate::limit::LimitKind;
use crate::subscription::{Entitlements, grants};
use crate::window::{CALENDAR_END_MS, Window};

use super::{Now, Whose};

/// How long an edge that stands alone keeps a window that is over, for refunds, ms.
pub(super) const REFUND_LINGER_MS: i64 = 300_000;

/// Routes that a plan remembers: a worker holds a plan for each token that it knows, and memory is bounded.
const ROUTES_MAX: usize = 8;

/// Plans that a worker shares between the subjects that have the same: what thousands of callers need is then a few
/// plans, which stay in the processor's cache.
const PLANS_MAX: usize = 64;

/// The plans that a worker worked out last.
#[derive(Debug, Default)]
pub struct Plans(RefCell<Vec<Rc<Plan>>>);

/// A subject's plan, and what it was worked out for.
#[derive(Debug)]
pub struct KeptPlan {
    revision: u64,
    session: SessionId,
    /// The plan.
    pub plan: Rc<Plan>,
}

/// What a subject has.
#[derive(Debug)]
pub struct Plan {
    policy_revision: u64,
    /// From this moment on (Unix ms) it holds.
    from_ms: i64,
    /// From this moment (Unix ms) the subscription says something else, or a window has ended.
    until_ms: i64,
    /// The tier in force; without one the subject gets 402.
    pub tier: Option<Arc<CompiledTier>>,
    /// An administrator lets the subject pass all limits and features for now.
    pub bypass: bool,
    /// The limits that can refuse, or that must be counted all the same, each with its window.
    limits: Vec<(CompiledLimit, Window)>,
    routes: RefCell<Vec<Rc<RoutePlan>>>,
}

/// What one route costs a subject.
#[derive(Debug)]
pub struct RoutePlan {
    /// The route.
    pub route: Arc<CompiledRoute>,
    /// Limits of the subject that it touches, in the order in which the first failure wins.
    pub costs: Vec<Cost>,
    /// The same for the member of an organisation that calls.
    pub member_costs: Vec<Cost>,
    /// Capacities that the route gives back to, of the subject and of the member.
    releases: Vec<Cost>,
    /// Largest bodies, by the limits that say so.
    pub sizes: Vec<(CompiledLimit, Enforcement)>,
    /// `RateLimit-Policy`, or empty.
    pub policy_header: String,
    /// The first feature that the route needs and the tier lacks.
    pub missing_feature: Option<String>,
    /// What holds for the route apart from its limits.
    pub enforcement: Enforcement,
}

/// One limit that a route touches.
#[derive(Debug)]
pub struct Cost {
    /// The limit, with the subject's own maximum.
    pub limit: CompiledLimit,
    /// Its window.
    pub window: Window,
    /// How its units rest.
    pub kind: AccountKind,
    /// How long a used unit rests, ms: see [`AccountKind::rest_ms`].
    pub rest_ms: u64,
    /// The route's charge that it counts; none for requests in flight.
    pub charge: Option<usize>,
    /// What happens when it has too little left.
    pub on_short: OnShort,
    /// What holds for the limit on this route. A capacity is counted even where it is off: what is stored stays stored.
    pub holds: Enforcement,
}

impl RoutePlan {
    /// The limits that are counted on the record of `whose`.
    pub fn costs_of(&self, whose: Whose) -> &[Cost] {
        match whose {
            Whose::Subject => &self.costs,
            Whose::Member => &self.member_costs,
        }
    }

    /// The capacities on the record of `whose` that the route gives back to.
    pub(super) fn releases_of(&self, whose: Whose) -> impl Iterator<Item = &Cost> {
        let scope = match whose {
            Whose::Subject => Scope::Subject,
            Whose::Member => Scope::Member,
        };
        self.releases.iter().filter(move |cost| cost.limit.scope == scope)
    }

    /// Whether anything of it is counted on the record of the member that calls.
    pub(super) fn touches_member(&self) -> bool {
        !self.member_costs.is_empty() || self.releases_of(Whose::Member).next().is_some()
    }
}

impl Cost {
    /// The code of the denial when it has too little left.
    pub fn code(&self) -> &'static str {
        match self.limit.kind {
            LimitKind::Size => "size-exceeded",
            LimitKind::Capacity => "capacity-exceeded",
            LimitKind::Concurrency => "concurrency-exceeded",
            LimitKind::Rate { .. } | LimitKind::Bucket { .. } => "rate-exceeded",
            LimitKind::Quota { .. } => "quota-exceeded",
        }
    }

    /// Whether time brings units back.
    pub fn resets(&self) -> bool {
        match self.limit.kind {
            LimitKind::Rate { .. } | LimitKind::Bucket { .. } => true,
            LimitKind::Quota { .. } => self.window.end_ms < CALENDAR_END_MS,
            LimitKind::Capacity | LimitKind::Concurrency | LimitKind::Size => false,
        }
    }

    /// Whether settling needs to know where the units rest.
    pub(super) fn needs_end(&self) -> bool {
        matches!(self.kind, AccountKind::Concurrency | AccountKind::Rate)
    }
}

impl Plans {
    /// The plan, or the one like it that is there already.
    fn share(&self, plan: Plan) -> Rc<Plan> {
        let mut plans = self.0.borrow_mut();
        if let Some(same) = plans.iter().find(|known| known.is_same(&plan)) {
            return same.clone();
        }
        if plans.len() >= PLANS_MAX {
            plans.remove(0);
        }
        let plan = Rc::new(plan);
        plans.push(plan.clone());
        plan
    }
}

impl KeptPlan {
    /// The plan of a record's subject, shared where others have the same.
    pub(super) fn new(plans: &Plans, policy: &CompiledPolicy, record: &Record, now: Now) -> Self {
        let plan = plans.share(Plan::new(policy, record, now.wall_ms));
        Self { revision: record.revision, session: record.session, plan }
    }

    /// Whether it still holds.
    pub(super) fn is_current(&self, policy: &CompiledPolicy, record: &Record, now: Now) -> bool {
        let plan = &self.plan;
        plan.policy_revision == policy.revision
            && self.revision == record.revision
            && self.session == record.session
            && (plan.from_ms..plan.until_ms).contains(&now.wall_ms)
    }
}

impl Plan {
    fn is_same(&self, other: &Self) -> bool {
        let tier = |plan: &Self| plan.tier.as_ref().map(|tier| (tier.name.clone(), tier.version));
        self.policy_revision == other.policy_revision
            && (self.from_ms, self.until_ms) == (other.from_ms, other.until_ms)
            && self.bypass == other.bypass
            && self.limits == other.limits
            && tier(self) == tier(other)
    }

    /// What the subject of `record` has at `now_ms` (Unix ms).
    fn new(policy: &CompiledPolicy, record: &Record, now_ms: i64) -> Self {
        let Entitlements { subscription, bypass_until_ms, grants } = record.parse_entitlements();
        let subscription = subscription.as_ref();
        let tier = policy.tier_in_force(subscription, Some(&record.tier_claim), now_ms).cloned();
        let in_force = subscription.filter(|s| s.in_force(now_ms));
        let none = std::collections::BTreeMap::new();
        let overrides = in_force.map_or(&none, |s| &s.overrides);
        let anchor_ms = subscription.map_or(0, |s| s.anchor_ms);
        let bypass_until_ms = bypass_until_ms.filter(|until_ms| now_ms < *until_ms);
        let mut limits = tier.as_ref().map_or_else(Vec::new, |tier| policy.limits_of(tier, overrides));
        grants::raise_all(&mut limits, &grants, now_ms);
        let (grant_ends_ms, grant_ended_ms) = grants::ends_around(&grants, now_ms);
        let limits: Vec<_> = limits
            .into_iter()
            // What is stored counts though nothing limits it: another tier may, one day.
            .filter(|limit| limit.units != UNLIMITED || limit.kind == LimitKind::Capacity)
            .map(|limit| {
                let window = AccountKind::window(&limit.kind, now_ms, anchor_ms);
                (limit, window)
            })
            .collect();
        let next_ms = subscription.and_then(|s| s.next_moment_ms(now_ms)).unwrap_or(i64::MAX);
        let last_ms = subscription.and_then(|s| s.last_moment_ms(now_ms));
        // What has no window has a number in its start's place.
        let has_start = |(_, window): &&(CompiledLimit, Window)| window.end_ms < i64::MAX;
        let starts = limits.iter().filter(has_start).map(|(_, window)| window.start_ms);
        let ends = limits.iter().map(|(_, window)| window.end_ms).chain(bypass_until_ms).chain(grant_ends_ms);
        Self {
            policy_revision: policy.revision,
            from_ms: starts.chain(last_ms).chain(grant_ended_ms).max().unwrap_or(i64::MIN),
            until_ms: ends.fold(next_ms, i64::min),
            limits,
            tier,
            bypass: bypass_until_ms.is_some(),
            routes: RefCell::new(Vec::new()),
        }
    }

    /// What `route` costs.
    pub fn route(&self, policy: &CompiledPolicy, route: &Arc<CompiledRoute>) -> Rc<RoutePlan> {
        let mut routes = self.routes.borrow_mut();
        if let Some(known) = routes.iter().find(|known| Arc::ptr_eq(&known.route, route)) {
            return known.clone();
        }
        let plan = Rc::new(self.make(policy, route));
        if routes.len() >= ROUTES_MAX {
            routes.remove(0);
        }
        routes.push(plan.clone());
        plan
    }

    fn make(&self, policy: &CompiledPolicy, route: &Arc<CompiledRoute>) -> RoutePlan {
        let enforcement = policy.enforcement_of(route, None);
        let (mut costs, mut member_costs, mut given_back, mut sizes) =
            (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        for (limit, window) in &self.limits {
            let capacity = matches!(limit.kind, LimitKind::Capacity);
            let holds = match policy.enforcement_of(route, Some(limit)) {
                _ if self.bypass => Enforcement::Off,
                holds => holds,
            };
            if !limit.is_of_route(route) || (holds == Enforcement::Off && !capacity) {
                continue;
            }
            let Some(kind) = AccountKind::of(&limit.kind) else {
                sizes.push((limit.clone(), holds));
                continue;
            };
            let rest_ms = AccountKind::rest_ms(&limit.kind);
            let charge = route.charges.iter().position(|charge| Some(charge.meter) == limit.meter);
            let releases = charge.and_then(|at| route.charges.get(at)).is_some_and(|charge| charge.release);
            // Whatever is stored is counted, or the count would be wrong from then on.
            let counts_anyway = capacity || matches!(limit.kind, LimitKind::Quota { soft: true, .. });
            let on_short = match holds {
                _ if limit.units == UNLIMITED => OnShort::Pass,
                Enforcement::Enforce if !matches!(limit.kind, LimitKind::Quota { soft: true, .. }) => {
                    OnShort::Refuse
                }
                _ if counts_anyway => OnShort::Pass,
                _ => OnShort::Shadow,
            };
            let cost = Cost { limit: limit.clone(), window: *window, kind, rest_ms, charge, on_short, holds };
            match limit.scope {
                _ if limit.meter.is_some() && charge.is_none() => {}
                _ if releases && capacity => given_back.push(cost),
                _ if releases => {}
                Scope::Subject => costs.push(cost),
                Scope::Member => member_costs.push(cost),
            }
        }
        costs.sort_by_key(|cost| rank(&cost.limit.kind));
        member_costs.sort_by_key(|cost| rank(&cost.limit.kind));
        let has = |feature: &&String| !self.tier.as_ref().is_some_and(|t| t.features.contains(*feature));
        let missing =
            route.features.iter().find(has).filter(|_| !self.bypass && enforcement != Enforcement::Off);
        RoutePlan {
            policy_header: policy_header(member_costs.iter().chain(&costs)),
            missing_feature: missing.cloned(),
            route: route.clone(),
            costs,
            member_costs,
            releases: given_back,
            sizes,
            enforcement,
        }
    }
}

/// The order of checks: the first failure wins.
pub(super) fn rank(kind: &LimitKind) -> u8 {
    match kind {
        LimitKind::Size => 0,
        LimitKind::Capacity => 1,
        LimitKind::Concurrency => 2,
        LimitKind::Rate { .. } | LimitKind::Bucket { .. } => 3,
        LimitKind::Quota { .. } => 4,
    }
}

/// Whether an edge that stands alone may forget the record: all that was used is free again.
pub fn limits_nobody(record: &mut Record, now: Now) -> bool {
    record.accounts.iter_mut().all(|account| {
        let over = now.wall_ms >= account.window_end_ms.saturating_add(REFUND_LINGER_MS);
        over || account.is_unused(now.mono_ms)
    })
}

/// `RateLimit-Policy`: the maximum, and the window in seconds where it has a fixed length.
fn policy_header<'a>(costs: impl Iterator<Item = &'a Cost>) -> String {
    let mut field = String::new();
    for Cost { limit, .. } in costs.filter(|cost| cost.limit.units != UNLIMITED) {
        let comma = if field.is_empty() { "" } else { ", " };
        let _ = write!(field, "{comma}\"{}\";q={}", limit.name, limit.units);
        match &limit.kind {
            LimitKind::Rate { window_ms } => {
                let _ = write!(field, ";w={}", window_ms.div_ceil(1_000));
            }
            LimitKind::Bucket { refill_ms, .. } => {
                let _ = write!(field, ";w={}", refill_ms.div_ceil(1_000));
            }
            _ => {}
        }
    }
    field
}
