//! What the edge counts of itself: tallied in the worker, written to the proxy's metrics once a tick, so that a request
//! pays no host call for it.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;

use crate::host::Host;

/// Most different metrics in one worker; further ones are not written. Reasons are a fixed set and tiers are bounded by
/// the policy's own bound, so only a fault gets here.
const COUNTERS_MAX: usize = 4_096;

/// A decision, its reason, and how often.
type Count = (&'static str, &'static str, i64);

/// One worker's metrics.
#[derive(Debug, Default)]
pub struct Metrics {
    /// By tier, then by decision and reason: the tier can be looked up without a copy of its name.
    pending: RefCell<HashMap<String, Vec<Count>>>,
    defined: RefCell<HashMap<String, Option<u32>>>,
    unreadable: Cell<i64>,
}

impl Metrics {
    /// Counts a decision (`allow`, `deny`, `open`), its reason, and the tier if known.
    pub fn decided(&self, decision: &'static str, reason: &'static str, tier: &str) {
        let mut pending = self.pending.borrow_mut();
        let Some(counts) = pending.get_mut(tier) else {
            pending.insert(tier.to_owned(), vec![(decision, reason, 1)]);
            return;
        };
        match counts.iter_mut().find(|(d, r, _)| *d == decision && *r == reason) {
            Some((_, _, count)) => *count += 1,
            None => counts.push((decision, reason, 1)),
        }
    }

    /// Counts amounts that were not where the policy says, or not numbers.
    pub fn unreadable(&self, count: usize) {
        self.unreadable.set(self.unreadable.get().saturating_add(count as i64));
    }

    /// Writes out what was counted.
    pub fn flush(&self, host: &dyn Host) {
        let unreadable = self.unreadable.take();
        if unreadable > 0 {
            self.add(host, "tollgate.amounts.unreadable", unreadable);
        }
        for (tier, counts) in self.pending.borrow_mut().drain() {
            let tier = if tier.is_empty() { "none" } else { &tier };
            for (decision, reason, count) in counts {
                self.add(host, &format!("tollgate.requests.{decision}.{reason}.{tier}"), count);
            }
        }
    }

    /// Adds to a counter right away.
    pub fn add(&self, host: &dyn Host, name: &str, by: i64) {
        if let Some(metric) = self.define(name, || host.define_counter(name)) {
            host.increment(metric, by);
        }
    }

    /// Sets a gauge right away.
    pub fn set(&self, host: &dyn Host, name: &str, value: u64) {
        if let Some(metric) = self.define(name, || host.define_gauge(name)) {
            host.record(metric, value);
        }
    }

    fn define(&self, name: &str, define: impl FnOnce() -> Option<u32>) -> Option<u32> {
        let mut defined = self.defined.borrow_mut();
        if let Some(metric) = defined.get(name) {
            return *metric;
        }
        if defined.len() >= COUNTERS_MAX {
            return None;
        }
        let metric = define();
        defined.insert(name.to_owned(), metric);
        metric
    }
}
