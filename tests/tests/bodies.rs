//! Bodies that are large or slow: an upload waits for its lease with the client and not in the proxy, a streamed answer is
//! counted as it passes, and JSON is read up to a bound.

use std::io::{self, BufReader, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tollgate_tests::client::Client;
use tollgate_tests::control_plane::ControlPlane;
use tollgate_tests::envoy::{Envoy, Options};
use tollgate_tests::http::Message;
use tollgate_tests::policy;
use tollgate_tests::relay::Relay;
use tollgate_tests::scene::Scene;
use tollgate_tests::server::{Responder, Server};
use tollgate_tests::token;
use tollgate_tests::upstream::Upstream;
use tollgate_tests::wait::{self, SOON};

const MIB: usize = 1 << 20;

/// An edge behind a wire to its control plane that can be cut.
struct Place {
    control_plane: ControlPlane,
    relay: Relay,
    envoy: Envoy,
    _scene: Scene,
}

/// One worker, so that its memory is what the metric tells.
fn place(policy: &Value, application: u16) -> Place {
    let place = place_without_policy(policy, application);
    place.relay.restore();
    place.envoy.wait_for_policy();
    place
}

/// Its wire gives no answer, so that it has not even its first policy.
fn place_without_policy(policy: &Value, application: u16) -> Place {
    let scene = Scene::alone();
    let control_plane = ControlPlane::start(&scene);
    control_plane.apply(policy);
    let relay = Relay::to(control_plane.port());
    relay.hold();
    let envoy = Options::connected(relay.port(), application).workers(1).start(&scene);
    Place { control_plane, relay, envoy, _scene: scene }
}

/// No limit that matters on bytes and tokens, and routes that charge them.
fn by_body() -> Value {
    let limit = |meter: &str| json!({"meter": meter, "quota": 1_000_000_000_000_u64, "per": "month"});
    let mut policy = policy::free(json!([policy::quota(1_000), limit("bytes"), limit("tokens")]));
    policy["meters"] = json!({"calls": {}, "bytes": {}, "tokens": {}});
    let cost = json!({"request_json": "/cost", "default": 7});
    let usage = json!({"response_json": "/usage/total_tokens", "estimate": 100, "default": 60});
    policy["routes"] = json!([
        {"path": "/upload", "charges": {"bytes": {"body_bytes": "request"}}},
        {"path": "/download", "charges": {"bytes": {"body_bytes": "response"}}},
        {"path": "/json", "charges": {"tokens": cost}},
        {"path": "/chat", "charges": {"tokens": usage}},
    ]);
    policy
}

/// Sends a request whose body comes in parts, and reads the answer meanwhile: it may come before the body is through.
fn upload(port: u16, path: &str, token: &str, parts: impl Iterator<Item = Vec<u8>> + Send) -> Message {
    let stream = TcpStream::connect(("127.0.0.1", port)).expect("it listens");
    stream.set_read_timeout(Some(Duration::from_secs(30))).expect("a socket");
    let head = format!(
        "POST {path} HTTP/1.1\r\nhost: api.example\r\nauthorization: Bearer {token}\r\n\
         content-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n"
    );
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut to = &stream;
            let send = || -> io::Result<()> {
                to.write_all(head.as_bytes())?;
                for part in parts {
                    to.write_all(&[format!("{:x}\r\n", part.len()).as_bytes(), &part, b"\r\n"].concat())?;
                }
                to.write_all(b"0\r\n\r\n")
            };
            // Whoever is refused in the middle cannot send the rest.
            let _ = send();
        });
        let mut from = BufReader::new(&stream);
        let mut answer = Message::read_head(&mut from).expect("an answer").expect("an answer");
        answer.read_body(&mut from, true).expect("its body");
        let _ = stream.shutdown(std::net::Shutdown::Both);
        answer
    })
}

/// Parts of 64 KiB, `mib` MiB in all.
fn parts(mib: usize) -> impl Iterator<Item = Vec<u8>> + Send {
    (0..mib * 16).map(|_| vec![b'x'; 64 << 10])
}

