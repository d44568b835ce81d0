//! How a request comes in: how much of its body was seen, where that is, and whether more of it must be awaited before the
//! request can be decided.
//!
//! A body that is to be read, says its length, and fits, waits with the proxy, which shows all of it each time something
//! comes. Any other that may have to be read is copied as it comes, and the client is slowed down: what the proxy is told to
//! buffer must fit its buffer together with all that it reads at once, or it answers 413 by itself, even while the filter is
//! letting the request pass.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use tollgate_policy::document::JSON_BYTES_DEFAULT;
use tollgate_policy::request::{Body, Reading};

use crate::host::Host;

/// Most bytes that one worker has for copies of bodies, but for the last part of one that is read at once: the module's
/// memory never shrinks. Beyond it bodies wait with the proxy, or, while there is no policy, are lost but for their length.
pub const ROOM_BYTES: usize = 8 << 20;

/// Room for copies of bodies, one for all requests of a worker.
#[derive(Debug, Clone, Default)]
pub struct Room(Rc<Cell<usize>>);

impl Room {
    /// Bytes that are copied.
    pub fn taken(&self) -> usize {
        self.0.get()
    }

    fn is_over(&self) -> bool {
        self.taken() > ROOM_BYTES
    }
}

/// What was copied of a body. Its room is free again when it goes.
#[derive(Debug)]
struct Copied {
    bytes: Vec<u8>,
    room: Room,
}

impl Copied {
    /// Adds `length` bytes that the proxy shows, of a body of which at most `bytes_max` are wanted. False: there is no room
    /// for them; `must` makes some.
    fn add(&mut self, host: &dyn Host, length: usize, bytes_max: usize, must: bool) -> bool {
        let (before, needed) = (self.bytes.capacity(), self.bytes.len().saturating_add(length));
        let capacity =
            if needed > before { before.saturating_mul(2).min(bytes_max).max(needed) } else { before };
        let taken = self.room.taken() + (capacity - before);
        if taken > ROOM_BYTES && !must {
            return false;
        }
        self.bytes.reserve_exact(capacity - self.bytes.len());
        self.bytes.extend_from_slice(&host.request_body(length));
        self.room.0.set(self.room.taken() + (self.bytes.capacity() - before));
        true
    }
}

impl Drop for Copied {
    fn drop(&mut self) {
        self.room.0.set(self.room.taken() - self.bytes.capacity());
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
        // The last part is shown nowhere else, and read at once, unless it is too long by the policy that was looked at last.
        let must = end && self.is_reading() && !self.is_long();
        if copied.as_mut().is_some_and(|copy| !copy.add(host, length, self.kept_max(), must)) {
            *copied = None;
        }
    }

    /// Not enough has come, or nobody can say yet what is enough: keeps what there is. Answers whether the client is to be
    /// slowed down.
    pub fn keep(&self, host: &dyn Host, room: &Room) -> bool {
        let (bytes, declared, bytes_max) = (self.bytes.get(), self.declared.get(), self.kept_max());
        if bytes > bytes_max || declared.is_some_and(|length| length > bytes_max as u64) {
            self.release();
            return true;
        }
        if self.copied.borrow().is_some() {
            return true;
        }
        if !self.shows_next.get() {
            if declared.is_some() && self.is_reading() {
                return false;
            }
            let mut copy = Copied { bytes: Vec::new(), room: room.clone() };
            if copy.add(host, bytes, bytes_max, false) {
                self.copied.replace(Some(copy));
                return true;
            }
        }
        // Without room the proxy keeps it: all that is still to be read, or the whole of it. A part that may go on from
        // elsewhere before the rest has come, it must not.
        !self.is_reading() && !self.whole.get()
    }

    /// All of it has come, and it must wait to be read again: whether it is with the proxy, which shows it again.
    pub fn is_with_proxy(&self) -> bool {
        if !self.is_reading() || !self.whole.get() || self.bytes.get() == 0 || self.is_long() {
            return false;
        }
        self.copied.borrow().as_ref().is_none_or(|copy| copy.room.is_over())
    }

    /// The proxy was told what to do with what it showed: a copy is needed only of what it does not show again.
    pub fn slows_client(&self, slows: bool) {
        self.shows_next.set(slows);
        if !slows {
            self.release();
        }
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

    /// Whether what has come cannot be read any more.
    pub fn is_gone(&self) -> bool {
        let copied = self.copied.borrow();
        self.shows_next.get() && copied.as_ref().is_none_or(|copy| copy.bytes.len() != self.bytes.get())
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
            self.release();
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

    /// Most bytes that are kept; while there is no policy to say it, as policies do by default.
    fn kept_max(&self) -> usize {
        if self.is_reading() { self.bytes_max.get() } else { JSON_BYTES_DEFAULT as usize }
    }
}
