//! Proxies with their workers, a control plane and the network between them, moved from event to event.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::rc::Rc;

use serde_json::Value;

use super::plane::{Plane, WATCH_MS};
use super::proxy::{Answer, Proxy, Sent, Stream, Worker};
use crate::edge::Edge;
use crate::host::Reply;
use crate::request::{Flow, Request};

/// Unix ms at the test's beginning: 2026-01-15T12:00:00Z.
pub const START_MS: i64 = 1_768_478_400_000;

/// Mono ms at the test's beginning.
const MONO_MS: u64 = 10_000_000;

/// What happens to calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Net {
    /// They arrive, and are answered after this many ms, half of them each way.
    Fine(u64),
    /// They vanish, and are told lost when their time is out.
    Dead,
    /// They fail at once.
    Refused,
    /// They arrive, but the answer vanishes.
    Deaf,
    /// Something answers this status in the control plane's place.
    Status(u16),
    /// Something answers 200 and no message in the control plane's place.
    Garbage,
}

struct Flying {
    worker: usize,
    sent: Sent,
    /// When it arrives at the control plane.
    at_ms: u64,
    /// When the caller gives it up.
    timeout_at_ms: u64,
}

struct Landing {
    worker: usize,
    token: u32,
    at_ms: u64,
    reply: Reply,
}

/// A worker of a proxy; its edge is gone after a trap.
pub struct Seat {
    pub host: Rc<Worker>,
    pub edge: Option<Rc<Edge>>,
    requests: BTreeMap<u32, Rc<Request>>,
    next_stream: u32,
}

/// A request that was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sending {
    pub worker: usize,
    pub stream: u32,
}

pub struct World {
    mono_ms: Rc<Cell<u64>>,
    pub proxies: Vec<Rc<Proxy>>,
    pub seats: Vec<Seat>,
    pub plane: Plane,
    pub net: Net,
    flying: Vec<Flying>,
    watching: Vec<(Flying, u64)>,
    landing: Vec<Landing>,
    /// Requests whose body is kept until they go on.
    stopped: Vec<Sending>,
    configuration: String,
}

