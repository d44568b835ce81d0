//! The load: a closed loop over keep-alive connections with requests made beforehand, so that the client costs little and
//! never waits for anything but the proxy.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

/// Connections: enough that the proxy always has a request to work on, few enough that waiting in line does not hide what
/// a request costs.
const CONNECTIONS: usize = 16;

/// What a client saw.
#[derive(Debug, Clone, Default)]
pub struct Seen {
    pub requests: u64,
    /// Of each request, sorted.
    latencies: Vec<Duration>,
}

impl Seen {
    /// The latency that a share of the requests did not exceed.
    pub fn percentile(&self, share: f64) -> Duration {
        let last = self.latencies.len().saturating_sub(1);
        let at = (last as f64 * share).round() as usize;
        self.latencies.get(at).copied().unwrap_or_default()
    }
}

/// The bytes of a request with this token.
pub fn request(token: &str) -> Vec<u8> {
    request_to("/v1/items/7", token)
}

/// The bytes of a request for a path with this token.
pub fn request_to(path: &str, token: &str) -> Vec<u8> {
    format!("GET {path} HTTP/1.1\r\nhost: bench\r\nauthorization: Bearer {token}\r\naccept: */*\r\n\r\n")
        .into_bytes()
}

/// Sends one request on a connection of its own and returns the status.
pub fn status_of(port: u16, request: &[u8]) -> Result<u16> {
    let mut connection = Connection::open(port)?;
    connection.exchange(request)
}

/// Repeats the requests, in turn, for `time`. Fails when any answer is not 200: a measurement of refusals is none.
pub fn run(port: u16, requests: &Arc<Vec<Vec<u8>>>, time: Duration) -> Result<Seen> {
    let threads: Vec<_> = (0..CONNECTIONS)
        .map(|index| {
            let requests = Arc::clone(requests);
            std::thread::spawn(move || one_connection(port, &requests, index, time))
        })
        .collect();
    let mut seen = Seen::default();
    for thread in threads {
        let latencies = thread.join().map_err(|_| anyhow::anyhow!("a client thread panicked"))??;
        seen.requests += latencies.len() as u64;
        seen.latencies.extend(latencies);
    }
    seen.latencies.sort_unstable();
    Ok(seen)
}

/// Sends each request once: tokens verified, leases granted, before anything is measured.
pub fn visit_all(port: u16, requests: &[Vec<u8>]) -> Result<()> {
    let mut connection = Connection::open(port)?;
    for request in requests {
        let status = connection.exchange(request)?;
        ensure!(status == 200, "a request was answered {status}, before the measurement");
    }
    Ok(())
}

/// The same over all connections at once, each with its part.
pub fn visit_all_at_once(port: u16, requests: &Arc<Vec<Vec<u8>>>) -> Result<()> {
    let part = requests.len().div_ceil(CONNECTIONS);
    let threads: Vec<_> = (0..CONNECTIONS)
        .map(|index| {
            let requests = Arc::clone(requests);
            let range = (index * part).min(requests.len())..((index + 1) * part).min(requests.len());
            std::thread::spawn(move || visit_all(port, requests.get(range).unwrap_or_default()))
        })
        .collect();
    for thread in threads {
        thread.join().map_err(|_| anyhow::anyhow!("a client thread panicked"))??;
    }
    Ok(())
}

fn one_connection(port: u16, requests: &[Vec<u8>], index: usize, time: Duration) -> Result<Vec<Duration>> {
    let mut connection = Connection::open(port)?;
    let mut latencies = Vec::with_capacity(100_000);
    // Connections start at different callers, and so at any moment many are in flight.
    let start = index * requests.len() / CONNECTIONS;
    let mut turn = requests.iter().cycle().skip(start);
    let begin = Instant::now();
    let mut sent = begin;
    while sent - begin < time {
        let request = turn.next().context("there are no requests")?;
        let status = connection.exchange(request)?;
        if status != 200 {
            bail!("a request was answered {status} in the measurement");
        }
        let answered = Instant::now();
        latencies.push(answered - sent);
        sent = answered;
    }
    Ok(latencies)
}

struct Connection {
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl Connection {
    fn open(port: u16) -> Result<Self> {
        let stream = TcpStream::connect(("127.0.0.1", port)).context("cannot connect to Envoy")?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(Duration::from_secs(10)))?;
        Ok(Self { stream, buffer: vec![0; 16 * 1024] })
    }

    /// Sends a request, reads its whole answer and returns the status.
    fn exchange(&mut self, request: &[u8]) -> Result<u16> {
        self.stream.write_all(request)?;
        let mut length = 0;
        loop {
            let room = self.buffer.get_mut(length..).unwrap_or_default();
            let read = self.stream.read(room)?;
            ensure!(read > 0, "Envoy closed the connection, or answered more than {length} bytes");
            length += read;
            let text = self.buffer.get(..length).unwrap_or_default();
            if let Some(answer) = parse(text)? {
                ensure!(answer.length <= length, "an answer is longer than it says");
                if answer.length == length {
                    return Ok(answer.status);
                }
            }
        }
    }
}

struct Answer {
    status: u16,
    /// Head and body together.
    length: usize,
}

/// Reads an answer's head when it is complete. Envoy writes header names in lower case.
fn parse(text: &[u8]) -> Result<Option<Answer>> {
    let Some(end) = text.windows(4).position(|four| four == b"\r\n\r\n") else {
        return Ok(None);
    };
    let head = std::str::from_utf8(text.get(..end).unwrap_or_default()).context("a head that is not text")?;
    let status = head.get(9..12).and_then(|status| status.parse().ok()).context("no status line")?;
    let body = head.split("\r\n").find_map(|line| line.strip_prefix("content-length: "));
    let body: usize = body.context("an answer without content-length")?.parse()?;
    let length = end + 4 + body;
    // Longer than what arrived: more will come.
    Ok(Some(Answer { status, length }).filter(|answer| answer.length <= text.len()))
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn an_answer_is_complete_with_its_body() {
        let text = b"HTTP/1.1 401 Unauthorized\r\ncontent-length: 2\r\nserver: envoy\r\n\r\nno";
        assert!(parse(&text[..20]).unwrap().is_none());
        assert!(parse(&text[..text.len() - 1]).unwrap().is_none());
        let answer = parse(text).unwrap().unwrap();
        assert_eq!((answer.status, answer.length), (401, text.len()));
    }
}
