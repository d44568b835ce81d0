//! The proxy, natively: what [`Host`] asks, with clocks, shared memory, streams and a network that a test controls.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;

use crate::host::HeaderMap;
use crate::host::{Call, CallRefused, Cas, CasMismatch, Host, Level, Now};

/// Where all clients are, as the proxy sees them.
pub const CLIENT: &str = "127.0.0.1:40000";

/// What the proxy buffers of a body, where it does not slow the client down.
pub const BUFFER_BYTES: usize = 1 << 20;

/// What all workers of one proxy share.
pub struct Proxy {
    pub mono_ms: Rc<Cell<u64>>,
    pub wall_offset_ms: Cell<i64>,
    pub shared: RefCell<BTreeMap<String, (Vec<u8>, u32)>>,
    pub queue: RefCell<VecDeque<Vec<u8>>>,
    /// Swaps of these keys lose the race.
    pub contended: Cell<fn(&str) -> bool>,
    random: Cell<u64>,
}

impl Proxy {
    pub fn new(mono_ms: Rc<Cell<u64>>, wall_offset_ms: i64, seed: u64) -> Rc<Self> {
        Rc::new(Self {
            mono_ms,
            wall_offset_ms: Cell::new(wall_offset_ms),
            shared: RefCell::default(),
            queue: RefCell::default(),
            contended: Cell::new(|_| false),
            random: Cell::new(seed),
        })
    }

    /// Keys of the buckets that hold a record.
    pub fn records(&self) -> usize {
        let shared = self.shared.borrow();
        shared.iter().filter(|(key, (value, _))| is_bucket(key) && !value.is_empty()).count()
    }
}

/// Whether a key is that of a bucket of records.
pub fn is_bucket(key: &str) -> bool {
    key.strip_prefix("tollgate.3.")
        .is_some_and(|rest| rest.len() == 4 && u16::from_str_radix(rest, 16).is_ok())
}

/// A request as the proxy sees it.
#[derive(Default)]
pub struct Stream {
    pub headers: Vec<(String, Vec<u8>)>,
    pub request: Body,
    pub status: Option<u16>,
    pub response_headers: BTreeMap<String, String>,
    pub response: Body,
    pub response_trailers: BTreeMap<String, String>,
    pub answer: Option<Answer>,
    pub resumed: bool,
    /// The proxy keeps what comes of the body until it goes on, and only then shows it to the filter.
    pub stopped: bool,
    /// When it went on, monotonic ms.
    pub resumed_at_ms: u64,
    /// The tier that the route was chosen by, where the filter had it chosen again.
    pub routed_by: Option<String>,
}

/// A message's body, as the proxy hands it from chunk to chunk.
#[derive(Debug, Default)]
pub struct Body {
    /// What came and was not let on yet.
    pub held: Vec<u8>,
    /// So much of it the filter has seen while its client was slowed down; it is shown only what comes after.
    pub unseen_from: usize,
    /// It is buffered, and shown again with all that comes.
    pub is_buffered: bool,
    /// What went on.
    pub passed: Vec<u8>,
    /// The last chunk has come.
    pub ended: bool,
}

impl Body {
    pub fn arrive(&mut self, chunk: &[u8], last: bool) {
        assert!(!self.ended, "a chunk comes after the last one");
        self.held.extend_from_slice(chunk);
        self.ended = last;
        if self.is_buffered {
            self.buffer();
        }
    }

    /// All that is held is buffered.
    pub fn buffer(&mut self) {
        assert!(self.held.len() <= BUFFER_BYTES, "the proxy answers 413 by itself");
        self.is_buffered = true;
        self.unseen_from = 0;
    }

    /// All that is held was seen, and its client is slowed down.
    pub fn slow_down(&mut self) {
        self.is_buffered = false;
        self.unseen_from = self.held.len();
    }

    /// What the filter may read.
    pub fn shown(&self) -> &[u8] {
        &self.held[self.unseen_from..]
    }

    pub fn pass(&mut self) {
        self.is_buffered = false;
        self.unseen_from = 0;
        self.passed.append(&mut self.held);
    }
}

/// What the filter answered by itself.
#[derive(Debug, Clone)]
pub struct Answer {
    pub status: u16,
    pub headers: BTreeMap<String, String>,
    pub body: Vec<u8>,
}

/// A call to the control plane that a worker made.
#[derive(Debug, Clone)]
pub struct Sent {
    pub token: u32,
    pub method: String,
    pub path: String,
    pub bearer: String,
    pub body: Vec<u8>,
    pub timeout_ms: u64,
}

