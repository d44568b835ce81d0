//! `tollgate usage`: show, record, correct, corrections, export.

use std::io::Write as _;
use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};
use jiff::Timestamp;
use reqwest::Method;
use serde_json::{Value as Json, json};

use super::CliError;
use super::client::{Client, ClientArguments};
use super::output::{cell, items, print, print_json, table};

/// Most corrections that are shown.
const CORRECTIONS_MAX: usize = 1_000;

/// Show, record, correct and export what subjects used.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub struct UsageArguments {
    #[command(subcommand)]
    command: Option<UsageCommand>,
    /// Such as `user:alice` or `org:acme`.
    #[arg(required = true)]
    subject: Option<String>,
    /// By which labels it is summed, such as `route,model`.
    #[arg(long, value_name = "LABELS")]
    group: Option<String>,
    #[command(flatten)]
    range: Range,
    #[command(flatten)]
    client: ClientArguments,
}

/// Which usage.
#[derive(Debug, Args)]
struct Range {
    /// Only this meter.
    #[arg(long)]
    meter: Option<String>,
    /// RFC 3339. Default: the start of this month (UTC).
    #[arg(long, value_name = "TIME")]
    from: Option<Timestamp>,
    /// RFC 3339. Default: now.
    #[arg(long, value_name = "TIME")]
    to: Option<Timestamp>,
    /// By which periods it is summed.
    #[arg(long, value_enum, default_value_t = By::Day)]
    by: By,
}

impl Range {
    fn query(&self) -> Vec<(&'static str, String)> {
        let mut query = vec![("by", name_of(self.by))];
        query.extend(self.meter.clone().map(|meter| ("meter", meter)));
        query.extend(self.from.map(|from| ("from", from.to_string())));
        query.extend(self.to.map(|to| ("to", to.to_string())));
        query
    }
}

/// By which periods usage is summed.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum By {
    Hour,
    Day,
    Month,
    Total,
}

/// How usage is written.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum Format {
    Csv,
    Jsonl,
    Cloudevents,
}

#[derive(Debug, Subcommand)]
enum UsageCommand {
    /// Record usage that does not pass Envoy. The same key counts once, however often it is recorded.
    Record {
        /// Such as `user:alice` or `org:acme`.
        subject: String,
        /// A meter of the policy.
        meter: String,
        /// How much.
        units: u64,
        /// Names the entry among those of its source.
        #[arg(long)]
        key: String,
        /// Who records.
        #[arg(long, default_value = "tollgate")]
        source: String,
        /// When it was used, RFC 3339: in the last 35 days.
        #[arg(long, value_name = "TIME")]
        at: Timestamp,
        /// What its units are told apart by. May be repeated.
        #[arg(long = "label", value_name = "NAME=VALUE", value_parser = label)]
        labels: Vec<(String, String)>,
        #[command(flatten)]
        client: ClientArguments,
    },
    /// Correct what a subject used, by an entry of its own.
    Correct {
        /// Such as `user:alice` or `org:acme`.
        subject: String,
        /// The meter.
        meter: String,
        /// How much more was used; negative: how much less.
        #[arg(allow_negative_numbers = true)]
        units: i64,
        /// Why, for the audit log and whoever asks about an invoice.
        #[arg(long)]
        reason: String,
        /// When it counts, RFC 3339. Default: now.
        #[arg(long, value_name = "TIME")]
        at: Option<Timestamp>,
        /// Your own name for the correction: the same corrects once.
        #[arg(long)]
        key: Option<String>,
        /// What its units are told apart by. May be repeated.
        #[arg(long = "label", value_name = "NAME=VALUE", value_parser = label)]
        labels: Vec<(String, String)>,
        #[command(flatten)]
        client: ClientArguments,
    },
    /// List the corrections of a subject, the newest first.
    Corrections {
        /// Such as `user:alice` or `org:acme`.
        subject: String,
        #[command(flatten)]
        client: ClientArguments,
    },
    /// Write the usage of all subjects.
    Export {
        /// Where to. Default: what is printed.
        #[arg(long, value_name = "FILE")]
        output: Option<PathBuf>,
        /// How it is written.
        #[arg(long, value_enum, default_value_t = Format::Csv)]
        format: Format,
        #[command(flatten)]
        range: Range,
        #[command(flatten)]
        client: ClientArguments,
    },
}

