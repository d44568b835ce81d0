//! What is known to go wrong with Wasm in Envoy, tried. By the number in the list of traps:
//!
//! | trap | test |
//! | --- | --- |
//! | 1 bytes that are not UTF-8, repeated headers, calls without headers | `stand_alone`: bad tokens, `bytes_that_are_not_utf8_…`; here: `answers_of_the_control_plane_that_are_nonsense_…` |
//! | 2 a filter that is not in the way lets requests pass | `a_module_that_does_not_do_its_work_lets_nothing_pass`, `a_module_that_cannot_be_loaded_…`; `stand_alone`: `a_configuration_that_makes_no_sense_…` |
//! | 3 replaced root contexts go on ticking | `a_replaced_configuration_drops_no_request_and_its_old_root_context_falls_silent` |
//! | 4 shared data: races, growth, what survives | `stand_alone`: `a_quota_admits_exactly_…`; here: `limits_survive_a_replaced_configuration`, `memory_stays_bounded_…` |
//! | 5 traps: reload, and what is not told | `a_vm_that_traps_is_replaced_and_lets_nothing_pass_meanwhile` |
//! | 6 replies for streams that are gone, resets, 503s of the router | `answers_of_the_control_plane_…`; `faults`: `a_control_plane_that_hangs_…` |
//! | 7 bodies, trailers, streams | `stand_alone`: `bodies_trailers_and_streams_…` |
//! | 8 logs of streams that were reset or never began | `what_never_becomes_a_request_does_not_trap`; `stand_alone`: `a_caller_who_hangs_up_…` |
//! | 9 no configuration by route | nothing relies on it: the policy's routes are the filter's own |
//! | 10 metrics have no labels | `stand_alone`: `metrics_tell_…` |
//! | 11 what the host's verifier cannot do | `stand_alone`: `tokens_of_every_algorithm_…` |
//! | 12 remote code is unstable | `the_shipped_configurations_are_valid_and_load_the_module_from_a_file` |

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tollgate_tests::control_plane::ControlPlane;
use tollgate_tests::envoy::{EDGE_TOKEN, Envoy, Options};
use tollgate_tests::port::Port;
use tollgate_tests::scene::Scene;
use tollgate_tests::server::Server;
use tollgate_tests::upstream::Upstream;
use tollgate_tests::wait::{self, SOON};
use tollgate_tests::{artefacts, policy, token};

#[test]
fn the_shipped_configurations_are_valid_and_load_the_module_from_a_file() {
    let scene = Scene::new();
    let rendered = Options::connected(1, 1).render();
    assert!(rendered.contains("code: {local: {filename: "), "{rendered}");
    Options::validate(&scene.write("tollgate.yaml", rendered)).unwrap_or_else(|said| panic!("{said}"));
    let bandwidth = Options::connected(1, 1).shipped("envoy/bandwidth.yaml").render();
    Options::validate(&scene.write("bandwidth.yaml", bandwidth)).unwrap_or_else(|said| panic!("{said}"));
    let module = artefacts::filter_wasm().display().to_string();
    let quickstart = artefacts::shipped("examples/quickstart/envoy.yaml");
    let quickstart =
        quickstart.replace("filename: target/tollgate-filter.wasm", &format!("filename: {module}"));
    Options::validate(&scene.write("quickstart.yaml", &quickstart)).unwrap_or_else(|said| panic!("{said}"));
    let broken = quickstart.replace("remove_on_match", "remove_on_mismatch");
    assert!(Options::validate(&scene.write("broken.yaml", broken)).is_err(), "validation finds a mistake");
}

#[test]
fn the_module_imports_what_every_proxy_has_and_nothing_else() {
    let bytes = std::fs::read(artefacts::filter_wasm()).expect("the module can be read");
    let (mut imports, mut exports) = (BTreeSet::new(), BTreeSet::new());
    for payload in wasmparser::Parser::new(0).parse_all(&bytes) {
        match payload.expect("it is a module") {
            wasmparser::Payload::ImportSection(section) => {
                for import in section.into_imports() {
                    let import = import.expect("it is an import");
                    imports.insert(format!("{}.{}", import.module, import.name));
                }
            }
            wasmparser::Payload::ExportSection(section) => {
                exports.extend(section.into_iter().map(|export| export.expect("it is an export").name));
            }
            _ => {}
        }
    }
    assert!(imports.contains("env.proxy_log"), "{imports:?}");
    let known =
        |name: &&String| name.starts_with("env.proxy_") || name.starts_with("wasi_snapshot_preview1.");
    let others: Vec<_> = imports.iter().filter(|name| !known(name)).collect();
    assert!(others.is_empty(), "a proxy may refuse the module for {others:?}");
    // What ends a stream is its deletion: its log may come after that.
    let ends = ["proxy_on_delete", "proxy_on_done", "proxy_on_log"].map(|name| exports.contains(name));
    assert_eq!(ends, [true, false, false]);
}

