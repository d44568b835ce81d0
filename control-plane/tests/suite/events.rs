//! Events: noted once with what causes them, signed, and told until they arrive.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse as _, Redirect, Response};
use axum::routing::post;
use expect_test::expect;
use reqwest::Method;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tollgate_control_plane::config::Settings;
use tollgate_control_plane::service::deliveries::CLAIM_MS;
use tollgate_control_plane::service::deliveries::signature::{Secret, sign};
use tollgate_control_plane::service::event_endpoints::EndpointWish;
use tollgate_control_plane::service::happenings::{Happening, note};
use tollgate_control_plane::service::moments::Moments;
use tollgate_control_plane::service::{Invalid, ServiceError};
use tollgate_control_plane::store::event_deliveries;

use super::payments::{self, START_S, stripe_event};
use super::support::{
    KINDS, START_MS, Served, TestClock, TestDatabase, author, eventually, on_each_database, plane_with,
    session, sync_body,
};

const HOUR_MS: u64 = 3_600_000;

/// One event as it was received.
#[derive(Debug, Clone)]
pub struct Received {
    pub id: String,
    timestamp: i64,
    signature: String,
    body: String,
}

impl Received {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap()
    }

    fn kind(&self) -> String {
        self.json()["type"].as_str().unwrap().to_owned()
    }

    /// Whether all its signatures are of these secrets, in their order.
    pub fn is_signed_with(&self, secrets: &[&str]) -> bool {
        let secrets: Vec<Secret> = secrets.iter().map(|secret| Secret::parse(secret).unwrap()).collect();
        self.signature == sign(&secrets, &self.id, self.timestamp, &self.body)
    }
}

#[derive(Debug, Default)]
struct Inbox {
    received: Vec<Received>,
    /// What is answered.
    status: Option<StatusCode>,
    retry_after_s: Option<u64>,
}

/// A server that is told events.
pub struct Receiver {
    pub address: SocketAddr,
    inbox: Arc<Mutex<Inbox>>,
}

impl Receiver {
    pub async fn start() -> Self {
        let inbox: Arc<Mutex<Inbox>> = Arc::default();
        let router = axum::Router::new().route("/hooks", post(receive)).with_state(inbox.clone());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self { address, inbox }
    }

    pub fn url(&self) -> String {
        format!("http://{}/hooks", self.address)
    }

    fn answer(&self, status: StatusCode) {
        self.inbox.lock().unwrap().status = Some(status);
    }

    fn ask_to_wait(&self, seconds: u64) {
        self.answer(StatusCode::TOO_MANY_REQUESTS);
        self.inbox.lock().unwrap().retry_after_s = Some(seconds);
    }

    pub fn received(&self) -> Vec<Received> {
        self.inbox.lock().unwrap().received.clone()
    }

    /// Waits until so many were received.
    async fn wait(&self, count: usize) -> Vec<Received> {
        eventually(&format!("{count} events"), async || {
            Some(self.received()).filter(|received| received.len() >= count)
        })
        .await
    }
}

async fn receive(State(inbox): State<Arc<Mutex<Inbox>>>, headers: HeaderMap, body: Bytes) -> Response {
    let header = |name: &str| headers[name].to_str().unwrap().to_owned();
    assert_eq!(header("content-type"), "application/json");
    let mut inbox = inbox.lock().unwrap();
    inbox.received.push(Received {
        id: header("webhook-id"),
        timestamp: header("webhook-timestamp").parse().unwrap(),
        signature: header("webhook-signature"),
        body: String::from_utf8(body.to_vec()).unwrap(),
    });
    match (inbox.status, inbox.retry_after_s) {
        (Some(StatusCode::TEMPORARY_REDIRECT), _) => Redirect::temporary("/hooks").into_response(),
        (Some(status), Some(seconds)) => (status, [("retry-after", seconds.to_string())]).into_response(),
        (status, _) => status.unwrap_or(StatusCode::NO_CONTENT).into_response(),
    }
}

/// Adds an endpoint; answers its id and secret.
async fn add(served: &Served, url: &str, types: &[&str]) -> (String, String) {
    let body = json!({ "url": url, "types": types });
    let (status, made) = served.send(Method::POST, "/v1/event-endpoints", Some(body)).await;
    assert_eq!(status, 201, "{made}");
    (made["id"].as_str().unwrap().to_owned(), made["secret"].as_str().unwrap().to_owned())
}

async fn post_ok(served: &Served, path: &str, body: Value) -> Value {
    let (status, answer) = served.send(Method::POST, path, Some(body)).await;
    assert!(status.is_success(), "{path}: {status} {answer}");
    answer
}

/// Sends a test event; answers its id.
async fn try_out(served: &Served, endpoint: &str) -> String {
    let sent = post_ok(served, &format!("/v1/event-endpoints/{endpoint}/test"), json!({})).await;
    sent["event"].as_str().unwrap().to_owned()
}

