//! `tollgate events`: endpoints (add, list, change, rotate, remove, test, recover), list, show, redeliver.

use clap::{Args, Subcommand};
use jiff::Timestamp;
use reqwest::Method;
use serde_json::{Map, Value as Json, json};

use super::CliError;
use super::client::{Client, ClientArguments};
use super::output::{cell, items, print, print_json, table};

/// Most events and deliveries that a list prints.
const LISTED_MAX: usize = 1_000;

/// Tell other systems what happens, and look at what became of it.
#[derive(Debug, Args)]
pub struct EventsArguments {
    #[command(subcommand)]
    command: EventsCommand,
}

#[derive(Debug, Subcommand)]
enum EventsCommand {
    /// Tell events at an address from now on. Prints the secret they are signed with, this once.
    Add {
        /// Such as `https://example.com/hooks`.
        url: String,
        /// A type that is told, such as `threshold.reached`; may be given more than once. Default: all.
        #[arg(long = "type", value_name = "TYPE")]
        types: Vec<String>,
        /// For people.
        #[arg(long)]
        description: Option<String>,
        #[command(flatten)]
        client: ClientArguments,
    },
    /// List the endpoints.
    Endpoints {
        #[command(flatten)]
        client: ClientArguments,
    },
    /// Tell an endpoint nothing until it is enabled again.
    Disable {
        /// The endpoint's id.
        endpoint: String,
        #[command(flatten)]
        client: ClientArguments,
    },
    /// Tell an endpoint events again, and what it missed.
    Enable {
        /// The endpoint's id.
        endpoint: String,
        #[command(flatten)]
        client: ClientArguments,
    },
    /// Delete an endpoint.
    Remove {
        /// The endpoint's id.
        endpoint: String,
        #[command(flatten)]
        client: ClientArguments,
    },
    /// Replace an endpoint's secret. Prints the new one, this once.
    Rotate {
        /// The endpoint's id.
        endpoint: String,
        /// For how many hours the secret before goes on signing too.
        #[arg(long, default_value_t = 24, value_name = "HOURS")]
        overlap: u32,
        #[command(flatten)]
        client: ClientArguments,
    },
    /// Send an endpoint a test event.
    Test {
        /// The endpoint's id.
        endpoint: String,
        #[command(flatten)]
        client: ClientArguments,
    },
    /// Tell an endpoint again what was given up.
    Recover {
        /// The endpoint's id.
        endpoint: String,
        /// Events since this moment, RFC 3339.
        #[arg(long, value_name = "TIME")]
        since: Timestamp,
        #[command(flatten)]
        client: ClientArguments,
    },
    /// List what happened and was told, the newest first.
    List {
        /// Only events of this type.
        #[arg(long = "type", value_name = "TYPE")]
        kind: Option<String>,
        /// Only events that concern this subject.
        #[arg(long)]
        subject: Option<String>,
        #[command(flatten)]
        client: ClientArguments,
    },
    /// Show an event, and what became of it at each endpoint.
    Show {
        /// The event's id.
        event: String,
        #[command(flatten)]
        client: ClientArguments,
    },
    /// Tell an event again: at one endpoint, or at all where it has not arrived.
    Redeliver {
        /// The event's id.
        event: String,
        /// Only at this endpoint, even if it has arrived there.
        #[arg(long)]
        endpoint: Option<String>,
        #[command(flatten)]
        client: ClientArguments,
    },
}

