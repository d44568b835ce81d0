//! `tollgate import`: users of another system, or everything that `tollgate export` wrote.

mod mapping;
mod source;

use std::collections::HashMap;
use std::io::{IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};

use clap::Args;
use reqwest::Method;
use serde_json::{Value as Json, json};

use super::CliError;
use super::client::{Client, ClientArguments};
use super::database::DatabaseUrl;
use super::output::{cell, items, print, print_json, table};
use mapping::Mapping;
use source::Format;

/// Rows of one request, and the bytes after which it gets no more of them.
const ROWS_MAX: usize = 500;
const BYTES_MAX: usize = 1 << 20;

/// Most rows that are printed for people; JSON has all.
const PRINTED_MAX: usize = 20;

/// What rows are counted by.
const COUNTS: [&str; 7] = ["created", "replaced", "unchanged", "kept", "unsubscribed", "archived", "failed"];

/// Import users of another system, with the tiers they get and what they had there.
#[derive(Debug, Args)]
pub struct ImportArguments {
    /// The file.
    file: PathBuf,
    /// How it is written. Default: as its name says.
    #[arg(long, value_enum)]
    format: Option<Format>,
    /// Load everything that `tollgate export` wrote into an empty database (--database-url), instead of users.
    #[arg(long, conflicts_with_all = ["tier", "fields", "archives", "dry_run", "replace", "format"])]
    everything: bool,
    #[command(flatten)]
    database: DatabaseUrl,
    #[command(flatten)]
    mapping: Mapping,
    /// Only tell what would be done.
    #[arg(long)]
    dry_run: bool,
    /// Replace subscriptions and archives that differ. Otherwise they are kept.
    #[arg(long)]
    replace: bool,
    #[command(flatten)]
    client: ClientArguments,
}

/// Imports users.
pub async fn run(arguments: ImportArguments) -> Result<(), CliError> {
    if arguments.everything {
        return super::database::load(&arguments.file, &arguments.database).await;
    }
    let (file, mapping) = (&arguments.file, &arguments.mapping);
    if mapping.tier.is_none() && mapping.fields.is_empty() && mapping.archives.is_empty() {
        return Err(CliError::Usage(
            "say which tier they get: --tier TIER for all, or --map tier=FIELD for each its own".to_owned(),
        ));
    }
    let mut report = Report::default();
    let rows = read(file, arguments.format, mapping, &mut report)?;
    let client = Client::new(&arguments.client)?;
    let progress = Progress { total: rows.len(), shown: std::io::stderr().is_terminal() };
    let mut sent = 0;
    while sent < rows.len() {
        let batch = batch(&rows, sent);
        let body = json!({
            "dry_run": arguments.dry_run,
            "replace": arguments.replace,
            "rows": batch.iter().map(|(_, row)| row).collect::<Vec<_>>(),
        });
        let told = client.send(client.request(Method::POST, &["v1", "import"]).json(&body)).await;
        // What went in before stays: the same import, run again, goes on from there.
        let told = told.inspect_err(|_| progress.tell_stopped(sent))?;
        report.add(&told, batch);
        sent += batch.len();
        progress.tell(sent);
    }
    progress.end();
    report.tell(&arguments)
}

/// A row and where it stands in the file.
type Placed = (String, Json);

/// Reads the file; what cannot be read of it goes into the report.
fn read(
    file: &Path,
    format: Option<Format>,
    mapping: &Mapping,
    report: &mut Report,
) -> Result<Vec<Placed>, CliError> {
    let format = format.or_else(|| Format::of(file)).ok_or_else(|| {
        CliError::Usage(format!("say how {} is written: --format json, jsonl or csv", file.display()))
    })?;
    let text = std::fs::read(file).map_err(|source| CliError::File { path: file.to_owned(), source })?;
    let records = format
        .read(&text)
        .map_err(|why| CliError::Usage(format!("{} cannot be imported: {why}", file.display())))?;
    let mut rows = Vec::with_capacity(records.len());
    let mut places: HashMap<String, String> = HashMap::new();
    for record in records {
        let row = record.fields.and_then(|fields| mapping.row(&fields)).and_then(|row| {
            let subject = cell(&row, "subject");
            match places.insert(subject.clone(), record.place.clone()) {
                Some(place) => Err(format!("{subject} is named by {place} already")),
                None => Ok(row),
            }
        });
        match row {
            Ok(row) => rows.push((record.place, row)),
            Err(why) => report.fail(record.place, why),
        }
    }
    Ok(rows)
}

