//! A table of policies, requests and expected answers: the files `*.yaml` beside this crate, one for each kind of thing.
//!
//! Two runners read it: the filter's own tests, natively through the `Host` trait, and `tests/tests/table.rs` through a
//! real Envoy. This crate reads the files and compares; it knows no proxy, signs no token and has no clock.
//!
//! A file has a policy and cases. A case has a name, which is a claim, and steps; its own `policy` is merged over the
//! file's (RFC 7396). Cases of one setting share an edge, so each names its own callers:
//!
//! ```yaml
//! policy: {meters: {calls: {}}, tiers: {free: {limits: [{meter: calls, quota: 1, per: month}]}}, ...}
//! cases:
//! - name: a quota admits its units and no more
//!   steps:
//!   - {request: {path: /a, token: alice}, expect: 200}
//!   - {request: {path: /a, token: alice, times: 2}, expect: 429 quota-exceeded}
//! ```
//!
//! What a step may say is on the fields of [`Step`]. In expectations `*` in a text stands for anything.

mod expect;
mod message;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::{Map, Value, json};

pub use expect::{Expect, Reached, Seen};
pub use message::{HangUp, Request, Reset, Text, Token, Upstream};

/// Makes a test of each kind whose cases hold, by calling `$run` with the kind's name.
///
/// A file that is there but not here is of a kind that is being built: [`kinds`] tells, and a test reads it all the same.
#[macro_export]
macro_rules! tests_of_kinds {
    ($run:path) => {
        $crate::tests_of_kinds! { $run:
            anonymous answers bad_input capacity charges concurrency features grpc hosts jsonrpc mcp members paths public
            quota rate refunds shadow size soft sse templates tokens
        }
    };
    ($run:path: $($kind:ident)*) => {
        $(
            #[test]
            fn $kind() {
                $run(stringify!($kind));
            }
        )*
    };
}

/// A file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Table {
    /// What holds where a case says nothing else. `version`, and of `issuers` what is left out, come from the runner.
    policy: Value,
    cases: Vec<Case>,
}

/// Steps that belong together, in order.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Case {
    /// What it claims.
    pub name: String,
    /// Merged over the file's policy.
    #[serde(default)]
    policy: Option<Value>,
    /// The edge has a control plane; else it stands alone.
    #[serde(default)]
    control_plane: bool,
    /// Subscriptions by subject, where there is a control plane.
    #[serde(default)]
    subscriptions: BTreeMap<String, Value>,
    /// The application speaks HTTP/2: gRPC.
    #[serde(default)]
    http2: bool,
    /// What happens.
    pub steps: Vec<Step>,
}

/// What an edge is started with.
#[derive(Debug, Clone, PartialEq)]
pub struct Setting {
    /// The policy, without what the runner knows: see [`complete`].
    pub policy: Value,
    /// There is a control plane.
    pub control_plane: bool,
    /// Its subscriptions, by subject.
    pub subscriptions: BTreeMap<String, Value>,
    /// The application speaks HTTP/2.
    pub http2: bool,
}

/// One request and its answer; or, with `hold` and `finish`, the first or the second half of it.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Step {
    /// What is sent. Left out in a step that finishes another.
    #[serde(default)]
    pub request: Request,
    /// What the application answers, should it be reached: 200 where nothing is said.
    #[serde(default)]
    pub upstream: Upstream,
    /// What the caller and the application get to see.
    #[serde(default)]
    expect: Expect,
    /// The same where Envoy itself reads a request in another way, such as a path that it normalises.
    #[serde(default)]
    envoy: Option<Expect>,
    /// The application has the request and does not answer until the step that finishes this name.
    #[serde(default)]
    pub hold: Option<String>,
    /// The application now answers the request that is held by this name, as was said there.
    #[serde(default)]
    pub finish: Option<String>,
}

/// Who runs the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Runner {
    /// The filter's own tests.
    Native,
    /// A real Envoy.
    Envoy,
}

