//! What a request costs in Envoy: without a filter, with Envoy's own filters, and with Tollgate.
//!
//! All Envoys run at once, one worker each, pinned to one core; the client has another. They are measured in turn, round
//! after round, so that a machine that changes its speed changes it for all. The measure is CPU time per request beyond
//! that of the Envoy without a filter in the same round; requests per second and latencies are shown beside it.

use std::net::TcpListener;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

use super::EdgeOptions;
use super::plane::Plane;
use super::report;
use crate::process::{Scratch, Service, output};
use crate::progress::{heading, note, step};
use crate::tools::envoy;
use crate::{build, wasm, workspace};

pub mod configs;
pub mod load;
mod results;
pub mod tokens;

use configs::{Places, Subject};
use results::{Measurement, Results};

const ENVOY_CORE: &str = "0";
const CLIENT_CORE: &str = "1";
const START_WAIT: Duration = Duration::from_secs(60);
const WARM_UP: Duration = Duration::from_secs(2);

/// Measures, prints, and writes BENCHMARKS.md.
pub fn run(options: &EdgeOptions) -> Result<()> {
    let subjects: Vec<Subject> =
        Subject::ALL.into_iter().filter(|subject| options.wants(subject.name())).collect();
    let cores = std::thread::available_parallelism()?.get();
    ensure!(cores >= 2, "two cores are needed: one for Envoy, one for the client");

    let envoy = step("Envoy", envoy::provide)?;
    let with_tollgate = subjects.iter().any(|subject| subject.is_tollgate());
    step("Building the modules", wasm::build_baselines)?;
    if with_tollgate {
        step("Building Tollgate", || wasm::build_filter().and_then(|()| build::programs()))?;
    }
    let tokens = step("Tokens", || tokens::provide(Subject::TollgateMany.callers()))?;

    // From here on, this process and what it starts; Envoy is moved to its own core.
    let own_id = std::process::id().to_string();
    output(Command::new("taskset").args(["-cp", CLIENT_CORE, &own_id]))
        .context("util-linux's taskset is needed")?;

    let dir = Scratch::make(workspace::target().join(format!("bench/edge-{own_id}")))?;
    let control_plane = if with_tollgate {
        let database_url = format!("sqlite://{}", dir.path().join("tollgate.db").display());
        let policy = configs::policy(&tokens::jwks()?);
        Some(step("Starting the control plane", || Plane::start(dir.path(), &database_url, &policy))?)
    } else {
        None
    };
    let control_plane_port = control_plane.as_ref().map_or(0, |plane| plane.port);
    let rigs = step("Starting an Envoy for each, and making sure that it does its job", || {
        subjects
            .iter()
            .map(|subject| Rig::start(*subject, &envoy, control_plane_port, &tokens, dir.path()))
            .collect::<Result<Vec<_>>>()
    })?;

    let mut results = Results::default();
    for round in 1..=options.rounds {
        heading(&format!("Round {round} of {}", options.rounds));
        for rig in &rigs {
            let measurement = rig.measure(Duration::from_secs(options.seconds))?;
            note(&format!("{:<40}{measurement}", rig.subject.name()));
            results.add(rig.subject, measurement);
        }
    }
    heading("Medians over the rounds");
    let text = results.to_markdown();
    println!("{text}");
    report::write("edge", &text)
}

/// One Envoy and the requests for it.
struct Rig {
    subject: Subject,
    envoy: Service,
    port: u16,
    admin_port: u16,
    requests: Arc<Vec<Vec<u8>>>,
}

impl Rig {
    fn start(
        subject: Subject,
        envoy: &Path,
        control_plane_port: u16,
        tokens: &[String],
        dir: &Path,
    ) -> Result<Self> {
        let (port, admin_port) = two_free_ports()?;
        let (filter_wasm, noop_wasm) = (workspace::filter_wasm(), workspace::noop_wasm());
        let floor_wasm = workspace::floor_wasm();
        let config = configs::render(
            subject,
            &Places {
                port,
                admin_port,
                control_plane_port,
                filter_wasm: &filter_wasm,
                noop_wasm: &noop_wasm,
                floor_wasm: &floor_wasm,
                jwks: &tokens::jwks()?,
            },
        );
        let name = format!("{subject:?}");
        let path = dir.join(format!("{name}.yaml"));
        std::fs::write(&path, config)?;
        let mut serve = Command::new("taskset");
        serve.args(["-c", ENVOY_CORE]).arg(envoy).arg("--config-path").arg(&path);
        serve.args(["--concurrency", "1", "--disable-hot-restart", "--log-level", "error"]);
        let service = Service::start(&name, serve, &dir.join(format!("{name}.log")))?;

        let tokens = tokens.get(..subject.callers()).context("too few tokens")?;
        let requests =
            Arc::new(tokens.iter().map(|token| load::request_to(subject.path(), token)).collect::<Vec<_>>());
        let rig = Self { subject, envoy: service, port, admin_port, requests };
        rig.check()?;
        Ok(rig)
    }

