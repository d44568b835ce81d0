//! The store: all SQL of the control plane, for SQLite and PostgreSQL alike.
//!
//! One file for each table, each a few functions on a [`Tx`]. What a change means is the service's to say: nothing here
//! decides, and nothing here knows HTTP.

pub mod analytics;
pub mod audit;
pub mod changes;
pub mod configuration;
mod database;
pub mod denials;
mod error;
pub mod events;
pub mod history;
pub mod invoices;
pub mod issuer_keys;
pub mod payments;
pub mod policies;
pub mod sessions;
mod statement;
pub mod subjects;
pub mod things;
pub mod tokens;
pub mod usage;
mod value;

pub use database::{Database, Retry, Tx, Work};
pub use error::StoreError;
