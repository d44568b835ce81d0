//! Request bodies that are awaited: with the proxy, or as copies, for which there is some room.

use serde_json::json;

use super::world::Net;
use super::*;
use crate::intake::ROOM_BYTES;

const BOUND: usize = 262_144;
const MIB: usize = 1 << 20;

/// Charges what the body says; 7 where it says nothing.
fn costs(over: &str) -> Value {
    let mut policy = daily(1_000);
    policy["bodies"] = json!({"json_bytes_max": BOUND, "over": over});
    policy["routes"] =
        json!([{"path": "/cost", "charges": {"calls": {"request_json": "/cost", "default": 7}}}]);
    policy
}

fn post(user: &str, length: Option<usize>) -> Headers {
    let mut headers = headers("/cost", &token(user));
    headers.push(match length {
        Some(length) => ("content-length".to_owned(), length.to_string().into_bytes()),
        None => ("transfer-encoding".to_owned(), b"chunked".to_vec()),
    });
    headers
}

fn body(bytes: usize) -> Vec<u8> {
    let mut body = br#"{"cost": 3, "x": ""#.to_vec();
    body.resize(bytes - 2, b'x');
    [&body[..], b"\"}"].concat()
}

#[test]
fn a_body_that_comes_faster_than_it_is_read_is_never_more_than_the_proxy_buffers() {
    for (over, passes) in [("unmetered", true), ("refuse", false)] {
        let mut w = world(&costs(over));
        assert_eq!(w.get(0, "alice", "/x"), "pass");
        let sending = w.send(0, post("alice", None));
        let whole = body(3 * MIB);
        w.request_body(sending, &whole[..200_000], false);
        // As much as the proxy reads at once.
        w.request_body(sending, &whole[200_000..200_000 + MIB], false);
        if passes {
            w.request_body(sending, &whole[200_000 + MIB..], true);
            w.run(100);
            assert!(w.look(sending, |stream| stream.request.passed == whole));
            w.upstream(sending, 200);
            w.run(2_000);
            assert_eq!(w.plane.billed("user:alice", "calls"), 1 + 7);
        } else {
            assert_eq!(w.answer(sending).unwrap().status, 413);
            w.end(sending);
        }
    }
}

#[test]
fn bodies_without_a_length_wait_as_copies_while_there_is_room_and_else_with_the_proxy() {
    let mut w = world(&costs("refuse"));
    let whole = body(BOUND);
    let (head, tail) = whole.split_at(BOUND - 1_000);
    let fit = ROOM_BYTES / head.len();
    // Twice: a body that is through, refused, or broken off gives its room back.
    for round in 0..2 {
        let streams: Vec<_> = (0..fit + 3)
            .map(|number| {
                let sending = w.send(0, post(&format!("u{round}-{number}"), None));
                for part in head.chunks(50_000) {
                    w.request_body(sending, part, false);
                }
                sending
            })
            .collect();
        let copied = |of: &Sending| w.look(*of, |stream| !stream.request.is_buffered);
        // The last ones' first parts fitted, and all of what followed did not.
        assert_eq!(streams.iter().filter(|of| copied(of)).count(), fit);
        assert!(copied(&streams[0]) && !copied(&streams[fit + 2]));
        // One that says its length needs no room.
        let declared = w.send(0, post("declared", Some(BOUND)));
        w.request_body(declared, head, false);
        assert!(w.look(declared, |stream| stream.request.is_buffered));
        w.end(declared);
        let worker = streams[0].worker;
        for (number, sending) in streams.into_iter().enumerate() {
            match number % 3 {
                0 => w.end(sending),
                1 => {
                    w.request_body(sending, &whole, false);
                    assert_eq!(w.answer(sending).unwrap().status, 413);
                    w.end(sending);
                }
                _ => {
                    w.request_body(sending, tail, true);
                    w.run(20);
                    assert!(w.look(sending, |stream| stream.request.passed == whole));
                    w.upstream(sending, 200);
                }
            }
        }
        w.run(2_000);
        for number in 0..fit + 3 {
            let billed = w.plane.billed(&format!("user:u{round}-{number}"), "calls");
            assert_eq!(billed, if number % 3 == 2 { 3 } else { 0 }, "{number}");
        }
        assert_eq!(w.room_of(worker), 0);
    }
}

