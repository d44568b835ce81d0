//! The edge session that all workers share: whose leases these are, and until when they may be used.
//!
//! Kept in shared data, with a copy in each worker that a request reads for nothing. An old copy is safe: validity only
//! ever moves forward, and a session is replaced only after it ran out.

use std::cell::Cell;

use tollgate_policy::lease::SessionId;

use crate::host::{Host, Now};
use crate::records::SWAPS_MAX;

/// The version is that of the records' layout: a module that cannot read them must not go on in their session, whose units
/// it would take for unused.
const KEY: &str = "tollgate.3.session";

/// A worker's copy of the session.
#[derive(Debug, Default)]
pub struct Session {
    copy: Cell<(SessionId, u64)>,
}

impl Session {
    /// Joins the session of this proxy, or begins one.
    pub fn join(&self, host: &dyn Host) {
        for _ in 0..SWAPS_MAX {
            let (bytes, cas) = host.shared_get(KEY);
            if let Some(current) = bytes.as_deref().and_then(read) {
                return self.copy.set(current);
            }
            let _ = host.shared_swap(KEY, &write((SessionId(host.random()), 0)), cas);
        }
    }

    /// The session's id, as this worker knows it.
    pub fn id(&self) -> SessionId {
        self.copy.get().0
    }

    /// Whether its leases may be used now. Looks at the shared state before it says no.
    pub fn is_valid(&self, host: &dyn Host, now: Now) -> bool {
        if now.mono_ms < self.copy.get().1 {
            return true;
        }
        self.join(host);
        now.mono_ms < self.copy.get().1
    }

    /// For how long its leases may still be used, ms.
    pub fn valid_for_ms(&self, now: Now) -> u64 {
        self.copy.get().1.saturating_sub(now.mono_ms)
    }

    /// The control plane answered a request of `id`: its leases are valid until `until_ms` (monotonic).
    pub fn extend(&self, host: &dyn Host, id: SessionId, until_ms: u64) {
        for _ in 0..SWAPS_MAX {
            let (bytes, cas) = host.shared_get(KEY);
            let Some((current, valid_ms)) = bytes.as_deref().and_then(read) else {
                return;
            };
            if current != id || valid_ms >= until_ms {
                return self.copy.set((current, valid_ms));
            }
            if host.shared_swap(KEY, &write((id, until_ms)), cas).is_ok() {
                return self.copy.set((id, until_ms));
            }
        }
    }

    /// The control plane closed `id`: a new session begins, unless another worker has begun it.
    pub fn replace(&self, host: &dyn Host, id: SessionId) {
        for _ in 0..SWAPS_MAX {
            let (bytes, cas) = host.shared_get(KEY);
            match bytes.as_deref().and_then(read) {
                Some(current) if current.0 != id => return self.copy.set(current),
                _ => {
                    let _ = host.shared_swap(KEY, &write((SessionId(host.random()), 0)), cas);
                }
            }
        }
    }
}

fn read(bytes: &[u8]) -> Option<(SessionId, u64)> {
    let (id, until) = bytes.split_first_chunk::<16>()?;
    Some((SessionId(*id), u64::from_le_bytes(until.try_into().ok()?)))
}

fn write((id, until_ms): (SessionId, u64)) -> [u8; 24] {
    let mut bytes = [0; 24];
    bytes[..16].copy_from_slice(&id.0);
    bytes[16..].copy_from_slice(&until_ms.to_le_bytes());
    bytes
}
