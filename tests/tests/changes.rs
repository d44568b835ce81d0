//! What an administrator changes is felt at every edge at once, and drops no request.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tollgate_tests::envoy::Envoy;
use tollgate_tests::moment;
use tollgate_tests::policy;
use tollgate_tests::scene::Scene;
use tollgate_tests::server::Server;
use tollgate_tests::stage::Stage;
use tollgate_tests::token::{self, ISSUER, Key, Token, now_ms};
use tollgate_tests::wait;

/// What is promised, with room for a machine that does other things.
const FELT_WITHIN: Duration = Duration::from_millis(1_500);

/// Waits until every edge answers this status, and says how long that took.
#[track_caller]
fn felt(stage: &Stage, since: Instant, path: &str, token: &str, status: u16) -> Duration {
    for edge in stage.edges() {
        wait::until_equal(&format!("{path} gets {status}"), wait::SOON, &status, || {
            edge.client().get(path, token).status
        });
    }
    since.elapsed()
}

fn free_and_pro() -> Value {
    policy::tiers(json!({
        "free": {"limits": [policy::quota(4)]},
        "pro": {"limits": [policy::quota(100_000)], "features": ["export"]},
    }))
}

#[test]
fn an_upgrade_unblocks_at_every_edge_within_a_second_and_keeps_what_was_used() {
    let stage = Stage::start(Scene::alone(), &free_and_pro());
    let token = token::of("alice");
    for call in 0..4 {
        let edge = stage.edges()[call % 2];
        // Units that the other edge holds and does not use come within moments.
        wait::until_equal("a unit is used", wait::SOON, &200, || edge.client().get("/a", &token).status);
    }
    for edge in stage.edges() {
        edge.client().get("/a", &token).expect_problem(429, "quota-exceeded");
    }
    let subscribe = |tier: &str, status: u16| {
        let start = Instant::now();
        stage.control_plane.subscribe("user:alice", tier);
        felt(&stage, start, "/a", &token, status)
    };
    wait::mostly_within("the upgrade is felt", FELT_WITHIN, || {
        subscribe("free", 429);
        subscribe("pro", 200)
    });
    // In the middle of a window: what was used stays used.
    let used = stage.upstream.count();
    stage.control_plane.wait_until_used("user:alice", used);
    let limits = stage.control_plane.ask("GET", "/v1/subjects/user:alice", None).expect(200).json();
    assert_eq!((&limits["tier"], &limits["limits"][0]["used"]), (&json!("pro"), &json!(used)), "{limits}");
}

#[test]
fn a_downgrade_is_felt_at_every_edge_and_what_was_used_stays_used() {
    let stage = Stage::start(Scene::alone(), &free_and_pro());
    let token = token::of("alice");
    stage.control_plane.subscribe("user:alice", "pro");
    for call in 0..20 {
        stage.edges()[call % 2].client().get("/a", &token).expect(200);
    }
    wait::mostly_within("the downgrade is felt", FELT_WITHIN, || {
        let start = Instant::now();
        stage.control_plane.subscribe("user:alice", "free");
        let took = felt(&stage, start, "/a", &token, 429);
        stage.control_plane.subscribe("user:alice", "pro");
        felt(&stage, start, "/a", &token, 200);
        took
    });
}

#[test]
fn a_subscription_ends_at_its_moment_without_a_push() {
    let stage = Stage::start(Scene::alone(), &free_and_pro());
    let token = token::of("alice");
    let end_ms = now_ms() + 4_000;
    let subscription = json!({"tier": "pro", "expires_at_ms": end_ms});
    let answer = stage.control_plane.ask("PUT", "/v1/subscriptions/user:alice", Some(&subscription));
    assert!(matches!(answer.status, 200 | 201), "{}", answer.text());
    for call in 0..10 {
        stage.edges()[call % 2].client().get("/a", &token).expect(200);
    }
    // Denials come with the moment, at an edge that nobody tells.
    moment::assert_ends_at(&stage.edges(), "/a", &token, end_ms);
    felt(&stage, Instant::now(), "/a", &token, 429);
}

