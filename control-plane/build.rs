//! A migration that is added is compiled in, though no Rust file names it.

fn main() {
    println!("cargo:rerun-if-changed=migrations");
}
