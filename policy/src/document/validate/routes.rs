//! Routes: that each can match, charges what exists, and has somebody to charge.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    CALLS_MAX, FEATURES_MAX, Faults, HEADERS_MAX, HOSTS_MAX, LIMITS_PER_REQUEST_MAX, METHODS_MAX,
    NAME_BYTES_MAX, ROUTES_MAX, STATUSES_MAX, TEXT_BYTES_MAX, answers, charges, header_fault,
};
use crate::compile::DEFAULT_ROUTE_NAME;
use crate::document::fault::{item, member};
use crate::document::model::{Auth, Limit, PolicyDocument, Route, RouteRules, Tier};
use crate::route::{Template, host_fault, pattern_fault};
use crate::status::status_range;

pub(super) fn validate(document: &PolicyDocument, faults: &mut Faults) {
    faults.check_count("routes", "routes", document.routes.len(), ROUTES_MAX);
    let known = Known::of(document);
    for (index, route) in document.routes.iter().enumerate() {
        let path = item("routes", index);
        let template = matching(route, &path, faults);
        known.rules(&route.name(), &route.rules(), template.as_ref(), &path, faults);
    }
    let no_parameters = Template::default();
    let default = &document.default_route;
    known.rules(DEFAULT_ROUTE_NAME, default, Some(&no_parameters), "default_route", faults);
    issuers_where_needed(document, faults);
}

/// The template, if it can be read.
fn matching(route: &Route, path: &str, faults: &mut Faults) -> Option<Template> {
    if let Some(name) = &route.name {
        faults.check_text(&member(path, "name"), name);
    }
    let is_header = |name: &str| name.bytes().all(|byte| byte == b' ' || byte.is_ascii_graphic());
    if route.proxy_route && !is_header(&route.name()) {
        faults.add(
            member(path, "proxy_route"),
            "give the route a `name` of ASCII characters: it is sent in a header",
        );
    }
    let methods = member(path, "methods");
    faults.check_count(&methods, "methods", route.methods.len(), METHODS_MAX);
    for (index, method) in route.methods.iter().enumerate() {
        if !is_method(method) {
            faults.add(item(&methods, index), "write an HTTP method in capitals, such as GET");
        }
    }
    conditions(route, path, faults);
    let template = member(path, "path");
    if route.path.len() > TEXT_BYTES_MAX {
        faults.add(template, format!("use at most {TEXT_BYTES_MAX} bytes"));
        return None;
    }
    Template::parse(&route.path).map_err(|message| faults.add(template, message)).ok()
}

/// Host, headers, JSON-RPC methods and MCP tools.
fn conditions(route: &Route, path: &str, faults: &mut Faults) {
    let hosts = member(path, "hosts");
    faults.check_count(&hosts, "hosts", route.hosts.len(), HOSTS_MAX);
    for (index, host) in route.hosts.iter().enumerate() {
        if let Some(message) = host_fault(host) {
            faults.add(item(&hosts, index), message);
        }
    }
    let headers = member(path, "headers");
    faults.check_count(&headers, "headers", route.headers.len(), HEADERS_MAX);
    for (name, value) in &route.headers {
        let path = member(&headers, name);
        if let Some(message) = header_fault(name) {
            faults.add(path.clone(), message);
        }
        faults.check_text(&path, value);
    }
    for (field, names) in [("jsonrpc", &route.jsonrpc), ("mcp_tools", &route.mcp_tools)] {
        let path = member(path, field);
        faults.check_count(&path, "names", names.len(), CALLS_MAX);
        for (index, name) in names.iter().enumerate() {
            if let Some(message) = pattern_fault(name) {
                faults.add(item(&path, index), message);
            }
        }
    }
    if !route.jsonrpc.is_empty() && !route.mcp_tools.is_empty() {
        faults.add(
            member(path, "mcp_tools"),
            "write two routes, one with `jsonrpc` and one with `mcp_tools`: a call of a tool has the method tools/call",
        );
    }
}

/// A token (RFC 9110 section 5.6.2) without small letters: methods are case-sensitive, and all registered ones are capitals.
fn is_method(text: &str) -> bool {
    let is_token =
        |byte: u8| byte.is_ascii_uppercase() || byte.is_ascii_digit() || b"!#$%&'*+-.^_`|~".contains(&byte);
    !text.is_empty() && text.len() <= NAME_BYTES_MAX && text.bytes().all(is_token)
}

/// Without an issuer nobody has a token, so a route that asks for one would refuse everybody.
fn issuers_where_needed(document: &PolicyDocument, faults: &mut Faults) {
    if !document.issuers.is_empty() {
        return;
    }
    let mut places: Vec<String> = document
        .routes
        .iter()
        .enumerate()
        .filter(|(_, route)| route.auth == Auth::Required)
        .map(|(index, _)| item("routes", index))
        .collect();
    if document.default_route.auth == Auth::Required {
        places.push("default_route".to_owned());
    }
    let place = match places.as_slice() {
        [] => return,
        [place] => place.clone(),
        [place, others @ ..] => format!("{place} (and {} more)", others.len()),
    };
    faults.add(
        "issuers",
        format!("add an issuer, or write `auth: none` in {place}: a token is required there and no issuer could have signed it"),
    );
}

