//! What people and payment providers wait for, on a database that has grown: 100,000 subjects and 10 million rows of usage
//! in SQLite. And webhooks: how many a second, and that none is lost when the process is killed in the middle.

mod ask;
mod fill;
mod webhooks;

use std::path::Path;
use std::time::Duration;

use anyhow::Result;

use super::ControlPlaneOptions;
use super::edge::tokens;
use super::plane::Plane;
use crate::progress::step;

const ME_P99_MS_MAX: f64 = 20.0;
const PAGE_MS_MAX: f64 = 200.0;
const PREVIEW_MS_MAX: f64 = 100.0;
const WEBHOOKS_MIN: f64 = 1_000.0;

/// One target and what was measured.
pub struct Target {
    pub name: String,
    pub measured: String,
    /// Nothing: no target.
    pub reached: Option<bool>,
}

/// Measures all of it; files lie in `dir`.
pub fn run(dir: &Path, options: &ControlPlaneOptions) -> Result<Vec<Target>> {
    let file = dir.join("business.db");
    let url = format!("sqlite://{}", file.display());
    let policy = policy()?;
    // The program makes the tables; they are filled while it is away.
    drop(step("Tables", || Plane::start(dir, &url, &policy))?);
    let filled = step("Filling", || fill::fill(&url, options.subjects, options.rows))?;
    let plane = step("SQLite, grown", || Plane::start(dir, &url, &policy))?;
    let tokens = step("Tokens", || tokens::provide(ask::CALLERS))?;

    let mut targets = Vec::new();
    let me = step("GET /v1/me", || ask::me(&plane, &tokens))?;
    targets.push(Target::at_most(
        &format!("`GET /v1/me`, {} subjects and {} usage rows, p99 ≤ 20 ms", filled.subjects, filled.usage),
        me,
        ME_P99_MS_MAX,
    ));
    for (path, took) in step("Lists and analytics", || ask::pages(&plane))? {
        targets.push(Target::at_most(&format!("`GET {path}` ≤ 200 ms"), took, PAGE_MS_MAX));
    }
    let preview = step("Invoice previews", || ask::previews(&plane))?;
    targets.push(Target::at_most("invoice preview, p99 ≤ 100 ms", preview, PREVIEW_MS_MAX));
    drop(plane);

    let told = step("Webhooks", || webhooks::run(dir, &policy, Duration::from_secs(options.seconds)))?;
    targets.push(Target {
        name: "webhooks/s in, on SQLite ≥ 1,000".to_owned(),
        measured: format!("{:.0}", told.per_second),
        reached: Some(told.per_second >= WEBHOOKS_MIN),
    });
    targets.push(Target {
        name: "acknowledged webhooks lost when the process is killed in the middle = 0".to_owned(),
        measured: format!("{} of {}", told.lost, told.acknowledged),
        reached: Some(told.lost == 0),
    });
    targets.push(Target {
        name: "webhooks/s worked off, each in a commit of its own".to_owned(),
        measured: format!("{:.0}", told.worked_off),
        reached: None,
    });
    Ok(targets)
}

impl Target {
    fn at_most(name: &str, took: Duration, most_ms: f64) -> Self {
        let ms = took.as_secs_f64() * 1_000.0;
        Self { name: name.to_owned(), measured: format!("{ms:.1} ms"), reached: Some(ms <= most_ms) }
    }
}

/// Two tiers with prices; tokens are those of the other benchmarks.
fn policy() -> Result<String> {
    let policy = serde_json::json!({
        "version": 1,
        "issuers": [{"issuer": tokens::ISSUER, "audiences": [tokens::AUDIENCE], "keys": {"jwks": tokens::jwks()?}}],
        "billing": {"currency": "EUR"},
        "meters": {"calls": {"unit": "requests"}, "tokens": {}},
        "default_tier": "free",
        "tiers": {
            "free": {"order": 1, "limits": [{"meter": "calls", "quota": 100_000, "per": "month"}]},
            "pro": {
                "order": 2,
                "limits": [
                    {"meter": "calls", "quota": 10_000_000, "per": "month"},
                    {"meter": "tokens", "quota": 100_000_000, "per": "billing_month"},
                ],
                "prices": [{"flat": 2_900}],
            },
        },
    });
    Ok(policy.to_string())
}
