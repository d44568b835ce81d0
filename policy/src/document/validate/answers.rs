//! How denials are worded: that each is one that exists, and that templates can be filled in.

use std::collections::BTreeMap;

use serde_json::Value;

use super::{Faults, TEMPLATE_BYTES_MAX, WARNINGS_MAX};
use crate::document::DENIAL_CODES;
use crate::document::fault::{item, member};
use crate::document::model::{DenialTemplate, Denials, JsonRpcDenials};
use crate::template;

/// What `denials.jsonrpc.codes` calls all other codes.
const ALL_OTHERS: &str = "default";

pub(super) fn validate(denials: &Denials, faults: &mut Faults) {
    for (field, text) in [("type_base", &denials.type_base), ("upgrade_url", &denials.upgrade_url)] {
        if let Some(text) = text {
            faults.check_text(&member("denials", field), text);
        }
    }
    let warn_at = member("denials", "warn_at");
    faults.check_count(&warn_at, "percentages", denials.warn_at.len(), WARNINGS_MAX);
    for (index, percent) in denials.warn_at.iter().enumerate() {
        if !(1..=100).contains(percent) {
            faults.add(item(&warn_at, index), "write a percentage from 1 to 100");
        }
    }
    if !denials.warn_at.is_sorted_by(|one, next| one < next) {
        faults.add(warn_at, "write the percentages in rising order, each once");
    }
    templates(&denials.templates, &member("denials", "templates"), faults);
    jsonrpc(&denials.jsonrpc, &member("denials", "jsonrpc"), faults);
}

/// The templates of the policy or of a route.
pub(super) fn templates(templates: &BTreeMap<String, DenialTemplate>, path: &str, faults: &mut Faults) {
    for (code, template) in templates {
        let path = member(path, code);
        known_code(code, &path, faults);
        if template.status.is_some_and(|status| !is_answer(status)) {
            faults.add(member(&path, "status"), "write 200, or a status from 400 to 599");
        }
        if let Some(text) = &template.content_type
            && !is_content_type(text)
        {
            faults.add(
                member(&path, "content_type"),
                "write a media type, such as application/json or text/html; charset=utf-8",
            );
        }
        body(&template.body, &member(&path, "body"), faults);
    }
}

fn jsonrpc(denials: &JsonRpcDenials, path: &str, faults: &mut Faults) {
    if !is_answer(denials.status) {
        faults.add(member(path, "status"), "write 200, or a status from 400 to 599");
    }
    let codes = member(path, "codes");
    for (code, number) in &denials.codes {
        let path = member(&codes, code);
        if code != ALL_OTHERS {
            known_code(code, &path, faults);
        }
        if i32::try_from(*number).is_err() {
            faults.add(path, format!("use a number from {} to {}", i32::MIN, i32::MAX));
        }
    }
    let messages = member(path, "messages");
    for (code, message) in &denials.messages {
        let path = member(&messages, code);
        known_code(code, &path, faults);
        body(&Value::from(message.as_str()), &path, faults);
    }
    let data = member(path, "data");
    for (code, template) in &denials.data {
        let path = member(&data, code);
        known_code(code, &path, faults);
        body(template, &path, faults);
    }
}

fn known_code(code: &str, path: &str, faults: &mut Faults) {
    if !DENIAL_CODES.contains(&code) {
        faults.add(
            path,
            format!(
                "write the code of a denial, such as quota-exceeded or feature-required; there is no {code}"
            ),
        );
    }
}

fn body(body: &Value, path: &str, faults: &mut Faults) {
    let bytes = body.to_string().len();
    if bytes > TEMPLATE_BYTES_MAX {
        faults.add(path, format!("use at most {TEMPLATE_BYTES_MAX} bytes; as JSON this has {bytes}"));
        return;
    }
    for message in template::check(body) {
        faults.add(path, message);
    }
}

/// A client must not take a denial for a redirection or something that is still to come.
fn is_answer(status: u16) -> bool {
    status == 200 || (400..=599).contains(&status)
}

/// A type and a subtype of tokens (RFC 9110 section 8.3.1), and perhaps parameters, of which only the characters are looked at.
fn is_content_type(text: &str) -> bool {
    let (essence, parameters) = text.split_once(';').unwrap_or((text, ""));
    let is_token = |text: &str| {
        let is_char = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
        !text.is_empty() && text.bytes().all(is_char)
    };
    text.len() <= 256
        && essence.trim_end().split_once('/').is_some_and(|(one, other)| is_token(one) && is_token(other))
        && parameters.bytes().all(|byte| byte == b' ' || byte.is_ascii_graphic())
}
