//! `cargo xtask test`: every check and test, in the order in which a mistake is found soonest.
//!
//! Nothing is skipped in silence: what a step needs is installed, or the run fails and says what to do.

use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::progress::{heading, note};
use crate::tools::postgres::Postgres;
use crate::tools::{deny, envoy, nextest};
use crate::{build, demo, fuzz, process, wasm, workspace};

/// What of it to run.
#[derive(clap::Args)]
pub struct Options {
    /// Run one step only (see --list)
    #[arg(long, value_name = "STEP")]
    only: Option<String>,
    /// Print the steps and do nothing
    #[arg(long)]
    list: bool,
}

struct Step {
    name: &'static str,
    what: &'static str,
    run: fn() -> Result<()>,
    /// What to do when it fails.
    remedy: &'static str,
}

const STEPS: &[Step] = &[
    Step { name: "format", what: "Formatting", run: format, remedy: "run `cargo fmt --all`" },
    Step {
        name: "lint",
        what: "Lints (clippy, native)",
        run: lint,
        remedy: "mend what clippy names; warnings are errors here",
    },
    Step {
        name: "lint-wasm",
        what: "Lints (clippy, as built for Envoy)",
        run: wasm::lint_filter,
        remedy: "mend what clippy names; warnings are errors here",
    },
    Step {
        name: "deny",
        what: "Dependencies (cargo-deny)",
        run: deny::check,
        remedy: "choose another crate, or another version; deny.toml says what is allowed and why",
    },
    Step { name: "wasm", what: "The filter's module", run: wasm::build_filter, remedy: "mend the build" },
    Step { name: "programs", what: "The native programs", run: build::programs, remedy: "mend the build" },
    Step {
        name: "tests",
        what: "Unit, store and end-to-end tests (SQLite, PostgreSQL, Envoy)",
        run: tests,
        remedy: "run one test alone: `cargo xtask test --only tests` shows the environment it needs",
    },
    Step {
        name: "fuzz",
        what: "The control plane's interface against its description (Schemathesis)",
        run: fuzz::run,
        remedy: "mend the answer, or describe it: `control-plane/src/api/`; each failure is shown as a curl command",
    },
    Step {
        name: "docs",
        what: "Examples in the documentation, and its links",
        run: docs,
        remedy: "mend the comment that rustdoc names",
    },
    Step {
        name: "wasm-tests",
        what: "The pure code as WebAssembly, under Node",
        run: wasm::test_policy,
        remedy: "the tests are policy/tests/wasm.rs",
    },
    Step {
        name: "demo",
        what: "The quickstart's tour",
        run: demo::run_once,
        remedy: "watch it: `cargo xtask demo`; the logs are named above",
    },
    Step {
        name: "examples",
        what: "The examples' tours, and what the READMEs tell their readers to type",
        run: demo::run_examples,
        remedy: "watch it: `cargo xtask demo EXAMPLE`; what differs is named above",
    },
];

/// Runs the steps and prints a summary.
pub fn run(options: &Options) -> Result<()> {
    if options.list {
        for step in STEPS {
            println!("{:<12}{}", step.name, step.what);
        }
        return Ok(());
    }
    let steps: Vec<&Step> = match &options.only {
        None => STEPS.iter().collect(),
        Some(name) => vec![STEPS.iter().find(|step| step.name == name).with_context(|| {
            let names: Vec<&str> = STEPS.iter().map(|step| step.name).collect();
            format!("there is no step `{name}`; there are {}", names.join(", "))
        })?],
    };

    let mut done: Vec<(&Step, Duration)> = Vec::new();
    for (index, step) in steps.iter().enumerate() {
        heading(&format!("[{}/{}] {}", index + 1, steps.len(), step.what));
        let start = Instant::now();
        if let Err(error) = (step.run)() {
            print_summary(&done);
            println!("  {:<12}FAILED after {:.1} s", step.name, start.elapsed().as_secs_f64());
            return Err(error.context(format!("step `{}` failed; {}", step.name, step.remedy)));
        }
        note(&format!("done in {:.1} s", start.elapsed().as_secs_f64()));
        done.push((step, start.elapsed()));
    }
    print_summary(&done);
    Ok(())
}

fn print_summary(done: &[(&Step, Duration)]) {
    heading("Summary");
    for (step, took) in done {
        println!("  {:<12}ok {:>8.1} s", step.name, took.as_secs_f64());
    }
}

fn format() -> Result<()> {
    process::run(Command::new("cargo").args(["fmt", "--all", "--check"]).current_dir(workspace::root()))
}

fn lint() -> Result<()> {
    process::run(build::cargo("clippy").args(["--workspace", "--all-targets", "--all-features"]))
}

fn tests() -> Result<()> {
    // Cheap when they are there already, and right when this step runs alone.
    wasm::build_filter()?;
    build::programs()?;
    let envoy = envoy::provide()?;
    let nextest = nextest::provide()?;
    let postgres = Postgres::start_for_tests()?;

    let environment = [
        ("TOLLGATE_TEST_POSTGRES_URL", postgres.url().to_owned()),
        ("TOLLGATE_ENVOY", envoy.display().to_string()),
        ("TOLLGATE_FILTER_WASM", workspace::filter_wasm().display().to_string()),
        ("TOLLGATE_BIN", workspace::tollgate().display().to_string()),
        ("TOLLGATE_UPSTREAM", workspace::upstream().display().to_string()),
        // The same histories every time: what fails here can be looked at again. `cargo test` tries others.
        ("PROPTEST_RNG_SEED", "20270301".to_owned()),
    ];
    for (name, value) in &environment {
        note(&format!("{name}={value}"));
    }
    let mut run = Command::new(nextest);
    run.args(["nextest", "run", "--workspace", "--all-features", "--no-fail-fast", "--target-dir"]);
    run.arg(workspace::target()).current_dir(workspace::root()).envs(environment);
    if !process::status(&mut run)?.success() {
        bail!("tests failed; they are named above");
    }
    Ok(())
}

fn docs() -> Result<()> {
    let mut examples = build::cargo("test");
    process::run(examples.args(["--workspace", "--doc", "--all-features"]))?;
    let mut document = build::cargo("doc");
    document
        .args(["--workspace", "--no-deps", "--all-features", "--quiet"])
        .env("RUSTDOCFLAGS", "-D warnings");
    process::run(&mut document)
}
