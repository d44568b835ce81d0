//! Tollgate's pure core: the policy document, windows, lease arithmetic, decisions and wire types.
//!
//! No I/O, no clock, no randomness, no HTTP, no SQL: time is an argument, so the same code decides at the edge, in the
//! control plane and in a test.

pub mod body;
mod charge;
pub mod compile;
pub mod decision;
pub mod document;
pub mod jwt;
pub mod label;
pub mod labels;
pub mod lease;
pub mod limit;
pub mod path;
#[cfg(feature = "price")]
pub mod price;
pub mod request;
mod route;
pub mod status;
pub mod subject;
pub mod subscription;
pub mod template;
pub mod thing;
pub mod window;
pub mod wire;
