//! Bandwidth per tier by `envoy/bandwidth.yaml`: what is transferred in which time, and whose route is chosen.

use std::time::Instant;

use serde_json::{Value, json};
use tollgate_tests::client::Client;
use tollgate_tests::control_plane::ControlPlane;
use tollgate_tests::envoy::{Envoy, Options};
use tollgate_tests::policy;
use tollgate_tests::scene::Scene;
use tollgate_tests::token::{self, Token};
use tollgate_tests::upstream::{CASE, Reply, Upstream};

/// The tiers of the shipped configuration, and their bytes per second.
const TIERS: [(&str, usize); 2] = [("free", 1 << 20), ("pro", 4 << 20)];

/// A transfer's size in seconds of its tier's bandwidth. The first is there at once: an idle tier's bucket is full.
const SECONDS: usize = 5;

/// A policy with three tiers, the last of which has no bandwidth of its own.
fn tiers() -> Value {
    let mut policy = policy::tiers(json!({"free": {}, "pro": {}, "other": {}}));
    policy["route_by_tier"] = json!(true);
    policy["issuers"][0]["claims"] = json!({"tier": "tier"});
    policy
}

fn token_of(tier: &str) -> String {
    Token::of(tier).claim("tier", json!(tier)).sign()
}

fn start(scene: &Scene, upstream: &Upstream) -> Envoy {
    Options::alone(&tiers(), upstream.port()).shipped("envoy/bandwidth.yaml").start(scene)
}

/// How many transfers a tier's limit has been looked at for; `none` counts nothing, since it is off there.
fn limited(envoy: &Envoy, direction: &str, tier: &str) -> i64 {
    envoy.stat(&format!("tier_{tier}.http_bandwidth_limit.{direction}_enabled"))
}

/// Runs a transfer for each tier at once, and fails unless each has its tier's rate within 15 %.
#[track_caller]
fn check(transfer: impl Fn(&str, usize) -> f64 + Sync) {
    std::thread::scope(|scope| {
        let transfer = &transfer;
        let run = |(tier, rate)| scope.spawn(move || (tier, rate, transfer(tier, rate * SECONDS)));
        let running: Vec<_> = TIERS.map(run).into();
        for transfer in running {
            let (tier, rate, seconds) = transfer.join().expect("a transfer");
            #[allow(clippy::cast_precision_loss, reason = "megabytes")]
            let (found, rate) = ((rate * (SECONDS - 1)) as f64 / seconds, rate as f64);
            let off = found / rate - 1.0;
            println!("{tier}: {:.0} KiB/s of {:.0} ({:+.1} %)", found / 1024.0, rate / 1024.0, off * 100.0);
            assert!(off.abs() <= 0.15, "{tier}: {found:.0} bytes/s where {rate:.0} are its limit");
        }
    });
}

#[test]
fn downloads_have_their_tier_s_bandwidth() {
    let scene = Scene::alone();
    let upstream = Upstream::start();
    let mut envoy = start(&scene, &upstream);
    check(|tier, bytes| {
        let chunks = vec![vec![b'x'; 64 * 1024]; bytes / (64 * 1024)];
        upstream.tell(tier, Reply { status: 200, chunks, has_length: true, ..Reply::default() });
        let mut client = envoy.client();
        let begin = Instant::now();
        let answer = client.request("GET", "/a").token(&token_of(tier)).header(CASE, tier).send().expect(200);
        assert_eq!(answer.message.body.len(), bytes);
        begin.elapsed().as_secs_f64()
    });
    envoy.assert_no_trap();
}

#[test]
fn uploads_have_their_tier_s_bandwidth() {
    let scene = Scene::alone();
    let upstream = Upstream::start();
    let mut envoy = start(&scene, &upstream);
    check(|tier, bytes| {
        let mut client = envoy.client();
        let begin = Instant::now();
        // The answer comes when the application has all of it.
        let answer = client.request("POST", "/a").token(&token_of(tier)).body(vec![b'x'; bytes]).send();
        answer.expect(200);
        begin.elapsed().as_secs_f64()
    });
    let sizes: Vec<usize> = upstream.seen().iter().map(|seen| seen.message.body.len()).collect();
    assert!(TIERS.iter().all(|(_, rate)| sizes.contains(&(rate * SECONDS))), "{sizes:?}");
    envoy.assert_no_trap();
}

#[test]
fn the_route_is_the_tier_s_and_nobody_chooses_another_by_a_header() {
    let scene = Scene::new();
    let upstream = Upstream::start();
    let mut envoy = start(&scene, &upstream);
    let spoofed = |path: &str, token: Option<String>| {
        let mut client: Client = envoy.client();
        let mut request = client.request("GET", path).header("X-Tollgate-Tier", "pro");
        if let Some(token) = token {
            request = request.token(&token);
        }
        request.send().expect(200);
    };
    let counts = || ["free", "pro"].map(|tier| limited(&envoy, "request", tier));
    spoofed("/a", Some(token_of("free")));
    assert_eq!(counts(), [1, 0]);
    spoofed("/a", Some(token_of("pro")));
    assert_eq!(counts(), [1, 1]);
    spoofed("/a", Some(token_of("other")));
    spoofed("/public/a", None);
    spoofed("/public/a", Some(token_of("pro")));
    assert_eq!(counts(), [1, 1]);
    envoy.assert_no_trap();
}

#[test]
fn a_request_that_waited_for_the_control_plane_has_its_tier_s_route_too() {
    let scene = Scene::new();
    let upstream = Upstream::start();
    let control_plane = ControlPlane::start(&scene);
    control_plane.apply(&tiers());
    control_plane.subscribe("user:alice", "pro");
    let options = Options::connected(control_plane.port(), upstream.port()).shipped("envoy/bandwidth.yaml");
    let mut envoy = options.start(&scene);
    envoy.wait_for_policy();
    // The edge's first request of a subject waits for what the control plane says of it; this one has a body.
    let answer = envoy.client().request("POST", "/a").token(&token::of("alice")).body("hello").send();
    answer.expect(200);
    assert_eq!(upstream.last().body, b"hello");
    assert_eq!(["free", "pro"].map(|tier| limited(&envoy, "request", tier)), [0, 1]);
    envoy.assert_no_trap();
}