/// Waits until an event's delivery to its one endpoint was attempted so often; answers it.
async fn attempted(served: &Served, event: &str, attempts: i64) -> Value {
    eventually(&format!("{attempts} attempts"), async || {
        let event = served.get(&format!("/v1/events/{event}")).await;
        let delivery = event["deliveries"][0].clone();
        (delivery["attempts"].as_i64() >= Some(attempts)).then_some(delivery)
    })
    .await
}

/// Types and what tells them apart, sorted.
fn told(received: &[Received]) -> Vec<String> {
    let mut told: Vec<String> = received
        .iter()
        .map(|event| format!("{} {}", event.kind(), event.json()["data"]["percent"]))
        .collect();
    told.sort();
    told
}

#[tokio::test]
async fn each_threshold_of_a_window_is_told_once() {
    on_each_database(async |test| {
        let served = Served::start_with_policy(&test.url).await;
        let receiver = Receiver::start().await;
        let (_, secret) = add(&served, &receiver.url(), &["threshold.reached"]).await;
        for taken in [3, 4, 4, 5, 5] {
            let (status, _) = served.sync(sync_body(&session(1), "user:a", taken, 5)).await;
            assert_eq!(status, 200);
        }
        served.sync(sync_body(&session(1), "user:b", 4, 4)).await;
        let received = receiver.wait(4).await;
        let of = |subject: &str| -> Vec<Received> {
            received.iter().filter(|event| event.json()["data"]["subject"] == subject).cloned().collect()
        };
        let expected = ["threshold.reached 100", "threshold.reached 80", "threshold.reached 95"];
        assert_eq!(told(&of("user:a")), expected);
        assert_eq!(told(&of("user:b")), ["threshold.reached 80"]);
        assert!(received.iter().all(|event| event.is_signed_with(&[&secret])));
        let first = of("user:b").remove(0).json();
        assert_eq!(first["timestamp"], "2027-03-01T00:00:00Z");
        let window = json!({"start": "2027-03-01T00:00:00Z", "end": "2027-03-01T01:00:00Z"});
        let data = json!({
            "subject": "user:b", "limit": "calls.hour", "meter": "calls", "kind": "quota",
            "window": window, "units": 5, "used": 4, "percent": 80,
        });
        assert_eq!(first["data"], data);

        served.clock.pass(HOUR_MS);
        let mut next = sync_body(&session(1), "user:b", 4, 4);
        next["subjects"][0]["accounts"][0]["window"] = json!(START_MS + 3_600_000);
        served.sync(next).await;
        let received = receiver.wait(5).await;
        assert_eq!(received.len(), 5, "the next window is told anew, and nothing is told twice");
        let events = served.get("/v1/events?subject=user:b").await;
        assert_eq!(events["items"].as_array().unwrap().len(), 2);
        served.stop().await;
    })
    .await;
}

#[tokio::test]
async fn a_lower_maximum_tells_the_thresholds_that_it_reaches_once() {
    on_each_database(async |test| {
        let served = Served::start_with_policy(&test.url).await;
        let receiver = Receiver::start().await;
        add(&served, &receiver.url(), &["threshold.reached"]).await;
        let subscribe = async |subject: &str, tier: &str| {
            served.put(&format!("/v1/subscriptions/{subject}"), json!({"tier": tier})).await;
        };
        // Of a thousand, and of five.
        for (subject, taken) in [("user:a", 4), ("user:b", 6), ("user:c", 3), ("user:d", 5), ("user:e", 3)] {
            subscribe(subject, "pro").await;
            assert_eq!(served.sync(sync_body(&session(1), subject, taken, taken)).await.0, 200);
        }
        for tier in ["free", "pro", "free"] {
            for subject in ["user:a", "user:b", "user:c"] {
                subscribe(subject, tier).await;
            }
        }
        // And what was scheduled, when its moment has come.
        let down = json!({"at": "2027-03-01T00:10:00Z", "tier": "free"});
        for subject in ["user:d", "user:e"] {
            post_ok(&served, &format!("/v1/subscriptions/{subject}/changes"), down.clone()).await;
        }
        served.clock.pass(600_000);
        // A sync may tell of the lower maximum before the change is written down: it is told once all the same.
        assert_eq!(served.sync(sync_body(&session(1), "user:e", 4, 4)).await.0, 200);
        Moments.look(&served.plane).await.unwrap();
        let received = receiver.wait(8).await;
        let of = |subject: &str| -> Vec<Received> {
            received.iter().filter(|event| event.json()["data"]["subject"] == subject).cloned().collect()
        };
        assert_eq!(told(&of("user:a")), ["threshold.reached 80"]);
        assert_eq!(told(&of("user:e")), ["threshold.reached 80"]);
        let all = ["threshold.reached 100", "threshold.reached 80", "threshold.reached 95"];
        assert_eq!(
            (told(&of("user:b")), told(&of("user:d"))),
            (all.map(str::to_owned).to_vec(), all.map(str::to_owned).to_vec())
        );
        let data = &of("user:a")[0].json()["data"];
        assert_eq!(
            (&data["units"], &data["used"], &data["limit"]),
            (&json!(5), &json!(4), &json!("calls.hour"))
        );
        // The next unit crosses the next line, and tells that one alone.
        assert_eq!(served.sync(sync_body(&session(1), "user:a", 5, 5)).await.0, 200);
        let received = receiver.wait(10).await;
        assert_eq!(received.len(), 10, "{:?}", told(&received));
        let events = served.get("/v1/events?limit=100").await;
        assert_eq!(events["items"].as_array().unwrap().len(), 10, "each once");
        served.stop().await;
    })
    .await;
}

