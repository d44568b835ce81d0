//! What caller and application must get to see, and in what it differs from what they saw.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

use crate::message::Text;

/// What must be seen: `200`, `429 quota-exceeded` (a problem document of that code), or all of it.
///
/// Where it says nothing of the upstream, the upstream must be reached unless a code is expected.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(from = "Shape")]
pub struct Expect(Full);

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Full {
    /// The status of the answer.
    #[serde(default)]
    status: Option<u16>,
    /// The `code` of a problem document.
    #[serde(default)]
    code: Option<String>,
    /// Headers of the answer; null: there is none of that name.
    #[serde(default)]
    headers: BTreeMap<String, Option<String>>,
    /// A text, or JSON whose members must be in the answer's; null: none or null.
    #[serde(default)]
    body: Option<Value>,
    /// There is no answer: the connection ends.
    #[serde(default)]
    lost: bool,
    /// Whether the application gets the request: `reached` or `not reached`.
    #[serde(default)]
    upstream: Option<Reach>,
    /// Headers that the application gets; null: none of that name.
    #[serde(default)]
    upstream_headers: BTreeMap<String, Option<String>>,
    /// The body that the application gets.
    #[serde(default)]
    upstream_body: Option<Text>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
enum Reach {
    #[serde(rename = "reached")]
    Reached,
    #[serde(rename = "not reached")]
    NotReached,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Shape {
    Status(u16),
    Line(String),
    Full(Full),
}

impl From<Shape> for Expect {
    fn from(shape: Shape) -> Self {
        match shape {
            Shape::Status(status) => Self(Full { status: Some(status), ..Full::default() }),
            Shape::Line(line) => {
                let (status, code) = line.split_once(' ').unwrap_or((&line, ""));
                let status = status.parse().unwrap_or_else(|_| panic!("no status in {line:?}"));
                let code = Some(code.to_owned()).filter(|code| !code.is_empty());
                Self(Full { status: Some(status), code, ..Full::default() })
            }
            Shape::Full(full) => Self(full),
        }
    }
}

/// What was seen.
#[derive(Debug, Clone, Default)]
pub struct Seen {
    /// The status; `None`: there was no answer.
    pub status: Option<u16>,
    /// Headers of the answer, names in lower case.
    pub headers: Vec<(String, Vec<u8>)>,
    /// Its body.
    pub body: Vec<u8>,
    /// What the application got.
    pub upstream: Option<Reached>,
}

/// What the application got.
#[derive(Debug, Clone, Default)]
pub struct Reached {
    /// Headers, names in lower case.
    pub headers: Vec<(String, Vec<u8>)>,
    /// The body.
    pub body: Vec<u8>,
}

impl Expect {
    /// Whether anything would not be as expected.
    pub fn says_something(&self) -> bool {
        let Full { status, lost, upstream, .. } = &self.0;
        status.is_some() || *lost || upstream.is_some()
    }

    /// In what it was not as expected, a line each.
    pub fn differences(&self, seen: &Seen) -> Vec<String> {
        let Full { status, code, headers, body, lost, upstream_headers, upstream_body, .. } = &self.0;
        let mut found = Vec::new();
        let status = status.or_else(|| if *lost { None } else { seen.status });
        if status != seen.status {
            let shown = |status: Option<u16>| status.map_or("no answer".to_owned(), |s| s.to_string());
            found.push(format!("status: expected {}, found {}", shown(status), shown(seen.status)));
        }
        let json: Option<Value> = serde_json::from_slice(&seen.body).ok();
        if let Some(code) = code {
            let there = json.as_ref().map(|json| &json["code"]);
            if there != Some(&Value::from(code.as_str())) {
                let there = there.map_or("no JSON".to_owned(), ToString::to_string);
                found.push(format!("code: expected {code}, found {there}"));
            }
            self.problem(seen, json.as_ref(), &mut found);
        }
        compare_headers("header", headers, &seen.headers, &mut found);
        match body {
            None => {}
            Some(Value::String(text)) => {
                let there = String::from_utf8_lossy(&seen.body);
                if !matches(text, &there) {
                    found.push(format!("body: expected {text:?}, found {there:?}"));
                }
            }
            Some(expected) => compare("body", expected, json.as_ref(), &mut found),
        }
        let reached = match self.0.upstream {
            Some(reach) => reach == Reach::Reached,
            None => code.is_none(),
        };
        match &seen.upstream {
            None if reached => found.push("the application was not reached".to_owned()),
            Some(_) if !reached => found.push("the application was reached".to_owned()),
            None => {}
            Some(request) => {
                compare_headers("upstream header", upstream_headers, &request.headers, &mut found);
                let expected = upstream_body.as_ref().map(Text::bytes);
                if let Some(expected) = expected.filter(|expected| *expected != request.body) {
                    found.push(format!(
                        "upstream body: expected {} bytes {:?}, found {} bytes {:?}",
                        expected.len(),
                        start(&expected),
                        request.body.len(),
                        start(&request.body)
                    ));
                }
            }
        }
        if !found.is_empty() {
            found.push(format!("the answer's body: {}", start(&seen.body)));
        }
        found
    }

    /// What holds for every problem document, unless a template has made another of it.
    fn problem(&self, seen: &Seen, json: Option<&Value>, found: &mut Vec<String>) {
        let is_problem = header(&seen.headers, "content-type").as_deref() == Some("application/problem+json");
        if let Some(json) = json.filter(|_| is_problem) {
            let whole = ["type", "title", "detail"].iter().all(|name| json[name].is_string());
            if !whole || json["status"].as_u64() != seen.status.map(u64::from) {
                found.push("the problem document lacks type, title, detail or the right status".to_owned());
            }
        }
    }
}

fn compare_headers(
    what: &str,
    expected: &BTreeMap<String, Option<String>>,
    found_headers: &[(String, Vec<u8>)],
    found: &mut Vec<String>,
) {
    for (name, expected) in expected {
        let there = header(found_headers, name);
        let same = match (expected, &there) {
            (Some(expected), Some(there)) => matches(expected, there),
            (None, None) => true,
            _ => false,
        };
        if !same {
            let shown = |value: &Option<String>| value.as_ref().map_or("none".into(), |v| format!("{v:?}"));
            found.push(format!("{what} {name}: expected {}, found {}", shown(expected), shown(&there)));
        }
    }
}

/// A header's value; several of one name are one list.
fn header(headers: &[(String, Vec<u8>)], name: &str) -> Option<String> {
    let named = headers.iter().filter(|(found, _)| found == name);
    let values: Vec<_> = named.map(|(_, value)| String::from_utf8_lossy(value)).collect();
    (!values.is_empty()).then(|| values.join(", "))
}

/// Members of an object must be there; lists are as long, and their members likewise.
fn compare(at: &str, expected: &Value, there: Option<&Value>, found: &mut Vec<String>) {
    match (expected, there) {
        (Value::Null, None | Some(Value::Null)) => {}
        (Value::Object(expected), Some(Value::Object(there))) => {
            for (name, expected) in expected {
                compare(&format!("{at}.{name}"), expected, there.get(name), found);
            }
        }
        (Value::Array(expected), Some(Value::Array(there))) if expected.len() == there.len() => {
            for (index, (expected, there)) in expected.iter().zip(there).enumerate() {
                compare(&format!("{at}[{index}]"), expected, Some(there), found);
            }
        }
        (Value::String(expected), Some(Value::String(there))) if matches(expected, there) => {}
        (expected, Some(there)) if expected == there => {}
        (expected, there) => {
            let there = there.map_or("nothing".to_owned(), ToString::to_string);
            found.push(format!("{at}: expected {expected}, found {there}"));
        }
    }
}

/// Whether a text is as the pattern, in which `*` stands for anything.
fn matches(pattern: &str, text: &str) -> bool {
    let mut parts = pattern.split('*');
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = text.strip_prefix(first) else { return false };
    let mut parts = parts.peekable();
    while let Some(part) = parts.next() {
        if parts.peek().is_none() {
            return rest.ends_with(part);
        }
        let Some(at) = rest.find(part) else { return false };
        rest = &rest[at + part.len()..];
    }
    rest.is_empty()
}

fn start(bytes: &[u8]) -> String {
    String::from_utf8_lossy(&bytes[..bytes.len().min(400)]).into_owned()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn check(expected: &str, body: &Value, count: usize) {
        let expect: Expect = serde_json::from_str(expected).expect("it can be read");
        let seen = Seen {
            status: Some(429),
            headers: vec![("ratelimit".into(), b"\"a\";r=0;t=17".to_vec())],
            body: body.to_string().into_bytes(),
            upstream: None,
        };
        let found = expect.differences(&seen);
        assert_eq!(found.len(), if count == 0 { 0 } else { count + 1 }, "{expected}: {found:?}");
    }

    #[test]
    fn differences_are_found_and_nothing_else() {
        let body = json!({"code": "quota-exceeded", "a": {"b": [1, {"c": 2}]}, "n": null});
        check(r#""429 quota-exceeded""#, &body, 0);
        check(r#""429 other""#, &body, 1);
        check("200", &body, 2);
        check("429", &body, 1);
        let not = r#""status": 429, "upstream": "not reached""#;
        check(&format!("{{{not}}}"), &body, 0);
        check(&format!(r#"{{{not}, "headers": {{"ratelimit": "\"a\";r=0;t=*", "x": null}}}}"#), &body, 0);
        check(&format!(r#"{{{not}, "headers": {{"ratelimit": "\"b\";*", "x": "1"}}}}"#), &body, 2);
        check(
            &format!(r#"{{{not}, "body": {{"a": {{"b": [1, {{"c": 2}}]}}, "n": null, "z": null}}}}"#),
            &body,
            0,
        );
        check(&format!(r#"{{{not}, "body": {{"a": {{"b": [1]}}, "code": "q*x"}}}}"#), &body, 2);
        check(&format!(r#"{{{not}, "body": "*quota-exceeded*"}}"#), &body, 0);
        check(r#"{"lost": true, "upstream": "not reached"}"#, &body, 1);
    }

    #[test]
    fn a_star_stands_for_anything() {
        for (pattern, text) in
            [("a", "a"), ("*", ""), ("a*", "abc"), ("*c", "abc"), ("a*c", "ac"), ("a*b*", "axxbx")]
        {
            assert!(matches(pattern, text), "{pattern} {text}");
        }
        for (pattern, text) in [("a", "ab"), ("a*c", "ab"), ("*b*", "ac"), ("a*", "ba")] {
            assert!(!matches(pattern, text), "{pattern} {text}");
        }
    }
}
