//! Who pays, over two edges of one control plane: organisations with limits for each member, and subjects that an
//! administrator lets pass for a while.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tollgate_tests::client::Client;
use tollgate_tests::envoy::EDGE_TOKEN;
use tollgate_tests::moment;
use tollgate_tests::policy;
use tollgate_tests::scene::Scene;
use tollgate_tests::stage::{Stage, count};
use tollgate_tests::token::{self, Token, now_s};
use tollgate_tests::wait::{self, SOON};

/// What is promised is a second, with room for a machine that does other things.
const FELT_WITHIN: Duration = Duration::from_millis(1_500);

/// Tiers of organisations: so many calls for all, and so many for each member.
fn organisations(tiers: &[(&str, u64, u64)]) -> Value {
    let tier = |(name, all, each): &(&str, u64, u64)| {
        let each = json!({"meter": "calls", "quota": each, "per": "month", "scope": "member"});
        let all = json!({"meter": "calls", "quota": all, "per": "month"});
        ((*name).to_owned(), json!({"limits": [all, each]}))
    };
    let mut policy = policy::tiers(Value::Object(tiers.iter().map(tier).collect()));
    policy["issuers"][0]["claims"] = json!({"organization": "org"});
    policy
}

fn member(user: &str, organisation: &str) -> String {
    Token::of(user).claim("org", json!(organisation)).sign()
}

/// Calls of 4 callers at both edges, and then on until so many were admitted since the first; answers the limit that
/// refused last.
#[track_caller]
fn use_all(stage: &Stage, token: &str, units: usize) -> String {
    let calls = |stage: &Stage, each: usize| {
        let calls =
            |client: &mut Client| (0..each).map(|_| client.get("/a", token).status).collect::<Vec<_>>();
        stage.in_parallel(4, |_, client| calls(client)).concat()
    };
    let mut all = calls(stage, 4);
    wait::until_equal("every unit can be used", SOON, &units, || {
        if count(&all, 200) < units {
            all.extend(calls(stage, 1));
        }
        count(&all, 200)
    });
    let refused =
        stage.clients().map(|mut client| client.get("/a", token).expect_problem(429, "quota-exceeded"));
    refused[0].json()["limit"].as_str().unwrap_or_default().to_owned()
}

#[test]
fn members_share_their_organisations_pool_and_each_has_a_limit_of_its_own() {
    let policy = organisations(&[("free", 12, 5), ("large", 100, 5)]);
    let mut stage = Stage::start(Scene::new(), &policy);
    let [alice, bob, eve] = ["alice", "bob", "eve"].map(|user| member(user, "acme"));

    assert_eq!(use_all(&stage, &alice, 5), "calls.month.member");
    assert_eq!(use_all(&stage, &bob, 5), "calls.month.member");
    // Of the pool two are left, though a member may use five.
    assert_eq!(use_all(&stage, &eve, 2), "calls.month");
    assert_eq!(stage.upstream.count(), 12);
    let charged = |seen: &tollgate_tests::upstream::Seen| seen.message.header("x-tollgate-subject");
    assert!(stage.upstream.seen().iter().all(|seen| charged(seen).as_deref() == Some("org:acme")));
    stage.control_plane.wait_until_used("org:acme", 12);
    stage.control_plane.wait_until_standing("org:acme", "calls.month", 12);
    // What the organisation refused took nothing of the member.
    stage.control_plane.wait_until_standing("member:acme%2Feve", "calls.month.member", 2);

    // With a larger pool each goes on to what is its own, and no further.
    stage.control_plane.subscribe("org:acme", "large");
    wait::until_equal("the upgrade is felt", SOON, &200, || stage.two.client().get("/a", &eve).status);
    assert_eq!(use_all(&stage, &eve, 2), "calls.month.member");
    assert_eq!(use_all(&stage, &alice, 0), "calls.month.member");
    assert_eq!(stage.upstream.count(), 15);
    stage.control_plane.wait_until_used("org:acme", 15);
    // The same user in another organisation, and alone, is somebody else.
    let other = stage.upstream.count();
    assert_eq!(use_all(&stage, &member("alice", "other"), 5), "calls.month.member");
    assert_eq!(use_all(&stage, &token::of("alice"), 12), "calls.month");
    assert_eq!(stage.upstream.count(), other + 17);
    stage.assert_no_trap();
}