#[tokio::test]
async fn a_limit_is_hit_when_more_is_wanted_than_there_is() {
    on_each_database(async |test| {
        let served = Served::start_with_policy(&test.url).await;
        let receiver = Receiver::start().await;
        add(&served, &receiver.url(), &["limit.hit"]).await;
        served.sync(sync_body(&session(1), "user:a", 0, 5)).await;
        served.sync(sync_body(&session(1), "user:a", 3, 9)).await;
        let none = served.get("/v1/events").await;
        assert_eq!(none["items"], json!([]), "what is asked for in advance is no hit");
        served.sync(sync_body(&session(1), "user:a", 5, 9)).await;
        served.sync(sync_body(&session(1), "user:a", 5, 9)).await;
        // One request that needs more than is left.
        served.sync(sync_body(&session(1), "user:b", 0, 6)).await;
        served.sync(sync_body(&session(1), "user:b", 0, 6)).await;
        let received = receiver.wait(2).await;
        assert_eq!(told(&received), ["limit.hit 0", "limit.hit 100"]);
        let events = served.get("/v1/events").await;
        assert_eq!(events["items"].as_array().unwrap().len(), 2, "each once");
        served.stop().await;
    })
    .await;
}

#[tokio::test]
async fn capacities_are_told_and_rates_are_not() {
    let test = TestDatabase::sqlite();
    let served = Served::start(&test.url).await;
    served.plane.apply_policy(&author(&served.plane), KINDS, None, None).await.unwrap();
    let receiver = Receiver::start().await;
    add(&served, &receiver.url(), &[]).await;
    let account = |limit: &str, window: i64, taken: u64| json!({"limit": limit, "window": window, "taken": taken, "want": taken});
    let sync = |documents: u64, calls: u64| {
        let rate = account("calls.1s.burst", -2, 20);
        let accounts = json!([
            account("documents", tollgate_policy::lease::CAPACITY_WINDOW, documents),
            rate,
            account("calls.month", START_MS, calls)
        ]);
        json!({"version": 1, "session": session(1), "subjects": [{"subject": "user:a", "accounts": accounts}]})
    };
    served.sync(sync(9, 799)).await;
    served.sync(sync(9, 1_200)).await;
    let received = receiver.wait(4).await;
    let limits: Vec<String> =
        received.iter().map(|e| e.json()["data"]["limit"].as_str().unwrap().to_owned()).collect();
    let of = |name: &str| limits.iter().filter(|limit| **limit == *name).count();
    assert_eq!((of("documents"), of("calls.month"), limits.len()), (1, 3, 4), "{limits:?}");
    let documents = received.iter().map(Received::json).find(|e| e["data"]["limit"] == "documents").unwrap();
    assert_eq!(
        (&documents["data"]["window"], &documents["data"]["kind"]),
        (&Value::Null, &json!("capacity"))
    );
    served.stop().await;
}

#[tokio::test]
async fn what_is_undone_is_not_told_and_what_nobody_hears_is_not_kept() {
    on_each_database(async |test| {
        let served = Served::start_with_policy(&test.url).await;
        let changed = |to: &str| Happening::TierChanged {
            subject: "user:a".to_owned(),
            from: None,
            to: Some(to.to_owned()),
            at_ms: START_MS,
        };
        let noted = async |to: &str, undo: bool| {
            let happening = &changed(to);
            let done = served.plane.database.transact("note", |tx| {
                Box::pin(async move {
                    note(tx, START_MS, std::slice::from_ref(happening)).await?;
                    if undo { Err(ServiceError::Busy("undone")) } else { Ok(()) }
                })
            });
            assert_eq!(done.await.is_err(), undo);
        };
        noted("before anyone listens", false).await;
        let receiver = Receiver::start().await;
        add(&served, &receiver.url(), &["limit.hit"]).await;
        noted("what it is not told", false).await;
        add(&served, &receiver.url(), &["tier.changed"]).await;
        noted("undone", true).await;
        noted("pro", false).await;
        noted("pro", false).await;
        receiver.wait(1).await;
        let events = served.get("/v1/events").await;
        let tiers: Vec<&Value> =
            events["items"].as_array().unwrap().iter().map(|e| &e["payload"]["data"]["to"]).collect();
        assert_eq!(tiers, ["pro"], "once, and nothing else");
        served.stop().await;
    })
    .await;
}

