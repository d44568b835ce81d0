//! A Rust toolchain that builds for a WebAssembly target: the developer's own, with the target added by rustup, or
//! Debian's packages where rustup cannot reach its server.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, bail};

use super::apt;
use crate::process::{on_path, output};
use crate::progress::note;
use crate::workspace;

/// Says which toolchain to take, for trying the fallback: `rustup` or `debian`.
const CHOICE: &str = "TOLLGATE_WASM_TOOLCHAIN";

/// Debian's Rust that can be given a WebAssembly standard library, and what it needs for that.
const DEBIAN_PACKAGES: [&str; 6] =
    ["rustc-web", "cargo-web", "rust-web-src", "rust-web-clippy", "wasi-libc", "lld"];

/// A target, and the crates of the standard library that what we build for it needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    /// Envoy's modules.
    Wasip1,
    /// Tests under Node.
    Unknown,
}

impl Target {
    /// The target's name.
    pub fn triple(self) -> &'static str {
        match self {
            Self::Wasip1 => "wasm32-wasip1",
            Self::Unknown => "wasm32-unknown-unknown",
        }
    }

    fn std_crates(self) -> &'static str {
        match self {
            Self::Wasip1 => "-Zbuild-std=std,panic_abort",
            // `test` is what #[test] expands to; wasm-bindgen's tests are built by it too.
            Self::Unknown => "-Zbuild-std=std,panic_abort,test,proc_macro",
        }
    }
}

/// A toolchain that builds for one target.
pub enum RustTarget {
    /// The developer's own cargo.
    Own(Target),
    /// Debian's cargo and rustc, and the linker to use with them.
    Debian(Target, PathBuf),
}

/// Finds or installs a toolchain for the target.
pub fn provide(target: Target) -> Result<RustTarget> {
    let choice = std::env::var(CHOICE).ok();
    match choice.as_deref() {
        None | Some("") => {
            if has_target(target)? || add_target(target) {
                return Ok(RustTarget::Own(target));
            }
            note(&format!("rustup cannot provide {}; taking Debian's packages", target.triple()));
            debian(target)
        }
        Some("rustup") if has_target(target)? || add_target(target) => Ok(RustTarget::Own(target)),
        Some("rustup") => bail!("`rustup target add {}` failed", target.triple()),
        Some("debian") => debian(target),
        Some(other) => bail!("{CHOICE} is `rustup` or `debian`, not `{other}`"),
    }
}

impl RustTarget {
    /// `cargo <subcommand>` for the target, in a target directory of its own so that it does not disturb native builds.
    pub fn cargo(&self, subcommand: &str, rustflags: &str) -> Command {
        let (target, mut command) = match self {
            Self::Own(target) => {
                let mut command = Command::new("cargo");
                command.arg(subcommand).env("RUSTFLAGS", rustflags);
                (target, command)
            }
            Self::Debian(target, linker) => {
                // By path, because rustup's proxies come first on PATH.
                let mut command = Command::new("/usr/bin/cargo");
                command.arg(subcommand).arg(target.std_crates());
                command.env("RUSTC", "/usr/bin/rustc").env("RUSTDOC", "/usr/bin/rustdoc");
                // -Zbuild-std is unstable, and Debian has no nightly.
                command.env("RUSTC_BOOTSTRAP", "1");
                command.env("CLIPPY_DRIVER_PATH", "/usr/bin/clippy-driver");
                let linker_of =
                    format!("CARGO_TARGET_{}_LINKER", target.triple().to_uppercase().replace('-', "_"));
                command.env(linker_of, linker);
                let libc = match target {
                    Target::Wasip1 => " -C link-self-contained=no -L /usr/lib/wasm32-wasi",
                    Target::Unknown => "",
                };
                command.env("RUSTFLAGS", format!("{rustflags}{libc}"));
                // rustup's proxy leaves these to what it starts; they would mix two compilers.
                command.env_remove("RUSTUP_TOOLCHAIN").env_remove("LD_LIBRARY_PATH").env_remove("CARGO");
                command.env("PATH", path_with_usr_bin_first());
                (target, command)
            }
        };
        command.args(["--target", target.triple()]);
        command.arg("--target-dir").arg(self.target_dir());
        command.current_dir(workspace::root());
        command
    }

    /// Where it builds.
    pub fn target_dir(&self) -> PathBuf {
        workspace::target().join(match self {
            Self::Own(_) => "wasm",
            Self::Debian(..) => "wasm-debian",
        })
    }
}

/// Whether the developer's Rust has the target already, from rustup or from a distribution.
fn has_target(target: Target) -> Result<bool> {
    Ok(own_sysroot()?.join("lib/rustlib").join(target.triple()).join("lib").is_dir())
}

fn own_sysroot() -> Result<PathBuf> {
    let sysroot = output(Command::new("rustc").args(["--print", "sysroot"]).current_dir(workspace::root()))?;
    Ok(PathBuf::from(sysroot.trim()))
}

fn add_target(target: Target) -> bool {
    if on_path("rustup").is_none() {
        return false;
    }
    note(&format!("rustup target add {}", target.triple()));
    let mut add = Command::new("rustup");
    add.args(["target", "add", target.triple()]).current_dir(workspace::root());
    match output(&mut add) {
        Ok(_) => has_target(target).unwrap_or(false),
        Err(error) => {
            note(&error.to_string());
            false
        }
    }
}

fn debian(target: Target) -> Result<RustTarget> {
    let needed = [
        "/usr/bin/cargo",
        "/usr/bin/rustc",
        "/usr/bin/clippy-driver",
        "/usr/lib/wasm32-wasi/libc.a",
        "/usr/bin/wasm-ld",
    ];
    if !needed.iter().all(|file| PathBuf::from(file).is_file()) {
        apt::install(&DEBIAN_PACKAGES, &format!("a Rust toolchain for {}", target.triple()))?;
    }
    let version = output(Command::new("/usr/bin/rustc").arg("--version"))?;
    note(&format!("building the standard library for {} with Debian's {}", target.triple(), version.trim()));
    Ok(RustTarget::Debian(target, linker()?))
}

/// rustup's own lld where there is one: it is as new as the compiler, and Debian's may be years older.
fn linker() -> Result<PathBuf> {
    let host = output(Command::new("/usr/bin/rustc").args(["--print", "host-tuple"]))?;
    let bundled = own_sysroot()?.join("lib/rustlib").join(host.trim()).join("bin/rust-lld");
    if bundled.is_file() {
        return Ok(bundled);
    }
    on_path("wasm-ld").context("there is neither rust-lld nor wasm-ld; install lld and try again")
}

fn path_with_usr_bin_first() -> String {
    format!("/usr/bin:{}", std::env::var("PATH").unwrap_or_default())
}
