//! `tollgate bypass`: set, show, clear.

use clap::{Args, Subcommand};
use jiff::Timestamp;
use reqwest::Method;
use serde_json::{Value as Json, json};

use super::CliError;
use super::client::{Client, ClientArguments};
use super::output::{cell, print, print_json};

/// Let a subject test without limits for a while.
#[derive(Debug, Args)]
pub struct BypassArguments {
    #[command(subcommand)]
    command: BypassCommand,
}

#[derive(Debug, Subcommand)]
enum BypassCommand {
    /// Grant a bypass, or replace the one there is. Every edge feels it within a second; usage is still counted.
    Set {
        /// Such as `user:alice` or `org:acme`.
        subject: String,
        /// From this moment on it no longer holds, RFC 3339; at most 90 days from now.
        #[arg(long, value_name = "TIME")]
        expires: Timestamp,
        /// Why, for the audit log.
        #[arg(long)]
        reason: String,
        #[command(flatten)]
        client: ClientArguments,
    },
    /// Show a subject's bypass.
    Show {
        /// Such as `user:alice` or `org:acme`.
        subject: String,
        #[command(flatten)]
        client: ClientArguments,
    },
    /// End a bypass now.
    Clear {
        /// Such as `user:alice` or `org:acme`.
        subject: String,
        #[command(flatten)]
        client: ClientArguments,
    },
}

/// Runs a command.
pub async fn run(arguments: BypassArguments) -> Result<(), CliError> {
    match arguments.command {
        BypassCommand::Set { subject, expires, reason, client: arguments } => {
            let client = Client::new(&arguments)?;
            let request = client.request(Method::PUT, &["v1", "subjects", &subject, "bypass"]);
            let body = json!({ "expires_at": expires.to_string(), "reason": reason });
            tell(&client.send(request.json(&body)).await?, &arguments);
        }
        BypassCommand::Show { subject, client: arguments } => {
            let client = Client::new(&arguments)?;
            let request = client.request(Method::GET, &["v1", "subjects", &subject, "bypass"]);
            tell(&client.send(request).await?, &arguments);
        }
        BypassCommand::Clear { subject, client: arguments } => {
            let client = Client::new(&arguments)?;
            client.send(client.request(Method::DELETE, &["v1", "subjects", &subject, "bypass"])).await?;
            if !arguments.json {
                print(&format!("{subject} has no bypass any more."));
            }
        }
    }
    Ok(())
}

fn tell(bypass: &Json, arguments: &ClientArguments) {
    if arguments.json {
        print_json(bypass);
        return;
    }
    print(&format!("{} {}", cell(bypass, "subject"), sentence(bypass)));
    print(&format!("  because  {}", cell(bypass, "reason")));
    print(&format!("  granted  {} by {}", cell(bypass, "granted_at"), cell(bypass, "granted_by")));
}

/// What holds for a subject with this bypass.
pub fn sentence(bypass: &Json) -> String {
    let expires = cell(bypass, "expires_at");
    match bypass.get("in_force").and_then(Json::as_bool) {
        Some(true) => format!("passes without limits until {expires}"),
        _ => format!("passed without limits until {expires}; its limits are in force again"),
    }
}
