//! The configuration in force, compiled and ready: a copy of what the database says, renewed when its revision rises.
//! A stored policy that this program cannot compile (a newer program wrote it) is not put in force here: the last good
//! one goes on.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError};

use serde_json::{Value as Json, json};
use tollgate_policy::compile::CompiledPolicy;
use tollgate_policy::document::{KeySource, PolicyDocument};
use tollgate_policy::wire::{PolicyBundle, WIRE_VERSION};

use super::ControlPlane;
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
#[derive(Debug)]
pub struct PolicyInForce {
    /// Its version.
    pub version: i64,
    /// As it was applied.
    pub document: PolicyDocument,
    /// Ready to decide with.
    pub compiled: CompiledPolicy,
    /// What edges get: the document with all keys in it.
    pub bundle: Arc<PolicyBundle>,
}

impl ControlPlane {
    /// The configuration in force, as this process last read it.
    pub fn in_force(&self) -> Arc<InForce> {
        // A lock is poisoned by a panic while it was held; all that is done under this one is to swap a pointer.
        self.in_force.read().unwrap_or_else(PoisonError::into_inner).clone()
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
        let fresh = match read.policy {
            None => InForce { revision, policy: None },
            Some((version, document)) => match CompiledPolicy::compile(&document, revision) {
                Ok(compiled) => {
                    let policy = with_keys(&document, &keys);
                    let bundle = Arc::new(PolicyBundle { version: WIRE_VERSION, revision, policy });
                    InForce { revision, policy: Some(PolicyInForce { version, document, compiled, bundle }) }
                }
                Err(faults) => {
                    let first = faults.first().map(ToString::to_string).unwrap_or_default();
                    tracing::error!(
                        version,
                        fault = first,
                        "the stored policy is not understood; the last good one stays"
                    );
                    return Ok(in_force.clone());
                }
            },
        };
        *in_force = Arc::new(fresh);
        Ok(in_force.clone())
    }
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
