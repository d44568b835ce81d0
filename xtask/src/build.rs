//! Builds the native programs that are run as a user runs them: optimised, from `target/release`.

use std::process::Command;

use anyhow::Result;

use crate::process::run;
use crate::workspace;

/// Builds the control plane and the applications of all examples, always together: which features a library is built with
/// depends on who else is built, and another set would build nearly everything anew.
pub fn programs() -> Result<()> {
    let mut build = cargo("build");
    build.args(["--release", "--package", "tollgate-control-plane"]);
    for example in workspace::examples()? {
        build.arg("--package").arg(workspace::upstream_of(&example));
    }
    run(&mut build)
}

/// `cargo <subcommand>` in the repository, building into `target`.
pub fn cargo(subcommand: &str) -> Command {
    let mut command = Command::new("cargo");
    command.arg(subcommand).arg("--target-dir").arg(workspace::target()).current_dir(workspace::root());
    command
}
