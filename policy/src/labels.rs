//! What the ledger tells a meter's units apart by, as text: `model=large&route=POST%20%2Fchat`. Names in order, values
//! percent-encoded, so that the same labels are the same text wherever they are counted.

use std::collections::BTreeMap;

use crate::document::is_name;

/// Longest text of labels, bytes.
pub const LABELS_BYTES_MAX: usize = 256;

/// Value of each label of units whose labels would be too many to tell apart.
pub const OTHER: &str = "*";

/// The text of `labels`. Nothing when a name is none or the text is longer than [`LABELS_BYTES_MAX`].
pub fn to_text<N: AsRef<str>, V: AsRef<str>>(labels: impl IntoIterator<Item = (N, V)>) -> Option<String> {
    let labels: Vec<(N, V)> = labels.into_iter().collect();
    let sorted: BTreeMap<&str, &str> = labels.iter().map(|(n, v)| (n.as_ref(), v.as_ref())).collect();
    let mut text = String::new();
    for (name, value) in sorted {
        if !is_name(name) {
            return None;
        }
        if !text.is_empty() {
            text.push('&');
        }
        text.push_str(name);
        text.push('=');
        encode(value, &mut text);
        if text.len() > LABELS_BYTES_MAX {
            return None;
        }
    }
    (text.len() <= LABELS_BYTES_MAX).then_some(text)
}

/// The labels of a text. Nothing where [`to_text`] would not have written it.
pub fn parse(text: &str) -> Option<BTreeMap<String, String>> {
    let mut labels = BTreeMap::new();
    for label in text.split('&').filter(|_| !text.is_empty()) {
        let (name, value) = label.split_once('=')?;
        labels.insert(name.to_owned(), decode(value)?);
    }
    (to_text(&labels)? == *text).then_some(labels)
}

const HEX: &[u8; 16] = b"0123456789ABCDEF";

/// Adds a value as it stands in a text of labels. No more is read of it than makes the text too long.
pub(crate) fn encode(value: &str, text: &mut String) {
    for byte in value.bytes() {
        if text.len() > LABELS_BYTES_MAX {
            return;
        }
        if is_kept(byte) {
            text.push(char::from(byte));
        } else {
            text.push('%');
            text.extend([byte >> 4, byte & 0xf].map(|digit| char::from(HEX[usize::from(digit)])));
        }
    }
}

/// The characters that RFC 3986 calls unreserved, and the `*` of [`OTHER`].
fn is_kept(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~*".contains(&byte)
}

fn decode(value: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(value.len());
    let mut rest = value.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'%' => {
                let mut digit = || char::from(rest.next()?).to_digit(16);
                u8::try_from(digit()? * 16 + digit()?).ok()?
            }
            byte => byte,
        });
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::{parse, to_text};

    #[test]
    fn labels_are_one_text() {
        let text = to_text([("route", "POST /chat"), ("model", "größe&=%")]).unwrap();
        assert_eq!(text, "model=gr%C3%B6%C3%9Fe%26%3D%25&route=POST%20%2Fchat");
        let read = parse(&text).unwrap();
        assert_eq!((&*read["route"], &*read["model"]), ("POST /chat", "größe&=%"));
        assert_eq!(to_text([("", ""); 0]).as_deref(), Some(""));
        assert_eq!(parse("").map(|labels| labels.len()), Some(0));
        assert_eq!(parse("model=*").unwrap()["model"], "*");
        assert_eq!(to_text([("model", "")]).as_deref(), Some("model="));
    }

    #[test]
    fn what_is_not_that_text_is_not_read() {
        for text in ["a", "a=1&", "b=1&a=2", "a=1&a=2", "a=%41", "a=%c3%b6", "a=%ff", "a=%4", "a= ", "A b=1"]
        {
            assert_eq!(parse(text), None, "{text}");
        }
        assert_eq!(parse(&format!("a={}", "x".repeat(255))), None, "too long");
        assert_eq!(to_text([("a", "ö".repeat(50))]), None, "too long when written");
    }
}
