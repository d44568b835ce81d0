//! A policy in the form that requests are decided with: names resolved to numbers, windows and routes ready to use.
//!
//! Takes a document that makes sense, or says what does not. Compiling is pure: the same document gives the same policy
//! at every edge and in the control plane.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::body::pointer::Pointer;
use crate::charge;
use crate::document::{
    Anonymous, Auth, Bodies, Charge, DenialTemplate, Denials, Enforcement, Fault, Limit, Maximum, Meter,
    OnControlPlaneLoss, PolicyDocument, RouteRules, Scope, UNITS_MAX, validate,
};
use crate::label::Labels;
use crate::limit::{self, LimitKind};
use crate::route::{Call, Conditions, Router, Template};
use crate::status::StatusSet;
use crate::subscription::{Effective, Subscription, effective_tier};

pub use crate::charge::{Amount, CompiledCharge, Estimate, EstimateSource, IdSource};
pub use crate::document::On;
pub use crate::limit::UNLIMITED;
pub use crate::route::{CallName, Head};

/// Name of the route of requests that no route matches.
pub const DEFAULT_ROUTE_NAME: &str = "default";

/// A policy, ready to decide with.
#[derive(Debug, Clone)]
pub struct CompiledPolicy {
    /// Rises with every change of the policy or its keys.
    pub revision: u64,
    /// Names of the meters, sorted; other parts name a meter by its index here.
    pub meters: Vec<String>,
    /// The tiers, by name.
    pub tiers: BTreeMap<String, Arc<CompiledTier>>,
    /// The tier of a subject that has no subscription in force. It exists.
    pub default_tier: Option<String>,
    /// Whether denials are carried out where neither route nor limit says.
    pub enforcement: Enforcement,
    /// Who calls without a token on routes with `auth: optional`. The tier exists.
    pub anonymous: Option<Anonymous>,
    /// What is read of JSON bodies.
    pub bodies: Bodies,
    /// Whether the proxy chooses its route again once the tier is known.
    pub route_by_tier: bool,
    /// What happens to a request that cannot be decided, where no limit says.
    pub on_control_plane_loss: OnControlPlaneLoss,
    /// How denials are worded.
    pub denials: Denials,
    /// The routes, in the document's order.
    pub routes: Vec<Arc<CompiledRoute>>,
    /// What holds where no route matches.
    pub default_route: Arc<CompiledRoute>,
    /// Where the amounts of charges and estimates stand in request bodies, each once.
    pub request_pointers: Vec<Pointer>,
    /// Where labels stand in request bodies, each once.
    pub request_labels: Vec<Pointer>,
    /// Headers that routes ask for, each once: a request that repeats one could be read in two ways.
    pub route_headers: Vec<Box<str>>,
    /// Whether some tier limits each member of an organisation.
    pub limits_members: bool,
    /// Whether the proxy goes by the name of some route.
    pub has_proxy_routes: bool,
    /// What tiers were before, by the tier's name, with the moment (Unix ms) up to which subscriptions began that have it.
    /// The oldest first.
    earlier: BTreeMap<String, Vec<(i64, Arc<CompiledTier>)>>,
    router: Router,
}

/// A tier, ready to decide with.
#[derive(Debug, Clone, PartialEq)]
pub struct CompiledTier {
    /// The tier's name.
    pub name: String,
    /// Which of its versions: an index into the document's `earlier`, or their number, of the newest.
    pub version: usize,
    /// The features that it has.
    pub features: BTreeSet<String>,
    /// The features separated by commas, sorted, for `x-tollgate-features`.
    pub features_header: String,
    /// The limits, in the document's order.
    pub limits: Vec<CompiledLimit>,
}

/// A limit, ready to count with.
#[derive(Debug, Clone, PartialEq)]
pub struct CompiledLimit {
    /// The limit's name; unique in its tier, and of the same meter, window and scope in every tier that has it.
    pub name: Arc<str>,
    /// Index into [`CompiledPolicy::meters`]. `None`: of concurrency and size.
    pub meter: Option<usize>,
    /// The maximum, at most [`UNITS_MAX`], or [`UNLIMITED`].
    pub units: u64,
    /// How it counts.
    pub kind: LimitKind,
    /// Who has the maximum.
    pub scope: Scope,
    /// Whether its denials are carried out, if it says: see [`CompiledPolicy::enforcement_of`].
    pub enforcement: Option<Enforcement>,
    /// Whether a request is admitted that cannot be decided because the control plane does not answer.
    pub open: bool,
    /// The HTTP status of its denial: 429, 403 or 413.
    pub status: u16,
    /// Names of the routes where it is looked at. Empty: all that charge the meter; of concurrency and size all that know a
    /// subject.
    pub routes: Vec<Arc<str>>,
}

