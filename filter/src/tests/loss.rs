//! What is promised when the control plane, the network, a worker or a clock fails.

use serde_json::json;

use super::world::Net;
use super::*;

const EXCEEDED: &str = "429 quota-exceeded";
const LOST: &str = "503 control-plane-unavailable";
/// Start of the day in which tests begin.
const MIDNIGHT_MS: i64 = START_MS - 12 * 3_600_000;
const BROKEN: [Net; 5] = [Net::Dead, Net::Refused, Net::Deaf, Net::Status(503), Net::Garbage];

fn open(mut policy: Value) -> Value {
    policy["on_control_plane_loss"] = json!("open");
    policy
}

#[test]
fn at_first_sight_without_a_control_plane_a_closed_policy_refuses() {
    for net in BROKEN.into_iter().chain([Net::Status(401), Net::Status(413)]) {
        let mut w = world(&daily(5));
        w.net = net;
        let sending = w.ask(0, "alice", "/x");
        w.run(2_100);
        assert_eq!(w.shown(sending), LOST, "{net:?}");
        assert_eq!(w.answer(sending).unwrap().headers["retry-after"], "1");
        // It comes back by itself.
        w.net = Net::Fine(4);
        w.run(1_200);
        assert_eq!(w.admitted(&[0, 1], "alice", "/x", 8), (5, vec![EXCEEDED.to_owned()]), "{net:?}");
        w.run(3_000);
        assert_eq!(w.plane.billed("user:alice", "calls"), 5, "{net:?}");
    }
}

#[test]
fn calls_that_cannot_be_sent_are_losses() {
    let mut w = world(&daily(5));
    w.seats[0].host.refuses_calls.set(true);
    assert_eq!(w.get(0, "alice", "/x"), LOST);
    w.seats[0].host.refuses_calls.set(false);
    w.run(1_000);
    assert_eq!(w.get(0, "alice", "/x"), "pass");
}

#[test]
fn at_first_sight_without_a_control_plane_an_open_policy_admits_and_tells_later() {
    for net in BROKEN {
        let mut w = world(&open(daily(5)));
        w.net = net;
        let sending = w.ask(0, "alice", "/x");
        w.run(2_100);
        assert!(w.has_passed(sending), "{net:?}");
        let decision =
            w.look(sending, |s| s.headers.iter().any(|(n, v)| n == "x-tollgate-decision" && v == b"open"));
        assert!(decision, "the upstream can tell that nobody counted");
        w.upstream(sending, 200);
        assert_eq!(w.admitted(&[0, 1], "alice", "/x", 6).0, 6);
        w.net = Net::Fine(4);
        w.run(4_000);
        assert_eq!(w.plane.billed("user:alice", "calls"), 7, "{net:?}");
        assert_eq!(w.get(1, "alice", "/x"), EXCEEDED, "{net:?}");
    }
}

#[test]
fn an_open_policy_does_not_say_that_a_subscription_is_missing_which_nobody_could_look_up() {
    let mut policy = open(daily(5));
    policy["default_tier"] = json!(null);
    let mut w = world(&policy);
    w.net = Net::Refused;
    assert_eq!(w.get(0, "alice", "/x"), LOST);
    let mut w = world(&open(daily(5)));
    w.net = Net::Refused;
    assert_eq!(w.get(0, "alice", "/export"), LOST);
}

#[test]
fn a_lease_goes_on_without_the_control_plane_until_it_runs_out_and_the_edge_recovers() {
    let mut w = world(&daily(1_000));
    w.get(0, "alice", "/x");
    w.run(2_000);
    w.net = Net::Dead;
    let mut passed = 1;
    for _ in 0..10 {
        passed += w.admitted(&[0, 1], "alice", "/x", 2).0;
        w.run(2_000);
    }
    assert_eq!(passed, 21);
    w.run(12_000);
    assert_eq!(w.get(0, "alice", "/x"), LOST);
    w.run(60_000);
    assert_eq!(w.get(1, "alice", "/x"), LOST);
    // The control plane has closed the session by now. Nothing is lost, and the limit holds.
    w.net = Net::Fine(4);
    w.run(5_000);
    assert_eq!(w.plane.billed("user:alice", "calls"), 21);
    passed += w.admitted(&[0, 1], "alice", "/x", 1_000).0;
    w.run(5_000);
    assert_eq!(passed, 1_000);
    assert_eq!(w.plane.billed("user:alice", "calls"), 1_000);
    assert_eq!(w.plane.open_sessions(), 1);
}