/// Runs a command.
pub async fn run(arguments: EventsArguments) -> Result<(), CliError> {
    match arguments.command {
        EventsCommand::Add { url, types, description, client: arguments } => {
            let client = Client::new(&arguments)?;
            let body = json!({ "url": url, "types": types, "description": description });
            let request = client.request(Method::POST, &["v1", "event-endpoints"]);
            let made = client.send(request.json(&body)).await?;
            tell(&arguments, &made, |made| {
                format!("{} is told at {}", cell(made, "id"), cell(made, "url")) + &secret_line(made)
            });
        }
        EventsCommand::Endpoints { client: arguments } => {
            let client = Client::new(&arguments)?;
            let found = client.list(&["v1", "event-endpoints"], &[], LISTED_MAX).await?;
            tell(&arguments, &json!(found), |found| {
                endpoints_table(found.as_array().map_or(&[], Vec::as_slice))
            });
        }
        EventsCommand::Disable { endpoint, client } => {
            change(&endpoint, json!({ "enabled": false }), &client).await?;
        }
        EventsCommand::Enable { endpoint, client } => {
            change(&endpoint, json!({ "enabled": true }), &client).await?;
        }
        EventsCommand::Remove { endpoint, client: arguments } => {
            let client = Client::new(&arguments)?;
            client.send(client.request(Method::DELETE, &["v1", "event-endpoints", &endpoint])).await?;
            if !arguments.json {
                print(&format!("{endpoint} is told nothing any more."));
            }
        }
        EventsCommand::Rotate { endpoint, overlap, client: arguments } => {
            let client = Client::new(&arguments)?;
            let request = client.request(Method::POST, &["v1", "event-endpoints", &endpoint, "rotate"]);
            let made = client.send(request.json(&json!({ "overlap_hours": overlap }))).await?;
            tell(&arguments, &made, |made| {
                let old = items(made, "old_secrets_until").first().and_then(Json::as_str);
                let old = old.map(|until| format!("; the secret before until {until}")).unwrap_or_default();
                format!("{endpoint} has a new secret{old}") + &secret_line(made)
            });
        }
        EventsCommand::Test { endpoint, client: arguments } => {
            let client = Client::new(&arguments)?;
            let request = client.request(Method::POST, &["v1", "event-endpoints", &endpoint, "test"]);
            let sent = client.send(request).await?;
            tell(&arguments, &sent, |sent| {
                let event = cell(sent, "event");
                format!("{event} is on its way; `tollgate events show {event}` says what becomes of it.")
            });
        }
        EventsCommand::Recover { endpoint, since, client: arguments } => {
            let client = Client::new(&arguments)?;
            let request = client.request(Method::POST, &["v1", "event-endpoints", &endpoint, "recover"]);
            let again = client.send(request.json(&json!({ "since": since.to_string() }))).await?;
            tell(&arguments, &again, |again| format!("{} events are told again.", cell(again, "events")));
        }
        EventsCommand::List { kind, subject, client: arguments } => {
            let client = Client::new(&arguments)?;
            let query = [("type", kind.as_deref()), ("subject", subject.as_deref())];
            let query: Vec<(&str, &str)> =
                query.into_iter().filter_map(|(name, value)| Some((name, value?))).collect();
            let found = client.list(&["v1", "events"], &query, LISTED_MAX).await?;
            tell(&arguments, &json!(found), |found| {
                events_table(found.as_array().map_or(&[], Vec::as_slice))
            });
        }
        EventsCommand::Show { event, client: arguments } => {
            let client = Client::new(&arguments)?;
            let found = client.send(client.request(Method::GET, &["v1", "events", &event])).await?;
            tell(&arguments, &found, event_text);
        }
        EventsCommand::Redeliver { event, endpoint, client: arguments } => {
            let client = Client::new(&arguments)?;
            let request = client.request(Method::POST, &["v1", "events", &event, "redeliver"]);
            let mut body = Map::new();
            body.extend(endpoint.map(|endpoint| ("endpoint".to_owned(), json!(endpoint))));
            let again = client.send(request.json(&body)).await?;
            tell(&arguments, &again, |again| match items(again, "endpoints") {
                [] => format!("{event} has arrived everywhere; name an --endpoint to tell it there again."),
                told => {
                    let told: Vec<&str> = told.iter().filter_map(Json::as_str).collect();
                    format!("{event} is told again at {}.", told.join(", "))
                }
            });
        }
    }
    Ok(())
}

async fn change(endpoint: &str, body: Json, arguments: &ClientArguments) -> Result<(), CliError> {
    let client = Client::new(arguments)?;
    let request = client.request(Method::PATCH, &["v1", "event-endpoints", endpoint]);
    let changed = client.send(request.json(&body)).await?;
    tell(arguments, &changed, |changed| endpoints_table(std::slice::from_ref(changed)));
    Ok(())
}

fn tell(arguments: &ClientArguments, found: &Json, text: impl Fn(&Json) -> String) {
    match arguments.json {
        true => print_json(found),
        false => print(&text(found)),
    }
}

fn secret_line(made: &Json) -> String {
    format!("\n  secret  {}\nKeep it: it is not shown again.", cell(made, "secret"))
}

fn endpoints_table(endpoints: &[Json]) -> String {
    let rows: Vec<Vec<String>> = endpoints
        .iter()
        .map(|endpoint| {
            let types: Vec<&str> = items(endpoint, "types").iter().filter_map(Json::as_str).collect();
            let types = if types.is_empty() { "all".to_owned() } else { types.join(", ") };
            let state = match (endpoint.get("enabled").and_then(Json::as_bool), endpoint.get("failing_since"))
            {
                (Some(true), None) => "enabled".to_owned(),
                (Some(true), Some(_)) => format!("failing since {}", cell(endpoint, "failing_since")),
                _ => format!("disabled: {}", cell(endpoint, "disabled_because")),
            };
            vec![cell(endpoint, "id"), cell(endpoint, "url"), types, state]
        })
        .collect();
    table(&["endpoint", "url", "types", "state"], &rows)
}

fn events_table(events: &[Json]) -> String {
    let rows: Vec<Vec<String>> = events
        .iter()
        .map(|event| ["id", "at", "type", "subject"].iter().map(|name| cell(event, name)).collect())
        .collect();
    table(&["event", "at", "type", "subject"], &rows)
}

fn event_text(event: &Json) -> String {
    let heading = format!("{} {} at {}", cell(event, "id"), cell(event, "type"), cell(event, "at"));
    let payload = event.get("payload").map(|payload| format!("{payload:#}")).unwrap_or_default();
    let mut rows = Vec::new();
    for delivery in items(event, "deliveries") {
        let state = match delivery.get("next_at") {
            Some(_) => format!("pending until {}", cell(delivery, "next_at")),
            None => cell(delivery, "state"),
        };
        rows.push(vec![cell(delivery, "endpoint"), state, String::new(), String::new()]);
        for attempt in items(delivery, "log") {
            let outcome = match attempt.get("error") {
                Some(_) => cell(attempt, "error"),
                None => format!("answered {}", cell(attempt, "status")),
            };
            rows.push(vec![
                String::new(),
                cell(attempt, "at"),
                format!("{} ms", cell(attempt, "took_ms")),
                outcome,
            ]);
        }
    }
    format!("{heading}\n{payload}\n\n{}", table(&["endpoint", "state", "took", "outcome"], &rows))
}
