//! A test's place: a directory for its files, and its turn on the machine.
//!
//! Each test runs several programs, so only a few run at once, whatever starts them: turns are locks on files, which
//! threads and processes share.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use crate::artefacts;
use crate::token::now_ms;

/// Longer than a test takes once it is its turn, ms.
const TEST_MS: i64 = 60_000;

const HOUR_MS: i64 = 3_600_000;

/// Tests that run at once. Mostly they wait; when they do not, they use all cores.
const TURNS: u32 = 2;

/// A test's place. Its files stay when the test fails.
#[derive(Debug)]
pub struct Scene {
    dir: PathBuf,
    _turns: Vec<File>,
}

impl Scene {
    /// A place beside others.
    pub fn new() -> Self {
        // Whoever wants to be alone goes first, once it has asked.
        drop(locked("alone", File::lock_shared));
        loop {
            let turns = (0..TURNS).map(|turn| open(&format!("turn-{turn}")));
            if let Some(turn) = turns.into_iter().find(|turn| turn.try_lock().is_ok()) {
                return Self::of(vec![turn]);
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// A place with no other beside it, for what is measured in time.
    pub fn alone() -> Self {
        let mut turns = vec![locked("alone", File::lock)];
        turns.extend((0..TURNS).map(|turn| locked(&format!("turn-{turn}"), File::lock)));
        Self::of(turns)
    }

    fn of(turns: Vec<File>) -> Self {
        // Quotas begin anew with an hour, a day, a month, of whatever zone: all of them at an hour's end. No test may run
        // over one unawares.
        while HOUR_MS - now_ms().rem_euclid(HOUR_MS) <= TEST_MS {
            std::thread::sleep(Duration::from_millis(200));
        }
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let test = std::thread::current().name().unwrap_or("test").replace("::", "-");
        let name = format!("{test}-{}-{number}", std::process::id());
        let dir = artefacts::root().join("target/e2e").join(name);
        std::fs::create_dir_all(&dir).expect("a directory for the test's files");
        Self { dir, _turns: turns }
    }

    /// Where its files are.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Writes a file, by renaming it into place, and answers where it is.
    pub fn write(&self, name: &str, bytes: impl AsRef<[u8]>) -> PathBuf {
        let (path, next) = (self.dir.join(name), self.dir.join(format!(".{name}.next")));
        std::fs::write(&next, bytes).expect("the test's directory can be written");
        std::fs::rename(&next, &path).expect("a file can be renamed");
        path
    }
}

impl Default for Scene {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            let _ = std::fs::remove_dir_all(&self.dir);
        }
    }
}

fn locked(name: &str, lock: impl FnOnce(&File) -> std::io::Result<()>) -> File {
    let file = open(name);
    lock(&file).expect("a file can be locked");
    file
}

fn open(name: &str) -> File {
    let dir = artefacts::root().join("target/e2e");
    std::fs::create_dir_all(&dir).expect("a directory for locks");
    File::create(dir.join(name)).expect("a lock file")
}
