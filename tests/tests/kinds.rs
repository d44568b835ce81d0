//! Kinds of limit that hold over two edges of one control plane: token buckets, soft quotas and windows of every length;
//! and how a limit is watched only, or opened when the control plane is lost. Capacities, requests in flight, subjects and
//! bodies have files of their own.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tollgate_tests::control_plane::ControlPlane;
use tollgate_tests::envoy::Options;
use tollgate_tests::moment::{self, Admitted};
use tollgate_tests::policy;
use tollgate_tests::relay::Relay;
use tollgate_tests::scene::Scene;
use tollgate_tests::stage::{Stage, count};
use tollgate_tests::token::{self, now_s};
use tollgate_tests::upstream::Upstream;
use tollgate_tests::wait::{self, SOON};

/// An edge's clock counts whole milliseconds.
const GRAIN: Duration = Duration::from_millis(10);

/// Calls of 8 callers at two edges for as long as `goes_on`, with a pause after a refusal; answers what was admitted.
fn call_while(stage: &Stage, token: &str, goes_on: impl Fn() -> bool + Sync) -> Vec<Admitted> {
    let calls = stage.in_parallel(8, |_, client| {
        let mut admitted = Vec::new();
        while goes_on() {
            match Admitted::call(client, "/a", token) {
                (200, call) => admitted.extend(call),
                (429, _) => std::thread::sleep(Duration::from_millis(20)),
                (status, _) => panic!("{status}"),
            }
        }
        admitted
    });
    calls.concat()
}

#[test]
fn a_token_bucket_admits_its_burst_and_its_rate_and_fills_again_in_a_pause() {
    const BURST: usize = 20;
    const PER_S: f64 = 10.0;
    const TIME: Duration = Duration::from_secs(5);
    let bucket = json!({"meter": "calls", "rate": 10, "per": "1s", "burst": BURST});
    let mut stage = Stage::start(Scene::alone(), &policy::free(json!([bucket])));
    let token = token::of("alice");

    let end = Instant::now() + TIME;
    let mut calls = call_while(&stage, &token, || Instant::now() < end);
    assert_eq!(calls.len(), stage.upstream.count());
    // It refills: its burst and half of what its rate brings in the time, at least.
    assert!(calls.len() >= BURST + 25, "only {} calls in {TIME:?}", calls.len());
    // When nobody calls for as long as an empty bucket takes to fill, the burst is there again: so many calls come sooner
    // than the rate brings them.
    let filled = Duration::from_secs_f64(BURST as f64 / PER_S);
    wait::mostly_within("a burst after a pause", filled - Duration::from_millis(500), || {
        let before = stage.upstream.count();
        wait::throughout(filled + Duration::from_millis(500), || assert_eq!(stage.upstream.count(), before));
        let start = Instant::now();
        let is_due = || start.elapsed() < SOON;
        calls.extend(call_while(&stage, &token, || stage.upstream.count() < before + BURST && is_due()));
        start.elapsed()
    });

    // And in no interval anywhere is it more than the burst and what its rate brings in that time.
    for (time, calls) in moment::within_any_time(&calls) {
        let most = BURST as f64 + PER_S * (time + GRAIN).as_secs_f64();
        assert!(calls as f64 <= most, "{calls} calls in {time:?}");
    }
    stage.control_plane.wait_until_used("user:alice", calls.len());
    stage.assert_no_trap();
}