/// Runs a command.
pub async fn run(arguments: UsageArguments) -> Result<(), CliError> {
    match arguments.command {
        None => show(&arguments).await,
        Some(UsageCommand::Record { subject, meter, units, key, source, at, labels, client: given }) => {
            let client = Client::new(&given)?;
            let labels: serde_json::Map<String, Json> = json_of(labels);
            let entry = json!({
                "key": key, "subject": subject, "meter": meter, "units": units, "at": at.to_string(), "labels": labels,
            });
            let request = client.request(Method::POST, &["v1", "usage"]);
            let done = client.send(request.json(&json!({ "source": source, "entries": [entry] }))).await?;
            match (given.json, done.get("recorded").and_then(Json::as_u64)) {
                (true, _) => print_json(&done),
                (false, Some(1)) => print(&format!("Recorded {units} {meter} of {subject}")),
                (false, _) => print("This was recorded before, and counts once"),
            }
            Ok(())
        }
        Some(UsageCommand::Correct { subject, meter, units, reason, at, key, labels, client: given }) => {
            let client = Client::new(&given)?;
            let mut body =
                json!({ "meter": meter, "units": units, "reason": reason, "labels": json_of(labels) });
            for (name, value) in [("at", at.map(|at| at.to_string())), ("key", key)] {
                if let (Some(value), Some(body)) = (value, body.as_object_mut()) {
                    body.insert(name.to_owned(), value.into());
                }
            }
            let request = client.request(Method::POST, &["v1", "subjects", &subject, "usage", "corrections"]);
            let made = client.send(request.json(&body)).await?;
            if given.json {
                print_json(&made);
            } else {
                print(&format!(
                    "Correction {} counts {units} {meter} for {subject} at {}",
                    cell(&made, "id"),
                    cell(&made, "at")
                ));
            }
            Ok(())
        }
        Some(UsageCommand::Corrections { subject, client: given }) => {
            let client = Client::new(&given)?;
            let path = ["v1", "subjects", &subject, "usage", "corrections"];
            let found = client.list(&path, &[], CORRECTIONS_MAX).await?;
            if given.json {
                print_json(&Json::Array(found));
                return Ok(());
            }
            let columns = ["id", "at", "meter", "units", "actor", "reason"];
            let rows: Vec<Vec<String>> =
                found.iter().map(|row| columns.map(|name| cell(row, name)).to_vec()).collect();
            print(&table(&columns, &rows));
            Ok(())
        }
        Some(UsageCommand::Export { output, format, range, client: given }) => {
            export(&Client::new(&given)?, output, format, &range).await
        }
    }
}

async fn show(arguments: &UsageArguments) -> Result<(), CliError> {
    let client = Client::new(&arguments.client)?;
    let subject = arguments.subject.as_deref().unwrap_or_default();
    let mut query = arguments.range.query();
    query.extend(arguments.group.clone().map(|group| ("group", group)));
    let request = client.request(Method::GET, &["v1", "subjects", subject, "usage"]);
    let usage = client.send(request.query(&query)).await?;
    if arguments.client.json {
        print_json(&usage);
        return Ok(());
    }
    let columns = ["meter", "start", "used", "taken", "freed"];
    let rows: Vec<Vec<String>> = items(&usage, "usage")
        .iter()
        .map(|sum| {
            let mut row = columns.map(|name| cell(sum, name)).to_vec();
            row.extend(arguments.group.is_some().then(|| labels_cell(sum)));
            row
        })
        .collect();
    print(&format!("{} from {} to {}", cell(&usage, "subject"), cell(&usage, "from"), cell(&usage, "to")));
    let mut heading = vec!["meter", "from", "used", "charged", "refunded"];
    heading.extend(arguments.group.is_some().then_some("labels"));
    print(&table(&heading, &rows));
    Ok(())
}

fn labels_cell(sum: &Json) -> String {
    let labels = sum.get("labels").and_then(Json::as_object);
    let label = |(name, value): (&String, &Json)| format!("{name}={}", value.as_str().unwrap_or_default());
    labels.into_iter().flatten().map(label).collect::<Vec<_>>().join(" ")
}

async fn export(
    client: &Client,
    output: Option<PathBuf>,
    format: Format,
    range: &Range,
) -> Result<(), CliError> {
    let mut query = range.query();
    query.push(("format", name_of(format)));
    let request = client.request(Method::GET, &["v1", "usage", "export"]).query(&query);
    let failed = |path: &Option<PathBuf>| {
        let path = path.clone().unwrap_or_else(|| PathBuf::from("standard output"));
        move |source: std::io::Error| CliError::Write { path, source }
    };
    let mut out: Box<dyn std::io::Write + Send> = match &output {
        Some(path) => {
            let file = std::fs::File::create(path).map_err(failed(&output))?;
            Box::new(std::io::BufWriter::new(file))
        }
        None => Box::new(std::io::stdout()),
    };
    let mut answer = client.open(request).await?;
    while let Some(piece) = client.next(&mut answer).await? {
        match out.write_all(&piece) {
            // A reader that went away (`| head`) is no error of ours.
            Err(error) if output.is_none() && error.kind() == std::io::ErrorKind::BrokenPipe => return Ok(()),
            written => written.map_err(failed(&output))?,
        }
    }
    out.flush().map_err(failed(&output))
}

fn name_of(value: impl ValueEnum) -> String {
    value.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
}

fn label(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("give a label as NAME=VALUE")?;
    Ok((name.to_owned(), value.to_owned()))
}

fn json_of(labels: Vec<(String, String)>) -> serde_json::Map<String, Json> {
    labels.into_iter().map(|(name, value)| (name, Json::String(value))).collect()
}
