//! Where things lie: the repository, and what is built from it.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// The repository's root.
pub fn root() -> PathBuf {
    let xtask = Path::new(env!("CARGO_MANIFEST_DIR"));
    xtask.parent().unwrap_or(xtask).to_owned()
}

/// Everything that is built or installed goes in here, whatever `CARGO_TARGET_DIR` says: the documented paths are these.
pub fn target() -> PathBuf {
    root().join("target")
}

/// Programs that xtask installed for itself.
pub fn tools() -> PathBuf {
    target().join("tools")
}

/// The filter's module, as `cargo xtask wasm` leaves it.
pub fn filter_wasm() -> PathBuf {
    target().join("tollgate-filter.wasm")
}

/// The module that does nothing, for the benchmark.
#[cfg(feature = "bench")]
pub fn noop_wasm() -> PathBuf {
    target().join("noop-filter.wasm")
}

/// The module that makes only the calls of Tollgate's headers, for the benchmark.
#[cfg(feature = "bench")]
pub fn floor_wasm() -> PathBuf {
    target().join("floor-filter.wasm")
}

/// The control plane and command line, built for release.
pub fn tollgate() -> PathBuf {
    target().join("release/tollgate")
}

/// The quickstart's application, built for release.
pub fn upstream() -> PathBuf {
    target().join("release/quickstart-upstream")
}

/// The package, and the program, of an example's application.
pub fn upstream_of(example: &str) -> String {
    format!("{example}-upstream")
}

/// Names of all examples with an application, sorted.
pub fn examples() -> Result<Vec<String>> {
    let folder = root().join("examples");
    let mut names = Vec::new();
    for entry in std::fs::read_dir(&folder).with_context(|| format!("cannot read {}", folder.display()))? {
        let entry = entry?;
        if entry.path().join("upstream").is_dir() {
            names.push(entry.file_name().to_string_lossy().into_owned());
        }
    }
    names.sort();
    Ok(names)
}
