//! Which route a request takes: the first in the document's order whose path template and conditions match.
//!
//! A tree of segments that is walked without allocating. `matchit` would refuse tables in which `{id}` and `{*rest}` stand
//! in one place, and knows the most specific template where the document's order decides.

mod conditions;

use std::collections::BTreeMap;

use crate::path;

pub(crate) use conditions::{Call, Conditions, host_fault, pattern_fault};
pub use conditions::{CallName, Head};

/// Most segments in a path template.
pub const TEMPLATE_SEGMENTS_MAX: usize = 32;

/// A path template, split into what each segment must be.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Template(Vec<Segment>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Segment {
    Literal(String),
    /// `{name}`: any one segment.
    Any(String),
    /// `{*name}`: this segment and all that follow.
    Rest(String),
}

impl Template {
    /// Reads a template such as `/v1/items/{id}`; the error is a sentence that says what to do.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        if text == "/" {
            return Ok(Self(Vec::new()));
        }
        let Some(relative) = text.strip_prefix('/') else {
            return Err("start the path with a slash".into());
        };
        if relative.ends_with('/') {
            return Err("drop the slash at the end: requests match with it and without it".into());
        }
        let texts: Vec<&str> = relative.split('/').collect();
        if texts.len() > TEMPLATE_SEGMENTS_MAX {
            return Err(format!("use at most {TEMPLATE_SEGMENTS_MAX} segments"));
        }
        let mut names = Vec::new();
        let mut segments = Vec::with_capacity(texts.len());
        for (index, text) in texts.iter().enumerate() {
            let segment = match parameter(text)? {
                None => Segment::Literal(literal(text)?),
                Some((name, _)) if names.contains(&name) => {
                    return Err(format!("give each parameter its own name: {name} comes twice"));
                }
                Some((_, true)) if index + 1 < texts.len() => {
                    return Err(format!("write {text} last: it stands for all that follows"));
                }
                Some((name, rest)) => {
                    names.push(name);
                    if rest { Segment::Rest(name.to_owned()) } else { Segment::Any(name.to_owned()) }
                }
            };
            segments.push(segment);
        }
        Ok(Self(segments))
    }

    /// Whether it has a parameter of this name.
    pub(crate) fn has_parameter(&self, name: &str) -> bool {
        self.0.iter().any(|segment| segment.parameter() == Some(name))
    }

    /// What stands for a parameter in a path that matches: from [`path::normalise`].
    pub(crate) fn value_in<'a>(&self, path: &'a str, name: &str) -> Option<&'a str> {
        let mut left = path.strip_prefix('/');
        for segment in &self.0 {
            let here = left?;
            let (value, rest) =
                here.split_once('/').map_or((here, None), |(value, rest)| (value, Some(rest)));
            if segment.parameter() == Some(name) {
                let value = if matches!(segment, Segment::Rest(_)) { here } else { value };
                return (!value.is_empty()).then_some(value);
            }
            left = rest;
        }
        None
    }
}

impl Segment {
    fn parameter(&self) -> Option<&str> {
        match self {
            Self::Literal(_) => None,
            Self::Any(name) | Self::Rest(name) => Some(name),
        }
    }
}

/// The name of a segment that is a parameter, and whether it stands for the rest.
fn parameter(text: &str) -> Result<Option<(&str, bool)>, String> {
    let Some(inner) = text.strip_prefix('{').and_then(|text| text.strip_suffix('}')) else {
        return if text.contains(['{', '}']) {
            Err(format!("write a parameter as a whole segment, such as {{id}}, and not within one ({text})"))
        } else {
            Ok(None)
        };
    };
    let (name, rest) = inner.strip_prefix('*').map_or((inner, false), |name| (name, true));
    let start = name.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_');
    if start && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_') {
        Ok(Some((name, rest)))
    } else {
        Err(format!(
            "name the parameter {text} with letters, digits and underscores, such as {{id}} or {{*rest}}"
        ))
    }
}

