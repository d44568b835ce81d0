//! How a limit is shared where nothing fails: who keeps asking gets all that nobody else uses.

use expect_test::{Expect, expect};

use super::world::{Kind, Rule, TTL_MS, World};
use crate::lease::Verdict;

const QUOTA: &str = "calls.day";
const RATE: &str = "calls.rate";

fn quota(units: u64) -> Rule {
    Rule::hard(QUOTA, units, Kind::Quota)
}

fn rate(units: u64) -> Rule {
    Rule::hard(RATE, units, Kind::Rate(20_000))
}

/// Plays a line of steps in a world of three edges with one limit, and compares what each step says.
///
/// `e0 3` three requests of one unit; `e0 cost 5` one request of five, asking as long as it helps; `e0 drain` requests
/// until it is refused for good; `e0 removes 2` units of a capacity; `wait 5` seconds; `limit 10` a new maximum; `heard` everybody reports; `e0 dies`.
fn check(rule: Rule, steps: &str, expected: Expect) {
    let mut world = World::new(1, vec![rule], 3);
    let mut said = Vec::new();
    for step in steps.split("; ") {
        let words: Vec<&str> = step.split(' ').collect();
        let number = |at: usize| words[at].parse::<u64>().unwrap();
        let edge = || words[0][1..].parse::<usize>().unwrap();
        match words[..] {
            ["wait", _] => world.idle_for(number(1) * 1_000),
            ["limit", _] => world.change_rules(vec![Rule { units: number(1), ..rule }]),
            ["heard"] => world.idle_for(2_000),
            [_, "dies"] => world.kill(edge()),
            [_, "removes", _] => {
                world.insist(edge(), rule.name, 0);
                world.remove(edge(), rule.name, number(2));
            }
            [_, "drain"] => said.push(world.drain(edge(), rule.name, u64::MAX).to_string()),
            [_, "cost", _] => said.push(world.insist(edge(), rule.name, number(2))),
            [_, _] => {
                let admitted = (0..number(1)).filter(|_| world.insist(edge(), rule.name, 1) == "ok").count();
                said.push(admitted.to_string());
            }
            _ => panic!("no such step: {step}"),
        }
        world.check();
    }
    expected.assert_eq(&said.join(" "));
}

#[test]
fn an_edge_that_keeps_asking_alone_uses_the_whole_limit() {
    for units in [1, 2, 7, 64, 65, 1_000] {
        let mut world = World::new(1, vec![quota(units)], 1);
        assert_eq!(world.drain(0, QUOTA, u64::MAX), units);
        let mut world = World::new(1, vec![rate(units)], 1);
        assert_eq!(world.drain(0, RATE, u64::MAX), units);
    }
}

#[test]
fn a_rate_comes_back_in_every_window() {
    check(rate(10), "e0 drain; wait 20; e0 drain; wait 20; e0 drain", expect!["10 10 10"]);
}

#[test]
fn units_of_a_rate_go_where_they_are_asked_for_in_later_windows_too() {
    check(
        rate(10),
        "e0 drain; wait 20; e0 drain; wait 20; e1 drain; wait 20; e2 drain",
        expect!["10 10 10 10"],
    );
}

#[test]
fn idle_units_elsewhere_are_recalled_and_used() {
    check(quota(100), "e0 1; e1 drain", expect!["1 99"]);
    check(quota(100), "e0 1; e1 1; e2 drain; e0 1; e1 1", expect!["1 1 98 0 0"]);
    check(rate(100), "e0 1; e1 drain; e2 drain; wait 20; e2 drain", expect!["1 99 0 100"]);
}

#[test]
fn a_request_of_many_units_gets_them_if_they_are_free_anywhere() {
    check(quota(100), "e0 1; e1 cost 60; e2 cost 39; e0 1", expect!["1 ok ok 0"]);
    check(quota(100), "e0 1; e0 cost 99", expect!["1 ok"]);
    check(rate(100), "e0 1; e1 1; e2 cost 98", expect!["1 1 ok"]);
}

