//! Why a command failed, in sentences that say what to do.

use std::fmt::Write as _;
use std::path::PathBuf;

use serde_json::Value as Json;
use tollgate_policy::document::Fault;

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
pub enum CliError {
    /// Nothing answers at the address.
    #[error(
        "no control plane answers at {server}; start one with `tollgate serve`, or name another with --server"
    )]
    Unreachable {
        /// The address.
        server: String,
        /// Why not.
        #[source]
        source: reqwest::Error,
    },
    /// The control plane refused, as an RFC 9457 problem.
    #[error("{}", problem_text(.0))]
    Problem(Json),
    /// Something answered that is no control plane.
    #[error("{server} answered {status} and no control plane's answer; look whether --server is right")]
    NotTollgate {
        /// The address.
        server: String,
        /// The HTTP status.
        status: u16,
    },
    /// A file cannot be read.
    #[error("cannot read {}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
    /// A file cannot be written.
    #[error("cannot write {}", path.display())]
    Write {
        /// Which.
        path: PathBuf,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
    /// A policy has faults.
    #[error("{}", faults_text(file, faults))]
    Faults {
        /// The policy's file.
        file: PathBuf,
        /// What is wrong with it.
        faults: Vec<Fault>,
    },
    /// What was asked cannot be done; the sentence says what to change.
    #[error("{0}")]
    Usage(String),
    /// The control plane cannot start or go on.
    #[error("{what}")]
    Serve {
        /// What failed, and what to do.
        what: String,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

fn problem_text(problem: &Json) -> String {
    let text = |name: &str| problem.get(name).and_then(Json::as_str).unwrap_or_default();
    let mut said = format!("{} ({})", text("detail"), text("code"));
    for fault in problem.get("faults").and_then(Json::as_array).into_iter().flatten() {
        let line = fault.get("line").and_then(Json::as_u64);
        let of = |name: &str| fault.get(name).and_then(Json::as_str).unwrap_or_default();
        let place = line.map(|line| format!("line {line}: ")).unwrap_or_default();
        // Writing to a string cannot fail.
        let _ = write!(said, "\n  {place}{}: {}", of("path"), of("message"));
    }
    said
}

fn faults_text(file: &std::path::Path, faults: &[Fault]) -> String {
    let count = match faults.len() {
        1 => "a fault".to_owned(),
        count => format!("{count} faults"),
    };
    let mut said = format!("{} has {count}:", file.display());
    for fault in faults {
        let _ = write!(said, "\n  {fault}");
    }
    said
}
