//! `tollgate webhooks`: list, show, replay, link.

use clap::{Args, Subcommand};
use reqwest::Method;
use serde_json::{Value as Json, json};

use super::CliError;
use super::client::{Client, ClientArguments};
use super::output::{cell, print, print_json, table};

/// Look at what payment providers told, and have it worked off again.
#[derive(Debug, Args)]
pub struct WebhooksArguments {
    #[command(subcommand)]
    command: WebhooksCommand,
}

#[derive(Debug, Subcommand)]
enum WebhooksCommand {
    /// List webhooks, the newest first.
    List {
        /// Only those of this provider: stripe, lemonsqueezy or cinetpay.
        #[arg(long)]
        provider: Option<String>,
        /// Only those in this state: pending, done, ignored, unlinked, failed or conflict.
        #[arg(long)]
        state: Option<String>,
        /// At most so many.
        #[arg(long, default_value_t = 50)]
        limit: usize,
        #[command(flatten)]
        client: ClientArguments,
    },
    /// Show a webhook and its body.
    Show {
        /// Its number.
        id: i64,
        #[command(flatten)]
        client: ClientArguments,
    },
    /// Work a webhook off again, now.
    Replay {
        /// Its number.
        id: i64,
        #[command(flatten)]
        client: ClientArguments,
    },
    /// Say whose the subscription of a webhook is.
    Link {
        /// Its number.
        id: i64,
        /// Such as `user:alice` or `org:acme`.
        subject: String,
        #[command(flatten)]
        client: ClientArguments,
    },
}

/// Runs a command.
pub async fn run(arguments: WebhooksArguments) -> Result<(), CliError> {
    match arguments.command {
        WebhooksCommand::List { provider, state, limit, client: arguments } => {
            let client = Client::new(&arguments)?;
            let asked = [("provider", provider.as_deref()), ("state", state.as_deref())];
            let query: Vec<_> = asked.into_iter().filter_map(|(name, value)| Some((name, value?))).collect();
            let webhooks = client.list(&["v1", "webhooks"], &query, limit).await?;
            if arguments.json {
                print_json(&Json::Array(webhooks));
                return Ok(());
            }
            let columns = ["id", "received_at", "provider", "kind", "state", "subject", "error"];
            let row = |webhook: &Json| columns.iter().map(|name| cell(webhook, name)).collect();
            print(&table(&columns, &webhooks.iter().map(row).collect::<Vec<_>>()));
        }
        WebhooksCommand::Show { id, client: arguments } => {
            let client = Client::new(&arguments)?;
            let request = client.request(Method::GET, &["v1", "webhooks", &id.to_string()]);
            let webhook = client.send(request).await?;
            tell(&webhook, &arguments);
            if !arguments.json {
                print(&cell(&webhook, "payload"));
            }
        }
        WebhooksCommand::Replay { id, client: arguments } => {
            let client = Client::new(&arguments)?;
            let request = client.request(Method::POST, &["v1", "webhooks", &id.to_string(), "replay"]);
            tell(&client.send(request).await?, &arguments);
        }
        WebhooksCommand::Link { id, subject, client: arguments } => {
            let client = Client::new(&arguments)?;
            let request = client.request(Method::POST, &["v1", "webhooks", &id.to_string(), "link"]);
            tell(&client.send(request.json(&json!({ "subject": subject }))).await?, &arguments);
        }
    }
    Ok(())
}

fn tell(webhook: &Json, arguments: &ClientArguments) {
    if arguments.json {
        print_json(webhook);
        return;
    }
    print(&format!(
        "{} {} of {}: {}",
        cell(webhook, "id"),
        cell(webhook, "kind"),
        cell(webhook, "provider"),
        cell(webhook, "state")
    ));
    for name in ["subject", "account", "reference", "at", "received_at", "deliveries", "error"] {
        print(&format!("  {name:<12} {}", cell(webhook, name)));
    }
}