#[test]
fn a_session_that_the_control_plane_closed_is_told_to_its_end_and_followed_by_another() {
    let mut w = world(&daily(50));
    for user in ["alice", "bob", "carol"] {
        assert_eq!(w.admitted(&[0, 1], user, "/x", 20).0, 20);
    }
    w.plane.close_all();
    // Workers hear of the new session at different moments.
    let mut passed = 20;
    for _ in 0..60 {
        passed += w.admitted(&[1, 0], "alice", "/x", 1).0;
        w.run(7);
    }
    w.run(30_000);
    passed += w.admitted(&[1, 0], "alice", "/x", 60).0;
    assert_eq!(passed, 50);
    assert_eq!(w.plane.open_sessions(), 1);
    w.run(3_000);
    assert_eq!(w.plane.billed("user:alice", "calls"), 50);
    assert_eq!(w.admitted(&[0, 1], "bob", "/x", 60).0, 30);
}

#[test]
fn a_worker_that_has_not_heard_of_a_new_session_does_not_end_it() {
    // Workers look for a new session four times a second: each moment between is tried.
    for phase_ms in (0..250).step_by(20) {
        not_heard_of(phase_ms);
    }
}

fn not_heard_of(phase_ms: u64) {
    let mut w = world(&daily(100));
    w.get(0, "alice", "/x");
    w.get(1, "bob", "/x");
    w.run(1_500 + phase_ms);
    w.plane.close_all();
    // The first worker learns it; its record of alice begins anew.
    let news = w.ask(0, "carol", "/x");
    w.run(20);
    let again = w.ask(0, "alice", "/x");
    w.run(30);
    assert!(w.has_passed(news) && w.has_passed(again));
    // The second one asks for her at once, with its old idea of the session.
    let sending = w.ask(1, "alice", "/x");
    w.run(50);
    assert!(w.has_passed(sending));
    let mut sessions: Vec<&str> = w.plane.syncs.iter().map(|sync| sync.session.as_str()).collect();
    sessions.sort_unstable();
    sessions.dedup();
    assert_eq!(sessions.len(), 2, "a session that went on was reported as over");
    assert_eq!(w.plane.open_sessions(), 1);
}

#[test]
fn what_is_used_of_a_record_that_was_dropped_while_nobody_can_be_asked_counts_on_top() {
    let mut w = world(&open(daily(10)));
    assert_eq!(w.admitted(&[0, 1], "alice", "/x", 5).0, 5);
    // The hour ends, the subject rests, and its record goes.
    w.run(2 * 3_600_000);
    let committed = |w: &World| w.plane.committed("user:alice", "calls.day", MIDNIGHT_MS, w.now_ms());
    assert_eq!(committed(&w), 5, "idle units went back");
    w.net = Net::Dead;
    assert_eq!(w.admitted(&[0, 1], "alice", "/x", 3).0, 3);
    w.net = Net::Fine(4);
    w.run(6_000);
    assert!(committed(&w) >= 8, "five before, and three while nobody was there: {}", committed(&w));
    assert_eq!(w.admitted(&[0, 1], "alice", "/x", 8).0, 2);
    w.run(6_000);
    assert_eq!(w.plane.billed("user:alice", "calls"), 10);
}

#[test]
fn debts_are_not_forgotten_when_the_session_was_closed_in_between() {
    let mut w = world(&open(daily(10)));
    assert_eq!(w.admitted(&[0, 1], "alice", "/x", 3).0, 3);
    w.run(1_500);
    w.net = Net::Dead;
    assert_eq!(w.admitted(&[0, 1], "alice", "/x", 2).0, 2);
    w.run(60_000);
    w.net = Net::Fine(4);
    // The edge learns of the closed session by a question of the worker that does not lead, for another subject, and the
    // control plane is lost again before alice's numbers could be told.
    let other = usize::from(!w.seats[1].host.metrics.borrow().contains_key("tollgate.sync.age_ms"));
    let syncs = w.plane.syncs.len();
    let _ = w.ask(other, "bob", "/x");
    w.run(6);
    assert_eq!(w.plane.syncs.len(), syncs + 1);
    assert_eq!(w.plane.syncs[syncs].subjects[0].subject, "user:bob");
    w.net = Net::Refused;
    w.run(300);
    assert_eq!(w.admitted(&[0, 1], "alice", "/x", 2).0, 2);
    w.net = Net::Fine(4);
    w.run(30_000);
    assert_eq!(w.plane.billed("user:alice", "calls"), 7);
    assert_eq!(w.admitted(&[0, 1], "alice", "/x", 5).0, 3);
}

