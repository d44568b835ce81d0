//! What `/v1/explain` says an edge would do with a request is what an edge then does.

use std::collections::BTreeMap;

use serde_json::json;
use tollgate_tests::client::Answer;
use tollgate_tests::control_plane::ControlPlane;
use tollgate_tests::envoy::Envoy;
use tollgate_tests::policy;
use tollgate_tests::scene::Scene;
use tollgate_tests::token::{Key, Token, now_s};
use tollgate_tests::upstream::Upstream;
use tollgate_tests::wait;

/// A request, and who sends it.
struct Sent {
    method: &'static str,
    path: &'static str,
    token: Option<String>,
    headers: &'static [(&'static str, &'static str)],
    body: Option<String>,
}

impl Sent {
    fn get(path: &'static str, token: &str) -> Self {
        Self { method: "GET", path, token: Some(token.to_owned()), headers: &[], body: None }
    }

    fn post(path: &'static str, token: &str, body: impl ToString) -> Self {
        Self { method: "POST", body: Some(body.to_string()), ..Self::get(path, token) }
    }

    /// What the control plane says of it: a status for a refusal, and a code.
    fn explained(&self, control_plane: &ControlPlane) -> (Option<u64>, String) {
        let headers: BTreeMap<_, _> = self.headers.iter().copied().collect();
        let wish = json!({
            "token": self.token, "method": self.method, "path": self.path, "host": "api.example", "headers": headers,
            "body": self.body,
        });
        let said = control_plane.ask("POST", "/v1/explain", Some(&wish)).expect(200).json();
        let decision = &said["decision"];
        assert_eq!(decision["outcome"] == "deny", decision["status"].is_u64(), "{said}");
        (decision["status"].as_u64(), decision["code"].as_str().unwrap_or_default().to_owned())
    }

    /// What the edge does with it: the same.
    fn done(&self, edge: &Envoy, upstream: &Upstream) -> (Option<u64>, String) {
        let mut client = edge.client();
        let before = upstream.count();
        let mut request = client.request(self.method, self.path);
        if let Some(token) = &self.token {
            request = request.token(token);
        }
        for (name, value) in self.headers {
            request = request.header(name, value);
        }
        if let Some(body) = &self.body {
            request = request.body(body);
        }
        let answer = request.send();
        match upstream.count() > before {
            true => (None, String::new()),
            false => (Some(u64::from(answer.status)), code(&answer)),
        }
    }
}

/// The code of a problem, or of the JSON-RPC error that is not about another call.
fn code(answer: &Answer) -> String {
    let problem = answer.code();
    if !problem.is_empty() {
        return problem;
    }
    let body = answer.json();
    let errors = body.as_array().cloned().unwrap_or_else(|| vec![body]);
    let mut codes = errors.iter().filter_map(|error| error["error"]["data"]["code"].as_str());
    codes.find(|code| *code != "batch-refused").unwrap_or_default().to_owned()
}

#[test]
fn an_edge_does_what_was_explained() {
    let scene = Scene::new();
    let upstream = Upstream::start();
    let control_plane = ControlPlane::start(&scene);
    let mut policy = policy::tiers(json!({
        "free": {"limits": [policy::quota(3), {"size": 100}]},
        "team": {"features": ["export"], "limits": [
            policy::quota(100),
            {"name": "each", "meter": "calls", "quota": 2, "per": "month", "scope": "member"},
            {"meter": "things", "capacity": 1},
        ]},
        "anon": {"limits": [policy::quota(1)]},
    }));
    policy["issuers"][0]["claims"] = json!({"organization": "org"});
    policy["meters"] = json!({"calls": {}, "things": {}});
    policy["anonymous"] = json!({"tier": "anon", "trusted_hops": 1});
    policy["routes"] = json!([
        {"path": "/public", "auth": "none"},
        {"path": "/maybe", "auth": "optional", "charges": {"calls": 1}},
        {"path": "/export", "features": ["export"], "charges": {"calls": 1}},
        {"path": "/things/{id}", "charges": {"things": {"units": 1, "id": "path.id"}}},
        {"path": "/watched", "enforcement": "shadow", "features": ["export"], "charges": {"calls": 1}},
        {"path": "/rpc", "jsonrpc": ["read"], "charges": {"calls": 1}},
        {"path": "/rpc", "jsonrpc": ["export"], "features": ["export"], "charges": {"calls": 1}},
    ]);
    control_plane.apply(&policy);
    control_plane.subscribe("org:acme", "team");
    let edge = control_plane.edge(&scene, "one", upstream.port());

    let of = |user: &str| Token::of(user);
    let (alice, member) = (of("alice").sign(), of("bob").claim("org", json!("acme")).sign());
    let call = |id: u32, method: &str| json!({"jsonrpc": "2.0", "id": id, "method": method});
    let compare = |sent: &Sent, status: Option<u64>, code: &str| {
        let expected = (status, code.to_owned());
        let name = format!("{} {}", sent.method, sent.path);
        assert_eq!(sent.explained(&control_plane), expected, "explained: {name}");
        assert_eq!(sent.done(&edge, &upstream), expected, "done: {name}");
    };
    compare(&Sent { token: None, ..Sent::get("/a", "") }, Some(401), "token-missing");
    compare(&Sent::get("/a", "x.y.z"), Some(401), "token-malformed");
    compare(
        &Sent::get("/a", &of("alice").claim("exp", json!(now_s() - 3_600)).sign()),
        Some(401),
        "token-expired",
    );
    compare(&Sent::get("/a", &of("alice").key(Key::Es256Other).sign()), Some(401), "token-unknown-key");
    compare(&Sent { token: None, ..Sent::get("/public", "") }, None, "");
    compare(&Sent::get("/a;b", &alice), Some(400), "path-ambiguous");
    compare(&Sent::get("/export", &alice), Some(403), "feature-required");
    compare(&Sent::get("/watched", &alice), None, "");
    compare(&Sent::post("/a", &alice, "x".repeat(101)), Some(413), "size-exceeded");
    compare(
        &Sent::post("/rpc", &alice, json!([call(1, "read"), call(2, "export")])),
        Some(200),
        "feature-required",
    );
    compare(&Sent::post("/rpc", &alice, json!([call(1, "read"), call(2, "read")])), None, "");
    control_plane.wait_until_used("user:alice", 3);
    compare(&Sent::get("/a", &alice), Some(429), "quota-exceeded");

    let anonymous =
        Sent { token: None, headers: &[("x-forwarded-for", "198.51.100.7")], ..Sent::get("/maybe", "") };
    compare(&anonymous, None, "");
    compare(&Sent::get("/things/a", &member), None, "");
    compare(&Sent::get("/export", &member), None, "");
    compare(&Sent::get("/a", &member), None, "");
    control_plane.wait_until_used("org:acme", 2);
    control_plane.wait_until_standing("org:acme", "things", 1);
    // A member's own use is no entry of the ledger; that its edge has told of it is seen where its limits stand.
    wait::until_equal("the member's use is told", wait::SOON, &json!(2), || {
        let page = control_plane.ask("GET", "/v1/subjects/member:acme%2Fbob", None).expect(200).json();
        page["limits"][0]["used"].clone()
    });
    compare(&Sent::get("/a", &member), Some(429), "quota-exceeded");
    compare(&Sent::get("/things/b", &member), Some(403), "capacity-exceeded");
}
