//! Moving in: users of another system are imported once, whoever cannot be is told, and what they had is kept and given
//! back once.

use reqwest::Method;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::cli::{bad, good, write};
use super::support::{START_MS, Served, TestDatabase, on_each_database};

async fn import(served: &Served, options: Value, rows: Value) -> Value {
    let mut body = json!({ "rows": rows });
    body.as_object_mut().unwrap().extend(options.as_object().unwrap().clone());
    let (status, report) = served.send(Method::POST, "/v1/import", Some(body)).await;
    assert_eq!(status, 200, "{report}");
    report
}

/// `created replaced unchanged kept unsubscribed archived failed`
fn counts(report: &Value) -> [u64; 7] {
    ["created", "replaced", "unchanged", "kept", "unsubscribed", "archived", "failed"]
        .map(|name| report[name].as_u64().unwrap())
}

fn users() -> Value {
    json!([
        {"subject": "user:alice", "tier": "pro", "archives": {"credit_balance": 1200}},
        {"subject": "org:acme", "tier": "pro", "state": "cancelled", "anchor_ms": START_MS - 86_400_000,
         "expires_at_ms": START_MS + 86_400_000, "overrides": {"calls.hour": 7}},
        {"subject": "user:bob", "archives": {"credit_balance": {"amount": 5, "currency": "XOF"}}},
    ])
}

#[tokio::test]
async fn an_import_that_is_repeated_changes_nothing() {
    on_each_database(async |test| {
        let served = Served::start_with_policy(&test.url).await;
        let first = import(&served, json!({}), users()).await;
        assert_eq!(counts(&first), [2, 0, 0, 0, 1, 2, 0], "{first}");
        let acme = served.get("/v1/subscriptions/org:acme").await;
        assert_eq!(
            (&acme["state"], &acme["anchor_ms"], &acme["overrides"]["calls.hour"]),
            (&json!("cancelled"), &json!(START_MS - 86_400_000), &json!(7)),
            "{acme}"
        );
        let audit = served.get("/v1/audit?limit=500").await;
        served.clock.pass(5_000);
        let again = import(&served, json!({}), users()).await;
        assert_eq!(counts(&again), [0, 0, 2, 0, 1, 0, 0], "{again}");
        assert_eq!(served.get("/v1/audit?limit=500").await, audit, "nothing more was done");
        let mine = served.get("/v1/audit?target=user:alice").await;
        let actions: Vec<&str> =
            mine["items"].as_array().unwrap().iter().map(|row| row["action"].as_str().unwrap()).collect();
        assert_eq!(actions, ["archive.add", "subscription.import"]);
        served.stop().await;
    })
    .await;
}

#[tokio::test]
async fn a_dry_run_tells_what_the_import_does_and_does_nothing() {
    on_each_database(async |test| {
        let served = Served::start_with_policy(&test.url).await;
        let told = import(&served, json!({"dry_run": true}), users()).await;
        let (status, _) = served.send(Method::GET, "/v1/subscriptions/user:alice", None).await;
        assert_eq!(status, 404);
        assert_eq!(served.get("/v1/archives").await["items"], json!([]));
        let audit = served.get("/v1/audit").await;
        assert_eq!(audit["items"].as_array().unwrap().len(), 1, "the policy alone: {audit}");
        let done = import(&served, json!({}), users()).await;
        assert_eq!(counts(&told), counts(&done));
        served.stop().await;
    })
    .await;
}

