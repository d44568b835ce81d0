//! The control plane's side of one subject: who holds how many units of what.
//!
//! In every state: Σ open (held, or used where that is more) + Σ charges of closed sessions ≤ N, checked where units are
//! granted. A book is changed in one database transaction; it neither knows a clock nor which sessions are alive.

mod account;
mod pool;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::capacity::Removals;
use super::kind::CAPACITY_WINDOW;
use super::terms::{Term, TermKind, Terms};
use crate::wire::{AccountAnswer, AccountReport};
use pool::{Drawn, Own};

/// How long an asker is told to wait for units recalled from a session that does not answer, ms.
pub const RECALL_PATIENCE_MS: i64 = 2_000;

/// How long after its end a window's account is kept for late reports, ms. Usage that comes later still reaches the
/// ledger, which does not pass through here.
pub const WINDOW_LATE_MS: i64 = 3_600_000;

/// All accounts of one subject.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Book {
    accounts: Vec<BookAccount>,
    /// Units of each grant that were burnt in windows that are forgotten.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    spent: BTreeMap<String, u64>,
    /// What was burnt of each grant, as edges were told last.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    told: BTreeMap<String, u64>,
    /// What the current window burnt of each grant that is over or was taken away, as edges were told last.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    told_over: BTreeMap<String, u64>,
}

/// One limit in one window.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct BookAccount {
    limit: String,
    window: i64,
    /// End of a quota's window; none of any other kind.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    end: Option<i64>,
    /// It is a capacity's: counted, without an end.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    capacity: bool,
    /// How long units rest after their use, of a kind that does not count them.
    #[serde(default, skip_serializing_if = "is_zero")]
    rest_ms: u64,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    open: BTreeMap<String, Holding>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    closed: BTreeMap<String, Closed>,
    /// Units used by sessions whose final numbers are in.
    #[serde(default, skip_serializing_if = "is_zero")]
    settled: u64,
    /// What was removed of a capacity.
    #[serde(default, skip_serializing_if = "Removals::is_none")]
    removals: Removals,
    /// Of a quota with grants: the window's own part of what is used. Its maximum, or more where more was used by a higher
    /// one that it has had, or before there was any grant.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    base: Option<u64>,
    /// What the window has drawn of each grant.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    drawn: BTreeMap<String, Drawn>,
}

#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
struct Holding {
    #[serde(rename = "g")]
    granted: u64,
    #[serde(rename = "r", default, skip_serializing_if = "is_zero")]
    returned: u64,
    #[serde(rename = "t", default, skip_serializing_if = "is_zero")]
    taken: u64,
    #[serde(rename = "f", default, skip_serializing_if = "is_zero")]
    freed: u64,
    #[serde(rename = "d", default, skip_serializing_if = "is_zero")]
    removed: u64,
    /// Of a capacity of which more is removed than is known to be used: what was taken when the session was heard first
    /// since then.
    #[serde(rename = "o", default, skip_serializing_if = "Option::is_none")]
    old_taken: Option<u64>,
    #[serde(rename = "c", default, skip_serializing_if = "Recall::is_none")]
    recall: Recall,
}

/// Where the recall of a session's idle units stands.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
enum Recall {
    #[default]
    None,
    /// Wanted since then; the session has not been told in an answer yet.
    Wanted(i64),
    /// Told, wanted since then; its next report shows what it gave back.
    Told(i64),
    /// It reported after it had been told, at that moment.
    Answered(i64),
}

#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
struct Closed {
    taken: u64,
    freed: u64,
    #[serde(default, skip_serializing_if = "is_zero")]
    removed: u64,
    /// Units that stay charged until the final numbers come (of a kind that is counted) or until `free_at`.
    charge: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    free_at: Option<i64>,
    /// Its final numbers are in, or an operator's count has replaced them: what it says now is a repetition.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    done: bool,
}

/// What [`Book::sync`] answers.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct BookAnswer {
    /// One for each account that this session has.
    pub accounts: Vec<AccountAnswer>,
    /// Sessions that must be told that units are recalled.
    pub recalled: Vec<String>,
}

