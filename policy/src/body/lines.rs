//! Lines of a stream that comes in chunks. A line that lies within one chunk is not copied, and none is kept beyond a bound.

use std::borrow::Cow;

use super::work;

/// What ends a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum LineEnd {
    /// LF alone; a CR before it belongs to the line.
    Lf,
    /// LF, CR, or CR and LF.
    Any,
}

/// Splits chunks into lines.
#[derive(Debug, Clone)]
pub(super) struct Lines {
    end: LineEnd,
    bytes_max: usize,
    /// The beginning of the line that is not yet complete.
    partial: Vec<u8>,
    /// It is longer than `bytes_max`, so its rest is not kept.
    too_long: bool,
    /// The last byte was a CR: an LF that follows ends no line.
    after_cr: bool,
}

/// A line without its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Line<'c> {
    pub(super) text: Cow<'c, [u8]>,
    /// `text` is only the beginning.
    pub(super) too_long: bool,
}

impl Lines {
    pub(super) fn new(end: LineEnd, bytes_max: usize) -> Self {
        Self { end, bytes_max, partial: Vec::new(), too_long: false, after_cr: false }
    }

    /// The next line that ends in `chunk`, which loses it. `None`: nothing is left of the chunk.
    pub(super) fn next<'c>(&mut self, chunk: &mut &'c [u8]) -> Option<Line<'c>> {
        if self.after_cr && !chunk.is_empty() {
            self.after_cr = false;
            *chunk = chunk.strip_prefix(b"\n").unwrap_or(chunk);
        }
        let is_end = |byte: &u8| *byte == b'\n' || *byte == b'\r' && self.end == LineEnd::Any;
        let Some(length) = chunk.iter().position(is_end) else {
            work::count(chunk.len());
            self.keep(std::mem::take(chunk));
            return None;
        };
        work::count(length + 1);
        let (text, rest) = chunk.split_at(length);
        self.after_cr = rest[0] == b'\r';
        *chunk = &rest[1..];
        if self.partial.is_empty() && !self.too_long && length <= self.bytes_max {
            return Some(Line { text: Cow::Borrowed(text), too_long: false });
        }
        self.keep(text);
        Some(self.take())
    }

    /// The line at the end of the stream, if it has no end of its own.
    pub(super) fn last(&mut self) -> Option<Line<'static>> {
        (!self.partial.is_empty() || self.too_long).then(|| self.take())
    }

    fn keep(&mut self, text: &[u8]) {
        let room = self.bytes_max - self.partial.len();
        self.too_long |= text.len() > room;
        let kept = &text[..text.len().min(room)];
        work::count(kept.len());
        self.partial.extend_from_slice(kept);
    }

    fn take(&mut self) -> Line<'static> {
        let text = Cow::Owned(std::mem::take(&mut self.partial));
        Line { text, too_long: std::mem::take(&mut self.too_long) }
    }
}

#[cfg(test)]
pub(super) mod tests;
