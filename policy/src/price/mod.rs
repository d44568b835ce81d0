//! What tiers cost and what usage comes to: exact, in whole minor units. Pure, like all of this crate; edges do without it.
//!
//! One idea makes lines add up however time is cut: what a price comes to **from the beginning of a billing month until a
//! moment** is a function, rounded once to the minor unit, and what it comes to between two moments is the difference of its
//! values there. So the parts of a month always make up the month: two invoices of its halves, or the time before and after
//! a change of tier.

mod function;
mod lines;
mod money;
mod stretches;

pub use lines::{Line, lines};
pub use money::{Currency, Money};
pub use stretches::{Stretch, billing_month, cuts, stretches};

use std::collections::BTreeMap;

/// Units that were used, of one meter and with the same labels.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Used {
    /// When, Unix ms. Several uses may be summed into one, but not across a cut ([`cuts`]) or a UTC day.
    pub at_ms: i64,
    /// The meter.
    pub meter: String,
    /// What they are told apart by.
    pub labels: BTreeMap<String, String>,
    /// Units; negative where usage was corrected.
    pub units: i64,
}

/// An amount is larger than any that is kept: more than 2^63 minor units.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the amount is larger than 2^63 minor units")]
pub struct TooLarge;

#[cfg(test)]
mod tests;
