//! What became of subscriptions: how many there are, how many came and went, and what became of trials. Pure sums over
//! moves, each of which counts in the day of UTC in which it held.

use std::collections::BTreeMap;

use tollgate_policy::subscription::{EffectiveState, Stage};

use crate::store::history::Moves;

/// How many subscriptions there are of each tier and state.
pub type Census = BTreeMap<(String, EffectiveStateKey), i64>;

/// A state that can be sorted, as its name.
pub type EffectiveStateKey = &'static str;

/// Who came and went, of one tier. `at_start + gained − lost + arrived − left = at_end`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Churn {
    /// Subscribers at the start: active, past due, or cancelled and still valid. Not those on trial.
    pub at_start: i64,
    /// Who became subscribers.
    pub gained: i64,
    /// Who are subscribers of no tier any more.
    pub lost: i64,
    /// Who came from another tier.
    pub arrived: i64,
    /// Who went to another tier.
    pub left: i64,
    /// Subscribers at the end.
    pub at_end: i64,
}

/// What became of trials of one tier.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Conversion {
    /// Trials that began.
    pub trials: i64,
    /// Trials that became subscriptions.
    pub converted: i64,
    /// Trials that ended, or were cancelled.
    pub given_up: i64,
    /// Subscriptions that began without a trial.
    pub direct: i64,
}

/// Adds moves to a census.
pub fn count(census: &mut Census, moves: &[Moves]) {
    for moved in moves {
        for (stage, sign) in [(&moved.from, -1), (&moved.to, 1)] {
            if let Some((tier, state)) = stage {
                *census.entry((tier.clone(), state_name(*state))).or_default() += sign * moved.count;
            }
        }
    }
    census.retain(|_, count| *count != 0);
}

/// Who came and went, by tier; `before`: the census at the start.
pub fn churn(before: &Census, moves: &[Moves]) -> BTreeMap<String, Churn> {
    let mut churn: BTreeMap<String, Churn> = BTreeMap::new();
    for ((tier, state), count) in before {
        if ["active", "past_due", "cancelled"].contains(state) {
            churn.entry(tier.clone()).or_default().at_start += count;
        }
    }
    for moved in moves {
        match (subscribed(&moved.from), subscribed(&moved.to)) {
            (None, Some(to)) => churn.entry(to.to_owned()).or_default().gained += moved.count,
            (Some(from), None) => churn.entry(from.to_owned()).or_default().lost += moved.count,
            (Some(from), Some(to)) if from != to => {
                churn.entry(from.to_owned()).or_default().left += moved.count;
                churn.entry(to.to_owned()).or_default().arrived += moved.count;
            }
            _ => {}
        }
    }
    for of in churn.values_mut() {
        of.at_end = of.at_start + of.gained - of.lost + of.arrived - of.left;
    }
    churn
}

/// What became of trials, by the tier that was tried, and of what began without one.
pub fn conversion(moves: &[Moves]) -> BTreeMap<String, Conversion> {
    let mut conversion: BTreeMap<String, Conversion> = BTreeMap::new();
    let on_trial = |stage: &Stage| matches!(stage, Some((_, EffectiveState::Trialing)));
    let pays = |stage: &Stage| matches!(stage, Some((_, EffectiveState::Active | EffectiveState::PastDue)));
    for moved in moves {
        let (tried, began) = (moved.from.as_ref(), moved.to.as_ref());
        match (tried, began) {
            (Some((tier, _)), _) if on_trial(&moved.from) && !on_trial(&moved.to) => {
                let of = conversion.entry(tier.clone()).or_default();
                match pays(&moved.to) {
                    true => of.converted += moved.count,
                    false => of.given_up += moved.count,
                }
            }
            (_, Some((tier, _))) if on_trial(&moved.to) && !on_trial(&moved.from) => {
                conversion.entry(tier.clone()).or_default().trials += moved.count;
            }
            (_, Some((tier, _)))
                if pays(&moved.to) && subscribed(&moved.from).is_none() && !is_paused(&moved.from) =>
            {
                conversion.entry(tier.clone()).or_default().direct += moved.count;
            }
            _ => {}
        }
    }
    conversion
}

/// Percent to one decimal; nothing of nothing.
pub fn percent(part: i64, whole: i64) -> Option<f64> {
    (whole > 0).then(|| ((i128::from(part) * 1_000) / i128::from(whole)) as f64 / 10.0)
}

