//! Promises that are no comparison: how soon an upgrade is felt at every edge, what a token costs when it is new, and how
//! much memory a worker takes that has seen 100,000 subjects.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, ensure};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::{Value, json};

use super::edge::configs::{Places, connected, render_filters, tollgate};
use super::edge::tokens::{self, AUDIENCE, ISSUER};
use super::edge::{cpu_time, load, two_free_ports};
use super::plane::Plane;
use super::report;
use crate::process::{Scratch, Service};
use crate::progress::{heading, step};
use crate::tools::envoy;
use crate::{build, wasm, workspace};

const UPGRADES: usize = 100;
const UPGRADE_MS_MAX: f64 = 1_000.0;
/// Fewer than are remembered, so that the second visit finds all of them.
const COLD_TOKENS: usize = 6_000;
const COLD_US_MAX: f64 = 60.0;
const SUBJECTS: usize = 100_000;
const MEMORY_MIB_MAX: f64 = 64.0;
const START_WAIT: Duration = Duration::from_secs(60);

/// Measures, prints, and writes BENCHMARKS.md.
pub fn run() -> Result<()> {
    let envoy = step("Envoy", envoy::provide)?;
    step("Building Tollgate", || wasm::build_filter().and_then(|()| build::programs()))?;
    let dir = Scratch::make(workspace::target().join(format!("bench/promises-{}", std::process::id())))?;
    let tokens = step("Tokens", || tokens::provide(10_000))?;
    let bench = Bench { envoy, dir };

    let cold_us = step("A new token", || bench.cold_verification_us(&tokens))?;
    let upgrade_ms = step("Upgrades at two edges", || bench.upgrade_p99_ms(&tokens))?;
    let (first, second) = step("100,000 subjects", || bench.memory_mib())?;

    let verdict = |kept: bool| if kept { "reached" } else { "**missed**" };
    let text = format!(
        "| promise | measured | |\n| --- | ---: | --- |\n\
         | verifying a new RS256 token and opening its subject's record ≤ {COLD_US_MAX} µs of CPU | {cold_us:.1} | {} |\n\
         | an upgrade is felt at both of two edges ≤ {UPGRADE_MS_MAX} ms (p99 of {UPGRADES}) | {upgrade_ms:.0} | {} |\n\
         | memory of a worker's VM after 100,000 subjects ≤ {MEMORY_MIB_MAX} MiB | {first:.1} | {} |\n\
         | the same after seeing all of them again | {second:.1} | {} |\n",
        verdict(cold_us <= COLD_US_MAX),
        verdict(upgrade_ms <= UPGRADE_MS_MAX),
        verdict(first <= MEMORY_MIB_MAX),
        verdict(second <= MEMORY_MIB_MAX),
    );
    heading("Results");
    println!("{text}");
    report::write("promises", &text)
}

struct Bench {
    envoy: PathBuf,
    dir: Scratch,
}

struct Edge {
    service: Service,
    port: u16,
    admin_port: u16,
}

impl Bench {
    fn edge(&self, name: &str, plugin: &Value, plane: Option<&Plane>) -> Result<Edge> {
        let (port, admin_port) = two_free_ports()?;
        let module = workspace::filter_wasm();
        let places = Places {
            port,
            admin_port,
            control_plane_port: plane.map_or(0, |plane| plane.port),
            filter_wasm: &module,
            noop_wasm: Path::new(""),
            floor_wasm: Path::new(""),
            jwks: &Value::Null,
        };
        let config = render_filters(&[tollgate(plugin, &module)], plane.is_some(), &places);
        let path = self.dir.path().join(format!("{name}.yaml"));
        std::fs::write(&path, config)?;
        let mut serve = Command::new(&self.envoy);
        serve.arg("--config-path").arg(&path).args(["--concurrency", "1", "--disable-hot-restart"]);
        serve.args(["--log-level", "error"]);
        let service = Service::start(name, serve, &self.dir.path().join(format!("{name}.log")))?;
        Ok(Edge { service, port, admin_port })
    }

    /// CPU of the first request with each token less that of the second.
    fn cold_verification_us(&self, tokens: &[String]) -> Result<f64> {
        let policy =
            policy(json!([{"issuer": ISSUER, "audiences": [AUDIENCE], "keys": {"jwks": tokens::jwks()?}}]));
        let edge = self.edge("cold", &json!({ "policy": policy }), None)?;
        let requests: Vec<_> = tokens.iter().map(|token| load::request(token)).collect();
        // The last token is kept apart, to see that the edge is ready.
        let (last, _) = requests.split_last().context("no tokens")?;
        edge.wait_until_answered(last, 200)?;
        let requests = requests.get(..COLD_TOKENS).context("too few tokens")?;
        let mut cpu_us = Vec::new();
        for _ in 0..3 {
            let before = cpu_time(&edge.service)?;
            load::visit_all(edge.port, requests)?;
            let spent = cpu_time(&edge.service)?.saturating_sub(before);
            cpu_us.push(spent.as_secs_f64() * 1e6 / requests.len() as f64);
        }
        let (cold, warm) = cpu_us.first().zip(cpu_us.last()).context("no passes")?;
        Ok(cold - warm)
    }

