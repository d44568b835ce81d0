//! What a sync makes known of limits: that 80, 95 or 100 percent are used up, or that nothing was left. Seen by what was used
//! before and after, so that nothing is kept for it and a sync in which no such line is crossed costs a comparison. A
//! subscription that changes may cross it too, where its maximums fall.

use tollgate_policy::lease::{Book, CAPACITY_WINDOW, Term, TermKind, Terms};
use tollgate_policy::limit::UNLIMITED;
use tollgate_policy::wire::{AccountAnswer, AccountReport};

use super::happenings::{Happening, LimitState};

/// Percent of a maximum that are told when they are reached.
pub(super) const THRESHOLDS: [u8; 3] = [80, 95, 100];

/// A subject's book before and after a sync, or a change of its subscription.
#[derive(Debug, Clone, Copy)]
pub(super) struct Passage<'a> {
    pub subject: &'a str,
    pub before: &'a Book,
    pub after: &'a Book,
    pub terms: &'a Terms,
    pub now_ms: i64,
}

/// A limit's window: its start and its end, or neither.
type Span = (i64, Option<i64>);

impl Passage<'_> {
    /// Adds which thresholds were crossed.
    pub fn thresholds(&self, told: &mut Vec<Happening>) {
        for term in self.terms.limits.iter().filter(|term| is_told(term)) {
            for (window, end_ms) in spans(term) {
                let used = self.after.used(&term.limit, window);
                // Most are far from it.
                if used == 0 || !reaches(used, term.units, THRESHOLDS[0]) {
                    continue;
                }
                let limit = self.state(term, (window, end_ms), used);
                let before = (self.before.used(&term.limit, window), limit.units);
                tell(self.subject, &limit, Some(before), told);
            }
        }
    }

    /// Adds which thresholds are reached because maximums fell, of what `held` before: what was used stays used. Nothing is
    /// added of what was used since, which [`Self::thresholds`] tells.
    pub fn fallen(&self, held: &Terms, told: &mut Vec<Happening>) {
        for term in self.terms.limits.iter().filter(|term| is_told(term)) {
            for (window, end_ms) in spans(term) {
                let used = self.before.used(&term.limit, window);
                if used == 0 || !reaches(used, term.units, THRESHOLDS[0]) {
                    continue;
                }
                let had = held.term(&term.limit).filter(|had| spans(had).any(|(start, _)| start == window));
                let before = had.map(|had| (used, self.before.maximum(held, had, window, self.now_ms)));
                tell(self.subject, &self.state(term, (window, end_ms), used), before, told);
            }
        }
    }

    /// Adds which limits had nothing left for what was wanted. An edge that used some asks for as much again before anyone
    /// needs it; so one is told only when it is used up, or when the edge asks though it has used nothing since: then a
    /// request waits, and is refused.
    pub fn hits(&self, reports: &[AccountReport], answers: &[AccountAnswer], told: &mut Vec<Happening>) {
        for report in reports.iter().filter(|report| report.want > 0) {
            let Some(term) = self.terms.term(&report.limit).filter(|term| is_told(term) && !is_soft(term))
            else {
                continue;
            };
            let answer =
                answers.iter().find(|answer| answer.limit == report.limit && answer.window == report.window);
            let short = answer.is_some_and(|answer| {
                report.want > answer.granted && answer.unleased == 0 && !answer.pending
            });
            let Some(span) = spans(term).find(|(window, _)| *window == report.window && short) else {
                continue;
            };
            let used = self.after.used(&report.limit, report.window);
            let limit = self.state(term, span, used);
            if used >= limit.units || used == self.before.used(&report.limit, report.window) {
                told.push(Happening::LimitHit { subject: self.subject.to_owned(), limit });
            }
        }
    }

    /// How a limit stands in a window.
    fn state(&self, term: &Term, span: Span, used: u64) -> LimitState {
        let (window, end_ms) = span;
        LimitState {
            limit: term.limit.clone(),
            meter: term.meter.clone(),
            kind: term.kind.name(),
            window_start_ms: end_ms.is_some().then_some(window),
            window_end_ms: end_ms,
            units: self.after.maximum(self.terms, term, window, self.now_ms),
            used,
        }
    }
}

