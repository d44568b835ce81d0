//! Decisions on one record, and what is settled of them: by example, and for any history.

use std::cell::RefCell;
use std::sync::Arc;

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::body::Unread;
use crate::compile::{Amount, CompiledPolicy, CompiledRoute};
use crate::lease::{Account, Record, SessionId};

const START: Now = Now { wall_ms: 1_768_478_400_000, mono_ms: 10_000_000 };
const RATE_MS: u64 = 10_000;

fn compile(tier: Value, routes: Value) -> CompiledPolicy {
    let key = json!({"kty": "oct", "kid": "k", "alg": "HS256", "k": "YS1zZWNyZXQtb2YtYXQtbGVhc3QtdGhpcnR5LXR3by1ieXRlcw"});
    let document = json!({
        "version": 1,
        "issuers": [{"issuer": "https://issuer.example", "audiences": ["api"], "keys": {"jwks": {"keys": [key]}}}],
        "meters": {"calls": {}, "rooms": {}},
        "default_tier": "free",
        "tiers": {"free": tier},
        "routes": routes,
    });
    CompiledPolicy::compile(&serde_json::from_value(document).unwrap(), 1).unwrap()
}

/// An edge that stands alone, and the one subject that it knows.
struct Alone {
    policy: CompiledPolicy,
    kept: RefCell<Option<KeptPlan>>,
    plans: Plans,
    record: Record,
    now: Now,
}

impl Alone {
    fn new(policy: CompiledPolicy) -> Self {
        let record = Record::new("user:alice", SessionId::default(), START.mono_ms);
        Self { policy, kept: RefCell::default(), plans: Plans::default(), record, now: START }
    }

    fn bill(&self, routes: &[usize]) -> Bill {
        let line = |at: &usize| Bill::plain(&self.policy.routes[*at]).lines;
        Bill { lines: routes.iter().flat_map(line).collect(), body_bytes: None }
    }

    fn decide(&mut self, bill: &Bill) -> Outcome {
        let question = Question {
            policy: &self.policy,
            kept: &self.kept,
            plans: &self.plans,
            tier_claim: "",
            bill,
            session: SessionId::default(),
            now: self.now,
        };
        question.decide(&mut self.record, Mode::Alone)
    }

    fn end(&mut self, bill: &Bill, reservation: &Reservation, status: Option<u16>) {
        let ending =
            Ending { status, request_bytes: 0, amount: &|_: &Amount| Err(Unread::Missing), label: &|_| None };
        reservation.settle(&self.policy, bill, &mut self.record, &ending, self.now);
    }

    fn pass(&mut self, ms: u64) {
        self.now.mono_ms += ms;
        self.now.wall_ms += ms.cast_signed();
    }

    /// Units of each limit that may be used, by name.
    fn free(&mut self) -> Vec<(String, u64)> {
        let mono_ms = self.now.mono_ms;
        let free = |account: &mut Account| {
            account.settle(mono_ms);
            (account.limit.to_string(), account.free())
        };
        self.record.accounts.iter_mut().map(free).collect()
    }

    fn used(&self, limit: &str) -> u64 {
        self.record.accounts.iter().filter(|account| account.limit == *limit).map(Account::used).sum()
    }
}

#[test]
fn a_batch_of_many_routes_is_held_against_all_limits() {
    let names = 0..40;
    let routes: Vec<Value> = names
        .map(|at| json!({"path": "/rpc", "jsonrpc": [format!("m{at}")], "charges": {"calls": 1}}))
        .collect();
    let limit = |per: &str, units: u64| json!({"meter": "calls", "quota": units, "per": per});
    let tier = json!({"limits": [limit("hour", 1_000), limit("day", 1_000), limit("month", 79)]});
    let mut edge = Alone::new(compile(tier, json!(routes)));
    let bill = edge.bill(&(0..40).collect::<Vec<_>>());
    let Outcome::Admit(admitted) = edge.decide(&bill) else { panic!("it is within all limits") };
    assert_eq!(edge.used("calls.month"), 40);
    let Outcome::Deny(denial) = edge.decide(&bill) else { panic!("it is beyond the month's") };
    assert_eq!((denial.code, denial.line), ("quota-exceeded", 39));
    edge.end(&bill, &admitted.reservation, Some(500));
    assert_eq!((edge.used("calls.hour"), edge.used("calls.month")), (0, 0));
}

