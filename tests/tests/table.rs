//! The table of cases through a real Envoy: the same files that the filter's own tests read.

use std::collections::BTreeMap;
use std::time::Duration;

use tollgate_cases::{Case, Expect, HangUp, Reached, Request, Reset, Runner, Seen, Setting, Step, Table};
use tollgate_tests::client::Client;
use tollgate_tests::control_plane::ControlPlane;
use tollgate_tests::envoy::{Envoy, Options};
use tollgate_tests::policy;
use tollgate_tests::scene::Scene;
use tollgate_tests::token::{AUDIENCE, ISSUER, Key, Token, now_s};
use tollgate_tests::upstream::{CASE, Cut, Reply, Upstream};
use tollgate_tests::wait;

tollgate_cases::tests_of_kinds!(run);

/// Longer than a request may wait for the control plane.
const PATIENCE: Duration = Duration::from_secs(10);

/// Runs all cases of a kind, and fails with what was not as expected.
#[track_caller]
fn run(kind: &str) {
    let scene = Scene::new();
    let mut failures = Vec::new();
    for (setting, cases) in Table::read(kind).by_setting() {
        let mut bench = Bench::start(&scene, &setting);
        for case in cases {
            failures.extend(bench.run(case).err());
        }
        bench.envoy.assert_no_trap();
    }
    assert!(failures.is_empty(), "{kind}.yaml, through Envoy:\n{}", failures.join("\n"));
}

/// An Envoy with an application behind it.
struct Bench {
    envoy: Envoy,
    upstream: Upstream,
    _control_plane: Option<ControlPlane>,
    sent: usize,
    held: BTreeMap<String, Sent>,
}

/// A request on its way.
struct Sent {
    name: String,
    client: Client,
    step: Step,
}

impl Bench {
    fn start(scene: &Scene, setting: &Setting) -> Self {
        let upstream = if setting.http2 { Upstream::start_http2() } else { Upstream::start() };
        let jwks = policy::jwks(&Key::TRUSTED);
        let policy = tollgate_cases::complete(&setting.policy, ISSUER, AUDIENCE, &jwks);
        let control_plane = setting.control_plane.then(|| {
            let control_plane = ControlPlane::start(scene);
            control_plane.apply(&policy);
            for (subject, subscription) in &setting.subscriptions {
                control_plane.subscribe_as(subject, subscription);
            }
            control_plane
        });
        let options = match &control_plane {
            Some(control_plane) => Options::connected(control_plane.port(), upstream.port()),
            None => Options::alone(&policy, upstream.port()),
        };
        let envoy = if setting.http2 { options.http2() } else { options }.start(scene);
        if control_plane.is_some() {
            envoy.wait_for_policy();
        }
        Self { envoy, upstream, _control_plane: control_plane, sent: 0, held: BTreeMap::new() }
    }

    /// Runs a case up to its first step that fails.
    fn run(&mut self, case: &Case) -> Result<(), String> {
        for (number, step) in case.steps.iter().enumerate() {
            for time in 1..=step.request.times {
                let (seen, expected) = self.take(step);
                // Settled before the next one asks what is left.
                let held = i64::try_from(self.held.len()).expect("they are few");
                wait::until_equal("the streams are over", wait::SOON, &held, || {
                    self.envoy.stat("http.gateway.downstream_rq_active")
                });
                let found = expected.map(|expected| expected.differences(&seen)).unwrap_or_default();
                if !found.is_empty() {
                    let lines = found.join("\n    ");
                    let (step, name) = (step.title(), &case.name);
                    return Err(format!("{name}: step {}, {step} ({time}.)\n    {lines}", number + 1));
                }
            }
        }
        assert!(self.held.is_empty(), "{}: a request is never finished", case.name);
        Ok(())
    }

