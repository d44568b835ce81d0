//! A database of an earlier release, with data, goes on where it was.

use serde_json::json;
use sqlx::{Connection as _, Executor as _, PgConnection, SqliteConnection};

use super::support::{POLICY, START_MS, Served, on_each_database, session, sync_body};

static MIGRATIONS: sqlx::migrate::Migrator = sqlx::migrate!();

/// Brings the tables up to one version, and runs statements on them.
async fn make(url: &str, version: i64, statements: &[String]) {
    if url.starts_with("postgres:") {
        let mut connection = PgConnection::connect(url).await.unwrap();
        MIGRATIONS.run_to(version, &mut connection).await.unwrap();
        for statement in statements {
            connection.execute(sqlx::AssertSqlSafe(statement.as_str())).await.unwrap();
        }
    } else {
        let mut connection = SqliteConnection::connect(&format!("{url}?mode=rwc")).await.unwrap();
        MIGRATIONS.run_to(version, &mut connection).await.unwrap();
        for statement in statements {
            connection.execute(sqlx::AssertSqlSafe(statement.as_str())).await.unwrap();
        }
    }
}

/// What the first release had written: a policy, a subject that bought a tier with a maximum of its own, a session that
/// holds units of it, and a session that was closed with others.
fn first_release() -> Vec<String> {
    let document = serde_json::to_string(&tollgate_policy::document::parse(POLICY).unwrap()).unwrap();
    let (open, closed) = (session(1), session(2));
    let hour_end_ms = START_MS + 3_600_000;
    let book = json!({"accounts": [
        {"limit": "calls.hour", "window": START_MS, "end": hour_end_ms, "settled": 1,
         "open": {open.as_str(): {"g": 4, "r": 1, "t": 2, "f": 1, "c": {"Told": START_MS}}},
         "closed": {closed.as_str(): {"taken": 1, "freed": 0, "charge": 2}}},
        {"limit": "calls.60s", "window": 0, "rest_ms": 60_000, "open": {open.as_str(): {"g": 10, "t": 2}}},
    ]});
    let subscription =
        json!({"tier": "pro", "state": "active", "anchor_ms": START_MS, "overrides": {"calls.hour": 9}});
    vec![
        format!(
            "INSERT INTO policies (version, document, source, created_ms, created_by) VALUES (1, '{document}', '', 0, 'a')"
        ),
        "UPDATE configuration SET policy_version = 1".to_owned(),
        "UPDATE counters SET value = 1 WHERE name IN ('configuration', 'policies', 'audit')".to_owned(),
        format!(
            "INSERT INTO subjects (subject, book, subscription, subscription_tier, subscription_state,
             subscription_revision) VALUES ('user:a', '{book}', '{subscription}', 'pro', 'active', 3)"
        ),
        format!("INSERT INTO edge_sessions VALUES ('{open}', 1, 0, {START_MS}, 5, NULL, 'edge')"),
        format!("INSERT INTO edge_sessions VALUES ('{closed}', 1, 0, 2, 5, 3, 'edge')"),
        format!("INSERT INTO usage VALUES ('user:a', 'calls', {START_MS}, '{open}', 2, 1)"),
        "INSERT INTO audit VALUES (1, 0, 'a', 'policy.apply', 'policy', NULL, NULL, 'r')".to_owned(),
    ]
}

#[tokio::test]
async fn a_database_of_the_first_release_goes_on() {
    on_each_database(async |test| {
        make(&test.url, 1, &first_release()).await;
        let served = Served::start(&test.url).await;
        let view = served.get("/v1/subjects/user:a").await;
        assert_eq!((&view["tier"], &view["subscription_revision"]), (&json!("pro"), &json!(3)), "{view}");
        let limit = &view["limits"][0];
        assert_eq!(
            (&limit["limit"], &limit["units"], &limit["used"], &limit["remaining"]),
            (&json!("calls.hour"), &json!(9), &json!(4), &json!(3)),
            "one taken and not freed, one settled, two forfeited, and two more are held: {view}"
        );
        let (status, answer) = served.sync(sync_body(&session(1), "user:a", 3, 5)).await;
        assert_eq!((status.as_u16(), answer.get("closed")), (200, None), "{answer}");
        let account = &answer["subjects"][0]["accounts"][0];
        assert_eq!((&account["taken"], &account["freed"]), (&json!(3), &json!(1)), "merged: {account}");
        assert!(account["granted"].as_u64().unwrap() >= 5, "{account}");
        served.clock.pass(1);
        let usage = served.get("/v1/subjects/user:a/usage?by=total").await;
        assert_eq!(usage["usage"][0]["taken"], 3, "{usage}");
        served.stop().await;
    })
    .await;
}

#[tokio::test]
async fn an_edge_of_before_the_upgrade_is_told_of_a_change_after_it() {
    on_each_database(async |test| {
        make(&test.url, 1, &first_release()).await;
        let served = Served::start(&test.url).await;
        let set = served.put("/v1/subscriptions/user:a", json!({"tier": "free"})).await;
        assert_eq!(set["revision"], 4);
        let told =
            tollgate_control_plane::store::changes::since(&served.plane.database, 0, 10).await.unwrap();
        assert_eq!(told.iter().map(|change| change.session.clone()).collect::<Vec<_>>(), [session(1)]);
        served.stop().await;
    })
    .await;
}