    fn upgrade_p99_ms(&self, tokens: &[String]) -> Result<f64> {
        let policy =
            policy(json!([{"issuer": ISSUER, "audiences": [AUDIENCE], "keys": {"jwks": tokens::jwks()?}}]));
        let url = format!("sqlite://{}", self.dir.path().join("upgrades.db").display());
        let plane = Plane::start(self.dir.path(), &url, &policy.to_string())?;
        let edges =
            [self.edge("one", &connected(), Some(&plane))?, self.edge("two", &connected(), Some(&plane))?];
        let mut felt_ms = Vec::new();
        for (index, token) in tokens.iter().take(UPGRADES).enumerate() {
            let request = load::request_to("/export", token);
            for edge in &edges {
                edge.wait_until_answered(&request, 403)?;
            }
            let start = Instant::now();
            plane.subscribe(&format!("user:bench-{index}"), "pro")?;
            for edge in &edges {
                // Closer than `wait_until` looks.
                while load::status_of(edge.port, &request)? != 200 {
                    ensure!(start.elapsed() < START_WAIT, "the upgrade of caller {index} was not felt");
                    std::thread::sleep(Duration::from_millis(2));
                }
            }
            felt_ms.push(start.elapsed().as_secs_f64() * 1_000.0);
        }
        felt_ms.sort_unstable_by(f64::total_cmp);
        felt_ms.get(UPGRADES * 99 / 100 - 1).copied().context("no upgrades")
    }

    /// MiB of the worker's VM after all subjects were seen, and after they were seen once more.
    fn memory_mib(&self) -> Result<(f64, f64)> {
        // A shared secret, since signing as many tokens with RSA takes minutes.
        let secret = [7_u8; 32];
        let key = "BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc";
        let jwks = json!({"keys": [{"kty": "oct", "kid": "k", "alg": "HS256", "k": key}]});
        let policy = policy(json!([{"issuer": ISSUER, "audiences": [AUDIENCE], "keys": {"jwks": jwks}}]));
        let url = format!("sqlite://{}", self.dir.path().join("memory.db").display());
        let plane = Plane::start(self.dir.path(), &url, &policy.to_string())?;
        let edge = self.edge("memory", &connected(), Some(&plane))?;
        let header = Header { kid: Some("k".to_owned()), ..Header::new(Algorithm::HS256) };
        let key = EncodingKey::from_secret(&secret);
        let exp = now_s() + 86_400;
        let requests = (0..SUBJECTS).map(|index| {
            let claims = json!({
                "iss": ISSUER, "aud": AUDIENCE, "sub": format!("bench-{index}"), "exp": exp,
                // As long as the RS256 tokens of an identity provider.
                "scope": "openid profile email offline_access api:read api:write".repeat(5),
            });
            Ok(load::request(&jsonwebtoken::encode(&header, &claims, &key)?))
        });
        let requests = Arc::new(requests.collect::<Result<Vec<_>>>()?);
        edge.wait_until_answered(requests.first().context("no requests")?, 200)?;
        let first = edge.see_all(&requests)?;
        let second = edge.see_all(&requests)?;
        Ok((first, second))
    }
}

impl Edge {
    fn wait_until_answered(&self, request: &[u8], status: u16) -> Result<()> {
        self.service.wait_until(&format!("answer {status}"), START_WAIT, || {
            load::status_of(self.port, request).is_ok_and(|answered| answered == status)
        })
    }

    fn see_all(&self, requests: &Arc<Vec<Vec<u8>>>) -> Result<f64> {
        load::visit_all_at_once(self.port, requests)?;
        // The gauge is written by the worker's next tick.
        std::thread::sleep(Duration::from_secs(1));
        let url = format!("http://127.0.0.1:{}/stats?filter=vm.memory_bytes", self.admin_port);
        let stats = ureq::get(&url).call()?.body_mut().read_to_string()?;
        let largest = stats.lines().filter_map(|line| line.rsplit_once(": ")?.1.trim().parse::<f64>().ok());
        let bytes = largest.fold(0.0, f64::max);
        ensure!(bytes > 0.0, "Envoy has no such gauge: {stats}");
        Ok(bytes / 1_048_576.0)
    }
}

fn policy(issuers: Value) -> Value {
    let limits = json!([{"meter": "api_calls", "quota": 1_000_000, "per": "month"},
                        {"meter": "api_calls", "rate": 1_000_000, "per": "60s"}]);
    json!({
        "version": 1,
        "issuers": issuers,
        "meters": {"api_calls": {}},
        "tiers": {"free": {"limits": limits.clone()}, "pro": {"features": ["export"], "limits": limits}},
        "default_tier": "free",
        "routes": [{"path": "/export", "features": ["export"], "charges": {"api_calls": 1}}],
        "default_route": {"charges": {"api_calls": 1}},
    })
}

#[allow(clippy::disallowed_methods, reason = "a token's expiry is on the real clock")]
fn now_s() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}
