//! The amounts in a response's body, read as it passes: JSON, Server-Sent Events, or lines of JSON.
//!
//! Knows a body by its media type alone, so it must get it decoded: a compressed body tells nothing.

use super::json::{JsonFault, Values, Wanted};
use super::latest::Latest;
use super::lines::{Line, LineEnd, Lines};
use super::pointer::Pointer;
use super::sse::SseReader;
use super::{Unread, work};

/// What a media type says of a body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BodyForm {
    /// One JSON text.
    Json,
    /// Server-Sent Events.
    Events,
    /// A JSON text on each line.
    JsonLines,
    /// Anything else.
    Other,
}

/// Reads the amounts at pointers from the chunks of a body.
#[derive(Debug, Clone)]
pub struct ResponseReader {
    pointers: usize,
    texts: usize,
    body: Body,
}

#[derive(Debug, Clone)]
enum Body {
    Json { wanted: Wanted, text: Vec<u8>, bytes_max: usize },
    Events(SseReader),
    JsonLines { lines: Lines, latest: Latest, unread: Option<Unread> },
    TooLong,
    Other,
}

impl BodyForm {
    /// Reads the value of a `Content-Type` header (RFC 9110 section 8.3).
    pub fn of(content_type: &[u8]) -> Self {
        let end = content_type.iter().position(|&byte| byte == b';').unwrap_or(content_type.len());
        let media_type = content_type[..end].trim_ascii().to_ascii_lowercase();
        match &media_type[..] {
            b"application/json" | b"text/json" => Self::Json,
            // RFC 6839 section 3.1.
            other if other.ends_with(b"+json") => Self::Json,
            b"text/event-stream" => Self::Events,
            b"application/x-ndjson" | b"application/jsonl" => Self::JsonLines,
            _ => Self::Other,
        }
    }
}

impl ResponseReader {
    /// A reader that keeps at most `bytes_max` bytes: of a JSON body all, else one event or one line.
    /// `texts` are read as texts, and not as amounts.
    pub fn new(
        content_type: Option<&[u8]>,
        pointers: &[Pointer],
        texts: &[Pointer],
        bytes_max: usize,
    ) -> Self {
        let reads = !pointers.is_empty() || !texts.is_empty();
        let form = content_type.filter(|_| reads).map_or(BodyForm::Other, BodyForm::of);
        let body = match form {
            BodyForm::Json => {
                let wanted = Wanted::new(pointers.iter().chain(texts));
                Body::Json { wanted, text: Vec::new(), bytes_max }
            }
            BodyForm::Events => Body::Events(SseReader::new(pointers, texts, bytes_max)),
            BodyForm::JsonLines => {
                let lines = Lines::new(LineEnd::Lf, bytes_max);
                Body::JsonLines { lines, latest: Latest::new(pointers, texts), unread: None }
            }
            BodyForm::Other => Body::Other,
        };
        Self { pointers: pointers.len(), texts: texts.len(), body }
    }

    /// Whether more of the body would tell more. If not, it need not be copied to here.
    pub fn wants_more(&self) -> bool {
        !matches!(self.body, Body::TooLong | Body::Other)
    }

    /// Reads the next bytes of the body.
    pub fn feed(&mut self, mut chunk: &[u8]) {
        match &mut self.body {
            Body::Json { text, bytes_max, .. } => {
                if chunk.len() > *bytes_max - text.len() {
                    self.body = Body::TooLong;
                } else {
                    work::count(chunk.len());
                    text.extend_from_slice(chunk);
                }
            }
            Body::Events(events) => events.feed(chunk),
            Body::JsonLines { lines, latest, unread } => {
                while let Some(line) = lines.next(&mut chunk) {
                    // Only the last line can be cut.
                    let fault = read_line(&line, latest).map(|fault| match fault {
                        Unread::Cut => Unread::Malformed,
                        fault => fault,
                    });
                    *unread = fault.or(*unread);
                }
            }
            Body::TooLong | Body::Other => {}
        }
    }

    /// The body has ended: the amount at each of the pointers, in their order, and the texts likewise.
    pub fn finish(self) -> Values {
        let nothing =
            |unread| Values { amounts: vec![Err(unread); self.pointers], texts: vec![None; self.texts] };
        match self.body {
            // As in the answer to HEAD, or with 204 and 304.
            Body::Json { text, .. } if text.trim_ascii().is_empty() => nothing(Unread::Missing),
            Body::Json { wanted, text, .. } => {
                wanted.values(&text, self.pointers).unwrap_or_else(|fault| nothing(unread_for(fault)))
            }
            Body::Events(events) => {
                let end = events.finish();
                Values { amounts: end.amounts, texts: end.texts }
            }
            Body::JsonLines { mut lines, mut latest, unread } => {
                let last = lines.last().and_then(|line| read_line(&line, &mut latest));
                latest.finish(last.or(unread))
            }
            Body::TooLong => nothing(Unread::TooLong),
            Body::Other => nothing(Unread::NotJson),
        }
    }
}

/// Why a line tells nothing; `None` if it is JSON or empty.
fn read_line(line: &Line<'_>, latest: &mut Latest) -> Option<Unread> {
    if line.too_long {
        return Some(Unread::TooLong);
    }
    if line.text.trim_ascii().is_empty() {
        return None;
    }
    latest.read(&line.text).err().map(unread_for)
}

fn unread_for(fault: JsonFault) -> Unread {
    match fault {
        JsonFault::Malformed | JsonFault::TooDeep => Unread::Malformed,
        JsonFault::Cut => Unread::Cut,
    }
}

#[cfg(test)]
mod tests;
