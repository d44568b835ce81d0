//! `tollgate explain`: what an edge would do with a request, and why.

use std::path::PathBuf;

use clap::Args;
use reqwest::Method;
use serde_json::{Map, Value as Json, json};

use super::CliError;
use super::client::{Client, ClientArguments};
use super::output::{cell, items, print, print_json, table};

/// Explain what an edge would do with a request: who is charged what, how the limits stand, and what is decided. Nothing is
/// taken for it.
#[derive(Debug, Args)]
pub struct ExplainArguments {
    /// Such as `GET`.
    method: String,
    /// The path, perhaps with a query, as a client sends it.
    path: String,
    /// The caller's token; without it and --subject, a caller without one. (--token is yours.)
    #[arg(long, value_name = "TOKEN", conflicts_with = "subject")]
    bearer: Option<String>,
    /// Whose token it would be, such as `user:alice`, `org:acme` or `member:acme/alice`.
    #[arg(long)]
    subject: Option<String>,
    /// The tier that the token of --subject would claim.
    #[arg(long, value_name = "TIER", requires = "subject")]
    tier_claim: Option<String>,
    /// A header, such as `x-items: 3`; may be repeated.
    #[arg(short = 'H', long = "header", value_name = "NAME:VALUE", value_parser = header)]
    headers: Vec<(String, String)>,
    /// The host.
    #[arg(long)]
    host: Option<String>,
    /// The body, or `@FILE`.
    #[arg(long, value_name = "TEXT|@FILE")]
    body: Option<String>,
    /// The address that the request comes from, of a caller without a token.
    #[arg(long, value_name = "ADDRESS")]
    client_address: Option<String>,
    #[command(flatten)]
    client: ClientArguments,
}

fn header(text: &str) -> Result<(String, String), String> {
    match text.split_once(':') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_ascii_lowercase(), value.trim().to_owned())),
        _ => Err("write it as NAME:VALUE".to_owned()),
    }
}

/// Explains a request.
pub async fn run(arguments: ExplainArguments) -> Result<(), CliError> {
    let client = Client::new(&arguments.client)?;
    let wish = wish_of(&arguments)?;
    let explained = client.send(client.request(Method::POST, &["v1", "explain"]).json(&wish)).await?;
    match arguments.client.json {
        true => print_json(&explained),
        false => print(&text_of(&explained, &format!("{} {}", arguments.method, arguments.path))),
    }
    Ok(())
}

fn wish_of(arguments: &ExplainArguments) -> Result<Json, CliError> {
    let mut headers: Map<String, Json> = Map::new();
    for (name, value) in &arguments.headers {
        let values = headers.entry(name.clone()).or_insert_with(|| json!([]));
        if let Some(values) = values.as_array_mut() {
            values.push(json!(value));
        }
    }
    let body = match arguments.body.as_deref().map(|body| body.strip_prefix('@').ok_or(body)) {
        None => None,
        Some(Err(text)) => Some(text.to_owned()),
        Some(Ok(file)) => {
            let path = PathBuf::from(file);
            Some(std::fs::read_to_string(&path).map_err(|source| CliError::File { path, source })?)
        }
    };
    Ok(json!({
        "token": arguments.bearer, "subject": arguments.subject, "tier_claim": arguments.tier_claim,
        "method": arguments.method, "path": arguments.path, "host": arguments.host, "headers": headers,
        "body": body, "client_address": arguments.client_address,
    }))
}

