//! Placeholders within a string, and the formats of numbers.

use super::values::{NAMES, Name, Values, Written};

/// Most decimals of a format: more would tell nothing, and 10^9 times any 64-bit number fits 128 bits.
const DECIMALS_MAX: u32 = 9;

/// Longest string that is shown whole in a sentence about it.
const SHOWN_CHARACTERS_MAX: usize = 60;

const UNITS: [(&str, u64); 6] = [
    ("KB", 1_000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
];

/// The format of texts.
const WORDS: &str = "words";

/// `{name}` or `{name:format}`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Placeholder {
    name: Name,
    format: Option<Format>,
}

/// How a value is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Format {
    /// A number, in a unit of bytes with so many decimals.
    Bytes(Bytes),
    /// A text, with spaces for the underscores of a name.
    Words,
}

/// A unit of bytes, and how many decimals of it are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Bytes {
    unit_bytes: u64,
    decimals: u32,
}

/// A part of a template's string.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Part {
    Text(String),
    Placeholder(Placeholder),
}

impl Placeholder {
    pub(super) fn write<'a>(&self, values: &Values<'a>) -> Written<'a> {
        values.write(self.name, self.format)
    }

    /// Reads what stands between the braces.
    fn parse(inner: &str) -> Result<Self, String> {
        let (name, format) = match inner.split_once(':') {
            Some((name, format)) => (name, Some(format)),
            None => (inner, None),
        };
        let Some(&(_, name)) = NAMES.iter().find(|(known, _)| *known == name) else {
            let names = NAMES.map(|(name, _)| name).join(", ");
            return Err(format!("{{{inner}}} is no placeholder: write one of {names}, or {{{{ for a brace"));
        };
        let Some(format) = format else { return Ok(Self { name, format: None }) };
        if !name.is_number() {
            return match format {
                WORDS => Ok(Self { name, format: Some(Format::Words) }),
                _ => Err(format!(
                    "{{{inner}}} formats what is no number: write :{WORDS}, or leave :{format} out"
                )),
            };
        }
        match Bytes::parse(format) {
            Some(bytes) => Ok(Self { name, format: Some(Format::Bytes(bytes)) }),
            None => {
                let units = UNITS.map(|(unit, _)| unit).join(", ");
                Err(format!(
                    "{{{inner}}} has no format that is known: write one of {units}, and up to .{DECIMALS_MAX} for \
                     decimals, such as {{used:GB.2}}"
                ))
            }
        }
    }
}

impl Bytes {
    fn parse(text: &str) -> Option<Self> {
        let (unit, decimals) = match text.split_once('.') {
            Some((unit, decimals)) => (unit, decimals),
            None => (text, "0"),
        };
        let &(_, unit_bytes) = UNITS.iter().find(|(known, _)| *known == unit)?;
        let &[digit @ b'0'..=b'9'] = decimals.as_bytes() else { return None };
        Some(Self { unit_bytes, decimals: u32::from(digit - b'0') })
    }

    /// Exact, and rounded half up.
    pub(super) fn write(self, bytes: u64) -> String {
        let (unit, one) = (u128::from(self.unit_bytes), 10_u128.pow(self.decimals));
        let rounded = (2 * u128::from(bytes) * one + unit) / (2 * unit);
        match self.decimals {
            0 => rounded.to_string(),
            decimals => format!("{}.{:0width$}", rounded / one, rounded % one, width = decimals as usize),
        }
    }
}

/// Splits a string into texts and placeholders. What is at fault stays as text, and is said in a sentence.
pub(super) fn split(text: &str, faults: &mut Vec<String>) -> Vec<Part> {
    let mut parts = Vec::new();
    let mut fixed = String::new();
    let mut rest = text;
    while let Some(at) = rest.find(['{', '}']) {
        fixed.push_str(&rest[..at]);
        rest = &rest[at..];
        if let Some(after) = rest.strip_prefix("{{").or_else(|| rest.strip_prefix("}}")) {
            fixed.push_str(&rest[..1]);
            rest = after;
            continue;
        }
        match braced(rest) {
            Some((inner, after)) => {
                match Placeholder::parse(inner) {
                    Ok(placeholder) => {
                        push_text(&mut parts, &mut fixed);
                        parts.push(Part::Placeholder(placeholder));
                    }
                    Err(fault) => {
                        faults.push(fault);
                        fixed.push_str(&rest[..rest.len() - after.len()]);
                    }
                }
                rest = after;
            }
            None => {
                faults.push(format!(
                    "{:?} has a brace without its partner: write {{{{ or }}}} for a brace",
                    shown(text)
                ));
                fixed.push_str(&rest[..1]);
                rest = &rest[1..];
            }
        }
    }
    fixed.push_str(rest);
    push_text(&mut parts, &mut fixed);
    parts
}

fn push_text(parts: &mut Vec<Part>, fixed: &mut String) {
    if !fixed.is_empty() {
        parts.push(Part::Text(std::mem::take(fixed)));
    }
}

/// What stands between a brace and the next, which closes it, and what follows.
fn braced(text: &str) -> Option<(&str, &str)> {
    let inner = text.strip_prefix('{')?;
    let end = inner.find(['{', '}'])?;
    Some((&inner[..end], inner[end..].strip_prefix('}')?))
}

/// The beginning of a string.
fn shown(text: &str) -> &str {
    text.char_indices().nth(SHOWN_CHARACTERS_MAX).map_or(text, |(end, _)| &text[..end])
}
