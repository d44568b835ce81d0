//! What is in use of a capacity: what a release frees, and what it cannot.

use super::*;

#[test]
fn a_release_frees_what_another_session_added() {
    let mut removals = Removals::default();
    removals.add(2);
    assert_eq!(removals.in_use(5, 5, 1), 2);
    removals.clamp(5, 1, 0);
    assert_eq!(removals.clamped(), 0);
}

#[test]
fn a_release_that_comes_before_its_addition_waits_for_it() {
    let mut removals = Removals::default();
    removals.clamp(0, 3, 0);
    assert_eq!(removals.in_use(0, 0, 3), 0, "never below nothing");
    removals.clamp(3, 3, CLAMP_AFTER_MS);
    assert_eq!((removals.in_use(3, 3, 3), removals.clamped()), (0, 0));
    // The time begins anew.
    removals.clamp(2, 3, CLAMP_AFTER_MS + 1);
    removals.clamp(2, 3, 2 * CLAMP_AFTER_MS);
    assert_eq!(removals.clamped(), 0);
}

#[test]
fn what_released_nothing_is_recorded_and_frees_nothing_later() {
    let mut removals = Removals::default();
    removals.clamp(1, 3, 5);
    removals.clamp(1, 3, 4 + CLAMP_AFTER_MS);
    assert_eq!(removals.clamped(), 0);
    removals.clamp(1, 3, 5 + CLAMP_AFTER_MS);
    assert_eq!((removals.in_use(1, 1, 3), removals.clamped()), (0, 2));
    assert_eq!(removals.in_use(4, 4, 3), 3);
}

#[test]
fn what_is_added_later_is_not_what_was_released() {
    let mut removals = Removals::default();
    removals.clamp(1, 3, 0);
    assert!(removals.is_short());
    assert_eq!((removals.in_use(1, 1, 3), removals.in_use(5, 1, 3)), (0, 4));
    removals.clamp(3, 3, 1);
    assert!(!removals.is_short());
}

#[test]
fn an_operator_s_count_is_what_is_in_use() {
    for (used, by_sessions, in_use) in [(0, 0, 7), (9, 0, 7), (9, 9, 7), (9, 2, 7), (9, 2, 0), (0, 5, 7)] {
        let mut removals = Removals::default();
        removals.clamp(0, 1, 0);
        let settled = removals.reconcile(used, by_sessions, in_use);
        assert_eq!(
            removals.in_use(used + settled, used + settled, by_sessions),
            in_use,
            "{used} {by_sessions}"
        );
        removals.clamp(used + settled, by_sessions, i64::MAX);
        assert_eq!(removals.clamped(), 0);
    }
}
