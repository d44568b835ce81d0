//! Costs that only the answer tells, over two edges of one control plane: tokens of a language model are reserved by an
//! estimate, settled from the answer, and billed as answers said.

use serde_json::{Value, json};
use tollgate_tests::client::Request;
use tollgate_tests::policy;
use tollgate_tests::scene::Scene;
use tollgate_tests::stage::Stage;
use tollgate_tests::token;
use tollgate_tests::upstream::{CASE, Cut, Reply, Upstream};
use tollgate_tests::wait::{self, SOON};

const QUOTA: u64 = 1_000_000;

/// What an answer costs that does not say.
const DEFAULT: i64 = 500;

fn chat() -> Value {
    let mut policy = policy::free(json!([{"meter": "tokens", "quota": QUOTA, "per": "month"}]));
    policy["meters"] = json!({"tokens": {}});
    let tokens = json!({
        "response_json": "/usage/total_tokens",
        "estimate": {"request_json": "/max_tokens", "default": 1_000},
        "default": DEFAULT,
    });
    policy["default_route"] = json!({"charges": {"tokens": tokens}});
    policy
}

fn ask<'c>(request: Request<'c>, token: &str, case: &str, tokens_max: u64) -> Request<'c> {
    request.token(token).header(CASE, case).json(&json!({"model": "m", "max_tokens": tokens_max}))
}

/// An answer in JSON, in two pieces.
fn in_json(tokens: i64) -> Reply {
    let body = json!({"text": "x".repeat(300), "usage": {"total_tokens": tokens}}).to_string().into_bytes();
    let (front, rest) = body.split_at(body.len() - 5);
    let headers = vec![("content-type".to_owned(), b"application/json".to_vec())];
    Reply { status: 200, headers, chunks: vec![front.to_vec(), rest.to_vec()], ..Reply::default() }
}

/// An answer in events, the last but one of which tells the tokens so far; cut into chunks of this size.
fn in_events(tokens: i64, size: usize) -> Reply {
    let mut text = String::new();
    for word in 0..5 {
        text += &format!("data: {{\"choices\":[{{\"delta\":\"{word}\"}}],\"usage\":null}}\n\n");
        text += &format!("data: {{\"usage\":{{\"total_tokens\":{}}}}}\n\n", tokens * word / 5);
    }
    text += &format!("data: {{\"usage\":{{\"total_tokens\":{tokens}}}}}\n\ndata: [DONE]\n\n");
    let headers = vec![("content-type".to_owned(), b"text/event-stream; charset=utf-8".to_vec())];
    let chunks = text.as_bytes().chunks(size).map(<[u8]>::to_vec).collect();
    Reply { status: 200, headers, chunks, ..Reply::default() }
}

/// An answer, and what it costs.
fn answer(number: i64) -> (Reply, i64) {
    let tokens = 37 + number * 101 % 1_900;
    match number % 8 {
        0..3 => (in_json(tokens), tokens),
        3..6 => (in_events(tokens, 1 + usize::try_from(number * 7 % 90).unwrap_or_default()), tokens),
        6 if number % 3 == 0 => (Reply { status: 500, ..in_json(tokens) }, 0),
        6 => {
            let mut silent = in_json(tokens);
            silent.chunks = vec![b"{\"text\": \"no usage\"}".to_vec()];
            (silent, DEFAULT)
        }
        // Cut in the middle of the last event that tells: what the one before said.
        _ => {
            let mut events = in_events(tokens, 10_000);
            let text = events.chunks.remove(0);
            events.chunks = vec![text[..text.len() - 30].to_vec()];
            (Reply { cut: Some(Cut::After), ..events }, tokens * 4 / 5)
        }
    }
}

#[test]
fn tokens_are_billed_as_answers_say_whole_in_events_cut_or_silent() {
    const CALLERS: i64 = 6;
    const CALLS: i64 = 16;
    let mut stage = Stage::start(Scene::new(), &chat());
    let token = token::of("alice");
    let case = |number: i64| format!("case-{number}");
    let mut expected = 0;
    for number in 0..CALLERS * CALLS {
        let (reply, tokens) = answer(number);
        stage.upstream.tell(&case(number), reply);
        expected += tokens;
    }
    stage.in_parallel(6, |caller, client| {
        let caller = i64::try_from(caller).expect("it is small");
        for number in caller * CALLS..(caller + 1) * CALLS {
            let path = "/v1/chat";
            // One that is cut is an error to the caller too.
            let answer = ask(client.request("POST", path), &token, &case(number), 700).try_send();
            assert!(answer.is_err() == (number % 8 == 7), "{number}: {answer:?}");
        }
    });
    assert_eq!(i64::try_from(stage.upstream.count()).ok(), Some(CALLERS * CALLS));
    let billed = || stage.control_plane.used_of("user:alice", "tokens");
    wait::until_equal("the ledger is what answers said", SOON, &expected, billed);
    let units = u64::try_from(expected).expect("it is not negative");
    stage.control_plane.wait_until_standing("user:alice", "tokens.month", units);
    stage.assert_no_trap();
}

/// Holds the answer to a case.
fn hold(upstream: &Upstream, case: &str, tokens: i64) {
    upstream.tell(case, Reply { is_held: true, ..in_json(tokens) });
}

#[test]
fn what_a_request_may_cost_is_reserved_at_both_edges_until_its_answer_says_less() {
    let mut stage = Stage::start(Scene::new(), &chat());
    let (token, [mut one, mut two]) = (token::of("alice"), stage.clients());
    hold(&stage.upstream, "first", 100);
    stage.upstream.tell("second", in_events(300_000, 64));
    ask(one.request("POST", "/v1/chat"), &token, "first", QUOTA - 200_000).open().expect("it is sent");
    wait::until("it is there", SOON, || stage.upstream.seen_of("first"));
    // Nobody knows yet that it will cost a hundred.
    for edge in stage.edges() {
        let mut client = edge.client();
        let refused = ask(client.request("POST", "/v1/chat"), &token, "second", 200_001).send();
        let refused = refused.expect_problem(429, "quota-exceeded").json();
        assert_eq!((&refused["limit"], &refused["maximum"]), (&json!("tokens.month"), &json!(QUOTA)));
    }
    assert_eq!(stage.upstream.count(), 1);
    stage.upstream.release("first");
    assert_eq!(one.read_answer_head().expect("an answer").expect("an answer").status, 200);
    wait::until_equal("what was reserved too much is free", SOON, &200, || {
        ask(two.request("POST", "/v1/chat"), &token, "second", 900_000).send().status
    });
    // It cost what its last event said, though less was reserved of the next: that is usage beyond the estimate.
    stage.upstream.tell("third", in_json(650_000));
    wait::until_equal("a cheap one passes", SOON, &200, || {
        ask(two.request("POST", "/v1/chat"), &token, "third", 10).send().status
    });
    let billed = || stage.control_plane.used_of("user:alice", "tokens");
    wait::until_equal("the ledger is what answers said", SOON, &(100 + 300_000 + 650_000), billed);
    // Nothing is left, at either edge.
    for edge in stage.edges() {
        let mut client = edge.client();
        wait::until_equal("all is used", SOON, &429, || {
            ask(client.request("POST", "/v1/chat"), &token, "third", 1).send().status
        });
    }
    stage.assert_no_trap();
}
