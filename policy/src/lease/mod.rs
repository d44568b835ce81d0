//! The lease arithmetic: how a limit of N units is shared by several edges without ever being exceeded.
//!
//! One idea for every kind of limit: a unit that is used *rests* (until the window ends for a quota, for the window's
//! length after its use for a rate). The control plane hands units out; an edge may use a unit that it holds and that
//! does not rest, without asking anyone. Per subject, limit, window and session there are four **monotone** numbers:
//! `granted` (by the control plane), `returned`, `taken` and `freed` (by the edge). Both sides merge by max, so lost,
//! repeated and reordered messages cost nothing but time.
//!
//! - [`Book`]: the control plane's side of one subject.
//! - [`Record`]: the edge's side of one subject, and its bytes in the proxy's shared memory.
//! - [`decide`]: what an edge does with one request.
//!
//! Pure: time is an argument, nothing here asks anyone. `now_ms` is Unix time where windows are meant and a monotonic
//! clock where durations are (leases, rests); the two are never compared.

mod account;
mod book;
mod codec;
mod decide;
mod record;
mod rest;
mod terms;

pub use account::{Account, EMPTY_MS};
pub use book::{Book, BookAnswer, RECALL_PATIENCE_MS, Standing, WINDOW_LATE_MS};
pub use codec::{Bucket, CorruptBucket};
pub use decide::{Admission, Demand, Refusal, Verdict, decide, refuse, take};
pub use record::{Record, SessionId, Usage};
pub use rest::Rest;
pub use terms::{Term, TermKind, Terms, WINDOW_SKEW_MS};

#[cfg(test)]
mod tests;
