//! What subscriptions are at their moments, as a table that both builds of the pure code are held to.
#![allow(clippy::expect_used, reason = "a test that meets what it does not expect fails")]

use std::collections::BTreeMap;

use serde::Deserialize;
use tollgate_policy::subscription::{Effective, Subscription};

/// A subscription, and what it is at moments (Unix ms).
#[derive(Deserialize)]
struct History {
    claim: String,
    subscription: Subscription,
    at: BTreeMap<String, String>,
}

/// Fails with the first claim that does not hold.
pub fn check_all() {
    let histories: Vec<History> =
        serde_json::from_str(include_str!("subscriptions.json")).expect("the table is good");
    assert!(histories.len() >= 20, "the table was cut off");
    for History { claim, subscription, at } in histories {
        for (now_ms, expected) in at {
            let now_ms: i64 = now_ms.parse().expect("a moment");
            assert_eq!(shown(&subscription, now_ms), expected, "{claim}, at {now_ms}");
            assert_eq!(
                shown(&subscription.at(now_ms), now_ms),
                expected,
                "{claim}, written down at {now_ms}"
            );
        }
    }
}

fn shown(subscription: &Subscription, now_ms: i64) -> String {
    let effective = subscription.effective(now_ms);
    let Effective { tier, state, tier_since_ms } = effective;
    let state = serde_json::to_value(state).expect("a state");
    let state = state.as_str().unwrap_or_default();
    let force = if effective.in_force() { " in force" } else { "" };
    let next = subscription.next_moment_ms(now_ms).map_or("never".to_owned(), |ms| ms.to_string());
    format!("{tier} {state}{force}, since {tier_since_ms}, then {next}")
}
