//! Usage that is sent elsewhere: to a server that fails, is slow, repeats and restarts, nothing is lost, and what is sent
//! again can be told.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tollgate_control_plane::config::{Settings, SinkSettings, UsageSettings};
use tollgate_control_plane::service::usage::record::Entry;
use tollgate_control_plane::service::usage::sink::{Pass, Sink};

use super::support::{POLICY, TestClock, author, on_each_database, plane_with, session, sync_body};

const HOUR_MS: u64 = 3_600_000;

/// How the receiver answers next.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Mood {
    Good,
    Failing,
    /// It takes the batch, and the answer is lost.
    Forgetful,
    /// It does not answer in time.
    Silent,
    /// It sends everything elsewhere.
    Redirecting,
}

struct Receiver {
    url: String,
    mood: Arc<Mutex<Mood>>,
    events: Arc<Mutex<Vec<Value>>>,
    headers: Arc<Mutex<Option<HeaderMap>>>,
}

impl Receiver {
    async fn start() -> Self {
        let mood = Arc::new(Mutex::new(Mood::Good));
        let events = Arc::new(Mutex::new(Vec::new()));
        let headers = Arc::new(Mutex::new(None));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/usage", listener.local_addr().unwrap());
        let (says, takes, sees) = (mood.clone(), events.clone(), headers.clone());
        let handler = move |headers: HeaderMap, body: String| async move {
            let mood = *says.lock().unwrap();
            *sees.lock().unwrap() = Some(headers);
            if matches!(mood, Mood::Good | Mood::Forgetful) {
                let batch: Vec<Value> = serde_json::from_str(&body).unwrap();
                takes.lock().unwrap().extend(batch);
            }
            match mood {
                Mood::Good => (StatusCode::ACCEPTED, HeaderMap::new()),
                Mood::Failing => (StatusCode::INTERNAL_SERVER_ERROR, HeaderMap::new()),
                Mood::Forgetful => (StatusCode::GATEWAY_TIMEOUT, HeaderMap::new()),
                Mood::Redirecting => {
                    let mut headers = HeaderMap::new();
                    headers.insert("location", "/elsewhere".parse().unwrap());
                    (StatusCode::TEMPORARY_REDIRECT, headers)
                }
                Mood::Silent => {
                    tokio::time::sleep(Duration::from_secs(60)).await;
                    (StatusCode::ACCEPTED, HeaderMap::new())
                }
            }
        };
        let router = axum::Router::new().route("/usage", post(handler));
        tokio::spawn(axum::serve(listener, router).into_future());
        Self { url, mood, events, headers }
    }

    fn be(&self, mood: Mood) {
        *self.mood.lock().unwrap() = mood;
    }

    /// What a receiver that knows ids makes of it: the newest total of each meter, labels and hour.
    fn totals(&self) -> BTreeMap<(String, String), i64> {
        let mut totals: BTreeMap<(String, String), i64> = BTreeMap::new();
        for event in self.events.lock().unwrap().iter() {
            let key = (
                event["subject"].as_str().unwrap().to_owned(),
                event["data"]["start"].as_str().unwrap()[5..13].to_owned(),
            );
            totals.insert(key, event["data"]["used"].as_i64().unwrap());
        }
        totals
    }
}

fn entry(key: &str, subject: &str, units: u64, at: &str) -> Entry {
    Entry {
        key: key.to_owned(),
        subject: subject.to_owned(),
        meter: "calls".to_owned(),
        units,
        at: at.parse().unwrap(),
        labels: BTreeMap::new(),
    }
}

