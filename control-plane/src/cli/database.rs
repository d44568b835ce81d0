//! `tollgate export`, `tollgate import --everything` and `tollgate database`: commands that open the database themselves, on the machine
//! that serves it.

use std::fs::{File, OpenOptions};
use std::io::{BufReader, BufWriter, Write as _};
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use tollgate_control_plane::clock::SystemClock;
use tollgate_control_plane::service::everything::{self, EverythingError};
use tollgate_control_plane::store::{Database, StoreError};

use super::CliError;
use super::output::{print, print_json, table};

/// Which database.
#[derive(Debug, Args)]
pub struct DatabaseUrl {
    /// The one that `tollgate serve` was given: `sqlite://FILE` or `postgres://…`.
    #[arg(
        long,
        env = "TOLLGATE_DATABASE_URL",
        default_value = "sqlite://tollgate.db",
        hide_env_values = true,
        value_name = "URL"
    )]
    database_url: String,
}

/// Write everything that the database holds as JSON Lines.
#[derive(Debug, Args)]
pub struct ExportArguments {
    /// The file to be made. Default: standard output.
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
    #[command(flatten)]
    database: DatabaseUrl,
}

/// Look after the database.
#[derive(Debug, Args)]
pub struct DatabaseArguments {
    #[command(subcommand)]
    command: DatabaseCommand,
}

#[derive(Debug, Subcommand)]
enum DatabaseCommand {
    /// Show which version the tables are of.
    Status {
        #[command(flatten)]
        database: DatabaseUrl,
        /// Print JSON instead of text.
        #[arg(long)]
        json: bool,
    },
    /// Copy a database of SQLite's into a new file, while it is served.
    Backup {
        /// The file to be made.
        file: PathBuf,
        #[command(flatten)]
        database: DatabaseUrl,
    },
    /// Take the tables back to an earlier version, for an earlier release. Stop all control planes first.
    Revert {
        /// The version to go back to, as `tollgate database status` of the earlier release shows it.
        #[arg(long, value_name = "VERSION")]
        to: i64,
        /// Do it. Otherwise only tell what is lost.
        #[arg(long)]
        yes: bool,
        #[command(flatten)]
        database: DatabaseUrl,
    },
}

/// Exports everything.
pub async fn export(arguments: ExportArguments) -> Result<(), CliError> {
    let database = open(&arguments.database).await?;
    let now_ms = SystemClock::shared().now_ms();
    let done = match &arguments.output {
        None => everything::export(&database, now_ms, &mut BufWriter::new(std::io::stdout())).await,
        Some(path) => export_to(&database, now_ms, path).await,
    };
    database.close().await;
    let rows = done.map_err(|error| failed("nothing was exported", error))?;
    eprintln!("{rows} rows");
    Ok(())
}

/// Into a file that takes its name when it is complete.
async fn export_to(database: &Database, now_ms: i64, path: &Path) -> Result<u64, EverythingError> {
    let mut partial = path.as_os_str().to_owned();
    partial.push(".partial");
    // It holds hashes of tokens and secrets of endpoints: for its owner alone.
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    // What an export left that was interrupted may be another's to read.
    let _ = std::fs::remove_file(&partial);
    let mut file = BufWriter::new(options.open(&partial)?);
    let rows = everything::export(database, now_ms, &mut file).await?;
    file.flush()?;
    file.get_ref().sync_all()?;
    std::fs::rename(&partial, path)?;
    Ok(rows)
}

/// Loads everything that an export wrote into an empty database.
pub async fn load(file: &Path, arguments: &DatabaseUrl) -> Result<(), CliError> {
    File::open(file).map_err(|source| CliError::File { path: file.to_owned(), source })?;
    // An empty one has no tables yet.
    let database = Database::open(&arguments.database_url).await.map_err(cannot_open)?;
    let done = everything::load(&database, || File::open(file).map(BufReader::new)).await;
    database.close().await;
    let rows = done.map_err(|error| failed("nothing was loaded", error))?;
    print(&format!("Loaded {rows} rows. Start `tollgate serve` on it, and point edges to that."));
    Ok(())
}