#[tokio::test]
async fn what_does_not_arrive_is_told_again_under_the_same_id() {
    on_each_database(async |test| {
        let served = Served::start(&test.url).await;
        let receiver = Receiver::start().await;
        let (endpoint, secret) = add(&served, &receiver.url(), &[]).await;
        receiver.answer(StatusCode::INTERNAL_SERVER_ERROR);
        let event = try_out(&served, &endpoint).await;
        let delivery = attempted(&served, &event, 1).await;
        assert_eq!(delivery["state"], "pending");
        assert_eq!(delivery["log"][0]["error"], "answered 500");
        let shown = served.get(&format!("/v1/event-endpoints/{endpoint}")).await;
        assert_eq!(shown["failing_since"], "2027-03-01T00:00:00Z");

        receiver.answer(StatusCode::TEMPORARY_REDIRECT);
        served.clock.pass(6_001);
        let delivery = attempted(&served, &event, 2).await;
        assert_eq!(delivery["log"][0]["error"], "answered 307", "redirects are not followed");
        assert_eq!(receiver.received().len(), 2);

        receiver.answer(StatusCode::OK);
        served.clock.pass(400_000);
        let delivery = attempted(&served, &event, 3).await;
        assert_eq!((&delivery["state"], delivery.get("next_at")), (&json!("delivered"), None));
        let received = receiver.received();
        assert!(received.iter().all(|one| one.id == event && one.is_signed_with(&[&secret])));
        let times: BTreeSet<i64> = received.iter().map(|one| one.timestamp).collect();
        assert_eq!(times.len(), 3, "each attempt is signed at its own time");
        let shown = served.get(&format!("/v1/event-endpoints/{endpoint}")).await;
        assert_eq!(shown.get("failing_since"), None);

        let again = json!({ "endpoint": endpoint });
        post_ok(&served, &format!("/v1/events/{event}/redeliver"), json!({})).await;
        assert_eq!(
            post_ok(&served, &format!("/v1/events/{event}/redeliver"), again).await["endpoints"][0],
            *endpoint
        );
        let delivery = attempted(&served, &event, 4).await;
        assert_eq!(delivery["state"], "delivered");
        assert_eq!(receiver.received().len(), 4, "an operator may have it told again");
        served.stop().await;
    })
    .await;
}

#[tokio::test]
async fn a_replaced_secret_signs_besides_until_its_time_is_over() {
    let test = TestDatabase::sqlite();
    let served = Served::start(&test.url).await;
    let receiver = Receiver::start().await;
    let (endpoint, old) = add(&served, &receiver.url(), &[]).await;
    let rotate = format!("/v1/event-endpoints/{endpoint}/rotate");
    let made = post_ok(&served, &rotate, json!({ "overlap_hours": 2 })).await;
    let new = made["secret"].as_str().unwrap().to_owned();
    assert_eq!(made["old_secrets_until"], json!(["2027-03-01T02:00:00Z"]));
    try_out(&served, &endpoint).await;
    assert!(receiver.wait(1).await[0].is_signed_with(&[&new, &old]));
    served.clock.pass(2 * HOUR_MS);
    try_out(&served, &endpoint).await;
    assert!(receiver.wait(2).await[1].is_signed_with(&[&new]));
    let own = "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYX";
    post_ok(&served, &rotate, json!({ "overlap_hours": 0, "secret": own })).await;
    try_out(&served, &endpoint).await;
    assert!(
        receiver.wait(3).await[2].is_signed_with(&[own]),
        "at once, where the old one is known to others"
    );
    for _ in 0..3 {
        post_ok(&served, &rotate, json!({})).await;
    }
    let (status, refused) = served.send(Method::POST, &rotate, Some(json!({}))).await;
    assert_eq!((status.as_u16(), &refused["code"]), (422, &json!("event-endpoint-invalid")));

    let everything = format!("{}{}", served.get("/v1/audit").await, served.get("/v1/event-endpoints").await);
    assert!(!everything.contains("whsec_"), "a secret is shown once: {everything}");
    served.stop().await;
}

