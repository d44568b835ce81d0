//! The application behind Envoy. It remembers what reached it, and does what the query of a request says:
//! `?status=500`, `?delay_ms=200`, `?chunks=5` (one every 100 ms), `?cut=before`, `?cut=after` (the head of the answer).
//! A request with the header `x-case` gets the answer that a test has [told](Upstream::tell) it for that name.

use std::collections::HashMap;
use std::io;
use std::net::Shutdown;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::http::Message;
use crate::http2;
use crate::port::Port;
use crate::server::{Responder, Server};

/// Time between two chunks of a streamed answer.
const CHUNK_EVERY: Duration = Duration::from_millis(100);

/// The header that names a request for [`Upstream::tell`].
pub const CASE: &str = "x-case";

/// A request that nobody releases is answered after this all the same.
const HELD_AT_MOST: Duration = Duration::from_secs(20);

/// A request that reached the application.
#[derive(Debug, Clone)]
pub struct Seen {
    /// When.
    pub at: Instant,
    /// What.
    pub message: Message,
}

/// The application.
pub struct Upstream {
    port: Port,
    server: Option<Server>,
    seen: Arc<Mutex<Vec<Seen>>>,
    told: Arc<Told>,
}

/// What it is to answer.
#[derive(Debug, Clone, Default)]
pub struct Reply {
    /// The status.
    pub status: u16,
    /// Headers but for those of the message's form.
    pub headers: Vec<(String, Vec<u8>)>,
    /// The body.
    pub chunks: Vec<Vec<u8>>,
    /// Whether the body's length is told; else it comes in chunks.
    pub has_length: bool,
    /// What follows the body.
    pub trailers: Vec<(String, String)>,
    /// When the connection is cut.
    pub cut: Option<Cut>,
    /// It does not answer before [`Upstream::release`].
    pub is_held: bool,
}

/// When a connection is cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cut {
    /// Instead of an answer.
    Before,
    /// After the chunks.
    After,
}

/// Answers by the name of their case.
#[derive(Default)]
struct Told {
    replies: Mutex<HashMap<String, Reply>>,
    last: Mutex<String>,
    changed: Condvar,
}

impl Upstream {
    /// Starts it.
    pub fn start() -> Self {
        let mut upstream =
            Self { port: Port::take(), server: None, seen: Arc::default(), told: Arc::default() };
        upstream.restart();
        upstream
    }

    /// Starts one that speaks HTTP/2. It reads no headers, and gives each request the answer that was told last.
    pub fn start_http2() -> Self {
        let port = Port::take();
        let (seen, told) = (Arc::<Mutex<Vec<Seen>>>::default(), Arc::<Told>::default());
        let (to, replies) = (seen.clone(), told.clone());
        let server = Server::start_connections(port.number, move |stream| {
            let answer = |body| {
                let case = replies.last.lock().unwrap_or_else(PoisonError::into_inner).clone();
                let headers = vec![(CASE.to_owned(), case.clone().into_bytes())];
                let message = Message { start: "HTTP/2".to_owned(), headers, body };
                let mut seen = to.lock().unwrap_or_else(PoisonError::into_inner);
                seen.push(Seen { at: Instant::now(), message });
                drop(seen);
                replies.wait(&case).and_then(|reply| reply.of_http2())
            };
            // What went wrong the proxy sees as a closed connection.
            let _ = http2::serve(stream, answer);
            let _ = stream.shutdown(Shutdown::Both);
        });
        Self { port, server: Some(server), seen, told }
    }

    /// Where it listens.
    pub fn port(&self) -> u16 {
        self.port.number
    }

    /// Stops listening; open connections are cut.
    pub fn stop(&mut self) {
        self.server = None;
    }

    /// Listens again, on the same port.
    pub fn restart(&mut self) {
        self.server = None;
        let (seen, told) = (self.seen.clone(), self.told.clone());
        self.server = Some(Server::start(self.port.number, move |request, responder| {
            let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
            seen.push(Seen { at: Instant::now(), message: request.clone() });
            drop(seen);
            match request.header(CASE).and_then(|case| told.wait(&case)) {
                Some(reply) => reply.send(responder),
                None => answer(request, responder),
            }
        }));
    }