impl CompiledLimit {
    /// The window as text: `day`, `billing_month`, `30s`; empty where there is none.
    pub fn per(&self) -> String {
        self.kind.per()
    }

    /// Whether it is looked at on a route that charges its meter, or knows a subject.
    pub fn is_of_route(&self, route: &CompiledRoute) -> bool {
        self.routes.is_empty() || self.routes.contains(&route.name)
    }
}

/// A route, ready to decide with.
#[derive(Debug, Clone, PartialEq)]
pub struct CompiledRoute {
    /// The route's name in metrics: the given one, or methods and path, such as `GET,HEAD /v1/items/{id}`.
    pub name: Arc<str>,
    /// Whether a token is needed.
    pub auth: Auth,
    /// What one request costs, by meter.
    pub charges: Vec<CompiledCharge>,
    /// Features that the caller's tier must have, in the document's order.
    pub features: Vec<String>,
    /// Response statuses that give `on: request` charges back.
    pub refund: StatusSet,
    /// Response statuses that keep `on: success` charges.
    pub success: StatusSet,
    /// Whether denials are carried out here, if it says: see [`CompiledPolicy::enforcement_of`].
    pub enforcement: Option<Enforcement>,
    /// How denials are answered here, by code. They win over those of [`CompiledPolicy::denials`].
    pub denials: BTreeMap<String, DenialTemplate>,
    /// Whether the proxy chooses its route again by the name of this one.
    pub proxy_route: bool,
    template: Template,
}

impl CompiledRoute {
    /// What stands for a parameter of the route's path in the path of a request that takes it.
    pub fn path_parameter<'a>(&self, normalised_path: &'a str, name: &str) -> Option<&'a str> {
        self.template.value_in(normalised_path, name)
    }

    /// Whether an amount or a label is read in the response's body.
    pub fn reads_response(&self) -> bool {
        self.charges.iter().any(|charge| {
            matches!(charge.amount, Amount::ResponseJson(_))
                || charge.labels.response_pointers().next().is_some()
        })
    }

    /// Whether all that a request costs here is constant: nothing of it must be looked at.
    pub fn is_plain(&self) -> bool {
        self.charges.iter().all(|charge| {
            matches!(charge.amount, Amount::Units(_)) && charge.id.is_none() && !charge.labels.is_read()
        })
    }
}

/// Which route a request takes, as far as its headers say.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Match<'a> {
    /// This one, whatever its body is.
    Route(&'a Arc<CompiledRoute>),
    /// The body decides: see [`CompiledPolicy::route_of_call`].
    NeedsBody,
}

impl CompiledPolicy {
    /// Compiles a document, or tells all that is wrong with it.
    pub fn compile(document: &PolicyDocument, revision: u64) -> Result<Self, Vec<Fault>> {
        let faults = validate(document);
        if !faults.is_empty() {
            return Err(faults);
        }
        let meters = Meters {
            names: document.meters.keys().map(String::as_str).collect(),
            meters: &document.meters,
            on_control_plane_loss: document.on_control_plane_loss,
        };
        let (mut tiers, mut earlier) = (BTreeMap::new(), BTreeMap::new());
        for (name, tier) in &document.tiers {
            let newest = meters.tier(name, tier.earlier.len(), &tier.features, &tier.limits)?;
            tiers.insert(name.clone(), Arc::new(newest));
            let mut versions = Vec::with_capacity(tier.earlier.len());
            for (version, before) in tier.earlier.iter().enumerate() {
                let compiled = meters.tier(name, version, &before.features, &before.limits)?;
                versions.push((before.subscribed_before_ms, Arc::new(compiled)));
            }
            if !versions.is_empty() {
                earlier.insert(name.clone(), versions);
            }
        }
        let mut router = Router::default();
        let mut routes = Vec::with_capacity(document.routes.len());
        for route in &document.routes {
            let template = Template::parse(&route.path).map_err(|message| slipped(&route.path, &message))?;
            router.push(&template, Conditions::of(route));
            let compiled = meters.route(&route.name(), &route.rules(), template)?;
            routes.push(Arc::new(CompiledRoute { proxy_route: route.proxy_route, ..compiled }));
        }
        let default_route = meters.route(DEFAULT_ROUTE_NAME, &document.default_route, Template::default())?;
        let default_route = Arc::new(default_route);
        let charges = || routes.iter().chain([&default_route]).flat_map(|route| &route.charges);
        let request_pointers = each_once(charges().flat_map(CompiledCharge::request_pointers));
        let request_labels = each_once(charges().flat_map(|charge| charge.labels.request_pointers()));
        let is_of_members = |limit: &CompiledLimit| limit.scope == Scope::Member;
        Ok(Self {
            revision,
            default_route,
            request_pointers,
            request_labels,
            route_headers: route_headers(document),
            limits_members: tiers
                .values()
                .chain(earlier.values().flatten().map(|(_, tier)| tier))
                .any(|tier| tier.limits.iter().any(is_of_members)),
            meters: document.meters.keys().cloned().collect(),
            tiers,
            earlier,
            default_tier: document.default_tier.clone(),
            enforcement: document.enforcement,
            anonymous: document.anonymous.clone(),
            bodies: document.bodies.clone(),
            route_by_tier: document.route_by_tier,
            on_control_plane_loss: document.on_control_plane_loss,
            denials: document.denials.clone(),
            has_proxy_routes: document.routes.iter().any(|route| route.proxy_route),
            routes,
            router,
        })
    }

