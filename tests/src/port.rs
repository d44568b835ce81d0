//! Ports that stay ours while a program that listens on them is stopped and started again.
//!
//! Below the range that the kernel takes for outgoing connections, and locked by a file, so that tests in other
//! processes take others.

use std::fs::File;
use std::net::TcpListener;

use crate::artefacts;

const FIRST: u16 = 20_000;
const LAST: u16 = 31_999;

/// A port of 127.0.0.1 that no other test takes until this is dropped.
#[derive(Debug)]
pub struct Port {
    /// Its number.
    pub number: u16,
    _lock: File,
}

impl Port {
    /// Takes one.
    pub fn take() -> Self {
        let dir = artefacts::root().join("target/e2e/ports");
        std::fs::create_dir_all(&dir).expect("a directory for locks");
        // Each process begins elsewhere, so that they seldom try the same.
        let offset = u16::try_from(std::process::id() % 11_000).expect("it is below 11,000");
        for number in (FIRST + offset..=LAST).chain(FIRST..FIRST + offset) {
            let lock = File::create(dir.join(number.to_string())).expect("a lock file");
            if lock.try_lock().is_ok() && TcpListener::bind(("127.0.0.1", number)).is_ok() {
                return Self { number, _lock: lock };
            }
        }
        panic!("no port is free between {FIRST} and {LAST}");
    }
}