#[test]
fn a_soft_quota_goes_on_beyond_its_maximum_without_waiting_and_bills_the_overage() {
    let soft = json!({"name": "calls", "meter": "calls", "quota": 10, "per": "month", "soft": true});
    let mut stage = Stage::start(Scene::alone(), &policy::free(json!([soft])));
    let token = token::of("alice");
    // What is known of the caller at both edges; from then on nobody need be asked.
    for mut client in stage.clients() {
        client.get("/a", &token).expect(200);
    }
    stage.control_plane.process().signal("STOP");
    let slowest = stage.in_parallel(8, |_, client| {
        let call = |client: &mut tollgate_tests::client::Client| {
            let start = Instant::now();
            client.get("/a", &token).expect(200);
            start.elapsed()
        };
        (0..5).map(|_| call(client)).max().unwrap_or_default()
    });
    stage.control_plane.process().signal("CONT");
    let slowest = slowest.into_iter().max().unwrap_or_default();
    // Who waits for the control plane waits for as long as a call to it may take.
    assert!(slowest < Duration::from_millis(1_400), "a call took {slowest:?}");

    stage.control_plane.wait_until_standing("user:alice", "calls", 42);
    // The application learns which calls are extra, as soon as an edge knows for certain.
    let extra = || stage.upstream.last().header("x-tollgate-overage");
    for mut client in stage.clients() {
        wait::until_equal("the application is told", SOON, &Some("calls".to_owned()), || {
            client.get("/a", &token).expect(200);
            extra()
        });
        let told = client.get("/a", &token).expect(200).header("ratelimit");
        assert!(told.as_deref().is_some_and(|told| told.starts_with("\"calls\";r=0;")), "{told:?}");
    }
    // All of it is counted, and what is beyond the maximum counted apart.
    let all = stage.upstream.count();
    stage.control_plane.wait_until_used("user:alice", all);
    stage.control_plane.wait_until_standing("user:alice", "calls", all as u64);
    let standing = stage.control_plane.standing("user:alice", "calls");
    assert_eq!((&standing["overage"], &standing["soft"]), (&json!(all - 10), &json!(true)), "{standing}");
    stage.assert_no_trap();
}

/// Uses up a quota of 6 at both edges, and answers the header of the last refusal and how the limit stands.
fn use_up_window(stage: &Stage, user: &str, per: &str) -> (String, Value) {
    let (token, subject) = (token::of(user), format!("user:{user}"));
    let before = stage.upstream.count();
    let mut clients = stage.clients();
    wait::until_equal("all units can be used", SOON, &6, || {
        clients.iter_mut().for_each(|client| drop(client.get("/a", &token)));
        stage.upstream.count() - before
    });
    let refused = clients.map(|mut client| client.get("/a", &token).expect_problem(429, "quota-exceeded"));
    assert_eq!(stage.upstream.count() - before, 6);
    stage.control_plane.wait_until_standing(&subject, &format!("calls.{per}"), 6);
    let standing = stage.control_plane.standing(&subject, &format!("calls.{per}"));
    (refused[0].header("ratelimit").unwrap_or_default(), standing)
}

/// Days of a month, as (year, month, day), of `2026-11-30T…`.
fn date(at: &Value) -> (i64, i64, i64) {
    let text = at.as_str().unwrap_or_default();
    let part = |range: std::ops::Range<usize>| text.get(range).and_then(|part| part.parse().ok());
    let date = (part(0..4), part(5..7), part(8..10));
    assert_eq!(text.get(10..), Some("T00:00:00Z"), "{text}");
    (date.0.expect("a year"), date.1.expect("a month"), date.2.expect("a day"))
}

/// Unix seconds of a date's midnight: days counted from March, so that a leap day is a year's last.
fn seconds((year, month, day): (i64, i64, i64)) -> i64 {
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let days = 365 * year + year / 4 - year / 100 + year / 400 + (153 * month + 2) / 5 + day - 1;
    (days - 719_468) * 86_400
}

fn days_in(year: i64, month: i64) -> i64 {
    let (next_year, next_month) = if month == 12 { (year + 1, 1) } else { (year, month + 1) };
    (seconds((next_year, next_month, 1)) - seconds((year, month, 1))) / 86_400
}

