//! Server-Sent Events (the HTML standard, section 9.2) as amounts: of each pointer the last that an event told.
//!
//! Reads a stream as it passes, however it is cut into chunks, and keeps no more of it than one event. Events whose data is
//! not JSON, such as `[DONE]`, are passed over.

use std::borrow::Cow;

use super::latest::Latest;
use super::lines::{Line, LineEnd, Lines};
use super::pointer::Pointer;
use super::{Unread, work};

const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";
const DATA: &[u8] = b"data:";

/// Reads events from chunks.
#[derive(Debug, Clone)]
pub struct SseReader {
    lines: Lines,
    event_bytes_max: usize,
    latest: Latest,
    event: Event,
    /// No line was read yet.
    first: bool,
    /// An event was passed over for its length.
    too_long: bool,
}

/// What a stream of events told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SseEnd {
    /// By pointer. An amount that no event told is `TooLong` if an event was too long, else `Cut` if the stream was.
    pub amounts: Vec<Result<u64, Unread>>,
    /// By pointer of a text.
    pub texts: Vec<Option<Box<str>>>,
    /// The stream ended within an event.
    pub cut: bool,
}

/// The event whose lines are being read.
#[derive(Debug, Clone, Default)]
struct Event {
    begun: bool,
    /// Its data so far, when it goes on in the next chunk.
    data: Option<Vec<u8>>,
    too_long: bool,
}

impl SseReader {
    /// A reader of events of at most so many bytes of data; longer ones are passed over.
    pub fn new(pointers: &[Pointer], texts: &[Pointer], event_bytes_max: usize) -> Self {
        Self {
            // A line holds the field's name, a colon and a space besides its data.
            lines: Lines::new(LineEnd::Any, event_bytes_max.saturating_add(DATA.len() + 1)),
            event_bytes_max,
            latest: Latest::new(pointers, texts),
            event: Event::default(),
            first: true,
            too_long: false,
        }
    }

    /// Reads the next bytes of the stream.
    pub fn feed(&mut self, mut chunk: &[u8]) {
        // An event that lies within the chunk is read where it lies.
        let mut data = self.event.data.take().map(Cow::Owned);
        while let Some(line) = self.lines.next(&mut chunk) {
            self.line(line, &mut data);
        }
        self.event.data = data.map(Cow::into_owned);
    }

    /// The stream has ended. An event without the empty line that should end it counts if its data is whole.
    pub fn finish(mut self) -> SseEnd {
        let mut data = self.event.data.take().map(Cow::Owned);
        let last = self.lines.last();
        let whole_line = last.is_none();
        if let Some(line) = last {
            self.line(line, &mut data);
        }
        self.too_long |= self.event.too_long;
        // A number may have lost digits; what has braces shows whether it is whole.
        let data = data.filter(|data| whole_line || matches!(data.trim_ascii_start(), [b'{' | b'[', ..]));
        let read = data.is_some_and(|data| self.latest.read(&data).is_ok());
        let cut = self.event.begun && !read;
        let unread = match (self.too_long, cut) {
            (true, _) => Some(Unread::TooLong),
            (false, true) => Some(Unread::Cut),
            (false, false) => None,
        };
        let values = self.latest.finish(unread);
        SseEnd { amounts: values.amounts, texts: values.texts, cut }
    }

    fn line<'c>(&mut self, line: Line<'c>, data: &mut Option<Cow<'c, [u8]>>) {
        let Line { mut text, too_long } = line;
        if std::mem::take(&mut self.first) && text.starts_with(BYTE_ORDER_MARK) {
            text = without_prefix(text, BYTE_ORDER_MARK.len());
        }
        if text.is_empty() {
            return self.end(data.take());
        }
        if text.starts_with(b":") {
            return;
        }
        self.event.begun = true;
        let value = if *text == *b"data" {
            Cow::Borrowed(&b""[..])
        } else if text.starts_with(DATA) {
            let space = usize::from(text.get(DATA.len()) == Some(&b' '));
            without_prefix(text, DATA.len() + space)
        } else {
            return;
        };
        let length = data.as_ref().map_or(0, |data| data.len() + 1) + value.len();
        self.event.too_long |= too_long || length > self.event_bytes_max;
        if self.event.too_long {
            *data = None;
            return;
        }
        match data {
            None => *data = Some(value),
            Some(data) => {
                work::count(value.len());
                let data = data.to_mut();
                data.push(b'\n');
                data.extend_from_slice(&value);
            }
        }
    }

    /// An empty line ends an event.
    fn end(&mut self, data: Option<Cow<'_, [u8]>>) {
        self.too_long |= self.event.too_long;
        self.event = Event::default();
        if let Some(data) = data {
            // Data that is not JSON tells nothing.
            let _ = self.latest.read(&data);
        }
    }
}

fn without_prefix(text: Cow<'_, [u8]>, bytes: usize) -> Cow<'_, [u8]> {
    match text {
        Cow::Borrowed(text) => Cow::Borrowed(&text[bytes..]),
        Cow::Owned(mut text) => {
            work::count(text.len());
            text.drain(..bytes);
            Cow::Owned(text)
        }
    }
}

#[cfg(test)]
mod tests;
