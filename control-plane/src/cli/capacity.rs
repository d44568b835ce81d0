//! `tollgate capacity`: set, show.

use clap::{Args, Subcommand};
use reqwest::Method;
use serde_json::{Value as Json, json};

use super::CliError;
use super::client::{Client, ClientArguments};
use super::output::{cell, items, print, print_json, table};

/// Set and look at what is in use of capacities.
#[derive(Debug, Args)]
pub struct CapacityArguments {
    #[command(subcommand)]
    command: CapacityCommand,
}

#[derive(Debug, Subcommand)]
enum CapacityCommand {
    /// Set what is in use to what you have counted. What edges report from now on counts on top.
    Set {
        /// Such as `user:alice`, `org:acme` or `member:acme/alice`.
        subject: String,
        /// A capacity of the subject's tier, or a meter: then all capacities on it.
        name: String,
        /// Units in use now.
        in_use: u64,
        /// Why it is set, for the audit log.
        #[arg(long)]
        reason: String,
        #[command(flatten)]
        client: ClientArguments,
    },
    /// Show what is in use.
    Show {
        /// Such as `user:alice`, `org:acme` or `member:acme/alice`.
        subject: String,
        /// A capacity of the subject's tier, or a meter: then all capacities on it.
        name: String,
        #[command(flatten)]
        client: ClientArguments,
    },
}

/// Runs a command.
pub async fn run(arguments: CapacityArguments) -> Result<(), CliError> {
    let (found, arguments) = match arguments.command {
        CapacityCommand::Set { subject, name, in_use, reason, client: arguments } => {
            let client = Client::new(&arguments)?;
            let request = client.request(Method::PUT, &["v1", "subjects", &subject, "capacity", &name]);
            let body = json!({ "in_use": in_use, "reason": reason });
            (client.send(request.json(&body)).await?, arguments)
        }
        CapacityCommand::Show { subject, name, client: arguments } => {
            let client = Client::new(&arguments)?;
            let request = client.request(Method::GET, &["v1", "subjects", &subject, "capacity", &name]);
            (client.send(request).await?, arguments)
        }
    };
    tell(&found, &arguments);
    Ok(())
}

fn tell(found: &Json, arguments: &ClientArguments) {
    if arguments.json {
        print_json(found);
        return;
    }
    let columns = ["limit", "units", "in_use", "leased", "remaining", "clamped"];
    let rows: Vec<Vec<String>> =
        items(found, "items").iter().map(|item| columns.map(|name| cell(item, name)).to_vec()).collect();
    print(&table(&["capacity", "units", "in use", "leased", "remaining", "clamped"], &rows));
}