    /// The tier of this name, as it is for those who subscribe now.
    pub fn tier(&self, name: &str) -> Option<&Arc<CompiledTier>> {
        self.tiers.get(name)
    }

    /// The tier of this name, as it is for those who subscribed to it at `since_ms` (Unix ms).
    pub fn tier_since(&self, name: &str, since_ms: i64) -> Option<&Arc<CompiledTier>> {
        let versions = self.earlier.get(name).map_or(&[][..], Vec::as_slice);
        let before = versions.iter().find(|(before_ms, _)| since_ms < *before_ms);
        before.map(|(_, tier)| tier).or_else(|| self.tier(name))
    }

    /// The tier in force for a subject at `now_ms` (Unix ms), in the version that it has; `None`: it has no tier at all. A
    /// claim that names no tier of the policy counts as absent. The one way from a subject to its tier.
    pub fn tier_in_force(
        &self,
        subscription: Option<&Subscription>,
        claimed: Option<&str>,
        now_ms: i64,
    ) -> Option<&Arc<CompiledTier>> {
        let claimed = claimed.filter(|name| self.tiers.contains_key(*name));
        let name = effective_tier(subscription, claimed, self.default_tier.as_deref(), now_ms)?;
        let bought = subscription.map(|bought| bought.effective(now_ms)).filter(Effective::in_force);
        match bought {
            Some(bought) => self.tier_since(name, bought.tier_since_ms),
            None => self.tier(name),
        }
    }

    /// The first route that matches, or the default. Where a route that names JSON-RPC methods or MCP tools stands before it,
    /// and could match, the body must be read first.
    pub fn route(&self, head: &Head<'_>) -> Match<'_> {
        match self.router.find(head, Call::Unread) {
            Some(route) if self.router.asks_for_call(route) => Match::NeedsBody,
            found => Match::Route(self.found(found)),
        }
    }

    /// The first route that matches a JSON-RPC call of a request, or the default. `None`: the body is no JSON-RPC.
    pub fn route_of_call(&self, head: &Head<'_>, call: Option<CallName<'_>>) -> &Arc<CompiledRoute> {
        self.found(self.router.find(head, Call::Read(call)))
    }

    fn found(&self, route: Option<usize>) -> &Arc<CompiledRoute> {
        route.and_then(|route| self.routes.get(route)).unwrap_or(&self.default_route)
    }

    /// Whether denials are carried out: the most lenient of what the route and, for a limit's denial, the limit say. Where
    /// neither says, what the policy says.
    pub fn enforcement_of(&self, route: &CompiledRoute, limit: Option<&CompiledLimit>) -> Enforcement {
        match (route.enforcement, limit.and_then(|limit| limit.enforcement)) {
            (Some(route), Some(limit)) => route.most_lenient(limit),
            (Some(one), None) | (None, Some(one)) => one,
            (None, None) => self.enforcement,
        }
    }

    /// The limits of a tier for a subject with maximums of its own, by limit name. Of a token bucket that is what it holds. A
    /// name that the tier has no limit of is ignored: the subject may have bought it for another tier.
    pub fn limits_of(
        &self,
        tier: &CompiledTier,
        overrides: &BTreeMap<String, Maximum>,
    ) -> Vec<CompiledLimit> {
        let mut limits = tier.limits.clone();
        for limit in &mut limits {
            if let Some(maximum) = overrides.get(&*limit.name) {
                limit.units = maximum.units().map_or(UNLIMITED, |units| units.min(UNITS_MAX));
                limit.kind = limit.kind.with_units(limit.units);
            }
        }
        limits
    }
}

/// The meters' names, sorted, while they are being replaced by indices; and what limits take over from the policy.
struct Meters<'a> {
    names: Vec<&'a str>,
    meters: &'a BTreeMap<String, Meter>,
    on_control_plane_loss: OnControlPlaneLoss,
}

