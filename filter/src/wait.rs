//! Requests that wait for the control plane: bounded in number and in time.

use std::cell::RefCell;
use std::rc::Rc;

use crate::host::Now;
use crate::request::Request;

/// Most requests that wait in one worker; more are refused at once.
pub const WAITING_MAX: usize = 2_000;

/// Most of them that wait for newer keys: anyone can send tokens that name keys nobody has, and must not fill the room.
pub const KEY_WAITING_MAX: usize = 100;

/// Longest wait of a request, ms. Long enough for units to be recalled from another edge, short enough that a caller does
/// not hang when the control plane does.
pub const WAIT_MS_MAX: u64 = 2_000;

/// What a request waits for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cause {
    /// This edge's first policy.
    Policy,
    /// Newer keys, since its token names one that is not known.
    Key,
    /// Units, or the first answer, for this subject.
    Subject(Rc<str>),
}

/// A request that waits.
pub struct Waiter {
    /// The request.
    pub request: Rc<Request>,
    /// What it waits for.
    pub cause: Cause,
    /// Since when, monotonic ms.
    pub since_ms: u64,
    /// Not to be asked for before this moment, monotonic ms.
    pub retry_at_ms: u64,
    /// The control plane has answered for its subject since it began to wait.
    pub answered: bool,
    /// A question for its subject is on its way.
    pub asked: bool,
    /// How often it was looked at again and went on waiting.
    pub rounds: u32,
}

impl Waiter {
    /// Whether it has waited long enough.
    pub fn is_late(&self, now: Now) -> bool {
        now.mono_ms >= self.since_ms.saturating_add(WAIT_MS_MAX)
    }
}

/// All requests of one worker that wait.
#[derive(Default)]
pub struct Waiting(RefCell<Vec<Waiter>>);

impl Waiting {
    /// Adds a request; false when too many wait already.
    pub fn add(&self, request: &Rc<Request>, cause: Cause, now: Now) -> bool {
        let mut waiters = self.0.borrow_mut();
        let keyless =
            cause == Cause::Key && waiters.iter().filter(|w| w.cause == cause).count() >= KEY_WAITING_MAX;
        if keyless || waiters.len() >= WAITING_MAX {
            return false;
        }
        waiters.push(Waiter {
            request: request.clone(),
            cause,
            since_ms: now.mono_ms,
            retry_at_ms: now.mono_ms,
            answered: false,
            asked: false,
            rounds: 0,
        });
        true
    }

    /// The stream is over.
    pub fn forget(&self, stream: u32) {
        self.0.borrow_mut().retain(|waiter| waiter.request.stream != stream);
    }

    /// Takes out those that `wanted` picks, oldest first.
    pub fn take(&self, wanted: impl Fn(&Waiter) -> bool) -> Vec<Waiter> {
        self.0.borrow_mut().extract_if(.., |waiter| wanted(waiter)).collect()
    }

    /// A request that was taken out and waits again goes on with the time it has waited already.
    pub fn resume(&self, stream: u32, before: &Waiter, answered: bool, retry_at_ms: u64) {
        for waiter in self.0.borrow_mut().iter_mut().filter(|waiter| waiter.request.stream == stream) {
            waiter.since_ms = before.since_ms;
            waiter.answered = before.answered || answered;
            waiter.retry_at_ms = retry_at_ms;
            waiter.rounds = before.rounds.saturating_add(1);
        }
    }

    /// Looks at each, and may change it.
    pub fn each(&self, mut look: impl FnMut(&mut Waiter)) {
        self.0.borrow_mut().iter_mut().for_each(&mut look);
    }

    /// Whether none waits.
    pub fn is_empty(&self) -> bool {
        self.0.borrow().is_empty()
    }
}
