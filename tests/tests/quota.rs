//! Quotas that hold over several edges of one control plane: never a unit too many, and none lost.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde_json::json;
use tollgate_tests::control_plane::ControlPlane;
use tollgate_tests::envoy::Envoy;
use tollgate_tests::policy;
use tollgate_tests::scene::Scene;
use tollgate_tests::token;
use tollgate_tests::upstream::Upstream;
use tollgate_tests::wait;

/// Callers in parallel, in turn at one edge and another, each with connections of its own; answers all statuses.
fn call(edges: &[&Envoy], callers: usize, calls: usize, path: &str, token: &str) -> Vec<u16> {
    std::thread::scope(|scope| {
        let callers: Vec<_> = (0..callers)
            .map(|caller| {
                let mut client = edges[caller % edges.len()].client();
                scope.spawn(move || (0..calls).map(|_| client.get(path, token).status).collect::<Vec<_>>())
            })
            .collect();
        callers.into_iter().flat_map(|caller| caller.join().expect("a caller")).collect()
    })
}

/// Calls in bursts until as many as `units` allow have been admitted since the first, and then once more to no avail. A
/// refusal may be some moments old (an edge asks once a second for what it was just refused), so that one burst need not
/// find the last unit; but it is found within moments, and never one too many.
#[track_caller]
fn use_all(edges: &[&Envoy], callers: usize, path: &str, token: &str, units: usize) -> Vec<u16> {
    let mut all = call(edges, callers, 25, path, token);
    wait::until_equal("every unit can be used", wait::SOON, &units, || {
        if count(&all, 200) < units {
            all.extend(call(edges, callers, 1, path, token));
        }
        count(&all, 200)
    });
    let more = call(edges, callers, 3, path, token);
    assert_eq!(count(&more, 429), more.len(), "{more:?}");
    assert_eq!(count(&all, 200) + count(&all, 429), all.len(), "nothing else is answered: {all:?}");
    all
}

fn count(statuses: &[u16], status: u16) -> usize {
    statuses.iter().filter(|found| **found == status).count()
}

#[test]
fn a_quota_of_100_admits_exactly_100_to_8_callers_at_two_edges_and_the_ledger_agrees() {
    let scene = Scene::new();
    let upstream = Upstream::start();
    let control_plane = ControlPlane::start(&scene);
    control_plane.apply(&policy::free(json!([policy::quota(100)])));
    let mut one = control_plane.edge(&scene, "one", upstream.port());
    let mut two = control_plane.edge(&scene, "two", upstream.port());

    let statuses = use_all(&[&one, &two], 8, "/a", &token::of("alice"), 100);
    assert!(count(&statuses, 429) >= 100, "there were more callers than units: {statuses:?}");
    assert_eq!(upstream.count(), 100);
    control_plane.wait_until_used("user:alice", 100);
    // And it stays so, since nothing more comes.
    wait::throughout(Duration::from_secs(2), || assert_eq!(control_plane.used("user:alice"), 100));
    one.assert_no_trap();
    two.assert_no_trap();
}

#[test]
fn calls_that_cost_several_units_use_a_quota_up_to_its_last_affordable_one() {
    let scene = Scene::new();
    let upstream = Upstream::start();
    let control_plane = ControlPlane::start(&scene);
    let mut policy = policy::free(json!([policy::quota(50)]));
    policy["routes"] = json!([{"path": "/three", "charges": {"calls": 3}}]);
    control_plane.apply(&policy);
    let one = control_plane.edge(&scene, "one", upstream.port());
    let two = control_plane.edge(&scene, "two", upstream.port());

    let token = token::of("alice");
    use_all(&[&one, &two], 8, "/three", &token, 16);
    use_all(&[&one, &two], 4, "/a", &token, 2);
    control_plane.wait_until_used("user:alice", 50);
}

#[test]
fn denied_and_failed_calls_consume_nothing_of_any_limit_anywhere() {
    let scene = Scene::new();
    let upstream = Upstream::start();
    let control_plane = ControlPlane::start(&scene);
    let small = json!({"name": "small", "meter": "calls", "quota": 10, "per": "month"});
    let large = json!({"name": "large", "meter": "calls", "quota": 30, "per": "month"});
    control_plane.apply(&policy::tiers(json!({
        "free": {"limits": [small, large]},
        "pro": {"limits": [large]},
    })));
    let one = control_plane.edge(&scene, "one", upstream.port());
    let two = control_plane.edge(&scene, "two", upstream.port());
    let token = token::of("alice");

    let failed = call(&[&one, &two], 4, 5, "/a?status=500", &token);
    assert_eq!(count(&failed, 429) + count(&failed, 200), 0, "no more in flight than units: {failed:?}");
    use_all(&[&one, &two], 8, "/a", &token, 10);
    control_plane.wait_until_used("user:alice", 10);

    // Hundreds were denied by `small`; of `large` only what was admitted is gone.
    control_plane.subscribe("user:alice", "pro");
    wait::until("the upgrade is felt", wait::SOON, || {
        [&one, &two].iter().all(|edge| edge.client().get("/a?status=500", &token).status == 500).then_some(())
    });
    use_all(&[&one, &two], 8, "/a", &token, 20);
    control_plane.wait_until_used("user:alice", 30);
}

