//! The policy document: its model, how it is read, and what is refused.

mod codes;
mod fault;
mod model;
#[cfg(feature = "yaml")]
mod parse;
mod schema;
mod validate;

pub use codes::DENIAL_CODES;
pub use fault::Fault;
pub use model::*;
#[cfg(feature = "yaml")]
pub use parse::{DOCUMENT_BYTES_MAX, parse};
pub use schema::json_schema;
pub use validate::*;
