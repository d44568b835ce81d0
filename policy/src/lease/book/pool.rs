//! Extra units of quotas (grants): a pool over all windows, of which a window draws what it needs beyond its own maximum.
//!
//! A window draws units when they are granted to an edge, and gives back those that edges return, so that no unit of a
//! grant is in two windows. What of it is used is burnt: when the window is forgotten, that alone stays gone. In a window
//! there are its own maximum, what it has drawn, and what no window has drawn: Σ drawn + Σ spent ≤ the grant's units.

use crate::limit::UNLIMITED;
use crate::subscription::Grant;

use super::{Book, BookAccount, Term, TermKind, Terms};

/// What a window has drawn of one grant.
#[derive(Debug, Clone, Copy, PartialEq, Default, serde::Serialize, serde::Deserialize)]
pub(super) struct Drawn {
    /// Units in all.
    #[serde(rename = "u")]
    units: u64,
    /// Units of them that are used.
    #[serde(rename = "b", default, skip_serializing_if = "super::is_zero")]
    burnt: u64,
}

impl Book {
    /// Draws, or gives back, what every window needs beyond its own maximum. To be called where units were used or closed
    /// without [`Book::sync`], which does it by itself.
    pub fn draw(&mut self, terms: &Terms, now_ms: i64) {
        for grant in &terms.grants {
            // What was burnt before this book was.
            self.spent.entry(grant.id.clone()).or_insert(grant.burnt);
        }
        (0..self.accounts.len()).for_each(|at| self.draw_for(at, terms, now_ms));
        let accounts = &self.accounts;
        let is_drawn = |id: &str| accounts.iter().any(|account| account.drawn.contains_key(id));
        self.spent.retain(|id, _| terms.grants.iter().any(|grant| grant.id == *id) || is_drawn(id));
    }

    /// Units of a grant that are used up, in all windows.
    pub fn burnt(&self, id: &str) -> u64 {
        let spent = self.spent.get(id).copied().unwrap_or(0);
        let drawn = self.accounts.iter().filter_map(|account| account.drawn.get(id));
        drawn.fold(spent, |sum, drawn| sum.saturating_add(drawn.burnt))
    }

    /// The grants as edges are told of them: of a quota with what was burnt in other windows than the current one, so that
    /// what is left and the window's own maximum are this window's. Answers whether that changed since it was asked last.
    pub fn tell(&mut self, terms: &Terms, grants: &mut [Grant]) -> bool {
        let mut told = std::collections::BTreeMap::new();
        for grant in grants {
            let start_ms = terms.term(&grant.limit).map(Term::current_start_ms);
            let current = self.accounts.iter().find(|a| a.limit == grant.limit && Some(a.window) == start_ms);
            let here =
                current.and_then(|account| account.drawn.get(&grant.id)).map_or(0, |drawn| drawn.burnt);
            grant.burnt = self.burnt(&grant.id).saturating_sub(here);
            if grant.burnt > 0 {
                told.insert(grant.id.clone(), grant.burnt);
            }
        }
        let changed = self.told != told;
        self.told = told;
        changed
    }

    /// The maximum of an account's window, with what it has drawn and what no window has. Of a limit without grants it is
    /// the limit's own.
    pub(super) fn units_in(
        &self,
        account: Option<&BookAccount>,
        term: &Term,
        terms: &Terms,
        now_ms: i64,
    ) -> u64 {
        if terms.grants.is_empty() || !matches!(term.kind, TermKind::Quota { .. }) {
            return term.units;
        }
        let of_limit = terms.grants.iter().filter(|grant| grant.limit == term.limit);
        of_limit.fold(term.units, |units, grant| {
            let drawn = account.and_then(|a| a.drawn.get(&grant.id)).copied().unwrap_or_default();
            // What was drawn of a grant that is over, and not used, goes back.
            let extra = match is_over(grant, now_ms) {
                true => drawn.burnt,
                false => drawn.units.saturating_add(self.left_of(grant)),
            };
            units.saturating_add(extra)
        })
    }

    /// Units of a grant that no window has drawn.
    fn left_of(&self, grant: &Grant) -> u64 {
        let spent = self.spent.get(&grant.id).copied().unwrap_or(grant.burnt);
        let drawn = self.accounts.iter().filter_map(|account| account.drawn.get(&grant.id));
        grant.units.saturating_sub(drawn.fold(spent, |sum, drawn| sum.saturating_add(drawn.units)))
    }

