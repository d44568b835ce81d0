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

/// The head of a request whose body comes with or without its length.
fn post(user: &str, path: &str, length: Option<usize>) -> Headers {
    let Some(length) = length else { return chunked(user, path) };
    let mut headers = headers(path, &token(user));
    headers.push(("content-length".to_owned(), length.to_string().into_bytes()));
    headers
}

/// An edge that has not got its first policy yet, for as long as the network is dead.
fn without_policy(policy: &Value) -> World {
    let mut w = World::new(policy, &[2]);
    w.net = Net::Dead;
    w.run(1);
    w
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
        let sending = w.send(0, chunked("alice", "/cost"));
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
    const PART: usize = 30_000;
    let mut w = world(&costs("refuse"));
    let whole = body(BOUND);
    let (head, tail) = whole.split_at(BOUND - 1_000);
    let fit = ROOM_BYTES / BOUND;
    // Twice: a body that is through, refused, or broken off gives its room back.
    for round in 0..2 {
        let begin = |w: &mut World, number: usize| w.send(0, chunked(&format!("u{round}-{number}"), "/cost"));
        let streams: Vec<_> = (0..fit + 2).map(|number| begin(&mut w, number)).collect();
        let copied = |w: &World, of: Sending| w.look(of, |stream| !stream.request.is_buffered);
        let small = begin(&mut w, 99);
        w.request_body(small, b"{\"cost\": ", false);
        assert!(copied(&w, small));
        // All but the last two are copied whole, which fills the room; of these the first parts had found some.
        for of in &streams[fit..] {
            w.request_body(*of, &head[..1], false);
            assert!(copied(&w, *of));
        }
        for of in &streams[..fit - 1] {
            for part in head.chunks(PART) {
                w.request_body(*of, part, false);
            }
        }
        for of in &streams[fit - 1..] {
            let from = if *of == streams[fit - 1] { 0 } else { 1 };
            for part in head[from..].chunks(PART) {
                w.request_body(*of, part, false);
                assert!(w.room_of(0) <= ROOM_BYTES);
            }
        }
        // Room was left for one more, and not for its spare capacity as well.
        assert!(streams[..fit - 1].iter().all(|of| copied(&w, *of)));
        assert_eq!(streams.iter().filter(|of| copied(&w, **of)).count(), fit - 1);
        // One that says its length needs no room.
        let declared = w.send(0, post("declared", "/cost", Some(BOUND)));
        w.request_body(declared, head, false);
        assert!(!copied(&w, declared));
        w.end(declared);
        // The last part of one finds no room, and is read.
        let rest = format!("3, \"x\": \"{}\"}}", "x".repeat(30_000));
        let filler = begin(&mut w, 98);
        w.request_body(filler, &head[5_000..], false);
        assert!(copied(&w, filler) && w.room_of(0) + rest.len() > ROOM_BYTES);
        w.request_body(small, rest.as_bytes(), true);
        w.run(20);
        assert!(w.has_passed(small));
        w.upstream(small, 200);
        // One that is too long with its last part finds none, and needs none.
        let long = begin(&mut w, 97);
        w.request_body(long, b"{", false);
        let before = w.room_of(0);
        w.request_body(long, &body(MIB), true);
        assert_eq!((w.answer(long).unwrap().status, w.room_of(0) < before), (413, true));
        w.end(long);
        w.end(filler);

        for (number, sending) in streams.into_iter().enumerate() {
            let (before, was_copied) = (w.room_of(0), copied(&w, sending));
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
            let freed = before - w.room_of(0);
            assert_eq!(freed > head.len() - 1, was_copied, "{number}");
        }
        assert_eq!(w.room_of(0), 0);
        w.run(2_000);
        for number in (0..fit + 2).chain([99]) {
            let billed = w.plane.billed(&format!("user:u{round}-{number}"), "calls");
            assert_eq!(billed, if number % 3 == 2 || number == 99 { 3 } else { 0 }, "{number}");
        }
    }
}

/// Bodies fill a worker's room, while it has no policy.
fn full_room_without_policy() -> World {
    let mut w = without_policy(&costs("refuse"));
    for number in 0..ROOM_BYTES / BOUND {
        let filler = w.send(0, chunked(&format!("f{number}"), "/cost"));
        w.request_body(filler, &body(BOUND)[..BOUND - 1], false);
    }
    assert_eq!(w.room_of(0), ROOM_BYTES / BOUND * (BOUND - 1));
    w
}

#[test]
fn what_finds_no_room_before_the_first_policy_still_passes_where_nothing_of_it_is_read() {
    let mut w = full_room_without_policy();
    // A long one in parts; one in parts that would be read; one in a single part that would.
    let long = w.send(0, chunked("alice", "/x"));
    let halves = w.send(0, chunked("alice", "/cost"));
    let single = w.send(0, chunked("alice", "/cost"));
    let whole = body(2 * MIB);
    for part in whole[..MIB + 500_000].chunks(MIB / 2) {
        w.request_body(long, part, false);
    }
    w.request_body(halves, &body(50_000)[..30_000], false);
    w.request_body(single, &body(50_000), true);
    w.net = Net::Fine(4);
    w.run(1_500);
    assert!(w.has_passed(long));
    w.request_body(long, &whole[MIB + 500_000..], true);
    assert!(w.look(long, |stream| stream.request.passed == whole));
    assert_eq!(w.answer(halves).unwrap().status, 503);
    assert!(w.look(single, |stream| stream.request.passed == body(50_000)));
    w.upstream(single, 200);
    w.run(2_000);
    assert_eq!(w.plane.billed("user:alice", "calls"), 1 + 3);
}