/// One worker's view of the proxy.
pub struct Worker {
    pub proxy: Rc<Proxy>,
    pub streams: RefCell<BTreeMap<u32, Stream>>,
    pub current: Cell<u32>,
    pub outbox: RefCell<Vec<Sent>>,
    pub refuses_calls: Cell<bool>,
    /// What was asked of the proxy for requests, in all.
    pub asked: Cell<u64>,
    pub tick_at_ms: Cell<Option<u64>>,
    wall_offset_ms: Cell<i64>,
    period_ms: Cell<u64>,
    tokens: Cell<u32>,
    names: RefCell<Vec<String>>,
    pub metrics: RefCell<BTreeMap<String, i64>>,
    pub log: RefCell<Vec<String>>,
}

impl Worker {
    pub fn new(proxy: &Rc<Proxy>) -> Rc<Self> {
        Rc::new(Self {
            proxy: proxy.clone(),
            streams: RefCell::default(),
            current: Cell::new(0),
            outbox: RefCell::default(),
            refuses_calls: Cell::new(false),
            asked: Cell::new(0),
            tick_at_ms: Cell::new(None),
            wall_offset_ms: Cell::new(proxy.wall_offset_ms.get()),
            period_ms: Cell::new(0),
            tokens: Cell::new(0),
            names: RefCell::default(),
            metrics: RefCell::default(),
            log: RefCell::default(),
        })
    }

    /// The tick that is due has run: the next one comes after the period.
    pub fn ticked(&self) {
        let next = self.period_ms.get();
        self.tick_at_ms.set((next > 0).then(|| self.proxy.mono_ms.get() + next));
    }

    fn stream<T>(&self, look: impl FnOnce(&mut Stream) -> T) -> T {
        self.asked.set(self.asked.get() + 1);
        let mut streams = self.streams.borrow_mut();
        look(streams.get_mut(&self.current.get()).expect("the filter acts on a stream that is there"))
    }

    fn define(&self, name: &str) -> Option<u32> {
        let mut names = self.names.borrow_mut();
        assert!(!names.iter().any(|known| known == name), "{name} is defined twice");
        names.push(name.to_owned());
        u32::try_from(names.len() - 1).ok()
    }

    fn name(&self, metric: u32) -> String {
        self.names.borrow()[metric as usize].clone()
    }
}

impl Host for Worker {
    fn now(&self) -> Now {
        let mono_ms = self.proxy.mono_ms.get();
        Now { wall_ms: self.wall_offset_ms.get() + mono_ms.cast_signed(), mono_ms }
    }

    fn read_wall_clock(&self) {
        self.wall_offset_ms.set(self.proxy.wall_offset_ms.get());
    }

    fn random(&self) -> [u8; 16] {
        let next = || {
            let mut x = self.proxy.random.get().wrapping_add(0x9e37_79b9_7f4a_7c15);
            self.proxy.random.set(x);
            x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            (x ^ (x >> 31)).to_le_bytes()
        };
        [next(), next()].concat().try_into().unwrap()
    }

    fn request_headers(&self) -> HeaderMap {
        self.stream(|stream| {
            HeaderMap::of(stream.headers.iter().map(|(name, value)| (name.as_str(), value.as_slice())))
        })
    }

    fn set_request_header(&self, name: &str, value: &str) {
        self.stream(|stream| {
            assert!(stream.answer.is_none(), "a header is set on a request that was answered");
            assert!(!stream.resumed, "a header is set on a request that has gone on: the proxy traps");
            stream.headers.retain(|(other, _)| other != name);
            stream.headers.push((name.to_owned(), value.as_bytes().to_vec()));
        });
    }

    fn remove_request_header(&self, name: &str) {
        self.stream(|stream| {
            assert!(!stream.resumed, "a header of a request that has gone on is removed: the proxy traps");
            stream.headers.retain(|(other, _)| other != name);
        });
    }

    fn request_body(&self, length: usize) -> Vec<u8> {
        self.stream(|stream| stream.request.shown().get(..length).expect("so much is shown").to_vec())
    }

    fn client_address(&self) -> Option<String> {
        Some(CLIENT.to_owned())
    }

    fn response_header(&self, name: &str) -> Option<Vec<u8>> {
        self.stream(|stream| stream.response_headers.get(name).map(|value| value.clone().into_bytes()))
    }

    fn response_trailer(&self, name: &str) -> Option<Vec<u8>> {
        self.stream(|stream| stream.response_trailers.get(name).map(|value| value.clone().into_bytes()))
    }

    fn response_body(&self, length: usize) -> Vec<u8> {
        self.stream(|stream| stream.response.held.get(..length).expect("so much has come").to_vec())
    }

    fn response_status(&self) -> Option<u16> {
        self.stream(|stream| stream.status)
    }

