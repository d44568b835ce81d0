//! Views: answers in the words of another API, by templates in the policy. Compiled where a policy is checked; rendered here,
//! of what they are given.
//!
//! Knows nothing of what is in a context, but the names of it: a template that names anything else is refused with its policy.

mod engine;

use std::collections::{BTreeMap, BTreeSet};

use minijinja::machinery::{Instruction, get_compiled_template};
use minijinja::value::{Serde, Value};
use minijinja::{Environment, Error, ErrorKind, Template};
use tollgate_policy::document::{Fault, PolicyDocument};

use engine::Bounded;

/// Stack that a thread needs for [`Views::render`].
pub const STACK_BYTES: usize = engine::STACK_BYTES;

/// Most bytes of an answer.
pub const ANSWER_BYTES_MAX: usize = engine::OUTPUT_BYTES_MAX;

/// What a template may name.
pub const NAMES: [&str; 11] =
    ["me", "limit", "plans", "plan", "title", "description", "usage", "costs", "request", "now", "ago"];

/// What a template may name that knows no user.
pub const PUBLIC_NAMES: [&str; 7] = ["plans", "plan", "title", "description", "request", "now", "ago"];

/// The variable by which a template says with which status it is answered.
const STATUS: &str = "status";

/// The views of a policy, ready to be rendered.
#[derive(Debug)]
pub struct Views {
    environment: Environment<'static>,
    views: BTreeMap<String, View>,
}

/// A view.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct View {
    /// Whether it needs no token.
    pub is_public: bool,
    /// Whether it answers JSON-RPC.
    pub is_jsonrpc: bool,
    /// What its template refers to, of [`NAMES`].
    names: BTreeSet<String>,
}

impl View {
    /// Whether its template refers to one of these.
    pub fn refers_to(&self, names: &[&str]) -> bool {
        names.iter().any(|name| self.names.contains(*name))
    }
}

/// What a template made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Made {
    /// The status of the answer: 200, unless the template sets `status`.
    pub status: u16,
    /// Its body.
    pub json: String,
}

/// Why a view could not be answered.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the view {view} cannot be answered: {cause}")]
pub struct ViewFault {
    /// The view.
    pub view: String,
    /// The line in its template, from 1, where it is known.
    pub line: Option<usize>,
    /// What is wrong.
    pub cause: String,
}

impl Views {
    /// Compiles all templates of a policy, or tells all that is wrong with them.
    pub fn compile(document: &PolicyDocument) -> Result<Self, Vec<Fault>> {
        let mut environment = engine::environment();
        let (mut views, mut faults) = (BTreeMap::new(), Vec::new());
        for (name, view) in &document.views {
            let mut fault = |line: Option<usize>, what: &str| {
                let place = line.map(|line| format!("line {line} of the template: ")).unwrap_or_default();
                let path = format!("views.{name}.body");
                faults.push(Fault { path, line: None, column: None, message: format!("{place}{what}") });
            };
            if let Err(error) = environment.add_template_owned(name.clone(), view.body.clone()) {
                fault(error.line(), &sentence(&error));
                continue;
            }
            let Ok(template) = environment.get_template(name) else { continue };
            let known = if view.public { &PUBLIC_NAMES[..] } else { &NAMES[..] };
            for (line, what) in wrong_names(&environment, &template, known) {
                fault(line, &what);
            }
            let names = template.undeclared_variables(false).into_iter().collect();
            let view = View { is_public: view.public, is_jsonrpc: view.jsonrpc, names };
            views.insert(name.clone(), view);
        }
        if faults.is_empty() { Ok(Self { environment, views }) } else { Err(faults) }
    }

    /// A view, by its name.
    pub fn get(&self, name: &str) -> Option<&View> {
        self.views.get(name)
    }

    /// What a view's template makes of a context. On a thread with [`STACK_BYTES`].
    pub fn render(&self, name: &str, context: BTreeMap<&'static str, Value>) -> Result<Made, ViewFault> {
        let fault = |line, cause| ViewFault { view: name.to_owned(), line, cause };
        let mut written = Bounded::default();
        let context = Value::from(Serde(context));
        let template = self.environment.get_template(name);
        let status = template.and_then(|template| {
            let captured = template.render_captured_to(context, &mut written)?;
            Ok(captured.state().lookup(STATUS))
        });
        let status = status.map_err(|error| fault(error.line(), sentence(&error)))?;
        let status = match status.filter(|status| !status.is_undefined()) {
            None => 200,
            Some(said) => u16::try_from(said.clone())
                .ok()
                .filter(|status| *status == 200 || (400..=599).contains(status))
                .ok_or_else(|| {
                    fault(None, format!("`{STATUS}` is {said}; set 200, or a status from 400 to 599"))
                })?,
        };
        let text = String::from_utf8_lossy(&written.0).trim().to_owned();
        match serde_json::from_str::<serde::de::IgnoredAny>(&text) {
            Ok(_) => Ok(Made { status, json: text }),
            Err(error) => Err(fault(None, format!("what it makes is no JSON: {error}"))),
        }
    }
}

/// What a template names that there is not, with lines.
fn wrong_names(
    environment: &Environment<'_>,
    template: &Template<'_, '_>,
    known: &[&str],
) -> Vec<(Option<usize>, String)> {
    let globals: BTreeSet<String> = environment.globals().map(|(name, _)| name.to_owned()).collect();
    let undeclared = template.undeclared_variables(false);
    let is_unknown =
        |name: &str| undeclared.contains(name) && !known.contains(&name) && !globals.contains(name);
    let mut state = environment.empty_state();
    let mut wrong: BTreeMap<String, Option<usize>> = BTreeMap::new();
    let instructions = &get_compiled_template(template).instructions;
    for (at, instruction) in (0..).map_while(|at| Some((at, instructions.get(at)?))) {
        let what = match instruction {
            Instruction::Lookup(name) | Instruction::CallFunction(name, _) | Instruction::Enclose(name)
                if is_unknown(name) =>
            {
                match NAMES.contains(name) {
                    true => format!("leave out `{name}`: a public view knows no user"),
                    false => format!("there is no `{name}`; there are {}", known.join(", ")),
                }
            }
            Instruction::ApplyFilter(name, ..)
                if is_kind(state.apply_filter(name, &[]).err(), ErrorKind::UnknownFilter) =>
            {
                format!("there is no filter `{name}`")
            }
            Instruction::PerformTest(name, ..)
                if is_kind(state.perform_test(name, &[]).err(), ErrorKind::UnknownTest) =>
            {
                format!("there is no test `{name}`")
            }
            Instruction::Include(_) | Instruction::LoadBlocks | Instruction::CallBlock(_) => {
                "write all of the view in one template: there is no include, import, extends and block"
                    .to_owned()
            }
            _ => continue,
        };
        wrong.entry(what).or_insert_with(|| instructions.get_line(at));
    }
    let mut wrong: Vec<_> = wrong.into_iter().map(|(what, line)| (line, what)).collect();
    wrong.sort();
    wrong
}

fn is_kind(error: Option<Error>, kind: ErrorKind) -> bool {
    error.is_some_and(|error| error.kind() == kind)
}

/// What an error says, without where: that is told beside it.
fn sentence(error: &Error) -> String {
    match (error.kind(), error.detail()) {
        (ErrorKind::OutOfFuel, _) => "it goes on for too long".to_owned(),
        (ErrorKind::SyntaxError, Some(detail)) => detail.to_owned(),
        (kind, Some(detail)) => format!("{kind}: {detail}"),
        (kind, None) => kind.to_string(),
    }
}

#[cfg(test)]
mod tests;