#[test]
fn a_last_part_that_finds_no_room_before_the_first_policy_waits_with_the_proxy() {
    let mut w = without_policy(&costs("refuse"));
    let sending = w.send(0, chunked("alice", "/cost"));
    let whole = body(BOUND);
    w.request_body(sending, &whole[..20_000], false);
    for number in 0..ROOM_BYTES / BOUND {
        let filler = w.send(0, chunked(&format!("f{number}"), "/cost"));
        w.request_body(filler, &whole[..BOUND - 1_000], false);
    }
    assert!(!w.look(sending, |stream| stream.request.is_buffered));
    w.request_body(sending, &whole[20_000..], true);
    assert!(w.look(sending, |stream| stream.request.is_buffered));
    w.net = Net::Fine(4);
    w.run(1_500);
    assert!(w.look(sending, |stream| stream.request.passed == whole));
}

#[test]
fn a_body_that_comes_before_the_first_policy_is_read_when_that_has_come() {
    let length = 100_000;
    for declared in [None, Some(length)] {
        let mut w = without_policy(&costs("refuse"));
        let sending = w.send(0, post("alice", "/cost", declared));
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
        let mut w = without_policy(&costs("refuse"));
        let sending = w.send(0, post("alice", path, declared));
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
    let mut w = without_policy(&policy);
    let sending = w.send(0, chunked("alice", "/cost"));
    w.request_body(sending, &body(MIB)[..BOUND + 1], false);
    w.net = Net::Fine(4);
    w.run(1_500);
    assert_eq!(w.answer(sending).unwrap().status, 503);
}

#[test]
fn a_copied_body_is_read_again_when_newer_keys_have_come() {
    let mut policy = costs("refuse");
    let mut w = world(&policy);
    let mut unknown_key = chunked("alice", "/cost");
    unknown_key[3].1 = format!("Bearer {}", sign("k2", &claims("alice"))).into_bytes();
    let sending = w.send(0, unknown_key);
    let whole = body(BOUND);
    for part in whole.chunks(100_000).take(2) {
        w.request_body(sending, part, false);
    }
    w.request_body(sending, &whole[200_000..], true);
    w.run(100);
    assert!(w.is_waiting(sending) && w.room_of(0) == BOUND);
    policy["issuers"][0]["keys"]["jwks"]["keys"][0]["kid"] = json!("k2");
    w.plane.apply(serde_json::from_value(policy).unwrap());
    w.run(1_000);
    assert!(w.look(sending, |stream| stream.request.passed == whole));
    w.upstream(sending, 200);
    w.run(2_000);
    assert_eq!(w.plane.billed("user:alice", "calls"), 3);
    assert_eq!(w.room_of(0), 0);
}

#[test]
fn a_body_is_read_on_when_a_policy_with_a_larger_bound_comes_in_the_middle() {
    let mut policy = costs("refuse");
    policy["bodies"]["json_bytes_max"] = json!(50_000);
    let mut w = world(&policy);
    assert_eq!(w.get(0, "alice", "/x"), "pass");
    let sending = w.send(0, chunked("alice", "/cost"));
    let whole = body(100_000);
    w.request_body(sending, &whole[..40_000], false);
    w.plane.apply(serde_json::from_value(costs("refuse")).unwrap());
    w.run(1_000);
    w.request_body(sending, &whole[40_000..80_000], false);
    w.request_body(sending, &whole[80_000..], true);
    w.run(100);
    assert!(w.look(sending, |stream| stream.request.passed == whole));
    w.upstream(sending, 200);
    w.run(2_000);
    assert_eq!(w.plane.billed("user:alice", "calls"), 1 + 3);
}

#[test]
fn a_body_may_end_with_trailers() {
    for (waits_for_policy, declared) in
        [(false, None), (false, Some(9_000)), (true, None), (true, Some(9_000))]
    {
        let policy = costs("refuse");
        let mut w = if waits_for_policy { without_policy(&policy) } else { world(&policy) };
        let sending = w.send(0, post("alice", "/cost", declared));
        let whole = body(9_000);
        w.request_body(sending, &whole[..5_000], false);
        w.request_body(sending, &whole[5_000..], false);
        w.request_trailers(sending);
        w.net = Net::Fine(4);
        w.run(1_500);
        assert!(w.look(sending, |stream| stream.request.passed == whole), "{waits_for_policy} {declared:?}");
        w.upstream(sending, 200);
        w.run(2_000);
        assert_eq!(w.plane.billed("user:alice", "calls"), 3);
        assert_eq!(w.room_of(0), 0);
    }
}
