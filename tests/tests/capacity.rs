//! Capacities over two edges of one control plane: things that are added at one and deleted at the other, counted by
//! number or by id, imported and counted anew by an operator. Never are more in use than the policy says.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use serde_json::{Value, json};
use tollgate_tests::client::{Answer, Client};
use tollgate_tests::policy;
use tollgate_tests::scene::Scene;
use tollgate_tests::stage::Stage;
use tollgate_tests::token;
use tollgate_tests::wait::{self, SOON};

/// What happens at one edge is felt at the other within about a second.
const FELT_WITHIN: Duration = Duration::from_secs(4);

/// A capacity of so many documents, by number under `/documents` and by id under `/things`, and of 100 bytes of files.
fn capacity(documents: u64) -> Value {
    let mut policy = policy::free(json!([
        {"meter": "documents", "capacity": documents},
        {"meter": "bytes", "capacity": 100, "status": 413},
    ]));
    policy["meters"] = json!({"calls": {}, "documents": {}, "bytes": {}});
    let charge = |units: i64, id: Option<&str>| match id {
        Some(id) => json!({"documents": {"units": units, "id": id, "on": "success"}}),
        None => json!({"documents": {"units": units, "on": "success"}}),
    };
    let file = json!({"bytes": {"body_bytes": "request", "id": "path.name", "on": "success"}});
    policy["routes"] = json!([
        {"methods": ["POST"], "path": "/documents", "charges": charge(1, None)},
        {"methods": ["DELETE"], "path": "/documents/{id}", "charges": charge(-1, None)},
        {"methods": ["PUT"], "path": "/things/{id}", "charges": charge(1, Some("path.id"))},
        {"methods": ["DELETE"], "path": "/things/{id}", "charges": charge(-1, Some("path.id"))},
        {"methods": ["PUT"], "path": "/files/{name}", "charges": file},
    ]);
    policy
}

fn send(client: &mut Client, method: &str, path: &str, token: &str) -> Answer {
    client.request(method, path).token(token).send()
}

