//! Denials in an API's own words: JSON whose strings hold placeholders such as `{maximum}`.
//!
//! Values go into parsed strings and are escaped there, so nothing that a caller chose can change the JSON around it. Keys
//! stay as they are. What a template may name is in [`Values`]; which denial uses which template is decided elsewhere.

mod placeholder;
mod values;

use std::fmt;

use serde_json::Value;

use self::placeholder::{Part, Placeholder, split};
pub use self::values::Values;
use self::values::{Scalar, Written};

/// JSON with placeholders, read once.
///
/// `{name}` stands for a value, `{name:GB.2}` for a number of bytes in a unit with so many decimals, `{{` and `}}` for braces.
/// A string that is only one placeholder becomes that value: a number, a text, or null where it is absent. A number that is
/// formatted is a text. Within a longer string an absent value is nothing.
#[derive(Debug, Clone, PartialEq)]
pub struct Template(Vec<Piece>);

/// A piece of the JSON text that a template writes.
#[derive(Debug, Clone, PartialEq)]
enum Piece {
    /// The same for all values.
    Fixed(String),
    /// A whole JSON value.
    Whole(Placeholder),
    /// Something between the quotes of a JSON string.
    Inside(Placeholder),
}

/// JSON that is known to be one whole value: it may stand within other JSON.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JsonText(String);

/// What is wrong with a template: sentences that say what to do, none if it is good.
pub fn check(template: &Value) -> Vec<String> {
    let mut faults = Vec::new();
    check_into(template, &mut faults);
    faults
}

fn check_into(template: &Value, faults: &mut Vec<String>) {
    match template {
        Value::String(text) => {
            split(text, faults);
        }
        Value::Array(items) => items.iter().for_each(|item| check_into(item, faults)),
        Value::Object(members) => members.values().for_each(|member| check_into(member, faults)),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

impl Template {
    /// Reads a template. What [`check`] finds fault with stays as it is written.
    pub fn new(template: &Value) -> Self {
        let mut pieces = Pieces::default();
        pieces.push_value(template);
        pieces.push_fixed_end();
        Self(pieces.done)
    }

    /// The template with these values in the place of its placeholders.
    pub fn render(&self, values: &Values<'_>) -> JsonText {
        let mut json = String::new();
        for piece in &self.0 {
            match piece {
                Piece::Fixed(text) => json.push_str(text),
                Piece::Whole(placeholder) => placeholder.write(values).push_whole(&mut json),
                Piece::Inside(placeholder) => placeholder.write(values).push_inside(&mut json),
            }
        }
        JsonText(json)
    }
}

/// The pieces of a template that is being read.
#[derive(Default)]
struct Pieces {
    done: Vec<Piece>,
    /// The end of the text so far, up to the next placeholder.
    fixed: String,
}

impl Pieces {
    fn push_value(&mut self, value: &Value) {
        match value {
            Value::String(text) => self.push_string(text),
            Value::Array(items) => {
                self.fixed.push('[');
                for (index, item) in items.iter().enumerate() {
                    self.push_comma(index);
                    self.push_value(item);
                }
                self.fixed.push(']');
            }
            Value::Object(members) => {
                self.fixed.push('{');
                for (index, (name, member)) in members.iter().enumerate() {
                    self.push_comma(index);
                    push_quoted(&mut self.fixed, name);
                    self.fixed.push(':');
                    self.push_value(member);
                }
                self.fixed.push('}');
            }
            Value::Null | Value::Bool(_) | Value::Number(_) => self.fixed.push_str(&value.to_string()),
        }
    }

    fn push_comma(&mut self, index: usize) {
        if index > 0 {
            self.fixed.push(',');
        }
    }

    fn push_string(&mut self, text: &str) {
        let parts = split(text, &mut Vec::new());
        if let [Part::Placeholder(placeholder)] = parts[..] {
            return self.push_placeholder(Piece::Whole(placeholder));
        }
        self.fixed.push('"');
        for part in parts {
            match part {
                Part::Text(text) => push_escaped(&mut self.fixed, &text),
                Part::Placeholder(placeholder) => self.push_placeholder(Piece::Inside(placeholder)),
            }
        }
        self.fixed.push('"');
    }

    fn push_placeholder(&mut self, piece: Piece) {
        self.push_fixed_end();
        self.done.push(piece);
    }

    fn push_fixed_end(&mut self) {
        if !self.fixed.is_empty() {
            self.done.push(Piece::Fixed(std::mem::take(&mut self.fixed)));
        }
    }
}

impl Written<'_> {
    fn push_whole(&self, json: &mut String) {
        match self {
            Self::Value(Scalar::Text(text)) => push_quoted(json, text),
            Self::Value(Scalar::Number(number)) => json.push_str(&number.to_string()),
            Self::Formatted(text) => push_quoted(json, text),
            Self::Absent => json.push_str("null"),
        }
    }

    fn push_inside(&self, json: &mut String) {
        match self {
            Self::Value(Scalar::Text(text)) => push_escaped(json, text),
            Self::Value(Scalar::Number(number)) => json.push_str(&number.to_string()),
            Self::Formatted(text) => push_escaped(json, text),
            Self::Absent => {}
        }
    }
}

fn push_quoted(json: &mut String, text: &str) {
    json.push('"');
    push_escaped(json, text);
    json.push('"');
}

fn push_escaped(json: &mut String, text: &str) {
    let quoted = Value::from(text).to_string();
    json.push_str(&quoted[1..quoted.len() - 1]);
}

impl JsonText {
    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The text.
    pub fn into_string(self) -> String {
        self.0
    }
}

impl From<&Value> for JsonText {
    fn from(value: &Value) -> Self {
        Self(value.to_string())
    }
}

impl fmt::Display for JsonText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests;