    fn set_response_header(&self, name: &str, value: &str) {
        self.stream(|stream| {
            assert!(stream.status.is_some(), "a response header is set before there is a response");
            stream.response_headers.insert(name.to_owned(), value.to_owned());
        });
    }

    fn respond(&self, status: u16, headers: &[(&str, &str)], body: &[u8]) {
        self.stream(|stream| {
            assert!(stream.answer.is_none() && stream.status.is_none(), "a request is answered twice");
            // The upstream has not got all of it, and gets no more.
            stream.resumed = false;
            let headers = headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
            stream.answer = Some(Answer { status, headers: headers.collect(), body: body.to_vec() });
        });
    }

    fn select_stream(&self, stream: u32) {
        self.current.set(stream);
    }

    fn resume_request(&self) {
        self.stream(|stream| {
            assert!(stream.answer.is_none() && !stream.resumed, "a request goes on twice");
            let body = &stream.request;
            // The proxy goes on showing all that it has buffered, or forgets what comes, depending on its version.
            assert!(!body.is_buffered || body.ended, "a request goes on in the middle of what is buffered");
            stream.resumed = true;
            stream.resumed_at_ms = self.proxy.mono_ms.get();
            if !stream.stopped {
                stream.request.pass();
            }
        });
    }

    fn choose_route_again(&self) {
        self.stream(|stream| {
            assert!(!stream.resumed, "a route is chosen for a request that has gone on");
            let tier = stream.headers.iter().find(|(name, _)| name == "x-tollgate-tier");
            assert!(stream.routed_by.is_none(), "the route is chosen again twice");
            let tier = tier.map(|(_, tier)| String::from_utf8_lossy(tier).into_owned());
            // Without a subject there is no tier.
            stream.routed_by = Some(tier.unwrap_or_default());
        });
    }

    fn shared_get(&self, key: &str) -> (Option<Vec<u8>>, Cas) {
        self.asked.set(self.asked.get() + 1);
        match self.proxy.shared.borrow().get(key) {
            Some((value, cas)) => (Some(value.clone()), Some(*cas)),
            None => (None, None),
        }
    }

    fn shared_swap(&self, key: &str, value: &[u8], cas: Cas) -> Result<(), CasMismatch> {
        self.asked.set(self.asked.get() + 1);
        if self.proxy.contended.get()(key) {
            return Err(CasMismatch);
        }
        let mut shared = self.proxy.shared.borrow_mut();
        let next = match shared.get(key) {
            Some((_, number)) if cas != Some(*number) => return Err(CasMismatch),
            Some((_, number)) => number + 1,
            None => 1,
        };
        shared.insert(key.to_owned(), (value.to_vec(), next));
        Ok(())
    }

    fn enqueue(&self, message: &[u8]) {
        self.proxy.queue.borrow_mut().push_back(message.to_vec());
    }

    fn dequeue(&self) -> Option<Vec<u8>> {
        self.proxy.queue.borrow_mut().pop_front()
    }

    fn call(&self, call: &Call<'_>) -> Result<u32, CallRefused> {
        if self.refuses_calls.get() {
            return Err(CallRefused);
        }
        assert_eq!(call.cluster, "tollgate");
        let token = self.tokens.get();
        self.tokens.set(token + 1);
        self.outbox.borrow_mut().push(Sent {
            token,
            method: call.method.to_owned(),
            path: call.path.to_owned(),
            bearer: call.token.to_owned(),
            body: call.body.to_vec(),
            timeout_ms: call.timeout_ms,
        });
        Ok(token)
    }

    fn set_tick(&self, period_ms: u64) {
        self.period_ms.set(period_ms);
        self.ticked();
    }

    fn define_counter(&self, name: &str) -> Option<u32> {
        self.define(name)
    }

    fn define_gauge(&self, name: &str) -> Option<u32> {
        self.define(name)
    }

    fn increment(&self, metric: u32, by: i64) {
        assert!(by > 0, "Envoy's counters only grow");
        *self.metrics.borrow_mut().entry(self.name(metric)).or_default() += by;
    }

    fn record(&self, metric: u32, value: u64) {
        self.metrics.borrow_mut().insert(self.name(metric), i64::try_from(value).unwrap_or(i64::MAX));
    }

    fn memory_bytes(&self) -> u64 {
        0
    }

    fn log(&self, _: Level, message: &str) {
        assert!(!message.contains(super::SECRET), "a secret is logged: {message}");
        assert!(!message.contains(super::EDGE_TOKEN), "the edge token is logged: {message}");
        self.log.borrow_mut().push(message.to_owned());
    }
}
