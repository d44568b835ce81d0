//! Reading a policy document from YAML or JSON (which YAML reads as well), with the line of all that is wrong.
//!
//! The model's types know no lines. When something is wrong, the text is read a second time as a tree of places, and
//! each fault's path is looked up in it.

mod places;

use serde_saphyr::budget::BudgetBreach;
use serde_saphyr::options::DuplicateKeyPolicy;
use serde_saphyr::{DefaultMessageFormatter, Error, MessageFormatter, Options};

use super::fault::Fault;
use super::model::PolicyDocument;
use super::validate::validate;
use places::Places;

/// Largest text of a document, bytes.
pub const DOCUMENT_BYTES_MAX: usize = 4 << 20;

/// Most nodes of a document; the largest useful one (1,000 routes, 200 tiers of 64 limits) has fewer.
const NODES_MAX: usize = 400_000;

/// Most nodes that aliases may repeat.
const ALIASED_MAX: usize = 100_000;

/// Deepest nesting of a document; the model needs fewer than ten levels, a JWKS a few more.
const DEPTH_MAX: usize = 64;

/// Reads and validates a document. All faults of meaning are told at once; a text that does not have the document's shape
/// at all has one.
pub fn parse(text: &str) -> Result<PolicyDocument, Vec<Fault>> {
    if text.len() > DOCUMENT_BYTES_MAX {
        return Err(vec![Fault::new("", format!("shorten the document to {DOCUMENT_BYTES_MAX} bytes"))]);
    }
    let document: PolicyDocument =
        match serde_saphyr::from_str_with_options(text, options(DuplicateKeyPolicy::Error)) {
            Ok(document) => document,
            Err(error) => return Err(vec![shape_fault(text, &error)]),
        };
    let mut faults = validate(&document);
    if faults.is_empty() {
        return Ok(document);
    }
    let places = Places::read(text);
    for fault in &mut faults {
        if let Some((line, column)) = places.find(&fault.path) {
            (fault.line, fault.column) = (Some(line), Some(column));
        }
    }
    // As they stand in the text; what has no line (a truncated list) goes last. The sort is stable.
    faults.sort_by_key(|fault| (fault.line.unwrap_or(u64::MAX), fault.column));
    Err(faults)
}

fn options(duplicate_keys: DuplicateKeyPolicy) -> Options {
    serde_saphyr::options! {
        budget: serde_saphyr::budget! {
            max_documents: 1,
            max_depth: DEPTH_MAX,
            flow_nesting_limit: DEPTH_MAX,
            max_nodes: NODES_MAX,
            max_events: 2 * NODES_MAX,
            max_total_scalar_bytes: DOCUMENT_BYTES_MAX,
        },
        alias_limits: serde_saphyr::alias_limits! {
            max_total_replayed_events: ALIASED_MAX,
            max_replay_stack_depth: 16,
        },
        duplicate_keys: duplicate_keys,
        // A key id of a JWKS may be `no` or `on`.
        strict_booleans: true,
        with_snippet: false,
    }
}

fn shape_fault(text: &str, error: &Error) -> Fault {
    let mut fault = Fault::new("", shape_message(error));
    let Some(location) = error.location() else {
        return fault;
    };
    let mut place = (location.line(), location.column());
    let places = Places::read(text);
    if matches!(error, Error::SerdeMissingField { .. }) {
        fault.path = places.path_around(place).to_owned();
        place = places.find(&fault.path).unwrap_or(place);
    } else {
        fault.path = places.path_at(place).to_owned();
    }
    (fault.line, fault.column) = (Some(place.0), Some(place.1));
    fault
}

/// What to do about an error of the reader. Its own words are kept where they say it, as for what is no YAML at all.
fn shape_message(error: &Error) -> String {
    match error {
        Error::SerdeMissingField { field, .. } => format!("add `{field}`"),
        Error::SerdeUnknownField { field, expected, .. } => {
            format!("remove `{field}`, or write one of {}", expected.join(", "))
        }
        Error::SerdeUnknownVariant { variant, expected, .. } => {
            format!("write one of {}; there is no `{variant}`", expected.join(", "))
        }
        Error::DuplicateMappingKey { key, .. } => {
            format!("remove this or the other `{}`", key.as_deref().unwrap_or("?"))
        }
        Error::SerdeInvalidType { expected, .. } | Error::SerdeInvalidValue { expected, .. } => {
            format!("write {expected}")
        }
        Error::InvalidScalar { ty: "u8" | "u16" | "u32" | "u64", .. } => {
            "write a whole number, 0 or more".to_owned()
        }
        Error::InvalidScalar { ty: "i64", .. } => "write a whole number".to_owned(),
        Error::Unexpected { expected: "mapping start", .. } => "write a mapping, such as {}".to_owned(),
        Error::Unexpected { expected: "sequence start", .. } => "write a list, such as []".to_owned(),
        Error::NullIntoString { .. } => "write a text, or leave the member out".to_owned(),
        Error::Budget { breach: BudgetBreach::Documents { .. }, .. } => {
            "end the text here: a policy is one document, and `---` starts another".to_owned()
        }
        Error::AliasReplayLimitExceeded { .. } => {
            format!("write values out: aliases repeat more than {ALIASED_MAX} of them")
        }
        Error::AliasError { error, .. } => shape_message(error),
        error => DefaultMessageFormatter.format_message(error).into_owned(),
    }
}

#[cfg(test)]
pub(super) mod tests;
