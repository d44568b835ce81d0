//! From a request's headers and body to what it asks for: its routes, what each costs, and who is to be charged.
//!
//! The edge reads requests with this as they come, and the control plane explains with it what an edge would read. How
//! headers and bodies arrive, and in which pieces, is each program's own business; nothing here verifies or decides.

pub mod address;
mod asked;
mod head;
mod headers;

pub use asked::{Asked, Body, Credentials, Reading, Unpriced};
pub use head::Head;
pub use headers::HeaderMap;