#[test]
fn a_lower_limit_admits_nothing_beyond_it() {
    check(quota(100), "e0 5; e1 1; limit 10; heard; e0 drain; e1 drain; e2 drain", expect!["5 1 4 0 0"]);
    check(quota(100), "e0 50; e1 1; limit 10; heard; e0 drain; e1 drain", expect!["50 1 0 0"]);
    check(rate(100), "e0 5; e1 1; limit 10; heard; e0 drain; e1 drain", expect!["5 1 4 0"]);
}

#[test]
fn a_higher_limit_is_felt_at_once() {
    check(quota(3), "e0 drain; e1 drain; limit 8; heard; e1 2; e0 drain", expect!["3 0 2 3"]);
}

const BUCKET: &str = "calls.burst";
const ROOMS: &str = "rooms";

#[test]
fn each_kind_of_limit_is_used_up_and_comes_back_as_it_does() {
    let bucket = |units| Rule::hard(BUCKET, units, Kind::Bucket(20_000));
    check(bucket(10), "e0 10; e0 1; wait 2; e0 9; wait 20; e1 10; e0 1", expect!["10 0 1 10 0"]);
    check(bucket(100), "e0 1; e1 99; wait 10; e2 40; e0 1", expect!["1 99 40 1"]);
    let rooms = |units| Rule::hard(ROOMS, units, Kind::Capacity);
    check(
        rooms(10),
        "e0 4; e1 drain; wait 500; e2 1; e1 removes 3; heard; e2 drain; e0 removes 2; e0 drain",
        expect!["4 6 0 3 2"],
    );
    check(
        rooms(10),
        "e0 10; e1 removes 5; heard; e2 drain; limit 7; heard; e1 removes 3; heard; e0 1; e1 removes 1; heard; e0 1",
        expect!["10 5 0 1"],
    );
}

#[test]
fn a_room_that_is_removed_elsewhere_at_once_is_counted_once() {
    let mut world = World::new(1, vec![Rule::hard(ROOMS, 3, Kind::Capacity)], 2);
    world.idle_for(1);
    world.insist(1, ROOMS, 1);
    for _ in 0..5 {
        world.insist(0, ROOMS, 1);
        // The edge that removes it is heard before the one that added it.
        world.remove(1, ROOMS, 1);
        world.ask(1, 0);
        world.deliver_all();
        world.check();
        world.ask(0, 0);
        world.deliver_all();
        world.check_exact(ROOMS);
    }
    assert_eq!((world.standing(ROOMS).used, world.standing(ROOMS).clamped), (1, 0));
}

#[test]
fn units_of_a_silent_edge_rest_after_its_last_possible_use() {
    for kind in [Kind::Rate(20_000), Kind::Bucket(20_000), Kind::Concurrency] {
        for silent_ms in [1, TTL_MS / 2, TTL_MS - 1] {
            let mut world = World::new(1, vec![Rule::hard(RATE, 3, kind)], 2);
            world.ask(0, 3);
            world.insist(0, RATE, 1);
            world.ask(0, 3);
            world.deliver_all();
            world.pass(silent_ms);
            while matches!(world.request(0, &[(RATE, 1)]), Verdict::Admit { .. }) {}
            for _ in 0..4_000 {
                world.pass(100);
                world.close_silent();
                world.request(1, &[(RATE, 1)]);
                world.ask(1, 3);
                world.deliver_all();
                world.check();
            }
        }
    }
}

#[test]
fn units_of_a_silent_edge_are_not_waited_for_forever() {
    let mut world = World::new(1, vec![quota(100)], 2);
    world.insist(0, QUOTA, 1);
    world.kill(0);
    while world.insist(1, QUOTA, 1) == "ok" {}
    let mut said = String::new();
    for _ in 0..20 {
        let verdict = world.request(1, &[(QUOTA, 1)]);
        said.push(if verdict == Verdict::Ask { '?' } else { '-' });
        if verdict == Verdict::Ask {
            world.ask(1, 1);
            world.deliver_all();
        }
        world.pass(300);
    }
    // Once it did not answer in time, nobody waits for it again; one question a second goes on.
    expect!["?---?---?---?---?---"].assert_eq(&said);
}