fn batch(rows: &[Placed], from: usize) -> &[Placed] {
    let rest = rows.get(from..).unwrap_or_default();
    let mut bytes = 0;
    let fit = rest.iter().take(ROWS_MAX).take_while(|(_, row)| {
        bytes += row.to_string().len();
        bytes <= BYTES_MAX
    });
    // One that is too large alone is sent alone, and refused with a reason.
    let count = fit.count().max(1).min(rest.len());
    rest.get(..count).unwrap_or_default()
}

#[derive(Debug, Default)]
struct Report {
    counts: HashMap<&'static str, u64>,
    rows: Vec<Json>,
}

impl Report {
    fn fail(&mut self, place: String, why: String) {
        *self.counts.entry("failed").or_default() += 1;
        self.rows.push(json!({"place": place, "outcome": "failed", "code": "row-unreadable", "detail": why}));
    }

    fn add(&mut self, told: &Json, batch: &[Placed]) {
        for name in COUNTS {
            *self.counts.entry(name).or_default() +=
                told.get(name).and_then(Json::as_u64).unwrap_or_default();
        }
        for row in items(told, "rows") {
            let index = row.get("index").and_then(Json::as_u64).and_then(|index| usize::try_from(index).ok());
            let Some((place, sent)) = index.and_then(|index| batch.get(index)) else { continue };
            let mut row = row.clone();
            if let Some(row) = row.as_object_mut() {
                row.remove("index");
                row.insert("place".to_owned(), place.as_str().into());
                row.insert("subject".to_owned(), cell(sent, "subject").into());
            }
            self.rows.push(row);
        }
    }

    fn tell(&self, arguments: &ImportArguments) -> Result<(), CliError> {
        let count = |name: &str| self.counts.get(name).copied().unwrap_or_default();
        if arguments.client.json {
            let mut report = json!({"dry_run": arguments.dry_run, "rows": self.rows});
            for name in COUNTS {
                report[name] = count(name).into();
            }
            print_json(&report);
        } else {
            print(match arguments.dry_run {
                true => "Nothing was changed. The import would have come to:",
                false => "Imported:",
            });
            let counted = COUNTS.iter().map(|name| vec![(*name).to_owned(), count(name).to_string()]);
            print(&table(&["rows", "count"], &counted.collect::<Vec<_>>()));
            let rows = self.rows.iter().take(PRINTED_MAX);
            let rows: Vec<Vec<String>> = rows
                .map(|row| ["place", "subject", "outcome", "detail"].map(|name| cell(row, name)).to_vec())
                .collect();
            if !rows.is_empty() {
                print(&table(&["where", "subject", "outcome", "what to do"], &rows));
            }
            if self.rows.len() > PRINTED_MAX {
                print(&format!("… and {} more; --json prints all.", self.rows.len() - PRINTED_MAX));
            }
        }
        match count("failed") {
            0 => Ok(()),
            failed => Err(CliError::Usage(format!(
                "{failed} rows were not imported; correct them and run the same import again"
            ))),
        }
    }
}

/// How far it is, on a terminal.
struct Progress {
    total: usize,
    shown: bool,
}

impl Progress {
    fn tell(&self, done: usize) {
        if self.shown {
            eprint!("\r{done} of {} rows", self.total);
            // A terminal that is gone is no error of ours.
            let _ = std::io::stderr().flush();
        }
    }

    fn tell_stopped(&self, done: usize) {
        self.end();
        eprintln!(
            "stopped after {done} of {} rows; the same import, run again, goes on from there",
            self.total
        );
    }

    fn end(&self) {
        if self.shown && self.total > 0 {
            eprintln!();
        }
    }
}