/// How a limit stands, for people.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Standing {
    /// The limit's name.
    pub limit: String,
    /// The meter's name; none of concurrency.
    pub meter: Option<String>,
    /// See [`TermKind::name`].
    pub kind: &'static str,
    /// Whether more may be used than there is.
    pub soft: bool,
    /// Start of a quota's window, Unix ms.
    pub window_start_ms: Option<i64>,
    /// End of a quota's window, Unix ms.
    pub window_end_ms: Option<i64>,
    /// Length of a rate's sliding window, ms.
    pub sliding_ms: Option<u64>,
    /// How long an empty token bucket takes to fill, ms.
    pub refill_ms: Option<u64>,
    /// The maximum, with all that grants add to it; or [`crate::limit::UNLIMITED`].
    pub units: u64,
    /// Units used as far as reported: in a quota's window, of a capacity, by requests in flight. Always 0 for a rate, whose
    /// units come back.
    pub used: u64,
    /// Of a quota or capacity: units used beyond the maximum.
    pub overage: u64,
    /// Of a capacity: units released in all though nothing was there.
    pub clamped: u64,
    /// Units that edges hold and have not reported as used.
    pub leased: u64,
    /// Units that no edge holds.
    pub unleased: u64,
}

impl Book {
    /// Merges the report of an open session, grants within the limits, and answers each of its accounts.
    pub fn sync(
        &mut self,
        session: &str,
        reports: &[AccountReport],
        terms: &Terms,
        now_ms: i64,
    ) -> BookAnswer {
        let mut recalled = Vec::new();
        self.accounts.iter_mut().for_each(|account| account.expire(now_ms));
        self.draw_all(terms, Own::Kept, now_ms);
        for report in reports {
            let term = terms.term(&report.limit);
            let term = term.filter(|term| term.window_end(report.window).is_ok());
            let Some(at) = self.position(&report.limit, report.window, term) else {
                continue;
            };
            let Some(account) = self.accounts.get_mut(at) else {
                continue;
            };
            let holding = account.open.entry(session.to_owned()).or_default();
            holding.merge(report);
            holding.recall = match holding.recall {
                Recall::Told(_) => Recall::Answered(now_ms),
                other => other,
            };
            let wanted = report.want.saturating_sub(holding.granted);
            account.clamp(now_ms);
            account.note_old(session);
            if let Some(term) = term {
                self.draw_for(at, terms, Own::Settled, now_ms);
                let units = self.units_in(self.accounts.get(at), term, terms, now_ms);
                if let Some(account) = self.accounts.get_mut(at) {
                    account.grant(session, wanted, term, units, now_ms);
                }
                self.draw_for(at, terms, Own::Settled, now_ms);
                let Some(account) = self.accounts.get_mut(at) else { continue };
                if account.committed(now_ms) > units {
                    // The limit was lowered: what is idle anywhere, here too, is above it.
                    account.recall(|_| true, now_ms, &mut recalled);
                } else if account.open.get(session).is_some_and(|h| report.want > h.granted) {
                    account.recall(|id| id != session, now_ms, &mut recalled);
                }
            }
        }
        // Windows that are over may have got units back.
        self.draw(terms, now_ms);
        let ends: Vec<Option<(bool, u64)>> = self
            .accounts
            .iter()
            .map(|account| {
                let term = terms.term(&account.limit)?;
                let units = self.units_in(Some(account), term, terms, now_ms);
                Some((term.window_end(account.window).is_ok(), units))
            })
            .collect();
        let answered = self.accounts.iter_mut().zip(ends);
        let mut accounts: Vec<_> =
            answered.filter_map(|(account, end)| account.answer(session, end, now_ms)).collect();
        for account in &mut accounts {
            let is_of =
                |report: &AccountReport| (&report.limit, report.window) == (&account.limit, account.window);
            account.end = account.end.filter(|_| !reports.iter().any(is_of));
        }
        recalled.sort();
        recalled.dedup();
        // This session is told by the answer itself.
        recalled.retain(|id| id != session);
        BookAnswer { accounts, recalled }
    }

    /// Merges late numbers of a closed session. With `last` the edge says that it will never use the session again; only
    /// then do they replace what the session forfeited.
    pub fn settle(&mut self, session: &str, reports: &[AccountReport], last: bool) {
        for report in reports {
            // A release needs no grant; so neither session nor account may have been heard of here.
            let releases = report.window == CAPACITY_WINDOW && (report.removed > 0 || report.taken > 0);
            let found =
                self.accounts.iter().position(|a| a.limit == report.limit && a.window == report.window);
            let found = found.or_else(|| {
                releases.then(|| {
                    self.accounts.push(BookAccount::new(&report.limit, CAPACITY_WINDOW, None, 0));
                    self.accounts.len() - 1
                })
            });
            let Some(account) = found.and_then(|at| self.accounts.get_mut(at)) else {
                continue;
            };
            if releases {
                account.closed.entry(session.to_owned()).or_default();
            }
            let counted = account.is_counted();
            let Some(closed) = account.closed.get_mut(session).filter(|closed| !closed.done) else {
                continue;
            };
            closed.taken = closed.taken.max(report.taken);
            closed.freed = closed.freed.max(report.freed);
            closed.removed = closed.removed.max(report.removed);
            if !counted {
                continue;
            }
            // More than was held: a debt that was not known yet.
            let used = closed.taken.saturating_sub(closed.freed);
            closed.charge = closed.charge.max(used);
            if last {
                account.settled = account.settled.saturating_add(used);
                account.removals.add(closed.removed);
                if account.capacity {
                    // Remembered, so that a repeated report is known.
                    *closed = Closed { done: true, ..Closed::default() };
                    account.fold_closed();
                } else {
                    account.closed.remove(session);
                }
            }
        }
    }