/// The answer for people: what is decided first, then why.
fn text_of(explained: &Json, request: &str) -> String {
    let null = Json::Null;
    let of = |name: &str| explained.get(name).unwrap_or(&null);
    let mut lines = vec![decision_of(of("decision"), request)];
    lines.extend(watched_of(of("decision")));
    lines.push(String::new());
    lines.push(caller_of(of("caller"), of("public") == &Json::Bool(true)));
    lines.extend(items(explained, "calls").iter().enumerate().map(|(position, call)| {
        let tool =
            call.get("tool").and_then(Json::as_str).map(|tool| format!(" ({tool})")).unwrap_or_default();
        format!("Call {position}: {}{tool} takes the route {}", cell(call, "method"), cell(call, "route"))
    }));
    lines.extend(items(explained, "routes").iter().map(route_of));
    if !items(explained, "limits").is_empty() {
        let columns =
            ["limit", "maximum", "used", "leased", "remaining", "needed", "enforcement", "window_end"];
        let row = |limit: &Json| columns.map(|name| cell(limit, name)).to_vec();
        let rows: Vec<Vec<String>> = items(explained, "limits").iter().map(row).collect();
        let heading = ["limit", "maximum", "used", "leased", "remaining", "needed", "holds", "until"];
        lines.push(String::new());
        lines.push(table(&heading, &rows).trim_end().to_owned());
    }
    let notes = items(explained, "notes").iter().filter_map(Json::as_str).map(|note| format!("Note: {note}"));
    let notes: Vec<String> = notes.collect();
    if !notes.is_empty() {
        lines.push(String::new());
        lines.extend(notes);
    }
    lines.join("\n")
}

fn decision_of(decision: &Json, request: &str) -> String {
    match decision.get("outcome").and_then(Json::as_str) {
        Some("deny") => format!("{request} is refused with {}", refusal_of(decision)),
        _ => format!("{request} passes."),
    }
}

/// What is only watched, and what is beyond a soft limit.
fn watched_of(decision: &Json) -> Vec<String> {
    let names =
        |name: &str| items(decision, name).iter().filter_map(Json::as_str).collect::<Vec<_>>().join(", ");
    let mut lines = Vec::new();
    if let Some(refusal) = decision.get("would_deny") {
        lines.push(format!("If it were enforced, it would be refused with {}", refusal_of(refusal)));
    } else if !items(decision, "shadow").is_empty() {
        lines.push(format!("Refusals that are only watched: {}", names("shadow")));
    }
    if !items(decision, "over").is_empty() {
        lines.push(format!("It goes beyond soft limits: {}", names("over")));
    }
    lines
}

fn refusal_of(refusal: &Json) -> String {
    let text = |name: &str| cell(refusal, name);
    let calls: Vec<String> = items(refusal, "calls").iter().map(ToString::to_string).collect();
    let calls = if calls.is_empty() { String::new() } else { format!(" (calls {})", calls.join(", ")) };
    format!("{} {}{calls}: {}", text("status"), text("code"), text("detail"))
}

fn caller_of(caller: &Json, is_public: bool) -> String {
    if !caller.is_object() {
        let why = if is_public {
            "Nobody is charged, and nothing is limited."
        } else {
            "It is not known who calls."
        };
        return why.to_owned();
    }
    let member = caller.get("member").and_then(Json::as_str).map(|member| format!(", for its {member}"));
    let tier = match caller.get("tier").and_then(Json::as_str) {
        Some(tier) => format!("has {tier} (from its {})", cell(caller, "tier_from")),
        None => "has no tier".to_owned(),
    };
    let bypass = caller.get("bypass_until").and_then(Json::as_str);
    let bypass = bypass.map(|until| format!(", and passes all limits until {until}"));
    format!("{}{} {tier}{}", cell(caller, "subject"), member.unwrap_or_default(), bypass.unwrap_or_default())
}

fn route_of(route: &Json) -> String {
    let charge = |charge: &Json| {
        let flag = |name: &str| charge.get(name).and_then(Json::as_bool).unwrap_or(false);
        let verb = if flag("release") { "gives back" } else { "charges" };
        let estimate = if flag("estimate") { ", an estimate" } else { "" };
        let (units, meter, source) = (cell(charge, "units"), cell(charge, "meter"), cell(charge, "source"));
        format!("{verb} {units} {meter} ({source}{estimate})")
    };
    let charges: Vec<String> = items(route, "charges").iter().map(charge).collect();
    let charges = if charges.is_empty() { "charges nothing".to_owned() } else { charges.join(", ") };
    format!("Route {} (auth {}): {charges}", cell(route, "name"), cell(route, "auth"))
}
