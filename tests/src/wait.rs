//! Waiting for a state, with a deadline. No test waits for a time to pass in the hope that something has happened.

use std::time::{Duration, Instant};

/// How often a state is looked at.
const POLL: Duration = Duration::from_millis(10);

/// Long enough for anything that is to happen soon, on a machine that is busy with other tests.
pub const SOON: Duration = Duration::from_secs(15);

/// Waits until `look` finds something, and answers it.
#[track_caller]
pub fn until<T>(what: &str, limit: Duration, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + limit;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < deadline, "not within {} ms: {what}", limit.as_millis());
        std::thread::sleep(POLL);
    }
}

/// Waits until `look` answers `expected`; a failure shows what it answered last.
#[track_caller]
pub fn until_equal<T: PartialEq + std::fmt::Debug>(
    what: &str,
    limit: Duration,
    expected: &T,
    mut look: impl FnMut() -> T,
) {
    let deadline = Instant::now() + limit;
    loop {
        let found = look();
        if found == *expected {
            return;
        }
        if Instant::now() >= deadline {
            panic!("not within {} ms: {what}: expected {expected:?}, found {found:?}", limit.as_millis());
        }
        std::thread::sleep(POLL);
    }
}

/// Looks again and again for as long as `time`, since something must not happen in it.
#[track_caller]
pub fn throughout(time: Duration, mut look: impl FnMut()) {
    let end = Instant::now() + time;
    while Instant::now() < end {
        look();
        std::thread::sleep(POLL);
    }
}

/// Fails unless most of five rounds take no longer than this. What a program is too slow at it is in each round; a machine
/// that does something else for a moment delays one.
#[track_caller]
pub fn mostly_within(what: &str, limit: Duration, mut round: impl FnMut() -> Duration) {
    let (mut in_time, mut late) = (0, Vec::new());
    while in_time < 3 {
        let took = round();
        if took <= limit {
            in_time += 1;
            continue;
        }
        late.push(took);
        assert!(late.len() < 3, "{what}: {limit:?} are promised, and most rounds took longer: {late:?}");
    }
}
