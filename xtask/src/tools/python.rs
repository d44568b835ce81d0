//! Programs that are published as Python wheels, each in a virtual environment of its own.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result};

use super::apt;
use crate::process::{output, run};
use crate::progress::note;
use crate::workspace;

/// The virtual environment `target/tools/<name>` with `package` in exactly this version.
pub fn venv(name: &str, package: &str, version: &str) -> Result<PathBuf> {
    let dir = workspace::tools().join(name);
    let wanted = format!("{package}=={version}");
    // Written last, so that an installation that was interrupted is started anew.
    let marker = dir.join("installed");
    if std::fs::read_to_string(&marker).is_ok_and(|have| have == wanted) {
        return Ok(dir);
    }
    note(&format!("installing {wanted} into {}", dir.display()));
    if dir.exists() {
        std::fs::remove_dir_all(&dir).with_context(|| format!("cannot remove {}", dir.display()))?;
    }
    if output(Command::new("python3").args(["-m", "venv", "--help"])).is_err()
        || output(Command::new("python3").args(["-c", "import ensurepip"])).is_err()
    {
        apt::install(&["python3", "python3-venv"], "Python 3 with venv")?;
    }
    run(Command::new("python3").args(["-m", "venv"]).arg(&dir))?;
    run(Command::new(dir.join("bin/python")).args(["-m", "pip", "install", "--quiet", &wanted]))?;
    std::fs::write(&marker, wanted).with_context(|| format!("cannot write {}", marker.display()))?;
    Ok(dir)
}

/// A file below the environment's `site-packages`, whose path has Python's version in it.
pub fn site_file(venv: &std::path::Path, file: &str) -> Result<PathBuf> {
    let lib = venv.join("lib");
    let entries = std::fs::read_dir(&lib).with_context(|| format!("cannot read {}", lib.display()))?;
    entries
        .flatten()
        .map(|python| python.path().join("site-packages").join(file))
        .find(|path| path.is_file())
        .with_context(|| format!("{} has no {file}", venv.display()))
}