    /// The session was closed; it was last heard at `heard_ms` and may have used its leases for `lease_ttl_ms` (with any
    /// margin for drifting clocks) after that. Repeating it changes nothing.
    pub fn close(&mut self, session: &str, heard_ms: i64, lease_ttl_ms: u64) {
        for account in &mut self.accounts {
            let Some(holding) = account.open.remove(session) else {
                continue;
            };
            let last_use_ms = heard_ms.saturating_add_unsigned(lease_ttl_ms);
            let counted = account.is_counted();
            let free_at = (!counted).then(|| last_use_ms.saturating_add_unsigned(account.rest_ms));
            let closed = Closed {
                taken: holding.taken,
                freed: holding.freed,
                removed: holding.removed,
                charge: holding.committed(counted),
                free_at,
                done: false,
            };
            account.closed.insert(session.to_owned(), closed);
            account.fold_closed();
        }
    }

    /// Things were released by id (see [`super::apply_things`]): as many `units` of every capacity of their meter are free again.
    pub fn release(&mut self, terms: &Terms, meter: &str, units: u64, now_ms: i64) {
        let of_meter =
            |term: &&Term| matches!(term.kind, TermKind::Capacity) && term.meter.as_deref() == Some(meter);
        for term in terms.limits.iter().filter(of_meter) {
            let at = self.position(&term.limit, CAPACITY_WINDOW, Some(term));
            if let Some(account) = at.and_then(|at| self.accounts.get_mut(at)) {
                account.removals.add(units);
                account.clamp(now_ms);
            }
        }
    }

    /// Things were imported by id: as many `units` of every capacity of their meter are in use besides.
    pub fn import(&mut self, terms: &Terms, meter: &str, units: u64) {
        let of_meter =
            |term: &&Term| matches!(term.kind, TermKind::Capacity) && term.meter.as_deref() == Some(meter);
        for term in terms.limits.iter().filter(of_meter) {
            let at = self.position(&term.limit, CAPACITY_WINDOW, Some(term));
            if let Some(account) = at.and_then(|at| self.accounts.get_mut(at)) {
                account.settled = account.settled.saturating_add(units);
            }
        }
    }

    /// An operator has counted: `units` of the capacity `limit` are in use. What closed sessions forfeited is forgotten; what
    /// open ones report from now on counts on top.
    pub fn reconcile(&mut self, terms: &Terms, limit: &str, units: u64) {
        let term = terms.term(limit).filter(|term| matches!(term.kind, TermKind::Capacity));
        let Some(term) = term else { return };
        let at = self.position(limit, CAPACITY_WINDOW, Some(term));
        if let Some(account) = at.and_then(|at| self.accounts.get_mut(at)) {
            account
                .closed
                .values_mut()
                .for_each(|closed| *closed = Closed { done: true, ..Closed::default() });
            account.settled = 0;
            account.open.values_mut().for_each(|holding| holding.old_taken = None);
            let (used, removed) = (account.taken_and_not_freed(), account.removed_by_sessions());
            account.settled = account.removals.reconcile(used, removed, units);
        }
    }

    /// The open sessions that this book knows.
    pub fn sessions(&self) -> Vec<String> {
        let mut sessions: Vec<String> = self.accounts.iter().flat_map(|a| a.open.keys().cloned()).collect();
        sessions.sort();
        sessions.dedup();
        sessions
    }

    /// Forgets what can no longer matter at `now_ms`.
    pub fn prune(&mut self, now_ms: i64) {
        for account in &mut self.accounts {
            account.expire(now_ms);
            account.clamp(now_ms);
        }
        let is_late = |end_ms: i64| now_ms >= end_ms.saturating_add(WINDOW_LATE_MS);
        self.spend(|account| account.end.is_some_and(is_late));
        self.accounts.retain(|account| match account.end {
            Some(end_ms) => !is_late(end_ms),
            None => {
                let nobody = account.open.is_empty() && account.closed.is_empty();
                !nobody || account.settled > 0 || !account.removals.is_none()
            }
        });
    }