    /// Draws, or gives back, what one window needs.
    pub(super) fn draw_for(&mut self, at: usize, terms: &Terms, now_ms: i64) {
        let Some(account) = self.accounts.get_mut(at) else { return };
        let has_grants = terms.grants.iter().any(|grant| grant.limit == account.limit);
        if account.end.is_none() || (!has_grants && account.drawn.is_empty()) {
            return;
        }
        let term = terms.term(&account.limit).filter(|term| term.window_end(account.window).is_ok());
        if let Some(term) = term {
            // A maximum that is lowered within a window leaves used what was used by the higher one.
            account.base = Some(account.base.map_or(term.units, |base| base.max(term.units)));
        }
        // What was used in a window that is over, before there was any grant, draws nothing.
        let Some(base) = account.base.filter(|base| *base != UNLIMITED) else {
            let none = account.base.is_some();
            return if none {
                account.drawn.clear()
            };
        };
        let beyond = account.committed(now_ms).saturating_sub(base);
        let burnt = account.used().saturating_sub(base);
        let drawn = account.drawn.values().fold(0_u64, |sum, drawn| sum.saturating_add(drawn.units));
        let order: Vec<String> = order(terms, account).collect();
        let mut back = drawn.saturating_sub(beyond);
        for id in order.iter().rev() {
            if let Some(drawn) = account.drawn.get_mut(id) {
                let units = back.min(drawn.units);
                drawn.units -= units;
                back -= units;
            }
        }
        let mut missing = beyond.saturating_sub(drawn);
        // A window that is over draws no more: what was bought since then is not for it.
        for grant in in_order(terms, term.map(|term| term.limit.as_str())) {
            let units = if is_over(grant, now_ms) { 0 } else { missing.min(self.left_of(grant)) };
            if let (1.., Some(account)) = (units, self.accounts.get_mut(at)) {
                account.drawn.entry(grant.id.clone()).or_default().units += units;
                missing -= units;
            }
        }
        let Some(account) = self.accounts.get_mut(at) else { return };
        let mut left = burnt;
        let order: Vec<String> = self::order(terms, account).collect();
        for id in &order {
            if let Some(drawn) = account.drawn.get_mut(id) {
                drawn.burnt = left.min(drawn.units);
                left -= drawn.burnt;
            }
        }
        account.drawn.retain(|_, drawn| drawn.units > 0);
    }

    /// The window is forgotten: what was burnt in it stays burnt.
    pub(super) fn spend(&mut self, is_over: impl Fn(&BookAccount) -> bool) {
        for account in self.accounts.iter().filter(|account| is_over(account)) {
            let burnt = account.drawn.values().fold(0_u64, |sum, drawn| sum.saturating_add(drawn.burnt));
            let beyond = account.base.map_or(0, |base| account.used().saturating_sub(base));
            // What a session forfeited since units were drawn last.
            let mut late = beyond.saturating_sub(burnt);
            for (id, drawn) in &account.drawn {
                let units = late.min(drawn.units.saturating_sub(drawn.burnt));
                late -= units;
                let spent = self.spent.entry(id.clone()).or_default();
                *spent = spent.saturating_add(drawn.burnt).saturating_add(units);
            }
        }
    }
}

fn is_over(grant: &Grant, now_ms: i64) -> bool {
    grant.expires_at_ms.is_some_and(|end_ms| end_ms <= now_ms)
}

/// The grants of a limit, the first to expire first.
fn in_order<'t>(terms: &'t Terms, limit: Option<&str>) -> impl Iterator<Item = &'t Grant> {
    let mut grants: Vec<&Grant> =
        terms.grants.iter().filter(|grant| Some(grant.limit.as_str()) == limit).collect();
    grants.sort_by_key(|grant| (grant.expires_at_ms.unwrap_or(i64::MAX), &grant.id));
    grants.into_iter()
}

/// What an account has drawn of, and may: what was taken away since, then the first to expire first.
fn order(terms: &Terms, account: &BookAccount) -> impl Iterator<Item = String> {
    let known: Vec<String> = in_order(terms, Some(&account.limit)).map(|grant| grant.id.clone()).collect();
    let gone: Vec<String> = account.drawn.keys().filter(|id| !known.contains(id)).cloned().collect();
    gone.into_iter().chain(known)
}
