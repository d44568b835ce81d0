//! Where the programs under test lie: named by the environment (`cargo xtask test` does), or where `cargo xtask` leaves
//! them. A missing one is a failure that says what to do.

use std::path::{Path, PathBuf};

/// The repository's root.
pub fn root() -> PathBuf {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR"));
    tests.parent().expect("the crate lies in the workspace").to_owned()
}

/// A file of the repository, as text.
pub fn shipped(path: &str) -> String {
    let file = root().join(path);
    std::fs::read_to_string(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()))
}

/// Envoy's binary.
pub fn envoy() -> PathBuf {
    let lib = root().join("target/tools/envoy/lib");
    let versions = std::fs::read_dir(lib).into_iter().flatten().flatten();
    let installed = versions.map(|python| python.path().join("site-packages/envoy/_bin/envoy"));
    find("TOLLGATE_ENVOY", installed, "cargo xtask demo --once")
}

/// The filter's module.
pub fn filter_wasm() -> PathBuf {
    find("TOLLGATE_FILTER_WASM", [root().join("target/tollgate-filter.wasm")], "cargo xtask wasm")
}

/// The control plane's program: the newest of the builds that are there.
pub fn tollgate() -> PathBuf {
    let built = ["release", "debug"].map(|profile| root().join("target").join(profile).join("tollgate"));
    let age = |file: &PathBuf| std::fs::metadata(file).and_then(|about| about.modified()).ok();
    find("TOLLGATE_BIN", built.iter().max_by_key(|file| age(file)).cloned(), "cargo build --release")
}

/// The address of a PostgreSQL whose user may create databases, if there is one.
pub fn postgres_url() -> Option<String> {
    std::env::var("TOLLGATE_TEST_POSTGRES_URL").ok().filter(|url| !url.is_empty())
}

fn find(variable: &str, usual: impl IntoIterator<Item = PathBuf>, command: &str) -> PathBuf {
    if let Some(named) = std::env::var_os(variable) {
        let named = PathBuf::from(named);
        assert!(named.is_file(), "{variable} names {}, which is not a file", named.display());
        return named;
    }
    let found = usual.into_iter().find(|file| file.is_file());
    found.unwrap_or_else(|| panic!("{variable} is not set, and nothing is built: run `{command}`"))
}