/// A literal segment, in the form that requests are matched in.
fn literal(text: &str) -> Result<String, String> {
    if text.contains(['?', '#']) {
        return Err("leave out query and fragment: only the path is matched".into());
    }
    if text == "*" {
        return Err("name what the star stands for: {*rest}".into());
    }
    let path = format!("/{text}/");
    match path::normalise(&path) {
        Ok(normal) if normal[1..] == *text => Ok(text.to_owned()),
        Ok(normal) => Err(format!("write {} for {text}: requests are matched in that form", &normal[1..])),
        Err(error) => Err(format!("change the segment {text:?}, no request could match it: {error}")),
    }
}

/// All routes of a policy, by number in the document's order.
#[derive(Debug, Clone, Default)]
pub(crate) struct Router {
    root: Node,
    conditions: Vec<Conditions>,
}

/// What follows a common beginning of templates.
#[derive(Debug, Clone)]
struct Node {
    /// The lowest number of a route in and below this node: a walk need not enter where it knows a lower one.
    first: usize,
    /// Routes whose template ends here, in order.
    routes: Vec<usize>,
    literals: BTreeMap<Box<str>, Node>,
    any: Option<Box<Node>>,
    /// Routes whose template ends in `{*rest}` here, in order.
    rest: Vec<usize>,
}

impl Default for Node {
    fn default() -> Self {
        Self { first: usize::MAX, routes: Vec::new(), literals: BTreeMap::new(), any: None, rest: Vec::new() }
    }
}

impl Router {
    /// Adds the next route.
    pub(crate) fn push(&mut self, template: &Template, conditions: Conditions) {
        let route = self.conditions.len();
        self.conditions.push(conditions);
        let mut node = &mut self.root;
        for segment in &template.0 {
            // Routes are numbered in order, so the first to pass here is the lowest.
            node.first = node.first.min(route);
            node = match segment {
                Segment::Literal(text) => node.literals.entry(text.as_str().into()).or_default(),
                Segment::Any(_) => node.any.get_or_insert_default(),
                Segment::Rest(_) => return node.rest.push(route),
            };
        }
        node.first = node.first.min(route);
        node.routes.push(route);
    }

    /// The number of the first route that matches.
    pub(crate) fn find(&self, head: &Head<'_>, call: Call<'_>) -> Option<usize> {
        let relative = head.path.strip_prefix('/').filter(|relative| !relative.is_empty());
        let mut best = usize::MAX;
        self.walk(&self.root, (head, call), relative, &mut best);
        (best != usize::MAX).then_some(best)
    }

    /// Whether a route matches some JSON-RPC calls only.
    pub(crate) fn asks_for_call(&self, route: usize) -> bool {
        self.conditions.get(route).is_some_and(Conditions::ask_for_call)
    }

    /// Lowers `best` to the first route at or below `node` that matches what is left of the path.
    fn walk(&self, node: &Node, request: (&Head<'_>, Call<'_>), left: Option<&str>, best: &mut usize) {
        if node.first >= *best {
            return;
        }
        let Some(left) = left else {
            return self.offer(&node.routes, request, best);
        };
        self.offer(&node.rest, request, best);
        let (segment, left) =
            left.split_once('/').map_or((left, None), |(segment, left)| (segment, Some(left)));
        if let Some(child) = node.literals.get(segment) {
            self.walk(child, request, left, best);
        }
        if let Some(child) = &node.any {
            self.walk(child, request, left, best);
        }
    }

    fn offer(&self, routes: &[usize], (head, call): (&Head<'_>, Call<'_>), best: &mut usize) {
        let matching = |route: &usize| self.conditions[*route].hold(head, call);
        if let Some(route) = routes.iter().copied().find(matching) {
            *best = route.min(*best);
        }
    }
}

#[cfg(test)]
mod tests;
