//! Programs that the repository needs and that a fresh machine lacks. Each module finds one, or installs it: below
//! `target/tools` where that is possible, by apt where it is not. Nothing is installed twice.

pub mod apt;
pub mod deny;
pub mod envoy;
pub mod nextest;
pub mod node;
pub mod postgres;
pub mod python;
pub mod rust_target;
pub mod schemathesis;
pub mod wasm_bindgen;