#[tokio::test]
async fn an_endpoint_that_fails_for_five_days_is_disabled_and_the_others_are_told() {
    on_each_database(async |test| {
        let served = Served::start(&test.url).await;
        let (bad, good) = (Receiver::start().await, Receiver::start().await);
        let (endpoint, _) = add(&served, &bad.url(), &[]).await;
        add(&served, &good.url(), &["endpoint.disabled"]).await;
        bad.answer(StatusCode::BAD_GATEWAY);
        let event = try_out(&served, &endpoint).await;
        // The waits that are documented, each with the longest jitter.
        let waits_s: [u64; 11] =
            [5, 300, 1_800, 7_200, 18_000, 36_000, 50_400, 72_000, 86_400, 86_400, 86_400];
        for (wait_s, attempt) in waits_s.into_iter().zip(1..) {
            let delivery = attempted(&served, &event, attempt).await;
            assert_eq!(delivery["state"], "pending");
            served.clock.pass(wait_s * 1_200);
        }
        assert_eq!(attempted(&served, &event, 12).await["state"], "given_up");
        let disabled = eventually("a disabled endpoint", async || {
            let shown = served.get(&format!("/v1/event-endpoints/{endpoint}")).await;
            (shown["enabled"] == false).then_some(shown)
        })
        .await;
        assert_eq!(disabled["disabled_because"], "Nothing has arrived for five days.");
        let told = good.wait(1).await;
        assert_eq!(
            (told[0].kind().as_str(), &told[0].json()["data"]["endpoint"]),
            ("endpoint.disabled", &json!(endpoint))
        );
        assert_eq!(bad.received().iter().filter(|one| one.kind() == "endpoint.disabled").count(), 0);
        let audit = served.get(&format!("/v1/audit?target={endpoint}")).await;
        assert_eq!(
            (&audit["items"][0]["actor"], &audit["items"][0]["action"]),
            (&json!("job:events"), &json!("event_endpoint.disable"))
        );

        // Enabled again, it is told what was given up.
        bad.answer(StatusCode::OK);
        let (status, _) = served
            .send(Method::PATCH, &format!("/v1/event-endpoints/{endpoint}"), Some(json!({"enabled": true})))
            .await;
        assert_eq!(status, 200);
        let recover = format!("/v1/event-endpoints/{endpoint}/recover");
        let since = json!({"since": "2027-03-01T00:00:00Z"});
        assert_eq!(post_ok(&served, &recover, since).await["events"], 1);
        let arrived = eventually("its arrival", async || {
            let list =
                served.get(&format!("/v1/event-endpoints/{endpoint}/deliveries?state=delivered")).await;
            list["items"].as_array().unwrap().first().cloned()
        })
        .await;
        assert_eq!((&arrived["event"], &arrived["type"]), (&json!(event), &json!("test")));
        served.stop().await;
    })
    .await;
}

#[tokio::test]
async fn an_endpoint_that_says_it_is_gone_is_disabled_at_once() {
    let test = TestDatabase::sqlite();
    let served = Served::start(&test.url).await;
    let receiver = Receiver::start().await;
    let (endpoint, _) = add(&served, &receiver.url(), &[]).await;
    receiver.answer(StatusCode::GONE);
    try_out(&served, &endpoint).await;
    eventually("a disabled endpoint", async || {
        let shown = served.get(&format!("/v1/event-endpoints/{endpoint}")).await;
        (shown["enabled"] == false).then_some(())
    })
    .await;
    served.stop().await;
}

#[tokio::test]
async fn a_receiver_that_asks_for_time_gets_it() {
    let test = TestDatabase::sqlite();
    let served = Served::start(&test.url).await;
    let receiver = Receiver::start().await;
    let (endpoint, _) = add(&served, &receiver.url(), &[]).await;
    receiver.ask_to_wait(3_600);
    let event = try_out(&served, &endpoint).await;
    let delivery = attempted(&served, &event, 1).await;
    let next_at = delivery["next_at"].as_str().unwrap();
    assert!(("2027-03-01T01:00:00Z".."2027-03-01T01:12:01Z").contains(&next_at), "{next_at}");
    served.stop().await;
}

#[tokio::test]
async fn an_endpoint_that_never_answers_keeps_no_other_waiting() {
    let test = TestDatabase::sqlite();
    let served = Served::start(&test.url).await;
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", silent.local_addr().unwrap());
    let (slow, _) = add(&served, &url, &[]).await;
    let never = try_out(&served, &slow).await;
    let (held, _) = silent.accept().await.unwrap();
    let receiver = Receiver::start().await;
    let (quick, _) = add(&served, &receiver.url(), &[]).await;
    try_out(&served, &quick).await;
    receiver.wait(1).await;
    let event = served.get(&format!("/v1/events/{never}")).await;
    assert_eq!(event["deliveries"][0]["attempts"], 0, "it waits yet");
    drop((held, silent));
    let delivery = attempted(&served, &never, 1).await;
    let error = delivery["log"][0]["error"].as_str().unwrap();
    assert!(error.starts_with("no answer: ") && !error.contains("127.0.0.1"), "{error}");
    served.stop().await;
}