#[test]
fn quotas_count_by_week_year_lifetime_and_a_billing_month_that_begins_on_the_31st() {
    let tier = |per: &str| json!({"limits": [{"meter": "calls", "quota": 6, "per": per}]});
    let mut stage = Stage::start(
        Scene::new(),
        &policy::tiers(json!({
            "free": tier("week"), "year": tier("year"), "lifetime": tier("lifetime"),
            "billing": tier("billing_month"),
        })),
    );
    // Of the header: how long until the units come back.
    let left = |told: &str| told.rsplit_once(";t=").and_then(|(_, left)| left.parse::<i64>().ok());
    let check = |told: &str, standing: &Value| {
        let (start, end) = (seconds(date(&standing["window_start"])), seconds(date(&standing["window_end"])));
        let now_s = now_s();
        assert!((start..end).contains(&now_s), "{standing}");
        let left = left(told).unwrap_or_else(|| panic!("no seconds are told: {told}"));
        assert!((0..=30).contains(&(left - (end - now_s))), "{left} s are told of {}", end - now_s);
        (start, end)
    };

    let (told, week) = use_up_window(&stage, "alice", "week");
    let (start, end) = check(&told, &week);
    // Monday is the fourth day after the first of 1970.
    assert_eq!((end - start, (start / 86_400 + 3) % 7), (7 * 86_400, 0), "{week}");

    stage.control_plane.subscribe("user:bob", "year");
    let (told, year) = use_up_window(&stage, "bob", "year");
    check(&told, &year);
    let (start, end) = (date(&year["window_start"]), date(&year["window_end"]));
    assert_eq!((start.1, start.2, end), (1, 1, (start.0 + 1, 1, 1)), "{year}");

    stage.control_plane.subscribe("user:carol", "lifetime");
    let (told, lifetime) = use_up_window(&stage, "carol", "lifetime");
    assert_eq!((left(&told), &lifetime["window_end"]), (None, &Value::Null), "{told} {lifetime}");

    // 2024-01-31: months that are shorter begin on their last day, and no month is left out.
    let anchor_ms = seconds((2024, 1, 31)) * 1_000;
    stage.control_plane.subscribe_as("user:dave", &json!({"tier": "billing", "anchor_ms": anchor_ms}));
    let (told, month) = use_up_window(&stage, "dave", "billing_month");
    check(&told, &month);
    let (start, end) = (date(&month["window_start"]), date(&month["window_end"]));
    for (year, month, day) in [start, end] {
        assert_eq!(day, days_in(year, month), "the billing month begins on a last day");
    }
    assert_eq!(end.0 * 12 + end.1, start.0 * 12 + start.1 + 1, "{month}");
    stage.assert_no_trap();
}

#[test]
fn a_policy_in_shadow_refuses_nobody_and_counts_whom_it_would_have_refused() {
    const CALLS: usize = 60;
    let mut policy = policy::free(json!([policy::quota(20), policy::rate(30, "1h")]));
    let mut stage = Stage::start(Scene::new(), &policy);
    policy["enforcement"] = json!("shadow");
    stage.control_plane.apply(&policy);
    // Not even one without a token is refused.
    stage.wait_everywhere("the policy is in shadow", |client| {
        client.request("GET", "/a").send().status == 200
    });
    assert_eq!(stage.upstream.last().header("x-tollgate-shadow").as_deref(), Some("token-missing"));
    let token = token::of("alice");
    let statuses = stage.in_parallel(6, |_, client| {
        (0..CALLS / 6).map(|_| client.get("/a", &token).status).collect::<Vec<_>>()
    });
    assert_eq!(statuses.concat(), [200; CALLS]);
    // An edge that is not sure does not say so; soon each is.
    for mut client in stage.clients() {
        let mark = || stage.upstream.last().header("x-tollgate-shadow");
        let both = Some("rate-exceeded,quota-exceeded".to_owned());
        wait::until_equal("the application is told", SOON, &both, || {
            client.get("/a", &token).expect(200);
            mark()
        });
    }
    let seen = stage.upstream.seen();
    let calls: Vec<_> = seen.iter().filter(|seen| seen.message.header("authorization").is_some()).collect();
    let marks: Vec<String> =
        calls.iter().filter_map(|seen| seen.message.header("x-tollgate-shadow")).collect();
    let marked = |code: &str| marks.iter().filter(|mark| mark.split(',').any(|part| part == code)).count();
    assert!(marked("quota-exceeded") <= calls.len() - 20, "{marks:?}");
    assert!(marked("rate-exceeded") <= calls.len() - 30, "{marks:?}");
    for code in ["quota-exceeded", "rate-exceeded"] {
        let expected = i64::try_from(marked(code)).expect("it is small");
        wait::until_equal(&format!("the metrics count {code}"), SOON, &expected, || {
            stage.edges().map(|edge| edge.decided("shadow", code, "free")).iter().sum()
        });
        assert_eq!(stage.edges().map(|edge| edge.decided("deny", code, "free")), [0, 0]);
    }
    stage.control_plane.wait_until_used("user:alice", calls.len());
    // Enforced from now on, both edges refuse.
    policy["enforcement"] = json!("enforce");
    stage.control_plane.apply(&policy);
    for mut client in stage.clients() {
        wait::until_equal("it is enforced", SOON, &429, || client.get("/a", &token).status);
    }
    stage.assert_no_trap();
}