impl Meters<'_> {
    fn index(&self, name: &str) -> Result<usize, Vec<Fault>> {
        self.names.binary_search(&name).map_err(|_| slipped("meters", name))
    }

    fn tier(
        &self,
        name: &str,
        version: usize,
        features: &[String],
        limits: &[Limit],
    ) -> Result<CompiledTier, Vec<Fault>> {
        let features: BTreeSet<String> = features.iter().cloned().collect();
        let features_header = features.iter().map(String::as_str).collect::<Vec<_>>().join(",");
        let limits = limits.iter().map(|limit| self.limit(limit)).collect::<Result<_, _>>()?;
        Ok(CompiledTier { name: name.to_owned(), version, features, features_header, limits })
    }

    fn limit(&self, limit: &Limit) -> Result<CompiledLimit, Vec<Fault>> {
        let name = limit::name_of(limit);
        let meaning = limit::meaning_of(limit).map_err(|_| slipped("limits", &name))?;
        let loss = limit.on_control_plane_loss.unwrap_or(self.on_control_plane_loss);
        Ok(CompiledLimit {
            name: name.into(),
            meter: limit.meter.as_deref().map(|meter| self.index(meter)).transpose()?,
            units: meaning.units,
            kind: meaning.kind,
            scope: limit.scope,
            enforcement: limit.enforcement,
            open: loss == OnControlPlaneLoss::Open,
            status: meaning.status,
            routes: limit.routes.iter().map(|name| name.as_str().into()).collect(),
        })
    }

    fn route(&self, name: &str, rules: &RouteRules, template: Template) -> Result<CompiledRoute, Vec<Fault>> {
        let mut charges = Vec::with_capacity(rules.charges.len());
        for (meter, charge) in &rules.charges {
            let compiled =
                charge::meaning_of(charge, self.index(meter)?).map_err(|_| slipped(name, meter))?;
            let by = self.meters.get(meter).map_or(&[][..], |meter| &meter.by);
            let given = |label: &str| match charge {
                Charge::Rules(rules) => rules.labels.get(label),
                Charge::Units(_) => None,
            };
            let labels = Labels::of(by, name, given).map_err(|_| slipped(name, meter))?;
            charges.extend(compiled.map(|charge| CompiledCharge { labels, ..charge }));
        }
        Ok(CompiledRoute {
            name: name.into(),
            auth: rules.auth,
            charges,
            features: rules.features.clone(),
            refund: StatusSet::from_patterns(&rules.refund),
            success: StatusSet::from_patterns(&rules.success),
            enforcement: rules.enforcement,
            denials: rules.denials.clone(),
            proxy_route: false,
            template,
        })
    }
}

fn each_once<'p>(pointers: impl Iterator<Item = &'p Pointer>) -> Vec<Pointer> {
    pointers.fold(Vec::new(), |mut each, pointer| {
        if !each.contains(pointer) {
            each.push(pointer.clone());
        }
        each
    })
}

fn route_headers(document: &PolicyDocument) -> Vec<Box<str>> {
    let names: BTreeSet<&String> = document.routes.iter().flat_map(|route| route.headers.keys()).collect();
    names.into_iter().map(|name| name.as_str().into()).collect()
}

/// What `validate` should have found. A policy that it let slip is refused here, so that the last good one stays.
fn slipped(path: &str, what: &str) -> Vec<Fault> {
    vec![Fault::new(path, format!("report this as a defect of Tollgate: {what} was not refused in time"))]
}

#[cfg(test)]
mod tests;
