//! What was refused, counted for people: by hour, subject, code, limit and route.
//!
//! A worker counts what it refused since its last tick, and hands that to the leader; the leader keeps sums that only rise,
//! under a name of its own, and reports those that the control plane does not have yet. A worker that traps, or a leader
//! that goes, takes with it what it had not told. A request that passes pays nothing for this.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, HashMap};
use std::ops::Bound::{Excluded, Included, Unbounded};

use serde::{Deserialize, Serialize};
use tollgate_policy::decision::Denial;
use tollgate_policy::wire::{DenialReport, SYNC_DENIALS_MAX};

use crate::host::{Host, Now};

/// Most different refusals that a worker tells apart between two ticks.
const FRESH_MAX: usize = 256;

/// Most of them that the leader tells apart until they are told and over.
const SUMS_MAX: usize = 4_096;

/// Callers without a token are told apart only while there is so much room: addresses are free, and users are to be seen.
const ANONYMOUS_MAX: usize = SUMS_MAX / 2;

/// Refusals of one message between workers: some 30 KiB.
const MESSAGE_MAX: usize = 64;

/// New refusals wait this long for others, ms: one report then serves all, and a call that is lost soon after an outage
/// began is not made.
const REPORT_MS: u64 = 2_000;

/// Begins a message with refusals; a subject cannot.
const MARK: &str = "[";

/// Begins the subject of a caller without a token.
const ANONYMOUS: &str = "anon:";

const HOUR_MS: i64 = 3_600_000;

/// What refusals are told apart by.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
struct Refused {
    hour_ms: i64,
    subject: String,
    code: String,
    limit: String,
    route: String,
}

impl Refused {
    /// Of whatever is not told apart: only why and when.
    fn without_details(self) -> Self {
        Self { subject: String::new(), limit: String::new(), route: String::new(), ..self }
    }
}

#[derive(Debug, Clone, Copy, Default)]
struct Sum {
    count: u64,
    /// As the control plane last confirmed it.
    told: u64,
}

/// One worker's part in counting refusals.
#[derive(Debug, Default)]
pub struct Denials {
    reporter: String,
    fresh: RefCell<HashMap<Refused, u64>>,
    sums: RefCell<BTreeMap<Refused, Sum>>,
    /// The last that was reported: the next report goes on from there, so that none waits for ever behind others.
    reported: RefCell<Option<Refused>>,
    /// None while there is nothing to tell.
    report_at_ms: Cell<Option<u64>>,
}

impl Denials {
    /// Of a worker with this random id: its memory's name.
    pub fn new(id: [u8; 16]) -> Self {
        let reporter = id.iter().map(|byte| format!("{byte:02x}")).collect();
        Self { reporter, ..Self::default() }
    }

    /// A request was refused; `subject` and `route` are empty where they are not known.
    pub fn count(&self, denial: &Denial, subject: &str, route: &str, now: Now) {
        let refused = Refused {
            hour_ms: now.wall_ms.div_euclid(HOUR_MS) * HOUR_MS,
            subject: subject.to_owned(),
            code: denial.code.to_owned(),
            limit: denial.limit.as_ref().map_or_else(String::new, |limit| limit.name.clone()),
            route: route.to_owned(),
        };
        let mut fresh = self.fresh.borrow_mut();
        let full = fresh.len() >= FRESH_MAX && !fresh.contains_key(&refused);
        *fresh.entry(if full { refused.without_details() } else { refused }).or_default() += 1;
    }

    /// Hands what this worker refused to the leader.
    pub fn hand_over(&self, host: &dyn Host) {
        let fresh: Vec<(Refused, u64)> = self.fresh.borrow_mut().drain().collect();
        for part in fresh.chunks(MESSAGE_MAX) {
            if let Ok(message) = serde_json::to_vec(part) {
                host.enqueue(&message);
            }
        }
    }

    /// Takes what this worker, which leads, refused.
    pub fn take_own(&self, now: Now) {
        let fresh: Vec<(Refused, u64)> = self.fresh.borrow_mut().drain().collect();
        fresh.into_iter().for_each(|(refused, count)| self.add(refused, count, now));
    }

    /// Takes what another worker refused; `false`: the message is about something else.
    pub fn take(&self, message: &str, now: Now) -> bool {
        if !message.starts_with(MARK) {
            return false;
        }
        let parts: Vec<(Refused, u64)> = serde_json::from_str(message).unwrap_or_default();
        parts.into_iter().for_each(|(refused, count)| self.add(refused, count, now));
        true
    }

    fn add(&self, refused: Refused, count: u64, now: Now) {
        if self.report_at_ms.get().is_none() {
            self.report_at_ms.set(Some(now.mono_ms.saturating_add(REPORT_MS)));
        }
        let mut sums = self.sums.borrow_mut();
        let room = if refused.subject.starts_with(ANONYMOUS) { ANONYMOUS_MAX } else { SUMS_MAX };
        let full = sums.len() >= room && !sums.contains_key(&refused);
        let sum = sums.entry(if full { refused.without_details() } else { refused }).or_default();
        sum.count = sum.count.saturating_add(count);
    }

    /// Whether a report is due.
    pub fn is_due(&self, now: Now) -> bool {
        self.report_at_ms.get().is_some_and(|at_ms| now.mono_ms >= at_ms)
    }

    /// What a sync reports, if it is time: what the control plane has not confirmed yet.
    pub fn report(&self, now: Now) -> Vec<DenialReport> {
        if !self.is_due(now) {
            return Vec::new();
        }
        self.report_at_ms.set(Some(now.mono_ms.saturating_add(REPORT_MS)));
        let mut sums = self.sums.borrow_mut();
        // What is over and told is needed no more: nothing is counted in an hour that has passed.
        let hour_ms = now.wall_ms.div_euclid(HOUR_MS) * HOUR_MS;
        sums.retain(|refused, sum| sum.count > sum.told || refused.hour_ms >= hour_ms - HOUR_MS);
        let mut reported = self.reported.borrow_mut();
        let after = reported.as_ref().map_or(Unbounded, Excluded);
        let upto = reported.as_ref().map(|last| sums.range::<Refused, _>((Unbounded, Included(last))));
        let from = sums.range::<Refused, _>((after, Unbounded)).chain(upto.into_iter().flatten());
        let untold = from.filter(|(_, sum)| sum.count > sum.told).take(SYNC_DENIALS_MAX);
        let mut last = None;
        let reports = untold.map(|(refused, sum)| {
            last = Some(refused);
            DenialReport {
                reporter: self.reporter.clone(),
                hour: refused.hour_ms,
                subject: refused.subject.clone(),
                code: refused.code.clone(),
                limit: refused.limit.clone(),
                route: refused.route.clone(),
                count: sum.count,
            }
        });
        let reports: Vec<DenialReport> = reports.collect();
        *reported = last.cloned();
        reports
    }

    /// The control plane has these.
    pub fn heard(&self, reports: &[DenialReport]) {
        let mut sums = self.sums.borrow_mut();
        for report in reports {
            let refused = Refused {
                hour_ms: report.hour,
                subject: report.subject.clone(),
                code: report.code.clone(),
                limit: report.limit.clone(),
                route: report.route.clone(),
            };
            if let Some(sum) = sums.get_mut(&refused) {
                sum.told = sum.told.max(report.count);
            }
        }
        if !reports.is_empty() && sums.values().all(|sum| sum.count == sum.told) {
            self.report_at_ms.set(None);
        }
    }
}

#[cfg(test)]
mod tests;
