//! Keys that an issuer publishes at an address: fetched, followed, and kept when the issuer fails.

use std::sync::{Arc, Mutex};

use axum::http::StatusCode;
use axum::routing::get;
use reqwest::Method;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tollgate_control_plane::service::jwks::Fetcher;

use super::support::{EDGE, Served, TestDatabase, answer, author, eventually, on_each_database};

/// An issuer on this machine; what it answers can be changed.
struct Issuer {
    url: String,
    says: Arc<Mutex<(StatusCode, Value)>>,
    asked: Arc<Mutex<u32>>,
}

impl Issuer {
    async fn start(jwks: Value) -> Self {
        let says = Arc::new(Mutex::new((StatusCode::OK, jwks)));
        let asked = Arc::new(Mutex::new(0));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/jwks", listener.local_addr().unwrap());
        let (answers, counts) = (says.clone(), asked.clone());
        let handler = move || async move {
            *counts.lock().unwrap() += 1;
            let (status, jwks) = answers.lock().unwrap().clone();
            (status, [("cache-control", "public, max-age=600")], axum::Json(jwks))
        };
        let router = axum::Router::new().route("/jwks", get(handler));
        tokio::spawn(axum::serve(listener, router).into_future());
        Self { url, says, asked }
    }

    fn say(&self, status: StatusCode, jwks: Value) {
        *self.says.lock().unwrap() = (status, jwks);
    }

    fn asked(&self) -> u32 {
        *self.asked.lock().unwrap()
    }
}

/// A secret of 32 bytes as a key set: the smallest that is good.
fn jwks(kid: &str) -> Value {
    json!({"keys": [{"kty": "oct", "alg": "HS256", "kid": kid, "k": "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8"}]})
}

fn policy(url: &str) -> String {
    format!(
        "version: 1\nissuers: [{{issuer: 'https://issuer.example', keys: {{url: '{url}'}}, algorithms: [HS256]}}]\n\
         meters: {{calls: {{}}}}\ntiers: {{}}\n"
    )
}

async fn bundled_kid(served: &Served) -> Option<String> {
    let (_, bundle) = answer(served.request(Method::GET, "/edge/v1/policy", EDGE)).await;
    Some(bundle["policy"]["issuers"][0]["keys"]["jwks"]["keys"][0]["kid"].as_str()?.to_owned())
}

async fn ask(served: &Served) -> bool {
    let body = json!({"issuer": "https://issuer.example"});
    let (status, body) = answer(served.request(Method::POST, "/edge/v1/keys", EDGE).json(&body)).await;
    assert_eq!(status, 202, "{body}");
    body["fetching"].as_bool().unwrap()
}

#[tokio::test]
async fn keys_are_fetched_and_rotation_is_followed() {
    on_each_database(async |test| {
        let issuer = Issuer::start(jwks("one")).await;
        let served = Served::start(&test.url).await;
        served.plane.apply_policy(&author(&served.plane), &policy(&issuer.url), None, None).await.unwrap();
        let is = async |kid: &str| (bundled_kid(&served).await.as_deref() == Some(kid)).then_some(());
        eventually("the first keys", async || is("one").await).await;
        let revision = served.plane.refresh().await.unwrap().revision;

        issuer.say(StatusCode::OK, jwks("two"));
        assert!(!ask(&served).await, "they were fetched a moment ago");
        served.clock.pass(10_001);
        assert!(ask(&served).await, "an edge met an unknown key");
        eventually("the new keys", async || is("two").await).await;
        assert!(!ask(&served).await, "not again within ten seconds");
        assert!(served.plane.refresh().await.unwrap().revision > revision, "edges are told");

        for (status, bad) in [
            (StatusCode::INTERNAL_SERVER_ERROR, json!({})),
            (StatusCode::OK, json!({"keys": "none"})),
            (StatusCode::OK, json!({"keys": [], "padding": "x".repeat(1 << 20)})),
        ] {
            let asked = issuer.asked();
            issuer.say(status, bad);
            served.clock.pass(30_001);
            assert!(ask(&served).await);
            eventually("a fetch", async || (issuer.asked() > asked).then_some(())).await;
            assert_eq!(bundled_kid(&served).await.as_deref(), Some("two"), "the last good keys stay");
        }
        issuer.say(StatusCode::OK, jwks("three"));
        served.clock.pass(600_001);
        eventually("the keys after max-age", async || is("three").await).await;
        let audit = served.get("/v1/audit?target=https://issuer.example").await;
        assert_eq!(audit["items"][0]["after"], json!({"keys": ["three"]}), "{audit}");
        assert!(!audit.to_string().contains("AAECAwQF"), "no secret is written down");
        served.stop().await;
    })
    .await;
}

#[tokio::test]
async fn an_issuer_that_does_not_answer_leaves_an_empty_set() {
    let test = TestDatabase::sqlite();
    let served = Served::start(&test.url).await;
    let nowhere = policy("http://127.0.0.1:1/jwks");
    served.plane.apply_policy(&author(&served.plane), &nowhere, None, None).await.unwrap();
    served.plane.fetch_due_keys(&Fetcher::new().unwrap()).await.unwrap();
    let (status, bundle) = answer(served.request(Method::GET, "/edge/v1/policy", EDGE)).await;
    assert_eq!(
        (status.as_u16(), &bundle["policy"]["issuers"][0]["keys"]),
        (200, &json!({"jwks": {"keys": []}}))
    );
    served.stop().await;
}
