//! How a request comes in: how much of its body was seen, and whether it must be awaited before the request can be
//! decided.

use std::cell::Cell;

use tollgate_policy::request::{Body, Reading};

use crate::host::Host;

/// How far a request's body is.
#[derive(Debug, Default)]
pub struct Intake {
    bytes: Cell<usize>,
    whole: Cell<bool>,
    /// More than this is not read; 0 while nothing is to be read.
    bytes_max: Cell<usize>,
}

impl Intake {
    /// The headers are there; `end` says that nothing follows.
    pub fn begin(&self, end: bool) {
        self.whole.set(end);
    }

    /// The proxy keeps so many bytes of the body.
    pub fn holds(&self, bytes: usize, end: bool) {
        self.bytes.set(bytes);
        self.whole.set(self.whole.get() || end);
    }

    /// So many more bytes pass.
    pub fn passes(&self, bytes: usize) {
        self.bytes.set(self.bytes.get().saturating_add(bytes));
    }

    /// The body is through.
    pub fn ends(&self) {
        self.whole.set(true);
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
    pub fn keeps_all(&self) -> bool {
        self.is_reading() && self.whole.get() && self.bytes.get() > 0
    }

    /// Whether there is enough of it.
    pub fn is_ready(&self) -> bool {
        self.whole.get() || self.bytes.get() > self.bytes_max.get()
    }

    /// The body, where it is needed. `None`: it is, and must be awaited.
    pub fn read(&self, host: &dyn Host, reading: &Reading<'_>) -> Option<Body> {
        if !reading.needs_body() {
            return Some(Body::Unread(self.whole.get().then(|| self.bytes())));
        }
        let bytes_max = reading.body_bytes_max();
        self.bytes_max.set(bytes_max.max(1));
        if reading.head.content_length.is_some_and(|length| length > bytes_max as u64)
            || self.bytes.get() > bytes_max
        {
            return Some(Body::TooLong);
        }
        match (self.whole.get(), self.bytes.get()) {
            (true, 0) => Some(Body::Unread(Some(0))),
            (true, bytes) => Some(Body::Whole(host.request_body(bytes))),
            (false, _) => None,
        }
    }
}
