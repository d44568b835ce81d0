//! From a verified caller and what it asks for to a decision: which limits apply, whether the edge's lease covers them,
//! and what is settled when the response is known.
//!
//! The edge decides with this on its record of the subject, and the control plane explains with it what an edge would
//! decide. Pure: no host, no clock; a denial is a value that each program words in its own one place.

mod bill;
mod denial;
mod fields;
mod plan;
mod question;
mod settle;

pub use bill::{BEYOND, Bill, Facts, Line, number};
pub use denial::{Denial, LimitFacts};
pub use fields::{Fields, Legacy};
pub use plan::{Cost, KeptPlan, Plan, Plans, RoutePlan, limits_nobody};
pub use question::{Admitted, Mode, Outcome, Question, Whose};
pub use settle::{Ending, Reservation};

#[cfg(test)]
mod tests;

/// The two clocks, read together once per request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Now {
    /// Unix time, ms: calendar windows, token expiry, subscription expiry.
    pub wall_ms: i64,
    /// A clock that never jumps and that all workers of one proxy share, ms: leases, resting units, deadlines.
    pub mono_ms: u64,
}
