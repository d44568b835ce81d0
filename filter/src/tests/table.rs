//! The table of cases, natively: through the `Host` trait, and with clocks that stand still.

use std::collections::BTreeMap;

use tollgate_cases::{Case, Expect, HangUp, Reached, Reset, Runner, Seen, Setting, Step, Table};

use super::*;

tollgate_cases::tests_of_kinds!(run);

/// Longest time that a request waits for the control plane, ms.
const PATIENCE_MS: u64 = 3_000;

/// Runs all cases of a kind, and fails with what was not as expected.
#[track_caller]
fn run(kind: &str) {
    let mut failures = Vec::new();
    for (setting, cases) in Table::read(kind).by_setting() {
        let mut bench = Bench::new(&setting);
        for case in cases {
            failures.extend(bench.run(case).err());
        }
    }
    assert!(failures.is_empty(), "{kind}.yaml, natively:\n{}", failures.join("\n"));
}

/// A proxy of two workers that requests take in turn.
struct Bench {
    world: World,
    sent: usize,
    held: BTreeMap<String, (Sending, Step)>,
}

impl Bench {
    fn new(setting: &Setting) -> Self {
        let key = json!({"kty": "oct", "kid": "k1", "alg": "HS256", "k": base64url(SECRET.as_bytes())});
        let policy = tollgate_cases::complete(&setting.policy, ISSUER, "api", &json!({"keys": [key]}));
        let mut world = if setting.control_plane {
            World::new(&policy, &[2])
        } else {
            World::configured(&policy, &[2], &json!({ "policy": policy }).to_string())
        };
        for (subject, subscription) in &setting.subscriptions {
            let mut whole = json!({"anchor_ms": START_MS});
            for (name, value) in subscription.as_object().unwrap() {
                whole[name.as_str()] = value.clone();
            }
            world.plane.subscribe(subject, serde_json::from_value(whole).unwrap());
        }
        world.run(1_000);
        Self { world, sent: 0, held: BTreeMap::new() }
    }

