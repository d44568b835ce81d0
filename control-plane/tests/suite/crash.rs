//! What is killed, locked or cut off loses nothing that was acknowledged, and comes back by itself.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use reqwest::{Client, Method};
use serde_json::{Value, json};
use sqlx::{Connection as _, SqliteConnection};
use tokio::task::JoinSet;
use tollgate_control_plane::http_client::http_client;

use super::events::Receiver;
use super::payments;
use super::support::{
    ADMIN, EDGE, POLICY, Served, TestDatabase, answer, eventually, on_each_database, session, sync_body,
};

/// The real program.
struct Program {
    child: Child,
    base: String,
    client: Client,
}

impl Program {
    fn start(url: &str) -> Self {
        Self::start_with(url, &[])
    }

    fn start_with(url: &str, environment: &[(&str, &str)]) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_tollgate"))
            .args(["serve", "--listen", "127.0.0.1:0", "--log-format", "json"])
            .env("TOLLGATE_DATABASE_URL", url)
            .env("TOLLGATE_ADMIN_TOKEN", ADMIN)
            .env("TOLLGATE_EDGE_TOKEN", EDGE)
            .env("TOLLGATE_EVENTS_ALLOW_PRIVATE", "true")
            .envs(environment.iter().copied())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let log = BufReader::new(child.stderr.take().unwrap());
        let mut lines = log.lines().map_while(Result::ok);
        let address = lines.find_map(|line| {
            let line: Value = serde_json::from_str(&line).ok()?;
            Some(line["fields"]["address"].as_str()?.to_owned())
        });
        // Read on, so that the program never waits for its log.
        std::thread::spawn(move || lines.for_each(drop));
        let base = format!("http://{}", address.unwrap());
        Self { child, base, client: http_client(Duration::from_secs(10)).unwrap() }
    }

    async fn send(&self, method: Method, path: &str, token: &str, body: Value) -> Value {
        let request = self.client.request(method, format!("{}{path}", self.base)).bearer_auth(token);
        let request = if body.is_null() { request } else { request.json(&body) };
        let (status, body) = answer(request).await;
        assert!(status.is_success(), "{path}: {status} {body}");
        body
    }

    /// SIGKILL: it gets to do nothing more.
    fn kill(self) {}
}