impl Table {
    /// Reads the file of a kind; one that cannot be read fails the test.
    #[track_caller]
    pub fn read(kind: &str) -> Self {
        let file = dir().join(format!("{kind}.yaml"));
        let text =
            std::fs::read_to_string(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        serde_saphyr::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", file.display()))
    }

    /// Its cases in order, each run of neighbours with the same setting together.
    pub fn by_setting(&self) -> Vec<(Setting, Vec<&Case>)> {
        let mut groups: Vec<(Setting, Vec<&Case>)> = Vec::new();
        for case in &self.cases {
            let setting = self.setting(case);
            match groups.last_mut() {
                Some((last, cases)) if *last == setting => cases.push(case),
                _ => groups.push((setting, vec![case])),
            }
        }
        groups
    }

    fn setting(&self, case: &Case) -> Setting {
        let mut policy = self.policy.clone();
        if let Some(patch) = &case.policy {
            merge(&mut policy, patch);
        }
        Setting {
            policy,
            control_plane: case.control_plane,
            subscriptions: case.subscriptions.clone(),
            http2: case.http2,
        }
    }
}

impl Step {
    /// What a runner must see.
    pub fn expected(&self, runner: Runner) -> &Expect {
        self.envoy.as_ref().filter(|_| runner == Runner::Envoy).unwrap_or(&self.expect)
    }

    /// For a failure's text.
    pub fn title(&self) -> String {
        match &self.finish {
            Some(name) => format!("finish {name}"),
            None => format!("{} {}", self.request.method(), self.request.path),
        }
    }
}

/// A policy with what the runner knows: the version, and an issuer whose keys it can sign with. Claims are named `sub`,
/// `org` and `tier`.
pub fn complete(policy: &Value, issuer: &str, audience: &str, jwks: &Value) -> Value {
    let mut whole = json!({"version": 1, "issuers": [
        {"issuer": issuer, "audiences": [audience], "keys": {"jwks": jwks},
         "claims": {"user": "sub", "organization": "org", "tier": "tier"}},
    ]});
    let mut policy = policy.clone();
    let own = policy.as_object_mut().and_then(|policy| policy.remove("issuers"));
    if let Some(own) = own {
        merge(&mut whole["issuers"][0], &own[0]);
    }
    merge(&mut whole, &policy);
    whole
}

/// All kinds that there are files of, in order.
pub fn kinds() -> Vec<String> {
    let files = std::fs::read_dir(dir()).into_iter().flatten().flatten().map(|entry| entry.path());
    let yaml = files.filter(|path| path.extension().is_some_and(|end| end == "yaml"));
    let mut kinds: Vec<_> =
        yaml.filter_map(|path| Some(path.file_stem()?.to_string_lossy().into_owned())).collect();
    kinds.sort();
    kinds
}

fn dir() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).to_owned()
}

/// RFC 7396.
fn merge(target: &mut Value, patch: &Value) {
    let Value::Object(patch) = patch else {
        return patch.clone_into(target);
    };
    if !target.is_object() {
        *target = Value::Object(Map::new());
    }
    for (name, value) in patch {
        if let Some(target) = target.as_object_mut() {
            if value.is_null() {
                target.remove(name);
            } else {
                merge(target.entry(name.as_str()).or_insert(Value::Null), value);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_file_can_be_read_and_says_something() {
        let kinds = kinds();
        assert!(kinds.len() >= 8, "{kinds:?}");
        for kind in kinds {
            let table = Table::read(&kind);
            let steps = table.cases.iter().flat_map(|case| &case.steps);
            for step in steps {
                assert!(
                    step.expected(Runner::Envoy).says_something() || step.hold.is_some(),
                    "{kind}: a step that cannot fail: {}",
                    step.title()
                );
            }
            let mut names: Vec<_> = table.cases.iter().map(|case| &case.name).collect();
            names.sort();
            names.dedup();
            assert_eq!(names.len(), table.cases.len(), "{kind}: two cases of one name");
        }
    }

    #[test]
    fn a_patch_replaces_members_and_removes_those_that_are_null() {
        let mut value = json!({"a": {"b": 1, "c": [1, 2]}, "d": 1});
        merge(&mut value, &json!({"a": {"b": null, "c": [3], "e": {"f": 1}}, "g": 2}));
        assert_eq!(value, json!({"a": {"c": [3], "e": {"f": 1}}, "d": 1, "g": 2}));
    }
}
