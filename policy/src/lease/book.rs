//! The control plane's side of one subject: who holds how many units of what.
//!
//! In every state: Σ open (held, or used where that is more) + Σ charges of closed sessions ≤ N, checked where units are
//! granted. A book is changed in one database transaction; it neither knows a clock nor which sessions are alive.

mod pool;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::capacity::Removals;
use super::kind::CAPACITY_WINDOW;
use super::terms::{Term, TermKind, Terms};
use crate::limit::UNLIMITED;
use crate::wire::{AccountAnswer, AccountReport};
use pool::{Drawn, Own};

/// How long an asker is told to wait for units recalled from a session that does not answer, ms.
pub const RECALL_PATIENCE_MS: i64 = 2_000;

/// A session that answered a recall is not asked again for this long, ms.
const RECALL_INTERVAL_MS: i64 = 500;

/// Units of a quota that an edge gets at least while no other edge holds any: small limits need no second question.
const QUOTA_GRANT_MIN: u64 = 16;

/// How long after its end a window's account is kept for late reports, ms. Usage that comes later still reaches the
/// ledger, which does not pass through here.
pub const WINDOW_LATE_MS: i64 = 3_600_000;

/// Most closed sessions that an account remembers whose final numbers may still come, or come again.
const CLOSED_MAX: usize = 128;

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
    /// The maximum, with all that grants add to it; or [`UNLIMITED`].
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

impl BookAccount {
    fn new(limit: &str, window: i64, end: Option<i64>, rest_ms: u64) -> Self {
        Self {
            limit: limit.to_owned(),
            window,
            end,
            capacity: end.is_none() && window == CAPACITY_WINDOW,
            rest_ms,
            open: BTreeMap::new(),
            closed: BTreeMap::new(),
            settled: 0,
            removals: Removals::default(),
            base: None,
            drawn: BTreeMap::new(),
        }
    }

    /// Whether what was used stays used until the window ends, or until it is freed.
    fn is_counted(&self) -> bool {
        self.end.is_some() || self.capacity
    }

    fn expire(&mut self, now_ms: i64) {
        self.closed.retain(|_, closed| closed.free_at.is_none_or(|free_at| now_ms < free_at));
    }

    /// Bounds what restarts of edges leave behind in a long window, or for ever. A closed session that is folded stays charged,
    /// and its final numbers will not be heard; of those that forfeited least that matters least.
    fn fold_closed(&mut self) {
        while self.is_counted() && self.closed.len() > CLOSED_MAX {
            let unreported =
                |closed: &Closed| closed.charge.saturating_sub(closed.taken.saturating_sub(closed.freed));
            let least =
                self.closed.iter().min_by_key(|(_, closed)| unreported(closed)).map(|(id, _)| id.clone());
            if let Some(closed) = least.and_then(|id| self.closed.remove(&id)) {
                self.settled = self.settled.saturating_add(closed.charge);
                self.removals.add(closed.removed);
            }
        }
    }

    /// Of a capacity, what was removed though nothing was there.
    fn clamp(&mut self, now_ms: i64) {
        if self.capacity {
            let (old, removed) = (self.old(), self.removed_by_sessions());
            self.removals.clamp(old, removed, now_ms);
            if !self.removals.is_short() {
                self.open.values_mut().for_each(|holding| holding.old_taken = None);
            }
        }
    }

    /// `session` was heard: what it takes from now on was not there when more was removed than is known to be used.
    fn note_old(&mut self, session: &str) {
        if self.removals.is_short()
            && let Some(holding) = self.open.get_mut(session)
        {
            holding.old_taken = holding.old_taken.or(Some(holding.taken));
        }
    }

    fn removed_by_sessions(&self) -> u64 {
        let open = self.open.values().map(|holding| holding.removed);
        open.chain(self.closed.values().map(|closed| closed.removed)).fold(0, u64::saturating_add)
    }

