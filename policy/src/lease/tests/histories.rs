//! Random histories: whatever is lost, repeated, reordered, delayed, killed or silent, no limit is exceeded; and once
//! all is quiet, what the control plane counts is what happened, and nothing is lost to those who still ask.

use super::world::{Kind, Random, Rule, TTL_MS, World};
use crate::lease::{OnShort, REQUEST_MS_MAX, Verdict};

const STEPS: u64 = 150;

/// Limits of every kind; those of one history stand beside each other here.
const NAMES: [&str; 6] = ["calls.day", "calls.rate", "calls.burst", "flight", "rooms", "tokens.day"];

fn rules(random: &mut Random, first: usize, limits: usize, lenient: Option<(usize, OnShort)>) -> Vec<Rule> {
    let rule = |at: usize| {
        let name = NAMES[(first + at) % NAMES.len()];
        let kind = match name {
            "calls.rate" => Kind::Rate(random.pick(&[4_000, 20_000, 60_000])),
            "calls.burst" => Kind::Bucket(random.pick(&[500, 4_000, 30_000, 61_001])),
            "flight" => Kind::Concurrency,
            "rooms" => Kind::Capacity,
            _ => Kind::Quota,
        };
        let on_short = match lenient {
            Some((lenient, OnShort::Pass)) if lenient == at && kind == Kind::Quota => OnShort::Pass,
            Some((lenient, OnShort::Shadow)) if lenient == at => OnShort::Shadow,
            _ => OnShort::Refuse,
        };
        Rule { name, units: random.pick(&[1, 2, 3, 3, 10, 70]), kind, on_short }
    };
    (0..limits).map(rule).collect()
}

/// One history. Panics where an invariant breaks; the seed reproduces it.
fn history(seed: u64) -> u64 {
    let mut random = Random::new(seed ^ 0xABCD);
    let (first, limits) = (random.index(NAMES.len()), 1 + random.index(3));
    let edges = 1 + random.index(4);
    let changes = random.percent(30);
    let lenient = random.percent(25).then(|| {
        let on_short = random.pick(&[OnShort::Pass, OnShort::Shadow]);
        (random.index(limits), on_short)
    });
    // Some applications remove what is not there.
    let honest = random.percent(70);
    let rules_of = |random: &mut Random| rules(random, first, limits, lenient);
    let mut world = World::new(seed, rules_of(&mut random), edges);
    // Some networks are good, so that edges get far; some edges give back a lot, so that records come and go.
    world.lost_percent = random.pick(&[0, 5, 20]);
    world.repeated_percent = random.pick(&[0, 20, 50]);
    let returning = random.pick(&[10, 25, 70]);
    let faults = random.pick(&[0, 3, 8]);
    for _ in 0..STEPS {
        world.pass(random.pick(&[0, 0, 1, 50, 100, 1_000, 5_000]));
        if random.percent(3) {
            world.pass(random.pick(&[6_000, 20_000, 40_000, 290_000, 4_100_000]));
        }
        if random.percent(50) {
            world.close_silent();
        }
        world.forget_old_admissions();
        let edge = random.index(edges);
        match random.below(1_000) {
            0..=399 => {
                let from = random.index(limits);
                let last = from + random.index(limits - from);
                let costs: Vec<_> = world.rules()[from..=last].iter().map(|rule| rule.name).collect();
                let costs: Vec<_> =
                    costs.into_iter().map(|name| (name, random.pick(&[1, 1, 1, 2, 4]))).collect();
                world.request(edge, &costs);
            }
            400..=489 => world.settle(edge, random.percent(50)),
            490..=499 => world.trap(edge),
            500..=679 => {
                if random.percent(returning) {
                    world.give_back(edge);
                }
                world.ask(edge, random.below(6));
            }
            680..=849 => world.deliver_some(),
            850..=899 if world.rules().iter().any(|rule| rule.name == "rooms") => {
                let units = random.pick(&[1, 1, 2, 5]);
                let there = u64::try_from(world.exists("rooms")).unwrap_or(0);
                // What a request that may still fail has added cannot be removed yet.
                let there = there.saturating_sub(world.in_flight("rooms"));
                world.remove(edge, "rooms", if honest { units.min(there) } else { units });
            }
            850..=899 => world.deliver_some(),
            900..=959 => world.forget(edge),
            960..=979 => world.renew(edge),
            980..=985 if changes => {
                let changed = rules_of(&mut random);
                world.change_rules(changed);
            }
            986..=991 => world.edges[edge].skew_ms = random.pick(&[0, 0, 3_000, -3_000, 19_000, -400_000]),
            992..1_000 if random.below(8) < faults => world.kill(edge),
            _ => {}
        }
        world.check();
    }
    world.quieten();
    world.check_quiet();
    if honest && lenient.is_none() && world.rules().iter().any(|rule| rule.name == "rooms") {
        world.check_exact("rooms");
    }
    if seed.is_multiple_of(8) {
        uses_up_all(&mut world, random.index(edges));
    }
    world.evictions
}