#[tokio::test]
async fn usage_is_sent_at_least_once_with_ids_that_stay() {
    on_each_database(async |test| {
        let receiver = Receiver::start().await;
        let clock = TestClock::shared();
        let to = SinkSettings { url: receiver.url.clone(), token: Some("secret".to_owned()) };
        let settings = Settings {
            usage: UsageSettings { sink: Some(to.clone()), ..UsageSettings::default() },
            ..Settings::default()
        };
        let plane = plane_with(&test.url, clock.clone(), settings).await;
        plane.apply_policy(&author(&plane), POLICY, None, None).await.unwrap();
        let record = async |key: &str, subject: &str, units: u64, at: &str| {
            let entries = [entry(key, subject, units, at)];
            plane.record_usage(&author(&plane), "test", &entries).await.unwrap();
        };
        let mut sink = Sink::new(to.clone()).unwrap();
        assert_eq!(sink.pass(&plane).await.unwrap(), Pass::Idle, "it begins with this hour");
        record("1", "user:a", 5, "2027-03-01T00:00:00Z").await;
        record("2", "user:b", 6, "2027-03-01T00:00:00Z").await;
        clock.pass(HOUR_MS + 60_000);
        assert_eq!(sink.pass(&plane).await.unwrap(), Pass::Idle, "edges may still tell more");
        record("3", "user:a", 1, "2027-03-01T00:59:00Z").await;
        assert!(receiver.events.lock().unwrap().is_empty());
        clock.pass(5 * 60_000);

        // A server that fails, redirects, or takes it and does not say so: it is sent again.
        for mood in [Mood::Failing, Mood::Redirecting, Mood::Forgetful] {
            receiver.be(mood);
            assert!(sink.pass(&plane).await.is_err());
        }
        let first: Vec<Value> = receiver.events.lock().unwrap().clone();
        assert_eq!(first.len(), 1, "what changed after its hour is over comes first");
        receiver.be(Mood::Good);
        // Another process goes on where this one died.
        clock.pass(61_000);
        let mut other = Sink::new(to.clone()).unwrap();
        while other.pass(&plane).await.unwrap() == Pass::More {}
        clock.pass(20_000);
        while other.pass(&plane).await.unwrap() == Pass::More {}
        assert_eq!(sink.pass(&plane).await.unwrap(), Pass::Idle, "one sends at a time");
        let events = receiver.events.lock().unwrap().clone();
        let again = events.iter().rev().filter(|event| event["id"] == first[0]["id"]).count();
        assert!(again >= 2, "sent again with the same id: {events:?}");
        let name = |subject: &str, hour: &str| (subject.to_owned(), hour.to_owned());
        let expected = BTreeMap::from([(name("user:a", "03-01T00"), 6), (name("user:b", "03-01T00"), 6)]);
        assert_eq!(receiver.totals(), expected);
        let headers = receiver.headers.lock().unwrap().clone().unwrap();
        assert_eq!(headers["content-type"], "application/cloudevents-batch+json");
        assert_eq!(headers["authorization"], "Bearer secret");

        // What comes late is sent again, as another total.
        let count = events.len();
        record("4", "user:a", 10, "2027-03-01T00:20:00Z").await;
        while other.pass(&plane).await.unwrap() == Pass::More {}
        let events = receiver.events.lock().unwrap().clone();
        assert_eq!(events.len(), count + 1, "and nothing else is");
        assert_eq!(receiver.totals()[&name("user:a", "03-01T00")], 16);
        assert_ne!(events[count]["id"], first[0]["id"]);
        assert_eq!(
            events[count]["data"],
            json!({"subject": "user:a", "meter": "calls", "labels": {}, "start": "2027-03-01T00:00:00Z",
                   "end": "2027-03-01T01:00:00Z", "taken": 16, "freed": 0, "used": 16})
        );
        // So is what an edge tells late.
        let late = serde_json::from_value(sync_body(&session(1), "user:d", 3, 5)).unwrap();
        plane.sync(&late, "edge").await.unwrap();
        while other.pass(&plane).await.unwrap() == Pass::More {}
        assert_eq!(receiver.totals()[&name("user:d", "03-01T00")], 3);
        // Hours in which nobody did anything cost nothing; the next one that somebody did is sent.
        clock.pass(50 * HOUR_MS);
        record("5", "user:c", 2, "2027-03-03T03:00:00Z").await;
        clock.pass(2 * HOUR_MS);
        while other.pass(&plane).await.unwrap() == Pass::More {}
        clock.pass(20_000);
        while other.pass(&plane).await.unwrap() == Pass::More {}
        assert_eq!(receiver.totals()[&name("user:c", "03-03T03")], 2);
        assert_eq!(receiver.totals().len(), 4);
        plane.database.close().await;
    })
    .await;
}

#[tokio::test]
async fn a_server_that_does_not_answer_holds_nothing_up_for_long() {
    let test = super::support::TestDatabase::sqlite();
    let receiver = Receiver::start().await;
    let clock = TestClock::shared();
    let plane = plane_with(&test.url, clock.clone(), Settings::default()).await;
    plane.apply_policy(&author(&plane), POLICY, None, None).await.unwrap();
    let to = SinkSettings { url: receiver.url.clone(), token: None };
    let mut sink = Sink::with_timeout(to, Duration::from_millis(100)).unwrap();
    sink.pass(&plane).await.unwrap();
    let entries = [entry("1", "user:a", 5, "2027-03-01T00:00:00Z")];
    plane.record_usage(&author(&plane), "test", &entries).await.unwrap();
    clock.pass(2 * HOUR_MS);
    sink.pass(&plane).await.unwrap();
    clock.pass(20_000);
    receiver.be(Mood::Silent);
    assert!(sink.pass(&plane).await.is_err(), "it gives up");
    receiver.be(Mood::Good);
    while sink.pass(&plane).await.unwrap() == Pass::More {}
    assert_eq!(receiver.totals().values().copied().collect::<Vec<_>>(), [5]);
    plane.database.close().await;
}
