//! `watch`: edges wait here until something changes for them. One task looks at the database for all of them, so that
//! a change made by any replica is felt, and a thousand waiting edges cost no more than one.

use std::collections::{BTreeSet, VecDeque};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tollgate_policy::wire::{WIRE_VERSION, WatchResponse};

use super::sync::check_session;
use super::{ControlPlane, ServiceError};
use crate::config::{IDLE_POLL_MS, POLL_MS, RING_CHANGES_MAX, WATCH_SUBJECTS_MAX, WATCHERS_MAX};
use crate::store::changes::Change;
use crate::store::configuration::Pulse;
use crate::store::{StoreError, changes, configuration, sessions, subjects};

/// Most changes that are read at a time.
const READ_MAX: i64 = 4_096;

/// Who waits, and the newest changes.
#[derive(Debug)]
pub struct Hub {
    pulse: watch::Sender<Pulse>,
    ring: Mutex<Ring>,
    waiting: AtomicUsize,
    poke: Notify,
}

/// The newest changes: all those after `floor` and up to `to`.
#[derive(Debug, Default)]
struct Ring {
    floor: i64,
    to: i64,
    changes: VecDeque<Change>,
}

impl Default for Hub {
    fn default() -> Self {
        let (pulse, _) = watch::channel(Pulse::default());
        Self { pulse, ring: Mutex::default(), waiting: AtomicUsize::new(0), poke: Notify::new() }
    }
}

impl Hub {
    /// Says that something was committed: the database is looked at now.
    pub fn poke(&self) {
        self.poke.notify_one();
    }

    /// How many edges wait.
    pub fn waiting(&self) -> usize {
        self.waiting.load(Ordering::Relaxed)
    }

    fn with_ring<T>(&self, look: impl FnOnce(&mut Ring) -> T) -> T {
        // Poisoned by a panic under the lock; the ring is whole between any two of its statements.
        look(&mut self.ring.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

struct Waiting<'a>(&'a Hub);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::Relaxed);
    }
}

impl ControlPlane {
    pub(super) async fn hub_begin(&self) -> Result<(), StoreError> {
        let pulse = configuration::pulse(&self.database).await?;
        self.hub.with_ring(|ring| (ring.floor, ring.to) = (pulse.seq, pulse.seq));
        self.hub.pulse.send_replace(pulse);
        Ok(())
    }

    /// Looks at the database once, and wakes those for whom something changed.
    pub async fn poll(&self) -> Result<(), StoreError> {
        let pulse = configuration::pulse(&self.database).await?;
        let mut to = self.hub.with_ring(|ring| ring.to);
        while to < pulse.seq {
            let fresh = changes::since(&self.database, to, READ_MAX).await?;
            let full = i64::try_from(fresh.len()).is_ok_and(|count| count >= READ_MAX);
            to = match fresh.last() {
                Some(last) if full => last.seq,
                // What is not there any more was forgotten; nobody can miss it here.
                last => last.map_or(pulse.seq, |last| last.seq).max(pulse.seq),
            };
            self.hub.with_ring(|ring| ring.extend(fresh, to));
        }
        if u64::try_from(pulse.revision).unwrap_or_default() != self.in_force().revision {
            self.refresh().await?;
        }
        self.hub.pulse.send_if_modified(|last| {
            let pulse = Pulse { seq: to.max(pulse.seq), ..pulse };
            let modified = *last != pulse;
            *last = pulse;
            modified
        });
        Ok(())
    }

    /// Polls until `stopped`: quickly while somebody waits, at once when poked. A database that does not answer is
    /// asked again; those who wait go on waiting.
    pub async fn run_poller(&self, mut stopped: watch::Receiver<bool>) {
        let mut down = false;
        loop {
            let pause_ms = if self.hub.waiting() > 0 { POLL_MS } else { IDLE_POLL_MS };
            tokio::select! {
                () = self.hub.poke.notified() => {}
                () = tokio::time::sleep(Duration::from_millis(pause_ms)) => {}
                _ = stopped.wait_for(|stopped| *stopped) => return,
            }
            match self.poll().await {
                Ok(()) => down = false,
                Err(error) if !down => {
                    down = true;
                    tracing::warn!(
                        error = &error as &dyn std::error::Error,
                        "cannot look for changes; trying on"
                    );
                }
                Err(_) => {}
            }
            self.metrics.watchers.set(i64::try_from(self.hub.waiting()).unwrap_or(i64::MAX));
        }
    }

