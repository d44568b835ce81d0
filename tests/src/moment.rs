//! When a call was decided, as far as its caller can tell: at some moment after it was sent and before it was answered. On a
//! busy machine either may take long, so whoever judges moments judges by both.

use std::time::{Duration, Instant};

use crate::client::Client;
use crate::envoy::Envoy;
use crate::token::now_ms;
use crate::wait::{self, SOON};

/// An edge's clock is the monotonic one with a difference to the wall's, which it reads now and then between two
/// instructions: so much it may be off by, ms, where other programs run between them.
pub const CLOCK_MS: i64 = 40;

/// A call that was admitted.
#[derive(Debug, Clone, Copy)]
pub struct Admitted {
    /// The last moment before which it was certainly not admitted.
    pub sent: Instant,
    /// The first by which it certainly was.
    pub answered: Instant,
}

impl Admitted {
    /// Calls once; answers the status, and the call where it was admitted.
    pub fn call(client: &mut Client, path: &str, token: &str) -> (u16, Option<Self>) {
        let sent = Instant::now();
        let status = client.get(path, token).status;
        (status, (status == 200).then(|| Self { sent, answered: Instant::now() }))
    }
}

/// All times that begin and end with a call, and how many calls were certainly admitted within each.
pub fn within_any_time(calls: &[Admitted]) -> Vec<(Duration, usize)> {
    let mut calls = calls.to_vec();
    calls.sort_by_key(|call| call.answered);
    let from = |start: &Admitted| {
        let start = start.sent;
        let since = calls.iter().filter(move |call| call.sent >= start);
        since.enumerate().map(move |(before, call)| (call.answered - start, before + 1)).collect::<Vec<_>>()
    };
    calls.iter().flat_map(from).collect()
}

/// Calls at each edge over and over until it is refused, and fails unless calls were admitted up to this moment (Unix ms)
/// and not from it on. Who is refused may have waited.
#[track_caller]
pub fn assert_ends_at(edges: &[&Envoy], path: &str, token: &str, end_ms: i64) {
    let watch = |mut client: Client| {
        let mut admitted = 0;
        wait::until("it ends", SOON, || {
            let sent_ms = now_ms();
            let status = client.get(path, token).status;
            let answered_ms = now_ms();
            if status == 200 {
                assert!(sent_ms < end_ms + CLOCK_MS, "admitted {} ms after its end", sent_ms - end_ms);
                admitted += 1;
                return None;
            }
            assert!(
                answered_ms >= end_ms - CLOCK_MS,
                "{status} came {} ms before its end",
                end_ms - answered_ms
            );
            Some(())
        });
        assert!(admitted > 0, "this machine is too slow for the test");
    };
    std::thread::scope(|scope| {
        let watching: Vec<_> = edges
            .iter()
            .map(|edge| {
                let client = edge.client();
                scope.spawn(|| watch(client))
            })
            .collect();
        watching.into_iter().for_each(|edge| edge.join().expect("it ends at its moment"));
    });
}