#[test]
fn units_idle_at_one_edge_can_be_used_at_another_within_about_a_second() {
    let scene = Scene::alone();
    let upstream = Upstream::start();
    let control_plane = ControlPlane::start(&scene);
    control_plane.apply(&policy::free(json!([policy::quota(40)])));
    let one = control_plane.edge(&scene, "one", upstream.port());
    let two = control_plane.edge(&scene, "two", upstream.port());
    let mut client = two.client();
    let mut users = 0;
    wait::mostly_within("the other's units are used", Duration::from_millis(3_500), || {
        users += 1;
        let (user, before) = (format!("user-{users}"), upstream.count());
        let token = token::of(&user);
        // Busy for a while, so that this edge is granted much more than it uses.
        for _ in 0..20 {
            one.client().get("/a", &token).expect(200);
        }
        let start = Instant::now();
        // Some may be refused, while the first edge is still thought busy; but none of its units is out of reach for long.
        wait::until_equal("all units are used", wait::SOON, &40, || {
            client.get("/a", &token);
            upstream.count() - before
        });
        let took = start.elapsed();
        client.get("/a", &token).expect_problem(429, "quota-exceeded");
        one.client().get("/a", &token).expect_problem(429, "quota-exceeded");
        control_plane.wait_until_used(&format!("user:{user}"), 40);
        took
    });
}

#[test]
fn an_edge_that_comes_late_gets_units_from_one_that_is_busy() {
    let scene = Scene::new();
    let upstream = Upstream::start();
    let control_plane = ControlPlane::start(&scene);
    control_plane.apply(&policy::free(json!([policy::quota(50_000)])));
    let one = control_plane.edge(&scene, "one", upstream.port());
    let two = control_plane.edge(&scene, "two", upstream.port());
    let (token, stop, start) = (token::of("alice"), AtomicBool::new(false), Instant::now());
    let admitted = std::thread::scope(|scope| {
        let busy = scope.spawn(|| {
            let mut client = one.client();
            let mut calls = 0;
            while !stop.load(Ordering::Relaxed) && start.elapsed() < Duration::from_secs(60) {
                client.get("/a", &token).expect(200);
                calls += 1;
            }
            calls
        });
        // It is busy, and holds most of the limit.
        wait::until("one edge is busy", wait::SOON, || (upstream.count() > 200).then_some(()));
        let statuses = call(&[&two], 2, 50, "/a", &token);
        stop.store(true, Ordering::Relaxed);
        assert_eq!(count(&statuses, 200), 100, "{statuses:?}");
        busy.join().expect("a caller") + 100
    });
    assert_eq!(upstream.count(), admitted);
    control_plane.wait_until_used("user:alice", admitted);
}

#[test]
fn many_subjects_each_have_a_quota_of_their_own() {
    let scene = Scene::new();
    let upstream = Upstream::start();
    let control_plane = ControlPlane::start(&scene);
    control_plane.apply(&policy::free(json!([policy::quota(3)])));
    let one = control_plane.edge(&scene, "one", upstream.port());
    let two = control_plane.edge(&scene, "two", upstream.port());
    let users: Vec<String> = (0..60).map(|user| format!("user-{user}")).collect();
    let tokens: Vec<String> = users.iter().map(|user| token::of(user)).collect();
    let statuses: Vec<Vec<u16>> = std::thread::scope(|scope| {
        let parts = tokens.chunks(15).map(|tokens| {
            let edges = [&one, &two];
            scope.spawn(move || {
                let mut clients = edges.map(Envoy::client);
                let of = |token: &String| {
                    let mut statuses = Vec::new();
                    // Units that the other edge holds and does not use come within moments.
                    wait::until("all units are used", wait::SOON, || {
                        statuses.extend(clients.iter_mut().map(|client| client.get("/a", token).status));
                        (count(&statuses, 200) >= 3).then_some(())
                    });
                    statuses.extend(clients.iter_mut().map(|client| client.get("/a", token).status));
                    statuses
                };
                tokens.iter().map(of).collect::<Vec<Vec<u16>>>()
            })
        });
        parts.collect::<Vec<_>>().into_iter().flat_map(|part| part.join().expect("a caller")).collect()
    });
    for (user, statuses) in users.iter().zip(&statuses) {
        assert_eq!(count(statuses, 200), 3, "{user}: {statuses:?}");
    }
    for user in users.iter().step_by(10) {
        control_plane.wait_until_used(&format!("user:{user}"), 3);
    }
}