#[tokio::test]
async fn replicas_share_the_work() {
    on_each_database(async |test| {
        let served = Served::start_with_policy(&test.url).await;
        let replica = Served::start(&test.url).await;
        let receiver = Receiver::start().await;
        add(&served, &receiver.url(), &["tier.changed"]).await;
        let changed: Vec<Happening> = (0..60)
            .map(|number| Happening::TierChanged {
                subject: format!("user:{number}"),
                from: Some("free".to_owned()),
                to: Some("pro".to_owned()),
                at_ms: START_MS,
            })
            .collect();
        let changed = changed.as_slice();
        served
            .plane
            .database
            .transact("note", |tx| Box::pin(async move { note(tx, START_MS, changed).await }))
            .await
            .unwrap();
        receiver.wait(60).await;
        eventually("all of them noted as delivered", async || {
            let pending = served.get("/v1/events?limit=500").await;
            let mut counts: BTreeMap<String, usize> = BTreeMap::new();
            for event in pending["items"].as_array().unwrap() {
                let event = served.get(&format!("/v1/events/{}", event["id"].as_str().unwrap())).await;
                *counts.entry(event["deliveries"][0]["state"].to_string()).or_default() += 1;
            }
            (counts.get("\"delivered\"") == Some(&60)).then_some(())
        })
        .await;
        let received = receiver.received();
        let ids: BTreeSet<&String> = received.iter().map(|event| &event.id).collect();
        assert_eq!((ids.len(), received.len()), (60, 60), "each by one of them");
        served.stop().await;
        replica.stop().await;
    })
    .await;
}

#[tokio::test]
async fn what_a_dead_process_had_claimed_is_told_by_another() {
    on_each_database(async |test| {
        let served = Served::start(&test.url).await;
        let receiver = Receiver::start().await;
        // Disabled, so that the sender of this process leaves it alone until the other has claimed it.
        let (endpoint, _) = add(&served, &receiver.url(), &[]).await;
        let path = format!("/v1/event-endpoints/{endpoint}");
        served.send(Method::PATCH, &path, Some(json!({"enabled": false}))).await;
        let event = try_out(&served, &endpoint).await;
        let of = endpoint.as_str();
        let claimed = served.plane.database.transact("claim", |tx| {
            Box::pin(async move { event_deliveries::claim(tx, of, START_MS, START_MS + CLAIM_MS, 10).await })
        });
        assert_eq!(claimed.await.unwrap().len(), 1);
        served.send(Method::PATCH, &path, Some(json!({"enabled": true}))).await;
        served.clock.pass(u64::try_from(CLAIM_MS).unwrap() - 1);
        let (second, _) = add(&served, &receiver.url(), &[]).await;
        let other = try_out(&served, &second).await;
        assert_eq!(receiver.wait(1).await[0].id, other, "what is claimed is left alone");
        served.clock.pass(1);
        assert_eq!(receiver.wait(2).await[1].id, event);
        served.stop().await;
    })
    .await;
}

#[tokio::test]
async fn private_addresses_are_refused_unless_they_are_allowed() {
    let test = TestDatabase::sqlite();
    let receiver = Receiver::start().await;
    let clock = TestClock::shared();
    let careful = plane_with(&test.url, clock, Settings::default()).await;
    for url in [receiver.url(), "http://localhost/".to_owned(), "http://169.254.169.254/latest".to_owned()] {
        let wish = EndpointWish { url: Some(url), ..EndpointWish::default() };
        let refused = careful.create_event_endpoint(&author(&careful), &wish, None).await;
        assert!(matches!(refused, Err(ServiceError::Invalid { rule: Invalid::EventEndpoint, .. })));
    }
    // One that was allowed before is not sent to any more.
    let served = Served::start(&test.url).await;
    let (endpoint, _) = add(&served, &receiver.url(), &[]).await;
    served.stop().await;
    let (stop, stopped) = tokio::sync::watch::channel(false);
    let sender = careful.clone();
    let sending = tokio::spawn(async move { sender.run_sender(stopped).await });
    let event = careful.test_event_endpoint(&author(&careful), &endpoint).await.unwrap();
    let error = eventually("an attempt", async || {
        let attempts = event_deliveries::attempts(&careful.database, &event, 1).await.unwrap();
        attempts.first().and_then(|attempt| attempt.error.clone())
    })
    .await;
    assert!(error.contains("private"), "{error}");
    assert!(receiver.received().is_empty());
    stop.send(true).unwrap();
    sending.await.unwrap();
}