/// Runs a command.
pub async fn run(arguments: DatabaseArguments) -> Result<(), CliError> {
    match arguments.command {
        DatabaseCommand::Status { database: arguments, json } => {
            let database = open(&arguments).await?;
            let versions = database.table_versions().await;
            let kind = database.kind();
            database.close().await;
            let versions = versions.map_err(|error| failed("the tables cannot be read", error))?;
            let applied = versions.iter().filter(|version| version.applied);
            let newest = applied.map(|version| version.version).max().unwrap_or_default();
            if json {
                let versions = versions.iter().map(|version| {
                    serde_json::json!({"version": version.version, "name": version.name, "applied": version.applied})
                });
                let versions: Vec<_> = versions.collect();
                print_json(&serde_json::json!({"database": kind, "version": newest, "versions": versions}));
                return Ok(());
            }
            print(&format!("{kind}, tables of version {newest}"));
            let rows = versions.iter().map(|version| {
                let applied = if version.applied { "yes" } else { "when served" };
                vec![version.version.to_string(), version.name.clone(), applied.to_owned()]
            });
            print(&table(&["version", "name", "there"], &rows.collect::<Vec<_>>()));
        }
        DatabaseCommand::Backup { file, database: arguments } => {
            let database = open(&arguments).await?;
            let done = database.back_up(&file).await;
            database.close().await;
            match done.map_err(|error| failed("there is no backup", error))? {
                true => print(&format!("Copied to {}.", file.display())),
                false => {
                    return Err(CliError::Usage(
                        "PostgreSQL makes its own backups: pg_dump --format=custom --file=FILE URL"
                            .to_owned(),
                    ));
                }
            }
        }
        DatabaseCommand::Revert { to, yes, database: arguments } => {
            let database = open(&arguments).await?;
            let done = revert(&database, to, yes).await;
            database.close().await;
            done?;
        }
    }
    Ok(())
}

async fn revert(database: &Database, to: i64, yes: bool) -> Result<(), CliError> {
    let unread = |error| failed("the tables cannot be read", error);
    let versions = database.table_versions().await.map_err(unread)?;
    if !versions.iter().any(|version| version.version == to && version.applied) {
        return Err(CliError::Usage(format!(
            "the tables cannot go back to version {to}; `tollgate database status` shows which they can"
        )));
    }
    let undone: Vec<_> =
        versions.iter().rev().filter(|version| version.applied && version.version > to).collect();
    for version in &undone {
        print(&format!("{:>4} {}: {}", version.version, version.name, version.lost));
    }
    if undone.is_empty() {
        print(&format!("The tables are of version {to} already."));
        return Ok(());
    }
    if !yes {
        print(&format!("Nothing was changed. Stop all control planes, and add --yes to go back to {to}."));
        return Ok(());
    }
    if let Some(file) = database.file().await.map_err(unread)? {
        let mut copy = file.into_os_string();
        copy.push(format!(".before-revert-to-{to}.{}.backup", SystemClock::shared().now_ms()));
        let copy = PathBuf::from(copy);
        database.back_up(&copy).await.map_err(|error| failed("nothing was changed", error))?;
        print(&format!("Kept a copy: {}", copy.display()));
    }
    database.revert(to).await.map_err(|error| failed("not everything was taken back", error))?;
    print(&format!("The tables are of version {to}. Start the earlier release."));
    Ok(())
}

async fn open(arguments: &DatabaseUrl) -> Result<Database, CliError> {
    Database::open_unchanged(&arguments.database_url).await.map_err(cannot_open)
}

fn cannot_open(source: StoreError) -> CliError {
    failed("cannot open the database; look at --database-url", source)
}

fn failed(what: &str, source: impl std::error::Error + Send + Sync + 'static) -> CliError {
    CliError::Serve { what: what.to_owned(), source: source.into() }
}
