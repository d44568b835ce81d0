//! A policy in the form that requests are decided with: names resolved to numbers, windows and routes ready to use.
//!
//! Takes a document that makes sense, or says what does not. Compiling is pure: the same document gives the same policy
//! at every edge and in the control plane.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::document::{
    Auth, Denials, Fault, Limit, OnControlPlaneLoss, PolicyDocument, Route, RouteRules, Tier, UNITS_MAX,
    validate,
};
use crate::limit::{self, LimitKind};
use crate::route::{Router, Template};
use crate::status::StatusSet;

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
    /// What happens to a request that cannot be decided.
    pub on_control_plane_loss: OnControlPlaneLoss,
    /// How denials are worded.
    pub denials: Denials,
    /// The routes, in the document's order.
    pub routes: Vec<Arc<CompiledRoute>>,
    /// What holds where no route matches.
    pub default_route: Arc<CompiledRoute>,
    router: Router,
}

/// A tier, ready to decide with.
#[derive(Debug, Clone, PartialEq)]
pub struct CompiledTier {
    /// The tier's name.
    pub name: String,
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
    /// The limit's name; unique in its tier, and of the same meter and window in every tier that has it.
    pub name: Arc<str>,
    /// Index into [`CompiledPolicy::meters`].
    pub meter: usize,
    /// The maximum, at most [`UNITS_MAX`].
    pub units: u64,
    /// How it counts.
    pub kind: LimitKind,
}

impl CompiledLimit {
    /// The window as text: `day`, `billing_month`, `30s`.
    pub fn per(&self) -> String {
        self.kind.per()
    }
}

/// A route, ready to decide with.
#[derive(Debug, Clone, PartialEq)]
pub struct CompiledRoute {
    /// The route's name in metrics: the given one, or methods and path, such as `GET,HEAD /v1/items/{id}`.
    pub name: String,
    /// Whether a token is needed.
    pub auth: Auth,
    /// Indices into [`CompiledPolicy::meters`] and the units that one request costs there, never 0.
    pub charges: Vec<(usize, u64)>,
    /// Features that the caller's tier must have, in the document's order.
    pub features: Vec<String>,
    /// Response statuses that give quota units back.
    pub refund: StatusSet,
}

impl CompiledPolicy {
    /// Compiles a document, or tells all that is wrong with it.
    pub fn compile(document: &PolicyDocument, revision: u64) -> Result<Self, Vec<Fault>> {
        let faults = validate(document);
        if !faults.is_empty() {
            return Err(faults);
        }
        let meters = Meters(document.meters.keys().map(String::as_str).collect());
        let mut tiers = BTreeMap::new();
        for (name, tier) in &document.tiers {
            tiers.insert(name.clone(), Arc::new(meters.tier(name, tier)?));
        }
        let mut router = Router::default();
        let mut routes = Vec::with_capacity(document.routes.len());
        for route in &document.routes {
            let template = Template::parse(&route.path).map_err(|message| slipped(&route.path, &message))?;
            router.push(&template, route.methods.clone());
            routes.push(Arc::new(meters.route(route_name(route), &route.rules())?));
        }
        Ok(Self {
            revision,
            default_route: Arc::new(meters.route(DEFAULT_ROUTE_NAME.to_owned(), &document.default_route)?),
            meters: document.meters.keys().cloned().collect(),
            tiers,
            default_tier: document.default_tier.clone(),
            on_control_plane_loss: document.on_control_plane_loss,
            denials: document.denials.clone(),
            routes,
            router,
        })
    }

    /// The tier of this name.
    pub fn tier(&self, name: &str) -> Option<&Arc<CompiledTier>> {
        self.tiers.get(name)
    }

    /// The first route that matches, or the default. `normalised_path` is from [`crate::path::normalise`].
    pub fn route(&self, method: &str, normalised_path: &str) -> &Arc<CompiledRoute> {
        let found = self.router.find(method, normalised_path);
        found.and_then(|route| self.routes.get(route)).unwrap_or(&self.default_route)
    }

    /// The limits of a tier for a subject with maximums of its own, by limit name. A name that the tier has no limit of is
    /// ignored: the subject may have bought it for another tier.
    pub fn limits_of(&self, tier: &CompiledTier, overrides: &BTreeMap<String, u64>) -> Vec<CompiledLimit> {
        let mut limits = tier.limits.clone();
        for limit in &mut limits {
            if let Some(units) = overrides.get(&*limit.name) {
                limit.units = (*units).min(UNITS_MAX);
            }
        }
        limits
    }
}

/// The meters' names, sorted, while they are being replaced by indices.
struct Meters<'a>(Vec<&'a str>);

impl Meters<'_> {
    fn index(&self, name: &str) -> Result<usize, Vec<Fault>> {
        self.0.binary_search(&name).map_err(|_| slipped("meters", name))
    }

    fn tier(&self, name: &str, tier: &Tier) -> Result<CompiledTier, Vec<Fault>> {
        let features: BTreeSet<String> = tier.features.iter().cloned().collect();
        let features_header = features.iter().map(String::as_str).collect::<Vec<_>>().join(",");
        let limits = tier.limits.iter().map(|limit| self.limit(limit)).collect::<Result<_, _>>()?;
        Ok(CompiledTier { name: name.to_owned(), features, features_header, limits })
    }

    fn limit(&self, limit: &Limit) -> Result<CompiledLimit, Vec<Fault>> {
        let name = limit::name_of(limit);
        let meaning = limit::meaning_of(limit).map_err(|_| slipped("limits", &name))?;
        let meter = self.index(&limit.meter)?;
        Ok(CompiledLimit { name: name.into(), meter, units: meaning.units, kind: meaning.kind })
    }

    fn route(&self, name: String, rules: &RouteRules) -> Result<CompiledRoute, Vec<Fault>> {
        let mut charges = Vec::with_capacity(rules.charges.len());
        for (meter, units) in rules.charges.iter().filter(|(_, units)| **units > 0) {
            charges.push((self.index(meter)?, *units));
        }
        Ok(CompiledRoute {
            name,
            auth: rules.auth,
            charges,
            features: rules.features.clone(),
            refund: StatusSet::from_patterns(&rules.refund),
        })
    }
}

fn route_name(route: &Route) -> String {
    match &route.name {
        Some(name) => name.clone(),
        None if route.methods.is_empty() => route.path.clone(),
        None => format!("{} {}", route.methods.join(","), route.path),
    }
}

/// What `validate` should have found. A policy that it let slip is refused here, so that the last good one stays.
fn slipped(path: &str, what: &str) -> Vec<Fault> {
    vec![Fault::new(path, format!("report this as a defect of Tollgate: {what} was not refused in time"))]
}

#[cfg(test)]
mod tests;
