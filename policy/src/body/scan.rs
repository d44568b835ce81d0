//! The words of a JSON text (RFC 8259), one after the other: each byte is looked at once, and nothing is copied.
//!
//! serde_json skips what is not wanted at any depth, gives up a whole text for one number that no `f64` can hold, and keeps
//! no text of an id. So this reads by itself: the grammar strictly, but for the insides of strings that nobody asked for,
//! which may be invalid UTF-8 or lone surrogates, as in what upstreams accept. A property test holds it against serde_json.

use std::borrow::Cow;
use std::fmt;

use serde::de::{Deserializer, Error, Visitor};
use thiserror::Error;

use super::{NESTING_MAX, work};

/// Why a text is not JSON that is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum JsonFault {
    /// It breaks the grammar.
    #[error("the text is not JSON")]
    Malformed,
    /// It ends before its value does.
    #[error("the JSON text ends too early")]
    Cut,
    /// More than [`NESTING_MAX`] arrays and objects are within each other.
    #[error("the JSON text nests more than {NESTING_MAX} arrays and objects")]
    TooDeep,
}

/// A place in a JSON text.
pub(super) struct Scanner<'b> {
    text: &'b [u8],
    at: usize,
    /// Arrays and objects that are open here.
    nesting: usize,
}

/// An array or an object whose items are being read.
pub(super) struct Items {
    close: u8,
    first: bool,
}

