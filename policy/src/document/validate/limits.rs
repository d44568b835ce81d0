//! Limits: that each means one thing, and can be reached.

use std::collections::BTreeMap;

use super::{Faults, LIMIT_ROUTES_MAX, is_name};
use crate::document::fault::{item, member};
use crate::document::model::{Auth, Limit, Maximum, PolicyDocument, Scope};
use crate::limit::{LimitKind, meaning_of, name_of};

/// What limits can refer to.
pub(super) struct Known<'a> {
    document: &'a PolicyDocument,
    /// Routes by name: those that know a subject, with the meters that they charge. Several routes may have one name.
    routes: BTreeMap<String, Vec<(Auth, Vec<&'a str>)>>,
    /// Whether some issuer says of which organisation a caller is.
    organisations: bool,
}

impl<'a> Known<'a> {
    pub(super) fn of(document: &'a PolicyDocument) -> Self {
        let mut routes: BTreeMap<String, Vec<_>> = BTreeMap::new();
        for route in &document.routes {
            let meters = route.charges.keys().map(String::as_str).collect();
            routes.entry(route.name()).or_default().push((route.auth, meters));
        }
        let default = &document.default_route;
        let meters = default.charges.keys().map(String::as_str).collect();
        let name = crate::compile::DEFAULT_ROUTE_NAME.to_owned();
        routes.entry(name).or_default().push((default.auth, meters));
        let organisations = document.issuers.iter().any(|issuer| issuer.claims.organization.is_some());
        Self { document, routes, organisations }
    }

    /// What is wrong with a limit in itself; its kind, if it has one.
    pub(super) fn limit(&self, limit: &Limit, path: &str, faults: &mut Faults) -> Option<LimitKind> {
        if let Some(meter) = limit.meter.as_ref().filter(|meter| !self.document.meters.contains_key(*meter)) {
            faults.add(
                member(path, "meter"),
                format!("name one of the meters, or define {meter} under `meters`"),
            );
        }
        for (field, maximum) in [
            ("quota", limit.quota),
            ("rate", limit.rate),
            ("burst", limit.burst),
            ("capacity", limit.capacity),
            ("concurrency", limit.concurrency),
            ("size", limit.size),
        ] {
            if let Some(units) = maximum.and_then(Maximum::units) {
                faults.check_units(&member(path, field), units);
            }
        }
        if let Some(name) = &limit.name {
            faults.check_name(&member(path, "name"), "limit", name);
        }
        if limit.scope == Scope::Member && !self.organisations {
            faults.add(
                member(path, "scope"),
                "name an issuer's claim of the organisation (`claims: {organization: …}`), or leave `scope` out: \
                 without organisations there are no members",
            );
        }
        self.where_looked_at(limit, path, faults);
        match meaning_of(limit) {
            Ok(meaning) => {
                // Where the meter has a good name the default name can only be too long.
                let good_meter = limit.meter.as_deref().is_none_or(is_name);
                if limit.name.is_none() && good_meter && !is_name(&name_of(limit)) {
                    let name = name_of(limit);
                    faults.add(path, format!("give this limit a `name`: {name} would be too long"));
                }
                Some(meaning.kind)
            }
            Err(found) => {
                for (field, message) in found {
                    faults.add(field.map_or_else(|| path.to_owned(), |field| member(path, field)), message);
                }
                None
            }
        }
    }

    /// A limit that no route could ever touch is a mistake in a name.
    fn where_looked_at(&self, limit: &Limit, path: &str, faults: &mut Faults) {
        let path = member(path, "routes");
        faults.check_count(&path, "routes", limit.routes.len(), LIMIT_ROUTES_MAX);
        for (index, name) in limit.routes.iter().enumerate() {
            let path = item(&path, index);
            let Some(routes) = self.routes.get(name) else {
                faults.add(path, format!("name one of the routes: there is none with the name {name}"));
                continue;
            };
            if routes.iter().all(|(auth, _)| *auth == Auth::None) {
                faults.add(
                    path,
                    format!("remove {name}, or its `auth: none`: without a subject nobody is limited there"),
                );
            } else if let Some(meter) = limit.meter.as_deref()
                && !routes.iter().any(|(_, meters)| meters.contains(&meter))
            {
                faults.add(path, format!("charge {meter} in the route {name}, or remove it here"));
            }
        }
    }
}
