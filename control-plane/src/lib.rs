//! Tollgate's control plane as a library, so that tests and benchmarks can run it in their own process. The `tollgate`
//! binary is a thin shell around it.
//!
//! Dependencies point one way: `api → service → store`. Only `store` speaks SQL, only `clock` reads the time.

pub mod api;
pub mod calendar;
pub mod clock;
pub mod config;
pub mod hex;
pub mod http_client;
pub mod server;
pub mod service;
pub mod store;
