//! Bodies of requests and responses: the amounts that they tell, read within bounds and in linear time.
//!
//! Knows nothing about policies, and judges nothing: an amount that cannot be read is told apart by its reason, and the
//! caller says what then holds.

pub mod json;
mod latest;
mod lines;
pub mod meter;
pub mod pointer;
pub mod rpc;
mod scan;
pub mod sse;
mod work;

use thiserror::Error;

/// Most arrays and objects within each other that are read in a JSON text.
pub const NESTING_MAX: usize = 64;

/// Why there is no amount.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum Unread {
    /// There is nothing at that place, or null.
    #[error("the amount is missing")]
    Missing,
    /// What is there is no whole number from 0 to 2^64 - 1.
    #[error("the amount is no whole number")]
    NotANumber,
    /// It may be in what was too long to be read.
    #[error("the body is too long to be read")]
    TooLong,
    /// The body should be JSON and is not, or is nested too deeply.
    #[error("the body is not the JSON that it should be")]
    Malformed,
    /// The body is nothing that amounts are read from.
    #[error("the body is not JSON")]
    NotJson,
    /// The body ended early.
    #[error("the body ended before it was complete")]
    Cut,
}