/// Adds the thresholds that a limit has reached and had not before: `before` is what was used, of which maximum.
fn tell(subject: &str, limit: &LimitState, before: Option<(u64, u64)>, told: &mut Vec<Happening>) {
    let reached = |(used, units), percent| units > 0 && reaches(used, units, percent);
    let crossed = |percent: &u8| {
        reached((limit.used, limit.units), *percent)
            && !before.is_some_and(|before| reached(before, *percent))
    };
    told.extend(THRESHOLDS.into_iter().filter(crossed).map(|percent| {
        let (subject, limit) = (subject.to_owned(), limit.clone());
        Happening::ThresholdReached { subject, limit, percent }
    }));
}

/// Whether a limit's units stay used, and are so many.
fn is_told(term: &Term) -> bool {
    let counted = matches!(term.kind, TermKind::Quota { .. } | TermKind::Capacity);
    counted && term.units != UNLIMITED
}

fn is_soft(term: &Term) -> bool {
    matches!(term.kind, TermKind::Quota { soft: true, .. })
}

fn spans(term: &Term) -> impl Iterator<Item = Span> + '_ {
    let (windows, capacity) = match &term.kind {
        TermKind::Quota { windows, .. } => (windows.as_slice(), None),
        TermKind::Capacity => (&[][..], Some((CAPACITY_WINDOW, None))),
        TermKind::Rate { .. } | TermKind::Bucket { .. } | TermKind::Concurrency => (&[][..], None),
    };
    windows.iter().map(|window| (window.start_ms, Some(window.end_ms))).chain(capacity)
}

/// Whether so many percent of a maximum are used.
pub(super) fn reaches(used: u64, units: u64, percent: u8) -> bool {
    u128::from(used) * 100 >= u128::from(units) * u128::from(percent)
}

#[cfg(test)]
mod tests {
    use tollgate_policy::lease::{Book, Term, TermKind, Terms};
    use tollgate_policy::limit::UNLIMITED;
    use tollgate_policy::window::Window;
    use tollgate_policy::wire::AccountReport;

    use super::super::happenings::Happening;
    use super::{Passage, reaches};

    /// A quota of so many units in one window, of which so many are taken: first `before`, then `after`. Compares the
    /// percentages that are told.
    fn check(units: u64, before: u64, after: u64, expected: &[u8]) {
        let windows = vec![Window { start_ms: 0, end_ms: 3_600_000 }];
        let kind = TermKind::Quota { windows, soft: true };
        let limits = vec![Term { limit: "calls".to_owned(), meter: None, units, kind }];
        let terms = Terms { limits, ..Terms::default() };
        let book = |taken: u64| {
            let (limit, mut book) = ("calls".to_owned(), Book::default());
            let report =
                AccountReport { limit, window: 0, taken, freed: 0, removed: 0, returned: 0, want: 0 };
            book.sync("session", &[report], &terms, 0);
            book
        };
        let (before, after) = (&book(before), &book(after));
        let mut told = Vec::new();
        Passage { subject: "user:a", before, after, terms: &terms, now_ms: 0 }.thresholds(&mut told);
        let percents: Vec<u8> = told
            .iter()
            .filter_map(|happening| match happening {
                Happening::ThresholdReached { percent, .. } => Some(*percent),
                _ => None,
            })
            .collect();
        assert_eq!(percents, expected, "{units} units");
    }

    #[test]
    fn only_what_this_sync_crossed_is_told() {
        check(100, 0, 79, &[]);
        check(100, 79, 80, &[80]);
        check(100, 80, 94, &[]);
        check(100, 94, 100, &[95, 100]);
        check(100, 0, 250, &[80, 95, 100]);
        check(100, 100, 250, &[]);
        check(100, 250, 60, &[]);
        check(0, 0, 5, &[]);
        check(UNLIMITED, 0, u64::MAX, &[]);
    }

    #[test]
    fn a_percentage_is_reached_by_the_first_whole_unit_that_is_as_much() {
        let reached = |units: u64, percent: u8| (0..=units).find(|used| reaches(*used, units, percent));
        assert_eq!([80, 95, 100].map(|percent| reached(5, percent)), [Some(4), Some(5), Some(5)]);
        assert_eq!([80, 95, 100].map(|percent| reached(1, percent)), [Some(1), Some(1), Some(1)]);
        assert_eq!([80, 95, 100].map(|percent| reached(1_000, percent)), [Some(800), Some(950), Some(1_000)]);
        assert!(!reaches(u64::MAX / 5 * 4 - 1, u64::MAX, 80) && reaches(u64::MAX, u64::MAX, 100));
    }
}