/// Once nothing fails any more, one edge gets all that nobody has used, whatever the others were left with.
fn uses_up_all(world: &mut World, edge: usize) {
    world.edges.iter_mut().for_each(|edge| edge.skew_ms = 0);
    world.idle_for(REQUEST_MS_MAX + 150_000);
    for rule in world.rules().to_vec() {
        let name = rule.name;
        if rule.on_short != OnShort::Refuse {
            continue;
        }
        let before = world.standing(name);
        let most = if let Kind::Bucket(_) = rule.kind { rule.units } else { u64::MAX };
        let got = world.drain(edge, name, most);
        world.idle_for(1);
        let after = world.standing(name);
        match rule.kind {
            Kind::Rate(_) | Kind::Bucket(_) | Kind::Concurrency => {
                assert!(got >= rule.units, "{name} got {got} units of {}", rule.units);
            }
            Kind::Quota if after.window_start_ms != before.window_start_ms => {}
            Kind::Quota | Kind::Capacity => {
                assert!(after.used >= rule.units, "{name} used {} units of {}", after.used, rule.units);
            }
        }
    }
}

/// One history of a member and its organisation: a request takes from the one and then from the other, and gives back to
/// the first what the second refuses.
fn history_of_two(seed: u64) {
    let mut random = Random::new(seed ^ 0x1234);
    let edges = 1 + random.index(3);
    let mut worlds = [0, 1].map(|which| {
        let (first, limits) = (random.index(NAMES.len()), 1 + random.index(4));
        World::new(seed * 2 + which, rules(&mut random, first, limits, None), edges)
    });
    for world in &mut worlds {
        (world.lost_percent, world.repeated_percent) = (random.pick(&[0, 5]), random.pick(&[0, 20]));
    }
    for _ in 0..STEPS {
        let ms = random.pick(&[0, 0, 1, 50, 100, 1_000, 5_000]);
        worlds.iter_mut().for_each(|world| world.pass(ms));
        let (edge, which) = (random.index(edges), random.index(2));
        match random.below(100) {
            0..45 => {
                let costs = worlds.each_ref().map(|world| {
                    let names = world.rules().iter().map(|rule| rule.name);
                    names.map(|name| (name, random.pick(&[1, 1, 2]))).collect::<Vec<_>>()
                });
                let [member, organisation] = &mut worlds;
                if matches!(member.request(edge, &costs[0]), Verdict::Admit { .. })
                    && !matches!(organisation.request(edge, &costs[1]), Verdict::Admit { .. })
                {
                    member.undo(edge);
                }
            }
            45..55 => worlds[which].settle(edge, random.percent(30)),
            55..70 => worlds[which].ask(edge, random.below(6)),
            70..95 => worlds[which].deliver_some(),
            95..98 => worlds[which].close_silent(),
            98 => worlds[which].kill(edge),
            _ => worlds[which].renew(edge),
        }
        worlds.iter().for_each(World::check);
    }
    for world in &mut worlds {
        world.quieten();
        world.check_quiet();
    }
}

/// One history of edges that are quick to use what they hold of a limit, on a network that is nearly good: in each, units
/// rest, move between edges and are used again many times.
fn history_of_haste(seed: u64) {
    let mut random = Random::new(seed ^ 0x4A57);
    let edges = 2 + random.index(2);
    let (name, kind) = random.pick(&[
        ("calls.rate", Kind::Rate(2_000)),
        ("calls.rate", Kind::Rate(60_000)),
        ("calls.burst", Kind::Bucket(2_000)),
        ("calls.burst", Kind::Bucket(60_000)),
        ("flight", Kind::Concurrency),
        ("rooms", Kind::Capacity),
    ]);
    let rule = Rule::hard(name, random.pick(&[2, 4, 9, 30]), kind);
    let pace_ms = match kind {
        Kind::Rate(ms) | Kind::Bucket(ms) => ms / 20,
        _ => 3_000,
    };
    let mut world = World::new(seed, vec![rule], edges);
    world.lost_percent = random.pick(&[0, 0, 3]);
    for _ in 0..3 * STEPS {
        let edge = random.index(edges);
        match random.below(100) {
            0..50 => {
                let costs = [(name, random.pick(&[1, 1, 2, 3]).min(rule.units))];
                if world.request(edge, &costs) == Verdict::Ask {
                    world.ask(edge, costs[0].1);
                    (0..random.below(6)).for_each(|_| world.deliver_some());
                }
            }
            50..60 => world.settle(edge, random.percent(10)),
            60..70 => world.pass(random.below(pace_ms)),
            70..80 => world.deliver_some(),
            80..85 => world.deliver_all(),
            85..88 => world.give_back(edge),
            88..92 => world.ask(edge, random.below(3)),
            92..94 if kind == Kind::Capacity => {
                let there = world.exists(name) - world.in_flight(name).cast_signed();
                world.remove(edge, name, u64::try_from(there).unwrap_or(0).min(random.below(4)));
            }
            92..94 => world.pass(random.below(10 * pace_ms)),
            94..96 => world.pass(random.below(TTL_MS)),
            96 => world.trap(edge),
            97 if random.percent(20) => world.kill(edge),
            97 | 98 => world.renew(edge),
            _ => world.close_silent(),
        }
        world.check();
    }
    world.quieten();
    world.check_quiet();
    if kind == Kind::Capacity {
        world.check_exact(name);
    }
}

