//! Random histories: proxies, workers, requests, and every fault that there is. No window ever holds more than its limit,
//! and once it is quiet the ledger equals what was admitted.

use std::collections::BTreeMap;

use serde_json::json;

use super::world::Net;
use super::*;

const DAY_UNITS: u64 = 40;
const RATE_UNITS: u64 = 6;
const RATE_MS: i64 = 10_000;

struct Random(u64);

impl Random {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut x = self.0;
        x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (x ^ (x >> 31)) % end
    }

    fn pick<T: Copy>(&mut self, of: &[T]) -> T {
        of[usize::try_from(self.below(of.len() as u64)).unwrap()]
    }
}

/// What is known of a subject from outside.
#[derive(Default)]
struct Seen {
    /// When requests passed, and whether they were refunded.
    passed: Vec<(i64, bool)>,
}

impl Seen {
    fn check(&self, seed: u64) {
        // A history is over before its day is.
        let units = self.passed.iter().filter(|(_, refunded)| !refunded).count();
        assert!(units as u64 <= DAY_UNITS, "seed {seed}: {units} in a day");
        for (start_ms, _) in &self.passed {
            // Those that passed together may have been noticed in another order.
            let inside =
                self.passed.iter().filter(|(at, _)| (*start_ms..start_ms + RATE_MS).contains(at)).count();
            assert!(inside as u64 <= RATE_UNITS, "seed {seed}: {inside} from {start_ms}");
        }
    }
}

/// One history. Answers how many requests passed.
fn history(seed: u64) -> usize {
    let mut random = Random(seed);
    let rules = policy(json!([
        {"name": "burst", "meter": "calls", "rate": RATE_UNITS, "per": "10s"},
        {"name": "daily", "meter": "calls", "quota": DAY_UNITS, "per": "day"},
    ]));
    let seats: &[usize] = random.pick(&[&[2][..], &[2, 2], &[1, 1, 1], &[3, 1]]);
    let mut w = World::new(&rules, seats);
    w.run(500);
    let workers = w.seats.len();
    let users = ["alice", "bob"];
    let mut seen: BTreeMap<&str, Seen> = BTreeMap::new();
    let mut under_way: Vec<(Sending, &str, usize)> = Vec::new();
    let mut pending: Vec<(Sending, &str)> = Vec::new();
    let mut faults = false;
    for _ in 0..150 {
        let worker = usize::try_from(random.below(workers as u64)).unwrap();
        match random.below(100) {
            0..=54 => {
                let user = random.pick(&users);
                pending.push((w.ask(worker, user, "/x"), user));
            }
            55..=69 if !under_way.is_empty() => {
                let at = usize::try_from(random.below(under_way.len() as u64)).unwrap();
                let (sending, user, at) = under_way.swap_remove(at);
                match random.below(4) {
                    0 => w.end(sending),
                    1 => {
                        drop(w.upstream(sending, 503));
                        seen.entry(user).or_default().passed[at].1 = true;
                    }
                    _ => drop(w.upstream(sending, 200)),
                }
            }
            70..=79 => {
                w.net = random.pick(&[
                    Net::Fine(2),
                    Net::Fine(4),
                    Net::Fine(40),
                    Net::Fine(900),
                    Net::Fine(1_600),
                    Net::Dead,
                    Net::Refused,
                    Net::Deaf,
                    Net::Status(503),
                    Net::Garbage,
                ]);
            }
            80..=84 => w.net = Net::Fine(4),
            85 => {
                pending.retain(|(sending, _)| sending.worker != worker);
                under_way.retain(|(sending, ..)| sending.worker != worker);
                w.trap(worker);
            }
            86 => {
                faults = true;
                w.plane.close_all();
            }
            87 => {
                faults = true;
                w.run(40_000);
            }
            88 => {
                let proxy = w.seats[worker].host.proxy.clone();
                let slow: fn(&str) -> bool = |_| false;
                let stuck: fn(&str) -> bool = proxy::is_bucket;
                faults = true;
                proxy.contended.set(random.pick(&[slow, slow, stuck]));
            }
            _ => {}
        }
        let ms = random.pick(&[0, 0, 1, 3, 10, 100, 400, 1_500]);
        for _ in 0..ms.min(100) {
            w.run((ms / 100).max(1));
            note(&w, &mut pending, &mut under_way, &mut seen);
        }
        note(&w, &mut pending, &mut under_way, &mut seen);
    }
    w.net = Net::Fine(4);
    w.proxies.iter().for_each(|proxy| proxy.contended.set(|_| false));
    for _ in 0..300 {
        w.run(10);
        note(&w, &mut pending, &mut under_way, &mut seen);
    }
    assert!(pending.is_empty(), "seed {seed}: a request waits for ever");
    w.run(90_000);
    for (user, seen) in &seen {
        seen.check(seed);
        let billed = w.plane.billed(&format!("user:{user}"), "calls");
        let kept = seen.passed.iter().filter(|(_, refunded)| !refunded).count() as u64;
        // A refund may find that its record was told for the last time, or that it cannot be written.
        let most = if faults { seen.passed.len() as u64 } else { kept };
        assert!(
            (kept..=most).contains(&billed),
            "seed {seed}: {user}: {billed} billed, {kept} to {most} used"
        );
    }
    seen.values().map(|seen| seen.passed.len()).sum()
}

fn note<'a>(
    w: &World,
    pending: &mut Vec<(Sending, &'a str)>,
    under_way: &mut Vec<(Sending, &'a str, usize)>,
    seen: &mut BTreeMap<&'a str, Seen>,
) {
    pending.retain(|(sending, user)| {
        if w.has_passed(*sending) {
            let passed = &mut seen.entry(user).or_default().passed;
            passed.push((w.look(*sending, |stream| stream.resumed_at_ms).cast_signed(), false));
            under_way.push((*sending, user, passed.len() - 1));
        }
        w.is_waiting(*sending)
    });
}

#[test]
fn no_history_exceeds_a_limit_or_loses_usage() {
    let passed: usize = (0..40).map(history).sum();
    assert!(passed > 500, "{passed}: the histories get nowhere");
}
