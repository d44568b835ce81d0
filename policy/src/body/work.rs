//! Counts what reading costs, so that tests can show that it is linear without measuring time. Nothing outside tests.

#[cfg(test)]
thread_local! {
    static DONE: std::cell::Cell<usize> = const { std::cell::Cell::new(0) };
}

/// Notes that so many bytes were looked at or copied.
#[cfg(test)]
pub(super) fn count(bytes: usize) {
    DONE.set(DONE.get() + bytes);
}

#[cfg(not(test))]
#[inline(always)]
pub(super) fn count(_bytes: usize) {}

/// What `read` costs.
#[cfg(test)]
pub(super) fn of(read: impl FnOnce()) -> usize {
    let before = DONE.get();
    read();
    DONE.get() - before
}
