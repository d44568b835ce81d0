//! HTTP/1.1 messages on a stream, read and written as they are: tests send what no client library would.

use std::io::{self, BufRead, Read, Write};

/// Longest line of a message.
const LINE_BYTES_MAX: u64 = 1 << 20;

/// A message: a request or a response.
#[derive(Debug, Clone, Default)]
pub struct Message {
    /// The first line.
    pub start: String,
    /// Names in small letters; values as they came.
    pub headers: Vec<(String, Vec<u8>)>,
    /// The whole body.
    pub body: Vec<u8>,
}

impl Message {
    /// Reads the first line and the headers; `None` when the stream ended before them.
    pub fn read_head(from: &mut impl BufRead) -> io::Result<Option<Self>> {
        let Some(start) = read_line(from)? else { return Ok(None) };
        let mut message = Self { start: String::from_utf8_lossy(&start).into_owned(), ..Self::default() };
        loop {
            let line = read_line(from)?.ok_or(io::ErrorKind::UnexpectedEof)?;
            if line.is_empty() {
                return Ok(Some(message));
            }
            let colon = line.iter().position(|byte| *byte == b':').ok_or(io::ErrorKind::InvalidData)?;
            let name = String::from_utf8_lossy(&line[..colon]).to_ascii_lowercase();
            message.headers.push((name, line[colon + 1..].trim_ascii().to_vec()));
        }
    }

    /// Reads the body that the headers announce; `to_end` says that one without a length lasts to the stream's end.
    pub fn read_body(&mut self, from: &mut impl BufRead, to_end: bool) -> io::Result<()> {
        if self.header("transfer-encoding").is_some_and(|coding| coding.contains("chunked")) {
            while let Some(chunk) = read_chunk(from)? {
                self.body.extend_from_slice(&chunk);
            }
        } else if let Some(length) = self.header("content-length") {
            let length: usize = length.parse().map_err(|_| io::ErrorKind::InvalidData)?;
            self.body.resize(length, 0);
            from.read_exact(&mut self.body)?;
        } else if to_end {
            from.read_to_end(&mut self.body)?;
        }
        Ok(())
    }

    /// A header's value; several of the same name are one list (RFC 9110, 5.3).
    pub fn header(&self, name: &str) -> Option<String> {
        let named = self.headers.iter().filter(|(found, _)| found == name);
        let values: Vec<_> = named.map(|(_, value)| String::from_utf8_lossy(value)).collect();
        (!values.is_empty()).then(|| values.join(", "))
    }

    /// The names of its headers that begin so.
    pub fn header_names(&self, prefix: &str) -> Vec<&str> {
        self.headers.iter().map(|(name, _)| name.as_str()).filter(|name| name.starts_with(prefix)).collect()
    }
}

/// Reads one chunk of a chunked body, or its end with the trailers.
pub fn read_chunk(from: &mut impl BufRead) -> io::Result<Option<Vec<u8>>> {
    let line = read_line(from)?.ok_or(io::ErrorKind::UnexpectedEof)?;
    let size = String::from_utf8_lossy(&line);
    let size = usize::from_str_radix(size.split(';').next().unwrap_or_default().trim(), 16);
    let size = size.map_err(|_| io::ErrorKind::InvalidData)?;
    if size == 0 {
        while read_line(from)?.is_some_and(|trailer| !trailer.is_empty()) {}
        return Ok(None);
    }
    let mut chunk = vec![0; size];
    from.read_exact(&mut chunk)?;
    read_line(from)?;
    Ok(Some(chunk))
}

/// Writes one chunk of a chunked body.
pub fn write_chunk(to: &mut impl Write, chunk: &[u8]) -> io::Result<()> {
    let mut bytes = format!("{:x}\r\n", chunk.len()).into_bytes();
    bytes.extend_from_slice(chunk);
    bytes.extend_from_slice(b"\r\n");
    to.write_all(&bytes)?;
    to.flush()
}

fn read_line(from: &mut impl BufRead) -> io::Result<Option<Vec<u8>>> {
    let mut line = Vec::new();
    from.by_ref().take(LINE_BYTES_MAX).read_until(b'\n', &mut line)?;
    if line.is_empty() {
        return Ok(None);
    }
    while line.last().is_some_and(|byte| matches!(byte, b'\r' | b'\n')) {
        line.pop();
    }
    Ok(Some(line))
}