fn status(answer: &Message) -> &str {
    answer.start.split(' ').nth(1).unwrap_or_default()
}

#[test]
fn a_large_upload_by_an_unknown_caller_waits_for_its_lease_and_passes() {
    let upstream = Upstream::start();
    let mut place = place(&by_body(), upstream.port());
    let port = place.envoy.gateway();
    let mut largest = place.envoy.client();
    // With its length, and in chunks.
    largest.request("POST", "/upload").token(&token::of("a")).body(vec![b'x'; 16 * MIB]).send().expect(200);
    assert_eq!(upstream.last().body.len(), 16 * MIB);
    assert_eq!(status(&upload(port, "/upload", &token::of("b"), parts(16))), "200");
    assert_eq!(upstream.last().body.len(), 16 * MIB);
    for subject in ["user:a", "user:b"] {
        let billed = || place.control_plane.used_of(subject, "bytes");
        wait::until_equal("it is counted to the byte", SOON, &(16 << 20), billed);
    }

    // While the control plane is lost, one who is known goes on, and one who is not hears so soon.
    place.relay.cut();
    let start = Instant::now();
    let refused = upload(port, "/a", &token::of("c"), parts(16));
    assert_eq!(status(&refused), "503", "{}", String::from_utf8_lossy(&refused.body));
    assert!(String::from_utf8_lossy(&refused.body).contains("control-plane-unavailable"));
    // Some two seconds; Envoy itself would wait for a minute.
    assert!(start.elapsed() < Duration::from_secs(10), "it took {:?}", start.elapsed());
    assert_eq!(upstream.count(), 2);
    place.relay.restore();
    wait::until_equal("the edge is back", SOON, &"200".to_owned(), || {
        status(&upload(port, "/a", &token::of("c"), parts(16))).to_owned()
    });
    place.envoy.assert_no_trap();
}

#[test]
fn what_comes_before_the_first_policy_waits_for_it_whatever_its_size() {
    let upstream = Upstream::start();
    let mut place = place_without_policy(&by_body(), upstream.port());
    let port = place.envoy.gateway();
    let cost = [b"{\"cost\": 3, \"x\": \"".to_vec(), vec![b'x'; 100_000], b"\"}".to_vec()];
    std::thread::scope(|scope| {
        let uploads = [
            scope.spawn(|| upload(port, "/upload", &token::of("alice"), parts(16))),
            scope.spawn(|| upload(port, "/json", &token::of("bob"), cost.into_iter())),
        ];
        // As long as a request waits there is no sign of it outside.
        std::thread::sleep(Duration::from_millis(700));
        assert_eq!(upstream.count(), 0);
        place.relay.restore();
        for upload in uploads {
            let answer = upload.join().expect("no panic");
            assert_eq!(status(&answer), "200", "{}", String::from_utf8_lossy(&answer.body));
        }
    });
    for (subject, meter, units) in [("user:alice", "bytes", 16 << 20), ("user:bob", "tokens", 3)] {
        let billed = || place.control_plane.used_of(subject, meter);
        wait::until_equal("it is counted", SOON, &units, billed);
    }
    place.envoy.assert_no_trap();
}

