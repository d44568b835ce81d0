//! `tollgate subscription`: set, show, list, delete, and what is done with one.

use std::collections::BTreeMap;

use clap::{Args, Subcommand, ValueEnum};
use jiff::Timestamp;
use reqwest::Method;
use serde_json::{Value as Json, json};
use tollgate_policy::document::Maximum;

use super::CliError;
use super::client::{Client, ClientArguments};
use super::output::{cell, items, print, print_json, table};
use super::subscription_action::ActionCommand;

/// Most subscriptions that are listed.
const LISTED_MAX: usize = 10_000;

/// Set and look at what subjects have bought.
#[derive(Debug, Args)]
pub struct SubscriptionArguments {
    #[command(subcommand)]
    command: SubscriptionCommand,
}

#[derive(Debug, Subcommand)]
enum SubscriptionCommand {
    /// Make or replace a subscription. Every edge feels it within a second.
    Set {
        /// Such as `user:alice` or `org:acme`.
        subject: String,
        /// A tier of the policy in force.
        #[arg(long)]
        tier: String,
        /// Where it is in its life.
        #[arg(long, value_enum, default_value_t = State::Active)]
        state: State,
        /// Start of the first billing period, RFC 3339. Default: the one it has, else now.
        #[arg(long, value_name = "TIME")]
        anchor: Option<Timestamp>,
        /// From this moment on the tier is no longer in force, RFC 3339.
        #[arg(long, value_name = "TIME")]
        expires: Option<Timestamp>,
        /// End of its trial, of one that is trialing, RFC 3339.
        #[arg(long, value_name = "TIME")]
        trial_ends: Option<Timestamp>,
        /// A maximum for this subject alone, such as `api_calls.day=5000` or `api_calls.day=unlimited`. May be repeated.
        #[arg(long = "override", value_name = "LIMIT=UNITS", value_parser = parse_override)]
        overrides: Vec<(String, Maximum)>,
        #[command(flatten)]
        client: ClientArguments,
    },
    /// Show a subject's subscription.
    Show {
        /// Such as `user:alice` or `org:acme`.
        subject: String,
        #[command(flatten)]
        client: ClientArguments,
    },
    /// List subscriptions, by subject.
    List {
        /// Only those of this tier.
        #[arg(long)]
        tier: Option<String>,
        /// Only those in this state.
        #[arg(long, value_enum)]
        state: Option<State>,
        #[command(flatten)]
        client: ClientArguments,
    },
    /// Delete a subscription. What was used stays used.
    Delete {
        /// Such as `user:alice` or `org:acme`.
        subject: String,
        #[command(flatten)]
        client: ClientArguments,
    },
    #[command(flatten)]
    Action(ActionCommand),
}

/// Where a subscription is in its life.
#[derive(Debug, Clone, Copy, ValueEnum)]
#[value(rename_all = "snake_case")]
pub(super) enum State {
    Active,
    Trialing,
    PastDue,
    Cancelled,
    Pending,
    Paused,
    Expired,
}

impl State {
    pub(super) fn name(self) -> String {
        self.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
    }
}

fn parse_override(text: &str) -> Result<(String, Maximum), String> {
    let (limit, units) = text.split_once('=').ok_or("write it as LIMIT=UNITS")?;
    let maximum = match units {
        "unlimited" => Maximum::Unlimited,
        units => Maximum::Units(units.parse().map_err(|_| "the units must be a whole number, or unlimited")?),
    };
    Ok((limit.to_owned(), maximum))
}