    /// Waits until the configuration is newer than `revision`, or a change after `after` concerns `session`, or the
    /// long poll ends (also when `stopped`). `after` 0 means since the session opened.
    pub async fn watch(
        &self,
        session: &str,
        after: u64,
        revision: u64,
        mut stopped: watch::Receiver<bool>,
    ) -> Result<WatchResponse, ServiceError> {
        check_session(session)?;
        if self.hub.waiting.fetch_add(1, Ordering::Relaxed) >= WATCHERS_MAX {
            self.hub.waiting.fetch_sub(1, Ordering::Relaxed);
            return Err(ServiceError::Busy("Too many edges wait here. Try again in a moment."));
        }
        let _waiting = Waiting(&self.hub);
        let mut pulses = self.hub.pulse.subscribe();
        // Whoever begins to wait may follow a long time in which nobody did, and nobody looked.
        self.hub.poke();
        let mut after = self.first_change(session, after).await?;
        let end = tokio::time::sleep(Duration::from_millis(self.settings.watch_max_ms));
        tokio::pin!(end);
        loop {
            let pulse = *pulses.borrow_and_update();
            let found = self.changes_for(session, after, pulse.seq).await?;
            after = found.after;
            // A change of the configuration by this process may not have been seen by the poller yet.
            let newest = u64::try_from(pulse.revision).unwrap_or_default().max(self.in_force().revision);
            let answer = WatchResponse {
                version: WIRE_VERSION,
                after: u64::try_from(after).unwrap_or_default(),
                policy_revision: newest,
                subjects: found.subjects,
            };
            if !answer.subjects.is_empty() || newest > revision {
                return Ok(answer);
            }
            tokio::select! {
                changed = pulses.changed() => if changed.is_err() { return Ok(answer) },
                () = &mut end => return Ok(answer),
                _ = stopped.wait_for(|stopped| *stopped) => return Ok(answer),
            }
        }
    }

    async fn first_change(&self, session: &str, after: u64) -> Result<i64, StoreError> {
        if after > 0 {
            return Ok(i64::try_from(after).unwrap_or(i64::MAX));
        }
        // An edge that has synced before it watches must not miss what changed in between.
        match sessions::opened_seq(&self.database, session).await? {
            Some(seq) => Ok(seq),
            None => Ok(configuration::pulse(&self.database).await?.seq),
        }
    }

    /// What concerns `session` after `after` and up to `to`: from memory, else from the database, else (when it has
    /// been forgotten) every subject whose book names the session.
    async fn changes_for(&self, session: &str, after: i64, to: i64) -> Result<Found, StoreError> {
        if after >= to {
            return Ok(Found { after, subjects: Vec::new() });
        }
        let limit = i64::try_from(WATCH_SUBJECTS_MAX).unwrap_or(i64::MAX);
        if let Some(changes) = self.hub.with_ring(|ring| ring.find(session, after, to)) {
            return Ok(Found::of(changes, to));
        }
        if after >= changes::pruned(&self.database).await? {
            let changes = changes::of_session(&self.database, session, after, to, limit).await?;
            return Ok(Found::of(changes, to));
        }
        let subjects = subjects::holding(&self.database, session, limit).await?;
        Ok(Found { after: to, subjects })
    }
}

struct Found {
    after: i64,
    subjects: Vec<String>,
}

impl Found {
    /// The subjects of `changes`, each once. When there are too many for one answer, the rest comes with the next.
    fn of(changes: Vec<Change>, to: i64) -> Self {
        let full = changes.len() >= WATCH_SUBJECTS_MAX;
        let after = match changes.last() {
            Some(last) if full => last.seq,
            _ => to,
        };
        let subjects: BTreeSet<String> = changes.into_iter().map(|change| change.subject).collect();
        Self { after, subjects: subjects.into_iter().collect() }
    }
}

impl Ring {
    fn extend(&mut self, fresh: Vec<Change>, to: i64) {
        // Two looks may overlap; each change is kept once.
        self.changes.extend(fresh.into_iter().filter(|change| change.seq > self.to));
        self.to = self.to.max(to);
        while self.changes.len() > RING_CHANGES_MAX {
            if let Some(dropped) = self.changes.pop_front() {
                self.floor = dropped.seq;
            }
        }
    }

    /// The first changes for `session`, or nothing when memory does not reach back to `after`.
    fn find(&self, session: &str, after: i64, to: i64) -> Option<Vec<Change>> {
        if after < self.floor {
            return None;
        }
        let from = self.changes.partition_point(|change| change.seq <= after);
        let concerned = |change: &&Change| change.seq <= to && change.session == session;
        Some(self.changes.iter().skip(from).filter(concerned).take(WATCH_SUBJECTS_MAX).cloned().collect())
    }
}
