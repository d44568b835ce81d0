//! What edges refuse is counted, by whom, why and where, and the control plane hears of it once.

use std::collections::BTreeMap;

use super::world::Net;
use super::*;

/// How often what was refused, without the hour.
fn refused(w: &World) -> BTreeMap<String, u64> {
    let of_hour = w.plane.refused().into_iter();
    of_hour.map(|(refused, count)| (refused.split_once(' ').unwrap().1.to_owned(), count)).collect()
}

fn check(w: &World, expected: &[(&str, u64)]) {
    let expected: BTreeMap<String, u64> =
        expected.iter().map(|(refused, count)| ((*refused).to_owned(), *count)).collect();
    assert_eq!(refused(w), expected);
}

#[test]
fn refusals_of_all_workers_and_edges_are_counted_by_subject_reason_and_route() {
    let mut w = World::new(&daily(2), &[2, 1]);
    w.run(1_000);
    assert_eq!(w.admitted(&[0, 1, 2], "alice", "/x", 12).0, 2);
    for worker in [0, 1, 2, 1] {
        assert_eq!(w.get(worker, "bob", "/export"), "403 feature-required");
    }
    let mut stranger = headers("/x", "");
    stranger.pop();
    let sending = w.send(1, stranger);
    w.end(sending);
    w.run(6_000);
    check(
        &w,
        &[
            (" token-missing  ", 1),
            ("user:alice quota-exceeded calls.day default", 10),
            ("user:bob feature-required  /export", 4),
        ],
    );
    let syncs = w.plane.syncs.len();
    let reports: usize = w.plane.syncs.iter().map(|sync| sync.denials.len()).sum();
    w.run(20_000);
    assert!(w.plane.syncs.len() > syncs);
    let again: usize = w.plane.syncs.iter().map(|sync| sync.denials.len()).sum();
    assert_eq!(again, reports, "what was confirmed is not told again");
}

#[test]
fn refusals_outlast_a_control_plane_that_is_away_and_a_leader_that_goes() {
    let mut w = world(&daily(1));
    assert_eq!(w.admitted(&[0, 1], "alice", "/x", 5).0, 1);
    w.net = Net::Deaf;
    w.run(5_000);
    for worker in [0, 1] {
        assert_eq!(w.get(worker, "bob", "/export").split(' ').next(), Some("503"));
    }
    w.net = Net::Fine(4);
    w.run(5_000);
    let alice = "user:alice quota-exceeded calls.day default";
    assert_eq!((refused(&w)[alice], refused(&w)["user:bob control-plane-unavailable  /export"]), (4, 2));
    w.trap(0);
    w.run(5_000);
    assert_eq!(w.admitted(&[1, 0], "alice", "/x", 3).0, 0);
    w.run(5_000);
    assert_eq!(refused(&w)[alice], 7, "sums of another reporter count besides");
}

#[test]
fn an_hour_has_its_own_counts() {
    let mut w = world(&daily(1));
    assert_eq!(w.admitted(&[0, 1], "alice", "/x", 3).0, 1);
    w.run(3_600_000);
    assert_eq!(w.admitted(&[0, 1], "alice", "/x", 3).0, 0);
    w.run(5_000);
    assert_eq!(w.plane.refused().values().copied().collect::<Vec<_>>(), [2, 3]);
}
