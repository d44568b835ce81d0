//! The store: all SQL of the control plane, for SQLite and PostgreSQL alike.
//!
//! One file for each table, each a few functions on a [`Tx`]. What a change means is the service's to say: nothing here
//! decides, and nothing here knows HTTP.

pub mod analytics;
pub mod archives;
pub mod audit;
pub mod changes;
pub mod configuration;
mod database;
pub mod denials;
mod earlier;
mod error;
pub mod event_deliveries;
pub mod event_endpoints;
pub mod events;
pub mod everything;
pub mod history;
pub mod invoices;
pub mod issuer_keys;
pub mod migrations;
pub mod moments;
pub mod orders;
pub mod payments;
pub mod policies;
pub mod sessions;
mod statement;
pub mod subjects;
pub mod things;
pub mod tokens;
pub mod usage;
mod value;
pub mod webhooks;

pub use database::{Database, Retry, Tx, Work};
pub use error::StoreError;