    /// Does what a step says; what is to be expected of it, if anything yet.
    fn take<'a>(&mut self, step: &'a Step) -> (Seen, Option<&'a Expect>) {
        let expected = Some(step.expected(Runner::Envoy)).filter(|expect| expect.says_something());
        if let Some(name) = &step.finish {
            let sent = self.held.remove(name).expect("a request of this name is held");
            self.upstream.release(&sent.name);
            return (self.finish(sent), expected);
        }
        let sent = self.send(step);
        if let Some(name) = &step.hold {
            self.wait_until_reached(&sent.name);
            let seen = Seen { upstream: self.reached(&sent.name), ..Seen::default() };
            self.held.insert(name.clone(), sent);
            return (seen, expected);
        }
        (self.finish(sent), expected)
    }

    fn send(&mut self, step: &Step) -> Sent {
        self.sent += 1;
        let name = format!("{}", self.sent);
        self.upstream.tell(&name, reply(step));
        let mut client = self.envoy.client();
        client.set_patience(PATIENCE);
        for bytes in written(&step.request, &name) {
            // Who is refused early may find the connection closed.
            if client.open_raw(&bytes).is_err() {
                break;
            }
        }
        Sent { name, client, step: step.clone() }
    }

    /// Reads the answer, or goes away.
    fn finish(&self, mut sent: Sent) -> Seen {
        let mut seen = Seen::default();
        match sent.step.request.hang_up {
            Some(HangUp::InBody) => {
                wait::until("Envoy has the head", wait::SOON, || {
                    Some(()).filter(|()| self.envoy.stat("http.gateway.downstream_rq_active") > 0)
                });
            }
            Some(HangUp::BeforeAnswer) => self.wait_until_reached(&sent.name),
            Some(HangUp::InAnswer) | None => {
                if let Ok(Some(mut answer)) = sent.client.read_answer_head() {
                    if sent.step.request.hang_up.is_none() && sent.step.request.method() != "HEAD" {
                        let _ = sent.client.read_answer_body(&mut answer);
                    }
                    seen.status = Some(answer.status);
                    seen.headers = answer.message.headers;
                    seen.body = answer.message.body;
                }
            }
        }
        sent.client.hang_up();
        self.upstream.release(&sent.name);
        Seen { upstream: self.reached(&sent.name), ..seen }
    }

    fn wait_until_reached(&self, name: &str) {
        wait::until("the application has the request", wait::SOON, || self.reached(name));
    }

    fn reached(&self, name: &str) -> Option<Reached> {
        let message = self.upstream.seen_of(name)?;
        Some(Reached { headers: message.headers, body: message.body })
    }
}

/// What the application is to answer.
fn reply(step: &Step) -> Reply {
    let upstream = &step.upstream;
    let chunks = upstream.chunks.as_ref().map(|chunks| chunks.iter().map(|chunk| chunk.bytes()).collect());
    Reply {
        status: upstream.status(),
        headers: upstream.headers(),
        has_length: chunks.is_none() && upstream.trailers.is_empty(),
        chunks: chunks.unwrap_or_else(|| upstream.body().into_iter().collect()),
        trailers: upstream.trailers.clone().into_iter().collect(),
        cut: upstream.reset.map(|reset| if reset == Reset::Before { Cut::Before } else { Cut::After }),
        is_held: step.hold.is_some() || step.request.hang_up == Some(HangUp::BeforeAnswer),
    }
}

/// A request's bytes, in the pieces in which they are sent.
fn written(request: &Request, name: &str) -> Vec<Vec<u8>> {
    let (method, path, host) = (request.method(), &request.path, &request.host);
    let mut head = format!("{method} {path} HTTP/1.1\r\nhost: {host}\r\n{CASE}: {name}\r\n").into_bytes();
    let mut header =
        |name: &str, value: &[u8]| head.extend([name.as_bytes(), b": ", value, b"\r\n"].concat());
    if let Some(token) = &request.token {
        let token = Token::with_claims(token.claims(ISSUER, AUDIENCE, now_s())).sign();
        header("authorization", format!("Bearer {token}").as_bytes());
    }
    let headers = request.headers();
    for (name, value) in &headers {
        header(name, value);
    }
    let has_length = headers.iter().any(|(name, _)| name == "content-length");
    let mut pieces = Vec::new();
    if let Some(chunks) = &request.chunks {
        header("transfer-encoding", b"chunked");
        for chunk in chunks.iter().map(|chunk| chunk.bytes()) {
            pieces.push([format!("{:x}\r\n", chunk.len()).as_bytes(), &chunk, b"\r\n"].concat());
        }
        if request.hang_up != Some(HangUp::InBody) {
            pieces.push(b"0\r\n\r\n".to_vec());
        }
    } else if let Some(body) = request.body() {
        if !has_length {
            header("content-length", body.len().to_string().as_bytes());
        }
        pieces.push(body);
    }
    head.extend(b"\r\n");
    pieces.insert(0, head);
    pieces
}
