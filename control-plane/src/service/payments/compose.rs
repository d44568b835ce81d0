//! What a subject has, by all that it bought, with whatever provider: the best that is in force, and what follows when that
//! ends. So whoever buys a higher tier and then cancels the lower one keeps the higher, whichever is heard first.

use tollgate_policy::subscription::{ScheduledChange, Subscription, SubscriptionState};

/// Most subscriptions that are put one after the other.
const FOLLOWING_MAX: usize = 8;

/// What a subject has at `now_ms` (Unix ms) and from then on. `rank` orders tiers, the best last. Nothing of nothing.
pub fn compose(bought: &[Subscription], rank: impl Fn(&str) -> i64, now_ms: i64) -> Option<Subscription> {
    let best_at = |at_ms: i64| {
        let in_force = bought.iter().filter(|subscription| subscription.in_force(at_ms));
        in_force.max_by_key(|s| (rank(&s.tier), s.expires_at_ms.unwrap_or(i64::MAX), s.anchor_ms, &s.tier))
    };
    let Some(best) = best_at(now_ms) else {
        let last =
            bought.iter().max_by_key(|s| (interest(s), s.expires_at_ms, s.anchor_ms, rank(&s.tier), &s.tier));
        return last.cloned();
    };
    let mut composed = best.clone();
    for _ in 0..FOLLOWING_MAX {
        let Some(end_ms) = composed.expires_at_ms else { break };
        let Some(next) = best_at(end_ms) else { break };
        let then = next.effective(end_ms);
        let follows =
            ScheduledChange { at_ms: end_ms, tier: Some(then.tier.to_owned()), state: Some(then.state) };
        composed.changes.push(follows);
        composed.changes.extend(next.changes.iter().filter(|change| change.at_ms > end_ms).cloned());
        composed.expires_at_ms = next.expires_at_ms;
    }
    Some(composed.at(now_ms).into_owned())
}

/// Of subscriptions that are not in force, the one that a subject asks about.
fn interest(subscription: &Subscription) -> u8 {
    match subscription.state {
        SubscriptionState::Paused => 2,
        SubscriptionState::Pending => 1,
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use tollgate_policy::subscription::{Subscription, SubscriptionState};

    use super::compose;

    fn bought(tier: &str, expires_at_ms: Option<i64>) -> Subscription {
        let state =
            if expires_at_ms.is_some() { SubscriptionState::Cancelled } else { SubscriptionState::Active };
        Subscription { tier: tier.to_owned(), state, expires_at_ms, ..Subscription::default() }
    }

    fn rank(tier: &str) -> i64 {
        ["basic", "pro", "max"].iter().position(|known| *known == tier).map_or(-1, |at| at as i64)
    }

    /// The tiers that hold from 0 on, each with its beginning.
    fn check(bought: &[Subscription], expected: &[(i64, Option<&str>)]) {
        let mut other = bought.to_vec();
        other.reverse();
        let composed = compose(bought, rank, 0).unwrap();
        assert_eq!(Some(&composed), compose(&other, rank, 0).as_ref(), "the order does not matter");
        for (at_ms, tier) in expected {
            let then = composed.effective(*at_ms);
            assert_eq!(then.in_force().then_some(then.tier), *tier, "at {at_ms}: {composed:?}");
        }
    }

    #[test]
    fn the_best_holds_until_its_end_and_the_next_follows() {
        check(&[bought("basic", None), bought("pro", Some(10))], &[(0, Some("pro")), (10, Some("basic"))]);
        check(&[bought("pro", None), bought("basic", Some(10))], &[(0, Some("pro")), (10, Some("pro"))]);
        let three = [bought("max", Some(5)), bought("pro", Some(10)), bought("basic", Some(20))];
        check(
            &three,
            &[(4, Some("max")), (5, Some("pro")), (10, Some("basic")), (19, Some("basic")), (20, None)],
        );
        check(&[bought("pro", Some(-5)), bought("basic", None)], &[(0, Some("basic"))]);
        check(&[bought("pro", Some(-5)), bought("basic", Some(-3))], &[(0, None)]);
    }

    #[test]
    fn nothing_comes_of_nothing() {
        assert_eq!(compose(&[], rank, 0), None);
    }
}