#[test]
fn another_worker_takes_over_from_a_leader_that_is_gone() {
    let mut w = world(&daily(100));
    for user in 0..5 {
        assert_eq!(w.admitted(&[0, 1], &format!("u{user}"), "/x", 4).0, 4);
    }
    let leader = usize::from(w.seats[1].host.metrics.borrow().contains_key("tollgate.sync.age_ms"));
    let other = 1 - leader;
    w.stop(leader);
    // Used after the leader's last report.
    for user in 0..5 {
        assert_eq!(w.admitted(&[other], &format!("u{user}"), "/x", 4).0, 4);
    }
    w.run(5_000);
    for user in 0..5 {
        assert_eq!(w.plane.billed(&format!("user:u{user}"), "calls"), 8);
    }
    // What only the leader knew of is found in a while: idle units go back.
    w.run(60_000);
    let window = START_MS - 12 * 3_600_000;
    for user in 0..5 {
        assert_eq!(w.plane.committed(&format!("user:u{user}"), "calls.day", window, w.now_ms()), 8);
    }
}

#[test]
fn usage_that_only_a_dead_leader_knew_of_is_told_by_the_next() {
    let mut w = world(&daily(100));
    let leader = usize::from(w.seats[1].host.metrics.borrow().contains_key("tollgate.sync.age_ms"));
    assert_eq!(w.get(leader, "alice", "/x"), "pass");
    w.stop(leader);
    w.run(30_000);
    assert_eq!(w.plane.billed("user:alice", "calls"), 1);
}

#[test]
fn a_trap_in_the_middle_of_requests_leaves_limits_intact() {
    let mut w = world(&daily(10));
    let sent: Vec<Sending> = (0..4).map(|_| w.ask(0, "alice", "/x")).collect();
    w.run(50);
    assert!(sent.iter().all(|sending| w.has_passed(*sending)));
    let _ = w.ask(0, "bob", "/x");
    w.trap(0);
    w.run(500);
    assert_eq!(w.admitted(&[0, 1], "alice", "/x", 12).0, 6);
    w.run(5_000);
    assert_eq!(w.plane.billed("user:alice", "calls"), 10);
    assert_eq!(w.get(1, "bob", "/x"), "pass");
}

#[test]
fn a_contended_record_is_refused_and_then_usable_again() {
    let mut w = world(&daily(10));
    assert_eq!(w.get(0, "alice", "/x"), "pass");
    w.proxies[0].contended.set(proxy::is_bucket);
    assert_eq!(w.get(0, "alice", "/x"), "503 gateway-busy");
    assert_eq!(w.get(1, "bob", "/x"), "503 gateway-busy");
    w.run(10_000);
    w.proxies[0].contended.set(|_| false);
    w.run(3_000);
    assert_eq!(w.admitted(&[0, 1], "alice", "/x", 10).0, 9);
    assert_eq!(w.get(1, "bob", "/x"), "pass");
    w.run(3_000);
    assert_eq!(w.plane.billed("user:alice", "calls"), 10);
}

#[test]
fn nothing_hangs_when_no_swap_succeeds_and_nothing_passes() {
    let mut w = World::new(&daily(10), &[2]);
    w.proxies[0].contended.set(|_| true);
    w.trap(0);
    w.trap(1);
    let sending = w.ask(0, "alice", "/x");
    w.run(3_000);
    assert!(w.answer(sending).is_some_and(|answer| answer.status == 503));
    w.proxies[0].contended.set(|_| false);
    w.run(3_000);
    assert_eq!(w.get(0, "alice", "/x"), "pass");
}

#[test]
fn a_wall_clock_that_jumps_does_not_add_units() {
    for jump_ms in [3_600_000, -3_600_000, 30_000, -30_000, 40 * 86_400_000, -40 * 86_400_000] {
        let mut w = world(&daily(10));
        assert_eq!(w.admitted(&[0, 1], "alice", "/x", 4).0, 4);
        let offset_ms = w.proxies[0].wall_offset_ms.get();
        w.proxies[0].wall_offset_ms.set(offset_ms + jump_ms);
        w.run(250);
        let during = w.admitted(&[0, 1], "alice", "/x", 3);
        w.run(20_000);
        w.proxies[0].wall_offset_ms.set(offset_ms);
        w.run(250);
        let after = w.admitted(&[0, 1], "alice", "/x", 20);
        assert_eq!(after.1, [EXCEEDED], "{jump_ms}");
        let admitted = 4 + during.0 + after.0;
        // A window that the edge took for over is not given back what the edge held of it.
        let forfeits = jump_ms > 86_400_000;
        assert!(admitted == 10 || (forfeits && admitted < 10), "{jump_ms} {during:?} {after:?}");
        w.run(3_000);
        let billed = w.plane.billed("user:alice", "calls");
        assert_eq!(billed, (4 + during.0 + after.0) as u64, "{jump_ms}");
    }
}

