//! The policy in the memory that all workers share: one worker fetches it, every worker compiles its own.

use std::cell::RefCell;
use std::rc::Rc;

use tollgate_policy::wire::{PolicyBundle, WIRE_VERSION};

use crate::config::without_values;
use crate::edge::{Edge, Policy};
use crate::host::{Host, Level, Now};
use crate::records::SWAPS_MAX;

/// Eight bytes, so that looking for a newer policy costs little.
const REVISION: &str = "tollgate.1.revision";
/// The revision again, and the bundle as JSON.
const BUNDLE: &str = "tollgate.1.policy";

/// What this worker knows of the shared policy.
#[derive(Debug, Default)]
pub struct Shared {
    wanted_keys: RefCell<Option<String>>,
    refused: RefCell<u64>,
}

impl Shared {
    /// Newer keys of this issuer are wanted.
    pub fn want_keys(&self, issuer: &str) {
        *self.wanted_keys.borrow_mut() = Some(issuer.to_owned());
    }

    /// The issuer whose newer keys are wanted, once.
    pub fn take_wanted_keys(&self) -> Option<String> {
        self.wanted_keys.borrow_mut().take()
    }
}

impl Edge {
    /// Takes over the shared policy if it is newer than this worker's.
    pub fn load_policy(&self) {
        let revision = shared_revision(&*self.host);
        if revision <= self.policy_revision() || revision <= *self.shared.refused.borrow() {
            return;
        }
        if let (Some(bytes), _) = self.host.shared_get(BUNDLE) {
            self.adopt(&bytes, self.host.now());
        }
    }

    /// The control plane's answer with a policy: adopted here and shared, or refused whole, and the last good one stays.
    pub fn on_policy(&self, body: &[u8], now: Now) {
        let Some(revision) = self.adopt(body, now) else { return };
        // A late answer must not hand an older policy to a worker that starts now.
        if revision > shared_revision(&*self.host) {
            share(&*self.host, BUNDLE, body);
            share(&*self.host, REVISION, &revision.to_le_bytes());
        }
    }

    fn adopt(&self, bytes: &[u8], now: Now) -> Option<u64> {
        let bundle: PolicyBundle = match serde_json::from_slice(bytes) {
            Ok(bundle) => bundle,
            Err(error) => {
                self.refuse(None, &format!("it cannot be read: {}", without_values(&error)));
                return None;
            }
        };
        if bundle.version != WIRE_VERSION {
            self.refuse(
                Some(bundle.revision),
                "it is of another version than this filter; update the filter",
            );
            return None;
        }
        match Policy::compile(&bundle.policy, bundle.revision) {
            Ok(policy) => {
                self.metrics.set(&*self.host, "tollgate.policy.revision", bundle.revision);
                if bundle.revision > self.policy_revision() {
                    self.on_new_policy(Rc::new(policy), now);
                }
                Some(bundle.revision)
            }
            Err(error) => {
                self.refuse(Some(bundle.revision), &error);
                None
            }
        }
    }

    fn refuse(&self, revision: Option<u64>, reason: &str) {
        if let Some(revision) = revision {
            *self.shared.refused.borrow_mut() = revision;
        }
        self.metrics.add(&*self.host, "tollgate.policy.refused", 1);
        self.host
            .log(Level::Error, &format!("tollgate: a policy was refused, the last good one stays: {reason}"));
    }

    /// The newest revision that was refused, so that it is not fetched again and again.
    pub fn refused_revision(&self) -> u64 {
        *self.shared.refused.borrow()
    }
}

fn shared_revision(host: &dyn Host) -> u64 {
    let (revision, _) = host.shared_get(REVISION);
    revision.and_then(|bytes| bytes.try_into().ok()).map_or(0, u64::from_le_bytes)
}

/// Writes a value; the last writer wins.
fn share(host: &dyn Host, key: &str, value: &[u8]) {
    for _ in 0..SWAPS_MAX {
        let (_, cas) = host.shared_get(key);
        if host.shared_swap(key, value, cas).is_ok() {
            return;
        }
    }
}
