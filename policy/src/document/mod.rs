//! The policy document: its model, how it is read, and what is refused.

mod model;

pub use model::*;