/// A module of the same interface as the filter, with these bodies of `on_configure` and `on_request_headers`.
fn module(scene: &Scene, name: &str, on_configure: &str, on_request_headers: &str) -> PathBuf {
    let text = format!(
        r#"(module
          (memory (export "memory") 4)
          (global $next (mut i32) (i32.const 4096))
          (func (export "proxy_abi_version_0_2_1"))
          (func (export "proxy_on_memory_allocate") (param $bytes i32) (result i32)
            global.get $next
            (global.set $next (i32.add (global.get $next) (local.get $bytes))))
          (func (export "proxy_on_context_create") (param i32 i32))
          (func (export "proxy_on_vm_start") (param i32 i32) (result i32) i32.const 1)
          (func (export "proxy_on_configure") (param i32 i32) (result i32) {on_configure})
          (func (export "proxy_on_request_headers") (param $context i32) (param $headers i32) (param $end i32)
            (result i32) {on_request_headers}))"#
    );
    scene.write(name, wat::parse_str(text).expect("it is a module"))
}

const DONE: &str = "i32.const 1";
const PASS: &str = "i32.const 0";

/// Tries what could pass: with and without a token, and with the markers that the filter sets.
fn try_to_pass(envoy: &Envoy) -> Vec<u16> {
    let token = token::of("alice");
    let mut statuses = Vec::new();
    // A connection stays with one worker; so many reach both.
    for _ in 0..8 {
        let mut client = envoy.client();
        statuses.push(client.request("GET", "/public/a").send().status);
        statuses.push(client.get("/a", &token).status);
        for (name, value) in [("x-tollgate-subject", "user:root"), ("X-Tollgate-Decision", "allow")] {
            statuses.push(client.request("GET", "/a").token(&token).header(name, value).send().status);
        }
    }
    statuses
}

#[test]
fn a_module_that_does_not_do_its_work_lets_nothing_pass() {
    let scene = Scene::new();
    for (name, on_configure, on_request_headers) in [
        ("passes.wasm", DONE, PASS),
        ("refuses-its-configuration.wasm", "i32.const 0", PASS),
        ("traps-when-configured.wasm", "unreachable", PASS),
        ("traps-at-requests.wasm", DONE, "unreachable"),
    ] {
        let upstream = Upstream::start();
        let module = module(&scene, name, on_configure, on_request_headers);
        let envoy = Options::connected(1, upstream.port()).module(module).try_start(&scene);
        // Not starting is good too: then there is no gateway at all.
        if let Ok(envoy) = envoy {
            let statuses = try_to_pass(&envoy);
            assert!(statuses.iter().all(|status| matches!(status, 403 | 500 | 503)), "{name}: {statuses:?}");
        }
        assert_eq!(upstream.count(), 0, "{name}");
    }
}

#[test]
fn without_the_guard_after_it_a_module_that_does_nothing_would_let_everything_pass() {
    // So that the test above cannot hold for another reason.
    let scene = Scene::new();
    let upstream = Upstream::start();
    let module = module(&scene, "passes.wasm", DONE, PASS);
    let unguarded =
        Options::connected(1, upstream.port()).module(module).edit("action: ALLOW", "action: LOG");
    let statuses = try_to_pass(&unguarded.start(&scene));
    assert!(statuses.iter().all(|status| *status == 200), "{statuses:?}");
    assert_eq!(upstream.count(), statuses.len());
    assert_eq!(
        upstream.last().header_names("x-tollgate"),
        [""; 0],
        "the guard before it still removes what is forged"
    );
}

#[test]
fn a_module_that_cannot_be_loaded_makes_no_gateway() {
    let scene = Scene::new();
    let upstream = Upstream::start();
    let real = std::fs::read(artefacts::filter_wasm()).expect("the module can be read");
    for (name, path) in [
        ("missing", scene.dir().join("missing.wasm")),
        ("empty", scene.write("empty.wasm", "")),
        ("text", scene.write("text.wasm", "this is not a module")),
        ("cut off", scene.write("half.wasm", &real[..real.len() / 2])),
    ] {
        if let Ok(envoy) = Options::connected(1, upstream.port()).module(path).try_start(&scene) {
            let statuses = try_to_pass(&envoy);
            assert!(statuses.iter().all(|status| matches!(status, 403 | 500 | 503)), "{name}: {statuses:?}");
        }
        assert_eq!(upstream.count(), 0, "{name}");
    }
}

