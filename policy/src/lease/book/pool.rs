//! Extra units of quotas (grants): a pool over all windows, of which a window draws what it needs beyond its own maximum.
//!
//! A window draws units when they are granted to an edge, and gives back those that edges return, so that no unit of a
//! grant is in two windows. What of it is used is burnt: when the window is forgotten, that alone stays gone. In a window
//! there are its own maximum, what it has drawn, and what no window has drawn: Σ drawn + Σ spent ≤ the grant's units.

use std::collections::BTreeMap;

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

/// Whether a window's own part is settled by what it has used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Own {
    /// Not yet: what a report tells next may have been used before a maximum fell, or before there was a grant.
    Kept,
    /// Yes.
    Settled,
}

impl Book {
    /// Draws, or gives back, what every window needs beyond its own maximum. To be called where units were used or closed
    /// without [`Book::sync`], which does it by itself.
    pub fn draw(&mut self, terms: &Terms, now_ms: i64) {
        self.draw_all(terms, Own::Settled, now_ms);
    }

    pub(super) fn draw_all(&mut self, terms: &Terms, own: Own, now_ms: i64) {
        for grant in &terms.grants {
            // What was burnt before this book was.
            self.spent.entry(grant.id.clone()).or_insert(grant.burnt);
        }
        (0..self.accounts.len()).for_each(|at| self.draw_for(at, terms, own, now_ms));
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

    /// Whether any window has drawn of a grant.
    pub fn has_drawn(&self) -> bool {
        self.accounts.iter().any(|account| !account.drawn.is_empty())
    }

    /// The grants as edges are told of them: of a quota with what was burnt in other windows than the current one, so that
    /// what is left and the window's own maximum are this window's. Of one that is over or was taken away that is what the
    /// current window burnt: without it the window would seem to be used up by that. Answers whether what is told changed
    /// since it was asked last.
    pub fn tell(&mut self, terms: &Terms, grants: &mut Vec<Grant>, now_ms: i64) -> bool {
        let (mut told, mut told_over) = (BTreeMap::new(), BTreeMap::new());
        for grant in grants.iter_mut() {
            let here = self.burnt_here(terms, &grant.limit, &grant.id);
            if here > 0 && !grant.holds(now_ms) {
                (grant.units, grant.burnt, grant.expires_at_ms) = (here, 0, None);
                told_over.insert(grant.id.clone(), here);
                continue;
            }
            grant.burnt = self.burnt(&grant.id).saturating_sub(here);
            if grant.burnt > 0 {
                told.insert(grant.id.clone(), grant.burnt);
            }
        }
        for account in self.accounts.iter().filter(|account| is_current(account, terms)) {
            for (id, drawn) in account.drawn.iter().filter(|(id, drawn)| drawn.burnt > 0 && !terms.has(id)) {
                let (id, limit, units) = (id.clone(), account.limit.clone(), drawn.burnt);
                told_over.insert(id.clone(), units);
                grants.push(Grant { id, limit, units, burnt: 0, expires_at_ms: None });
            }
        }
        let changed = (&self.told, &self.told_over) != (&told, &told_over);
        (self.told, self.told_over) = (told, told_over);
        changed
    }

    /// Units of a grant that the current window of its limit has burnt.
    fn burnt_here(&self, terms: &Terms, limit: &str, id: &str) -> u64 {
        let current = self.accounts.iter().find(|a| a.limit == limit && is_current(a, terms));
        current.and_then(|account| account.drawn.get(id)).map_or(0, |drawn| drawn.burnt)
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
        let has_drawn = account.is_some_and(|account| !account.drawn.is_empty());
        if (terms.grants.is_empty() && !has_drawn) || !matches!(term.kind, TermKind::Quota { .. }) {
            return term.units;
        }
        // What was drawn of a grant that is over or was taken away, and not used, goes back.
        let gone = account.into_iter().flat_map(|account| &account.drawn).filter(|(id, _)| !terms.has(id));
        let units = gone.fold(term.units, |units, (_, drawn)| units.saturating_add(drawn.burnt));
        let of_limit = terms.grants.iter().filter(|grant| grant.limit == term.limit);
        of_limit.fold(units, |units, grant| {
            let drawn = account.and_then(|a| a.drawn.get(&grant.id)).copied().unwrap_or_default();
            let extra = match grant.holds(now_ms) {
                true => drawn.units.saturating_add(self.left_of(grant)),
                false => drawn.burnt,
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
    pub(super) fn draw_for(&mut self, at: usize, terms: &Terms, own: Own, now_ms: i64) {
        let Some(account) = self.accounts.get_mut(at) else { return };
        let holds = terms.grants.iter().any(|g| g.limit == account.limit && g.holds(now_ms));
        if account.end.is_none() {
            return;
        }
        if !holds && account.drawn.is_empty() {
            // Nothing can be drawn: all that is used until there is a grant will be the window's own.
            account.base = account.base.filter(|_| own == Own::Kept);
            return;
        }
        let term = terms.term(&account.limit).filter(|term| term.window_end(account.window).is_ok());
        if let Some(term) = term {
            let committed = || account.committed(now_ms).max(term.units);
            // What was used before there was any grant is not of it.
            let base = account.base.or_else(|| (own == Own::Settled).then(committed));
            account.base = base.map(|base| base.max(term.units));
        }
        // What was used in a window that is over, before there was any grant, draws nothing.
        let Some(base) = account.base else { return };
        give_back(account, terms, base, now_ms);
        // A window that is over draws no more: what was bought since then is not for it.
        if let Some(term) = term {
            if self.accounts.get(at).is_some_and(|account| is_current(account, terms)) {
                self.hand_on(at, terms, now_ms);
            }
            let missing = self.accounts.get(at).map_or(0, |a| a.undrawn(now_ms).saturating_sub(base));
            self.draw_units(at, terms, missing, now_ms);
            if own == Own::Settled {
                self.settle_own(at, term, holds, now_ms);
            }
        }
        if let Some(account) = self.accounts.get_mut(at) {
            burn(account, terms);
        }
    }

    /// Draws up to `units` of what no window has drawn of the grants that hold; answers how many.
    fn draw_units(&mut self, at: usize, terms: &Terms, units: u64, now_ms: i64) -> u64 {
        let limit = self.accounts.get(at).map(|account| account.limit.clone()).unwrap_or_default();
        let mut missing = units;
        for grant in in_order(terms, &limit).filter(|grant| grant.holds(now_ms)) {
            let units = missing.min(self.left_of(grant));
            if let (1.., Some(account)) = (units, self.accounts.get_mut(at)) {
                account.drawn.entry(grant.id.clone()).or_default().units += units;
                missing -= units;
            }
        }
        units - missing
    }

    /// Of a grant that is over or was taken away, what was drawn and is not used cannot be used any more: what edges still
    /// hold is of those that hold, as far as there is some. Not of a window that is over: what is still reported of it was
    /// used in it.
    fn hand_on(&mut self, at: usize, terms: &Terms, now_ms: i64) {
        let ended = |id: &str| terms.grants.iter().find(|g| g.id == id).is_none_or(|g| !g.holds(now_ms));
        let idle = |account: &BookAccount| {
            let idle = account.drawn.iter().map(|(id, d)| (id.clone(), d.units.saturating_sub(d.burnt)));
            idle.filter(|(id, idle)| *idle > 0 && ended(id)).collect::<Vec<_>>()
        };
        for (id, idle) in self.accounts.get(at).map(idle).unwrap_or_default() {
            let units = self.draw_units(at, terms, idle, now_ms);
            if let Some(drawn) = self.accounts.get_mut(at).and_then(|account| account.drawn.get_mut(&id)) {
                drawn.units -= units;
            }
        }
    }

    /// A maximum that falls within a window leaves as its own what was used by the higher one, and no more. Where no grant
    /// holds, a debt is its own too.
    fn settle_own(&mut self, at: usize, term: &Term, holds: bool, now_ms: i64) {
        let Some(account) = self.accounts.get_mut(at) else { return };
        let (own, current) = (account.undrawn(now_ms), account.window == term.current_start_ms());
        let base = account.base.map(|base| if holds { base } else { base.max(own) });
        // Of a window that is over the last reports may still come, by which more was used.
        account.base = base.map(|base| if current { base.min(own).max(term.units) } else { base });
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

impl BookAccount {
    /// What is held or charged, and not of any grant.
    fn undrawn(&self, now_ms: i64) -> u64 {
        let drawn = self.drawn.values().fold(0_u64, |sum, drawn| sum.saturating_add(drawn.units));
        self.committed(now_ms).saturating_sub(drawn)
    }
}

impl Terms {
    fn has(&self, id: &str) -> bool {
        self.grants.iter().any(|grant| grant.id == id)
    }
}

/// Gives back what the window has drawn and does not need, the last to expire first.
fn give_back(account: &mut BookAccount, terms: &Terms, base: u64, now_ms: i64) {
    let beyond = account.committed(now_ms).saturating_sub(base);
    let drawn = account.drawn.values().fold(0_u64, |sum, drawn| sum.saturating_add(drawn.units));
    let mut back = drawn.saturating_sub(beyond);
    let order: Vec<String> = order(terms, account).collect();
    for id in order.iter().rev() {
        if let Some(drawn) = account.drawn.get_mut(id) {
            let units = back.min(drawn.units);
            drawn.units -= units;
            back -= units;
        }
    }
}

/// Of what the window has drawn, what is used beyond its own part is burnt.
fn burn(account: &mut BookAccount, terms: &Terms) {
    let mut left = account.base.map_or(0, |base| account.used().saturating_sub(base));
    let order: Vec<String> = order(terms, account).collect();
    for id in &order {
        if let Some(drawn) = account.drawn.get_mut(id) {
            drawn.burnt = left.min(drawn.units);
            left -= drawn.burnt;
        }
    }
    account.drawn.retain(|_, drawn| drawn.units > 0);
}

/// Whether it is the window of now of its limit.
fn is_current(account: &BookAccount, terms: &Terms) -> bool {
    let term = terms.term(&account.limit).filter(|_| account.end.is_some());
    term.is_some_and(|term| term.current_start_ms() == account.window)
}

/// The grants of a limit, the first to expire first.
fn in_order<'t>(terms: &'t Terms, limit: &str) -> impl Iterator<Item = &'t Grant> {
    let mut grants: Vec<&Grant> = terms.grants.iter().filter(|grant| grant.limit == limit).collect();
    grants.sort_by_key(|grant| (grant.expires_at_ms.unwrap_or(i64::MAX), &grant.id));
    grants.into_iter()
}

/// What an account has drawn of, and may: what was taken away since, then the first to expire first.
fn order(terms: &Terms, account: &BookAccount) -> impl Iterator<Item = String> {
    let known: Vec<String> = in_order(terms, &account.limit).map(|grant| grant.id.clone()).collect();
    let gone: Vec<String> = account.drawn.keys().filter(|id| !known.contains(id)).cloned().collect();
    gone.into_iter().chain(known)
}
