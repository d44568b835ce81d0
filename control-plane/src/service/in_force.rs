//! The configuration in force, compiled and ready: a copy of what the database says, renewed when its revision rises.
//! A stored policy that this program cannot compile (a newer program wrote it) is not put in force here: the last good
//! one goes on.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError};

use serde_json::{Value as Json, json};
use tollgate_policy::compile::CompiledPolicy;
use tollgate_policy::document::{Billing, KeySource, PolicyDocument};
use tollgate_policy::jwt::Keyring;
use tollgate_policy::wire::{PolicyBundle, WIRE_VERSION};

use super::ControlPlane;
use super::views::Views;
use crate::store::{StoreError, configuration, issuer_keys};

/// The configuration in force.
#[derive(Debug, Default)]
pub struct InForce {
    /// Rises with every change of the policy or of an issuer's keys; 0 when there never was any.
    pub revision: u64,
    /// The policy, if there ever was one.
    pub policy: Option<PolicyInForce>,
}

/// The policy in force.
#[derive(Debug, Clone)]
pub struct PolicyInForce {
    /// Its version.
    pub version: i64,
    /// As it was applied.
    pub document: PolicyDocument,
    /// Ready to decide with.
    pub compiled: CompiledPolicy,
    /// Ready to verify with: the keys that edges get.
    pub keyring: Keyring,
    /// Its views, ready to be rendered.
    pub views: Arc<Views>,
    /// What edges get: the document with all keys in it.
    pub bundle: Arc<PolicyBundle>,
}

impl ControlPlane {
    /// The configuration in force, as this process last read it.
    pub fn in_force(&self) -> Arc<InForce> {
        // A lock is poisoned by a panic while it was held; all that is done under this one is to swap a pointer.
        self.in_force.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The configuration in force, read anew if the database has a newer one.
    pub async fn newest(&self) -> Result<Arc<InForce>, StoreError> {
        let pulse = configuration::pulse(&self.database).await?;
        let in_force = self.in_force();
        match u64::try_from(pulse.revision).unwrap_or_default() == in_force.revision {
            true => Ok(in_force),
            false => self.refresh().await,
        }
    }

    /// Reads the configuration anew.
    pub async fn refresh(&self) -> Result<Arc<InForce>, StoreError> {
        let read = configuration::read(&self.database).await?;
        let keys = issuer_keys::all(&self.database).await?;
        let keys: BTreeMap<(String, String), Json> =
            keys.into_iter().filter_map(|row| Some(((row.issuer, row.url), row.jwks?))).collect();
        let revision = u64::try_from(read.revision).unwrap_or_default();
        let mut in_force = self.in_force.write().unwrap_or_else(PoisonError::into_inner);
        if revision < in_force.revision {
            // Another task has read a newer one meanwhile.
            return Ok(in_force.clone());
        }
        let policy = match read.policy {
            None => None,
            Some((version, document)) => match PolicyInForce::new(version, &document, revision, &keys) {
                Ok(policy) => Some(policy),
                Err(fault) => Some(last_good(&in_force, version, revision, fault)?),
            },
        };
        *in_force = Arc::new(InForce { revision, policy });
        Ok(in_force.clone())
    }
}

impl PolicyInForce {
    fn new(
        version: i64,
        document: &str,
        revision: u64,
        keys: &BTreeMap<(String, String), Json>,
    ) -> Result<Self, String> {
        let document: PolicyDocument = serde_json::from_str(document).map_err(|error| error.to_string())?;
        let compiled = CompiledPolicy::compile(&document, revision)
            .map_err(|faults| faults.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))?;
        let views = Views::compile(&document)
            .map_err(|faults| faults.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))?;
        let policy = with_keys(&document, keys);
        let keyring = Keyring::from_issuers(&policy.issuers).map_err(|faults| {
            faults.iter().map(|(path, text)| format!("issuers{path}: {text}")).collect::<Vec<_>>().join("; ")
        })?;
        let policy = for_edges(policy);
        let bundle = Arc::new(PolicyBundle { version: WIRE_VERSION, revision, policy });
        Ok(Self { version, document, compiled, keyring, views: Arc::new(views), bundle })
    }
}

/// The policy that was in force before, under the new revision, because this program does not understand the new one.
fn last_good(
    before: &InForce,
    version: i64,
    revision: u64,
    fault: String,
) -> Result<PolicyInForce, StoreError> {
    tracing::error!(version, fault, "the stored policy is not understood; the last good one stays");
    let what = format!("version {version} of the policy, which a newer release may have written");
    let Some(policy) = before.policy.clone() else {
        return Err(StoreError::Corrupt { what, source: Some(fault.into()) });
    };
    let bundle = Arc::new(PolicyBundle { revision, ..(*policy.bundle).clone() });
    Ok(PolicyInForce { bundle, ..policy })
}

/// The document with the keys of each issuer in it. One whose keys were not fetched yet has an empty set: its tokens are
/// refused for an unknown key until then.
fn with_keys(document: &PolicyDocument, keys: &BTreeMap<(String, String), Json>) -> PolicyDocument {
    let mut document = document.clone();
    for issuer in &mut document.issuers {
        if let Some(url) = &issuer.keys.url {
            let jwks = keys.get(&(issuer.issuer.clone(), url.clone())).cloned();
            let jwks = Some(jwks.unwrap_or_else(|| json!({ "keys": [] })));
            issuer.keys = KeySource { jwks, ..KeySource::default() };
        }
    }
    document
}

/// The document without what is for people and invoices: edges need none of it, and it may be long.
fn for_edges(mut document: PolicyDocument) -> PolicyDocument {
    document.billing = Billing::default();
    document.views.clear();
    for meter in document.meters.values_mut() {
        meter.description = None;
        meter.unit = None;
    }
    for tier in document.tiers.values_mut() {
        tier.title = None;
        tier.description = None;
        tier.prices.clear();
        for earlier in &mut tier.earlier {
            earlier.prices.clear();
        }
    }
    document
}

#[cfg(test)]
mod tests {
    use tollgate_policy::document::parse;

    use super::for_edges;

    #[test]
    fn edges_are_told_neither_prices_nor_titles_nor_views() {
        let full = "
version: 1
default_route: {auth: none}
meters: {calls: {description: Calls, unit: requests}}
tiers:
  pro: {title: Pro, description: For many, prices: [{flat: 1}], features: [x], earlier: [{subscribed_before_ms: 5, prices: [{flat: 2}]}]}
billing: {currency: EUR}
views: {quota: {body: '{}'}}
";
        let bare = "
version: 1
default_route: {auth: none}
meters: {calls: {}}
tiers: {pro: {features: [x], earlier: [{subscribed_before_ms: 5}]}}
";
        assert_eq!(for_edges(parse(full).unwrap()), parse(bare).unwrap());
    }
}