    fn committed(&self, now_ms: i64) -> u64 {
        let counted = self.is_counted();
        let open = self.open.values().fold(0_u64, |sum, h| sum.saturating_add(h.committed(counted)));
        let closed = self.closed.values().filter(|c| c.free_at.is_none_or(|free_at| now_ms < free_at));
        let all = closed.fold(open, |sum, c| sum.saturating_add(c.charge)).saturating_add(self.settled);
        if !self.capacity {
            return all;
        }
        // What was removed sets free what is used, and never what is only held: that may be used yet.
        all.saturating_sub(self.taken_and_not_freed()).saturating_add(self.used())
    }

    /// Units that open sessions hold, and those that closed ones are charged for.
    fn held(&self) -> u64 {
        let open = self.open.values().map(Holding::held);
        let closed = self.closed.values().map(|closed| closed.charge);
        open.chain(closed).fold(self.settled, u64::saturating_add)
    }

    fn used(&self) -> u64 {
        let used = self.taken_and_not_freed();
        if self.capacity { self.removals.in_use(used, self.old(), self.removed_by_sessions()) } else { used }
    }

    fn taken_and_not_freed(&self) -> u64 {
        self.sum_of_used(Holding::used)
    }

    /// Of what is taken and not freed, what a release can have been of: see [`Removals`].
    fn old(&self) -> u64 {
        self.sum_of_used(Holding::old)
    }

    fn sum_of_used(&self, of: impl Fn(&Holding) -> u64) -> u64 {
        let open = self.open.values().fold(0_u64, |sum, h| sum.saturating_add(of(h)));
        // What a closed session forfeited of a kind that is counted counts as used.
        let closed = self.closed.values().filter(|c| c.free_at.is_none());
        closed.fold(open, |sum, c| sum.saturating_add(c.charge)).saturating_add(self.settled)
    }

    /// Grants within the limit: what is wanted, while it is free, since one request may need it all; and a share of what
    /// is free, so that the edge need not come again soon. The share is large where what a dead edge held comes back soon.
    /// Of a quota it stays charged until the window ends, so that a share is small, and demand adds to it; of a capacity it
    /// stays charged for ever, so that there is none.
    /// What grants add to a quota is granted as it is wanted and no more, since it was paid for.
    /// What the session has used beyond what it holds is charged already, so that holding it costs nobody anything: it comes
    /// on top, or its debt would swallow what is granted. But never are more units held than there are: what is freed of them
    /// later may be used again.
    fn grant(&mut self, session: &str, wanted: u64, term: &Term, units: u64, now_ms: i64) {
        if wanted == 0 {
            return;
        }
        let counted = self.is_counted();
        let committed = self.committed(now_ms);
        let (free, own) = (units.saturating_sub(committed), term.units.saturating_sub(committed));
        let others = self.open.iter().any(|(id, h)| id != session && h.committed(counted) > 0);
        // Where units come back after their use, what was taken in all is no debt.
        let unheld = if counted { units.saturating_sub(self.held()) } else { 0 };
        let share = match (&term.kind, others) {
            // There is enough for everybody: nobody needs a stock.
            _ if term.units == UNLIMITED => 0,
            (TermKind::Rate { .. } | TermKind::Bucket { .. }, false) => free - free / 8,
            (TermKind::Rate { .. } | TermKind::Bucket { .. }, true) => free / 4,
            (TermKind::Concurrency, false) => free / 2,
            (TermKind::Concurrency, true) => free / 8,
            (TermKind::Quota { .. }, false) => (own / 16).max(QUOTA_GRANT_MIN).min(own),
            (TermKind::Quota { .. }, true) => own / 16,
            (TermKind::Capacity, _) => 0,
        };
        if let Some(holding) = self.open.get_mut(session) {
            let debt = holding.used().saturating_sub(holding.held()).min(wanted).min(unheld);
            let share = share.max(wanted.saturating_sub(debt));
            holding.granted = holding.granted.saturating_add(debt).saturating_add(share.min(free));
        }
    }

