//! `cargo xtask`: sets up a machine, builds the filter, shows the demo, runs all tests and the benchmarks.
//!
//! Everything it needs it finds or installs, below `target/` wherever that is possible. It contains no part of the
//! product.

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

mod bench;
mod build;
mod demo;
mod fuzz;
mod process;
mod progress;
mod test;
mod tools;
mod wasm;
mod wasm_exports;
mod workspace;

#[derive(Parser)]
#[command(bin_name = "cargo xtask", about = "Set-up, wasm build, demo, test, bench")]
struct Arguments {
    #[command(subcommand)]
    job: Job,
}

#[derive(Subcommand)]
enum Job {
    /// Set everything up, start Envoy, control plane and an application, and show a tier at work
    Demo(demo::Options),
    /// Set everything up and run every check and test
    Test(test::Options),
    /// Build the filter's module, target/tollgate-filter.wasm
    Wasm,
    /// Measure, and write the results into BENCHMARKS.md
    #[command(subcommand)]
    Bench(bench::Bench),
}

fn main() -> ExitCode {
    match run(Arguments::parse().job) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Its causes, without the backtrace that anyhow would add: these are messages to a person.
            eprintln!("\nerror: {error}");
            for cause in error.chain().skip(1) {
                eprintln!("  because: {cause}");
            }
            ExitCode::FAILURE
        }
    }
}

fn run(job: Job) -> Result<()> {
    process::stop_on_signal()?;
    match job {
        Job::Demo(options) => demo::run(&options),
        Job::Test(options) => test::run(&options),
        Job::Wasm => progress::step("Building the filter's module", wasm::build_filter),
        Job::Bench(bench) => bench::run(&bench),
    }
}
