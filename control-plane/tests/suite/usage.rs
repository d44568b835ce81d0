//! The ledger through the API and the commands: usage that programs record, corrections, groups, exports.

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use tollgate_control_plane::service::usage::retention::Keeper;

use super::support::{ADMIN, START_MS, Served, on_each_database, session, sync_body};

const DAY_MS: u64 = 24 * 3_600_000;

fn entry(key: &str, units: u64, at: &str) -> Value {
    json!({"key": key, "subject": "user:a", "meter": "tokens", "units": units, "at": at, "labels": {"model": "large"}})
}

async fn record(served: &Served, source: &str, entries: Value) -> (StatusCode, Value) {
    served.send(Method::POST, "/v1/usage", Some(json!({"source": source, "entries": entries}))).await
}

async fn used(served: &Served, query: &str) -> Vec<(String, String, i64)> {
    let usage = served.get(&format!("/v1/subjects/user:a/usage?{query}")).await;
    let row = |row: &Value| {
        let labels = row.get("labels").map(Value::to_string).unwrap_or_default();
        (row["meter"].as_str().unwrap().to_owned(), labels, row["used"].as_i64().unwrap())
    };
    usage["usage"].as_array().unwrap().iter().map(row).collect()
}

#[tokio::test]
async fn recorded_usage_counts_once_per_key_of_its_source() {
    on_each_database(async |test| {
        let served = Served::start_with_policy(&test.url).await;
        served.clock.pass(2 * 3_600_000);
        let at = "2027-03-01T01:30:00Z";
        let two = json!([entry("k1", 5, at), entry("k2", 6, at)]);
        assert_eq!(
            record(&served, "batch", two.clone()).await,
            (StatusCode::OK, json!({"recorded": 2, "repeated": 0}))
        );
        assert_eq!(record(&served, "batch", two).await.1, json!({"recorded": 0, "repeated": 2}));
        let more = json!([entry("k2", 6, at), entry("k3", 7, at), entry("k3", 7, at)]);
        assert_eq!(record(&served, "batch", more).await.1, json!({"recorded": 1, "repeated": 2}));
        assert_eq!(
            record(&served, "other", json!([entry("k1", 5, at)])).await.1["recorded"],
            1,
            "keys are a source's own"
        );
        for other in [
            json!([entry("k4", 1, at), entry("k1", 4, at)]),
            json!([entry("k4", 1, at), entry("k1", 5, "2027-03-01T01:30:01Z")]),
            json!([entry("k4", 1, at), entry("k4", 2, at)]),
        ] {
            let (status, problem) = record(&served, "batch", other).await;
            assert_eq!(
                (status.as_u16(), &problem["code"]),
                (409, &json!("idempotency-conflict")),
                "{problem}"
            );
        }
        assert_eq!(
            used(&served, "by=total").await,
            [("tokens".to_owned(), String::new(), 23)],
            "all or none: k4 is not there"
        );
        assert_eq!(used(&served, "by=hour&group=model").await[0].1, r#"{"model":"large"}"#);
        let subject = served.get("/v1/subjects/user:a").await;
        assert_eq!(subject["limits"][0]["used"], 0, "limits do not count it");
        let audit = served.get("/v1/audit?target=batch").await;
        assert_eq!(audit["items"].as_array().unwrap().len(), 2, "{audit}");
        assert_eq!(audit["items"][1]["after"], json!({"entries": 2, "repeated": 0}));
        served.stop().await;
    })
    .await;
}

#[tokio::test]
async fn the_same_recorded_at_the_same_time_counts_once() {
    on_each_database(async |test| {
        let served = Served::start_with_policy(&test.url).await;
        served.clock.pass(2 * 3_600_000);
        let entries = || {
            let one = |number: i32| {
                let mut entry = entry(&format!("k{number}"), 1, "2027-03-01T01:30:00Z");
                entry["subject"] = json!(format!("user:{}", number % 5));
                entry
            };
            json!((0..50).map(one).collect::<Vec<_>>())
        };
        let sent = || record(&served, "batch", entries());
        let (one, two, three) = tokio::join!(sent(), sent(), sent());
        let recorded: u64 =
            [one, two, three].iter().map(|(_, answer)| answer["recorded"].as_u64().unwrap()).sum();
        assert_eq!(recorded, 50);
        let total = export(&served, "format=jsonl&by=total").await.1;
        let used = |line: &str| serde_json::from_str::<Value>(line).unwrap()["used"].as_u64().unwrap();
        assert_eq!(total.lines().map(used).sum::<u64>(), 50);
        served.stop().await;
    })
    .await;
}

#[tokio::test]
async fn usage_that_cannot_be_is_refused() {
    on_each_database(async |test| {
        let served = Served::start_with_policy(&test.url).await;
        served.clock.pass(40 * DAY_MS);
        let good = "2027-04-09T12:00:00Z";
        let mut odd = entry("k", 1, good);
        odd["meter"] = json!("tokenz");
        let mut nobody = entry("k", 1, good);
        nobody["subject"] = json!("alice");
        let mut long = entry("k", 1, good);
        long["labels"] = json!({"model": "x".repeat(300)});
        for (entries, status, code) in [
            (json!([entry("k", 1, "2027-03-05T23:59:59Z")]), 422, "usage-invalid"),
            (json!([entry("k", 1, "2027-04-10T00:01:01Z")]), 422, "usage-invalid"),
            (json!([entry("k", 1, "yesterday")]), 422, "body-invalid"),
            (json!([entry("k", 0, good)]), 422, "usage-invalid"),
            (json!([entry("k", 1 << 60, good)]), 422, "usage-invalid"),
            (json!([entry("", 1, good)]), 422, "usage-invalid"),
            (json!([]), 422, "usage-invalid"),
            (json!([odd]), 422, "usage-invalid"),
            (json!([nobody]), 400, "subject-malformed"),
            (json!([long]), 422, "usage-invalid"),
            (json!(vec![entry("k", 1, good); 1_001]), 422, "usage-invalid"),
            (json!([{"key": "k"}]), 422, "body-invalid"),
        ] {
            let (found, problem) = record(&served, "batch", entries).await;
            assert_eq!((found.as_u16(), &problem["code"]), (status, &json!(code)), "{problem}");
        }
        for at in ["2027-03-06T00:00:00Z", "2027-04-10T00:00:30Z"] {
            let (status, answer) = record(&served, "batch", json!([entry(at, 1, at)])).await;
            assert_eq!(status, 200, "35 days late, or a clock a little ahead: {answer}");
        }
        let most = (1_u64 << 53) - 1;
        let full = json!([entry("full", most, good)]);
        assert_eq!(record(&served, "batch", full).await.0, 200);
        let (status, problem) = record(&served, "batch", json!([entry("over", 1, good)])).await;
        assert_eq!(
            (status.as_u16(), &problem["code"]),
            (422, &json!("usage-invalid")),
            "an hour can be full"
        );
        served.stop().await;
    })
    .await;
}

#[tokio::test]
async fn corrections_are_entries_with_a_reason() {
    on_each_database(async |test| {
        let served = Served::start_with_policy(&test.url).await;
        assert_eq!(served.sync(sync_body(&session(1), "user:a", 8, 10)).await.0, 200);
        served.clock.pass(3_600_000);
        let path = "/v1/subjects/user:a/usage/corrections";
        let wish = json!({"meter": "calls", "units": -3, "at": "2027-03-01T00:10:00Z", "reason": "a bug of ours", "key": "c1"});
        let (status, made) = served.send(Method::POST, path, Some(wish.clone())).await;
        assert_eq!((status.as_u16(), &made["id"], &made["actor"]), (201, &json!(1), &json!("admin")), "{made}");
        assert_eq!(used(&served, "by=total").await, [("calls".to_owned(), String::new(), 5)]);
        let (status, again) = served.send(Method::POST, path, Some(wish.clone())).await;
        assert_eq!((status.as_u16(), &again), (200, &made), "the same key corrects once");
        let mut other = wish.clone();
        other["units"] = json!(-4);
        let (status, problem) = served.send(Method::POST, path, Some(other)).await;
        assert_eq!((status.as_u16(), &problem["code"]), (409, &json!("idempotency-conflict")));
        let plain = json!({"meter": "calls", "units": 2, "reason": "more", "key": "now"});
        assert_eq!(served.send(Method::POST, path, Some(plain.clone())).await.0, 201);
        served.clock.pass(60_000);
        assert_eq!(served.send(Method::POST, path, Some(plain)).await.0, 200, "whenever it is repeated");
        assert_eq!(used(&served, "by=total&to=2027-03-01T02:00:00Z").await[0].2, 7);
        for (wish, code) in [
            (json!({"meter": "calls", "units": 0, "reason": "r"}), "usage-invalid"),
            (json!({"meter": "calls", "units": 1, "reason": " "}), "reason-invalid"),
            (json!({"meter": "Calls", "units": 1, "reason": "r"}), "usage-invalid"),
            (json!({"meter": "calls", "units": 1, "reason": "r", "at": "2030-01-01T00:00:00Z"}), "usage-invalid"),
            (json!({"meter": "calls", "units": i64::MIN, "reason": "r"}), "usage-invalid"),
            (json!({"meter": "calls", "units": 1}), "body-invalid"),
        ] {
            let (status, problem) = served.send(Method::POST, path, Some(wish)).await;
            assert_eq!((status.as_u16(), &problem["code"]), (422, &json!(code)), "{problem}");
        }
        let page = served.get(&format!("{path}?limit=1")).await;
        assert_eq!(page["items"][0]["id"], 2, "the newest first: {page}");
        let next = page["next_cursor"].as_str().unwrap();
        let rest = served.get(&format!("{path}?limit=1&cursor={next}")).await;
        assert_eq!((&rest["items"][0]["reason"], rest.get("next_cursor")), (&json!("a bug of ours"), None));
        let audit = served.get("/v1/audit?target=user:a").await;
        assert_eq!(audit["items"][1]["after"]["units"], -3, "{audit}");
        served.stop().await;
    })
    .await;
}

#[tokio::test]
async fn usage_is_grouped_by_labels() {
    on_each_database(async |test| {
        let served = Served::start_with_policy(&test.url).await;
        let mut body = sync_body(&session(1), "user:a", 3, 5);
        let usage = |labels: &str, taken: u64| json!({"meter": "calls", "hour": START_MS, "labels": labels, "taken": taken});
        body["subjects"][0]["usage"] = json!([
            usage("model=large&route=chat", 3), usage("model=small&route=chat", 4), usage("model=large&route=images", 5),
            usage("", 1), usage("route=chat&model=large", 9), usage("model=%zz", 9),
        ]);
        assert_eq!(served.sync(body).await.0, 200);
        served.clock.pass(1_000);
        let all = used(&served, "by=total").await;
        assert_eq!(all, [("calls".to_owned(), String::new(), 13)], "labels that no edge writes are left out");
        let sums = |found: Vec<(String, String, i64)>| {
            found.into_iter().map(|(_, labels, used)| format!("{labels}{used}")).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(sums(used(&served, "by=total&group=model").await), r#"1 {"model":"large"}8 {"model":"small"}4"#);
        assert_eq!(sums(used(&served, "by=total&group=route").await), r#"1 {"route":"chat"}7 {"route":"images"}5"#);
        assert_eq!(
            sums(used(&served, "by=total&group=route,model").await),
            r#"1 {"model":"large","route":"chat"}3 {"model":"large","route":"images"}5 {"model":"small","route":"chat"}4"#
        );
        served.stop().await;
    })
    .await;
}

#[tokio::test]
async fn detail_goes_and_sums_stay() {
    on_each_database(async |test| {
        let served = Served::start_with_policy(&test.url).await;
        for (number, taken) in [(1, 3), (2, 4)] {
            let mut body = sync_body(&session(number), "user:a", taken, 5);
            let usage =
                |at: i64| json!({"meter": "calls", "hour": START_MS + at * 3_600_000, "taken": taken});
            body["subjects"][0]["usage"] = json!([usage(0), usage(1), usage(30)]);
            assert_eq!(served.sync(body).await.0, 200);
        }
        let total = used(&served, "by=total&from=2027-03-01T00:00:00Z&to=2029-01-01T00:00:00Z").await;
        let mut keeper = Keeper::default();
        served.clock.pass(3_000 * DAY_MS);
        assert_eq!(
            keeper.fold(&served.plane).await.unwrap(),
            0,
            "a clock that is years ahead folds nothing that counts"
        );
        let mut steps = Vec::new();
        for days in [10, 440] {
            // Somebody is using something again, and so much time has passed.
            let mut body = sync_body(&session(3), "user:b", 1, 5);
            let hour = START_MS + days * DAY_MS as i64;
            body["subjects"][0]["usage"] = json!([{"meter": "calls", "hour": hour, "taken": 1}]);
            assert_eq!(served.sync(body).await.0, 200);
            while keeper.fold(&served.plane).await.unwrap() > 0 {}
            let range = "from=2027-03-01T00:00:00Z&to=2027-04-01T00:00:00Z";
            steps.push(
                served.get(&format!("/v1/subjects/user:a/usage?by=hour&{range}")).await["usage"].clone(),
            );
            assert_eq!(
                used(&served, "by=total&from=2027-03-01T00:00:00Z&to=2029-01-01T00:00:00Z").await,
                total
            );
        }
        let spans = |rows: &Value| {
            let span = |row: &Value| {
                format!(
                    "{}..{} {}",
                    &row["start"].as_str().unwrap()[5..13],
                    &row["end"].as_str().unwrap()[5..13],
                    row["used"]
                )
            };
            rows.as_array().unwrap().iter().map(span).collect::<Vec<_>>().join(", ")
        };
        assert_eq!(spans(&steps[0]), "03-01T00..03-02T00 14, 03-02T00..03-03T00 7", "days, after a week");
        assert_eq!(spans(&steps[1]), "03-01T00..04-01T00 21", "a month, after 400 days");
        // What is late by then cannot be told from what was told before.
        let mut body = sync_body(&session(1), "user:a", 3, 5);
        body["subjects"][0]["usage"] = json!([{"meter": "calls", "hour": START_MS, "taken": 9}]);
        assert_eq!(served.sync(body).await.0, 200);
        assert_eq!(used(&served, "by=total&from=2027-03-01T00:00:00Z&to=2029-01-01T00:00:00Z").await, total);
        let metrics = served.client.get(format!("http://{}/metrics", served.address)).send().await.unwrap();
        assert!(
            metrics.text().await.unwrap().contains("tollgate_usage_too_late_total 1\n"),
            "and it is said"
        );
        // A correction can be.
        let wish =
            json!({"meter": "calls", "units": 6, "at": "2027-03-01T00:10:00Z", "reason": "came too late"});
        assert_eq!(
            served.send(Method::POST, "/v1/subjects/user:a/usage/corrections", Some(wish)).await.0,
            201
        );
        assert_eq!(
            used(&served, "by=month&from=2027-03-01T00:00:00Z&to=2029-01-01T00:00:00Z").await[0].2,
            27
        );
        served.stop().await;
    })
    .await;
}

async fn export(served: &Served, query: &str) -> (String, String) {
    let request =
        served.request(Method::GET, &format!("/v1/usage/export?from=2027-03-01T00:00:00Z&{query}"), ADMIN);
    let response = request.send().await.unwrap();
    assert_eq!(response.status(), 200, "{query}");
    let media_type = response.headers()["content-type"].to_str().unwrap().to_owned();
    (media_type, response.text().await.unwrap())
}

#[tokio::test]
async fn the_ledger_is_exported_in_three_formats() {
    on_each_database(async |test| {
        let served = Served::start_with_policy(&test.url).await;
        let empty = export(&served, "format=cloudevents").await.1;
        assert_eq!(serde_json::from_str::<Value>(&empty).unwrap(), json!([]));
        served.clock.pass(2 * 3_600_000);
        let at = "2027-03-01T01:30:00Z";
        for subject in ["user:=cmd", "org:a,\"b\"", "user:z"] {
            let mut entry = entry(subject, 5, at);
            entry["subject"] = json!(subject);
            entry["labels"] = json!({"model": "=1+1", "route": "a b"});
            assert_eq!(record(&served, "batch", json!([entry])).await.0, 200);
        }
        let wish = json!({"meter": "tokens", "units": -7, "reason": "r", "at": at});
        served.send(Method::POST, "/v1/subjects/user:z/usage/corrections", Some(wish)).await;
        let (media_type, text) = export(&served, "by=hour").await;
        assert_eq!(media_type, "text/csv; charset=utf-8; header=present");
        assert_eq!(
            text,
            "subject,meter,labels,start,end,taken,freed,used\r\n\
             \"org:a,\"\"b\"\"\",tokens,model=%3D1%2B1&route=a%20b,2027-03-01T01:00:00Z,2027-03-01T02:00:00Z,5,0,5\r\n\
             user:=cmd,tokens,model=%3D1%2B1&route=a%20b,2027-03-01T01:00:00Z,2027-03-01T02:00:00Z,5,0,5\r\n\
             user:z,tokens,,2027-03-01T01:00:00Z,2027-03-01T02:00:00Z,0,7,-7\r\n\
             user:z,tokens,model=%3D1%2B1&route=a%20b,2027-03-01T01:00:00Z,2027-03-01T02:00:00Z,5,0,5\r\n"
        );
        let (_, lines) = export(&served, "format=jsonl&by=total").await;
        let lines: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(lines.len(), 4);
        assert_eq!((&lines[1]["labels"]["model"], &lines[1]["used"]), (&json!("=1+1"), &json!(5)));
        let (media_type, batch) = export(&served, "format=cloudevents&by=hour").await;
        assert_eq!(media_type, "application/cloudevents-batch+json");
        let events: Vec<Value> = serde_json::from_str(&batch).unwrap();
        assert_eq!(events.len(), 4);
        for event in &events {
            assert_eq!((&event["specversion"], &event["type"]), (&json!("1.0"), &json!("tollgate.usage")));
            assert!(event["id"].as_str().unwrap().len() == 32 && event["source"].is_string() && event["time"].is_string());
        }
        assert_eq!(export(&served, "format=cloudevents&by=hour").await.1, batch, "the same ids again");
        assert_eq!(export(&served, "meter=calls&format=jsonl").await.1, "");
        let (status, problem) = served.send(Method::GET, "/v1/usage/export?format=xml", None).await;
        assert_eq!((status.as_u16(), &problem["code"]), (400, &json!("query-malformed")));
        served.stop().await;
    })
    .await;
}

#[tokio::test]
async fn an_export_of_many_subjects_is_whole() {
    on_each_database(async |test| {
        let served = Served::start_with_policy(&test.url).await;
        served.clock.pass(3_600_000);
        for batch in 0..7 {
            let one = |number: i32| {
                let mut entry = entry(&format!("{batch}-{number}"), 1, "2027-03-01T00:30:00Z");
                entry["subject"] = json!(format!("user:{}", batch * 1_000 + number));
                entry
            };
            let entries: Vec<Value> = (0..1_000).map(one).collect();
            assert_eq!(record(&served, "batch", json!(entries)).await.1["recorded"], 1_000);
        }
        let (_, lines) = export(&served, "format=jsonl").await;
        let mut subjects: Vec<String> = lines
            .lines()
            .map(|line| serde_json::from_str::<Value>(line).unwrap()["subject"].as_str().unwrap().to_owned())
            .collect();
        assert_eq!(subjects.len(), 7_000);
        subjects.sort();
        subjects.dedup();
        assert_eq!(subjects.len(), 7_000, "each once");
        served.stop().await;
    })
    .await;
}