#[tokio::test]
async fn a_bad_row_is_told_and_imported_not_even_in_part() {
    on_each_database(async |test| {
        let served = Served::start_with_policy(&test.url).await;
        let rows = json!([
            {"subject": "user:good", "tier": "pro"},
            {"subject": "user:gold", "tier": "gold"},
            {"subject": "alice", "tier": "pro"},
            {"subject": "member:acme/alice", "tier": "pro"},
            {"subject": "user:good", "tier": "free"},
            {"subject": "user:odd", "teir": "pro"},
            {"subject": "user:odd", "tier": "pro", "state": "free"},
            7,
            {"subject": "user:half", "tier": "pro", "archives": {"good": 1, "not good": 2}},
            {"subject": "user:far", "tier": "pro", "expires_at_ms": i64::MAX},
            {"subject": "user:last", "tier": "pro"},
        ]);
        let report = import(&served, json!({}), rows).await;
        assert_eq!(counts(&report), [2, 0, 0, 0, 0, 0, 9], "{report}");
        let codes: Vec<(u64, &str)> = report["rows"]
            .as_array()
            .unwrap()
            .iter()
            .map(|row| (row["index"].as_u64().unwrap(), row["code"].as_str().unwrap()))
            .collect();
        assert_eq!(
            codes,
            [
                (1, "tier-unknown"),
                (2, "subject-malformed"),
                (3, "subject-malformed"),
                (4, "import-invalid"),
                (5, "import-invalid"),
                (6, "import-invalid"),
                (7, "import-invalid"),
                (8, "archive-invalid"),
                (9, "subscription-invalid"),
            ]
        );
        let (status, _) = served.send(Method::GET, "/v1/subscriptions/user:half", None).await;
        assert_eq!(status, 404, "its archive was refused, so its subscription was undone");
        assert_eq!(served.get("/v1/archives").await["items"], json!([]));
        served.get("/v1/subscriptions/user:last").await;
        served.stop().await;
    })
    .await;
}

#[tokio::test]
async fn what_was_bought_meanwhile_is_kept_unless_it_is_to_be_replaced() {
    on_each_database(async |test| {
        let served = Served::start_with_policy(&test.url).await;
        served.put("/v1/subscriptions/user:alice", json!({"tier": "free"})).await;
        let report = import(&served, json!({}), users()).await;
        assert_eq!(counts(&report), [1, 0, 0, 1, 1, 2, 0], "{report}");
        assert_eq!(served.get("/v1/subscriptions/user:alice").await["tier"], "free");
        let report = import(&served, json!({"replace": true}), users()).await;
        assert_eq!(counts(&report), [0, 1, 1, 0, 1, 0, 0], "{report}");
        assert_eq!(served.get("/v1/subscriptions/user:alice").await["tier"], "pro");
        let other = json!([{"subject": "user:alice", "archives": {"credit_balance": 1}}]);
        let report = import(&served, json!({}), other.clone()).await;
        assert_eq!(report["rows"][0]["code"], "archive-invalid", "{report}");
        let report = import(&served, json!({"replace": true}), other).await;
        assert_eq!(counts(&report), [0, 0, 0, 0, 1, 1, 0], "{report}");
        served.stop().await;
    })
    .await;
}

#[tokio::test]
async fn an_archive_is_looked_at_often_and_given_back_once() {
    on_each_database(async |test| {
        let served = Served::start_with_policy(&test.url).await;
        import(&served, json!({}), users()).await;
        let path = "/v1/archives/user:bob/credit_balance";
        for _ in 0..2 {
            let archive = served.get(path).await;
            assert_eq!(archive["data"], json!({"amount": 5, "currency": "XOF"}));
            assert_eq!(archive.get("restored_at"), None, "{archive}");
        }
        let restore = format!("{path}/restore");
        let (status, archive) = served.send(Method::POST, &restore, None).await;
        assert_eq!(
            (status.as_u16(), &archive["data"]["amount"], &archive["restored_by"]),
            (200, &json!(5), &json!("admin")),
            "{archive}"
        );
        let (status, again) = served.send(Method::POST, &restore, None).await;
        assert_eq!((status.as_u16(), &again["code"]), (409, &json!("archive-restored")));
        assert_eq!(served.get(path).await, archive, "and it is kept");
        let report = import(
            &served,
            json!({"replace": true}),
            json!([{"subject": "user:bob", "archives": {"credit_balance": 9}}]),
        )
        .await;
        assert_eq!(counts(&report)[6], 1, "what was given back is not replaced: {report}");
        for (path, status) in [
            ("/v1/archives/user:bob/other", 404),
            ("/v1/archives/user:nobody/credit_balance", 404),
            ("/v1/archives/user:bob/a%20b", 422),
            ("/v1/archives/bob/credit_balance", 400),
        ] {
            let (found, problem) = served.send(Method::GET, path, None).await;
            assert_eq!(found, status, "{path}: {problem}");
        }
        let page = served.get("/v1/archives?limit=1").await;
        assert_eq!(page["items"][0]["subject"], "user:alice");
        let cursor = page["next_cursor"].as_str().unwrap();
        let page = served.get(&format!("/v1/archives?limit=1&cursor={cursor}")).await;
        assert_eq!((&page["items"][0]["subject"], page.get("next_cursor")), (&json!("user:bob"), None));
        let none = served.get("/v1/archives?kind=other").await;
        assert_eq!(none["items"], json!([]));
        served.stop().await;
    })
    .await;
}