impl Drop for Program {
    fn drop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

#[tokio::test]
async fn a_killed_control_plane_loses_nothing_that_it_acknowledged() {
    on_each_database(async |test| {
        let program = Program::start(&test.url);
        let policy = serde_json::to_value(tollgate_policy::document::parse(POLICY).unwrap()).unwrap();
        program.send(Method::PUT, "/v1/policy", ADMIN, policy).await;
        let now_ms = program
            .send(
                Method::POST,
                "/edge/v1/sync",
                EDGE,
                json!({"version": 1, "session": session(9), "subjects": []}),
            )
            .await["now_ms"]
            .as_i64()
            .unwrap();
        let window = now_ms.div_euclid(3_600_000) * 3_600_000;
        let at = |mut body: Value| {
            body["subjects"][0]["accounts"][0]["window"] = window.into();
            body["subjects"][0]["usage"][0]["hour"] = window.into();
            body
        };
        let mut killed = program;
        for round in 0..4_u64 {
            let subject = format!("user:{round}");
            killed
                .send(Method::PUT, &format!("/v1/subscriptions/{subject}"), ADMIN, json!({"tier": "free"}))
                .await;
            killed
                .send(Method::POST, "/edge/v1/sync", EDGE, at(sync_body(&session(1), &subject, 0, 5)))
                .await;
            let sync = at(sync_body(&session(1), &subject, 2, 5));
            let before = killed.send(Method::POST, "/edge/v1/sync", EDGE, sync.clone()).await;
            killed.kill();
            killed = Program::start(&test.url);
            let after = killed.send(Method::POST, "/edge/v1/sync", EDGE, sync).await;
            assert_eq!(before["subjects"][0]["accounts"][0]["granted"], 5);
            assert_eq!(after["subjects"], before["subjects"], "what was granted is granted, and no more");
            let other = killed
                .send(Method::POST, "/edge/v1/sync", EDGE, at(sync_body(&session(2), &subject, 0, 5)))
                .await;
            assert_eq!(other["subjects"][0]["accounts"][0]["granted"], 0, "and nobody else is granted it");
            let usage = killed
                .send(Method::GET, &format!("/v1/subjects/{subject}/usage?by=total"), ADMIN, Value::Null)
                .await;
            assert_eq!(usage["usage"][0]["used"], 2);
        }
        let audit = killed.send(Method::GET, "/v1/audit", ADMIN, Value::Null).await;
        assert_eq!(audit["items"].as_array().unwrap().len(), 5);
        killed.kill();
    })
    .await;
}

/// Many senders, until the program is gone; answers whose webhooks were acknowledged.
async fn send_until_killed(program: Program, round: usize) -> Vec<String> {
    let (client, base) = (program.client.clone(), program.base.clone());
    let acknowledged = Arc::new(AtomicUsize::new(0));
    let mut senders = JoinSet::new();
    for sender in 0..16 {
        let (client, base, acknowledged) = (client.clone(), base.clone(), acknowledged.clone());
        senders.spawn(async move {
            let mut taken = Vec::new();
            for number in 0.. {
                let name = format!("{round}-{sender}-{number}");
                let (body, signature) = payments::created_now(&name);
                let request =
                    client.post(format!("{base}/webhooks/stripe")).header("stripe-signature", signature);
                match request.body(body).send().await {
                    Ok(response) if response.status() == 200 => taken.push(name),
                    Ok(response) => panic!("{}", response.status()),
                    Err(_) => break,
                }
                acknowledged.fetch_add(1, Ordering::Relaxed);
            }
            taken
        });
    }
    eventually("webhooks are taken", async || (acknowledged.load(Ordering::Relaxed) > 150).then_some(()))
        .await;
    program.kill();
    senders.join_all().await.concat()
}

#[tokio::test]
async fn a_webhook_that_was_acknowledged_takes_effect_once_whatever_is_killed() {
    on_each_database(async |test| {
        let directory = tempfile::TempDir::new().unwrap();
        let file = directory.path().join("payments.yaml");
        std::fs::write(&file, payments::SETTINGS).unwrap();
        let environment = [("TOLLGATE_PAYMENTS", file.to_str().unwrap())];
        let mut program = Program::start_with(&test.url, &environment);
        let policy =
            serde_json::to_value(tollgate_policy::document::parse(payments::POLICY).unwrap()).unwrap();
        program.send(Method::PUT, "/v1/policy", ADMIN, policy).await;
        let mut acknowledged = Vec::new();
        for round in 0..3 {
            acknowledged.extend(send_until_killed(program, round).await);
            program = Program::start_with(&test.url, &environment);
        }
        eventually("all is worked off", async || {
            let path = "/v1/webhooks?state=pending";
            let page = program.send(Method::GET, path, ADMIN, Value::Null).await;
            page["items"].as_array().unwrap().is_empty().then_some(())
        })
        .await;
        for name in acknowledged {
            let path = format!("/v1/subscriptions/user:{name}");
            let bought = program.send(Method::GET, &path, ADMIN, Value::Null).await;
            assert_eq!((&bought["tier"], &bought["revision"]), (&json!("pro"), &json!(1)), "{bought}");
            let path = format!("/v1/audit?target=user:{name}");
            let audit = program.send(Method::GET, &path, ADMIN, Value::Null).await;
            assert_eq!(audit["items"].as_array().unwrap().len(), 1, "once: {audit}");
        }
        program.kill();
    })
    .await;
}

#[tokio::test]
async fn a_locked_database_is_answered_503_and_recovers_by_itself() {
    let test = TestDatabase::sqlite();
    let served = Served::start_with_policy(&test.url).await;
    let mut other = SqliteConnection::connect(&test.url).await.unwrap();
    sqlx::query("BEGIN EXCLUSIVE").execute(&mut other).await.unwrap();
    let request = served.request(Method::POST, "/edge/v1/sync", EDGE);
    let response = request.json(&sync_body(&session(1), "user:a", 1, 1)).send().await.unwrap();
    assert_eq!(response.status(), 503);
    assert_eq!(response.headers()["retry-after"], "1");
    assert_eq!(response.json::<Value>().await.unwrap()["code"], "database-unavailable");
    let (status, _) =
        served.send(Method::PUT, "/v1/subscriptions/user:a", Some(json!({"tier": "pro"}))).await;
    assert_eq!(status, 503);
    sqlx::query("ROLLBACK").execute(&mut other).await.unwrap();
    let (status, _) = served.sync(sync_body(&session(1), "user:a", 1, 1)).await;
    assert_eq!(status, 200, "it recovers by itself");
    let audit = served.get("/v1/audit?target=user:a").await;
    assert_eq!(audit["items"], json!([]), "nothing was half done");
    served.stop().await;
}

#[tokio::test]
async fn a_postgres_that_drops_its_connections_is_asked_again() {
    let Ok(server) = std::env::var("TOLLGATE_TEST_POSTGRES_URL") else {
        return;
    };
    on_each_database(async |test| {
        if test.url.starts_with("sqlite") {
            return;
        }
        let served = Served::start_with_policy(&test.url).await;
        let mut other = sqlx::PgConnection::connect(&server).await.unwrap();
        let schema = test.url.rsplit("%3D").next().unwrap();
        let lock = format!("LOCK TABLE {schema}.edge_sessions IN ACCESS EXCLUSIVE MODE");
        let mut tx = other.begin().await.unwrap();
        sqlx::query(sqlx::AssertSqlSafe(lock)).execute(&mut *tx).await.unwrap();
        let sync = served.sync(sync_body(&session(1), "user:a", 1, 1));
        let terminate = async {
            let victims = format!(
                "SELECT count(pg_terminate_backend(a.pid)) FROM pg_stat_activity a WHERE a.pid <> pg_backend_pid() \
                 AND EXISTS (SELECT 1 FROM pg_locks l WHERE l.pid = a.pid AND l.relation = '{schema}.edge_sessions'::regclass)"
            );
            eventually("a waiting sync", async || {
                let count: i64 =
                    sqlx::query_scalar(sqlx::AssertSqlSafe(victims.clone())).fetch_one(&mut *tx).await.unwrap();
                (count > 0).then_some(())
            })
            .await;
        };
        let ((status, body), ()) = tokio::join!(sync, terminate);
        assert_eq!((status.as_u16(), &body["code"]), (503, &json!("database-unavailable")), "{body}");
        tx.rollback().await.unwrap();
        let (status, _) = served.sync(sync_body(&session(1), "user:a", 1, 1)).await;
        assert_eq!(status, 200);
        served.stop().await;
    })
    .await;
}

#[test]
fn the_program_refuses_to_start_without_a_token_and_says_what_to_do() {
    let run = |environment: &[(&str, &str)]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tollgate"));
        command.args(["serve", "--database-url", "sqlite::memory:", "--listen", "127.0.0.1:0"]);
        command.env_remove("TOLLGATE_ADMIN_TOKEN").env_remove("TOLLGATE_EDGE_TOKEN");
        let output = command.envs(environment.iter().copied()).output().unwrap();
        assert!(!output.status.success());
        String::from_utf8(output.stderr).unwrap()
    };
    assert!(run(&[]).contains("set TOLLGATE_ADMIN_TOKEN"));
    assert!(run(&[("TOLLGATE_ADMIN_TOKEN", "short")]).contains("16 or more"));
    let same = "one-token-for-both";
    assert!(run(&[("TOLLGATE_ADMIN_TOKEN", same), ("TOLLGATE_EDGE_TOKEN", same)]).contains("must differ"));
}

#[tokio::test]
async fn events_of_a_killed_control_plane_are_told_by_the_next_under_the_same_id() {
    on_each_database(async |test| {
        let receiver = Receiver::start().await;
        let mut program = Program::start(&test.url);
        let endpoint =
            program.send(Method::POST, "/v1/event-endpoints", ADMIN, json!({"url": receiver.url()})).await;
        let (id, secret) = (endpoint["id"].as_str().unwrap(), endpoint["secret"].as_str().unwrap());
        for _ in 0..4 {
            let path = format!("/v1/event-endpoints/{id}/test");
            let sent = program.send(Method::POST, &path, ADMIN, Value::Null).await;
            // Committed, and most likely not told yet: it is looked for twice a second.
            program.kill();
            let event = sent["event"].as_str().unwrap();
            program = Program::start(&test.url);
            let told = eventually("the event", async || {
                receiver.received().into_iter().find(|told| told.id == event)
            });
            assert!(told.await.is_signed_with(&[secret]));
        }
        program.kill();
    })
    .await;
}
