//! Subscriptions change at their moments at every edge, with nobody there to tell; and a tier that was changed is kept by
//! those who had it.

use serde_json::{Value, json};
use tollgate_tests::client::Client;
use tollgate_tests::control_plane::ControlPlane;
use tollgate_tests::envoy::Envoy;
use tollgate_tests::moment::CLOCK_MS;
use tollgate_tests::policy;
use tollgate_tests::scene::Scene;
use tollgate_tests::token::{self, now_ms};
use tollgate_tests::upstream::Upstream;
use tollgate_tests::wait::{self, SOON};

struct Stage {
    control_plane: ControlPlane,
    edges: [Envoy; 2],
    _upstream: Upstream,
    // Last, so that the others are over before the next test's turn.
    _scene: Scene,
}

fn stage(scene: Scene) -> Stage {
    let upstream = Upstream::start();
    let control_plane = ControlPlane::start(&scene);
    control_plane.apply(&free_and_pro(1_000));
    let edges = ["one", "two"].map(|name| control_plane.edge(&scene, name, upstream.port()));
    Stage { control_plane, edges, _upstream: upstream, _scene: scene }
}

/// Two tiers; what needs the feature of `pro` costs nothing, so that no request waits for units.
fn free_and_pro(pro: u64) -> Value {
    let mut policy = policy::tiers(json!({
        "free": {"limits": [policy::quota(4)]},
        "pro": {"order": 1, "limits": [policy::quota(pro)], "features": ["export"]},
    }));
    policy["routes"]
        .as_array_mut()
        .expect("it has routes")
        .push(json!({"path": "/export", "features": ["export"], "charges": {}}));
    policy
}

impl Stage {
    /// A subject's subscription is changed by an action.
    #[track_caller]
    fn act(&self, subject: &str, action: &Value) -> Value {
        let path = format!("/v1/subscriptions/{subject}/actions");
        self.control_plane.ask("POST", &path, Some(action)).expect(200).json()
    }

    /// Stops the control plane, calls both edges over and over until some calls after `end_ms`, and checks that the feature
    /// was there up to that moment and not from it on.
    #[track_caller]
    fn check_ends_at(&mut self, token: &str, end_ms: i64) {
        for edge in &self.edges {
            // An edge that has heard of the subject.
            edge.client().get("/export", token).expect(200);
        }
        self.control_plane.process().signal("STOP");
        assert!(now_ms() < end_ms, "this machine is too slow for the test");
        let mut clients: Vec<Client> = self.edges.iter().map(Envoy::client).collect();
        let (mut before, mut after) = ([0_u32; 2], [0_u32; 2]);
        while after.iter().any(|count| *count < 10) {
            for (edge, client) in clients.iter_mut().enumerate() {
                let sent_ms = now_ms();
                let answer = client.get("/export", token);
                let answered_ms = now_ms();
                let told =
                    format!("edge {edge}, sent {} ms after the end: {}", sent_ms - end_ms, answer.text());
                if answered_ms < end_ms - CLOCK_MS {
                    assert_eq!(answer.status, 200, "{told}");
                    before[edge] += 1;
                } else if sent_ms >= end_ms + CLOCK_MS {
                    assert_eq!((answer.status, answer.code().as_str()), (403, "feature-required"), "{told}");
                    after[edge] += 1;
                }
            }
        }
        assert!(before.iter().all(|count| *count > 0), "this machine is too slow for the test");
        self.control_plane.process().signal("CONT");
    }
}

#[test]
fn a_trial_ends_at_its_very_moment_at_every_edge_with_the_control_plane_stopped() {
    let mut stage = stage(Scene::alone());
    let end_ms = now_ms() + 4_000;
    let trial =
        json!({"tier": "pro", "state": "trialing", "anchor_ms": now_ms(), "trial_ends_at_ms": end_ms});
    stage.control_plane.subscribe_as("user:alice", &trial);
    stage.check_ends_at(&token::of("alice"), end_ms);
    // It is written down as soon as somebody is there again.
    wait::until_equal("the trial's end is written down", SOON, &json!("user:alice"), || {
        let page = stage.control_plane.ask("GET", "/v1/subscriptions?state=expired", None).expect(200).json();
        page["items"][0]["subject"].clone()
    });
    for edge in &mut stage.edges {
        edge.assert_no_trap();
    }
}

#[test]
fn a_downgrade_comes_at_the_end_of_the_period_at_every_edge_with_the_control_plane_stopped() {
    let mut stage = stage(Scene::alone());
    let end_ms = now_ms() + 4_000;
    stage.control_plane.subscribe_as("user:alice", &json!({"tier": "pro", "period_ends_at_ms": end_ms}));
    let token = token::of("alice");
    let down = stage.act("user:alice", &json!({"action": "change_tier", "tier": "free"}));
    assert_eq!((&down["tier"], &down["changes"][0]["at_ms"]), (&json!("pro"), &json!(end_ms)));
    // Edges hear of the subject now, and so of what is to come.
    for call in 0..6 {
        stage.edges[call % 2].client().get("/a", &token).expect(200);
    }
    stage.check_ends_at(&token, end_ms);
    // What was used stays used: six of four. Each edge knows its own part of it, until the control plane recalls the units
    // of the larger limit.
    for edge in &stage.edges {
        wait::until_equal("the lower limit holds", SOON, &429, || edge.client().get("/a", &token).status);
    }
}

#[test]
fn who_has_a_tier_keeps_it_when_it_changes_for_new_subscribers() {
    let stage = stage(Scene::new());
    stage.control_plane.apply(&free_and_pro(12));
    stage.control_plane.subscribe("user:old", "pro");
    let changed = free_and_pro(6);
    let preview =
        stage.control_plane.ask("POST", "/v1/policy/preview?changed_tiers=new_subscribers", Some(&changed));
    let preview = preview.expect(200).json();
    assert_eq!((&preview["tiers"][0]["kept"], &preview["tiers"][0]["affected"]), (&json!(1), &json!(0)));
    stage.control_plane.ask("PUT", "/v1/policy?changed_tiers=new_subscribers", Some(&changed)).expect(200);
    stage.control_plane.subscribe("user:new", "pro");
    for (user, units) in [("old", 12), ("new", 6)] {
        let token = token::of(user);
        let mut clients: Vec<Client> = stage.edges.iter().map(Envoy::client).collect();
        // Units that the other edge holds need a moment to come.
        let mut admitted = 0;
        wait::until_equal(&format!("{user} may use {units}"), SOON, &units, || {
            for client in &mut clients {
                admitted += i32::from(client.get("/a", &token).status == 200);
            }
            admitted
        });
        for client in &mut clients {
            client.get("/a", &token).expect_problem(429, "quota-exceeded");
        }
    }
}