    /// Tells it what to answer to requests of this name.
    pub fn tell(&self, case: &str, reply: Reply) {
        self.told.lock().insert(case.to_owned(), reply);
        case.clone_into(&mut self.told.last.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// Lets it answer a request that is held.
    pub fn release(&self, case: &str) {
        if let Some(reply) = self.told.lock().get_mut(case) {
            reply.is_held = false;
        }
        self.told.changed.notify_all();
    }

    /// The request of this name, if it was reached by one.
    pub fn seen_of(&self, case: &str) -> Option<Message> {
        let of = |seen: &&Seen| seen.message.header(CASE).as_deref() == Some(case);
        self.lock().iter().find(of).map(|seen| seen.message.clone())
    }

    /// What reached it so far, in order.
    pub fn seen(&self) -> Vec<Seen> {
        self.lock().clone()
    }

    /// How many requests reached it so far.
    pub fn count(&self) -> usize {
        self.lock().len()
    }

    /// The last request that reached it.
    #[track_caller]
    pub fn last(&self) -> Message {
        self.lock().last().expect("a request reached the application").message.clone()
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Seen>> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Told {
    fn lock(&self) -> MutexGuard<'_, HashMap<String, Reply>> {
        self.replies.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What was told for this name, once it may be answered.
    fn wait(&self, case: &str) -> Option<Reply> {
        let held =
            |replies: &mut HashMap<String, Reply>| replies.get(case).is_some_and(|reply| reply.is_held);
        let waited = self.changed.wait_timeout_while(self.lock(), HELD_AT_MOST, held);
        let (replies, _) = waited.unwrap_or_else(PoisonError::into_inner);
        replies.get(case).cloned()
    }
}

impl Reply {
    fn of_http2(&self) -> Option<http2::Answer> {
        let status = (":status".to_owned(), self.status.to_string().into_bytes());
        let trailers = self.trailers.iter().map(|(name, value)| (name.clone(), value.clone().into_bytes()));
        let answer = http2::Answer {
            headers: [vec![status], self.headers.clone()].concat(),
            chunks: self.chunks.clone(),
            trailers: trailers.collect(),
        };
        Some(answer).filter(|_| self.cut.is_none())
    }

    fn send(&self, responder: &mut Responder) -> io::Result<()> {
        if self.cut == Some(Cut::Before) {
            return responder.cut();
        }
        let mut head = format!("HTTP/1.1 {} Status\r\n", self.status).into_bytes();
        for (name, value) in &self.headers {
            head.extend([name.as_bytes(), b": ", value, b"\r\n"].concat());
        }
        if self.has_length && self.status != 204 {
            let length: usize = self.chunks.iter().map(Vec::len).sum();
            head.extend(format!("content-length: {length}\r\n\r\n").into_bytes());
        } else if self.status != 204 {
            head.extend(b"transfer-encoding: chunked\r\n\r\n");
        } else {
            head.extend(b"\r\n");
        }
        responder.send_raw(&head)?;
        for chunk in &self.chunks {
            if self.has_length {
                responder.send_raw(chunk)?;
            } else {
                responder.chunk(chunk)?;
            }
        }
        if self.cut == Some(Cut::After) {
            return responder.cut();
        }
        if !self.has_length && self.status != 204 {
            let trailers = self.trailers.iter().map(|(name, value)| format!("{name}: {value}\r\n"));
            responder.send_raw(format!("0\r\n{}\r\n", trailers.collect::<String>()).as_bytes())?;
        }
        Ok(())
    }
}

fn answer(request: &Message, responder: &mut Responder) -> io::Result<()> {
    let target = request.start.split(' ').nth(1).unwrap_or_default();
    let query = target.split_once('?').map_or("", |(_, query)| query);
    let told = |name: &str| query.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='));
    if let Some(delay_ms) = told("delay_ms").and_then(|ms| ms.parse().ok()) {
        std::thread::sleep(Duration::from_millis(delay_ms));
    }
    if told("cut") == Some("before") {
        return responder.cut();
    }
    let status = told("status").and_then(|status| status.parse().ok()).unwrap_or(200);
    if told("cut") == Some("after") {
        responder.begin(status, &[])?;
        return responder.cut();
    }
    match told("chunks").and_then(|chunks| chunks.parse::<u32>().ok()) {
        Some(chunks) => {
            responder.begin(status, &[("content-type", "text/event-stream")])?;
            for number in 0..chunks {
                responder.chunk(format!("data: {number}\n\n").as_bytes())?;
                std::thread::sleep(CHUNK_EVERY);
            }
            responder.end()
        }
        None if status == 204 => responder.send_nothing(),
        None => responder.send(status, &[("content-type", "text/plain")], b"done\n"),
    }
}
