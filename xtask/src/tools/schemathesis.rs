//! Schemathesis: makes requests from a description of an interface, and judges the answers by it.

use std::path::PathBuf;

use anyhow::Result;

use super::python;

const WHEEL_VERSION: &str = "4.32.5";

/// The path of `schemathesis`.
pub fn provide() -> Result<PathBuf> {
    let venv = python::venv("schemathesis", "schemathesis", WHEEL_VERSION)?;
    Ok(venv.join("bin/schemathesis"))
}