/// What rules can refer to.
struct Known<'a> {
    document: &'a PolicyDocument,
    charges: charges::Known<'a>,
    /// The features that some tier has.
    features: BTreeSet<&'a str>,
    tiers: Vec<TierLimits<'a>>,
}

/// The limits of a tier that take units when a request is admitted.
struct TierLimits<'a> {
    tier: &'a str,
    /// Those of all routes, counted by meter; without a meter: of requests in flight.
    everywhere: BTreeMap<Option<&'a str>, usize>,
    /// Those that name their routes.
    somewhere: Vec<&'a Limit>,
}

impl<'a> Known<'a> {
    fn of(document: &'a PolicyDocument) -> Self {
        let versions = || document.tiers.values().flat_map(Tier::versions);
        let features = versions().flat_map(|(_, features)| features).map(String::as_str).collect();
        let of = |(name, tier): (&'a String, &'a Tier)| {
            tier.versions().map(|(limits, _)| TierLimits::of(name, limits)).collect::<Vec<_>>()
        };
        let tiers = document.tiers.iter().flat_map(of).collect();
        Self { document, charges: charges::Known::of(document), features, tiers }
    }

    fn rules(
        &self,
        name: &str,
        rules: &RouteRules,
        template: Option<&Template>,
        path: &str,
        faults: &mut Faults,
    ) {
        let charges = member(path, "charges");
        self.charges.charges(rules, template, &charges, faults);
        let features = member(path, "features");
        faults.check_count(&features, "features", rules.features.len(), FEATURES_MAX);
        for (index, feature) in rules.features.iter().enumerate() {
            if !self.features.contains(feature.as_str()) {
                faults.add(
                    item(&features, index),
                    format!(
                        "give {feature} to a tier, or remove it here: no tier has it, so nobody could pass"
                    ),
                );
            }
        }
        statuses(&rules.refund, &member(path, "refund"), faults);
        statuses(&rules.success, &member(path, "success"), faults);
        answers::templates(&rules.denials, &member(path, "denials"), faults);
        match rules.auth {
            Auth::None => {
                if !rules.charges.is_empty() {
                    faults.add(
                        charges,
                        "remove the charges or `auth: none`: without a token there is nobody to charge",
                    );
                }
                if !rules.features.is_empty() {
                    faults.add(
                        features,
                        "remove the features or `auth: none`: without a token there is no tier to have them",
                    );
                }
                return;
            }
            Auth::Optional if self.document.anonymous.is_none() => faults.add(
                member(path, "auth"),
                "add `anonymous: {tier: …}` to the policy: callers without a token need a tier here",
            ),
            Auth::Optional | Auth::Required => {}
        }
        self.limits_at_once(name, rules, charges, faults);
    }

    fn limits_at_once(&self, name: &str, rules: &RouteRules, charges: String, faults: &mut Faults) {
        let most = self
            .tiers
            .iter()
            .map(|tier| (tier.touched(name, rules), tier.tier))
            .find(|(count, _)| *count > LIMITS_PER_REQUEST_MAX);
        if let Some((count, tier)) = most {
            faults.add(
                charges,
                format!(
                    "charge fewer meters, or give tier {tier} fewer limits on them: one request would touch {count} \
                     limits, and can touch {LIMITS_PER_REQUEST_MAX}"
                ),
            );
        }
    }
}

impl<'a> TierLimits<'a> {
    fn of(tier: &'a str, limits: &'a [Limit]) -> Self {
        let mut everywhere: BTreeMap<Option<&str>, usize> = BTreeMap::new();
        let mut somewhere = Vec::new();
        // A size is compared and nothing is taken of it.
        for limit in limits.iter().filter(|limit| limit.size.is_none()) {
            if limit.routes.is_empty() {
                *everywhere.entry(limit.meter.as_deref()).or_default() += 1;
            } else {
                somewhere.push(limit);
            }
        }
        Self { tier, everywhere, somewhere }
    }

    fn touched(&self, route: &str, rules: &RouteRules) -> usize {
        let charged = rules.charges.keys().map(|meter| Some(meter.as_str())).chain([None]);
        let everywhere: usize = charged.filter_map(|meter| self.everywhere.get(&meter)).sum();
        let here = |limit: &&&Limit| {
            limit.routes.iter().any(|name| name == route)
                && limit.meter.as_ref().is_none_or(|meter| rules.charges.contains_key(meter))
        };
        everywhere + self.somewhere.iter().filter(here).count()
    }
}

fn statuses(patterns: &[String], path: &str, faults: &mut Faults) {
    faults.check_count(path, "statuses", patterns.len(), STATUSES_MAX);
    for (index, pattern) in patterns.iter().enumerate() {
        if status_range(pattern).is_none() {
            faults.add(
                item(path, index),
                "write a status (\"404\"), a class (5xx) or a range (\"500-503\") within 100 to 599",
            );
        }
    }
}
