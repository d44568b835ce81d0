//! What a tour printed, and the reviewed text that it is held against. What differs from run to run (moments, waits, ids,
//! ports, tokens) is replaced by its name; everything else must be the same to the letter.

use std::path::Path;

use anyhow::{Context, Result, bail};
use regex::Regex;

/// Set to 1, the reviewed text is written anew instead of held against.
const UPDATE: &str = "TOLLGATE_UPDATE_TOURS";

/// What differs from run to run, and its name.
const NAMED: &[(&str, &str)] = &[
    (r"\beyJ[\w-]+\.[\w-]+\.[\w-]+", "<token>"),
    (r"\b\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)", "<moment>"),
    (r"\b\d{4}-\d\d-\d\d( \d\d:\d\d(:\d\d)?)?\b", "<date>"),
    (r"\b1[6-9]\d{11}\b", "<unix-ms>"),
    (r"\b1[6-9]\d{8}\b", "<unix-s>"),
    (r";t=\d+", ";t=<s>"),
    (r#"("(retry_after_s|retryAfter|reset_s)": )\d+"#, "$1<s>"),
    (r"(?m)^(retry-after|x-ratelimit-reset): .*$", "$1: <s>"),
    (r"\b(127\.0\.0\.1|localhost):\d+", "$1:<port>"),
    (r"\b(ep|evt|req|whsec)_[\w+/=-]+", "${1}_<id>"),
    (r"\btg[0-9a-f]{24}\b", "<order>"),
    (r"\b[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\b", "<uuid>"),
    (r"\b[0-9a-f]{32}([0-9a-f]{32})?\b", "<id>"),
];

/// The text so far.
pub struct Transcript {
    text: String,
    named: Vec<(Regex, &'static str)>,
    prints: bool,
}

impl Transcript {
    /// An empty one. With `prints` people see what is added, as it is.
    pub fn new(prints: bool) -> Result<Self> {
        let named = NAMED.iter().map(|(pattern, name)| Ok((Regex::new(pattern)?, *name)));
        Ok(Self { text: String::new(), named: named.collect::<Result<_>>()?, prints })
    }

    /// Adds lines.
    pub fn add(&mut self, lines: &str) {
        if self.prints {
            println!("{lines}");
        }
        let named = self.name(lines);
        self.text.push_str(named.trim_end());
        self.text.push('\n');
    }

    /// `text` with names for what differs from run to run.
    pub fn name(&self, text: &str) -> String {
        let named = self.named.iter();
        named.fold(text.to_owned(), |text, (pattern, name)| pattern.replace_all(&text, *name).into_owned())
    }

    /// Fails where it differs from the reviewed text of the example in `folder`, and says where.
    pub fn hold(&self, folder: &Path) -> Result<()> {
        let path = folder.join("tour.txt");
        if std::env::var(UPDATE).is_ok_and(|value| value == "1") {
            return std::fs::write(&path, &self.text)
                .with_context(|| format!("cannot write {}", path.display()));
        }
        let reviewed = std::fs::read_to_string(&path)
            .with_context(|| format!("cannot read {}; {UPDATE}=1 writes it", path.display()))?;
        match difference(&reviewed, &self.text) {
            None => Ok(()),
            Some((number, reviewed, seen)) => bail!(
                "the tour differs from {}, line {number}:\n  reviewed: {reviewed}\n  seen:     {seen}\nIf what was \
                 seen is right, write it with {UPDATE}=1 and review it.",
                path.display()
            ),
        }
    }

    /// Its last lines, for a report of what went wrong.
    pub fn tail(&self, lines: usize) -> String {
        let all: Vec<_> = self.text.lines().collect();
        all[all.len().saturating_sub(lines)..].join("\n")
    }
}

/// The first line that differs: its number, what was reviewed, what was seen.
fn difference(reviewed: &str, seen: &str) -> Option<(usize, String, String)> {
    let (mut reviewed, mut seen) = (reviewed.lines(), seen.lines());
    let mut number = 0;
    loop {
        number += 1;
        match (reviewed.next(), seen.next()) {
            (None, None) => return None,
            (one, other) if one == other => {}
            (one, other) => {
                let text = |line: Option<&str>| line.unwrap_or("(the end)").to_owned();
                return Some((number, text(one), text(other)));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Transcript, difference};

    #[test]
    fn what_differs_from_run_to_run_has_a_name_instead() {
        let mut transcript = Transcript::new(false).unwrap();
        transcript.add("ratelimit: \"calls\";r=4;t=1200\nretry-after: 17");
        transcript.add("{\"resets_at\": \"2026-11-22T00:00:00Z\", \"n\": 12, \"retryAfter\": 3}");
        transcript.add("eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJhIn0.c2ln from 127.0.0.1:4711");
        let expected = "ratelimit: \"calls\";r=4;t=<s>\nretry-after: <s>\n{\"resets_at\": \"<moment>\", \"n\": 12, \
                        \"retryAfter\": <s>}\n<token> from 127.0.0.1:<port>\n";
        assert_eq!(transcript.text, expected);
        assert_eq!(transcript.tail(1), "<token> from 127.0.0.1:<port>");
    }

    #[test]
    fn the_first_line_that_differs_is_named() {
        assert_eq!(difference("a\nb\n", "a\nb\n"), None);
        let (number, reviewed, seen) = difference("a\nb\n", "a\nc\n").unwrap();
        assert_eq!((number, reviewed.as_str(), seen.as_str()), (2, "b", "c"));
        let (number, reviewed, _) = difference("a\n", "a\nb\n").unwrap();
        assert_eq!((number, reviewed.as_str()), (2, "(the end)"));
    }
}