#[test]
fn a_body_that_comes_before_the_first_policy_is_read_when_that_has_come() {
    let length = 100_000;
    for declared in [None, Some(length)] {
        let mut w = World::new(&costs("refuse"), &[2]);
        w.net = Net::Dead;
        let sending = w.send(0, post("alice", declared));
        let whole = body(length);
        w.request_body(sending, &whole[..60_000], false);
        w.net = Net::Fine(4);
        w.run(1_500);
        assert!(w.is_waiting(sending));
        w.request_body(sending, &whole[60_000..], true);
        w.run(500);
        assert!(w.look(sending, |stream| stream.request.passed == whole), "{declared:?}");
        w.upstream(sending, 200);
        w.run(2_000);
        assert_eq!(w.plane.billed("user:alice", "calls"), 3);
    }
}

#[test]
fn a_body_that_is_too_long_before_the_first_policy_is_not_lost_where_nothing_of_it_is_read() {
    for (path, declared, expected) in [
        ("/x", None, "pass"),
        ("/x", Some(3 * MIB), "pass"),
        ("/cost", None, "413"),
        ("/cost", Some(3 * MIB), "413"),
    ] {
        let mut w = World::new(&costs("refuse"), &[2]);
        w.net = Net::Dead;
        let mut head = post("alice", declared);
        let at = head.iter().position(|(name, _)| name == ":path").unwrap();
        head[at].1 = path.as_bytes().to_vec();
        let sending = w.send(0, head);
        let whole = body(3 * MIB);
        for part in whole[..2 * MIB].chunks(100_000) {
            w.request_body(sending, part, false);
        }
        w.net = Net::Fine(4);
        w.run(1_500);
        if expected == "413" {
            assert_eq!(w.answer(sending).unwrap().status, 413, "{declared:?}");
            continue;
        }
        assert!(w.has_passed(sending), "{declared:?}");
        w.request_body(sending, &whole[2 * MIB..], true);
        assert!(w.look(sending, |stream| stream.request.passed == whole));
    }
}

#[test]
fn a_body_that_a_larger_bound_would_have_read_gets_503_where_it_was_not_kept() {
    let mut policy = costs("refuse");
    policy["bodies"]["json_bytes_max"] = json!(MIB);
    let mut w = World::new(&policy, &[2]);
    w.net = Net::Dead;
    let sending = w.send(0, post("alice", None));
    w.request_body(sending, &body(MIB)[..BOUND + 1], false);
    w.net = Net::Fine(4);
    w.run(1_500);
    assert_eq!(w.answer(sending).unwrap().status, 503);
}

#[test]
fn a_copied_body_is_read_again_when_newer_keys_have_come() {
    let mut policy = costs("refuse");
    let mut w = world(&policy);
    let mut head = post("alice", None);
    head[3].1 = format!("Bearer {}", sign("k2", &claims("alice"))).into_bytes();
    let sending = w.send(0, head);
    let whole = body(BOUND);
    for part in whole.chunks(100_000).take(2) {
        w.request_body(sending, part, false);
    }
    w.request_body(sending, &whole[200_000..], true);
    w.run(100);
    assert!(w.is_waiting(sending));
    policy["issuers"][0]["keys"]["jwks"]["keys"][0]["kid"] = json!("k2");
    w.plane.apply(serde_json::from_value(policy).unwrap());
    w.run(1_000);
    assert!(w.look(sending, |stream| stream.request.passed == whole));
    w.upstream(sending, 200);
    w.run(2_000);
    assert_eq!(w.plane.billed("user:alice", "calls"), 3);
    assert_eq!(w.room_of(0), 0);
}
