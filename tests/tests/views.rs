//! Endpoints of another time, answered by the control plane through Envoy: a plain path, and one method of JSON-RPC among others.

use serde_json::{Value, json};
use tollgate_tests::client::Answer;
use tollgate_tests::control_plane::ControlPlane;
use tollgate_tests::envoy::{Envoy, Options};
use tollgate_tests::policy;
use tollgate_tests::scene::Scene;
use tollgate_tests::token;
use tollgate_tests::upstream::Upstream;
use tollgate_tests::wait;

/// The shipped route to the application, and what is put before it.
const TO_APPLICATION: &str = "              - match: {prefix: /}\n";
const TO_VIEWS: &str = "              - match: {path: /quota}
                route: {cluster: tollgate, prefix_rewrite: /v1/views/quota}
              - match: {path: /pricing}
                route: {cluster: tollgate, prefix_rewrite: /v1/views/pricing}
              - match: {path: /rpc, headers: [{name: x-tollgate-route, string_match: {exact: usage-stats}}]}
                route: {cluster: tollgate, prefix_rewrite: /v1/views/usage-stats}
";

fn policy() -> Value {
    let mut policy = policy::tiers(json!({"free": {"limits": [policy::quota(100)]}}));
    policy["routes"] = json!([
        {"path": "/quota", "charges": {}},
        {"path": "/pricing", "auth": "none"},
        {"name": "usage-stats", "path": "/rpc", "jsonrpc": ["getUsageStats"], "proxy_route": true},
    ]);
    policy["views"] = json!({
        "quota": {"body": r#"{"user_id": {{ me.subject_id }}, "sent": {{ usage("calls", by="total") | sum(attribute="units") }}, "limits": {{ me.limits | length }}, "of": {{ request.query.of }}}"#},
        "pricing": {"public": true, "body": r#"{{ plans.items | map(attribute="name") | list }}"#},
        "usage-stats": {"jsonrpc": true, "body": r#"{"used": {{ me.limits[0].used }}, "days": {{ request.json.params.days }}}"#},
    });
    policy
}

fn call(id: u64, method: &str) -> Value {
    json!({"jsonrpc": "2.0", "id": id, "method": method, "params": {"days": 7}})
}

fn post(envoy: &Envoy, token: &str, body: &Value, spoofed: Option<&str>) -> Answer {
    let mut client = envoy.client();
    let request = client.request("POST", "/rpc").token(token).json(body);
    match spoofed {
        Some(route) => request.header("x-tollgate-route", route).send(),
        None => request.send(),
    }
}

#[test]
fn endpoints_that_tell_of_quotas_are_answered_without_the_application() {
    let scene = Scene::alone();
    let upstream = Upstream::start();
    let control_plane = ControlPlane::start_with(&scene, &[("TOLLGATE_TRUSTED_HOPS", "1")]);
    control_plane.apply(&policy());
    let edge = Options::connected(control_plane.port(), upstream.port())
        .edit(TO_APPLICATION, &format!("{TO_VIEWS}{TO_APPLICATION}"));
    let mut envoy = edge.start(&scene);
    envoy.wait_for_policy();
    let alice = token::of("alice");
    for _ in 0..3 {
        envoy.client().get("/a", &alice).expect(200);
    }
    control_plane.wait_until_used("user:alice", 3);
    let seen = upstream.count();

    // A plain path, with the numbers that were used just now, and the query that came with it.
    let quota = envoy.client().get("/quota?of=today", &alice).expect(200).json();
    assert_eq!(quota, json!({"user_id": "alice", "sent": 3, "limits": 1, "of": "today"}));
    envoy.client().request("GET", "/quota").send().expect(401);
    assert_eq!(envoy.client().request("GET", "/pricing").send().expect(200).json(), json!(["free"]));

    // A method among others.
    let stats = |id: u64| json!({"jsonrpc": "2.0", "id": id, "result": {"used": 3, "days": 7}});
    assert_eq!(post(&envoy, &alice, &call(1, "getUsageStats"), None).expect(200).json(), stats(1));
    let both = json!([call(1, "getUsageStats"), call(2, "getUsageStats")]);
    assert_eq!(post(&envoy, &alice, &both, None).expect(200).json(), json!([stats(1), stats(2)]));
    assert_eq!(upstream.count(), seen, "the application was not asked");

    // Others reach the application, also where a client would have it otherwise.
    let mixed = json!([call(1, "getUsageStats"), call(2, "execute")]);
    for (body, spoofed) in
        [(call(3, "execute"), None), (mixed, None), (call(4, "execute"), Some("usage-stats"))]
    {
        let before = upstream.count();
        post(&envoy, &alice, &body, spoofed).expect(200);
        wait::until_equal("the application is asked", wait::SOON, &(before + 1), || upstream.count());
        let asked = upstream.last();
        assert_eq!(asked.header("x-tollgate-route"), None, "{body}");
    }
    envoy.assert_no_trap();
}
