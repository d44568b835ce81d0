//! The runner of `wasm-bindgen-test`, in exactly the version of the library that the tests are built with.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result};

use crate::process::{output, run};
use crate::progress::note;
use crate::workspace;

/// The path of `wasm-bindgen-test-runner`. Building it takes minutes, once for each version.
pub fn provide_runner() -> Result<PathBuf> {
    let version = locked_version()?;
    let bin = workspace::tools().join("bin");
    let runner = bin.join("wasm-bindgen-test-runner");
    let have = output(Command::new(bin.join("wasm-bindgen")).arg("--version")).unwrap_or_default();
    if runner.is_file() && have.split_whitespace().nth(1) == Some(version.as_str()) {
        return Ok(runner);
    }
    note(&format!(
        "installing wasm-bindgen-cli {version} into {} (some minutes, once)",
        workspace::tools().display()
    ));
    let mut install = Command::new("cargo");
    install.args(["install", "wasm-bindgen-cli", "--version", &version, "--force", "--root"]);
    install.arg(workspace::tools()).current_dir(workspace::root());
    // Where the installation may not share the workspace's target directory, a place of its own keeps it resumable.
    install.arg("--target-dir").arg(workspace::target().join("wasm-bindgen-cli"));
    run(&mut install)?;
    Ok(runner)
}

/// The version of `wasm-bindgen` in Cargo.lock: library and runner must match.
fn locked_version() -> Result<String> {
    let path = workspace::root().join("Cargo.lock");
    let lock = std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    parse_locked_version(&lock).context("Cargo.lock has no wasm-bindgen")
}

fn parse_locked_version(lock: &str) -> Option<String> {
    let (_, package) = lock.split_once("name = \"wasm-bindgen\"\nversion = \"")?;
    let (version, _) = package.split_once('"')?;
    Some(version.to_owned())
}

#[cfg(test)]
mod tests {
    use super::parse_locked_version;

    #[test]
    fn version_of_wasm_bindgen_is_not_that_of_its_namesakes() {
        let lock = "name = \"wasm-bindgen-test\"\nversion = \"0.3.1\"\n\nname = \"wasm-bindgen\"\nversion = \"0.2.1\"\n";
        assert_eq!(parse_locked_version(lock).as_deref(), Some("0.2.1"));
    }
}
