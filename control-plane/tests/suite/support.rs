//! What tests share: a database for each, a clock that they set, a control plane that serves, and a client.

use std::io::Write as _;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use sqlx::Connection as _;
use tempfile::TempDir;
use tokio::net::TcpListener;
use tollgate_control_plane::clock::{Clock, SharedClock};
use tollgate_control_plane::config::{EventSettings, Settings};
use tollgate_control_plane::http_client::http_client;
use tollgate_control_plane::server::Server;
use tollgate_control_plane::service::ControlPlane;
use tollgate_control_plane::service::jwks::Fetcher;
use tollgate_control_plane::service::tokens::{ConfiguredTokens, random_hex};
use tollgate_control_plane::store::Database;
use tollgate_control_plane::store::audit::Author;

pub const ADMIN: &str = "test-token-of-admins";
pub const EDGE: &str = "test-token-of-edges";

/// Start of an hour, a day and a UTC month: 2027-03-01T00:00:00Z.
pub const START_MS: i64 = 1_803_859_200_000;

pub const POLICY: &str = "
version: 1
meters: {calls: {unit: requests}, tokens: {}}
default_tier: free
default_route: {auth: none}
tiers:
  free:
    limits:
      - {meter: calls, quota: 5, per: hour}
      - {meter: calls, rate: 60, per: 60s}
  pro:
    features: [export]
    limits:
      - {meter: calls, quota: 1000, per: hour}
      - {meter: tokens, quota: 10000, per: billing_month}
";

/// A policy with every kind of limit.
pub const KINDS: &str = "
version: 1
issuers:
  - issuer: https://id.example.com
    keys: {jwks: {keys: [{kty: oct, kid: k1, alg: HS256, k: c2VjcmV0LW9mLTMyLWJ5dGVzLWZvci10aGUtdGVzdHMhIQ}]}}
    claims: {organization: org}
meters: {calls: {}, documents: {}}
default_tier: pro
default_route: {auth: none}
tiers:
  pro:
    limits:
      - {meter: calls, quota: 1000, per: month, soft: true, enforcement: shadow}
      - {meter: calls, rate: 10, per: 1s, burst: 20}
      - {meter: documents, capacity: 10}
      - {meter: calls, quota: unlimited, per: lifetime}
      - {concurrency: 5}
      - {size: 1000}
      - {meter: calls, quota: 7, per: day, scope: member}
";

/// A clock that stands still until it is moved.
#[derive(Debug)]
pub struct TestClock {
    wall_ms: AtomicI64,
    mono_ms: AtomicU64,
}

impl TestClock {
    pub fn shared() -> Arc<Self> {
        Arc::new(Self { wall_ms: AtomicI64::new(START_MS), mono_ms: AtomicU64::new(1_000_000) })
    }

    pub fn pass(&self, ms: u64) {
        self.wall_ms.fetch_add(i64::try_from(ms).unwrap(), Ordering::Relaxed);
        self.mono_ms.fetch_add(ms, Ordering::Relaxed);
    }

    pub fn set_wall_ahead(&self, ms: i64) {
        self.wall_ms.fetch_add(ms, Ordering::Relaxed);
    }

    pub fn set_wall_back(&self, ms: i64) {
        self.wall_ms.fetch_sub(ms, Ordering::Relaxed);
    }
}

impl Clock for TestClock {
    fn now_ms(&self) -> i64 {
        self.wall_ms.load(Ordering::Relaxed)
    }

    fn monotonic_ms(&self) -> u64 {
        self.mono_ms.load(Ordering::Relaxed)
    }
}

/// A database of one test's own.
pub struct TestDatabase {
    pub url: String,
    _directory: Option<TempDir>,
    schema: Option<(String, String)>,
}

impl TestDatabase {
    pub fn sqlite() -> Self {
        let directory = TempDir::new().unwrap();
        let url = format!("sqlite://{}", directory.path().join("test.db").display());
        Self { url, _directory: Some(directory), schema: None }
    }

    async fn postgres(server: &str) -> Self {
        let schema = format!("test_{}", random_hex::<8>().unwrap());
        let mut connection = sqlx::PgConnection::connect(server).await.unwrap();
        let create = format!("CREATE SCHEMA {schema}");
        sqlx::query(sqlx::AssertSqlSafe(create)).execute(&mut connection).await.unwrap();
        let separator = if server.contains('?') { '&' } else { '?' };
        let url = format!("{server}{separator}options=-csearch_path%3D{schema}");
        Self { url, _directory: None, schema: Some((server.to_owned(), schema)) }
    }

    async fn drop(self) {
        if let Some((server, schema)) = self.schema {
            let mut connection = sqlx::PgConnection::connect(&server).await.unwrap();
            let drop = format!("DROP SCHEMA {schema} CASCADE");
            sqlx::query(sqlx::AssertSqlSafe(drop)).execute(&mut connection).await.unwrap();
        }
    }
}

