//! `tollgate policy`: apply, preview, check, show, versions, rollback, schema.

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand, ValueEnum};
use reqwest::{Method, header};
use serde_json::{Value as Json, json};
use tollgate_control_plane::service::policy::check;
use tollgate_policy::document::{Fault, KeySource, PolicyDocument, json_schema, parse};

use super::CliError;
use super::client::{Client, ClientArguments};
use super::output::{cell, items, print, print_json, table};

/// Most versions that are listed.
const VERSIONS_MAX: usize = 1_000;

/// Apply, check and look at policies.
#[derive(Debug, Args)]
pub struct PolicyArguments {
    #[command(subcommand)]
    command: PolicyCommand,
}

#[derive(Debug, Subcommand)]
enum PolicyCommand {
    /// Put a policy in force at every edge.
    Apply {
        /// The policy, YAML or JSON. Key files that it names are put into it.
        file: PathBuf,
        /// Words on this version, for its history.
        #[arg(long)]
        note: Option<String>,
        /// Only tell what would change.
        #[arg(long)]
        dry_run: bool,
        /// For whom tiers that differ do; with `new_subscribers`, who has one keeps it as it is.
        #[arg(long, value_enum, default_value_t = ChangedTiers::All)]
        changed_tiers: ChangedTiers,
        /// Only if this version is still in force (0: none).
        #[arg(long, value_name = "VERSION")]
        expect: Option<i64>,
        #[command(flatten)]
        client: ClientArguments,
    },
    /// Tell what a policy would do to tiers, and to how many of those who have them. Nothing is changed.
    Preview {
        /// The policy, YAML or JSON. Key files that it names are put into it.
        file: PathBuf,
        /// For whom tiers that differ would do.
        #[arg(long, value_enum, default_value_t = ChangedTiers::All)]
        changed_tiers: ChangedTiers,
        #[command(flatten)]
        client: ClientArguments,
    },
    /// Check a policy without a control plane; says all that is wrong, with lines.
    Check {
        /// The policy, YAML or JSON.
        file: PathBuf,
    },
    /// Show the policy in force, as it was written.
    Show {
        /// Another version.
        #[arg(long)]
        version: Option<i64>,
        #[command(flatten)]
        client: ClientArguments,
    },
    /// List all versions, the newest first.
    Versions {
        #[command(flatten)]
        client: ClientArguments,
    },
    /// Put an earlier version in force again.
    Rollback {
        /// The version.
        version: i64,
        #[command(flatten)]
        client: ClientArguments,
    },
    /// Print the JSON Schema of policies, for editors.
    Schema,
}

/// For whom tiers that differ do.
#[derive(Debug, Clone, Copy, ValueEnum)]
#[value(rename_all = "snake_case")]
enum ChangedTiers {
    /// For all.
    All,
    /// For those who subscribe from now on.
    NewSubscribers,
}

impl ChangedTiers {
    fn name(self) -> String {
        self.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
    }
}

/// Runs a command.
pub async fn run(arguments: PolicyArguments) -> Result<(), CliError> {
    match arguments.command {
        PolicyCommand::Apply { file, note, dry_run, changed_tiers, expect, client } => {
            let query = [("dry_run", dry_run.to_string()), ("changed_tiers", changed_tiers.name())];
            apply(&file, note.as_deref(), &query, expect, &client).await
        }
        PolicyCommand::Preview { file, changed_tiers, client: arguments } => {
            let (_, text) = read(&file)?;
            let client = Client::new(&arguments)?;
            let request = client
                .request(Method::POST, &["v1", "policy", "preview"])
                .header(header::CONTENT_TYPE, "application/yaml")
                .query(&[("changed_tiers", changed_tiers.name())])
                .body(text);
            tell_preview(&client.send(request).await?, &arguments);
            Ok(())
        }
        PolicyCommand::Check { file } => {
            let (document, _) = read(&file)?;
            print(&format!(
                "{} is a good policy: {} tiers, {} meters, {} routes.",
                file.display(),
                document.tiers.len(),
                document.meters.len(),
                document.routes.len()
            ));
            Ok(())
        }
        PolicyCommand::Show { version, client: arguments } => {
            let client = Client::new(&arguments)?;
            let version = version.map(|version| version.to_string());
            let segments = match &version {
                Some(version) => vec!["v1", "policy", "versions", version],
                None => vec!["v1", "policy"],
            };
            let policy = client.send(client.request(Method::GET, &segments)).await?;
            if arguments.json {
                print_json(&policy);
            } else {
                print(&format!("# version {}, of {}", cell(&policy, "version"), cell(&policy, "created_at")));
                print(&cell(&policy, "source"));
            }
            Ok(())
        }
        PolicyCommand::Versions { client: arguments } => {
            let client = Client::new(&arguments)?;
            let versions = client.list(&["v1", "policy", "versions"], &[], VERSIONS_MAX).await?;
            if arguments.json {
                print_json(&Json::Array(versions));
                return Ok(());
            }
            let columns = ["version", "created_at", "created_by", "note"];
            let rows: Vec<Vec<String>> =
                versions.iter().map(|version| columns.map(|name| cell(version, name)).to_vec()).collect();
            print(&table(&["version", "applied", "by", "note"], &rows));
            Ok(())
        }
        PolicyCommand::Rollback { version, client: arguments } => {
            let client = Client::new(&arguments)?;
            let request = client.request(Method::POST, &["v1", "policy", "rollback"]);
            let applied = client.send(request.json(&json!({ "version": version }))).await?;
            tell_applied(&applied, &arguments, false);
            Ok(())
        }
        PolicyCommand::Schema => {
            print_json(&json_schema());
            Ok(())
        }
    }
}

