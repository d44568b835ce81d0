//! What tiers cost and what usage comes to: exact, in whole minor units. Pure, like all of this crate; edges do without it.

mod money;

pub use money::{Currency, Money};
