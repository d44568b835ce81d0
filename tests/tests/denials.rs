//! What is refused at the edges is counted for operators: each refusal once, by whom, why, by which limit and where; and what
//! is refused in shadow only, not at all.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use tollgate_tests::client::{Answer, Client};
use tollgate_tests::policy;
use tollgate_tests::scene::Scene;
use tollgate_tests::stage::Stage;
use tollgate_tests::token::{self, Token, now_s};
use tollgate_tests::wait::{self, SOON};

/// Connections to each edge: each stays with one of its two workers, and all are hardly ever with the same.
const CONNECTIONS: usize = 8;

/// What refusals are told apart by: subject, code, limit and route.
type Refused = [String; 4];

/// Refusals as callers saw them.
#[derive(Default)]
struct Tally(BTreeMap<Refused, i64>);

impl Tally {
    /// Counts an answer, if it is a refusal; `subject` and `route` are those that the edge knew of.
    #[track_caller]
    fn add(&mut self, answer: &Answer, subject: &str, route: &str) {
        let code = answer.code();
        if code.is_empty() {
            assert_eq!(answer.status, 200, "{}", answer.text());
            return;
        }
        let limit = answer.json()["limit"].as_str().unwrap_or_default().to_owned();
        *self.0.entry([subject.to_owned(), code, limit, route.to_owned()]).or_default() += 1;
    }

    /// An edge has started: who waited for its policy had no token.
    fn add_start(&mut self) {
        *self.0.entry(["", "token-missing", "", ""].map(str::to_owned)).or_default() += 1;
    }

    /// How many there were for this reason.
    fn of(&self, code: &str) -> i64 {
        self.0.iter().filter(|([_, found, ..], _)| found == code).map(|(_, count)| count).sum()
    }
}

/// As the control plane tells it; but for requests that came before an edge had its policy, which only who starts it sends.
fn told(stage: &Stage, subject: Option<&str>) -> BTreeMap<Refused, i64> {
    let subject = subject.map_or_else(String::new, |subject| format!("&subject={subject}"));
    let path = format!("/v1/analytics/denials?group=subject,code,limit,route&limit=100{subject}");
    let page = stage.control_plane.ask("GET", &path, None).expect(200).json();
    let text = |item: &Value, name: &str| item[name].as_str().expect("each has it").to_owned();
    let of = |item: &Value| {
        let refused = ["subject", "code", "limit", "route"].map(|name| text(item, name));
        (refused, item["count"].as_i64().expect("a number"))
    };
    let all = page["items"].as_array().expect("a list").iter().map(of);
    all.filter(|([_, code, ..], _)| code != "policy-unavailable").collect()
}

fn refusing() -> Value {
    let mut policy = policy::tiers(json!({
        "free": {"limits": [policy::quota(3), {"name": "large", "size": 100}]},
        "anon": {"limits": [{"name": "trial", "meter": "calls", "quota": 2, "per": "month"}]},
        "pro": {"features": ["export"]},
    }));
    policy["anonymous"] = json!({"tier": "anon", "trusted_hops": 1});
    policy["routes"] = json!([
        {"name": "export", "path": "/export", "features": ["export"], "charges": {"calls": 1}},
        {"name": "maybe", "path": "/maybe", "auth": "optional", "charges": {"calls": 1}},
        {"name": "all", "path": "/a", "charges": {"calls": 1}},
        {"name": "watched", "path": "/watched", "enforcement": "shadow", "features": ["export"], "charges": {"calls": 1}},
    ]);
    policy
}

/// Callers of all kinds at every connection; what is refused is tallied.
fn call_all(stage: &Stage, tally: &mut Tally) {
    let (alice, bob) = (token::of("alice"), token::of("bob"));
    let expired = Token::of("alice").claim("exp", json!(now_s() - 3_600)).sign();
    let connections = || stage.edges().into_iter().flat_map(|edge| (0..CONNECTIONS).map(|_| edge.client()));
    let mut clients: Vec<Client> = connections().collect();
    for client in &mut clients {
        // Who they are is not known.
        tally.add(&client.request("GET", "/a").send(), "", "");
        tally.add(&client.get("/a", "x.y.z"), "", "");
        tally.add(&client.get("/export", &expired), "", "");
        let from = client.request("GET", "/maybe").header("x-forwarded-for", "198.51.100.7");
        tally.add(&from.send(), "anon:198.51.100.7", "maybe");
        // Who they are is.
        for (user, token) in [("user:alice", &alice), ("user:bob", &bob)] {
            tally.add(&client.get("/a", token), user, "all");
            tally.add(&client.get("/export", token), user, "export");
        }
        let large = client.request("POST", "/a").token(&bob).body("x".repeat(101));
        tally.add(&large.send(), "user:bob", "all");
        // Refused by the tier and, soon, by the quota; but only in shadow.
        client.get("/watched", &alice).expect(200);
    }
}

#[test]
fn refusals_at_two_edges_are_told_by_subject_code_limit_and_route_to_the_last_one() {
    let mut stage = Stage::start(Scene::new(), &refusing());
    let mut tally = Tally::default();
    stage.edges().iter().for_each(|_| tally.add_start());
    call_all(&stage, &mut tally);
    for code in [
        "token-missing",
        "token-malformed",
        "token-expired",
        "feature-required",
        "quota-exceeded",
        "size-exceeded",
    ] {
        assert!(tally.of(code) >= 10, "{code}: {:?}", tally.0);
    }
    wait::until_equal("each refusal is told", SOON, &tally.0, || told(&stage, None));
    // In shadow there were as many.
    let watched = stage.upstream.seen().into_iter().filter(|seen| seen.message.start.contains("/watched"));
    let marks: Vec<_> = watched.filter_map(|seen| seen.message.header("x-tollgate-shadow")).collect();
    assert!(
        marks.len() == 2 * CONNECTIONS && marks.iter().all(|mark| mark.contains("feature-required")),
        "{marks:?}"
    );

    // Another edge in the place of one counts anew, beside what the one has told.
    stage.one.process().kill();
    stage.one = stage.control_plane.edge(&stage.scene, "one-again", stage.upstream.port());
    tally.add_start();
    call_all(&stage, &mut tally);
    wait::until_equal("each refusal is told again", SOON, &tally.0, || told(&stage, None));
    // And so it stays, however often edges tell it again.
    wait::throughout(std::time::Duration::from_secs(5), || assert_eq!(told(&stage, None), tally.0));

    let of_bob: BTreeMap<_, _> = tally
        .0
        .iter()
        .filter(|([subject, ..], _)| subject == "user:bob")
        .map(|(at, n)| (at.clone(), *n))
        .collect();
    assert_eq!(told(&stage, Some("user:bob")), of_bob);
    assert!(of_bob.len() >= 3, "{of_bob:?}");
    stage.assert_no_trap();
}