/// Runs a test on SQLite, and on PostgreSQL where there is one.
pub async fn on_each_database(test: impl AsyncFn(&TestDatabase)) {
    let sqlite = TestDatabase::sqlite();
    test(&sqlite).await;
    match std::env::var("TOLLGATE_TEST_POSTGRES_URL") {
        Ok(server) => {
            let postgres = TestDatabase::postgres(&server).await;
            test(&postgres).await;
            postgres.drop().await;
        }
        Err(_) => {
            static ONCE: std::sync::Once = std::sync::Once::new();
            // Not through the test runner, which would keep it to itself.
            ONCE.call_once(|| {
                let said = "note: TOLLGATE_TEST_POSTGRES_URL is not set: the control plane's tests run on SQLite only\n";
                std::io::stderr().write_all(said.as_bytes()).unwrap();
            });
        }
    }
}

pub fn author(plane: &ControlPlane) -> Author {
    Author { actor: "test".to_owned(), remote: "127.0.0.1:1".to_owned(), now_ms: plane.clock.now_ms() }
}

pub fn tokens() -> ConfiguredTokens {
    ConfiguredTokens::new(ADMIN, Some(EDGE))
}

/// A control plane without a server.
pub async fn plane(url: &str, clock: SharedClock) -> Arc<ControlPlane> {
    plane_with(url, clock, Settings::default()).await
}

pub async fn plane_with(url: &str, clock: SharedClock, settings: Settings) -> Arc<ControlPlane> {
    let database = Database::open(url).await.unwrap();
    ControlPlane::start(database, clock, settings, tokens()).await.unwrap()
}

/// A control plane that serves, with a clock that stands still.
pub struct Served {
    pub plane: Arc<ControlPlane>,
    pub clock: Arc<TestClock>,
    pub address: SocketAddr,
    pub client: reqwest::Client,
    server: Server,
}

impl Served {
    pub async fn start(url: &str) -> Self {
        Self::start_with(url, Settings::default()).await
    }

    pub async fn start_with(url: &str, settings: Settings) -> Self {
        let clock = TestClock::shared();
        let events = EventSettings { allow_private: true, ..EventSettings::default() };
        let settings = Settings { watch_max_ms: 5_000, events, ..settings };
        let plane = plane_with(url, clock.clone(), settings).await;
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let server = Server::start(plane.clone(), listener, Fetcher::new().unwrap()).unwrap();
        let client = http_client(Duration::from_secs(30)).unwrap();
        Self { plane, clock, address: server.address(), client, server }
    }

    pub async fn start_with_policy(url: &str) -> Self {
        let served = Self::start(url).await;
        served.plane.apply_policy(&author(&served.plane), POLICY, None, None).await.unwrap();
        served
    }

    pub async fn stop(self) {
        self.server.stop().await;
    }

    pub fn request(&self, method: Method, path: &str, token: &str) -> reqwest::RequestBuilder {
        self.client.request(method, format!("http://{}{path}", self.address)).bearer_auth(token)
    }

    /// Sends JSON as an admin; answers status and JSON.
    pub async fn send(&self, method: Method, path: &str, body: Option<Value>) -> (StatusCode, Value) {
        let mut request = self.request(method, path, ADMIN);
        if let Some(body) = body {
            request = request.json(&body);
        }
        answer(request).await
    }

    pub async fn get(&self, path: &str) -> Value {
        let (status, body) = self.send(Method::GET, path, None).await;
        assert_eq!(status, 200, "{path}: {body}");
        body
    }

    pub async fn put(&self, path: &str, body: Value) -> Value {
        let (status, answer) = self.send(Method::PUT, path, Some(body)).await;
        assert_eq!(status, 200, "{path}: {answer}");
        answer
    }

    pub async fn sync(&self, body: Value) -> (StatusCode, Value) {
        answer(self.request(Method::POST, "/edge/v1/sync", EDGE).json(&body)).await
    }
}

pub async fn answer(request: reqwest::RequestBuilder) -> (StatusCode, Value) {
    let response = request.send().await.unwrap();
    let (status, text) = (response.status(), response.text().await.unwrap());
    let json = if text.is_empty() { Value::Null } else { serde_json::from_str(&text).unwrap_or(json!(text)) };
    (status, json)
}

pub fn session(number: u32) -> String {
    format!("{number:032x}")
}

/// A sync of one subject that wants `want` units of `free`'s quota.
pub fn sync_body(session: &str, subject: &str, taken: u64, want: u64) -> Value {
    json!({"version": 1, "session": session, "subjects": [{
        "subject": subject,
        "accounts": [{"limit": "calls.hour", "window": START_MS, "taken": taken, "freed": 0, "returned": 0, "want": want}],
        "usage": [{"meter": "calls", "hour": START_MS, "taken": taken, "freed": 0}],
    }]})
}

/// Waits for a state, with a deadline.
pub async fn eventually<T>(what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        if let Some(found) = look().await {
            return found;
        }
        assert!(Instant::now() < deadline, "{what} did not happen in time");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
