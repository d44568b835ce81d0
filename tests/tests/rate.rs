//! Rates: in no window of the length, wherever it begins, are more calls admitted than the policy says, over all edges.

use std::time::{Duration, Instant};

use serde_json::json;
use tollgate_tests::control_plane::ControlPlane;
use tollgate_tests::envoy::{Envoy, Options};
use tollgate_tests::moment::{self, Admitted};
use tollgate_tests::policy;
use tollgate_tests::scene::Scene;
use tollgate_tests::token;
use tollgate_tests::upstream::Upstream;

/// An edge's clock counts whole milliseconds.
const GRAIN: Duration = Duration::from_millis(10);

/// Calls at all edges for `time`, one caller each for several connections, as fast as answers come but for a pause after
/// a refusal; answers what was admitted.
fn call_for(time: Duration, edges: &[&Envoy], callers: usize, token: &str) -> Vec<Admitted> {
    let end = Instant::now() + time;
    std::thread::scope(|scope| {
        let calling: Vec<_> = (0..callers)
            .map(|caller| {
                let mut client = edges[caller % edges.len()].client();
                scope.spawn(move || {
                    let mut admitted = Vec::new();
                    while Instant::now() < end {
                        match Admitted::call(&mut client, "/a", token) {
                            (200, call) => admitted.extend(call),
                            (429, _) => std::thread::sleep(Duration::from_millis(5)),
                            (status, _) => panic!("{status}"),
                        }
                    }
                    admitted
                })
            })
            .collect();
        calling.into_iter().flat_map(|caller| caller.join().expect("a caller")).collect()
    })
}

/// The most calls that were certainly admitted within any window of this length.
fn most_in_any(window: Duration, calls: &[Admitted]) -> usize {
    let within = moment::within_any_time(calls).into_iter().filter(|(time, _)| *time < window);
    within.map(|(_, calls)| calls).max().unwrap_or(0)
}

#[test]
fn a_rate_is_never_exceeded_in_any_window_through_two_edges() {
    const WINDOW: Duration = Duration::from_secs(3);
    let scene = Scene::alone();
    let upstream = Upstream::start();
    let control_plane = ControlPlane::start(&scene);
    control_plane.apply(&policy::free(json!([policy::rate(20, "3s")])));
    let mut one = control_plane.edge(&scene, "one", upstream.port());
    let mut two = control_plane.edge(&scene, "two", upstream.port());
    let calls = call_for(WINDOW * 4, &[&one, &two], 6, &token::of("alice"));
    let most = most_in_any(WINDOW - GRAIN, &calls);
    assert!(most <= 20, "{most} calls in one window");
    // Nor is most of the rate wasted: four windows were tried.
    let all = upstream.count();
    assert_eq!(all, calls.len());
    assert!(all >= 50, "only {all} calls in {:?}", WINDOW * 4);
    control_plane.wait_until_used("user:alice", all);
    one.assert_no_trap();
    two.assert_no_trap();
}

#[test]
fn a_rate_is_never_exceeded_by_the_workers_of_an_edge_that_stands_alone() {
    const WINDOW: Duration = Duration::from_secs(1);
    let scene = Scene::alone();
    let upstream = Upstream::start();
    let policy = policy::free(json!([policy::rate(50, "1s")]));
    let envoy = Options::alone(&policy, upstream.port()).start(&scene);
    let calls = call_for(WINDOW * 5, &[&envoy], 6, &token::of("alice"));
    let most = most_in_any(WINDOW - GRAIN, &calls);
    assert!(most <= 50, "{most} calls in one window");
    let all = upstream.count();
    assert!(all >= 200, "only {all} calls in {:?}", WINDOW * 5);
}

#[test]
fn of_a_rate_and_a_quota_the_stricter_one_decides() {
    let scene = Scene::new();
    let upstream = Upstream::start();
    let control_plane = ControlPlane::start(&scene);
    control_plane.apply(&policy::free(json!([policy::rate(5, "60s"), policy::quota(8)])));
    let edge = control_plane.edge(&scene, "one", upstream.port());
    let (token, mut client) = (token::of("alice"), edge.client());
    for _ in 0..5 {
        client.get("/a", &token).expect(200);
    }
    let denied = client.get("/a", &token).expect_problem(429, "rate-exceeded");
    let wait_s: u64 = denied.header("retry-after").expect("it says when").parse().expect("in seconds");
    assert!((50..=61).contains(&wait_s), "the window is of 60 s: {wait_s}");
}
