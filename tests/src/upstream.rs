//! The application behind Envoy. It remembers what reached it, and does what the query of a request says:
//! `?status=500`, `?delay_ms=200`, `?chunks=5` (one every 100 ms), `?cut=before`, `?cut=after` (the head of the answer).

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::http::Message;
use crate::port::Port;
use crate::server::{Responder, Server};

/// Time between two chunks of a streamed answer.
const CHUNK_EVERY: Duration = Duration::from_millis(100);

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
}

impl Upstream {
    /// Starts it.
    pub fn start() -> Self {
        let mut upstream = Self { port: Port::take(), server: None, seen: Arc::default() };
        upstream.restart();
        upstream
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
        let seen = self.seen.clone();
        self.server = Some(Server::start(self.port.number, move |request, responder| {
            let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
            seen.push(Seen { at: Instant::now(), message: request.clone() });
            drop(seen);
            answer(request, responder)
        }));
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