#[test]
fn a_vm_that_traps_is_replaced_and_lets_nothing_pass_meanwhile() {
    let scene = Scene::new();
    let upstream = Upstream::start();
    // Traps only at a request with many headers; else it passes, so that 403 (by the guard) says that it runs.
    let body = "(if (i32.gt_s (local.get $headers) (i32.const 25)) (then unreachable)) i32.const 0";
    let module = module(&scene, "traps-at-some.wasm", DONE, body);
    let envoy = Options::connected(1, upstream.port()).module(module).workers(1).start(&scene);
    for _ in 0..3 {
        wait::until_equal("the VM runs", SOON, &403, || envoy.client().get("/a", "t").status);
        let mut client = envoy.client();
        let request = client.request("GET", "/a");
        let trapped = (0..30).fold(request, |request, n| request.header(&format!("x-{n}"), "1")).send();
        assert!(matches!(trapped.status, 500 | 503), "{}", trapped.status);
        let statuses = try_to_pass(&envoy);
        assert!(statuses.iter().all(|status| matches!(status, 403 | 500 | 503)), "{statuses:?}");
    }
    assert_eq!(upstream.count(), 0);
}

#[test]
fn a_trap_is_seen_by_the_tests() {
    let scene = Scene::new();
    let upstream = Upstream::start();
    let module = module(&scene, "traps.wasm", DONE, "unreachable");
    let mut envoy = Options::connected(1, upstream.port()).module(module).start(&scene);
    envoy.client().get("/a", "t");
    wait::until("the log tells", SOON, || envoy.process().log().contains("RuntimeError").then_some(()));
    let seen = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| envoy.assert_no_trap()));
    assert!(seen.is_err(), "assert_no_trap finds it");
}

/// When calls came, and with which edge token, in order.
type Calls = Arc<Mutex<Vec<(Instant, String)>>>;

/// A control plane that grants whatever is wanted, and remembers its calls.
fn generous_control_plane(policy: Value) -> (Server, Calls) {
    let calls = Calls::default();
    let seen = calls.clone();
    let server = Server::start(0, move |request, responder| {
        let token = request.header("authorization").unwrap_or_default().replace("Bearer ", "");
        seen.lock().expect("no handler panics").push((Instant::now(), token));
        let path = request.start.split(' ').nth(1).unwrap_or_default();
        if path.starts_with("/edge/v1/policy") {
            return responder.send_json(200, &json!({"version": 1, "revision": 1, "policy": policy}));
        }
        if path.starts_with("/edge/v1/watch") {
            std::thread::sleep(Duration::from_millis(500));
            return responder.send_json(200, &json!({"version": 1, "after": 0, "policy_revision": 1}));
        }
        let body: Value = serde_json::from_slice(&request.body).unwrap_or_default();
        let account = |account: &Value| {
            let mut account = account.clone();
            account["granted"] = json!(account["want"].as_u64().unwrap_or(0));
            account["unleased"] = json!(0);
            account
        };
        let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
        let subject = |subject: &Value| {
            let accounts: Vec<Value> = list(&subject["accounts"]).iter().map(account).collect();
            json!({"subject": subject["subject"], "revision": 0, "entitlements": {}, "accounts": accounts})
        };
        let subjects: Vec<Value> = list(&body["subjects"]).iter().map(subject).collect();
        let now_ms = token::now_s() * 1_000;
        let answer = json!({"version": 1, "lease_ttl_ms": 30_000, "now_ms": now_ms, "policy_revision": 1, "subjects": subjects});
        responder.send_json(200, &answer)
    });
    (server, calls)
}

