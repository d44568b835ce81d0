//! Rates: in no window of the length, wherever it begins, do more calls reach the application than the policy says, over
//! all edges. Measured where they arrive.

use std::time::{Duration, Instant};

use serde_json::json;
use tollgate_tests::control_plane::ControlPlane;
use tollgate_tests::envoy::{Envoy, Options};
use tollgate_tests::policy;
use tollgate_tests::scene::Scene;
use tollgate_tests::token;
use tollgate_tests::upstream::Upstream;

/// A call reaches the application a little after it was admitted, so two calls may arrive closer together than they were
/// admitted by the time that one of them took more on its way.
const ON_ITS_WAY: Duration = Duration::from_millis(50);

/// Calls at all edges for `time`, one caller each for several connections, as fast as answers come but for a pause after
/// a refusal.
fn call_for(time: Duration, edges: &[&Envoy], callers: usize, token: &str) {
    let end = Instant::now() + time;
    std::thread::scope(|scope| {
        for caller in 0..callers {
            let mut client = edges[caller % edges.len()].client();
            scope.spawn(move || {
                while Instant::now() < end {
                    match client.get("/a", token).status {
                        200 => {}
                        429 => std::thread::sleep(Duration::from_millis(5)),
                        status => panic!("{status}"),
                    }
                }
            });
        }
    });
}

/// The most calls that arrived within any window of this length.
fn most_in_any(window: Duration, upstream: &Upstream) -> usize {
    let mut times: Vec<Instant> = upstream.seen().iter().map(|seen| seen.at).collect();
    times.sort_unstable();
    let ends = times.iter().enumerate();
    ends.map(|(last, end)| last + 1 - times.partition_point(|at| end.duration_since(*at) >= window))
        .max()
        .unwrap_or(0)
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
    call_for(WINDOW * 4, &[&one, &two], 6, &token::of("alice"));
    let most = most_in_any(WINDOW - ON_ITS_WAY, &upstream);
    assert!(most <= 20, "{most} calls in one window");
    // Nor is most of the rate wasted: four windows were tried.
    let all = upstream.count();
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
    call_for(WINDOW * 5, &[&envoy], 6, &token::of("alice"));
    let most = most_in_any(WINDOW - ON_ITS_WAY, &upstream);
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