#[tokio::test]
async fn what_makes_no_sense_is_refused() {
    let test = TestDatabase::sqlite();
    let served = Served::start(&test.url).await;
    let good = "https://example.com/hooks";
    for body in [
        json!({"url": "ftp://example.com/"}),
        json!({"url": "example.com"}),
        json!({"url": "https://user:pass@example.com/"}),
        json!({"url": good, "types": ["limit.hit", "nothing"]}),
        json!({"url": good, "types": ["test"]}),
        json!({"url": good, "secret": "whsec_c2hvcnQ="}),
        json!({"url": good, "description": "a\nb"}),
    ] {
        let (status, answer) = served.send(Method::POST, "/v1/event-endpoints", Some(body)).await;
        assert_eq!((status.as_u16(), &answer["code"]), (422, &json!("event-endpoint-invalid")), "{answer}");
    }
    for (method, path, body) in [
        (Method::GET, "/v1/event-endpoints/ep_0", None),
        (Method::GET, "/v1/event-endpoints/%00", None),
        (Method::DELETE, "/v1/event-endpoints/ep_0", None),
        (Method::GET, "/v1/event-endpoints/ep_0/deliveries", None),
        (Method::POST, "/v1/event-endpoints/ep_0/test", None),
        (Method::POST, "/v1/event-endpoints/ep_0/rotate", Some(json!({}))),
        (Method::PATCH, "/v1/event-endpoints/ep_0", Some(json!({"enabled": true}))),
        (Method::GET, "/v1/events/evt_0", None),
        (Method::POST, "/v1/events/evt_0/redeliver", Some(json!({}))),
    ] {
        let (status, answer) = served.send(method, path, body).await;
        assert_eq!(status, 404, "{path}: {answer}");
    }
    for path in ["/v1/events?type=nothing", "/v1/events?subject=nobody", "/v1/events?limit=0"] {
        let (status, answer) = served.send(Method::GET, path, None).await;
        assert_eq!(status, 400, "{path}: {answer}");
    }
    served.stop().await;
}

#[tokio::test]
async fn what_is_old_is_forgotten() {
    let test = TestDatabase::sqlite();
    let served = Served::start(&test.url).await;
    let receiver = Receiver::start().await;
    let (endpoint, _) = add(&served, &receiver.url(), &[]).await;
    let event = try_out(&served, &endpoint).await;
    let delivery = attempted(&served, &event, 1).await;
    assert_eq!(delivery["state"], "delivered");
    served.clock.pass(31 * 24 * HOUR_MS);
    eventually("its end", async || {
        let attempts = event_deliveries::attempts(&served.plane.database, &event, 1).await.unwrap();
        let (status, _) = served.send(Method::GET, &format!("/v1/events/{event}"), None).await;
        (status == 404 && attempts.is_empty()).then_some(())
    })
    .await;
    let list = served.get(&format!("/v1/event-endpoints/{endpoint}/deliveries")).await;
    assert_eq!(list["items"], json!([]));
    served.stop().await;
}

/// What was told of tiers and subscriptions, in the order in which it happened.
fn told_of_subscriptions(received: &[Received]) -> Vec<String> {
    let mut told: Vec<(String, String)> = received
        .iter()
        .map(|event| {
            let (kind, event) = (event.kind(), event.json());
            let shown = match kind.as_str() {
                "tier.changed" => format!("{} -> {}", event["data"]["from"], event["data"]["to"]),
                "trial.ending" => format!("{} {}", event["data"]["tier"], event["data"]["ends_at"]),
                _ => event["data"]["tier"].to_string(),
            };
            (event["timestamp"].as_str().unwrap().to_owned(), format!("{kind} {shown}").replace('"', ""))
        })
        .collect();
    told.sort();
    told.into_iter().map(|(at, event)| format!("{} {event}", &at[..10])).collect()
}

/// Lets time pass, and looks as often as replicas might.
async fn pass_days(served: &Served, days: u64) {
    served.clock.pass(days * 24 * HOUR_MS);
    for _ in 0..2 {
        Moments.look(&served.plane).await.unwrap();
    }
}

const OF_SUBSCRIPTIONS: &[&str] = &["tier.changed", "trial.ending", "subscription.expired"];