/// Limits of each kind on two meters.
fn kinds() -> CompiledPolicy {
    compile(
        json!({"limits": [
            {"meter": "calls", "quota": 12, "per": "hour"},
            {"meter": "calls", "rate": 5, "per": "10s"},
            {"meter": "rooms", "capacity": 4},
            {"concurrency": 3},
        ]}),
        json!([
            {"path": "/call", "charges": {"calls": 1}},
            {"path": "/heavy", "charges": {"calls": 3, "rooms": 1}},
            {"path": "/won", "charges": {"rooms": {"units": 1, "on": "success"}}},
            {"path": "/leave", "charges": {"rooms": -1}},
        ]),
    )
}

#[derive(Debug, Clone)]
enum Step {
    /// A request that takes these routes.
    Begin(Vec<usize>),
    /// The same, which is taken back at once.
    Try(Vec<usize>),
    /// One in flight ends.
    End(usize, Option<u16>),
    /// One in flight is taken back.
    Undo(usize),
    Pass(u64),
}

fn step() -> impl Strategy<Value = Step> {
    let routes = prop::sample::subsequence(vec![0, 1, 2, 3], 1..=3);
    let status = prop_oneof![Just(None), Just(Some(200)), Just(Some(404)), Just(Some(500))];
    prop_oneof![
        4 => routes.clone().prop_map(Step::Begin),
        2 => routes.prop_map(Step::Try),
        3 => (0..8_usize, status).prop_map(|(which, status)| Step::End(which, status)),
        1 => (0..8_usize).prop_map(Step::Undo),
        1 => (1..6_000_u64).prop_map(Step::Pass),
    ]
}

/// What one request costs on the meter `calls`.
fn calls_of(bill: &Bill) -> u64 {
    let charges = |route: &Arc<CompiledRoute>| route.charges.iter().position(|charge| charge.meter == 0);
    bill.lines.iter().filter_map(|line| charges(&line.route).map(|at| line.units(at))).sum()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn no_history_of_one_record_exceeds_a_limit(steps in prop::collection::vec(step(), 1..80)) {
        let mut edge = Alone::new(kinds());
        let mut flying: Vec<(Bill, Reservation, u64)> = Vec::new();
        let mut quota = 0;
        // What was admitted, by moment: of a rate a refund gives nothing back.
        let mut admitted_at: Vec<(u64, u64)> = Vec::new();
        for step in steps {
            match step {
                Step::Try(routes) => {
                    let bill = edge.bill(&routes);
                    let before = edge.free();
                    if let Outcome::Admit(admitted) = edge.decide(&bill) {
                        admitted.reservation.undo(&edge.policy, &bill, &mut edge.record);
                    }
                    let after = edge.free();
                    for known in &before {
                        prop_assert!(after.contains(known), "not as before: {before:?} {after:?}");
                    }
                }
                Step::Begin(routes) => {
                    let bill = edge.bill(&routes);
                    let before = edge.free();
                    match edge.decide(&bill) {
                        Outcome::Admit(admitted) => {
                            quota += calls_of(&bill);
                            admitted_at.push((edge.now.mono_ms, calls_of(&bill)));
                            flying.push((bill, admitted.reservation, edge.now.mono_ms));
                        }
                        Outcome::Deny(_) => {
                            let after = edge.free();
                            for known in &before {
                                prop_assert!(after.contains(known), "a denial took something: {before:?} {after:?}");
                            }
                        }
                        Outcome::Ask => prop_assert!(false, "there is nobody to ask"),
                    }
                }
                Step::End(which, status) if which < flying.len() => {
                    let (bill, reservation, _) = flying.remove(which);
                    edge.end(&bill, &reservation, status);
                    if status == Some(500) {
                        quota -= calls_of(&bill);
                    }
                }
                Step::Undo(which) if which < flying.len() => {
                    let (bill, reservation, at_ms) = flying.remove(which);
                    reservation.undo(&edge.policy, &bill, &mut edge.record);
                    quota -= calls_of(&bill);
                    let known = admitted_at.iter().rposition(|known| *known == (at_ms, calls_of(&bill))).unwrap();
                    admitted_at.remove(known);
                }
                Step::End(..) | Step::Undo(_) => {}
                Step::Pass(ms) => edge.pass(ms),
            }
            prop_assert!(quota <= 12, "{quota} of a quota of 12");
            prop_assert_eq!(edge.used("calls.hour"), quota);
            prop_assert!(edge.used("rooms") <= 4, "{} rooms", edge.used("rooms"));
            prop_assert!(edge.used("concurrency") <= 3);
            prop_assert_eq!(edge.used("concurrency"), flying.len() as u64);
            let now_ms = edge.now.mono_ms;
            let recent = admitted_at.iter().filter(|(at_ms, _)| now_ms < at_ms + RATE_MS);
            let recent: u64 = recent.map(|(_, units)| units).sum();
            prop_assert!(recent <= 5, "{recent} in ten seconds");
        }
    }
}
