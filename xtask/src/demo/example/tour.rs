//! The tour: each action is done, and what comes of it is written down.

use std::collections::BTreeMap;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use super::script::{Action, Place, Script, Shown, Until};
use super::transcript::Transcript;
use crate::demo::http::{Answer, Sent, announce};
use crate::demo::stack::{ADMIN_TOKEN, Stack};
use crate::workspace;

/// Longest wait for something that an edge or the control plane tells in its own time.
const PATIENCE: Duration = Duration::from_secs(20);
/// Between two looks.
const PAUSE: Duration = Duration::from_millis(50);
/// Commands after which another policy holds.
const POLICY_CHANGES: [&str; 2] = ["tollgate policy apply", "tollgate policy rollback"];
/// Each worker of an edge learns of a policy by itself, and a connection may be with the last of them.
const POLICY_SETTLES: Duration = Duration::from_millis(1_500);
/// A body that is longer is shown as its length, bytes.
const SHOWN_BYTES_MAX: usize = 6_000;
/// Headers of an answer that are shown.
const SHOWN: &[&str] = &[
    "ratelimit",
    "ratelimit-policy",
    "retry-after",
    "www-authenticate",
    "location",
    "x-ratelimit-limit",
    "x-ratelimit-remaining",
    "x-ratelimit-reset",
    "x-tollgate-warning",
    "content-language",
];

/// Does everything that `script` says.
pub fn walk(script: &Script, stack: &Stack, transcript: &mut Transcript) -> Result<()> {
    let mut tour = Tour { script, stack, transcript, tokens: BTreeMap::new() };
    for (number, step) in (1..).zip(&script.steps) {
        tour.transcript.add(&format!("\n{number}. {}", step.title));
        for action in &step.actions {
            tour.act(action).with_context(|| format!("step {number}, {}", step.title))?;
        }
    }
    Ok(())
}

struct Tour<'a> {
    script: &'a Script,
    stack: &'a Stack,
    transcript: &'a mut Transcript,
    tokens: BTreeMap<String, String>,
}