/// One history of answers that cost more than was estimated, of estimates that are given back, and of edges that share
/// what is left.
fn history_of_answers(seed: u64) {
    let mut random = Random::new(seed ^ 0xA25E);
    let edges = 1 + random.index(3);
    let rule = Rule::hard("tokens.day", random.pick(&[10, 70, 1_000]), Kind::Quota);
    let mut world = World::new(seed, vec![rule], edges);
    (world.lost_percent, world.repeated_percent) = (random.pick(&[0, 5]), random.pick(&[0, 20]));
    for _ in 0..STEPS {
        world.pass(random.pick(&[0, 1, 100, 1_000]));
        let edge = random.index(edges);
        let units = 1 + random.below(rule.units / 4);
        match random.below(100) {
            0..35 => {
                if world.request(edge, &[(rule.name, units)]) == Verdict::Ask {
                    world.ask_for(edge, units);
                    (0..random.below(6)).for_each(|_| world.deliver_some());
                }
            }
            35..45 => world.overrun(edge, random.pick(&[1, units, rule.units])),
            45..65 => world.settle(edge, random.percent(50)),
            65..72 => world.ask_for(edge, 0),
            72..92 => world.deliver_some(),
            92..95 => world.give_back(edge),
            95..97 => world.forget(edge),
            97 => world.renew(edge),
            98 if random.percent(20) => world.kill(edge),
            _ => world.close_silent(),
        }
        world.check();
    }
    world.quieten();
    world.check_quiet();
    uses_up_all(&mut world, random.index(edges));
}

/// One history of things that are added and removed by id, at any edge, more than once.
fn history_of_things(seed: u64) -> u64 {
    let mut random = Random::new(seed ^ 0x7716);
    let edges = 1 + random.index(3);
    let rule = Rule::hard("rooms", random.pick(&[1, 3, 10]), Kind::Capacity);
    let mut world = World::new(seed, vec![rule], edges);
    (world.lost_percent, world.repeated_percent) = (random.pick(&[0, 5, 20]), random.pick(&[0, 20, 50]));
    for _ in 0..STEPS {
        world.pass(random.pick(&[0, 1, 100, 1_000]));
        let (edge, id) = (random.index(edges), u8::try_from(random.below(8)).unwrap());
        match random.below(100) {
            0..35 => {
                let units = random.pick(&[1, 1, 2]);
                if let Verdict::Admit { .. } = world.request(edge, &[("rooms", units)]) {
                    world.note_thing(edge, id, units, true);
                    world.settle(edge, false);
                }
            }
            35..60 => world.note_thing(edge, id, 0, false),
            60..75 => world.ask(edge, random.below(4)),
            75..96 => world.deliver_some(),
            96..98 => world.forget(edge),
            98 => world.renew(edge),
            _ => world.close_silent(),
        }
        world.check();
    }
    world.quieten();
    assert_eq!(world.standing("rooms").used, world.known_things(), "each thing counts once");
    world.known_things()
}

fn histories(seeds: std::ops::Range<u64>) {
    let mut evictions = 0;
    for seed in seeds {
        let outcome = std::panic::catch_unwind(|| history(seed));
        match outcome {
            Ok(count) => evictions += count,
            Err(_) => panic!("history {seed} broke an invariant"),
        }
    }
    assert!(evictions > 0, "no record was dropped and restored: the histories miss what they are for");
}

#[test]
fn a_member_and_its_organisation_are_both_within_their_limits() {
    (0..2_000).for_each(history_of_two);
}

#[test]
fn answers_that_cost_more_than_was_estimated_let_nobody_hold_more_than_there_is() {
    (0..2_000).for_each(history_of_answers);
}

#[test]
fn quick_edges_keep_to_each_kind_of_limit() {
    (0..4_000).for_each(history_of_haste);
}

#[test]
fn a_thing_counts_once_however_often_it_is_added_and_removed() {
    let things: u64 = (0..2_000).map(history_of_things).sum();
    assert!(things > 0);
}

#[test]
fn no_history_exceeds_a_limit_or_miscounts() {
    histories(0..6_000);
}

#[test]
fn no_other_history_exceeds_a_limit_or_miscounts() {
    histories(6_000..12_000);
}
