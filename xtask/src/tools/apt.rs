//! Packages of Debian and its kin: for what cannot be had as a wheel or a crate.

use std::process::Command;

use anyhow::{Result, bail};

use crate::process::{on_path, run};
use crate::progress::note;

/// Installs packages; `purpose` tells a person without apt what to install instead.
pub fn install(packages: &[&str], purpose: &str) -> Result<()> {
    if on_path("apt-get").is_none() {
        bail!(
            "{purpose} is missing and there is no apt-get here. Install it (in Debian: {}) and try again.",
            packages.join(" ")
        );
    }
    note(&format!("installing {purpose} by apt: {}", packages.join(" ")));
    run(apt_get()?.arg("update").arg("-qq"))?;
    run(apt_get()?.args(["install", "-y", "-qq", "--no-install-recommends"]).args(packages))
}

fn apt_get() -> Result<Command> {
    let mut command = if rustix::process::geteuid().is_root() {
        Command::new("apt-get")
    } else if on_path("sudo").is_some() {
        let mut sudo = Command::new("sudo");
        sudo.args(["DEBIAN_FRONTEND=noninteractive", "apt-get"]);
        sudo
    } else {
        bail!("installing packages needs root, and there is no sudo here");
    };
    command.env("DEBIAN_FRONTEND", "noninteractive");
    Ok(command)
}