    /// How each limit of `terms` stands at `now_ms`.
    pub fn standings(&self, terms: &Terms, now_ms: i64) -> Vec<Standing> {
        terms
            .limits
            .iter()
            .map(|term| {
                let (window, soft) = match &term.kind {
                    TermKind::Quota { windows, soft } => (windows.first().copied(), *soft),
                    _ => (None, false),
                };
                let start_ms = term.current_start_ms();
                let found = self.accounts.iter().find(|a| a.limit == term.limit && a.window == start_ms);
                let committed = found.map_or(0, |account| account.committed(now_ms));
                let units = self.units_in(found, term, terms, now_ms);
                let used = match &term.kind {
                    TermKind::Rate { .. } | TermKind::Bucket { .. } => 0,
                    _ => found.map_or(0, BookAccount::used),
                };
                Standing {
                    limit: term.limit.clone(),
                    meter: term.meter.clone(),
                    kind: term.kind.name(),
                    soft,
                    window_start_ms: window.map(|w| w.start_ms),
                    window_end_ms: window.map(|w| w.end_ms),
                    sliding_ms: match term.kind {
                        TermKind::Rate { window_ms } => Some(window_ms),
                        _ => None,
                    },
                    refill_ms: match term.kind {
                        TermKind::Bucket { refill_ms } => Some(refill_ms),
                        _ => None,
                    },
                    units,
                    used,
                    overage: used.saturating_sub(units),
                    clamped: found.map_or(0, |account| account.removals.clamped()),
                    leased: committed.saturating_sub(used),
                    unleased: units.saturating_sub(committed),
                }
            })
            .collect()
    }

    /// Units that closed sessions held of a limit whose units come back, each with the moment (Unix ms) from which they may
    /// be granted again, in that order: until then nobody gets them, whether they were used or not.
    pub fn resting(&self, limit: &str, window: i64, now_ms: i64) -> Vec<(i64, u64)> {
        let found = self.accounts.iter().find(|a| a.limit == limit && a.window == window);
        let closed = found.into_iter().flat_map(|account| account.closed.values());
        let mut resting: Vec<(i64, u64)> = closed
            .filter_map(|closed| Some((closed.free_at.filter(|free_at| now_ms < *free_at)?, closed.charge)))
            .filter(|(_, units)| *units > 0)
            .collect();
        resting.sort_unstable();
        resting
    }

    /// Units of a limit's window that are held or charged: what must never exceed its maximum.
    pub fn committed(&self, limit: &str, window: i64, now_ms: i64) -> u64 {
        let found = self.accounts.iter().find(|a| a.limit == limit && a.window == window);
        found.map_or(0, |account| account.committed(now_ms))
    }

    /// The maximum of a limit's window, with what grants add to it.
    pub fn maximum(&self, terms: &Terms, term: &Term, window: i64, now_ms: i64) -> u64 {
        let found = self.accounts.iter().find(|a| a.limit == term.limit && a.window == window);
        self.units_in(found, term, terms, now_ms)
    }

    /// Units used of a limit's window, as far as reported; what closed sessions forfeited counts as used.
    pub fn used(&self, limit: &str, window: i64) -> u64 {
        let found = self.accounts.iter().find(|a| a.limit == limit && a.window == window);
        found.map_or(0, BookAccount::used)
    }

    /// The position of an account. Opened only where units may be granted now: `term` is then what they are granted by.
    fn position(&mut self, limit: &str, window: i64, term: Option<&Term>) -> Option<usize> {
        let found = self.accounts.iter().position(|a| a.limit == limit && a.window == window);
        let rest_ms = term.map_or(0, |term| term.kind.rest_ms());
        if let Some(at) = found {
            if let Some(account) = self.accounts.get_mut(at) {
                // A policy may lengthen a rate's window while units of it are out.
                account.rest_ms = account.rest_ms.max(rest_ms);
            }
            return Some(at);
        }
        let term = term?;
        let end = term.window_end(window).ok()?;
        let mut account = BookAccount::new(limit, window, end, rest_ms);
        // Nothing was used of it before.
        account.base = end.map(|_| term.units);
        self.accounts.push(account);
        Some(self.accounts.len() - 1)
    }
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde calls it so")]
fn is_zero(number: &u64) -> bool {
    *number == 0
}

#[cfg(test)]
mod tests;