#[tokio::test]
async fn a_trial_is_told_when_it_begins_is_about_to_end_and_ends_each_once() {
    on_each_database(async |test| {
        let served = Served::start_with_policy(&test.url).await;
        let receiver = Receiver::start().await;
        add(&served, &receiver.url(), OF_SUBSCRIPTIONS).await;
        let path = "/v1/subscriptions/user:a";
        let trial = json!({"action": "trial", "tier": "pro", "days": 7});
        post_ok(&served, &format!("{path}/actions"), trial).await;
        pass_days(&served, 3).await;
        receiver.wait(1).await;
        pass_days(&served, 1).await;
        receiver.wait(2).await;
        // A write while the end is near does not tell it again.
        let later = json!({"anchor_ms": START_MS});
        assert_eq!(served.send(Method::PATCH, path, Some(later)).await.0, 200);
        pass_days(&served, 1).await;
        pass_days(&served, 2).await;
        pass_days(&served, 3).await;
        let received = receiver.wait(4).await;
        expect![[r#"
            2027-03-01 tier.changed free -> pro
            2027-03-05 trial.ending pro 2027-03-08T00:00:00Z
            2027-03-08 subscription.expired pro
            2027-03-08 tier.changed pro -> free"#]]
        .assert_eq(&told_of_subscriptions(&received).join("\n"));
        let events = served.get("/v1/events?subject=user:a").await;
        assert_eq!(events["items"].as_array().unwrap().len(), 4, "each once: {events}");
        served.stop().await;
    })
    .await;
}

#[tokio::test]
async fn a_scheduled_tier_and_an_expiry_are_told_once_and_at_their_moments() {
    on_each_database(async |test| {
        let served = Served::start_with_policy(&test.url).await;
        let receiver = Receiver::start().await;
        add(&served, &receiver.url(), OF_SUBSCRIPTIONS).await;
        let path = "/v1/subscriptions/user:a";
        served.put(path, json!({"tier": "free", "expires_at_ms": START_MS + 9 * 86_400_000})).await;
        let up = json!({"at": "2027-03-03T00:00:00Z", "tier": "pro"});
        post_ok(&served, &format!("{path}/changes"), up).await;
        pass_days(&served, 1).await;
        assert_eq!(served.get("/v1/events").await["items"], json!([]), "the same tier as before");
        // Late: it is told as what happened then.
        pass_days(&served, 4).await;
        receiver.wait(1).await;
        pass_days(&served, 1).await;
        // Whoever writes first writes down what happened before: here that it was over, and then is not.
        served.clock.pass(4 * 24 * HOUR_MS);
        served.put(path, json!({"tier": "pro"})).await;
        pass_days(&served, 1).await;
        let received = receiver.wait(4).await;
        expect![[r#"
            2027-03-03 tier.changed free -> pro
            2027-03-10 subscription.expired pro
            2027-03-10 tier.changed pro -> free
            2027-03-11 tier.changed free -> pro"#]]
        .assert_eq(&told_of_subscriptions(&received).join("\n"));
        let events = served.get("/v1/events?subject=user:a").await;
        assert_eq!(events["items"].as_array().unwrap().len(), 4, "each once: {events}");
        served.stop().await;
    })
    .await;
}

#[tokio::test]
async fn a_payment_that_failed_is_told_once() {
    on_each_database(async |test| {
        let served = payments::served(&test.url).await;
        let receiver = Receiver::start().await;
        add(&served, &receiver.url(), &["payment.failed"]).await;
        let name = payments::of("user:a");
        served.stripe(&stripe_event("evt_1", "customer.subscription.created", START_S, "a", name)).await;
        let invoice = |id: &str, kind: &str, at_s: i64| {
            json!({
                "id": id, "object": "event", "created": at_s, "livemode": false, "type": kind,
                "data": {"object": {
                    "id": "in_1", "object": "invoice", "customer": "cus_a", "amount_due": 2900, "currency": "eur",
                    "parent": {"subscription_details": {"subscription": "sub_a"}},
                }},
            })
        };
        // Twice the same, and a second attempt to collect the same invoice.
        for (id, at_s) in [("evt_2", START_S + 1), ("evt_2", START_S + 1), ("evt_3", START_S + 2)] {
            served.stripe(&invoice(id, "invoice.payment_failed", at_s)).await;
            served.worked_off().await;
        }
        served.stripe(&invoice("evt_4", "invoice.paid", START_S + 3)).await;
        served.worked_off().await;
        let told = receiver.wait(1).await.remove(0).json();
        let data = json!({
            "subject": "user:a", "provider": "stripe", "reference": "in_1", "amount": 2900, "currency": "EUR",
            "at": "2027-03-01T00:00:01Z",
        });
        assert_eq!((&told["type"], &told["data"]), (&json!("payment.failed"), &data), "{told}");
        let events = served.get("/v1/events?subject=user:a").await;
        assert_eq!(events["items"].as_array().unwrap().len(), 1, "{events}");
        served.stop().await;
    })
    .await;
}

#[tokio::test]
async fn a_pause_tells_that_the_tier_went_and_came_back_and_not_that_it_is_over() {
    let test = TestDatabase::sqlite();
    let served = Served::start_with_policy(&test.url).await;
    let receiver = Receiver::start().await;
    add(&served, &receiver.url(), OF_SUBSCRIPTIONS).await;
    let path = "/v1/subscriptions/user:a/actions";
    let trial = json!({"action": "trial", "tier": "pro", "days": 7, "then": "active"});
    post_ok(&served, path, trial).await;
    receiver.wait(1).await;
    pass_days(&served, 1).await;
    post_ok(&served, path, json!({"action": "pause"})).await;
    receiver.wait(2).await;
    // Past the end of the trial: what was scheduled for it does not put the tier in force.
    pass_days(&served, 9).await;
    assert_eq!(served.get("/v1/subjects/user:a").await["tier"], "free");
    post_ok(&served, path, json!({"action": "resume"})).await;
    assert_eq!(served.get("/v1/subjects/user:a").await["tier"], "pro");
    receiver.wait(3).await;
    pass_days(&served, 3).await;
    let received = receiver.wait(3).await;
    expect![[r#"
        2027-03-01 tier.changed free -> pro
        2027-03-02 tier.changed pro -> free
        2027-03-11 tier.changed free -> pro"#]]
    .assert_eq(&told_of_subscriptions(&received).join("\n"));
    let events = served.get("/v1/events?subject=user:a").await;
    assert_eq!(events["items"].as_array().unwrap().len(), 3, "{events}");
    served.stop().await;
}