/// Adds at this edge until one is refused for good, and answers how many were added. That others have freed something is
/// felt within moments, so that a refusal counts when it holds for as long.
fn fill(client: &mut Client, path: impl Fn(usize) -> (&'static str, String), token: &str) -> usize {
    let mut added = 0;
    let mut refused_since = None;
    loop {
        let (method, path) = path(added);
        let answer = send(client, method, &path, token);
        match answer.status {
            200 => {
                added += 1;
                refused_since = None;
            }
            _ => {
                answer.expect_problem(403, "capacity-exceeded");
                let since = *refused_since.get_or_insert_with(std::time::Instant::now);
                if since.elapsed() > FELT_WITHIN {
                    return added;
                }
                std::thread::sleep(Duration::from_millis(20));
            }
        }
    }
}

fn fill_documents(client: &mut Client, token: &str) -> usize {
    fill(client, |_| ("POST", "/documents".to_owned()), token)
}

#[test]
fn what_one_edge_added_and_another_deleted_is_free_at_both() {
    let mut stage = Stage::start(Scene::new(), &capacity(3));
    let (token, [mut one, mut two]) = (token::of("alice"), stage.clients());
    for _ in 0..3 {
        send(&mut one, "POST", "/documents", &token).expect(200);
    }
    for client in [&mut one, &mut two] {
        send(client, "POST", "/documents", &token).expect_problem(403, "capacity-exceeded");
    }
    for _ in 0..2 {
        send(&mut two, "DELETE", "/documents/1", &token).expect(200);
    }
    // One of the two units is used where the others were, and one at the edge that deleted.
    for client in [&mut one, &mut two] {
        wait::until_equal("what was deleted is free", SOON, &200, || {
            send(client, "POST", "/documents", &token).status
        });
    }
    for client in [&mut one, &mut two] {
        assert_eq!(fill_documents(client, &token), 0, "three are in use");
    }
    stage.control_plane.wait_until_standing("user:alice", "documents", 3);
    assert_eq!(stage.control_plane.standing("user:alice", "documents")["clamped"], Value::Null);
    stage.assert_no_trap();
}

#[test]
fn no_more_are_in_use_than_allowed_however_callers_add_and_delete_at_both_edges() {
    const CAPACITY: usize = 5;
    const ROUNDS: usize = 40;
    let mut stage = Stage::start(Scene::new(), &capacity(CAPACITY as u64));
    let token = token::of("alice");
    let refused = AtomicUsize::new(0);
    // Each keeps up to three, deletes what it has when it is refused, and all of it at the end.
    let added: usize = stage
        .in_parallel(6, |caller, client| {
            let (mut mine, mut added) = (0, 0);
            for _ in 0..ROUNDS {
                match send(client, "POST", "/documents", &token).status {
                    200 => (mine, added) = (mine + 1, added + 1),
                    status => {
                        assert_eq!(status, 403);
                        refused.fetch_add(1, Ordering::Relaxed);
                    }
                }
                let keep =
                    if mine > 2 || refused.load(Ordering::Relaxed) % 3 == caller % 3 { 0 } else { mine };
                for _ in keep..mine {
                    send(client, "DELETE", "/documents/1", &token).expect(200);
                }
                mine = keep;
            }
            for _ in 0..mine {
                send(client, "DELETE", "/documents/1", &token).expect(200);
            }
            added
        })
        .into_iter()
        .sum();
    // As the application saw it: it hears of a deletion before the unit is free.
    let (mut now, mut most) = (0_usize, 0);
    for seen in stage.upstream.seen() {
        match seen.message.start.starts_with("POST") {
            true => now += 1,
            false => now -= 1,
        }
        most = most.max(now);
    }
    assert!(most <= CAPACITY, "{most} were in use at once");
    assert_eq!((now, most), (0, CAPACITY), "all was deleted, and all was in use once");
    assert!(refused.into_inner() > 0 && added > 2 * CAPACITY, "{added} were added");
    stage.control_plane.wait_until_standing("user:alice", "documents", 0);
    assert_eq!(fill_documents(&mut stage.one.client(), &token), CAPACITY, "nothing leaked");
    stage.assert_no_trap();
}

#[test]
fn more_deletions_than_additions_never_free_more_than_there_is() {
    let mut stage = Stage::start(Scene::new(), &capacity(3));
    let (token, [mut one, mut two]) = (token::of("alice"), stage.clients());
    for _ in 0..2 {
        send(&mut one, "POST", "/documents", &token).expect(200);
    }
    stage.control_plane.wait_until_standing("user:alice", "documents", 2);
    // At an edge that added nothing, and at the one that did.
    for client in [&mut two, &mut one] {
        for _ in 0..4 {
            send(client, "DELETE", "/documents/1", &token).expect(200);
        }
    }
    // Once both have told of them; before that, what one adds cannot be told from what another has deleted.
    wait::until_equal("both edges have told", SOON, &(2 - 8), || {
        stage.control_plane.used_of("user:alice", "documents")
    });
    assert_eq!(stage.control_plane.standing("user:alice", "documents")["used"], json!(0));
    let added = fill_documents(&mut one, &token) + fill_documents(&mut two, &token);
    assert_eq!(added, 3, "in use never falls below nothing");
    stage.control_plane.wait_until_standing("user:alice", "documents", 3);
    stage.assert_no_trap();
}

#[test]
fn a_thing_with_an_id_is_freed_once_wherever_and_however_often_it_is_deleted() {
    let mut stage = Stage::start(Scene::new(), &capacity(2));
    let (token, [mut one, mut two]) = (token::of("alice"), stage.clients());
    send(&mut one, "PUT", "/things/a", &token).expect(200);
    send(&mut two, "PUT", "/things/b", &token).expect(200);
    for client in [&mut one, &mut two] {
        send(client, "PUT", "/things/c", &token).expect_problem(403, "capacity-exceeded");
    }
    // Each edge hears it twice, and both of one that never was.
    for path in ["/things/a", "/things/a", "/things/never"] {
        for client in [&mut one, &mut two] {
            send(client, "DELETE", path, &token).expect(200);
        }
    }
    let things = |added: usize| ("PUT", format!("/things/new-{added}"));
    let added = fill(&mut two, things, &token) + fill(&mut one, things, &token);
    assert_eq!(added, 1, "one thing was deleted");
    stage.control_plane.wait_until_standing("user:alice", "documents", 2);
    // What is put again at either edge is still one thing; for a moment it is there twice, so that there must be room.
    send(&mut one, "DELETE", "/things/new-0", &token).expect(200);
    for turn in 0..6 {
        let client = if turn % 2 == 0 { &mut two } else { &mut one };
        wait::until_equal("the thing can be put", SOON, &200, || {
            send(client, "PUT", "/things/b", &token).status
        });
    }
    stage.control_plane.wait_until_standing("user:alice", "documents", 1);
    stage.assert_no_trap();
}

#[test]
fn putting_a_thing_that_is_there_replaces_its_units() {
    let mut stage = Stage::start(Scene::new(), &capacity(2));
    let (token, [mut one, mut two]) = (token::of("alice"), stage.clients());
    let put = |client: &mut Client, name: &str, bytes: usize| {
        let request = client.request("PUT", &format!("/files/{name}")).token(&token);
        request.body(vec![b'x'; bytes]).send().status
    };
    assert_eq!(put(&mut one, "a", 60), 200);
    assert_eq!(put(&mut two, "b", 41), 413);
    // Both sizes are there for a moment, and then the newer one.
    assert_eq!(put(&mut two, "a", 30), 200);
    stage.control_plane.wait_until_standing("user:alice", "bytes", 30);
    wait::until_equal("what was replaced is free", SOON, &200, || put(&mut one, "b", 70));
    stage.control_plane.wait_until_standing("user:alice", "bytes", 100);
    for client in [&mut one, &mut two] {
        wait::throughout(Duration::from_secs(1), || assert_eq!(put(client, "c", 1), 413));
    }
    stage.assert_no_trap();
}

#[test]
fn what_exists_already_is_imported_by_id_or_by_count_and_edges_know() {
    let mut stage = Stage::start(Scene::new(), &capacity(3));
    let (token, [mut one, mut two]) = (token::of("alice"), stage.clients());
    // Both edges know the subject already.
    send(&mut one, "PUT", "/things/own", &token).expect(200);
    send(&mut two, "DELETE", "/things/never", &token).expect(200);
    stage.control_plane.wait_until_standing("user:alice", "documents", 1);
    let import = json!({"things": [{"meter": "documents", "id": "a"}, {"meter": "documents", "id": "b"}]});
    for _ in 0..2 {
        stage.control_plane.ask("POST", "/v1/subjects/user:alice/things", Some(&import)).expect(200);
        assert_eq!(stage.control_plane.standing("user:alice", "documents")["used"], json!(3));
    }
    for client in [&mut one, &mut two] {
        send(client, "PUT", "/things/c", &token).expect_problem(403, "capacity-exceeded");
    }
    // What was imported is deleted at an edge like any other, and once.
    for _ in 0..3 {
        send(&mut two, "DELETE", "/things/a", &token).expect(200);
    }
    let things = |added: usize| ("PUT", format!("/things/new-{added}"));
    assert_eq!(fill(&mut one, things, &token), 1);

    // An operator has counted: there is one; later, that there are three.
    let set = |in_use: u64| {
        let body = json!({"in_use": in_use, "reason": "counted"});
        let page = stage.control_plane.ask("PUT", "/v1/subjects/user:alice/capacity/documents", Some(&body));
        assert_eq!(page.expect(200).json()["items"][0]["in_use"], json!(in_use));
    };
    set(1);
    assert_eq!(fill_documents(&mut two, &token), 2);
    set(0);
    wait::until_equal("edges know of the count", SOON, &200, || {
        send(&mut one, "POST", "/documents", &token).status
    });
    stage.control_plane.wait_until_standing("user:alice", "documents", 1);
    set(3);
    for client in [&mut one, &mut two] {
        assert_eq!(fill_documents(client, &token), 0);
    }
    stage.assert_no_trap();
}
