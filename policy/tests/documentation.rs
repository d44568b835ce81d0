//! The documentation: each policy in it is one that compiles, and nothing that a policy can say is left out.

#![cfg(all(feature = "yaml", not(target_arch = "wasm32")))]
#![allow(clippy::panic, reason = "these are tests")]

use std::collections::BTreeSet;
use std::path::PathBuf;

use serde_json::Value;
use tollgate_policy::compile::CompiledPolicy;
use tollgate_policy::document::{DENIAL_CODES, json_schema, parse};

/// What a fragment of a policy is put into. Members of mappings are put beside each other, anything else is replaced.
const REST: &str = r"
version: 1
issuers: [{issuer: https://issuer.example, audiences: [my-api], keys: {url: https://issuer.example/jwks.json}, claims: {organization: org}}]
meters: {api_calls: {}, documents: {}, storage_bytes: {}, tokens: {}}
tiers: {free: {}, pro: {features: [search, export]}}
default_tier: free
default_route: {charges: {api_calls: 1}}
";

/// Every example in YAML of a page is a policy, or a part of one. Answers how many there are.
fn check(page: &str) -> usize {
    let examples = examples(&text(page));
    for (line, example) in &examples {
        let place = format!("{page}, line {line}");
        let policy = if example.starts_with("version:") || example.contains("\nversion:") {
            example.clone()
        } else {
            let mut whole = value(REST, "the rest");
            merge(&mut whole, value(example, &place));
            whole.to_string()
        };
        let faults = match parse(&policy) {
            Ok(document) => CompiledPolicy::compile(&document, 1).err().unwrap_or_default(),
            Err(faults) => faults,
        };
        let faults: Vec<String> = faults.iter().map(ToString::to_string).collect();
        assert!(faults.is_empty(), "{place}:\n{example}\n{}", faults.join("\n"));
    }
    examples.len()
}

fn text(page: &str) -> String {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..").join(page);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{page}: {error}"))
}

/// What stands between the fences, with the number of its first line.
fn examples(page: &str) -> Vec<(usize, String)> {
    let mut examples = Vec::new();
    let mut open: Option<(usize, String)> = None;
    for (index, line) in page.lines().enumerate() {
        match (&mut open, line) {
            (None, "```yaml") => open = Some((index + 2, String::new())),
            (Some(_), "```") => examples.extend(open.take()),
            (Some((_, text)), line) => {
                text.push_str(line);
                text.push('\n');
            }
            (None, _) => {}
        }
    }
    assert!(open.is_none(), "an example has no end");
    examples
}

fn value(yaml: &str, place: &str) -> Value {
    serde_saphyr::from_str(yaml).unwrap_or_else(|error| panic!("{place}: {error}\n{yaml}"))
}

fn merge(whole: &mut Value, part: Value) {
    match (whole, part) {
        (Value::Object(whole), Value::Object(part)) => {
            for (name, part) in part {
                merge(whole.entry(name).or_insert(Value::Null), part);
            }
        }
        (whole, part) => *whole = part,
    }
}

/// Names of all members in a JSON Schema.
fn members(schema: &Value, names: &mut BTreeSet<String>) {
    match schema {
        Value::Object(schema) => {
            if let Some(Value::Object(properties)) = schema.get("properties") {
                names.extend(properties.keys().cloned());
            }
            schema.values().for_each(|schema| members(schema, names));
        }
        Value::Array(schemas) => schemas.iter().for_each(|schema| members(schema, names)),
        _ => {}
    }
}

#[test]
fn policies_in_the_documentation_compile() {
    assert!(check("README.md") >= 1);
    assert!(check("docs/policy.md") >= 13);
    assert!(check("docs/subscriptions.md") >= 1);
    assert_eq!(check("docs/recipes.md"), 10);
    assert_eq!(check("docs/prices.md"), 3);
    assert_eq!(check("docs/self-service.md"), 1);
    assert_eq!(check("docs/views.md"), 2);
}

#[test]
fn the_reference_of_the_document_tells_of_every_member_and_every_denial() {
    // What things cost has a page of its own.
    let page = text("docs/policy.md") + &text("docs/prices.md");
    let mut names = BTreeSet::new();
    members(&serde_json::to_value(json_schema()).unwrap(), &mut names);
    assert!(names.len() > 50, "{names:?}");
    names.extend(DENIAL_CODES.iter().map(|code| (*code).to_owned()));
    // As a whole word: in a sentence or in an example.
    let words: BTreeSet<&str> =
        page.split(|c: char| !c.is_ascii_alphanumeric() && c != '_' && c != '-').collect();
    let missing: Vec<&String> = names.iter().filter(|name| !words.contains(name.as_str())).collect();
    assert!(missing.is_empty(), "docs/policy.md says nothing of {missing:?}");
}
