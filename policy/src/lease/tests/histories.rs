//! Random histories: whatever is lost, repeated, reordered, delayed, killed or silent, no limit is exceeded; and once
//! all is quiet, what the control plane counts is what happened, and nothing is lost to those who still ask.

use super::world::{Random, Rule, World};

const STEPS: u64 = 150;

fn rules(random: &mut Random, limits: usize) -> Vec<Rule> {
    let names = ["calls.day", "calls.rate", "tokens.day"];
    let rule = |(at, name): (usize, &&'static str)| Rule {
        name,
        units: random.pick(&[1, 2, 3, 3, 10, 70]),
        rate_ms: (at == 1).then(|| random.pick(&[4_000, 20_000, 60_000])),
    };
    names[..limits].iter().enumerate().map(rule).collect()
}

/// One history. Panics where an invariant breaks; the seed reproduces it.
fn history(seed: u64) -> u64 {
    let mut random = Random::new(seed ^ 0xABCD);
    let limits = 1 + random.index(3);
    let edges = 1 + random.index(4);
    let changes = random.percent(30);
    let mut world = World::new(seed, rules(&mut random, limits), edges);
    // Some networks are good, so that edges get far; some edges give back a lot, so that records come and go.
    world.lost_percent = random.pick(&[0, 5, 20]);
    world.repeated_percent = random.pick(&[0, 20, 50]);
    let returning = random.pick(&[10, 25, 70]);
    let faults = random.pick(&[0, 3, 8]);
    for _ in 0..STEPS {
        world.pass(random.pick(&[0, 0, 1, 50, 100, 1_000, 5_000]));
        if random.percent(3) {
            world.pass(random.pick(&[6_000, 20_000, 40_000, 4_100_000]));
        }
        if random.percent(50) {
            world.close_silent();
        }
        world.forget_old_admissions();
        let edge = random.index(edges);
        match random.below(1_000) {
            0..=399 => {
                let first = random.index(limits);
                let last = first + random.index(limits - first);
                let costs: Vec<_> = world.rules()[first..=last].iter().map(|rule| rule.name).collect();
                let costs: Vec<_> =
                    costs.into_iter().map(|name| (name, random.pick(&[1, 1, 1, 2, 4]))).collect();
                world.request(edge, &costs);
            }
            400..=499 => world.settle(edge, random.percent(50)),
            500..=679 => {
                if random.percent(returning) {
                    world.give_back(edge);
                }
                world.ask(edge, random.below(6));
            }
            680..=899 => world.deliver_some(),
            900..=959 => world.forget(edge),
            960..=979 => world.renew(edge),
            980..=985 if changes => {
                let changed = rules(&mut random, limits);
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
    if seed.is_multiple_of(8) {
        uses_up_all(&mut world, random.index(edges));
    }
    world.evictions
}

/// Once nothing fails any more, one edge gets all that nobody has used, whatever the others were left with.
fn uses_up_all(world: &mut World, edge: usize) {
    world.edges.iter_mut().for_each(|edge| edge.skew_ms = 0);
    world.idle_for(150_000);
    for rule in world.rules().to_vec() {
        let standing = |world: &World| {
            let standings = world.book.standings(&world.terms(), world.wall_ms());
            standings.into_iter().find(|standing| standing.limit == rule.name).unwrap()
        };
        let window = standing(world).window_start_ms;
        let got = world.drain(edge, rule.name);
        world.idle_for(1);
        let after = standing(world);
        if rule.rate_ms.is_some() {
            assert!(got >= rule.units, "{} got {got} units of {}", rule.name, rule.units);
        } else if after.window_start_ms == window {
            assert!(after.used >= rule.units, "{} used {} units of {}", rule.name, after.used, rule.units);
        }
    }
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
fn no_history_exceeds_a_limit_or_miscounts() {
    histories(0..6_000);
}

#[test]
fn no_other_history_exceeds_a_limit_or_miscounts() {
    histories(6_000..12_000);
}
