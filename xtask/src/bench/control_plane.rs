//! Syncs and lease grants a second, on SQLite and on PostgreSQL, by the number of subjects in a sync.
//!
//! The real program is asked over HTTP by two edges at once, as edges do; every commit is on the disk before it is
//! answered. Client, control plane and database share the machine's cores, so the figures are a lower bound.

use std::collections::BTreeMap;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use super::plane::{EDGE_TOKEN, Plane};
use super::report;
use super::{ControlPlaneOptions, business};
use crate::process::Scratch;
use crate::progress::{heading, note, step};
use crate::tools::postgres::Postgres;
use crate::{build, workspace};

const EDGES: usize = 2;
const SUBJECTS: usize = 20_000;
const BATCHES: [usize; 5] = [1, 10, 100, 500, 1_000];
/// Grants a second that must be reached in batches.
const GRANTS_MIN: f64 = 20_000.0;

struct Rate {
    syncs: f64,
    grants: f64,
}

/// Measures, prints, and writes BENCHMARKS.md.
pub fn run(options: &ControlPlaneOptions) -> Result<()> {
    step("Building Tollgate", build::programs)?;
    let dir = Scratch::make(workspace::target().join(format!("bench/control-plane-{}", std::process::id())))?;
    let time = Duration::from_secs(options.seconds);
    if options.only_business {
        let grown = business::run(dir.path(), options)?;
        heading("Results");
        println!("{}", targets(&grown));
        note("nothing was written: that needs all of the benchmark");
        return Ok(());
    }
    let sqlite = {
        let url = format!("sqlite://{}", dir.path().join("tollgate.db").display());
        let plane = step("SQLite", || Plane::start(dir.path(), &url, POLICY))?;
        measure(&plane, time)?
    };
    let postgres = {
        let cluster = step("PostgreSQL", Postgres::start_for_bench)?;
        let plane = Plane::start(dir.path(), cluster.url(), POLICY)?;
        measure(&plane, time)?
    };
    let mut text = String::from(
        "| subjects in a sync | SQLite syncs/s | SQLite grants/s | PostgreSQL syncs/s | PostgreSQL grants/s |\n\
         | ---: | ---: | ---: | ---: | ---: |\n",
    );
    for ((batch, a), b) in BATCHES.iter().zip(&sqlite).zip(&postgres) {
        text.push_str(&format!(
            "| {batch} | {:.0} | {:.0} | {:.0} | {:.0} |\n",
            a.syncs, a.grants, b.syncs, b.grants
        ));
    }
    text.push_str("\n| target | measured | |\n| --- | ---: | --- |\n");
    for (name, rates) in [("SQLite", &sqlite), ("PostgreSQL", &postgres)] {
        let best = rates.iter().map(|rate| rate.grants).fold(0.0, f64::max);
        let verdict = if best >= GRANTS_MIN { "reached" } else { "**missed**" };
        text.push_str(&format!("| grants/s on {name}, in batches ≥ 20,000 | {best:.0} | {verdict} |\n"));
    }
    text.push_str(&targets(&business::run(dir.path(), options)?));
    heading("Results");
    println!("{text}");
    report::write("control-plane", &text)
}

/// Rows of the table of targets.
fn targets(targets: &[business::Target]) -> String {
    let row = |target: &business::Target| {
        let verdict = match target.reached {
            None => "–",
            Some(true) => "reached",
            Some(false) => "**missed**",
        };
        format!("| {} | {} | {verdict} |\n", target.name, target.measured)
    };
    targets.iter().map(row).collect()
}

const POLICY: &str = "{version: 1, meters: {calls: {}}, \
     tiers: {free: {limits: [{meter: calls, quota: 9000000000000, per: hour}]}}, \
     default_tier: free, default_route: {auth: none}}";

fn measure(plane: &Plane, time: Duration) -> Result<Vec<Rate>> {
    BATCHES
        .iter()
        .map(|batch| {
            let start = Instant::now();
            let edges: Vec<_> = (0..EDGES)
                .map(|edge| {
                    let (port, batch) = (plane.port, *batch);
                    std::thread::spawn(move || one_edge(port, edge, batch, time))
                })
                .collect();
            let (mut syncs, mut grants) = (0, 0);
            for edge in edges {
                let done = edge.join().map_err(|_| anyhow::anyhow!("an edge panicked"))??;
                syncs += done.0;
                grants += done.1;
            }
            let seconds = start.elapsed().as_secs_f64();
            let rate = Rate { syncs: syncs as f64 / seconds, grants: grants as f64 / seconds };
            note(&format!("{batch:>5} subjects: {:>7.0} syncs/s {:>8.0} grants/s", rate.syncs, rate.grants));
            Ok(rate)
        })
        .collect()
}

/// Syncs that were answered, and accounts that were granted more units in them.
fn one_edge(port: u16, edge: usize, batch: usize, time: Duration) -> Result<(u64, u64)> {
    let agent = ureq::agent();
    let url = format!("http://127.0.0.1:{port}/edge/v1/sync");
    let session = format!("{:016x}{batch:08x}{edge:08x}", now_ms());
    let mut granted: BTreeMap<String, u64> = BTreeMap::new();
    let (mut syncs, mut grants) = (0, 0);
    let begin = Instant::now();
    let mut next = edge * SUBJECTS / EDGES;
    while begin.elapsed() < time {
        let window = now_ms() / 3_600_000 * 3_600_000;
        let subjects: Vec<Value> = (0..batch)
            .map(|_| {
                next = (next + 1) % SUBJECTS;
                let subject = format!("user:bench-{next}");
                let held = granted.get(&subject).copied().unwrap_or(0);
                json!({"subject": subject, "accounts": [{
                    "limit": "calls.hour", "window": window, "taken": held, "freed": 0, "returned": 0,
                    "want": held + 10,
                }], "usage": [{"meter": "calls", "hour": window, "taken": held, "freed": 0}]})
            })
            .collect();
        let body = json!({"version": 1, "session": session, "subjects": subjects}).to_string();
        let post = agent.post(&url).header("authorization", format!("Bearer {EDGE_TOKEN}"));
        let mut response = post.header("content-type", "application/json").send(body)?;
        let text = response.body_mut().with_config().limit(64 << 20).read_to_string()?;
        let answer: Value = serde_json::from_str(&text)?;
        let answers =
            answer.get("subjects").and_then(Value::as_array).context("an answer without subjects")?;
        ensure!(answers.len() == batch, "{} subjects were answered, not {batch}", answers.len());
        syncs += 1;
        for answer in answers {
            let subject = answer.get("subject").and_then(Value::as_str).context("no subject")?;
            let now = answer.pointer("/accounts/0/granted").and_then(Value::as_u64).unwrap_or(0);
            let before = granted.entry(subject.to_owned()).or_default();
            grants += u64::from(now > *before);
            *before = now;
        }
    }
    Ok((syncs, grants))
}

#[allow(clippy::disallowed_methods, reason = "windows are on the real clock")]
fn now_ms() -> u128 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis()
}