impl Tour<'_> {
    fn act(&mut self, action: &Action) -> Result<()> {
        let start = Instant::now();
        match (&action.call, &action.run, action.show) {
            (Some(call), None, None) => self.call(call, action)?,
            (None, Some(command), None) => self.run(command, action.until.as_ref())?,
            (None, None, Some(shown)) => self.show(shown, action)?,
            _ => bail!("give one of `call`, `run` and `show`"),
        }
        self.hold_time(action, start.elapsed().as_secs_f64())
    }

    fn hold_time(&mut self, action: &Action, took_s: f64) -> Result<()> {
        if let Some(least_s) = action.at_least_s {
            ensure!(took_s >= least_s, "this took {took_s:.2} s, and should take {least_s} s at least");
            self.transcript.add(&format!("  took at least {least_s} s"));
        }
        if let Some(most_s) = action.at_most_s {
            ensure!(took_s <= most_s, "this took {took_s:.2} s, and should take {most_s} s at most");
            self.transcript.add(&format!("  took at most {most_s} s"));
        }
        Ok(())
    }

    fn call(&mut self, call: &str, action: &Action) -> Result<()> {
        let (method, path) = call.split_once(' ').context("write a call as METHOD PATH")?;
        let ports = self.stack.ports;
        let base = match action.to {
            Place::Gateway => ports.gateway_url(),
            Place::EnvoyAdmin => ports.admin_url(),
            Place::ControlPlane => ports.control_plane_url(),
            Place::Beside => ports.beside_url(),
        };
        let url = format!("{base}{path}");
        let token = action.caller.as_deref().map(|caller| self.token(caller)).transpose()?;
        let mut headers = action.headers.clone();
        let body = match (&action.json, &action.text, action.bytes) {
            (Some(json), None, None) => {
                headers.entry("content-type".to_owned()).or_insert_with(|| "application/json".to_owned());
                Some(json.to_string().into_bytes())
            }
            (None, Some(text), None) => Some(text.clone().into_bytes()),
            (None, None, Some(bytes)) => Some(vec![b'x'; bytes]),
            (None, None, None) => None,
            _ => bail!("give one body at most"),
        };
        let sent =
            Sent { method, url: &url, token: token.as_deref(), headers: &headers, body: body.as_deref() };

        let by = action.caller.as_deref().map_or_else(String::new, |caller| format!("   ({caller})"));
        let mut lines = format!("> {method} {path}{by}");
        if let Some(json) = &action.json {
            lines.push_str(&format!("\n  {json}"));
        }
        if let Some(bytes) = action.bytes {
            lines.push_str(&format!("\n  {bytes} bytes"));
        }
        if let Some(bytes) = action.declares {
            lines.push_str(&format!(
                "\n  {bytes} bytes, of which none is sent yet\n{}",
                shown(&announce(&sent, bytes)?)
            ));
        } else if action.together > 1 {
            lines.push_str(&format!(
                "\n  {} at once:{}",
                action.together,
                self.together(&sent, action.together)?
            ));
        } else {
            let (answer, statuses) = self.send(&sent, action)?;
            if action.times > 1 {
                let told: Vec<_> =
                    statuses.iter().map(|(status, count)| format!("{status} × {count}")).collect();
                lines.push_str(&format!("\n  {} times: {}; the last:", action.times, told.join(", ")));
            }
            lines.push_str(&format!("\n{}", shown(&answer)));
            for (name, pointer) in &action.keep {
                let json = answer.json()?;
                let token = json.pointer(pointer).and_then(Value::as_str);
                let token = token.with_context(|| format!("the answer has no text at {pointer}: {json}"))?;
                self.tokens.insert(name.clone(), token.to_owned());
            }
        }
        self.transcript.add(&lines);
        Ok(())
    }

    /// Sends as often as `times` says, all of it again until what is waited for comes.
    fn send(&self, sent: &Sent<'_>, action: &Action) -> Result<(Answer, BTreeMap<u16, usize>)> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let mut statuses = BTreeMap::new();
            let mut last = None;
            for _ in 0..action.times {
                let answer = self.stack.client.send(sent)?;
                *statuses.entry(answer.status).or_default() += 1;
                last = Some(answer);
            }
            let answer = last.context("`times` is at least 1")?;
            if action.until.as_ref().is_none_or(|until| until.is_met(&answer)) {
                return Ok((answer, statuses));
            }
            ensure!(
                Instant::now() < deadline,
                "not within {} s; the last answer was:\n{}",
                PATIENCE.as_secs(),
                shown(&answer)
            );
            std::thread::sleep(PAUSE);
        }
    }

    /// Sends at once, and counts the different answers. Headers are left out: what remains differs by who came first.
    fn together(&self, sent: &Sent<'_>, count: usize) -> Result<String> {
        let answers: Vec<Result<Answer>> = std::thread::scope(|scope| {
            let calls: Vec<_> = (0..count).map(|_| scope.spawn(|| self.stack.client.send(sent))).collect();
            calls
                .into_iter()
                .map(|call| call.join().unwrap_or_else(|_| bail!("a call of the tour panicked")))
                .collect()
        });
        let mut counts: BTreeMap<String, usize> = BTreeMap::new();
        for answer in answers {
            let answer = answer?;
            let text = self.transcript.name(&format!("{}\n{}", answer.status, body(&answer)));
            *counts.entry(text).or_default() += 1;
        }
        Ok(counts.into_iter().map(|(text, count)| format!("\n{count} × {}", text.trim_end())).collect())
    }

    fn token(&mut self, caller: &str) -> Result<String> {
        if caller == "admin" {
            return Ok(ADMIN_TOKEN.to_owned());
        }
        if let Some(token) = self.tokens.get(caller) {
            return Ok(token.clone());
        }
        let own =
            self.script.callers.get(caller).with_context(|| format!("there is no caller {caller:?}"))?;
        let mut sign = Command::new(workspace::tollgate());
        sign.arg("token").args(&self.script.token).args(own).current_dir(self.stack.folder());
        let token = crate::process::output(&mut sign)?.trim().to_owned();
        self.tokens.insert(caller.to_owned(), token.clone());
        Ok(token)
    }

    /// A command, as the example's README has it.
    fn run(&mut self, command: &str, until: Option<&Until>) -> Result<()> {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let programs = workspace::target().join("release");
        let path = std::env::join_paths(std::iter::once(programs).chain(std::env::split_paths(&path)))?;
        let deadline = Instant::now() + PATIENCE;
        loop {
            let mut shell = Command::new("bash");
            shell.args(["-euo", "pipefail", "-c", &self.stack.moved(command)]);
            shell.current_dir(self.stack.folder());
            shell.env("PATH", &path).env("TOLLGATE_SERVER", self.stack.ports.control_plane_url());
            shell
                .env("TOLLGATE_ADMIN_TOKEN", ADMIN_TOKEN)
                .env("TOLLGATE_DATABASE_URL", self.stack.database_url());
            let done = shell.output().with_context(|| format!("cannot run `{command}`"))?;
            let (out, err) = (String::from_utf8_lossy(&done.stdout), String::from_utf8_lossy(&done.stderr));
            let printed = format!("{out}{err}");
            let missing =
                until.and_then(|until| until.contains.as_ref()).filter(|text| !printed.contains(*text));
            if let Some(text) = missing {
                ensure!(
                    Instant::now() < deadline,
                    "`{command}` did not print {text:?} within {} s, but:\n{printed}",
                    PATIENCE.as_secs()
                );
                std::thread::sleep(PAUSE);
                continue;
            }
            let failed = if done.status.success() { String::new() } else { format!("\n{}", done.status) };
            self.transcript.add(&format!("$ {}\n{}{failed}", command.trim_end(), printed.trim_end()));
            if POLICY_CHANGES.iter().any(|change| command.contains(change)) {
                std::thread::sleep(POLICY_SETTLES);
            }
            return Ok(());
        }
    }

    fn show(&mut self, Shown::AccessLog: Shown, action: &Action) -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let log = self.stack.access_log()?;
            let lines: Vec<_> = log.lines().filter(|line| line.starts_with('{')).collect();
            let last = lines[lines.len().saturating_sub(action.lines)..].join("\n");
            let missing = action.until.as_ref().and_then(|until| until.contains.as_ref());
            match missing.filter(|text| !last.contains(*text)) {
                None => {
                    self.transcript.add(&last);
                    return Ok(());
                }
                Some(text) => {
                    ensure!(Instant::now() < deadline, "the access log has no {text:?}, but:\n{last}")
                }
            }
            std::thread::sleep(PAUSE);
        }
    }
}

impl Until {
    fn is_met(&self, answer: &Answer) -> bool {
        let json: Value = answer.json().unwrap_or_default();
        self.status.is_none_or(|status| answer.status == status)
            && self.json.iter().all(|(pointer, value)| json.pointer(pointer) == Some(value))
            && self.contains.as_ref().is_none_or(|text| answer.body.contains(text))
    }
}

/// An answer: its status, the headers that matter, and its body.
fn shown(answer: &Answer) -> String {
    let mut lines = vec![answer.status.to_string()];
    lines.extend(SHOWN.iter().filter_map(|name| Some(format!("{name}: {}", answer.header(name)?))));
    lines.push(body(answer));
    lines.join("\n").trim_end().to_owned()
}

/// A body as it is shown: JSON in lines, what is long as its length.
fn body(answer: &Answer) -> String {
    match answer.json() {
        Ok(json) => serde_json::to_string_pretty(&json).unwrap_or_default(),
        Err(_) if answer.body.len() > SHOWN_BYTES_MAX => format!("({} bytes)", answer.body.len()),
        Err(_) => answer.body.trim_end().to_owned(),
    }
}
