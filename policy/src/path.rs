//! Request paths in the one form that routes are matched against.
//!
//! A route must mean the same here and at the upstream, or a caller reaches what it did not pay for by another spelling.
//! So whatever two servers are known to read in two ways is refused, and what RFC 3986 calls equivalent is made equal.
//! Decides nothing about routes, and never guesses what was meant.

use std::borrow::Cow;

use thiserror::Error;

/// Why a path has no one meaning. The request is answered with 400.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum AmbiguousPath {
    /// It does not start with `/` (`*`, an absolute URI, nothing).
    #[error("the path must start with a slash")]
    NotAbsolute,
    /// A segment is `.` or `..`, encoded or not: some servers resolve them, some do not.
    #[error("the path must not have the segments `.` and `..`")]
    DotSegment,
    /// Two slashes follow each other: some servers merge them.
    #[error("the path must not have an empty segment")]
    EmptySegment,
    /// `%2F`: some servers split there.
    #[error("the path must not have an encoded slash")]
    EncodedSlash,
    /// `\` or `%5C`: some servers take it for a slash.
    #[error("the path must not have a backslash")]
    Backslash,
    /// `;`: some servers cut path parameters off.
    #[error("the path must not have path parameters (`;`)")]
    PathParameter,
    /// A space, a control byte or DEL, the control bytes encoded or not.
    #[error("the path must not have spaces or control characters")]
    Control,
    /// `%` without two hexadecimal digits.
    #[error("the path has a malformed percent-escape")]
    Escape,
    /// A byte outside ASCII that is not percent-encoded.
    #[error("the path must percent-encode what is not ASCII")]
    NotAscii,
}

/// The path of a request target without its query and fragment, as routes are matched against it.
///
/// Percent-encoded printable ASCII is decoded, but for `%`, `?`, `#` and `;`; the digits of the escapes that stay are made
/// capitals; and one slash at the end is dropped, but for the root. RFC 3986 section 6.2.2.2 calls only unreserved
/// characters equivalent to their escapes, but upstreams decode before they route, so `/items%3Aexport` must not slip past
/// the route `/items:export`. A clean path is borrowed, not copied.
pub fn normalise(path_with_query: &str) -> Result<Cow<'_, str>, AmbiguousPath> {
    let end = path_with_query.find(['?', '#']).unwrap_or(path_with_query.len());
    let path = &path_with_query[..end];
    if !path.starts_with('/') {
        return Err(AmbiguousPath::NotAbsolute);
    }
    let path = if path.contains('%') { decode(path)? } else { Cow::Borrowed(path) };
    // After decoding, so that `%2e` is a dot like any other.
    refuse_bytes(&path)?;
    refuse_segments(&path)?;
    Ok(without_last_slash(path))
}

fn refuse_bytes(path: &str) -> Result<(), AmbiguousPath> {
    for byte in path.bytes() {
        match byte {
            b';' => return Err(AmbiguousPath::PathParameter),
            b'\\' => return Err(AmbiguousPath::Backslash),
            0..=b' ' | 0x7f => return Err(AmbiguousPath::Control),
            0x80.. => return Err(AmbiguousPath::NotAscii),
            _ => {}
        }
    }
    Ok(())
}

fn refuse_segments(path: &str) -> Result<(), AmbiguousPath> {
    let mut segments = path[1..].split('/').peekable();
    while let Some(segment) = segments.next() {
        match segment {
            "." | ".." => return Err(AmbiguousPath::DotSegment),
            // The last may be empty: one slash at the end, or the root.
            "" if segments.peek().is_some() => return Err(AmbiguousPath::EmptySegment),
            _ => {}
        }
    }
    Ok(())
}

/// Decodes printable ASCII that has no meaning of its own in a path, and refuses what must not be encoded.
fn decode(path: &str) -> Result<Cow<'_, str>, AmbiguousPath> {
    let mut decoded = String::with_capacity(path.len());
    let mut rest = path;
    while let Some((before, after)) = rest.split_once('%') {
        decoded.push_str(before);
        let (Some(high), Some(low)) = (hex(after, 0), hex(after, 1)) else {
            return Err(AmbiguousPath::Escape);
        };
        match high << 4 | low {
            b'/' => return Err(AmbiguousPath::EncodedSlash),
            b'\\' => return Err(AmbiguousPath::Backslash),
            0..b' ' | 0x7f => return Err(AmbiguousPath::Control),
            byte if byte.is_ascii_graphic() && !b"%?#;".contains(&byte) => decoded.push(char::from(byte)),
            _ => {
                decoded.push('%');
                decoded.push_str(&after[..2].to_ascii_uppercase());
            }
        }
        rest = &after[2..];
    }
    decoded.push_str(rest);
    Ok(Cow::Owned(decoded))
}

fn hex(text: &str, index: usize) -> Option<u8> {
    let digit = char::from(*text.as_bytes().get(index)?).to_digit(16)?;
    u8::try_from(digit).ok()
}

fn without_last_slash(path: Cow<'_, str>) -> Cow<'_, str> {
    if path.len() == 1 || !path.ends_with('/') {
        return path;
    }
    match path {
        Cow::Borrowed(path) => Cow::Borrowed(&path[..path.len() - 1]),
        Cow::Owned(mut path) => {
            path.pop();
            Cow::Owned(path)
        }
    }
}

#[cfg(test)]
mod tests;
