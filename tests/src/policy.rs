//! Policies for tests: one meter `calls`, one tier `free` for everybody, one call a request, and the keys of `token`.

use serde_json::{Value, json};

use crate::token::{AUDIENCE, ISSUER, Key};

/// Limits of the tier `free`.
pub fn free(limits: Value) -> Value {
    tiers(json!({"free": {"limits": limits}}))
}

/// These tiers; `free` is everybody's.
pub fn tiers(tiers: Value) -> Value {
    json!({
        "version": 1,
        "issuers": [{"issuer": ISSUER, "audiences": [AUDIENCE], "keys": {"jwks": jwks(&Key::TRUSTED)}}],
        "meters": {"calls": {}},
        "tiers": tiers,
        "default_tier": "free",
        "routes": [{"name": "public", "path": "/public/{*rest}", "auth": "none"}],
        "default_route": {"charges": {"calls": 1}},
    })
}

/// A quota of so many calls per month: a window that does not end in the middle of a test.
pub fn quota(units: u64) -> Value {
    json!({"name": "calls", "meter": "calls", "quota": units, "per": "month"})
}

/// A rate of so many calls in any window of this length.
pub fn rate(units: u64, per: &str) -> Value {
    json!({"meter": "calls", "rate": units, "per": per})
}

/// A key set.
pub fn jwks(keys: &[Key]) -> Value {
    json!({"keys": keys.iter().map(|key| key.jwk()).collect::<Vec<_>>()})
}