/// Runs a command.
pub async fn run(arguments: SubscriptionArguments) -> Result<(), CliError> {
    match arguments.command {
        SubscriptionCommand::Action(action) => action.run().await?,
        SubscriptionCommand::Set {
            subject,
            tier,
            state,
            anchor,
            expires,
            trial_ends,
            overrides,
            client: arguments,
        } => {
            let mut body = json!({
                "tier": tier,
                "state": state.name(),
                "overrides": overrides.into_iter().collect::<BTreeMap<_, _>>(),
            });
            if let Some(anchor) = anchor {
                body["anchor_ms"] = anchor.as_millisecond().into();
            }
            if let Some(expires) = expires {
                body["expires_at_ms"] = expires.as_millisecond().into();
            }
            if let Some(ends) = trial_ends {
                body["trial_ends_at_ms"] = ends.as_millisecond().into();
            }
            let client = Client::new(&arguments)?;
            let request = client.request(Method::PUT, &["v1", "subscriptions", &subject]);
            let subscription = client.send(request.json(&body)).await?;
            tell(&subscription, &arguments);
        }
        SubscriptionCommand::Show { subject, client: arguments } => {
            let client = Client::new(&arguments)?;
            let request = client.request(Method::GET, &["v1", "subscriptions", &subject]);
            tell(&client.send(request).await?, &arguments);
        }
        SubscriptionCommand::List { tier, state, client: arguments } => {
            let client = Client::new(&arguments)?;
            let state = state.map(State::name);
            let mut query = Vec::new();
            query.extend(tier.as_deref().map(|tier| ("tier", tier)));
            query.extend(state.as_deref().map(|state| ("state", state)));
            let found = client.list(&["v1", "subscriptions"], &query, LISTED_MAX).await?;
            if arguments.json {
                print_json(&Json::Array(found));
                return Ok(());
            }
            let rows: Vec<Vec<String>> = found
                .iter()
                .map(|s| {
                    vec![cell(s, "subject"), cell(s, "tier"), cell(s, "state"), moment(s, "expires_at_ms")]
                })
                .collect();
            print(&table(&["subject", "tier", "state", "expires"], &rows));
        }
        SubscriptionCommand::Delete { subject, client: arguments } => {
            let client = Client::new(&arguments)?;
            client.send(client.request(Method::DELETE, &["v1", "subscriptions", &subject])).await?;
            if !arguments.json {
                print(&format!("{subject} has no subscription any more."));
            }
        }
    }
    Ok(())
}

pub(super) fn tell(subscription: &Json, arguments: &ClientArguments) {
    if arguments.json {
        print_json(subscription);
        return;
    }
    let in_force = subscription.get("in_force").and_then(Json::as_bool).unwrap_or_default();
    print(&format!(
        "{} has {} ({}{})",
        cell(subscription, "subject"),
        cell(subscription, "tier"),
        cell(subscription, "state"),
        if in_force { "" } else { ", not in force" }
    ));
    print(&format!("  billed from  {}", moment(subscription, "anchor_ms")));
    print(&format!("  expires      {}", moment(subscription, "expires_at_ms")));
    print(&format!("  period ends  {}", moment(subscription, "current_period_ends_at_ms")));
    if subscription.get("trial_ends_at_ms").is_some_and(Json::is_i64) {
        print(&format!("  trial ends   {}", moment(subscription, "trial_ends_at_ms")));
    }
    for change in items(subscription, "changes") {
        let to = ["tier", "state"].map(|name| cell(change, name)).into_iter();
        let to: Vec<String> = to.filter(|to| to != "-" && !to.is_empty()).collect();
        print(&format!("  scheduled    {}: {}", moment(change, "at_ms"), to.join(", ")));
    }
    let overrides = subscription.get("overrides").and_then(Json::as_object);
    for (limit, units) in overrides.into_iter().flatten() {
        print(&format!(
            "  override     {limit} = {}",
            units.as_str().map_or(units.to_string(), str::to_owned)
        ));
    }
}

fn moment(json: &Json, name: &str) -> String {
    let at = json.get(name).and_then(Json::as_i64).and_then(|ms| Timestamp::from_millisecond(ms).ok());
    at.map_or_else(|| "-".to_owned(), |at| at.to_string())
}
