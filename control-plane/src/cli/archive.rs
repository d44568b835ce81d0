//! `tollgate archive`: list, show, restore.

use clap::{Args, Subcommand};
use reqwest::Method;
use serde_json::Value as Json;

use super::CliError;
use super::client::{Client, ClientArguments};
use super::output::{cell, print, print_json, table};

/// Most archives that are listed.
const LISTED_MAX: usize = 10_000;

/// Look at what subjects had before they moved here, and give it back.
#[derive(Debug, Args)]
pub struct ArchiveArguments {
    #[command(subcommand)]
    command: ArchiveCommand,
}

#[derive(Debug, Subcommand)]
enum ArchiveCommand {
    /// List archives, by subject and kind.
    List {
        /// Only those of this subject.
        #[arg(long)]
        subject: Option<String>,
        /// Only those of this kind.
        #[arg(long)]
        kind: Option<String>,
        #[command(flatten)]
        client: ClientArguments,
    },
    /// Show an archive, with what it holds.
    Show {
        /// Such as `user:alice` or `org:acme`.
        subject: String,
        /// Such as `credit_balance`.
        kind: String,
        #[command(flatten)]
        client: ClientArguments,
    },
    /// Give an archive back: print what it holds, and mark it as given back. Once.
    Restore {
        /// Such as `user:alice` or `org:acme`.
        subject: String,
        /// Such as `credit_balance`.
        kind: String,
        #[command(flatten)]
        client: ClientArguments,
    },
}

/// Runs a command.
pub async fn run(arguments: ArchiveArguments) -> Result<(), CliError> {
    match arguments.command {
        ArchiveCommand::List { subject, kind, client: arguments } => {
            let client = Client::new(&arguments)?;
            let mut query = Vec::new();
            query.extend(subject.as_deref().map(|subject| ("subject", subject)));
            query.extend(kind.as_deref().map(|kind| ("kind", kind)));
            let found = client.list(&["v1", "archives"], &query, LISTED_MAX).await?;
            if arguments.json {
                print_json(&Json::Array(found));
                return Ok(());
            }
            let columns = ["subject", "kind", "data", "archived_at", "restored_at"];
            let rows: Vec<Vec<String>> =
                found.iter().map(|archive| columns.map(|name| cell(archive, name)).to_vec()).collect();
            print(&table(&["subject", "kind", "data", "archived", "given back"], &rows));
        }
        ArchiveCommand::Show { subject, kind, client: arguments } => {
            let client = Client::new(&arguments)?;
            let request = client.request(Method::GET, &["v1", "archives", &subject, &kind]);
            tell(&client.send(request).await?, &arguments);
        }
        ArchiveCommand::Restore { subject, kind, client: arguments } => {
            let client = Client::new(&arguments)?;
            let request = client.request(Method::POST, &["v1", "archives", &subject, &kind, "restore"]);
            tell(&client.send(request).await?, &arguments);
        }
    }
    Ok(())
}

fn tell(archive: &Json, arguments: &ClientArguments) {
    if arguments.json {
        print_json(archive);
        return;
    }
    print(&format!(
        "{} had {} of {}",
        cell(archive, "subject"),
        cell(archive, "data"),
        cell(archive, "kind")
    ));
    print(&format!("  archived    {}, by {}", cell(archive, "archived_at"), cell(archive, "archived_by")));
    print(&format!("  given back  {}, to {}", cell(archive, "restored_at"), cell(archive, "restored_by")));
}
