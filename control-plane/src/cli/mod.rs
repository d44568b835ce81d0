//! The command line. Each command is a file; what they share is the client of the REST interface and how errors are
//! said to people.

pub mod archive;
pub mod bypass;
pub mod capacity;
mod client;
pub mod database;
mod error;
pub mod events;
pub mod explain;
pub mod grant;
pub mod import;
pub mod invoice;
mod output;
pub mod policy;
pub mod serve;
pub mod subject;
pub mod subscription;
mod subscription_action;
pub mod token;
pub mod usage;
pub mod webhooks;

use clap::{Parser, Subcommand};

pub use error::CliError;

/// Tiered API limits for Envoy: the control plane and its commands.
#[derive(Debug, Parser)]
#[command(name = "tollgate", version)]
pub struct Arguments {
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the control plane.
    Serve(serve::ServeArguments),
    /// Apply, check and look at policies.
    Policy(policy::PolicyArguments),
    /// Set and look at what subjects have bought.
    Subscription(subscription::SubscriptionArguments),
    /// Let a subject test without limits for a while.
    Bypass(bypass::BypassArguments),
    /// Set and look at what is in use of capacities.
    Capacity(capacity::CapacityArguments),
    /// Give, list and take away extra units of limits.
    Grant(grant::GrantArguments),
    /// Show what a subject has at this moment: its tier and how its limits stand.
    Subject(subject::SubjectArguments),
    /// Preview and close what subjects are charged, and look at it.
    Invoice(invoice::InvoiceArguments),
    /// Show, record, correct and export what subjects used.
    Usage(usage::UsageArguments),
    /// Tell other systems what happens, and look at what became of it.
    Events(events::EventsArguments),
    /// Explain what an edge would do with a request, and why.
    Explain(explain::ExplainArguments),
    /// Write everything that the database holds as JSON Lines.
    Export(database::ExportArguments),
    /// Look after the database: versions of its tables, backups.
    Database(database::DatabaseArguments),
    /// Import users of another system, or everything that an export wrote.
    Import(Box<import::ImportArguments>),
    /// Look at what subjects had before they moved here, and give it back.
    Archive(archive::ArchiveArguments),
    /// Sign tokens, as an issuer of your own would: for tests and demonstrations.
    Token(token::TokenArguments),
    /// Look at what payment providers told, and have it worked off again.
    Webhooks(webhooks::WebhooksArguments),
}