#[test]
fn a_new_policy_takes_effect_under_load_without_a_dropped_request() {
    let with_cost = |cost: u64| {
        let mut policy = policy::free(json!([policy::quota(10_000_000)]));
        policy["tiers"]["free"]["limits"][0]["quota"] = json!(10_000_000 + cost);
        policy
    };
    let stage = Stage::start(Scene::alone(), &with_cost(0));
    let begun = Instant::now();
    let (stop, answers) = (AtomicBool::new(false), Mutex::new(Vec::new()));
    let tokens: Vec<String> = (0..4).map(|user| token::of(&format!("user-{user}"))).collect();
    std::thread::scope(|scope| {
        for (caller, token) in tokens.iter().enumerate() {
            let mut client = stage.edges()[caller % 2].client();
            let (stop, answers) = (&stop, &answers);
            scope.spawn(move || {
                while !stop.load(Ordering::Relaxed) && begun.elapsed() < Duration::from_secs(60) {
                    let status =
                        client.request("GET", "/a").token(token).try_send().map_or(0, |answer| answer.status);
                    answers.lock().expect("no caller panics").push(status);
                }
            });
        }
        let ask = |edge: &Envoy| {
            let answer = edge.client().get("/a", &tokens[0]);
            answer.header("ratelimit-policy").unwrap_or_default()
        };
        let mut round = 0;
        wait::mostly_within("a policy is in force", FELT_WITHIN, || {
            round += 1;
            stage.control_plane.apply(&with_cost(round));
            let start = Instant::now();
            for edge in stage.edges() {
                let expected = format!("\"calls\";q={}", 10_000_000 + round);
                wait::until_equal("the new policy is in force", wait::SOON, &expected, || ask(edge));
            }
            start.elapsed()
        });
        wait::until("there was load", wait::SOON, || {
            (answers.lock().expect("no caller panics").len() > 200).then_some(())
        });
        stop.store(true, Ordering::Relaxed);
    });
    let answers = answers.into_inner().expect("no caller panicked");
    let bad: Vec<&u16> = answers.iter().filter(|status| **status != 200).collect();
    assert!(bad.is_empty(), "of {} requests these were not answered 200: {bad:?}", answers.len());
}

#[test]
fn a_bad_policy_is_refused_with_its_reason_and_the_old_one_stays() {
    let stage = Stage::start(Scene::new(), &free_and_pro());
    let token = token::of("alice");
    let mut unknown_meter = free_and_pro();
    unknown_meter["default_route"]["charges"] = json!({"nothing": 1});
    let mut no_key = free_and_pro();
    no_key["issuers"][0]["keys"] =
        json!({"jwks": {"keys": [{"kty": "RSA", "n": "AQAB", "e": "AQAB", "kid": "x"}]}});
    for (what, policy, path) in [
        ("an unknown meter", unknown_meter, "default_route"),
        ("a key that is none", no_key, "issuers"),
        ("another version", json!({"version": 9, "meters": {}, "tiers": {}}), "version"),
    ] {
        let refused = stage.control_plane.ask("PUT", "/v1/policy", Some(&policy)).expect(422);
        assert!(refused.text().contains(path), "{what}: {}", refused.text());
        assert_eq!(refused.header("content-type").as_deref(), Some("application/problem+json"));
    }
    for edge in stage.edges() {
        edge.client().get("/a", &token).expect(200);
        edge.client().get("/public/a", "").expect(200);
        assert_eq!(edge.stat("wasmcustom.tollgate.policy.refused"), 0);
    }
}

#[test]
fn tokens_of_a_key_that_the_issuer_has_just_begun_to_use_are_accepted() {
    let keys = Arc::new(Mutex::new(policy::jwks(&[Key::Es256])));
    let served = keys.clone();
    let issuer = Server::start(0, move |_, responder| {
        responder.send_json(200, &served.lock().expect("nobody panics with it"))
    });
    let mut policy = policy::free(json!([]));
    let url = format!("http://127.0.0.1:{}/jwks", issuer.port());
    policy["issuers"] = json!([{"issuer": ISSUER, "audiences": ["api"], "keys": {"url": url}}]);
    let stage = Stage::start(Scene::alone(), &policy);
    let (old, new) =
        (Token::of("alice").key(Key::Es256).sign(), Token::of("bob").key(Key::Es256Other).sign());
    felt(&stage, Instant::now(), "/a", &old, 200);
    stage.one.client().get("/a", &new).expect_problem(401, "token-unknown-key");

    *keys.lock().expect("nobody panics with it") = policy::jwks(&[Key::Es256, Key::Es256Other]);
    // The edge asks at most every ten seconds, so that tokens of invented keys cost the issuer nothing.
    // A connection stays with one worker, and each worker learns of the key by itself a moment later: the same
    // connections are asked all along, for others could be with a worker that none of these is with.
    let mut callers: Vec<_> =
        stage.edges().into_iter().flat_map(|edge| (0..8).map(|_| edge.client())).collect();
    let mut everywhere = |token: &str| callers.iter_mut().all(|client| client.get("/a", token).status == 200);
    wait::until("the new key is accepted", Duration::from_secs(25), || everywhere(&new).then_some(()));
    // From then on nobody gets a 401 of it any more, and the old one is still good.
    for _ in 0..5 {
        assert!(everywhere(&new) && everywhere(&old));
    }
    // A key that is withdrawn is refused, though its tokens were remembered.
    *keys.lock().expect("nobody panics with it") = policy::jwks(&[Key::Es256Other]);
    let unknown = Token::of("eve").key(Key::EdDsa).sign();
    for edge in stage.edges() {
        wait::until_equal("the withdrawn key is refused", Duration::from_secs(40), &401, || {
            edge.client().get("/a", &unknown);
            edge.client().get("/a", &old).status
        });
        edge.client().get("/a", &new).expect(200);
    }
}
