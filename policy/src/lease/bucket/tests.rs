//! A bucket's level: refilled by the share, exactly, however often it is looked at.

use super::*;

const REFILL_MS: u64 = 10_000;

/// A share of `held` units that is empty at 0.
fn empty(held: u64) -> Level {
    let mut level = Level { refill_ms: REFILL_MS, ..Level::default() };
    level.take(held);
    level
}

#[test]
fn a_share_of_any_size_refills_in_the_same_time() {
    for held in [1, 7, 1_000_000, (1 << 53) - 1] {
        let mut level = empty(held);
        level.settle(held, REFILL_MS, REFILL_MS - 1);
        assert!(level.owed_units() >= 1, "{held} units were full too soon");
        level.settle(held, REFILL_MS, REFILL_MS);
        assert_eq!(level.owed_units(), 0, "{held}");
        level.settle(held, REFILL_MS, 100 * REFILL_MS);
        level.take(held);
        assert_eq!(level.owed_units(), held, "what is full does not fill further");
    }
}

#[test]
fn it_refills_exactly_however_often_it_is_looked_at() {
    for (held, refill_ms, step_ms) in [(1, 86_400_000, 1_001), (3, 3_333_333, 7), (1_000, 61_001, 1)] {
        let mut level = Level { refill_ms, ..Level::default() };
        level.take(held);
        let mut now_ms = 0;
        while level.owed_units() > 0 {
            now_ms += step_ms;
            level.settle(held, refill_ms, now_ms);
        }
        assert_eq!(now_ms, refill_ms.next_multiple_of(step_ms), "{held} in {refill_ms} ms");
    }
}

#[test]
fn what_is_held_beyond_the_maximum_does_not_refill() {
    let mut level = empty(10);
    level.cap = 5;
    level.settle(20, REFILL_MS, REFILL_MS);
    assert_eq!(level.owed_units(), 5);
}

#[test]
fn an_undone_take_is_as_if_it_had_not_been() {
    for passed_ms in [0, 1, 3_000, 20_000] {
        let (mut with, mut without) = (empty(3), empty(3));
        with.take(4);
        with.settle(10, REFILL_MS, passed_ms);
        with.undo(4);
        without.settle(10, REFILL_MS, passed_ms);
        assert_eq!(with.owed, without.owed, "after {passed_ms} ms");
    }
}

#[test]
fn another_time_of_refill_changes_nothing_of_what_is_owed() {
    for refill_ms in [1, 7_777, 20_000, 86_400_000, u64::MAX] {
        let mut level = empty(9);
        level.settle(9, refill_ms, 3_500);
        // Until then it refilled as before: 5.85 are owed.
        assert_eq!(level.owed_units(), 6, "{refill_ms}");
        level.settle(9, refill_ms, 3_500);
        assert_eq!(level.owed_units(), 6, "{refill_ms}");
    }
    let mut level = empty(u64::MAX);
    level.settle(0, u64::MAX, 1);
    assert_eq!(level.owed_units(), u64::MAX);
}

#[test]
fn how_long_to_wait_is_told_to_the_millisecond() {
    let level = empty(10);
    assert_eq!(level.wait_ms(10, 10), Some(0));
    assert_eq!(level.wait_ms(9, 10), Some(1_000));
    assert_eq!(level.wait_ms(0, 3), Some(33_334));
    assert_eq!(level.wait_ms(0, 0), None);
    assert_eq!(empty(u64::MAX).wait_ms(0, 1), None);
}

#[test]
fn a_debt_of_who_holds_nothing_is_forgotten_in_the_time_of_a_refill() {
    let mut level = empty(5);
    level.settle(0, REFILL_MS, REFILL_MS / 2);
    level.settle(0, REFILL_MS, REFILL_MS - 1);
    assert_eq!(level.owed_units(), 5);
    level.settle(0, REFILL_MS, REFILL_MS);
    assert_eq!(level.owed_units(), 0);
}

#[test]
fn an_older_clock_reading_and_extreme_numbers_do_no_harm() {
    let mut level = empty(5);
    level.at_ms = 1_000;
    level.settle(5, REFILL_MS, 999);
    assert_eq!((level.owed_units(), level.at_ms), (5, 1_000));
    let mut level = Level { refill_ms: u64::MAX, ..Level::default() };
    level.take(u64::MAX);
    level.take(u64::MAX);
    assert_eq!(level.owed_units(), u64::MAX);
    level.settle(u64::MAX, u64::MAX, u64::MAX);
    level.undo(u64::MAX);
    assert_eq!(level.owed_units(), 0);
    level.settle(5, 0, u64::MAX);
    level.take(1);
    assert_eq!(level.owed_units(), 0, "what refills in no time lacks nothing");
}
