//! `tollgate subject`: what a subject has.

use clap::Args;
use reqwest::Method;
use serde_json::Value as Json;

use super::CliError;
use super::client::{Client, ClientArguments};
use super::output::{cell, items, print, print_json, table};

/// Show what a subject has at this moment.
#[derive(Debug, Args)]
pub struct SubjectArguments {
    /// Such as `user:alice` or `org:acme`.
    subject: String,
    #[command(flatten)]
    client: ClientArguments,
}

/// Shows a subject.
pub async fn run(arguments: SubjectArguments) -> Result<(), CliError> {
    let client = Client::new(&arguments.client)?;
    let subject = client.send(client.request(Method::GET, &["v1", "subjects", &arguments.subject])).await?;
    if arguments.client.json {
        print_json(&subject);
        return Ok(());
    }
    print(&format!(
        "{} has {} (from its {})",
        cell(&subject, "subject"),
        cell(&subject, "tier"),
        cell(&subject, "tier_from")
    ));
    if let Some(bypass) = subject.get("bypass").filter(|bypass| bypass.is_object()) {
        print(&format!("It {}", super::bypass::sentence(bypass)));
    }
    if let Some(organization) = subject.get("organization").and_then(Json::as_str) {
        print(&format!("Its limits are those of a member of {organization}"));
    }
    let rows: Vec<Vec<String>> = items(&subject, "limits").iter().map(row_of).collect();
    print(&table(&["limit", "kind", "units", "used", "leased", "remaining", "until", "notes"], &rows));
    Ok(())
}

/// A limit as it stands.
fn row_of(limit: &Json) -> Vec<String> {
    let columns = ["limit", "kind", "units", "used", "leased", "remaining", "window_end"];
    let mut row = columns.map(|name| cell(limit, name)).to_vec();
    let number = |name: &str| limit.get(name).and_then(Json::as_u64);
    let mut notes = Vec::new();
    notes.extend(limit.get("soft").and_then(Json::as_bool).filter(|soft| *soft).map(|_| "soft".to_owned()));
    notes.extend(number("overage").map(|units| format!("{units} over")));
    notes.extend(number("clamped").map(|units| format!("{units} released that were not there")));
    notes.extend(number("refill_ms").map(|ms| format!("fills in {}", seconds(ms))));
    notes.extend(number("sliding_ms").map(|ms| format!("in any {}", seconds(ms))));
    row.push(notes.join(", "));
    row
}

/// A length of time in its largest whole unit, or seconds.
fn seconds(ms: u64) -> String {
    match ms {
        ms if ms % 3_600_000 == 0 => format!("{} h", ms / 3_600_000),
        ms if ms % 60_000 == 0 => format!("{} min", ms / 60_000),
        ms if ms % 1_000 == 0 => format!("{} s", ms / 1_000),
        ms => format!("{ms} ms"),
    }
}