async fn apply(
    file: &Path,
    note: Option<&str>,
    query: &[(&str, String); 2],
    expect: Option<i64>,
    arguments: &ClientArguments,
) -> Result<(), CliError> {
    let dry_run = query.contains(&("dry_run", true.to_string()));
    let (_, text) = read(file)?;
    let client = Client::new(arguments)?;
    let mut request = client
        .request(Method::PUT, &["v1", "policy"])
        .header(header::CONTENT_TYPE, "application/yaml")
        .query(query)
        .body(text);
    if let Some(note) = note {
        request = request.query(&[("note", note)]);
    }
    if let Some(version) = expect {
        request = request.header(header::IF_MATCH, format!("\"{version}\""));
    }
    let applied = client.send(request).await?;
    tell_applied(&applied, arguments, dry_run);
    Ok(())
}

fn tell_applied(applied: &Json, arguments: &ClientArguments, dry_run: bool) {
    if arguments.json {
        print_json(applied);
        return;
    }
    let version = cell(applied, "version");
    let changed = applied.get("changed").and_then(Json::as_bool).unwrap_or_default();
    print(&match (changed, dry_run) {
        (false, _) => format!("Nothing to change: version {version} is in force."),
        (true, true) => format!("Version {version} would be in force. It changes:"),
        (true, false) => format!("Version {version} is in force. It changed:"),
    });
    for change in items(applied, "changes") {
        print(&format!("  {:<8} {}", cell(change, "kind"), cell(change, "path")));
    }
}

fn tell_preview(preview: &Json, arguments: &ClientArguments) {
    if arguments.json {
        print_json(preview);
        return;
    }
    let mut any = false;
    for tier in items(preview, "tiers") {
        any = true;
        let default = tier.get("is_default").and_then(Json::as_bool).unwrap_or_default();
        print(&format!(
            "{:<8} tier {}: {} subscriptions affected, {} kept as they are{}",
            cell(tier, "kind"),
            cell(tier, "tier"),
            cell(tier, "affected"),
            cell(tier, "kept"),
            if default { "; also all subjects without a subscription" } else { "" }
        ));
        for limit in items(tier, "limits") {
            print(&format!(
                "  limit    {}: {} → {}",
                cell(limit, "limit"),
                cell(limit, "from"),
                cell(limit, "to")
            ));
        }
        for (name, what) in [("features_added", "added"), ("features_removed", "removed")] {
            for feature in items(tier, name) {
                print(&format!("  feature  {} {what}", feature.as_str().unwrap_or_default()));
            }
        }
        if tier.get("prices_changed").and_then(Json::as_bool).unwrap_or_default() {
            print("  prices differ");
        }
        for subject in items(tier, "subjects") {
            print(&format!("  affects  {}", subject.as_str().unwrap_or_default()));
        }
    }
    if !any {
        print("No tier differs.");
    }
}

/// Reads and checks a policy. Answers it with the text to be sent: the author's own, unless key files had to be put in.
fn read(file: &Path) -> Result<(PolicyDocument, String), CliError> {
    let read = |path: &Path| {
        std::fs::read_to_string(path).map_err(|source| CliError::File { path: path.to_owned(), source })
    };
    let faulty = |faults: Vec<Fault>| CliError::Faults { file: file.to_owned(), faults };
    let mut text = read(file)?;
    let mut document = parse(&text).map_err(faulty)?;
    let mut has_files = false;
    for (index, issuer) in document.issuers.iter_mut().enumerate() {
        if let Some(name) = &issuer.keys.file {
            has_files = true;
            let path = file.parent().unwrap_or(Path::new("")).join(name);
            let keys = serde_json::from_str(&read(&path)?).map_err(|error| {
                faulty(vec![Fault {
                    path: format!("issuers[{index}].keys.file"),
                    line: None,
                    column: None,
                    message: format!("{} is not JSON: {error}", path.display()),
                }])
            })?;
            issuer.keys = KeySource { jwks: Some(keys), ..KeySource::default() };
        }
    }
    if has_files {
        text = serde_json::to_string_pretty(&document)
            .map_err(|error| CliError::Usage(format!("cannot write the policy as JSON: {error}")))?;
    }
    // The same check as the control plane's, so that what passes here passes there.
    let document = check(&text).map_err(|mut faults| {
        if has_files {
            // Lines of the text that was made up here would mislead.
            faults.iter_mut().for_each(|fault| (fault.line, fault.column) = (None, None));
        }
        faulty(faults)
    })?;
    Ok((document, text))
}
