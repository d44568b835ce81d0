//! What a user is told is what the edges counted, by the same token; and nobody is told anything of others.

use serde_json::{Value, json};
use tollgate_tests::client::{Answer, Client};
use tollgate_tests::control_plane::ControlPlane;
use tollgate_tests::policy;
use tollgate_tests::scene::Scene;
use tollgate_tests::token::{self, Token, now_s};
use tollgate_tests::upstream::Upstream;
use tollgate_tests::wait;

fn me(control_plane: &ControlPlane, path: &str, token: &str) -> Answer {
    Client::new(control_plane.port()).get(path, token)
}

#[test]
fn a_user_is_told_what_the_edges_counted_and_nothing_of_others() {
    let scene = Scene::alone();
    let upstream = Upstream::start();
    let control_plane = ControlPlane::start(&scene);
    let mut policy = policy::tiers(json!({
        "free": {"limits": [policy::quota(5)]},
        "pro": {"limits": [policy::quota(1_000)], "prices": [{"flat": 1_900}], "order": 1},
    }));
    policy["billing"] = json!({"currency": "EUR"});
    control_plane.apply(&policy);
    let edges = [
        control_plane.edge(&scene, "one", upstream.port()),
        control_plane.edge(&scene, "two", upstream.port()),
    ];
    let alice = token::of("alice");
    for call in 0..4 {
        let edge = &edges[call % 2];
        // Units that the other edge holds and does not use come within moments.
        wait::until_equal("a unit is used", wait::SOON, &200, || edge.client().get("/a", &alice).status);
    }
    control_plane.wait_until_used("user:alice", 4);
    let told = me(&control_plane, "/v1/me", &alice).expect(200).json();
    let limit = &told["limits"][0];
    assert_eq!(
        (&told["subject"], &limit["used"], &limit["remaining"], &limit["warning"]),
        (&json!("user:alice"), &json!(4), &json!(1), &json!(80)),
        "{told}"
    );
    let usage = me(&control_plane, "/v1/me/usage?by=total", &alice).expect(200).json();
    assert_eq!(usage["usage"][0]["used"], 4, "{usage}");
    let bob = me(&control_plane, "/v1/me", &token::of("bob")).expect(200).json();
    assert_eq!((&bob["subject"], &bob["limits"][0]["used"]), (&json!("user:bob"), &json!(0)), "{bob}");

    // Others', there or not: refused in the same words.
    let others = ["/v1/subjects/user:alice", "/v1/subjects/user:nobody", "/v1/subscriptions/user:alice"];
    let refused = others
        .map(|path| me(&control_plane, path, &token::of("bob")).expect_problem(403, "right-missing").json());
    assert!(refused.iter().all(|one: &Value| *one == refused[0]), "{refused:?}");

    let expired = Token::of("alice").claim("exp", json!(now_s() - 600)).sign();
    me(&control_plane, "/v1/me", &expired).expect_problem(401, "token-expired");
    let forged = format!("{}AAAA", &alice[..alice.len() - 4]);
    me(&control_plane, "/v1/me", &forged).expect_problem(401, "token-signature");

    // What costs something is not to be had for asking.
    let mut client = Client::new(control_plane.port());
    let asked = client.request("POST", "/v1/me/upgrade").token(&alice).json(&json!({"tier": "pro"})).send();
    asked.expect_problem(409, "payment-not-configured");
    wait::until_equal("the last is used", wait::SOON, &200, || edges[0].client().get("/a", &alice).status);
    edges[1].client().get("/a", &alice).expect_problem(429, "quota-exceeded");
}