#[test]
fn a_replaced_configuration_drops_no_request_and_its_old_root_context_falls_silent() {
    let scene = Scene::alone();
    let upstream = Upstream::start();
    let (control_plane, calls) = generous_control_plane(policy::free(json!([policy::quota(1_000_000)])));
    let gateway = Port::take();
    let options = |token: &str| {
        let plugin = json!({"control_plane": {"cluster": "tollgate", "token": token}}).to_string();
        Options::connected(control_plane.port(), upstream.port()).gateway(gateway.number).plugin(plugin)
    };
    let (bootstrap, listener) =
        options("first").render_with_listener_file(&scene.dir().join("listener.yaml"));
    scene.write("listener.yaml", listener);
    let bootstrap = scene.write("bootstrap.yaml", bootstrap);
    let mut envoy = options("first").start_with(&scene, &bootstrap);
    envoy.wait_for_policy();
    let (token, stop, answered) = (token::of("alice"), AtomicBool::new(false), AtomicUsize::new(0));
    envoy.client().get("/a", &token).expect(200);
    assert!(calls.lock().expect("no handler panics").iter().all(|(_, token)| token == "first"));

    // A stream that keeps the old root context alive at first.
    let mut long = envoy.client();
    long.request("GET", "/a?chunks=120").token(&token).open().expect("it is sent");
    assert_eq!(long.read_answer_head().expect("an answer").expect("an answer").status, 200);
    let start = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                let mut client = envoy.client();
                while !stop.load(Ordering::Relaxed) && start.elapsed() < Duration::from_secs(60) {
                    client.get("/a", &token).expect(200);
                    answered.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        let (_, listener) = options("second").render_with_listener_file(&scene.dir().join("listener.yaml"));
        scene.write("listener.yaml", listener);
        let last = |of: &str| {
            let calls = calls.lock().expect("no handler panics");
            calls.iter().rev().find(|(_, token)| token == of).map(|(at, _)| at.elapsed())
        };
        wait::until("the new root context calls", SOON, || last("second"));
        assert!(long.read_chunk().expect("it goes on").is_some(), "the old stream is still there");
        // The old one lives for as long as Envoy drains its connections, three seconds here. Then it must be silent; an
        // edge calls at least twice a second here, whoever leads.
        wait::until("the old root context falls silent", Duration::from_secs(20), || {
            last("first").filter(|silent| *silent > Duration::from_secs(4))
        });
        wait::until("the new one goes on", SOON, || {
            last("second").filter(|silent| *silent < Duration::from_secs(2))
        });
        stop.store(true, Ordering::Relaxed);
    });
    assert!(answered.load(Ordering::Relaxed) > 20, "there was load");
    envoy.assert_no_trap();
}

#[test]
fn limits_survive_a_replaced_configuration() {
    let scene = Scene::new();
    let upstream = Upstream::start();
    let gateway = Port::take();
    let options = |url: &str| {
        let mut policy = policy::free(json!([policy::quota(5)]));
        policy["denials"] = json!({ "upgrade_url": url });
        Options::alone(&policy, upstream.port()).gateway(gateway.number)
    };
    let (bootstrap, listener) =
        options("https://a.example").render_with_listener_file(&scene.dir().join("listener.yaml"));
    scene.write("listener.yaml", listener);
    let envoy = options("https://a.example").start_with(&scene, &scene.write("bootstrap.yaml", bootstrap));
    let token = token::of("alice");
    for _ in 0..5 {
        envoy.client().get("/a", &token).expect(200);
    }
    let (_, listener) =
        options("https://b.example").render_with_listener_file(&scene.dir().join("listener.yaml"));
    scene.write("listener.yaml", listener);
    wait::until("the new configuration is in force", SOON, || {
        let denied = envoy.client().get("/a", &token).expect_problem(429, "quota-exceeded");
        (denied.json()["upgrade_url"] == "https://b.example").then_some(())
    });
    assert_eq!(upstream.count(), 5);
}

#[test]
fn memory_stays_bounded_however_many_policies_are_pushed() {
    let scene = Scene::alone();
    let upstream = Upstream::start();
    let control_plane = ControlPlane::start(&scene);
    // Some 300 KiB, so that a copy that stays behind is seen.
    let policy = |number: u64| {
        let mut policy = policy::free(json!([policy::quota(1_000_000 + number)]));
        let route =
            |n: u64| json!({"path": format!("/route-{n}/{}", "x".repeat(200)), "charges": {"calls": 1}});
        policy["routes"] = (0..900).map(route).collect();
        policy
    };
    control_plane.apply(&policy(0));
    let mut envoy = control_plane.edge(&scene, "one", upstream.port());
    let token = token::of("alice");
    let push = |numbers: std::ops::Range<u64>| {
        for number in numbers {
            control_plane.apply(&policy(number));
            let expected = format!("\"calls\";q={}", 1_000_000 + number);
            wait::until_equal("the policy is in force", SOON, &expected, || {
                envoy.client().get("/a", &token).header("ratelimit-policy").unwrap_or_default()
            });
        }
    };
    push(1..11);
    let before_kib = resident_kib(&envoy);
    push(11..51);
    let after_kib = resident_kib(&envoy);
    // Each of 40 policies in two workers and the main thread is at least 300 KiB: 36 MiB if none were forgotten.
    assert!(after_kib < before_kib + 16 * 1_024, "from {before_kib} KiB to {after_kib} KiB");
    envoy.assert_no_trap();
}

