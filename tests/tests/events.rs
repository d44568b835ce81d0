//! Events: what callers do at the edges reaches the systems that asked to be told, once and signed.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, Mac as _};
use serde_json::{Value, json};
use sha2::Sha256;
use tollgate_tests::control_plane::ControlPlane;
use tollgate_tests::http::Message;
use tollgate_tests::policy;
use tollgate_tests::scene::Scene;
use tollgate_tests::server::Server;
use tollgate_tests::token;
use tollgate_tests::upstream::Upstream;
use tollgate_tests::wait;

/// A system that is told events.
struct Receiver {
    server: Server,
    received: Arc<Mutex<Vec<Message>>>,
}

impl Receiver {
    fn start() -> Self {
        let received: Arc<Mutex<Vec<Message>>> = Arc::default();
        let keep = received.clone();
        let server = Server::start(0, move |message, responder| {
            keep.lock().expect("no test panics here").push(message.clone());
            responder.send_nothing()
        });
        Self { server, received }
    }

    fn url(&self) -> String {
        format!("http://127.0.0.1:{}/hooks", self.server.port())
    }

    fn received(&self) -> Vec<Message> {
        self.received.lock().expect("no test panics here").clone()
    }

    /// Type and percent of each event, sorted.
    fn told(&self) -> Vec<String> {
        let name = |message: &Message| {
            let event: Value = serde_json::from_slice(&message.body).expect("JSON");
            format!("{} {}", event["type"].as_str().expect("a type"), event["data"]["percent"])
        };
        let mut told: Vec<String> = self.received().iter().map(name).collect();
        told.sort();
        told
    }
}

/// As a receiver verifies it: by the specification, with nothing of the control plane's.
fn verify(message: &Message, secret: &str) {
    let header = |name: &str| message.header(name).expect("each event has it");
    let key = STANDARD.decode(secret.strip_prefix("whsec_").expect("a secret")).expect("base64");
    let mut mac = Hmac::<Sha256>::new_from_slice(&key).expect("a key of any length");
    mac.update(format!("{}.{}.", header("webhook-id"), header("webhook-timestamp")).as_bytes());
    mac.update(&message.body);
    let signature = format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes()));
    assert_eq!(header("webhook-signature"), signature);
    let age_s = token::now_s() - header("webhook-timestamp").parse::<i64>().expect("a number");
    assert!((0..300).contains(&age_s), "signed {age_s} s ago");
}

#[test]
fn callers_at_two_edges_cross_thresholds_and_each_is_told_once_and_signed() {
    let scene = Scene::new();
    let upstream = Upstream::start();
    let environment = [("TOLLGATE_EVENTS_ALLOW_PRIVATE", "true")];
    let control_plane = ControlPlane::start_with(&scene, &environment);
    control_plane.apply(&policy::free(json!([policy::quota(100)])));
    let receiver = Receiver::start();
    let wish = json!({ "url": receiver.url() });
    let endpoint = control_plane.ask("POST", "/v1/event-endpoints", Some(&wish)).expect(201).json();
    let secret = endpoint["secret"].as_str().expect("it is shown once").to_owned();
    let one = control_plane.edge(&scene, "one", upstream.port());
    let two = control_plane.edge(&scene, "two", upstream.port());
    let mut clients = [one.client(), two.client()];
    let alice = token::of("alice");
    let mut call = |calls: usize| {
        for number in 0..calls {
            let client = &mut clients[number % 2];
            // Units that the other edge holds and does not use come within moments.
            wait::until_equal("the call is admitted", wait::SOON, &200, || client.get("/a", &alice).status);
        }
    };

    // A call that waited in vain for units of the other edge was refused, and that is told too.
    let of = |kind: &str| -> Vec<String> {
        receiver.told().into_iter().filter(|told| told.starts_with(kind)).collect()
    };
    let thresholds = || of("threshold.");
    call(79);
    control_plane.wait_until_standing("user:alice", "calls", 79);
    wait::throughout(Duration::from_secs(1), || assert_eq!(thresholds(), [""; 0]));

    call(6);
    wait::until_equal("80 percent is told", wait::SOON, &vec!["threshold.reached 80".to_owned()], thresholds);

    call(15);
    let expected = ["threshold.reached 100", "threshold.reached 80", "threshold.reached 95"];
    wait::until_equal(
        "95 and 100 percent are told",
        wait::SOON,
        &expected.map(str::to_owned).to_vec(),
        thresholds,
    );

    // One more is refused, at both edges, and that is told once too.
    for client in &mut clients {
        assert_eq!(client.get("/a", &alice).status, 429);
    }
    wait::until_equal("that the limit was hit is told", wait::SOON, &4, || receiver.told().len());
    assert_eq!(of("limit.hit").len(), 1, "{:?}", receiver.told());
    wait::throughout(Duration::from_secs(2), || assert_eq!(receiver.told().len(), 4, "and nothing twice"));
    for message in receiver.received() {
        verify(&message, &secret);
    }
}
