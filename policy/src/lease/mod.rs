//! The lease arithmetic: how a limit of N units is shared by several edges without ever being exceeded.
//!
//! One idea for every kind of limit: a unit that is used *rests*: until the window ends (quota), for the window's length
//! after its use (rate), while it refills (token bucket), until the request ends (concurrency), until the thing is released
//! (capacity). The control plane hands units out; an edge may use a unit that it holds and that does not rest, without
//! asking anyone. Per subject, limit, window and session there are five **monotone** numbers: `granted` (by the control
//! plane), `returned`, `taken`, `freed` and `removed` (by the edge; the last of capacities alone: released units that
//! another session added). Both sides merge by max, so lost, repeated and reordered messages cost nothing but time.
//!
//! - [`Book`]: the control plane's side of one subject.
//! - [`Record`]: the edge's side of one subject, and its bytes in the proxy's shared memory.
//! - [`decide`]: what an edge does with one request.
//!
//! Pure: time is an argument, nothing here asks anyone. `now_ms` is Unix time where windows are meant and a monotonic
//! clock where durations are (leases, rests); the two are never compared.

mod account;
mod book;
mod bucket;
mod capacity;
mod codec;
mod decide;
mod kind;
mod name;
mod record;
mod rest;
mod terms;
mod things;

pub use account::{Account, EMPTY_MS};
pub use book::{Book, BookAnswer, RECALL_PATIENCE_MS, Standing, WINDOW_LATE_MS};
pub use bucket::Level;
pub use capacity::CLAMP_AFTER_MS;
pub use codec::{Bucket, CorruptBucket};
pub use decide::{Admission, Demand, OnShort, Refusal, Verdict, decide, refuse, take};
pub use kind::{
    AccountKind, BUCKET_WINDOW, CAPACITY_WINDOW, CONCURRENCY_WINDOW, RATE_WINDOW, REQUEST_MS_MAX,
};
pub use name::Name;
pub use record::{Record, SessionId, Usage};
pub use rest::Rest;
pub use terms::{Term, TermKind, Terms, WINDOW_SKEW_MS};
pub use things::{THINGS_MAX, ThingEvent, Things, ThingsApplied, apply_things};

#[cfg(test)]
mod tests;
