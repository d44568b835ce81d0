//! The lease protocol with the real arithmetic and a real SQLite store: whatever is lost, repeated, reordered, killed or
//! silent, no limit is exceeded in any state; and once all is quiet, the ledger equals what was admitted, less what a
//! killed edge had not reported. 10,000 random histories of subjects; several subjects share the edges, the messages and
//! the faults of one world, so that syncs of many subjects are tried too.

use tollgate_control_plane::service::sweeper::Sweeper;

use super::edges::{Random, TIERS, Tier, World};
use super::support::{TestClock, author, plane};

const STEPS: u64 = 160;
const HISTORIES: usize = 10_000;
const PARTS: u64 = 2;

async fn world(world: &mut World<'_>) {
    let lost = world.random.pick(&[0, 5, 20]);
    let repeated = world.random.pick(&[0, 20, 50]);
    let faults = world.random.pick(&[0, 1, 3]);
    let quick = world.random.pick(&[2, 8, 8, 16]);
    let cuts = world.random.pick(&[0, 2, 6]);
    for _ in 0..STEPS {
        let ms = world.random.pick(&[0, 0, 1, 100, 1_000, 2_000, 5_000]);
        world.pass(ms).await;
        if world.random.percent(2) {
            let ms = world.random.pick(&[20_000, 40_000, 1_500_000]);
            world.pass(ms).await;
        }
        if world.random.percent(cuts) {
            let (edge, ms) = (world.edge(), world.random.pick(&[20_000, 40_000, 60_000, 120_000]));
            world.cut(edge, ms);
        }
        let edge = world.edge();
        if world.random.percent(30) {
            world.renew(edge);
        }
        match world.random.below(100) {
            0..40 => world.request(edge),
            40..42 => world.remove_rooms(edge),
            42 => world.trap(edge),
            43..48 => {
                let refunded_percent = world.random.pick(&[0, 50]);
                world.settle(edge, refunded_percent);
            }
            48..58 => {
                if world.random.percent(30) {
                    world.give_back(edge);
                }
                let more = world.random.pick(&[0, 2, 4, 40]);
                world.ask(edge, 80, more);
            }
            58..98 => {
                // Most networks are quick: what waits longer than a lease lives is of no use to anybody.
                for _ in 0..world.random.below(quick) {
                    world.deliver_some(lost, repeated).await;
                }
            }
            98 if faults > 0 => world.replace_session(edge),
            _ if world.random.below(3) < faults => world.kill(edge),
            _ => {}
        }
        world.check();
    }
    world.quieten().await;
    world.check_ledger().await;
}

async fn histories(part: u64) {
    let clock = TestClock::shared();
    let plane = plane("sqlite::memory:", clock.clone()).await;
    let tier = |Tier { name, quota, rate, burst, flight, rooms }| {
        let rate = format!("{{meter: calls, rate: {rate}, per: 60s}}");
        // Refilled in 10 seconds.
        let bucket = format!("{{meter: calls, rate: {burst}, per: 10s, burst: {burst}}}");
        let quota = format!("{{meter: calls, quota: {quota}, per: hour}}");
        let rooms = format!("{{meter: rooms, capacity: {rooms}}}");
        format!("  {name}: {{limits: [{rate}, {bucket}, {quota}, {rooms}, {{concurrency: {flight}}}]}}")
    };
    let tiers = TIERS.map(tier).join("\n");
    let policy = format!(
        "version: 1\nmeters: {{calls: {{}}, rooms: {{}}}}\ndefault_route: {{auth: none}}\ntiers:\n{tiers}\n"
    );
    plane.apply_policy(&author(&plane), &policy, None, None).await.unwrap();
    let mut sweeper = Sweeper::default();
    let mut count = 0;
    for number in 0.. {
        let seed = number * PARTS + part;
        let subjects = 1 + Random::new(seed ^ 0xABCD).index(12);
        let mut one = World::new(seed, &plane, &clock, &mut sweeper, subjects);
        world(&mut one).await;
        count += one.subjects();
        one.end().await;
        if count >= HISTORIES / PARTS as usize {
            break;
        }
    }
}

#[tokio::test]
async fn no_history_exceeds_a_limit_or_miscounts() {
    histories(0).await;
}

#[tokio::test]
async fn no_other_history_exceeds_a_limit_or_miscounts() {
    histories(1).await;
}
