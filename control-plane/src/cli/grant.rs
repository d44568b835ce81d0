//! `tollgate grant`: add, list, remove.

use clap::{Args, Subcommand};
use jiff::Timestamp;
use reqwest::Method;
use serde_json::{Value as Json, json};

use super::CliError;
use super::client::{Client, ClientArguments};
use super::output::{cell, items, print, print_json, table};

/// Give, list and take away extra units of limits.
#[derive(Debug, Args)]
pub struct GrantArguments {
    #[command(subcommand)]
    command: GrantCommand,
}

#[derive(Debug, Subcommand)]
enum GrantCommand {
    /// Give a subject extra units of a limit. Given again under the same id, they are given once.
    Add {
        /// Such as `user:alice` or `org:acme`.
        subject: String,
        /// Names it among the subject's grants, such as the number of the order.
        #[arg(long)]
        id: String,
        /// The limit's name.
        #[arg(long)]
        limit: String,
        /// Units in all.
        #[arg(long)]
        units: u64,
        /// From this moment on what is left of it is gone, RFC 3339. Default: never.
        #[arg(long, value_name = "TIME")]
        expires: Option<Timestamp>,
        #[command(flatten)]
        client: ClientArguments,
    },
    /// List a subject's grants, the first to be used first.
    List {
        /// Such as `user:alice` or `org:acme`.
        subject: String,
        #[command(flatten)]
        client: ClientArguments,
    },
    /// Take a grant away. What was used of it stays used.
    Remove {
        /// Such as `user:alice` or `org:acme`.
        subject: String,
        /// The grant's id.
        #[arg(long)]
        id: String,
        #[command(flatten)]
        client: ClientArguments,
    },
}

/// Runs a command.
pub async fn run(arguments: GrantArguments) -> Result<(), CliError> {
    match arguments.command {
        GrantCommand::Add { subject, id, limit, units, expires, client: arguments } => {
            let client = Client::new(&arguments)?;
            let expires = expires.map(|expires| expires.to_string());
            let body = json!({ "id": id, "limit": limit, "units": units, "expires_at": expires });
            let request = client.request(Method::POST, &["v1", "subjects", &subject, "grants"]);
            let grant = client.send(request.json(&body)).await?;
            if arguments.json {
                print_json(&grant);
            } else {
                print(&format!("{subject} has {} more units of {limit}.", cell(&grant, "left")));
            }
        }
        GrantCommand::List { subject, client: arguments } => {
            let client = Client::new(&arguments)?;
            let request = client.request(Method::GET, &["v1", "subjects", &subject, "grants"]);
            let grants = client.send(request).await?;
            if arguments.json {
                print_json(grants.get("items").unwrap_or(&Json::Null));
                return Ok(());
            }
            let columns = ["id", "limit", "units", "left", "expires_at"];
            let rows: Vec<Vec<String>> = items(&grants, "items")
                .iter()
                .map(|grant| columns.map(|name| cell(grant, name)).to_vec())
                .collect();
            print(&table(&["id", "limit", "units", "left", "expires"], &rows));
        }
        GrantCommand::Remove { subject, id, client: arguments } => {
            let client = Client::new(&arguments)?;
            client.send(client.request(Method::DELETE, &["v1", "subjects", &subject, "grants", &id])).await?;
            if !arguments.json {
                print(&format!("{subject} does not have the grant {id} any more."));
            }
        }
    }
    Ok(())
}
