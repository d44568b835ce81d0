//! How a request comes in: how much of its body was seen, where that is, and whether more of it must be awaited before the
//! request can be decided.
//!
//! A body that says its length, and fits, waits with the proxy, which shows all of it each time something comes. Any other
//! is copied as it comes, and the client is slowed down: what the proxy is told to buffer must fit its buffer together with
//! all that it reads at once, or it answers 413 by itself, even while the filter is letting the request pass.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use tollgate_policy::request::{Body, Reading};

use crate::host::Host;

/// Most bytes of bodies that one worker has copied at a time: the module's memory never shrinks. Beyond it bodies wait with
/// the proxy.
pub const ROOM_BYTES: usize = 8 << 20;

/// Most bytes that are kept of a body while there is no policy to say how much is read: a policy's own default.
const UNASKED_BYTES_MAX: usize = 262_144;

/// Room for copies of bodies, one for all requests of a worker.
#[derive(Debug, Clone, Default)]
pub struct Room(Rc<Cell<usize>>);

impl Room {
    /// Bytes that are copied.
    pub fn taken(&self) -> usize {
        self.0.get()
    }

    fn has(&self, bytes: usize) -> bool {
        self.taken().saturating_add(bytes) <= ROOM_BYTES
    }
}

/// What was copied of a body. Its room is free again when it goes.
#[derive(Debug)]
struct Copied {
    bytes: Vec<u8>,
    room: Room,
}

impl Copied {
    /// Adds what the proxy shows.
    fn add(&mut self, host: &dyn Host, length: usize) {
        let shown = host.request_body(length);
        self.room.0.set(self.room.taken().saturating_add(shown.len()));
        self.bytes.extend_from_slice(&shown);
    }
}

impl Drop for Copied {
    fn drop(&mut self) {
        self.room.0.set(self.room.taken().saturating_sub(self.bytes.len()));
    }
}

/// How far a request's body is.
#[derive(Debug, Default)]
pub struct Intake {
    bytes: Cell<usize>,
    whole: Cell<bool>,
    /// The length that the head says.
    declared: Cell<Option<u64>>,
    /// More than this is not read; 0 while nothing is to be read.
    bytes_max: Cell<usize>,
    /// The client was slowed down: the proxy keeps what has come, and shows only what comes next.
    shows_next: Cell<bool>,
    copied: RefCell<Option<Copied>>,
}

impl Intake {
    /// The headers are there; `end` says that nothing follows.
    pub fn begin(&self, end: bool) {
        self.whole.set(end);
    }

    /// The length that they say.
    pub fn declares(&self, length: Option<u64>) {
        self.declared.set(length);
    }

    /// The proxy shows so many bytes: of all that it keeps, or only what is new where the client was slowed down.
    pub fn shows(&self, host: &dyn Host, length: usize, end: bool) {
        let before = if self.shows_next.get() { self.bytes.get() } else { 0 };
        self.bytes.set(before.saturating_add(length));
        self.whole.set(self.whole.get() || end);
        let mut copied = self.copied.borrow_mut();
        if self.is_long() {
            *copied = None;
        } else if let Some(copy) = &mut *copied {
            // The last of it is shown nowhere else.
            if end || copy.room.has(length) {
                copy.add(host, length);
            } else {
                *copied = None;
            }
        }
    }

    /// Not enough has come: keeps what there is until more comes. Answers whether the client is to be slowed down.
    pub fn keep(&self, host: &dyn Host, room: &Room) -> bool {
        if self.shows_next.get() {
            // Where the room was too small for the rest of a copy, all of it waits with the proxy from here on.
            return self.copied.borrow().is_some() || !self.is_reading();
        }
        let bytes = self.bytes.get();
        match self.declared.get() {
            Some(length) => length > self.kept_max() as u64,
            None if self.is_long() => true,
            None if room.has(bytes) => {
                let mut copy = Copied { bytes: Vec::new(), room: room.clone() };
                copy.add(host, bytes);
                self.copied.replace(Some(copy));
                true
            }
            None => false,
        }
    }

    /// The proxy was told what to do with what it showed.
    pub fn slows_client(&self, slows: bool) {
        self.shows_next.set(slows);
    }

    /// So many more bytes pass.
    pub fn passes(&self, bytes: usize) {
        self.bytes.set(self.bytes.get().saturating_add(bytes));
    }

    /// The body is through.
    pub fn ends(&self) {
        self.whole.set(true);
    }

    /// What was kept is not needed any more.
    pub fn release(&self) {
        self.copied.replace(None);
    }

    /// Bytes seen so far.
    pub fn bytes(&self) -> u64 {
        self.bytes.get() as u64
    }

    /// Whether the body is awaited before anything can be decided.
    pub fn is_reading(&self) -> bool {
        self.bytes_max.get() > 0
    }

    /// Whether the proxy keeps all of it, to be read again.
    pub fn is_with_proxy(&self) -> bool {
        self.is_reading() && self.whole.get() && self.bytes.get() > 0 && self.copied.borrow().is_none()
    }

    /// Whether what has come cannot be read any more.
    pub fn is_gone(&self) -> bool {
        self.shows_next.get() && self.copied.borrow().is_none()
    }

    /// Whether there is enough of it.
    pub fn is_ready(&self) -> bool {
        self.whole.get() || self.bytes.get() > self.bytes_max.get()
    }

    /// The body, where it is needed. `None`: it is, and must be awaited, or is gone.
    pub fn read(&self, host: &dyn Host, reading: &Reading<'_>) -> Option<Body> {
        if !reading.needs_body() {
            return Some(Body::Unread(self.whole.get().then(|| self.bytes())));
        }
        let bytes_max = reading.body_bytes_max();
        self.bytes_max.set(bytes_max.max(1));
        if self.declared.get().is_some_and(|length| length > bytes_max as u64) || self.bytes.get() > bytes_max
        {
            return Some(Body::TooLong);
        }
        match (self.whole.get(), self.bytes.get()) {
            (true, 0) => Some(Body::Unread(Some(0))),
            (true, _) if self.is_gone() => None,
            (true, bytes) => Some(Body::Whole(match &*self.copied.borrow() {
                Some(copied) => copied.bytes.clone(),
                None => host.request_body(bytes),
            })),
            (false, _) => None,
        }
    }

    fn is_long(&self) -> bool {
        self.bytes.get() > self.kept_max()
    }

    fn kept_max(&self) -> usize {
        if self.is_reading() { self.bytes_max.get() } else { UNASKED_BYTES_MAX }
    }
}
