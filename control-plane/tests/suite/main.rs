//! Tests of the control plane through its own interfaces, with real databases: SQLite always, PostgreSQL where
//! `TOLLGATE_TEST_POSTGRES_URL` names a server (`cargo xtask test` starts one).

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that meets what it does not expect fails")]

mod analytics;
mod api;
mod bypass;
mod cli;
mod crash;
mod denials;
mod edges;
mod events;
mod explain;
mod histories;
mod invoices;
mod jwks;
mod kinds;
mod ledger;
mod lifecycle;
mod me;
mod moving;
mod payment_faults;
mod payment_histories;
mod payments;
mod sink;
mod store;
mod support;
mod tables;
mod things;
mod upgrade;
mod usage;
mod views;
mod watch;
