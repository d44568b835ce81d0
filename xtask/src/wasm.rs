//! Builds what runs as WebAssembly: the filter's module, and the tests of the pure code.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::process::run;
use crate::progress::note;
use crate::tools::{
    node,
    rust_target::{self, Target},
    wasm_bindgen,
};
use crate::{wasm_exports, workspace};

/// What Envoy's V8 has and the target's baseline lacks.
const RUSTFLAGS: &str = "-C target-feature=+simd128";

/// Callbacks that `filter/src/envoy.rs` exports around the SDK's.
const OWN_EXPORTS: usize = 2;

/// Builds `target/tollgate-filter.wasm`.
pub fn build_filter() -> Result<()> {
    let built = build(&["--lib"], "tollgate_filter.wasm")?;
    let module = std::fs::read(&built).with_context(|| format!("cannot read {}", built.display()))?;
    publish(&wasm_exports::prefer_own(&module, OWN_EXPORTS)?, &workspace::filter_wasm())
}

/// Builds `target/noop-filter.wasm` and `target/floor-filter.wasm`, with which the benchmark compares.
#[cfg(feature = "bench")]
pub fn build_baselines() -> Result<()> {
    let read = |name: &str| -> Result<Vec<u8>> {
        Ok(std::fs::read(build(&["--example", name], &format!("examples/{name}.wasm"))?)?)
    };
    publish(&read("noop")?, &workspace::noop_wasm())?;
    publish(&wasm_exports::prefer_own(&read("floor")?, 0)?, &workspace::floor_wasm())
}

/// Lints the filter as it is built for Envoy: other code than natively, behind `cfg`.
pub fn lint_filter() -> Result<()> {
    let toolchain = rust_target::provide(Target::Wasip1)?;
    let mut clippy = toolchain.cargo("clippy", RUSTFLAGS);
    run(clippy.args(["--package", "tollgate-filter", "--lib", "--examples"]))
}

/// Runs `policy/tests/wasm.rs` under Node.
pub fn test_policy() -> Result<()> {
    node::provide()?;
    let runner = wasm_bindgen::provide_runner()?;
    let toolchain = rust_target::provide(Target::Unknown)?;
    // Node has a source of randomness, which getrandom uses only when told to.
    let mut test = toolchain.cargo("test", "--cfg getrandom_backend=\"wasm_js\"");
    test.env("CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_RUNNER", runner);
    run(test.args(["--package", "tollgate-policy", "--test", "wasm"]))
}

fn build(what: &[&str], file: &str) -> Result<PathBuf> {
    let toolchain = rust_target::provide(Target::Wasip1)?;
    let mut build: Command = toolchain.cargo("build", RUSTFLAGS);
    run(build.args(["--package", "tollgate-filter", "--profile", "filter"]).args(what))?;
    Ok(toolchain.target_dir().join(Target::Wasip1.triple()).join("filter").join(file))
}

fn publish(module: &[u8], to: &Path) -> Result<()> {
    // Renamed into place, so that an Envoy that starts just now reads the old module or the new one.
    let next = to.with_extension("wasm.next");
    std::fs::write(&next, module).with_context(|| format!("cannot write {}", next.display()))?;
    std::fs::rename(&next, to).with_context(|| format!("cannot write {}", to.display()))?;
    note(&format!("{} ({} KiB)", to.display(), module.len().div_ceil(1024)));
    Ok(())
}