#[test]
fn an_administrator_lets_one_subject_pass_until_a_moment_and_nobody_else_can() {
    let mut policy = policy::free(json!([policy::quota(2)]));
    policy["routes"] = json!([{"path": "/export", "features": ["export"], "charges": {"calls": 1}}]);
    policy["tiers"]["pro"] = json!({"features": ["export"]});
    let mut stage = Stage::start(Scene::alone(), &policy);
    let (alice, bob) = (token::of("alice"), token::of("bob"));
    for token in [&alice, &bob] {
        for client in &mut stage.clients() {
            // Units that the other edge holds and does not use come within moments.
            wait::until_equal("a unit is used", SOON, &200, || client.get("/a", token).status);
        }
        for client in &mut stage.clients() {
            client.get("/a", token).expect_problem(429, "quota-exceeded");
        }
    }
    let path = "/v1/subjects/user:alice/bypass";
    let until = |end_s: i64| {
        let (day, second) = (end_s / 86_400, end_s % 86_400);
        let (year, month, day) = civil(day);
        let (hour, minute, second) = (second / 3_600, second / 60 % 60, second % 60);
        let at = format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z");
        json!({"expires_at": at, "reason": "a load test"})
    };

    // Neither the user, nor an edge, nor a header.
    for token in [alice.as_str(), EDGE_TOKEN, ""] {
        let mut client = Client::new(stage.control_plane.port());
        let status = client.request("PUT", path).token(token).json(&until(now_s() + 60)).send().status;
        assert!(matches!(status, 401 | 403), "{status}");
    }
    for (name, value) in [("x-tollgate-decision", "bypass"), ("x-tollgate-bypass", "true")] {
        let asked = stage.one.client().request("GET", "/a").token(&alice).header(name, value).send();
        asked.expect_problem(429, "quota-exceeded");
    }

    let felt = |status: u16| {
        for mut client in stage.clients() {
            wait::until_equal("the bypass is felt", SOON, &status, || client.get("/a", &alice).status);
        }
    };
    wait::mostly_within("the bypass is felt", FELT_WITHIN, || {
        let granted = Instant::now();
        stage.control_plane.ask("PUT", path, Some(&until(now_s() + 60))).expect(200);
        felt(200);
        let took = granted.elapsed();
        stage.control_plane.ask("DELETE", path, None).expect(204);
        felt(429);
        took
    });
    let ends_s = now_s() + 6;
    stage.control_plane.ask("PUT", path, Some(&until(ends_s))).expect(200);
    felt(200);
    assert_eq!(stage.upstream.last().header("x-tollgate-decision").as_deref(), Some("bypass"));
    let before = stage.upstream.count();
    for mut client in stage.clients() {
        (0..5).for_each(|_| drop(client.get("/a", &alice).expect(200)));
        client.get("/export", &alice).expect(200);
        client.get("/a", &bob).expect_problem(429, "quota-exceeded");
    }
    assert_eq!(stage.upstream.count(), before + 12);

    // It ends at its moment, at edges that nobody tells.
    stage.control_plane.process().signal("STOP");
    moment::assert_ends_at(&stage.edges(), "/a", &alice, ends_s * 1_000);
    stage.control_plane.process().signal("CONT");
    for mut client in stage.clients() {
        wait::until_equal("limits hold again", SOON, &429, || client.get("/a", &alice).status);
    }
    // What was used meanwhile is billed all the same.
    stage.control_plane.wait_until_used("user:alice", stage.upstream.count() - 2);
    stage.assert_no_trap();
}

/// The date of a day since 1970 (years begin in March, so that a leap day is a year's last).
fn civil(day: i64) -> (i64, i64, i64) {
    let day = day + 719_468;
    let (era, of_era) = (day.div_euclid(146_097), day.rem_euclid(146_097));
    let year = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153;
    let date = (year + era * 400, month + 3, of_year - (153 * month + 2) / 5 + 1);
    if month < 10 { date } else { (date.0 + 1, month - 9, date.2) }
}
