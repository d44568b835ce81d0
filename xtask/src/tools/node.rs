//! Node, which runs the pure code's tests as WebAssembly.

use anyhow::{Context, Result};

use super::apt;
use crate::process::on_path;

/// Makes sure that `node` is on PATH.
pub fn provide() -> Result<()> {
    if on_path("node").is_none() {
        apt::install(&["nodejs"], "Node.js")?;
        on_path("node").context("apt installed nodejs, yet `node` is not on PATH")?;
    }
    Ok(())
}
