//! `cargo xtask bench`: measurements, each against its target, written into BENCHMARKS.md with the machine named.

use anyhow::Result;

#[cfg(feature = "bench")]
mod business;
#[cfg(feature = "bench")]
mod control_plane;
#[cfg(feature = "bench")]
mod edge;
#[cfg(feature = "bench")]
mod plane;
#[cfg(feature = "bench")]
mod promises;
#[cfg(feature = "bench")]
mod report;

/// What to measure.
#[derive(clap::Subcommand)]
pub enum Bench {
    /// What Envoy spends on a request: without a filter, with its own filters, with Tollgate
    Edge(EdgeOptions),
    /// Syncs and lease grants a second, on SQLite and on PostgreSQL
    ControlPlane(ControlPlaneOptions),
    /// How soon an upgrade is felt, what a token costs when it is new, and the memory of 100,000 subjects
    Promises,
}

/// How long.
#[derive(clap::Args)]
pub struct ControlPlaneOptions {
    /// Measured time of each size of a sync
    #[arg(long, value_name = "SECONDS", default_value_t = 5)]
    seconds: u64,
    /// Subjects of the grown database
    #[arg(long, value_name = "N", default_value_t = 100_000)]
    subjects: u64,
    /// Rows of usage of the grown database
    #[arg(long, value_name = "N", default_value_t = 10_000_000)]
    rows: u64,
    /// Leave out the syncs: only what people and payment providers wait for
    #[arg(long)]
    only_business: bool,
}

/// How long and how often.
#[derive(clap::Args)]
pub struct EdgeOptions {
    /// Measured time of each configuration in each round
    #[arg(long, value_name = "SECONDS", default_value_t = 5)]
    seconds: u64,
    /// Rounds; in each, every configuration is measured once
    #[arg(long, value_name = "N", default_value_t = 5)]
    rounds: usize,
    /// Leave out configurations whose name contains this
    #[arg(long, value_name = "PART")]
    without: Vec<String>,
}

#[cfg(feature = "bench")]
impl EdgeOptions {
    fn wants(&self, name: &str) -> bool {
        !self.without.iter().any(|part| name.contains(part.as_str()))
    }
}

/// Measures.
#[cfg(feature = "bench")]
pub fn run(bench: &Bench) -> Result<()> {
    match bench {
        Bench::Edge(options) => edge::run(options),
        Bench::ControlPlane(options) => control_plane::run(options),
        Bench::Promises => promises::run(),
    }
}

/// Runs itself again, optimised and with what the measurements need: a load generator that is not optimised measures
/// itself. The arguments pass as they are.
#[cfg(not(feature = "bench"))]
pub fn run(_bench: &Bench) -> Result<()> {
    use crate::{build, process, progress};

    progress::heading("Building the benchmarks");
    let mut again = build::cargo("run");
    again.args(["--release", "--quiet", "--package", "xtask", "--features", "bench", "--"]);
    process::run(again.args(std::env::args_os().skip(1)))
}