#[tokio::test]
async fn a_thousand_rows_are_imported_at_once_and_no_more() {
    on_each_database(async |test| {
        let served = Served::start_with_policy(&test.url).await;
        let rows = |count: usize| {
            let row = |number| json!({"subject": format!("user:{number}"), "tier": "pro"});
            Value::Array((0..count).map(row).collect())
        };
        for (count, status) in [(0, 422), (1_001, 422), (1_000, 200)] {
            let (found, answer) =
                served.send(Method::POST, "/v1/import", Some(json!({"rows": rows(count)}))).await;
            assert_eq!(found, status, "{count}: {answer}");
        }
        served.stop().await;
    })
    .await;
}

#[tokio::test]
async fn the_users_of_a_file_are_imported_by_a_command() {
    let test = TestDatabase::sqlite();
    let served = Served::start_with_policy(&test.url).await;
    let directory = TempDir::new().unwrap();
    let users: serde_json::Map<String, Value> = (0..1_200)
        .map(|number| (format!("u{number}"), json!({"password": "hunter2", "isAdmin": number == 0})))
        .collect();
    let file = write(&directory, "users.json", &Value::Object(users).to_string());
    let said = good(&served, &["import", &file, "--tier", "pro", "--dry-run"]).await;
    assert!(said.contains("Nothing was changed") && said.contains("created        1200"), "{said}");
    assert!(good(&served, &["import", &file, "--tier", "pro"]).await.contains("created        1200"));
    assert!(good(&served, &["import", &file, "--tier", "pro"]).await.contains("unchanged      1200"));
    assert_eq!(served.get("/v1/subscriptions/user:u1199").await["tier"], "pro");
    let text = served.send(Method::GET, "/v1/audit?limit=500", None).await.1.to_string();
    assert!(!text.contains("hunter2"), "what nothing names is not sent");

    let csv = "id,plan,subscription_status,subscription_expires_at,credit_balance\n\
               ann,premium,active,2027-09-01,12.50\n\
               bob,,free,,3\n\
               eve,gold,active,,\n\
               ann,premium,active,,\n";
    let file = write(&directory, "users.csv", csv);
    let arguments = [
        "import",
        &file,
        "--map=subject=id",
        "--map=tier=plan",
        "--map=state=subscription_status",
        "--map=expires=subscription_expires_at",
        "--value=tier:premium=pro",
        "--archive=credit_balance",
    ];
    let said = bad(&served, &arguments).await;
    assert!(said.contains("2 rows were not imported"), "{said}");
    let ann = served.get("/v1/subscriptions/user:ann").await;
    assert_eq!(
        (&ann["tier"], &ann["expires_at_ms"]),
        (&json!("pro"), &json!(1_819_756_800_000_i64)),
        "{ann}"
    );
    let said = good(&served, &["archive", "list", "--kind", "credit_balance"]).await;
    assert!(said.contains("user:ann") && said.contains("12.50") && said.contains("user:bob"), "{said}");
    assert!(good(&served, &["archive", "restore", "user:bob", "credit_balance"]).await.contains("had 3 of"));
    let said = bad(&served, &["archive", "restore", "user:bob", "credit_balance"]).await;
    assert!(said.contains("archive-restored"), "{said}");

    assert!(bad(&served, &["import", &file]).await.contains("say which tier they get"));
    let file = write(&directory, "users.txt", csv);
    assert!(bad(&served, &["import", &file, "--tier", "pro"]).await.contains("--format json, jsonl or csv"));
    served.stop().await;
}
