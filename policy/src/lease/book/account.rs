//! One limit in one window: what is held, used and charged of it, and what an edge gets.

use std::collections::BTreeMap;

use super::super::capacity::Removals;
use super::super::kind::CAPACITY_WINDOW;
use super::super::terms::{Term, TermKind};
use super::{BookAccount, Closed, Holding, RECALL_PATIENCE_MS, Recall};
use crate::limit::UNLIMITED;
use crate::wire::{AccountAnswer, AccountReport};

/// A session that answered a recall is not asked again for this long, ms.
const RECALL_INTERVAL_MS: i64 = 500;

/// Units of a quota that an edge gets at least while no other edge holds any: small limits need no second question.
const QUOTA_GRANT_MIN: u64 = 16;

/// Most closed sessions that an account remembers whose final numbers may still come, or come again.
const CLOSED_MAX: usize = 128;

impl BookAccount {
    pub(super) fn new(limit: &str, window: i64, end: Option<i64>, rest_ms: u64) -> Self {
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
    pub(super) fn is_counted(&self) -> bool {
        self.end.is_some() || self.capacity
    }

    pub(super) fn expire(&mut self, now_ms: i64) {
        self.closed.retain(|_, closed| closed.free_at.is_none_or(|free_at| now_ms < free_at));
    }

    /// Bounds what restarts of edges leave behind in a long window, or for ever. A closed session that is folded stays charged,
    /// and its final numbers will not be heard; of those that forfeited least that matters least.
    pub(super) fn fold_closed(&mut self) {
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
    pub(super) fn clamp(&mut self, now_ms: i64) {
        if self.capacity {
            let (old, removed) = (self.old(), self.removed_by_sessions());
            self.removals.clamp(old, removed, now_ms);
            if !self.removals.is_short() {
                self.open.values_mut().for_each(|holding| holding.old_taken = None);
            }
        }
    }

    /// `session` was heard: what it takes from now on was not there when more was removed than is known to be used.
    pub(super) fn note_old(&mut self, session: &str) {
        if self.removals.is_short()
            && let Some(holding) = self.open.get_mut(session)
        {
            holding.old_taken = holding.old_taken.or(Some(holding.taken));
        }
    }

    pub(super) fn removed_by_sessions(&self) -> u64 {
        let open = self.open.values().map(|holding| holding.removed);
        open.chain(self.closed.values().map(|closed| closed.removed)).fold(0, u64::saturating_add)
    }

    pub(super) fn committed(&self, now_ms: i64) -> u64 {
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
    pub(super) fn held(&self) -> u64 {
        let open = self.open.values().map(Holding::held);
        let closed = self.closed.values().map(|closed| closed.charge);
        open.chain(closed).fold(self.settled, u64::saturating_add)
    }

    pub(super) fn used(&self) -> u64 {
        let used = self.taken_and_not_freed();
        if self.capacity { self.removals.in_use(used, self.old(), self.removed_by_sessions()) } else { used }
    }

    pub(super) fn taken_and_not_freed(&self) -> u64 {
        self.sum_of_used(Holding::used)
    }

    /// Of what is taken and not freed, what a release can have been of: see [`Removals`].
    pub(super) fn old(&self) -> u64 {
        self.sum_of_used(Holding::old)
    }

    pub(super) fn sum_of_used(&self, of: impl Fn(&Holding) -> u64) -> u64 {
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
    pub(super) fn grant(&mut self, session: &str, wanted: u64, term: &Term, units: u64, now_ms: i64) {
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
    pub(super) fn recall(
        &mut self,
        concerns: impl Fn(&str) -> bool,
        now_ms: i64,
        recalled: &mut Vec<String>,
    ) {
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
    pub(super) fn answer(
        &mut self,
        session: &str,
        term: Option<(bool, u64)>,
        now_ms: i64,
    ) -> Option<AccountAnswer> {
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
    pub(super) fn merge(&mut self, report: &AccountReport) {
        // What was never granted cannot be given back, and what was not taken cannot be freed, whatever an edge says.
        self.returned = self.returned.max(report.returned.min(self.granted));
        self.taken = self.taken.max(report.taken);
        self.freed = self.freed.max(report.freed.min(self.taken));
        self.removed = self.removed.max(report.removed);
    }

    pub(super) fn held(&self) -> u64 {
        self.granted.saturating_sub(self.returned)
    }

    pub(super) fn used(&self) -> u64 {
        self.taken.saturating_sub(self.freed)
    }

    pub(super) fn old(&self) -> u64 {
        self.old_taken.map_or(self.taken, |taken| taken.min(self.taken)).saturating_sub(self.freed)
    }

    /// Held, or used where that is more: an edge that admits while the control plane is away, or under a soft limit, runs
    /// into debt. Where units come back after their use, what was taken in all says nothing of what is held.
    pub(super) fn committed(&self, counted: bool) -> u64 {
        if counted { self.held().max(self.used()) } else { self.held() }
    }

    /// Units that the session may hold without using them. Of a kind that is not counted all may rest; only the edge knows.
    pub(super) fn idle(&self, counted: bool) -> u64 {
        if counted { self.held().saturating_sub(self.used()) } else { self.held() }
    }
}

impl Recall {
    pub(super) fn is_none(&self) -> bool {
        *self == Self::None
    }
}