/// Memory that Envoy has in use.
fn resident_kib(envoy: &Envoy) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", envoy.id())).expect("it runs");
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).expect("it has memory");
    line.split_whitespace().nth(1).and_then(|kib| kib.parse().ok()).expect("a number")
}

#[test]
fn answers_of_the_control_plane_that_are_nonsense_or_never_come_do_not_trap() {
    const WAYS: usize = 9;
    let scene = Scene::new();
    let upstream = Upstream::start();
    let next = Arc::new(AtomicUsize::new(0));
    let told = next.clone();
    let control_plane = Server::start(0, move |_, responder| {
        let huge = format!("[{}]", "0,".repeat(1 << 20));
        let deep = "[".repeat(100_000);
        match told.fetch_add(1, Ordering::Relaxed) % WAYS {
            0 => responder.cut(),
            1 => responder.send(200, &[], b""),
            2 => responder.send(200, &[], b"\xff\xfe\x00"),
            3 => responder.send(200, &[], huge.as_bytes()),
            4 => responder.send(200, &[], deep.as_bytes()),
            5 => responder.send(500, &[("x-odd", "\u{e9}")], "\u{1f6a7}".repeat(200).as_bytes()),
            6 => responder.send_json(200, &json!({"version": 1, "revision": u64::MAX, "policy": {}})),
            7 => responder.begin(200, &[]).and_then(|()| responder.cut()),
            _ => responder.send_nothing(),
        }
    });
    let mut envoy = Options::connected(control_plane.port(), upstream.port()).start(&scene);
    wait::until("each kind came several times", Duration::from_secs(60), || {
        envoy.client().get("/a", &token::of("alice")).expect(503);
        (next.load(Ordering::Relaxed) > 3 * WAYS).then_some(())
    });
    assert_eq!(upstream.count(), 0);
    envoy.assert_no_trap();
}

#[test]
fn what_never_becomes_a_request_does_not_trap() {
    let scene = Scene::new();
    let upstream = Upstream::start();
    let mut envoy = Options::alone(&policy::free(json!([])), upstream.port()).start(&scene);
    let long = format!("GET / HTTP/1.1\r\nhost: a\r\nx: {}\r\n\r\n", "x".repeat(120 * 1_024));
    for bytes in [
        b"\r\n\r\n".as_slice(),
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\nnonsense that is no frame",
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET / HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\ncontent-length: 6\r\n\r\n",
        b"GET / HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\n\r\n",
        b"CONNECT a:1 HTTP/1.1\r\nhost: a\r\n\r\n",
        b"OPTIONS * HTTP/1.1\r\nhost: a\r\n\r\n",
        b"GET http://other.example/public/../a HTTP/1.1\r\nhost: a\r\n\r\n",
        b"GET /\x00 HTTP/1.1\r\nhost: a\r\n\r\n",
        long.as_bytes(),
    ] {
        let mut client = envoy.client();
        client.open_raw(bytes).expect("it is sent");
        client.hang_up();
        let mut client = envoy.client();
        client.set_patience(Duration::from_millis(300));
        if let Some(answer) = client.send_raw(bytes) {
            assert!((400..=505).contains(&answer.status), "{}: {}", answer.status, answer.text());
        }
    }
    assert_eq!(upstream.count(), 0);
    envoy.client().get("/a", &token::of("alice")).expect(200);
    envoy.assert_no_trap();
}

#[test]
fn a_wrong_edge_token_gives_nothing_away() {
    let scene = Scene::new();
    let upstream = Upstream::start();
    let control_plane = ControlPlane::start(&scene);
    control_plane.apply(&policy::free(json!([])));
    let plugin = json!({"control_plane": {"cluster": "tollgate", "token": "wrong-edge-token"}}).to_string();
    let mut envoy = Options::connected(control_plane.port(), upstream.port()).plugin(plugin).start(&scene);
    envoy.client().get("/a", &token::of("alice")).expect_problem(503, "policy-unavailable");
    wait::until("the log says why", SOON, || envoy.process().log().contains("answered 401").then_some(()));
    let log = envoy.process().log();
    assert!(!log.contains("wrong-edge-token") && !log.contains(EDGE_TOKEN), "no token gets into a log");
    assert_eq!(upstream.count(), 0);
}
