//! What became of a subscription between two writes of it, at the moments when it held.

use super::{EffectiveState, Subscription};

/// Where a subscription stands: its tier and state; `None`: there is none.
pub type Stage = Option<(String, EffectiveState)>;

/// A subscription that went from one stage to another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Move {
    /// When, Unix ms.
    pub at_ms: i64,
    /// From where.
    pub from: Stage,
    /// To where.
    pub to: Stage,
}

impl Subscription {
    /// Where it stands at `now_ms` (Unix ms).
    pub fn stage(&self, now_ms: i64) -> (String, EffectiveState) {
        let effective = self.effective(now_ms);
        (effective.tier.to_owned(), effective.state.into())
    }
}

/// The moves from `from`, which was known at `since_ms`, to what is written at `now_ms`: first those that `before` made by
/// itself, then the one that `after` is. Moments that are over are looked at once: a clock that is set back moves nothing.
pub fn moves(
    from: Stage,
    before: Option<&Subscription>,
    since_ms: i64,
    after: Option<&Subscription>,
    now_ms: i64,
) -> Vec<Move> {
    let mut moves = Vec::new();
    let mut stage = from;
    let mut go = |at_ms: i64, to: Stage| {
        if to != stage {
            moves.push(Move { at_ms, from: stage.clone(), to: to.clone() });
            stage = to;
        }
    };
    if let Some(before) = before {
        let mut seen_ms = since_ms;
        while let Some(at_ms) = before.next_moment_ms(seen_ms).filter(|at_ms| *at_ms <= now_ms) {
            go(at_ms, Some(before.stage(at_ms)));
            seen_ms = at_ms;
        }
    }
    go(now_ms, after.map(|after| after.stage(now_ms)));
    moves
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;
    use crate::subscription::{ScheduledChange, SubscriptionState};

    fn shown(stage: &Stage) -> String {
        stage.as_ref().map_or_else(|| "nothing".to_owned(), |(tier, state)| format!("{tier} {state:?}"))
    }

    /// Moves of what was written at 0 and is written again at 100.
    fn check(before: Option<&Subscription>, after: Option<&Subscription>, expected: Expect) {
        let from = before.map(|before| before.stage(0));
        let moves = moves(from, before, 0, after, 100);
        let moves = moves.iter().map(|m| format!("{}: {} -> {}", m.at_ms, shown(&m.from), shown(&m.to)));
        expected.assert_eq(&moves.collect::<Vec<_>>().join("; "));
    }

    fn pro() -> Subscription {
        Subscription { tier: "pro".to_owned(), ..Subscription::default() }
    }

    #[test]
    fn what_happened_in_between_is_told_at_its_moment() {
        let change = |at_ms, tier: &str| ScheduledChange { at_ms, tier: Some(tier.to_owned()), state: None };
        let changing = Subscription {
            changes: vec![change(40, "basic"), change(60, "basic"), change(200, "free")],
            expires_at_ms: Some(80),
            ..pro()
        };
        check(
            Some(&changing),
            Some(&changing.at(100)),
            expect!["40: pro Active -> basic Active; 80: basic Active -> basic Expired"],
        );
        check(
            Some(&changing),
            Some(&pro()),
            expect![
                "40: pro Active -> basic Active; 80: basic Active -> basic Expired; 100: basic Expired -> pro Active"
            ],
        );
    }

    #[test]
    fn what_stays_as_it_is_is_no_move() {
        check(None, Some(&pro()), expect!["100: nothing -> pro Active"]);
        check(Some(&pro()), None, expect!["100: pro Active -> nothing"]);
        check(Some(&pro()), Some(&Subscription { anchor_ms: 7, ..pro() }), expect![""]);
        check(None, None, expect![""]);
        let paused = Subscription { state: SubscriptionState::Paused, ..pro() };
        check(Some(&pro()), Some(&paused), expect!["100: pro Active -> pro Paused"]);
    }
}
