//! An example's `tour.yaml`: what is started, who calls, and what is done step by step. What comes of it stands in
//! `tour.txt` beside it, reviewed like code.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result};
use serde::Deserialize;
use serde_json::Value;

/// An example.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Script {
    /// First of its neighbouring ports: gateway, Envoy's admin page, control plane, application, and one for each of
    /// `beside`. As in its envoy.yaml.
    pub port_base: u16,
    /// More arguments of `tollgate serve`; files are relative to the example.
    #[serde(default)]
    pub serve: Vec<String>,
    /// More of its environment.
    #[serde(default)]
    pub environment: BTreeMap<String, String>,
    /// Programs of the example's upstream package that run beside it, each with its address as argument.
    #[serde(default)]
    pub beside: Vec<String>,
    /// Arguments of `tollgate token` that all callers share, such as the issuer and its key.
    #[serde(default)]
    pub token: Vec<String>,
    /// Who calls, by name: more arguments of `tollgate token`.
    #[serde(default)]
    pub callers: BTreeMap<String, Vec<String>>,
    /// A path of the application that needs a token: it answers 401 without one as soon as the edge has its policy.
    pub ready: String,
    /// Whether the tour must lie within one hour of UTC, since a limit's window ends with it: it waits for the next hour when
    /// too little is left.
    #[serde(default)]
    pub within_one_hour: bool,
    /// What is done, in order.
    pub steps: Vec<Step>,
}

/// A step of the tour.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Step {
    /// What it shows.
    pub title: String,
    /// What is done.
    #[serde(rename = "do")]
    pub actions: Vec<Action>,
}

/// Something that is done: one of `call`, `run` and `show`, and how.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Action {
    /// A request: method and path.
    pub call: Option<String>,
    /// Who calls: one of the callers, or `admin` (of the control plane). Left out: nobody.
    #[serde(rename = "as")]
    pub caller: Option<String>,
    /// Whom it asks.
    #[serde(default)]
    pub to: Place,
    /// Headers of the request.
    #[serde(default)]
    pub headers: BTreeMap<String, String>,
    /// Its body, as JSON.
    pub json: Option<Value>,
    /// Its body, as text.
    pub text: Option<String>,
    /// Its body: so many bytes.
    pub bytes: Option<usize>,
    /// A body of so many bytes is only announced, by its length, and the answer read: it is refused before it is sent.
    pub declares: Option<u64>,
    /// How often it is sent, one after the other; only the last answer is shown, with how many had which status.
    #[serde(default = "once")]
    pub times: usize,
    /// How often it is sent at once; the different answers are shown, with how many there were of each.
    #[serde(default = "once")]
    pub together: usize,
    /// Names to which tokens in the answer are given, by JSON Pointer: they call with them from then on.
    #[serde(default)]
    pub keep: BTreeMap<String, String>,
    /// Done again until this comes, since an edge tells what it counted within a second or two.
    #[serde(default)]
    pub until: Option<Until>,
    /// The shortest that the answer may take, s: what a bandwidth is seen by.
    pub at_least_s: Option<f64>,
    /// The longest that it may take, s.
    pub at_most_s: Option<f64>,
    /// A command line of a shell in the example's folder, as a reader would type it: `tollgate` is on the path, and knows
    /// the control plane and its token.
    pub run: Option<String>,
    /// What is shown of what a program printed.
    pub show: Option<Shown>,
    /// How many lines of it, the last ones.
    #[serde(default = "once")]
    pub lines: usize,
}

/// What is waited for.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Until {
    /// This status of the answer.
    pub status: Option<u16>,
    /// Members of the answer's JSON, by JSON Pointer, and their values.
    #[serde(default)]
    pub json: BTreeMap<String, Value>,
    /// This text in the answer's body, or in what a command printed.
    pub contains: Option<String>,
}

/// Whom a request asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Place {
    /// The API, behind Envoy.
    #[default]
    Gateway,
    /// Envoy's admin page.
    EnvoyAdmin,
    /// The control plane.
    ControlPlane,
    /// The first of `beside`.
    Beside,
}

/// What a program printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Shown {
    /// Envoy's access log: of what Envoy prints the lines that are JSON.
    AccessLog,
}

fn once() -> usize {
    1
}

impl Script {
    /// Reads that of the example in `folder`.
    pub fn read(folder: &Path) -> Result<Self> {
        let path = folder.join("tour.yaml");
        let text =
            std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        serde_saphyr::from_str(&text).with_context(|| format!("{} is no tour", path.display()))
    }
}
