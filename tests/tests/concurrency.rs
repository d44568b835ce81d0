//! Requests in flight over two edges of one control plane: never more than the policy says, as the application sees them,
//! and free again however a request ends.

use std::collections::HashMap;
use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde_json::{Value, json};
use tollgate_tests::client::Client;
use tollgate_tests::control_plane::ControlPlane;
use tollgate_tests::envoy::Envoy;
use tollgate_tests::http::Message;
use tollgate_tests::policy;
use tollgate_tests::scene::Scene;
use tollgate_tests::server::{Responder, Server};
use tollgate_tests::token;
use tollgate_tests::wait::{self, SOON};

/// A request that nobody lets go is answered after this all the same.
const HELD_AT_MOST: Duration = Duration::from_secs(25);

fn in_flight(most: u64) -> Value {
    let mut policy = policy::free(json!([{"concurrency": most}]));
    policy["default_route"] = json!({"charges": {}});
    policy
}

/// How a held request is let go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ending {
    Answer,
    Reset,
}

/// An application that counts what it is doing: `/busy` takes a while, `/hold/NAME` until it is let go.
struct Application {
    server: Server,
    work: Arc<Work>,
}

#[derive(Default)]
struct Work {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    now: usize,
    most: usize,
    all: usize,
    held: HashMap<String, Option<Ending>>,
}

impl Application {
    fn start() -> Self {
        let work = Arc::<Work>::default();
        let of = work.clone();
        let server = Server::start(0, move |request, responder| of.serve(request, responder));
        Self { server, work }
    }

    fn edge(&self, scene: &Scene, control_plane: &ControlPlane, name: &'static str) -> Envoy {
        control_plane.edge(scene, name, self.server.port())
    }

    /// Waits until the request of this name is there.
    #[track_caller]
    fn wait_for(&self, name: &str) {
        wait::until(&format!("{name} is there"), SOON, || {
            self.work.lock().held.contains_key(name).then_some(())
        });
    }

    fn let_go(&self, name: &str, ending: Ending) {
        self.work.lock().held.insert(name.to_owned(), Some(ending));
        self.work.changed.notify_all();
    }
}

impl Work {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn serve(&self, request: &Message, responder: &mut Responder) -> io::Result<()> {
        let path = request.start.split(' ').nth(1).unwrap_or_default();
        let mut state = self.lock();
        (state.now, state.all) = (state.now + 1, state.all + 1);
        state.most = state.most.max(state.now);
        let mut ending = Ending::Answer;
        if let Some(name) = path.strip_prefix("/hold/") {
            state.held.insert(name.to_owned(), None);
            let held = |state: &mut State| state.held.get(name).is_some_and(Option::is_none);
            let (after, _) = self
                .changed
                .wait_timeout_while(state, HELD_AT_MOST, held)
                .unwrap_or_else(PoisonError::into_inner);
            state = after;
            ending = state.held.get(name).copied().flatten().unwrap_or(Ending::Answer);
        } else {
            drop(state);
            std::thread::sleep(Duration::from_millis(20));
            state = self.lock();
        }
        // It is done before it says so: the next may begin as soon as it has.
        state.now -= 1;
        drop(state);
        match ending {
            Ending::Answer => responder.send(200, &[], b"done\n"),
            Ending::Reset => responder.cut(),
        }
    }
}

fn hold<'c>(client: &'c mut Client, name: &str, token: &str) -> &'c mut Client {
    client.request("GET", &format!("/hold/{name}")).token(token).open().expect("it is sent")
}

/// Fails unless each of the edges refuses a request more.
#[track_caller]
fn assert_full(edges: [&Envoy; 2], token: &str) {
    for edge in edges {
        let refused = edge.client().get("/busy", token).expect_problem(429, "concurrency-exceeded");
        assert!(refused.header("retry-after").is_some());
    }
}

#[test]
fn no_more_requests_are_in_flight_at_two_edges_than_the_policy_says() {
    const MOST: usize = 4;
    let scene = Scene::new();
    let application = Application::start();
    let control_plane = ControlPlane::start(&scene);
    control_plane.apply(&in_flight(MOST as u64));
    let mut edges = ["one", "two"].map(|name| application.edge(&scene, &control_plane, name));
    let token = token::of("alice");
    let end = std::time::Instant::now() + Duration::from_secs(4);
    let statuses: Vec<u16> = std::thread::scope(|scope| {
        let callers: Vec<_> = (0..12)
            .map(|caller| {
                let mut client = edges[caller % 2].client();
                let token = &token;
                scope.spawn(move || {
                    let mut statuses = Vec::new();
                    while std::time::Instant::now() < end {
                        statuses.push(client.get("/busy", token).status);
                        if statuses.last() == Some(&429) {
                            std::thread::sleep(Duration::from_millis(20));
                        }
                    }
                    statuses
                })
            })
            .collect();
        callers.into_iter().flat_map(|caller| caller.join().expect("a caller")).collect()
    });
    let (most, all) = {
        let state = application.work.lock();
        (state.most, state.all)
    };
    assert!(most <= MOST, "{most} requests were in flight");
    // Nor is most of it wasted: if what ends were free a second later, it would be 16.
    assert!(most == MOST && all > 100, "only {all} requests, {most} at once");
    let served = statuses.iter().filter(|status| **status == 200).count();
    assert_eq!(served, all);
    assert!(statuses.iter().all(|status| matches!(status, 200 | 429)), "{statuses:?}");
    // Nothing leaked: so many can be in flight at one edge.
    let mut clients: Vec<Client> = (0..MOST).map(|_| edges[0].client()).collect();
    for (at, client) in clients.iter_mut().enumerate() {
        let name = format!("last-{at}");
        wait::until("one more is let in", SOON, || {
            hold(client, &name, &token);
            let is_in = wait_for_either(&application, &name, client);
            if !is_in {
                client.hang_up();
            }
            is_in.then_some(())
        });
    }
    assert_full([&edges[0], &edges[1]], &token);
    (0..MOST).for_each(|at| application.let_go(&format!("last-{at}"), Ending::Answer));
    edges.iter_mut().for_each(Envoy::assert_no_trap);
}

