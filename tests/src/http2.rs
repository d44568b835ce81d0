//! As much of an HTTP/2 server (RFC 9113) as an application behind a proxy needs to answer with trailers.
//!
//! It reads bodies and no headers, since those are compressed; and it answers one request at a time.

use std::io::{self, Read, Write};
use std::net::TcpStream;

/// What a client begins with (RFC 9113, 3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Most bytes of a frame that everybody takes (RFC 9113, 4.2).
const FRAME_BYTES_MAX: usize = 16_384;

/// Most bytes of a body that may be sent without asking (RFC 9113, 6.9.2).
const WINDOW_BYTES: usize = 65_535;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const WINDOW_UPDATE: u8 = 8;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;
const ACK: u8 = 1;

/// An answer.
#[derive(Debug, Clone, Default)]
pub struct Answer {
    /// `:status` and headers.
    pub headers: Vec<(String, Vec<u8>)>,
    /// The body.
    pub chunks: Vec<Vec<u8>>,
    /// What follows it.
    pub trailers: Vec<(String, Vec<u8>)>,
}

/// Serves a connection to its end: `answer` gets a request's body, and answers `None` to close the connection.
pub fn serve(mut stream: &TcpStream, answer: impl Fn(Vec<u8>) -> Option<Answer>) -> io::Result<()> {
    let mut preface = [0; PREFACE.len()];
    stream.read_exact(&mut preface)?;
    if preface != PREFACE {
        return Err(io::ErrorKind::InvalidData.into());
    }
    send(stream, SETTINGS, 0, 0, &[])?;
    let mut body = Vec::new();
    loop {
        let mut head = [0; 9];
        stream.read_exact(&mut head)?;
        let length = usize::from(head[0]) << 16 | usize::from(head[1]) << 8 | usize::from(head[2]);
        let (kind, flags) = (head[3], head[4]);
        let id = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
        let mut payload = vec![0; length];
        stream.read_exact(&mut payload)?;
        match kind {
            SETTINGS | PING if flags & ACK == 0 => {
                let echo = if kind == PING { &payload[..] } else { &[] };
                send(stream, kind, ACK, 0, echo)?;
            }
            DATA if length > 0 => {
                let more = u32::try_from(length).unwrap_or(u32::MAX).to_be_bytes();
                send(stream, WINDOW_UPDATE, 0, 0, &more)?;
                send(stream, WINDOW_UPDATE, 0, id, &more)?;
                body.append(&mut payload);
            }
            _ => {}
        }
        if matches!(kind, DATA | HEADERS) && flags & END_STREAM != 0 {
            let Some(answer) = answer(std::mem::take(&mut body)) else { return Ok(()) };
            answer.send(stream, id)?;
        }
    }
}

impl Answer {
    fn send(&self, stream: &TcpStream, id: u32) -> io::Result<()> {
        assert!(self.chunks.iter().map(Vec::len).sum::<usize>() <= WINDOW_BYTES, "the body is small");
        let has_trailers = !self.trailers.is_empty();
        let last = |last: bool| if last { END_STREAM } else { 0 };
        let ends = last(self.chunks.is_empty() && !has_trailers);
        send(stream, HEADERS, END_HEADERS | ends, id, &block(&self.headers))?;
        for (index, chunk) in self.chunks.iter().enumerate() {
            assert!(chunk.len() <= FRAME_BYTES_MAX, "a chunk is one frame");
            let ends = last(index + 1 == self.chunks.len() && !has_trailers);
            send(stream, DATA, ends, id, chunk)?;
        }
        if has_trailers {
            send(stream, HEADERS, END_HEADERS | END_STREAM, id, &block(&self.trailers))?;
        }
        Ok(())
    }
}

fn send(mut stream: &TcpStream, kind: u8, flags: u8, id: u32, payload: &[u8]) -> io::Result<()> {
    let length = u32::try_from(payload.len()).unwrap_or(u32::MAX).to_be_bytes();
    let head = [&length[1..], &[kind, flags], &id.to_be_bytes()].concat();
    stream.write_all(&[&head, payload].concat())
}

/// Headers as literals that nobody remembers (RFC 7541, 6.2.2).
fn block(headers: &[(String, Vec<u8>)]) -> Vec<u8> {
    let text = |text: &[u8]| {
        let length = u8::try_from(text.len()).ok().filter(|length| *length < 127).expect("it is short");
        [&[length], text].concat()
    };
    headers.iter().flat_map(|(name, value)| [vec![0], text(name.as_bytes()), text(value)].concat()).collect()
}