#[test]
fn a_slow_upload_in_small_pieces_is_counted_and_ends_where_it_is_too_large() {
    const PIECES: usize = 150;
    const PIECE: usize = 97;
    let mut policy = by_body();
    policy["tiers"]["small"] = json!({"limits": [{"size": 5_000}]});
    let upstream = Upstream::start();
    let mut place = place(&policy, upstream.port());
    place.control_plane.subscribe("user:bob", "small");
    let pieces = || {
        (0..PIECES).map(|_| {
            std::thread::sleep(Duration::from_millis(5));
            vec![b'x'; PIECE]
        })
    };
    let port = place.envoy.gateway();
    assert_eq!(status(&upload(port, "/upload", &token::of("alice"), pieces())), "200");
    assert_eq!(upstream.last().body.len(), PIECES * PIECE);
    let all = i64::try_from(PIECES * PIECE).expect("it is small");
    let billed = |subject: &str| place.control_plane.used_of(subject, "bytes");
    wait::until_equal("it is counted to the byte", SOON, &all, || billed("user:alice"));

    let refused = upload(port, "/upload", &token::of("bob"), pieces());
    assert_eq!(status(&refused), "413", "{}", String::from_utf8_lossy(&refused.body));
    assert!(String::from_utf8_lossy(&refused.body).contains("size-exceeded"));
    // The application never saw it whole, and nothing is charged.
    assert_eq!(upstream.count(), 1);
    upload(port, "/upload", &token::of("bob"), std::iter::once(vec![b'x'; 5_000]));
    wait::until_equal("only what passed is charged", SOON, &5_000, || billed("user:bob"));
    place.envoy.assert_no_trap();
}

#[test]
fn json_over_the_bound_is_refused_or_passes_unread_as_the_policy_says() {
    const BOUND: usize = 262_144;
    let upstream = Upstream::start();
    let mut policy = by_body();
    let mut place = place(&policy, upstream.port());
    let json = |bytes: usize| {
        let mut body = b"{\"cost\": 1000, \"x\": \"".to_vec();
        body.resize(bytes - 2, b'x');
        [&body[..], b"\"}"].concat()
    };
    let port = place.envoy.gateway();
    let send = |user: &str, bytes: usize, in_chunks: bool| {
        if in_chunks {
            let parts: Vec<Vec<u8>> = json(bytes).chunks(50_000).map(<[u8]>::to_vec).collect();
            let parts = parts.into_iter().enumerate().map(|(number, part)| {
                // The proxy has read nearly as much as is awaited when all the rest comes at once: together more than its buffer
                // holds, where it would answer 413 by itself.
                if number == BOUND / 50_000 {
                    std::thread::sleep(Duration::from_millis(100));
                }
                part
            });
            return status(&upload(port, "/json", &token::of(user), parts)).to_owned();
        }
        let mut client = Client::new(port);
        let request = client.request("POST", "/json").token(&token::of(user));
        request.header("content-type", "application/json").body(json(bytes)).send().status.to_string()
    };
    let billed = |user: &str| place.control_plane.used_of(&format!("user:{user}"), "tokens");

    for in_chunks in [false, true] {
        assert_eq!(send("alice", BOUND, in_chunks), "200");
        assert_eq!(upstream.last().body.len(), BOUND);
        let before = upstream.count();
        for bytes in [BOUND + 1, 3 * MIB] {
            assert_eq!(send("alice", bytes, in_chunks), "413");
        }
        assert_eq!(upstream.count(), before);
    }
    wait::until_equal("what was read is charged", SOON, &2_000, || billed("alice"));

    policy["bodies"] = json!({"over": "unmetered"});
    place.control_plane.apply(&policy);
    wait::until_equal("the policy is in force", SOON, &"200".to_owned(), || send("bob", BOUND + 1, false));
    wait::until("it is charged the default", SOON, || (billed("bob") == 7).then_some(()));
    // Callers that the edge has never seen, so that the body waits half read.
    let fast = ["erin", "frank", "grace", "heidi", "ivan"].map(|user| (user, 16 * MIB, true));
    for (user, bytes, in_chunks) in
        [("carol", BOUND + 1, true), ("dave", 16 * MIB, false)].into_iter().chain(fast)
    {
        assert_eq!(send(user, bytes, in_chunks), "200", "{user}");
        assert!(upstream.last().body == json(bytes), "the body of {user} reached the application as it was");
        wait::until_equal("it is charged the default", SOON, &7, || billed(user));
    }
    place.envoy.assert_no_trap();
}