#[test]
fn those_who_wait_are_bounded_in_number_and_time() {
    let mut w = world(&daily(10));
    w.net = Net::Dead;
    let sent: Vec<Sending> = (0..2_100).map(|n| w.ask(0, &format!("u{}", n % 7), "/x")).collect();
    let busy = sent.iter().filter(|sending| w.shown(**sending) == "503 gateway-busy").count();
    assert_eq!(busy, 100);
    w.run(2_100);
    assert!(sent.iter().all(|sending| !w.is_waiting(*sending)));
}

#[test]
fn a_lost_report_does_not_fail_requests_that_wait_for_another() {
    let mut w = world(&daily(100));
    w.get(0, "alice", "/x");
    w.run(1_500);
    // One question is lost; the next one is on its way for long.
    w.net = Net::Refused;
    let first = w.ask(0, "bob", "/x");
    w.run(1);
    w.net = Net::Fine(600);
    w.run(1);
    assert!(w.is_waiting(first) || w.shown(first) == LOST);
    w.run(600);
    let second = w.ask(0, "carol", "/x");
    w.run(100);
    w.net = Net::Refused;
    let third = w.ask(0, "dave", "/x");
    w.run(100);
    assert_eq!(w.shown(third), LOST);
    w.net = Net::Fine(600);
    w.run(600);
    assert!(w.has_passed(second), "{}", w.shown(second));
}

/// How many syncs there are while one request waits its whole time.
fn syncs_of_one_wait(mut w: World, expected: &str) -> usize {
    let before = w.plane.syncs.len();
    assert_eq!(w.get(0, "alice", "/x"), expected);
    w.plane.syncs.len() - before
}

#[test]
fn a_request_that_waits_in_vain_does_not_ask_in_a_busy_loop() {
    let mut w = world(&daily(100));
    w.plane.closes_always = true;
    let syncs = syncs_of_one_wait(w, LOST);
    assert!(syncs < 100, "{syncs}");
    // An edge whose clock is far off wants units of windows that are not granted now.
    let w = world(&daily(100));
    let offset_ms = w.proxies[0].wall_offset_ms.get();
    w.proxies[0].wall_offset_ms.set(offset_ms + 86_400_000);
    let mut w = w;
    w.run(1_000);
    let syncs = syncs_of_one_wait(w, EXCEEDED);
    assert!(syncs < 100, "{syncs}");
}

#[test]
fn a_policy_that_cannot_be_read_is_not_fetched_or_watched_in_a_busy_loop() {
    let mut w = world(&daily(100));
    w.plane.breaks_policies = true;
    w.plane.apply(serde_json::from_value(daily(200)).unwrap());
    let (watches, policies) = (w.plane.watches, w.plane.policies);
    w.run(10_000);
    assert!(w.plane.watches - watches < 10, "{}", w.plane.watches - watches);
    assert!(w.plane.policies - policies < 30, "{}", w.plane.policies - policies);
    assert_eq!(w.get(0, "alice", "/x"), "pass");
}

#[test]
fn usage_that_a_worker_took_to_its_grave_is_found() {
    let mut w = world(&daily(100));
    let leader = usize::from(w.seats[1].host.metrics.borrow().contains_key("tollgate.sync.age_ms"));
    let sending = w.ask(1 - leader, "alice", "/x");
    w.run(10);
    assert!(w.has_passed(sending));
    w.trap(1 - leader);
    w.run(300_000);
    assert_eq!(w.plane.billed("user:alice", "calls"), 1);
}

#[test]
fn units_of_a_lease_that_ran_out_are_not_used_after_a_long_wait() {
    let mut w = World::new(&daily(10), &[2]);
    // Each answer comes when its lease is over.
    w.plane.lease_ttl_ms = 2;
    w.run(1_000);
    assert_eq!(w.get(0, "alice", "/x"), LOST);
}
