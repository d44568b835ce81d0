//! Builds the native programs that are run as a user runs them: optimised, from `target/release`.

use std::process::Command;

use anyhow::Result;

use crate::process::run;
use crate::workspace;

/// Builds the control plane and the quickstart's application.
pub fn programs() -> Result<()> {
    let mut build = cargo("build");
    run(build.args(["--release", "--package", "tollgate-control-plane", "--package", "quickstart-upstream"]))
}

/// `cargo <subcommand>` in the repository, building into `target`.
pub fn cargo(subcommand: &str) -> Command {
    let mut command = Command::new("cargo");
    command.arg(subcommand).arg("--target-dir").arg(workspace::target()).current_dir(workspace::root());
    command
}