    /// What the sessions that `concerns` names hold and do not use is recalled.
    fn recall(&mut self, concerns: impl Fn(&str) -> bool, now_ms: i64, recalled: &mut Vec<String>) {
        let counted = self.is_counted();
        for (id, holding) in &mut self.open {
            if !concerns(id) || holding.idle(counted) == 0 {
                continue;
            }
            let since_ms = match holding.recall {
                Recall::None => Some(now_ms),
                Recall::Answered(at_ms) => {
                    (now_ms.saturating_sub(at_ms) >= RECALL_INTERVAL_MS).then_some(now_ms)
                }
                // Told and silent: the message, or the session, may be lost. It is told again, but nobody waits for it
                // any longer, so it is still wanted since then.
                Recall::Wanted(at_ms) | Recall::Told(at_ms) => {
                    (now_ms.saturating_sub(at_ms) >= RECALL_PATIENCE_MS).then_some(at_ms)
                }
            };
            if let Some(since_ms) = since_ms {
                holding.recall = Recall::Wanted(since_ms);
                recalled.push(id.clone());
            }
        }
    }

    /// What `session` is told. `term`: whether units of this window may be granted now, and the maximum.
    fn answer(&mut self, session: &str, term: Option<(bool, u64)>, now_ms: i64) -> Option<AccountAnswer> {
        let unleased = match term {
            Some((true, units)) => units.saturating_sub(self.committed(now_ms)),
            _ => 0,
        };
        let counted = self.is_counted();
        let pending = self.open.iter().any(|(id, holding)| {
            let since_ms = match holding.recall {
                Recall::Wanted(at_ms) | Recall::Told(at_ms) => Some(at_ms),
                // A busy edge gives back a part at a time; how much of a rate rests there cannot be known here.
                Recall::Answered(at_ms) if counted => Some(at_ms),
                Recall::Answered(_) | Recall::None => None,
            };
            let patient = since_ms.is_some_and(|at_ms| now_ms.saturating_sub(at_ms) < RECALL_PATIENCE_MS);
            id != session && holding.idle(counted) > 0 && patient
        });
        let holding = self.open.get_mut(session)?;
        let recall = match holding.recall {
            Recall::Wanted(at_ms) => {
                holding.recall = Recall::Told(at_ms);
                true
            }
            _ => false,
        };
        Some(AccountAnswer {
            limit: self.limit.clone(),
            window: self.window,
            end: self.end,
            granted: holding.granted,
            returned: holding.returned,
            taken: holding.taken,
            freed: holding.freed,
            removed: holding.removed,
            unleased,
            pending,
            recall,
        })
    }
}

impl Holding {
    fn merge(&mut self, report: &AccountReport) {
        // What was never granted cannot be given back, and what was not taken cannot be freed, whatever an edge says.
        self.returned = self.returned.max(report.returned.min(self.granted));
        self.taken = self.taken.max(report.taken);
        self.freed = self.freed.max(report.freed.min(self.taken));
        self.removed = self.removed.max(report.removed);
    }

    fn held(&self) -> u64 {
        self.granted.saturating_sub(self.returned)
    }

    fn used(&self) -> u64 {
        self.taken.saturating_sub(self.freed)
    }

    fn old(&self) -> u64 {
        self.old_taken.map_or(self.taken, |taken| taken.min(self.taken)).saturating_sub(self.freed)
    }

    /// Held, or used where that is more: an edge that admits while the control plane is away, or under a soft limit, runs
    /// into debt. Where units come back after their use, what was taken in all says nothing of what is held.
    fn committed(&self, counted: bool) -> u64 {
        if counted { self.held().max(self.used()) } else { self.held() }
    }

    /// Units that the session may hold without using them. Of a kind that is not counted all may rest; only the edge knows.
    fn idle(&self, counted: bool) -> u64 {
        if counted { self.held().saturating_sub(self.used()) } else { self.held() }
    }
}

impl Recall {
    fn is_none(&self) -> bool {
        *self == Self::None
    }
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde calls it so")]
fn is_zero(number: &u64) -> bool {
    *number == 0
}

#[cfg(test)]
mod tests;
