//! What a subject has, by all that it bought, with whatever provider: the best that is in force, and what follows when that
//! ends. So whoever buys a higher tier and then cancels the lower one keeps the higher, whichever is heard first.

use tollgate_policy::subscription::{ScheduledChange, Subscription, SubscriptionState};

use crate::service::subscriptions::CHANGES_MAX;

/// Most subscriptions that are put one after the other.
const FOLLOWING_MAX: usize = 8;

/// What a subject has at `now_ms` (Unix ms) and from then on. `rank` orders tiers, the best last. Nothing of nothing.
pub fn compose(bought: &[Subscription], rank: impl Fn(&str) -> i64, now_ms: i64) -> Option<Subscription> {
    let best_at = |at_ms: i64| {
        let in_force = bought.iter().filter(|subscription| subscription.in_force(at_ms));
        let key = |s: &&Subscription| (rank(&s.tier), end_ms(s, at_ms).unwrap_or(i64::MAX), s.anchor_ms);
        in_force.max_by(|one, other| (key(one), &one.tier).cmp(&(key(other), &other.tier)))
    };
    let Some(best) = best_at(now_ms) else {
        let last =
            bought.iter().max_by_key(|s| (interest(s), s.expires_at_ms, s.anchor_ms, rank(&s.tier), &s.tier));
        return last.cloned();
    };
    let mut composed = best.clone();
    let (mut current, mut since_ms) = (best, now_ms);
    for _ in 0..FOLLOWING_MAX {
        let Some(end_ms) = end_ms(current, since_ms) else { break };
        let Some(next) = best_at(end_ms) else { break };
        let then = next.effective(end_ms);
        let to_come = next.changes.iter().filter(|change| change.at_ms > end_ms);
        // What was to become of the one that is followed does not.
        composed.changes.retain(|change| change.at_ms < end_ms);
        if composed.changes.len() + 1 + to_come.clone().count() > CHANGES_MAX {
            break;
        }
        let follows =
            ScheduledChange { at_ms: end_ms, tier: Some(then.tier.to_owned()), state: Some(then.state) };
        composed.changes.push(follows);
        composed.changes.extend(to_come.cloned());
        composed.expires_at_ms = next.expires_at_ms;
        if then.state == SubscriptionState::Trialing {
            composed.trial_ends_at_ms = next.trial_ends_at_ms;
        }
        (current, since_ms) = (next, end_ms);
    }
    Some(composed.at(now_ms).into_owned())
}

/// When one that is in force at `at_ms` is not any more; nothing: it has no end.
fn end_ms(subscription: &Subscription, mut at_ms: i64) -> Option<i64> {
    while let Some(next_ms) = subscription.next_moment_ms(at_ms) {
        if !subscription.in_force(next_ms) {
            return Some(next_ms);
        }
        at_ms = next_ms;
    }
    None
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
    fn a_trial_that_follows_lasts_until_its_own_end() {
        let trial = |tier: &str, end_ms| Subscription {
            state: SubscriptionState::Trialing,
            trial_ends_at_ms: Some(end_ms),
            ..bought(tier, None)
        };
        // Whose own trial was over long ago, as providers go on telling.
        let best = Subscription { trial_ends_at_ms: Some(-100), ..bought("max", Some(10)) };
        check(
            &[best, trial("pro", 20)],
            &[(9, Some("max")), (10, Some("pro")), (19, Some("pro")), (20, None)],
        );
        // One that is followed itself, though it has no other end than that of its trial.
        let both = [trial("max", 10), trial("pro", 20), bought("basic", None)];
        check(&both, &[(9, Some("max")), (10, Some("pro")), (19, Some("pro")), (20, Some("basic"))]);
    }

    #[test]
    fn nothing_comes_of_nothing() {
        assert_eq!(compose(&[], rank, 0), None);
    }
}
