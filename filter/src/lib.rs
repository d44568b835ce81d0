//! Tollgate in Envoy: who calls, which tier he has, and whether this request may pass, decided inside the proxy.
//!
//! `envoy` alone names proxy-wasm; everything else speaks to the `host::Host` trait, and so runs natively in tests. The
//! way of a request is `request` → `intake` → `tollgate_policy::request` → `identity` → `tollgate_policy::decision` →
//! `answer`, and `response` on its way back; what happens off that way is `wait`, `sync` and `leader`.

pub mod answer;
pub mod clock;
pub mod config;
pub mod denials;
pub mod edge;
#[cfg(target_os = "wasi")]
mod envoy;
pub mod host;
pub mod identity;
pub mod intake;
pub mod leader;
pub mod metrics;
pub mod records;
pub mod request;
pub mod response;
pub mod session;
pub mod shared;
pub mod sync;
pub mod verify;
pub mod wait;

#[cfg(test)]
mod tests;