/// The name of a state, as everywhere.
pub fn state_name(state: EffectiveState) -> EffectiveStateKey {
    match state {
        EffectiveState::Active => "active",
        EffectiveState::Trialing => "trialing",
        EffectiveState::PastDue => "past_due",
        EffectiveState::Cancelled => "cancelled",
        EffectiveState::Pending => "pending",
        EffectiveState::Paused => "paused",
        EffectiveState::Expired => "expired",
        EffectiveState::Free => "free",
    }
}

fn subscribed(stage: &Stage) -> Option<&str> {
    match stage {
        Some((tier, EffectiveState::Active | EffectiveState::PastDue | EffectiveState::Cancelled)) => {
            Some(tier)
        }
        _ => None,
    }
}

fn is_paused(stage: &Stage) -> bool {
    matches!(stage, Some((_, EffectiveState::Paused)))
}

#[cfg(test)]
mod tests {
    use EffectiveState::{Active, Cancelled, Expired, PastDue, Paused, Trialing};

    use super::*;

    type Short = Option<(&'static str, EffectiveState)>;

    fn moves(of: &[(Short, Short, i64)]) -> Vec<Moves> {
        let stage = |stage: Short| stage.map(|(tier, state)| (tier.to_owned(), state));
        let row = |(from, to, count): &(Short, Short, i64)| Moves {
            day_ms: 0,
            from: stage(*from),
            to: stage(*to),
            count: *count,
        };
        of.iter().map(row).collect()
    }

    #[test]
    fn who_came_and_went_adds_up_to_who_is_there() {
        let before = moves(&[(None, Some(("pro", Active)), 100), (None, Some(("basic", Cancelled)), 10)]);
        let during = moves(&[
            (None, Some(("pro", Active)), 7),
            (None, Some(("pro", Trialing)), 50),
            (Some(("pro", Trialing)), Some(("pro", Active)), 5),
            (Some(("pro", Active)), Some(("pro", PastDue)), 9),
            (Some(("pro", PastDue)), Some(("pro", Expired)), 4),
            (Some(("pro", Active)), None, 1),
            (Some(("pro", Active)), Some(("basic", Active)), 3),
            (Some(("basic", Cancelled)), Some(("basic", Expired)), 10),
        ]);
        let (mut start, mut end) = (Census::new(), Census::new());
        count(&mut start, &before);
        count(&mut end, &before);
        count(&mut end, &during);
        let churn = churn(&start, &during);
        let pro = Churn { at_start: 100, gained: 12, lost: 5, arrived: 0, left: 3, at_end: 104 };
        let basic = Churn { at_start: 10, gained: 0, lost: 10, arrived: 3, left: 0, at_end: 3 };
        assert_eq!(churn, [("basic".to_owned(), basic), ("pro".to_owned(), pro)].into());
        for (tier, of) in churn {
            let there: i64 = ["active", "past_due", "cancelled"]
                .iter()
                .filter_map(|state| end.get(&(tier.clone(), *state)))
                .sum();
            assert_eq!(of.at_end, there, "{tier}");
        }
    }

    #[test]
    fn a_trial_is_converted_by_being_paid_and_not_by_being_cancelled() {
        let during = moves(&[
            (None, Some(("pro", Trialing)), 20),
            (Some(("pro", Trialing)), Some(("pro", Active)), 5),
            (Some(("pro", Trialing)), Some(("basic", Active)), 1),
            (Some(("pro", Trialing)), Some(("pro", Cancelled)), 2),
            (Some(("pro", Cancelled)), Some(("pro", Expired)), 2),
            (Some(("pro", Trialing)), Some(("pro", Expired)), 3),
            (None, Some(("pro", Active)), 4),
            (Some(("pro", Expired)), Some(("pro", Active)), 1),
            (Some(("pro", Paused)), Some(("pro", Active)), 6),
        ]);
        let pro = Conversion { trials: 20, converted: 6, given_up: 5, direct: 5 };
        assert_eq!(conversion(&during), [("pro".to_owned(), pro)].into());
    }

    #[test]
    fn percent_of_nothing_is_nothing() {
        assert_eq!((percent(1, 3), percent(0, 0), percent(5, 4)), (Some(33.3), None, Some(125.0)));
    }
}