    /// Runs a case up to its first step that fails.
    fn run(&mut self, case: &Case) -> Result<(), String> {
        for (number, step) in case.steps.iter().enumerate() {
            for time in 1..=step.request.times {
                let (seen, expected) = self.take(step);
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
        let expected = Some(step.expected(Runner::Native)).filter(|expect| expect.says_something());
        if let Some(name) = &step.finish {
            let (sending, held) = self.held.remove(name).expect("a request of this name is held");
            return (self.finish(sending, &held), expected);
        }
        let sending = self.send(step);
        if let Some(name) = &step.hold
            && self.world.has_passed(sending)
        {
            self.held.insert(name.clone(), (sending, step.clone()));
            return (Seen { status: None, ..self.seen(sending) }, expected);
        }
        (self.finish(sending, step), expected)
    }

    /// Sends all of a request, and waits until its fate is known.
    fn send(&mut self, step: &Step) -> Sending {
        let request = &step.request;
        let (path, method) = (request.path.clone(), request.method().to_owned());
        let mut headers: Headers =
            [(":method", method), (":path", path), (":authority", request.host.clone())]
                .map(|(name, value)| (name.to_owned(), value.into_bytes()))
                .into();
        if let Some(token) = &request.token {
            let token = sign("k1", &token.claims(ISSUER, "api", START_MS / 1_000));
            headers.push(("authorization".to_owned(), format!("Bearer {token}").into_bytes()));
        }
        let lower = |(name, value): (String, Vec<u8>)| (name.to_ascii_lowercase(), value);
        headers.extend(request.headers().into_iter().map(lower));
        // As Envoy does, which knows the peer's address.
        let forwarded = headers.iter_mut().find(|(name, _)| name == "x-forwarded-for");
        match forwarded {
            Some((_, addresses)) => addresses.extend_from_slice(b",127.0.0.1"),
            None => headers.push(("x-forwarded-for".to_owned(), b"127.0.0.1".to_vec())),
        }
        let has_length = headers.iter().any(|(name, _)| name == "content-length");
        if let Some(body) = request.body().filter(|_| !has_length) {
            headers.push(("content-length".to_owned(), body.len().to_string().into_bytes()));
        }
        if request.chunks.is_some() {
            headers.push(("transfer-encoding".to_owned(), b"chunked".to_vec()));
        }
        self.sent += 1;
        let sending = self.world.send(self.sent % 2, headers);
        let chunks: Option<Vec<Vec<u8>>> =
            request.chunks.as_ref().map(|chunks| chunks.iter().map(|chunk| chunk.bytes()).collect());
        let chunks = chunks.or_else(|| request.body().map(|body| vec![body])).unwrap_or_default();
        if chunks.is_empty() {
            self.world.request_has_no_body(sending);
        }
        for (index, chunk) in chunks.iter().enumerate() {
            if self.world.answer(sending).is_none() {
                let last = index + 1 == chunks.len() && request.hang_up != Some(HangUp::InBody);
                self.world.request_body(sending, chunk, last);
            }
        }
        let mut waited_ms = 0;
        while self.world.is_waiting(sending) && waited_ms < PATIENCE_MS {
            self.world.run(10);
            waited_ms += 10;
        }
        sending
    }

    /// The upstream's answer, if the request has got there, and the stream's end.
    fn finish(&mut self, sending: Sending, step: &Step) -> Seen {
        let gone = matches!(step.request.hang_up, Some(HangUp::InBody | HangUp::BeforeAnswer));
        if self.world.has_passed(sending) && !gone {
            self.answer(sending, step);
        }
        self.world.end(sending);
        self.seen(sending)
    }

    fn answer(&mut self, sending: Sending, step: &Step) {
        let upstream = &step.upstream;
        if upstream.reset == Some(Reset::Before) {
            return self.world.response_head(sending, 503, BTreeMap::new(), true);
        }
        let headers = upstream.headers().into_iter();
        let headers = headers.map(|(name, value)| (name, String::from_utf8_lossy(&value).into_owned()));
        let nothing_follows =
            upstream.chunks.is_none() && upstream.body().is_none() && upstream.trailers.is_empty();
        self.world.response_head(sending, upstream.status(), headers.collect(), nothing_follows);
        if step.request.hang_up == Some(HangUp::InAnswer) {
            return;
        }
        let whole = upstream.body().map(|body| vec![body]).unwrap_or_default();
        let chunks = upstream.chunks.as_ref();
        let chunks = chunks.map_or(whole, |chunks| chunks.iter().map(|chunk| chunk.bytes()).collect());
        let ends = upstream.trailers.is_empty() && upstream.reset.is_none();
        for (index, chunk) in chunks.iter().enumerate() {
            self.world.response_body(sending, chunk, ends && index + 1 == chunks.len());
        }
        if !upstream.trailers.is_empty() {
            self.world.response_trailers(sending, upstream.trailers.clone());
        }
    }

    fn seen(&self, sending: Sending) -> Seen {
        let bytes = |headers: &BTreeMap<String, String>| {
            headers.iter().map(|(name, value)| (name.clone(), value.clone().into_bytes())).collect()
        };
        self.world.look(sending, |stream| {
            let reached = || Reached { headers: stream.headers.clone(), body: stream.request.passed.clone() };
            // A server has a request when it has all of it.
            let upstream = (stream.resumed && stream.request.ended).then(reached);
            match &stream.answer {
                Some(answer) => Seen {
                    status: Some(answer.status),
                    headers: bytes(&answer.headers),
                    body: answer.body.clone(),
                    upstream,
                },
                None => Seen {
                    status: stream.status,
                    headers: bytes(&stream.response_headers),
                    body: stream.response.passed.clone(),
                    upstream,
                },
            }
        })
    }
}
