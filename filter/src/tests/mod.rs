//! The filter as a whole, natively: real leases, real tokens, a proxy and a network that do what a test says.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

mod plane;
mod proxy;
mod world;

mod bodies;
mod callers;
mod denials;
mod ends;
mod grants;
mod labels;
mod lifecycle;
mod limits;
mod loss;
mod pace;
mod policies;
mod random;
mod refused;
mod table;

use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::{Value, json};
use tollgate_policy::jwt::provider;
use tollgate_policy::subscription::Subscription;
use world::{START_MS, Sending, World};

/// The issuer's secret; it must not be logged, nor the edge's token.
const SECRET: &str = "a-secret-of-at-least-thirty-two-bytes";
const EDGE_TOKEN: &str = "the-edge-token";
const ISSUER: &str = "https://issuer.example";

/// A policy with the limits of its tier `free`, and the rest as below.
fn policy(free: Value) -> Value {
    let key = json!({"kty": "oct", "kid": "k1", "alg": "HS256", "k": base64url(SECRET.as_bytes())});
    json!({
        "version": 1,
        "issuers": [{"issuer": ISSUER, "audiences": ["api"], "keys": {"jwks": {"keys": [key]}},
                     "claims": {"user": "sub", "organization": "org", "tier": "plan"}}],
        "meters": {"calls": {}, "exports": {}},
        "default_tier": "free",
        "tiers": {
            "free": {"limits": free},
            "pro": {"features": ["export", "beta"], "limits": [{"meter": "calls", "quota": 1000, "per": "day"}]},
        },
        "routes": [
            {"path": "/status", "auth": "none"},
            {"path": "/free", "charges": {}},
            {"path": "/export", "features": ["export"], "charges": {"calls": 1}},
            {"path": "/heavy", "charges": {"calls": 3, "exports": 1}},
        ],
        "default_route": {"charges": {"calls": 1}, "refund": ["5xx"]},
        "denials": {"upgrade_url": "https://example.com/pricing"},
    })
}

/// A policy whose free tier has so many calls a day.
fn daily(units: u64) -> Value {
    policy(json!([{"meter": "calls", "quota": units, "per": "day"}]))
}

fn base64url(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let digits = bytes.chunks(3).flat_map(|part| {
        let number =
            part.iter().fold(0_usize, |sum, byte| sum << 8 | usize::from(*byte)) << (8 * (3 - part.len()));
        (0..=part.len()).map(move |digit| char::from(DIGITS[number >> (18 - 6 * digit) & 63]))
    });
    digits.collect()
}

fn sign(kid: &str, claims: &Value) -> String {
    provider::install(None);
    let header = Header { kid: Some(kid.to_owned()), ..Header::new(Algorithm::HS256) };
    jsonwebtoken::encode(&header, claims, &EncodingKey::from_secret(SECRET.as_bytes())).unwrap()
}

fn claims(user: &str) -> Value {
    let now_s = START_MS / 1_000;
    json!({"iss": ISSUER, "aud": "api", "sub": user, "exp": now_s + 1_000_000, "iat": now_s - 10})
}

fn token(user: &str) -> String {
    sign("k1", &claims(user))
}

type Headers = Vec<(String, Vec<u8>)>;

fn headers(path: &str, token: &str) -> Headers {
    [
        (":method", "GET"),
        (":path", path),
        (":authority", "api.example"),
        ("authorization", &format!("Bearer {token}")),
    ]
    .iter()
    .map(|(name, value)| ((*name).to_owned(), value.as_bytes().to_vec()))
    .collect()
}

/// The head of a request whose body comes without its length.
fn chunked(user: &str, path: &str) -> Headers {
    let mut headers = headers(path, &token(user));
    headers.push(("transfer-encoding".to_owned(), b"chunked".to_vec()));
    headers
}

fn subscription(tier: &str) -> Subscription {
    serde_json::from_value(json!({"tier": tier, "anchor_ms": START_MS})).unwrap()
}

impl World {
    /// Sends a user's request.
    fn ask(&mut self, worker: usize, user: &str, path: &str) -> Sending {
        self.send(worker, headers(path, &token(user)))
    }

    /// How a request stands: `pass`, `wait`, or status and code of the denial.
    fn shown(&self, of: Sending) -> String {
        match self.answer(of) {
            Some(answer) => {
                let body: Value = serde_json::from_slice(&answer.body).unwrap();
                assert_eq!(body["status"], answer.status);
                format!("{} {}", answer.status, body["code"].as_str().unwrap())
            }
            None if self.has_passed(of) => "pass".to_owned(),
            None => "wait".to_owned(),
        }
    }

    /// Sends a user's request and waits for its fate, three seconds at most; one that passes is answered 200.
    fn get(&mut self, worker: usize, user: &str, path: &str) -> String {
        let sending = self.ask(worker, user, path);
        self.settle(sending, 200)
    }

    /// Waits for a request's fate; if it passes the upstream answers `status`.
    fn settle(&mut self, sending: Sending, status: u16) -> String {
        for _ in 0..300 {
            if !self.is_waiting(sending) {
                break;
            }
            self.run(10);
        }
        let shown = self.shown(sending);
        assert_ne!(shown, "wait", "a request waits for more than its time");
        if self.has_passed(sending) {
            drop(self.upstream(sending, status))
        } else {
            self.end(sending)
        }
        shown
    }

    /// How many of `count` requests pass, from all workers in turn; what the others got.
    fn admitted(&mut self, workers: &[usize], user: &str, path: &str, count: usize) -> (usize, Vec<String>) {
        let shown: Vec<String> =
            (0..count).map(|n| self.get(workers[n % workers.len()], user, path)).collect();
        let passed = shown.iter().filter(|shown| *shown == "pass").count();
        let mut denied: Vec<String> = shown.into_iter().filter(|shown| shown != "pass").collect();
        denied.sort();
        denied.dedup();
        (passed, denied)
    }
}

/// A world with one proxy of two workers that has its policy.
fn world(policy: &Value) -> World {
    let mut world = World::new(policy, &[2]);
    world.run(1_000);
    world
}