#[test]
fn while_the_control_plane_is_lost_open_limits_go_on_and_closed_ones_keep_to_what_is_held() {
    const QUOTA: usize = 40;
    let scene = Scene::new();
    let upstream = Upstream::start();
    let control_plane = ControlPlane::start(&scene);
    let limit = |meter: &str, loss: &str| json!({"name": meter, "meter": meter, "quota": QUOTA, "per": "month", "on_control_plane_loss": loss});
    let mut policy = policy::free(json!([limit("calls", "closed"), limit("pages", "open")]));
    policy["meters"] = json!({"calls": {}, "pages": {}});
    policy["routes"] = json!([
        {"path": "/open", "charges": {"pages": 1}},
        {"path": "/closed", "charges": {"calls": 1}},
        {"path": "/both", "charges": {"calls": 1, "pages": 1}},
    ]);
    control_plane.apply(&policy);
    let relay = Relay::to(control_plane.port());
    let mut one = Options::connected(relay.port(), upstream.port()).name("one").start(&scene);
    one.wait_for_policy();
    let mut two = control_plane.edge(&scene, "two", upstream.port());
    let (token, mut client) = (token::of("alice"), one.client());
    client.get("/both", &token).expect(200);
    two.client().get("/both", &token).expect(200);
    let billed = |meter: &str| control_plane.used_of("user:alice", meter);
    wait::until_equal("both edges have reported", SOON, &[2, 2], || ["calls", "pages"].map(billed));

    relay.cut();
    // Of the open one more than there is at all; of the closed one what the edge holds, and then 503.
    for _ in 0..QUOTA + 5 {
        client.get("/open", &token).expect(200);
    }
    let statuses: Vec<u16> = (0..QUOTA).map(|_| client.get("/closed", &token).status).collect();
    let within = count(&statuses, 200);
    assert!((1..QUOTA).contains(&within), "{statuses:?}");
    assert_eq!(count(&statuses, 503), QUOTA - within, "{statuses:?}");
    client.get("/closed", &token).expect_problem(503, "control-plane-unavailable");
    // Where both are touched the closed one decides, and nothing is taken of the open one.
    for _ in 0..3 {
        client.get("/both", &token).expect_problem(503, "control-plane-unavailable");
    }
    client.get("/open", &token).expect(200);
    assert_eq!(upstream.last().header("x-tollgate-decision").as_deref(), Some("open"));
    // The other edge is not cut off, and knows nothing of the debt.
    two.client().get("/closed", &token).expect(200);

    relay.restore();
    let debt = [2 + within + 1, 2 + QUOTA + 6].map(|units| i64::try_from(units).expect("it is small"));
    wait::until_equal("the debt is reported", SOON, &debt, || ["calls", "pages"].map(billed));
    for edge in [&one, &two] {
        wait::until_equal("the open limit refuses again", SOON, &429, || {
            edge.client().get("/open", &token).status
        });
    }
    // Of the closed one every unit can still be used, and none besides.
    let mut clients = [one.client(), two.client()];
    let closed = || {
        let seen = upstream.seen();
        let of = |path: &str| seen.iter().filter(|seen| seen.message.start.contains(path)).count();
        of("/closed") + of("/both")
    };
    wait::until_equal("the rest of the closed limit can be used", SOON, &QUOTA, || {
        clients.iter_mut().for_each(|client| drop(client.get("/closed", &token)));
        closed()
    });
    clients.iter_mut().for_each(|client| drop(client.get("/closed", &token).expect(429)));
    assert_eq!(closed(), QUOTA);
    one.assert_no_trap();
    two.assert_no_trap();
}