    /// That it admits a good token and, if it is its job, refuses a forged one and none at all.
    fn check(&self) -> Result<()> {
        let good = self.requests.first().context("no requests")?;
        self.envoy.wait_until("answer 200", START_WAIT, || {
            load::status_of(self.port, good).is_ok_and(|status| status == 200)
        })?;
        if self.subject.verifies() {
            let text = String::from_utf8_lossy(good);
            let signature = text.find("\r\naccept").context("no such header")? - 8;
            let mut forged = good.clone();
            if let Some(bytes) = forged.get_mut(signature..signature + 4) {
                bytes.copy_from_slice(if bytes == b"AAAA" { b"BBBB" } else { b"AAAA" });
            }
            let none = b"GET /v1/items/7 HTTP/1.1\r\nhost: bench\r\n\r\n";
            for (what, request) in [("a forged token", forged.as_slice()), ("no token", none)] {
                let status = load::status_of(self.port, request)?;
                ensure!(status == 401, "{}: {what} was answered {status}, not 401", self.subject.name());
            }
        }
        load::visit_all(self.port, &self.requests)
            .and_then(|()| load::run(self.port, &self.requests, WARM_UP))
            .with_context(|| format!("{}; its log:\n{}", self.subject.name(), self.envoy.log_tail()))?;
        Ok(())
    }

    fn measure(&self, time: Duration) -> Result<Measurement> {
        // Between two rounds it was idle: units went back, caches went cold. Steady traffic is what is measured: each caller has
        // asked for units again, which 10,000 of them take some five seconds for.
        let callers = if self.subject.callers() > 1 { 3 } else { 1 };
        load::run(self.port, &self.requests, 2 * callers * WARM_UP)?;
        let calls_before = self.control_plane_calls()?;
        let before = cpu_time(&self.envoy)?;
        let seen = load::run(self.port, &self.requests, time)
            .with_context(|| format!("{}; its log:\n{}", self.subject.name(), self.envoy.log_tail()))?;
        let cpu = cpu_time(&self.envoy)?.saturating_sub(before);
        let calls = self.control_plane_calls()?.saturating_sub(calls_before);
        if seen.requests == 0 {
            bail!("{}: not one request was answered", self.subject.name());
        }
        let requests = seen.requests as f64;
        Ok(Measurement {
            requests_per_second: requests / time.as_secs_f64(),
            p50_us: seen.percentile(0.50).as_secs_f64() * 1e6,
            p99_us: seen.percentile(0.99).as_secs_f64() * 1e6,
            cpu_us: cpu.as_secs_f64() * 1e6 / requests,
            calls_per_10_000: calls as f64 * 10_000.0 / requests,
        })
    }

    /// Requests that Envoy sent to the control plane until now.
    fn control_plane_calls(&self) -> Result<u64> {
        if !self.subject.is_tollgate() {
            return Ok(0);
        }
        let url =
            format!("http://127.0.0.1:{}/stats?filter=cluster.tollgate.upstream_rq_total", self.admin_port);
        let stats = ureq::get(&url).call()?.body_mut().read_to_string()?;
        let value = stats.lines().find_map(|line| line.strip_prefix("cluster.tollgate.upstream_rq_total: "));
        Ok(value.context("Envoy has no such counter")?.trim().parse()?)
    }
}

/// CPU time of all of a program's threads until now: user and system (proc(5), `stat`, fields 14 and 15).
pub fn cpu_time(service: &Service) -> Result<Duration> {
    let ticks_per_second: f64 = output(Command::new("getconf").arg("CLK_TCK"))?.trim().parse()?;
    let path = format!("/proc/{}/stat", service.id());
    let stat = std::fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
    // The program's name, field 2, may have spaces; it ends with the last parenthesis.
    let (_, fields) = stat.rsplit_once(") ").context("stat has another form")?;
    let ticks: u64 =
        fields.split(' ').skip(11).take(2).map(|field| field.parse::<u64>()).sum::<Result<_, _>>()?;
    Ok(Duration::from_secs_f64(ticks as f64 / ticks_per_second))
}

/// Two ports that were free a moment ago.
pub fn two_free_ports() -> Result<(u16, u16)> {
    // Both held at once, so that they differ.
    let first = TcpListener::bind(("127.0.0.1", 0))?;
    let second = TcpListener::bind(("127.0.0.1", 0))?;
    Ok((first.local_addr()?.port(), second.local_addr()?.port()))
}