impl<'b> Scanner<'b> {
    pub(super) fn new(text: &'b [u8]) -> Self {
        // RFC 8259 8.1 lets a parser ignore a byte order mark; upstreams that do must not see what is not seen here.
        Self { text: text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text), at: 0, nesting: 0 }
    }

    /// The first byte of the next word, which stays.
    pub(super) fn peek(&mut self) -> Result<u8, JsonFault> {
        while let Some(&byte) = self.text.get(self.at) {
            if !matches!(byte, b' ' | b'\t' | b'\n' | b'\r') {
                return Ok(byte);
            }
            self.advance(1);
        }
        Err(JsonFault::Cut)
    }

    /// Nothing but space follows.
    pub(super) fn end(&mut self) -> Result<(), JsonFault> {
        match self.peek() {
            Err(_) => Ok(()),
            Ok(_) => Err(JsonFault::Malformed),
        }
    }

    /// Goes into the array or the object that is next.
    pub(super) fn open(&mut self) -> Result<Items, JsonFault> {
        let close = if self.peek()? == b'{' { b'}' } else { b']' };
        if self.nesting == NESTING_MAX {
            return Err(JsonFault::TooDeep);
        }
        self.nesting += 1;
        self.advance(1);
        Ok(Items { close, first: true })
    }

    /// Whether an item is next; if not, the array or the object is left.
    pub(super) fn item(&mut self, items: &mut Items) -> Result<bool, JsonFault> {
        let first = std::mem::take(&mut items.first);
        match self.peek()? {
            byte if byte == items.close => {
                self.nesting -= 1;
                self.advance(1);
                Ok(false)
            }
            _ if first => Ok(true),
            b',' => {
                self.advance(1);
                Ok(true)
            }
            _ => Err(JsonFault::Malformed),
        }
    }

    /// The name of the member that is next, in its quotes and not unescaped. Its value follows.
    pub(super) fn name(&mut self) -> Result<&'b [u8], JsonFault> {
        let name = match self.peek()? {
            b'"' => self.string()?,
            _ => return Err(JsonFault::Malformed),
        };
        match self.peek()? {
            b':' => self.advance(1),
            _ => return Err(JsonFault::Malformed),
        }
        Ok(name)
    }

    /// Where the next word starts.
    pub(super) fn start(&mut self) -> Result<usize, JsonFault> {
        self.peek().map(|_| self.at)
    }

    /// The text from `start` to here.
    pub(super) fn since(&self, start: usize) -> &'b [u8] {
        &self.text[start..self.at]
    }

    /// Goes past a value, whatever it is.
    pub(super) fn skip(&mut self) -> Result<(), JsonFault> {
        // What is open, innermost in the lowest bit: 1 for an object. NESTING_MAX of them fit.
        let (mut objects, mut opened) = (0_u64, 0);
        let mut items;
        loop {
            if matches!(self.peek()?, b'{' | b'[') {
                items = self.open()?;
                objects = objects << 1 | u64::from(items.close == b'}');
                opened += 1;
            } else {
                self.scalar()?;
                items = Items { close: close(objects), first: false };
            }
            while opened > 0 && !self.item(&mut items)? {
                objects >>= 1;
                opened -= 1;
                items = Items { close: close(objects), first: false };
            }
            if opened == 0 {
                return Ok(());
            }
            if objects & 1 == 1 {
                self.name()?;
            }
        }
    }

    fn scalar(&mut self) -> Result<(), JsonFault> {
        match self.peek()? {
            b'"' => self.string().map(drop),
            b't' => self.literal(b"true"),
            b'f' => self.literal(b"false"),
            b'n' => self.literal(b"null"),
            b'-' | b'0'..=b'9' => self.number(),
            _ => Err(JsonFault::Malformed),
        }
    }

    fn literal(&mut self, literal: &[u8]) -> Result<(), JsonFault> {
        let rest = &self.text[self.at..];
        if rest.starts_with(literal) {
            self.advance(literal.len());
            return Ok(());
        }
        Err(if literal.starts_with(rest) { JsonFault::Cut } else { JsonFault::Malformed })
    }

    fn number(&mut self) -> Result<(), JsonFault> {
        if self.text.get(self.at) == Some(&b'-') {
            self.advance(1);
        }
        match self.text.get(self.at) {
            Some(b'0') => self.advance(1),
            _ => self.digits()?,
        }
        if self.text.get(self.at) == Some(&b'.') {
            self.advance(1);
            self.digits()?;
        }
        if let Some(b'e' | b'E') = self.text.get(self.at) {
            self.advance(1);
            if let Some(b'+' | b'-') = self.text.get(self.at) {
                self.advance(1);
            }
            self.digits()?;
        }
        Ok(())
    }

    fn digits(&mut self) -> Result<(), JsonFault> {
        let rest = &self.text[self.at..];
        let count = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
        if count == 0 {
            return Err(if rest.is_empty() { JsonFault::Cut } else { JsonFault::Malformed });
        }
        self.advance(count);
        Ok(())
    }

    fn string(&mut self) -> Result<&'b [u8], JsonFault> {
        let start = self.at;
        self.advance(1);
        loop {
            let rest = &self.text[self.at..];
            let plain =
                rest.iter().position(|byte| matches!(byte, b'"' | b'\\' | 0..b' ')).ok_or(JsonFault::Cut)?;
            self.advance(plain + 1);
            match rest[plain] {
                b'"' => return Ok(self.since(start)),
                b'\\' => self.escape()?,
                _ => return Err(JsonFault::Malformed),
            }
        }
    }

    fn escape(&mut self) -> Result<(), JsonFault> {
        let digits = match self.text.get(self.at) {
            Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => 0,
            Some(b'u') => 4,
            Some(_) => return Err(JsonFault::Malformed),
            None => return Err(JsonFault::Cut),
        };
        self.advance(1);
        for _ in 0..digits {
            match self.text.get(self.at) {
                Some(byte) if byte.is_ascii_hexdigit() => self.advance(1),
                Some(_) => return Err(JsonFault::Malformed),
                None => return Err(JsonFault::Cut),
            }
        }
        Ok(())
    }

    fn advance(&mut self, bytes: usize) {
        self.at += bytes;
        work::count(bytes);
    }
}

/// What closes the innermost of what is open.
fn close(objects: u64) -> u8 {
    if objects & 1 == 1 { b'}' } else { b']' }
}

/// What a string says. `text` is the string with its quotes, as it was scanned. What is no Unicode is replaced.
pub(super) fn unescape(text: &[u8]) -> Cow<'_, str> {
    struct Lossy;
    impl<'de> Visitor<'de> for Lossy {
        type Value = Cow<'de, str>;

        fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
            formatter.write_str("a string")
        }

        fn visit_borrowed_bytes<E: Error>(self, bytes: &'de [u8]) -> Result<Self::Value, E> {
            Ok(String::from_utf8_lossy(bytes))
        }

        fn visit_bytes<E: Error>(self, bytes: &[u8]) -> Result<Self::Value, E> {
            Ok(Cow::Owned(String::from_utf8_lossy(bytes).into_owned()))
        }
    }
    // As bytes: serde_json then lets lone surrogates and invalid UTF-8 pass.
    serde_json::Deserializer::from_slice(text)
        .deserialize_bytes(Lossy)
        .unwrap_or_else(|_| String::from_utf8_lossy(text))
}

#[cfg(test)]
mod tests;