impl World {
    /// Proxies with so many workers each.
    pub fn new(policy: &Value, proxies: &[usize]) -> Self {
        let configuration =
            format!(r#"{{"control_plane": {{"cluster": "tollgate", "token": "{}"}}}}"#, super::EDGE_TOKEN);
        Self::configured(policy, proxies, &configuration)
    }

    pub fn configured(policy: &Value, proxies: &[usize], configuration: &str) -> Self {
        let mono_ms = Rc::new(Cell::new(MONO_MS));
        let mut world = Self {
            proxies: Vec::new(),
            seats: Vec::new(),
            plane: Plane::new(serde_json::from_value(policy.clone()).unwrap()),
            net: Net::Fine(4),
            flying: Vec::new(),
            watching: Vec::new(),
            landing: Vec::new(),
            stopped: Vec::new(),
            configuration: configuration.to_owned(),
            mono_ms,
        };
        for (number, workers) in proxies.iter().enumerate() {
            let offset_ms = START_MS - MONO_MS.cast_signed();
            let proxy = Proxy::new(world.mono_ms.clone(), offset_ms, number as u64 + 1);
            for _ in 0..*workers {
                let host = Worker::new(&proxy);
                let edge = Rc::new(Edge::new(host.clone(), configuration.as_bytes()));
                world.seats.push(Seat { host, edge: Some(edge), requests: BTreeMap::new(), next_stream: 1 });
            }
            world.proxies.push(proxy);
        }
        world
    }

    /// Unix ms by the control plane's clock, which is right.
    pub fn now_ms(&self) -> i64 {
        START_MS + (self.mono_ms.get() - MONO_MS).cast_signed()
    }

    /// The worker traps, and is made anew: nothing is told to anyone.
    pub fn trap(&mut self, worker: usize) {
        self.stop(worker);
        let host = Worker::new(&self.seats[worker].host.proxy);
        let edge = Rc::new(Edge::new(host.clone(), self.configuration.as_bytes()));
        let next_stream = self.seats[worker].next_stream;
        self.seats[worker] = Seat { host, edge: Some(edge), requests: BTreeMap::new(), next_stream };
    }

    /// The worker traps and does not come back.
    pub fn stop(&mut self, worker: usize) {
        self.seats[worker].edge = None;
        self.seats[worker].requests.clear();
        self.flying.retain(|flying| flying.worker != worker);
        self.watching.retain(|(flying, _)| flying.worker != worker);
        self.landing.retain(|landing| landing.worker != worker);
    }

    /// Sends a request; pseudo-headers included.
    pub fn send(&mut self, worker: usize, headers: Vec<(String, Vec<u8>)>) -> Sending {
        let announces = |(name, value): &(String, Vec<u8>)| {
            name == "transfer-encoding" || (name == "content-length" && value != b"0")
        };
        let has_body = headers.iter().any(announces);
        let seat = &mut self.seats[worker];
        let stream = seat.next_stream;
        seat.next_stream += 1;
        seat.host.streams.borrow_mut().insert(stream, Stream { headers, ..Stream::default() });
        seat.host.current.set(stream);
        let request = Request::new(seat.edge.clone().unwrap(), stream);
        seat.requests.insert(stream, request.clone());
        let flow = request.on_request_headers(!has_body);
        let mut streams = seat.host.streams.borrow_mut();
        let seen = streams.get_mut(&stream).unwrap();
        match flow {
            Flow::Continue => {
                assert!(seen.answer.is_none() && !seen.resumed, "a request goes on and was answered");
                seen.resumed = true;
                seen.resumed_at_ms = self.mono_ms.get();
            }
            Flow::Pause | Flow::Hold => {
                assert!(!seen.resumed, "a request goes on before it waits");
                seen.stopped = flow == Flow::Hold;
                if seen.stopped {
                    self.stopped.push(Sending { worker, stream });
                }
            }
        }
        drop(streams);
        self.pump();
        Sending { worker, stream }
    }

    pub fn look<T>(&self, of: Sending, look: impl FnOnce(&Stream) -> T) -> T {
        look(&self.seats[of.worker].host.streams.borrow()[&of.stream])
    }

    fn change(&mut self, of: Sending, change: impl FnOnce(&mut Stream)) {
        change(self.seats[of.worker].host.streams.borrow_mut().get_mut(&of.stream).unwrap());
    }

    /// Bytes of bodies that a worker has copied.
    pub fn room_of(&self, worker: usize) -> usize {
        self.seats[worker].edge.as_ref().unwrap().room.taken()
    }

    pub fn answer(&self, of: Sending) -> Option<Answer> {
        self.look(of, |stream| stream.answer.clone())
    }

    pub fn has_passed(&self, of: Sending) -> bool {
        self.look(of, |stream| stream.resumed)
    }

    pub fn is_waiting(&self, of: Sending) -> bool {
        self.look(of, |stream| !stream.resumed && stream.answer.is_none())
    }

    /// The next chunk of the request's body, which goes on with a request that has.
    pub fn request_body(&mut self, of: Sending, chunk: &[u8], last: bool) {
        self.change(of, |stream| stream.request.arrive(chunk, last));
        if self.look(of, |stream| stream.stopped) {
            return;
        }
        self.show_body(of, last);
    }

    /// The request's body is through, and trailers follow.
    pub fn request_trailers(&mut self, of: Sending) {
        let seat = &self.seats[of.worker];
        seat.host.current.set(of.stream);
        let request = seat.requests.get(&of.stream).cloned();
        self.change(of, |stream| {
            assert!(!stream.stopped, "the proxy holds trailers back");
            stream.request.ended = true;
        });
        let flow = request.map_or(Flow::Continue, |request| request.on_request_trailers());
        self.after_body(of, flow);
    }

    /// Shows the filter what has come of a request's body.
    fn show_body(&mut self, of: Sending, last: bool) {
        let seat = &self.seats[of.worker];
        seat.host.current.set(of.stream);
        let request = seat.requests.get(&of.stream).cloned();
        let length = self.look(of, |stream| stream.request.shown().len());
        let flow = request.map_or(Flow::Continue, |request| request.on_request_body(length, last));
        self.change(of, |stream| match flow {
            Flow::Hold => stream.request.slow_down(),
            Flow::Pause if stream.answer.is_none() => stream.request.buffer(),
            Flow::Pause | Flow::Continue => {}
        });
        self.after_body(of, flow);
    }

    /// The request goes on with what has come, where the filter lets it.
    fn after_body(&mut self, of: Sending, flow: Flow) {
        if flow == Flow::Continue {
            let now_ms = self.mono_ms.get();
            self.change(of, |stream| {
                if !stream.resumed && stream.answer.is_none() {
                    stream.resumed = true;
                    stream.resumed_at_ms = now_ms;
                }
                stream.request.pass();
            });
        }
        self.pump();
    }

    /// The request's head was all of it.
    pub fn request_has_no_body(&mut self, of: Sending) {
        self.change(of, |stream| stream.request.ended = true);
    }

    /// The upstream answers with its headers and no body; returns those that the filter set.
    pub fn upstream(&mut self, of: Sending, status: u16) -> BTreeMap<String, String> {
        self.response_head(of, status, BTreeMap::new(), true);
        let headers = self.look(of, |stream| stream.response_headers.clone());
        self.end(of);
        headers
    }

    /// The upstream answers with its head, or the proxy does because the upstream does not.
    pub fn response_head(&mut self, of: Sending, status: u16, headers: BTreeMap<String, String>, end: bool) {
        self.change(of, |stream| {
            stream.status = Some(status);
            stream.response_headers = headers;
        });
        self.in_stream(of, |request| request.on_response_headers(end));
    }

    /// The next chunk of the response's body.
    pub fn response_body(&mut self, of: Sending, chunk: &[u8], last: bool) {
        self.change(of, |stream| stream.response.arrive(chunk, last));
        self.in_stream(of, |request| request.on_response_body(chunk.len(), last));
        self.change(of, |stream| stream.response.pass());
    }

    /// What follows the response's body; its last chunk was not the end.
    pub fn response_trailers(&mut self, of: Sending, trailers: BTreeMap<String, String>) {
        self.change(of, |stream| stream.response_trailers = trailers);
        self.in_stream(of, |request| request.on_response_trailers());
    }

    fn in_stream(&mut self, of: Sending, act: impl FnOnce(&Request)) {
        let seat = &self.seats[of.worker];
        seat.host.current.set(of.stream);
        if let Some(request) = seat.requests.get(&of.stream) {
            act(request);
        }
        self.pump();
    }

    /// The stream is over.
    pub fn end(&mut self, of: Sending) {
        let seat = &mut self.seats[of.worker];
        if let Some(request) = seat.requests.remove(&of.stream) {
            seat.host.current.set(of.stream);
            request.on_end();
        }
        self.pump();
    }

    /// Lets time pass.
    pub fn run(&mut self, ms: u64) {
        let end_ms = self.mono_ms.get() + ms;
        self.pump();
        let mut guard = 0;
        while let Some(at_ms) = self.next_event_ms().filter(|at_ms| *at_ms <= end_ms) {
            // Two milliseconds are the network's least; what comes more often than this is a busy loop.
            guard += 1;
            assert!(guard < 100_000 + ms * 20, "a busy loop");
            self.mono_ms.set(at_ms.max(self.mono_ms.get()));
            self.step();
            self.pump();
        }
        self.mono_ms.set(end_ms);
    }

    fn next_event_ms(&self) -> Option<u64> {
        let ticks =
            self.seats.iter().filter(|seat| seat.edge.is_some()).filter_map(|s| s.host.tick_at_ms.get());
        let flying = self.flying.iter().map(|flying| flying.at_ms);
        let watching = self.watching.iter().map(|(_, end_ms)| *end_ms);
        let landing = self.landing.iter().map(|landing| landing.at_ms);
        ticks.chain(flying).chain(watching).chain(landing).min()
    }

    fn step(&mut self) {
        let now_ms = self.mono_ms.get();
        while let Some(at) = self.landing.iter().position(|landing| landing.at_ms <= now_ms) {
            let landing = self.landing.remove(at);
            if let Some(edge) = self.seats[landing.worker].edge.clone() {
                edge.on_reply(landing.token, landing.reply);
            }
        }
        while let Some(at) = self.flying.iter().position(|flying| flying.at_ms <= now_ms) {
            let flying = self.flying.remove(at);
            self.arrive(flying);
        }
        self.answer_watches();
        for seat in &self.seats {
            let due = seat.host.tick_at_ms.get().is_some_and(|at_ms| at_ms <= now_ms);
            if let (true, Some(edge)) = (due, &seat.edge) {
                seat.host.ticked();
                edge.on_tick();
            }
        }
    }

    /// Bodies of requests that were stopped and go on.
    fn release(&mut self) {
        let waiting = std::mem::take(&mut self.stopped);
        for of in waiting {
            // After a trap the stream is gone.
            let there = self.seats[of.worker].host.streams.borrow().contains_key(&of.stream);
            if !there || !self.look(of, |stream| stream.resumed) {
                self.stopped.extend(there.then_some(of));
                continue;
            }
            self.change(of, |stream| stream.stopped = false);
            let (came, last) =
                self.look(of, |stream| (!stream.request.held.is_empty(), stream.request.ended));
            if came || last {
                self.show_body(of, last);
            }
        }
    }

    /// Takes what the workers sent.
    fn pump(&mut self) {
        self.release();
        let now_ms = self.mono_ms.get();
        for (worker, seat) in self.seats.iter().enumerate() {
            for sent in seat.host.outbox.borrow_mut().drain(..) {
                assert_eq!(sent.bearer, super::EDGE_TOKEN);
                let timeout_at_ms = now_ms + sent.timeout_ms;
                let (token, mut reply_at) = (sent.token, None);
                match self.net {
                    Net::Fine(trip_ms) => {
                        let at_ms = now_ms + trip_ms / 2;
                        self.flying.push(Flying { worker, sent, at_ms, timeout_at_ms });
                    }
                    Net::Deaf => self.flying.push(Flying { worker, sent, at_ms: now_ms + 1, timeout_at_ms }),
                    Net::Dead => reply_at = Some((timeout_at_ms, Reply::Lost)),
                    Net::Refused => reply_at = Some((now_ms + 1, Reply::Lost)),
                    Net::Status(status) => {
                        let body = b"no".to_vec();
                        reply_at = Some((now_ms + 1, Reply::Response { status, body }));
                    }
                    Net::Garbage => {
                        let body = b"<html>".to_vec();
                        reply_at = Some((now_ms + 1, Reply::Response { status: 200, body }));
                    }
                }
                if let Some((at_ms, reply)) = reply_at {
                    self.landing.push(Landing { worker, token, at_ms, reply });
                }
            }
        }
        self.answer_watches();
    }

    fn arrive(&mut self, flying: Flying) {
        let now_ms = self.now_ms();
        let path = flying.sent.path.clone();
        let body = match (flying.sent.method.as_str(), path.split('?').next().unwrap()) {
            ("POST", "/edge/v1/sync") => {
                let request = serde_json::from_slice(&flying.sent.body).unwrap();
                serde_json::to_vec(&self.plane.sync(&request, now_ms)).unwrap()
            }
            ("POST", "/edge/v1/keys") => {
                let asked: Value = serde_json::from_slice(&flying.sent.body).unwrap();
                self.plane.asked_for_keys.push(asked["issuer"].as_str().unwrap().to_owned());
                b"{}".to_vec()
            }
            ("GET", "/edge/v1/policy") => self.plane.bundle(),
            ("GET", "/edge/v1/watch") => {
                self.plane.watches += 1;
                let end_ms = self.mono_ms.get() + WATCH_MS;
                self.watching.push((flying, end_ms));
                return;
            }
            other => panic!("the control plane has no {other:?}"),
        };
        self.reply(&flying, body);
    }

    fn reply(&mut self, flying: &Flying, body: Vec<u8>) {
        let now_ms = self.mono_ms.get();
        let trip_ms = match self.net {
            Net::Fine(trip_ms) => trip_ms - trip_ms / 2,
            _ => u64::MAX,
        };
        let at_ms = now_ms.saturating_add(trip_ms);
        let reply =
            if at_ms < flying.timeout_at_ms { Reply::Response { status: 200, body } } else { Reply::Lost };
        let at_ms = at_ms.min(flying.timeout_at_ms);
        self.landing.push(Landing { worker: flying.worker, token: flying.sent.token, at_ms, reply });
    }

    fn answer_watches(&mut self) {
        let mut waiting = std::mem::take(&mut self.watching);
        waiting.retain(|(flying, end_ms)| {
            let query: BTreeMap<&str, &str> = flying
                .sent
                .path
                .split_once('?')
                .unwrap()
                .1
                .split('&')
                .filter_map(|p| p.split_once('='))
                .collect();
            let (after, revision) = (query["after"].parse().unwrap(), query["revision"].parse().unwrap());
            let found = self.plane.watch(query["session"], after, revision);
            let over = self.mono_ms.get() >= *end_ms;
            let Some(answer) = found.or_else(|| over.then(|| self.plane.watched(Vec::new()))) else {
                return true;
            };
            let body = serde_json::to_vec(&answer).unwrap();
            self.reply(flying, body);
            false
        });
        waiting.append(&mut self.watching);
        self.watching = waiting;
    }
}