/// Answers `x-mib` MiB in chunks of 64 KiB, of the type `x-type`; after the first one it waits until the client has seen
/// some of it.
fn stream(request: &Message, responder: &mut Responder, seen: &AtomicBool) -> io::Result<()> {
    let mib: usize = request.header("x-mib").and_then(|mib| mib.parse().ok()).unwrap_or_default();
    let kind = request.header("x-type").unwrap_or_default();
    let mut chunk = match kind.as_str() {
        "text/event-stream" => b"data: {\"choices\": [{\"delta\": \"word\"}]}\n\n".repeat(1_600),
        _ => b"[".repeat(64 << 10),
    };
    chunk.resize(64 << 10, b'\n');
    responder.begin(200, &[("content-type", &kind)])?;
    for number in 0..mib * 16 {
        responder.chunk(&chunk)?;
        if number == 0 {
            let deadline = Instant::now() + SOON;
            while !seen.load(Ordering::SeqCst) {
                if Instant::now() > deadline {
                    return responder.cut();
                }
                std::thread::sleep(Duration::from_millis(5));
            }
        }
    }
    if kind == "text/event-stream" {
        responder.chunk(b"data: {\"usage\": {\"total_tokens\": 42}}\n\ndata: [DONE]\n\n")?;
    }
    responder.end()
}

#[test]
fn a_streamed_answer_is_counted_as_it_passes_and_held_back_nowhere() {
    let seen = Arc::<AtomicBool>::default();
    let flag = seen.clone();
    let application = Server::start(0, move |request, responder| stream(request, responder, &flag));
    let mut place = place(&by_body(), application.port());
    let token = token::of("alice");
    let download = |path: &str, kind: &str, mib: usize| {
        seen.store(false, Ordering::SeqCst);
        let mut client = place.envoy.client();
        let request = client.request("GET", path).token(&token);
        let mib = mib.to_string();
        request.header("x-mib", mib).header("x-type", kind).open().expect("it is sent");
        assert_eq!(client.read_answer_head().expect("an answer").expect("an answer").status, 200);
        let mut bytes = 0;
        while let Some(chunk) = client.read_chunk().expect("the stream goes on") {
            bytes += chunk.len();
            // Only now does the application send the rest.
            seen.store(true, Ordering::SeqCst);
        }
        bytes
    };
    // The worker writes its metrics now and then, all at once: those of now are there when they count a request of now.
    let mut asked = 0;
    let mut memory = || {
        asked += 1;
        place.envoy.client().get("/a", "x.y.z").expect(401);
        wait::until_equal("the worker tells", SOON, &asked, || {
            place.envoy.decided("deny", "token-malformed", "none")
        });
        wait::until("its memory", SOON, || {
            Some(place.envoy.stat("wasmcustom.tollgate.vm.memory_bytes.worker")).filter(|bytes| *bytes > 0)
        })
    };
    let cases = [
        ("/download", "application/octet-stream"),
        ("/chat", "application/octet-stream"),
        ("/chat", "application/json"),
        ("/chat", "text/event-stream"),
    ];
    // What the worker needs at all it has from then on.
    for (path, kind) in cases {
        download(path, kind, 1);
    }
    let billed = |meter: &str| place.control_plane.used_of("user:alice", meter);
    // The default where nothing is told, what was reserved where it is too long to be read, and what was told.
    wait::until_equal("it is counted", SOON, &[1 << 20, 60 + 100 + 42], || ["bytes", "tokens"].map(billed));
    // Twice: the second time, what it wrote after the first count is there for certain.
    let before = [memory(), memory()][1];
    for (path, kind) in cases {
        assert!(download(path, kind, 100) >= 100 * MIB, "{path} {kind}");
        // Memory is never given back.
        let after = [memory(), memory()][1];
        let grown = after - before;
        println!("{path} {kind}: {before} bytes before, {grown} more after");
        assert!(grown < 4 << 20, "{path} {kind}: the worker's memory has grown by {grown} bytes");
    }
    // To the byte; and what does not say its cost costs the same again.
    let expected = [101 << 20, 2 * (60 + 100 + 42)];
    wait::until_equal("it is counted to the byte", SOON, &expected, || ["bytes", "tokens"].map(billed));
    place.envoy.assert_no_trap();
}
