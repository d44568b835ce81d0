//! JSON Pointers (RFC 6901): the place of a value in a JSON text.
//!
//! Finds nothing itself; `super::json` reads what pointers name.

use std::fmt;
use std::sync::Arc;

use thiserror::Error;

/// Most tokens of a pointer.
pub const TOKENS_MAX: usize = 16;

/// A JSON Pointer such as `/usage/total_tokens`. Cheap to clone.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Pointer {
    text: Arc<str>,
    tokens: Arc<[Box<str>]>,
}

/// Why a text is no pointer, as a sentence that says what to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum PointerFault {
    /// It is not empty and does not start with `/`.
    #[error("start the pointer with a slash, such as /usage/total_tokens")]
    NotAbsolute,
    /// `~` that is followed by neither `0` nor `1`.
    #[error("write ~0 for ~ and ~1 for / within a name")]
    Escape,
    /// More than [`TOKENS_MAX`] names.
    #[error("use at most {TOKENS_MAX} names")]
    TooDeep,
}

impl Pointer {
    /// Reads a pointer. The empty one names the whole text.
    pub fn parse(text: &str) -> Result<Self, PointerFault> {
        let mut tokens = Vec::new();
        if !text.is_empty() {
            let relative = text.strip_prefix('/').ok_or(PointerFault::NotAbsolute)?;
            for token in relative.split('/') {
                if tokens.len() == TOKENS_MAX {
                    return Err(PointerFault::TooDeep);
                }
                tokens.push(unescape(token)?);
            }
        }
        Ok(Self { text: text.into(), tokens: tokens.into() })
    }

    /// The pointer to a member, within members, of these names, none of which has `~` or `/`.
    pub(crate) fn of_members(names: &[&str]) -> Self {
        let text: String = names.iter().flat_map(|name| ["/", name]).collect();
        Self { text: text.into(), tokens: names.iter().map(|&name| name.into()).collect() }
    }

    /// The pointer as it was written.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The names of members and the numbers of elements on the way, unescaped.
    pub fn tokens(&self) -> &[Box<str>] {
        &self.tokens
    }
}

/// RFC 6901 section 4: `~1` is read before `~0`, so that `~01` is `~1`. From left to right that follows by itself.
fn unescape(token: &str) -> Result<Box<str>, PointerFault> {
    let mut parts = token.split('~');
    let mut name = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let (character, rest) = match part.split_at_checked(1) {
            Some(("0", rest)) => ('~', rest),
            Some(("1", rest)) => ('/', rest),
            _ => return Err(PointerFault::Escape),
        };
        name.push(character);
        name.push_str(rest);
    }
    Ok(name.into())
}

impl fmt::Debug for Pointer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Pointer({:?})", self.text)
    }
}

impl fmt::Display for Pointer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests;