/// Whether a request reached the application; false when it was answered before.
fn wait_for_either(application: &Application, name: &str, client: &mut Client) -> bool {
    wait::until("it is let in or refused", SOON, || match application.work.lock().held.contains_key(name) {
        true => Some(true),
        false => client.is_answered().then_some(false),
    })
}

#[test]
fn a_request_is_no_longer_in_flight_when_it_ends_is_given_up_or_is_reset() {
    let scene = Scene::new();
    let application = Application::start();
    let control_plane = ControlPlane::start(&scene);
    control_plane.apply(&in_flight(2));
    let [mut one, mut two] = ["one", "two"].map(|name| application.edge(&scene, &control_plane, name));
    let token = token::of("alice");
    type End = fn(&Application, &str, &mut Client);
    let endings: [(&str, End); 3] = [
        ("answered", |application, name, client| {
            application.let_go(name, Ending::Answer);
            assert_eq!(client.read_answer_head().expect("an answer").expect("an answer").status, 200);
        }),
        ("given-up", |_, _, client| client.hang_up()),
        ("reset", |application, name, client| {
            application.let_go(name, Ending::Reset);
            assert_eq!(client.read_answer_head().expect("an answer").expect("an answer").status, 503);
        }),
    ];
    for (ending, end) in endings {
        // One at each edge: what ends there is free at both.
        for turn in 0..2 {
            let edges = if turn == 0 { [&one, &two] } else { [&two, &one] };
            let names = [0, 1].map(|at| format!("{ending}-{turn}-{at}"));
            let mut clients = edges.map(Envoy::client);
            for (client, name) in clients.iter_mut().zip(&names) {
                wait::until(&format!("{name} is let in"), SOON, || {
                    hold(client, name, &token);
                    let is_in = wait_for_either(&application, name, client);
                    if !is_in {
                        client.hang_up();
                    }
                    is_in.then_some(())
                });
            }
            assert_full(edges, &token);
            let [first, second] = &mut clients;
            end(&application, &names[0], first);
            // At the edge where it was, and at the other.
            for edge in edges {
                wait::until_equal(&format!("{ending}: another is let in"), SOON, &200, || {
                    edge.client().get("/busy", &token).status
                });
            }
            end(&application, &names[1], second);
            // What hung up goes on at the application, which need not know.
            names.iter().for_each(|name| application.let_go(name, Ending::Answer));
        }
    }
    control_plane.wait_until_standing("user:alice", "concurrency", 0);
    one.assert_no_trap();
    two.assert_no_trap();
}

#[test]
fn what_a_killed_envoy_had_in_flight_is_not_free_at_once() {
    let scene = Scene::alone();
    let application = Application::start();
    let control_plane = ControlPlane::start_with(
        &scene,
        &[("TOLLGATE_LEASE_TTL_MS", "3000"), ("TOLLGATE_LEASE_MARGIN_MS", "500")],
    );
    control_plane.apply(&in_flight(2));
    let [mut one, mut two] = ["one", "two"].map(|name| application.edge(&scene, &control_plane, name));
    let token = token::of("alice");
    let mut clients = [one.client(), one.client()];
    for (client, name) in clients.iter_mut().zip(["a", "b"]) {
        hold(client, name, &token);
        application.wait_for(name);
    }
    assert_full([&one, &two], &token);
    one.process().kill();
    // The application still works for both: until it can do so no more, another edge lets in nobody, even though the
    // dead one's lease is long over. On a busy machine so short a lease may run out for a moment, which lets in nobody too.
    wait::throughout(Duration::from_secs(7), || {
        let refused = two.client().get("/busy", &token);
        let expected = ["concurrency-exceeded", "control-plane-unavailable"];
        assert!(expected.contains(&refused.code().as_str()), "{}: {}", refused.status, refused.text());
    });
    wait::until_equal("it is known to be full", SOON, &429, || two.client().get("/busy", &token).status);
    assert_eq!(application.work.lock().now, 2);
    // Others are not concerned.
    wait::until_equal("others are let in", SOON, &200, || {
        two.client().get("/busy", &token::of("bob")).status
    });
    ["a", "b"].iter().for_each(|name| application.let_go(name, Ending::Answer));
    two.assert_no_trap();
}
