//! Testing mode: who may grant it, for how long, who is told, and what is written down.

use reqwest::Method;
use serde_json::{Value, json};
use tollgate_control_plane::store::changes;

use super::support::{ADMIN, EDGE, START_MS, Served, answer, on_each_database, session, sync_body};

const BYPASS: &str = "/v1/subjects/user:a/bypass";

fn wish(expires_at: &str) -> Value {
    json!({"expires_at": expires_at, "reason": "load test of the new release"})
}

#[tokio::test]
async fn a_bypass_is_granted_shown_and_ends() {
    on_each_database(async |test| {
        let served = Served::start_with_policy(&test.url).await;
        let (status, missing) = served.send(Method::GET, BYPASS, None).await;
        assert_eq!((status.as_u16(), &missing["code"]), (404, &json!("bypass-missing")));
        let granted = served.put(BYPASS, wish("2027-03-02T01:00:00+01:00")).await;
        let expected = json!({
            "subject": "user:a", "expires_at": "2027-03-02T00:00:00Z", "reason": "load test of the new release",
            "granted_at": "2027-03-01T00:00:00Z", "granted_by": "admin", "in_force": true, "revision": 1,
        });
        assert_eq!((&granted, &served.get(BYPASS).await), (&expected, &expected));
        assert_eq!(served.put(BYPASS, wish("2027-03-02T00:00:00Z")).await["revision"], 1, "nothing changed");
        assert_eq!(served.get("/v1/subjects/user:a").await["bypass"]["in_force"], true);
        let subscribed = served.put("/v1/subscriptions/user:a", json!({"tier": "pro"})).await;
        assert_eq!(subscribed["revision"], 2, "one revision for both");
        assert_eq!(served.get(BYPASS).await["in_force"], true, "a subscription does not end it");

        served.clock.pass(24 * 3_600_000 - 1);
        assert_eq!(served.get(BYPASS).await["in_force"], true);
        served.clock.pass(1);
        assert_eq!(served.get(BYPASS).await["in_force"], false, "at the very moment it no longer holds");
        assert_eq!(served.send(Method::DELETE, BYPASS, None).await.0, 204);
        assert_eq!(served.send(Method::DELETE, BYPASS, None).await.1["code"], "bypass-missing");
        assert_eq!(served.get("/v1/subjects/user:a").await["bypass"], Value::Null);
        let again = served.put(BYPASS, wish("2027-03-03T00:00:00Z")).await;
        assert_eq!(again["revision"], 4, "a revision never comes twice");

        let audit = served.get("/v1/audit?target=user:a").await;
        let rows = audit["items"].as_array().unwrap();
        let actions: Vec<_> = rows.iter().rev().map(|row| row["action"].as_str().unwrap()).collect();
        assert_eq!(actions, ["bypass.set", "subscription.set", "bypass.clear", "bypass.set"]);
        assert_eq!(rows[3]["after"]["reason"], "load test of the new release");
        assert_eq!(rows[1]["before"]["expires_ms"], START_MS + 24 * 3_600_000);
        served.stop().await;
    })
    .await;
}

#[tokio::test]
async fn a_bypass_without_an_end_or_a_reason_is_refused() {
    let test = super::support::TestDatabase::sqlite();
    let served = Served::start_with_policy(&test.url).await;
    let long = "x".repeat(501);
    for (body, code) in [
        (json!({"reason": "why"}), "body-invalid"),
        (json!({"expires_at": null, "reason": "why"}), "body-invalid"),
        (json!({"expires_at": "tomorrow", "reason": "why"}), "body-invalid"),
        (json!({"expires_at": START_MS + 1, "reason": "why"}), "body-invalid"),
        (json!({"expires_at": "2027-03-02T00:00:00Z"}), "body-invalid"),
        (json!({"expires_at": "2027-03-01T00:00:00Z", "reason": "why"}), "bypass-invalid"),
        (json!({"expires_at": "2027-05-30T00:00:00.001Z", "reason": "why"}), "bypass-invalid"),
        (json!({"expires_at": "2027-03-02T00:00:00Z", "reason": " "}), "reason-invalid"),
        (json!({"expires_at": "2027-03-02T00:00:00Z", "reason": "a\nb"}), "reason-invalid"),
        (json!({"expires_at": "2027-03-02T00:00:00Z", "reason": long}), "reason-invalid"),
    ] {
        let (status, answer) = served.send(Method::PUT, BYPASS, Some(body.clone())).await;
        assert_eq!((status.as_u16(), &answer["code"]), (422, &json!(code)), "{body}: {answer}");
    }
    served.put(BYPASS, wish("2027-05-30T00:00:00Z")).await;
    served.stop().await;
}

#[tokio::test]
async fn only_an_admin_grants_or_clears_a_bypass() {
    let test = super::support::TestDatabase::sqlite();
    let served = Served::start_with_policy(&test.url).await;
    let made = json!({"name": "looker", "role": "read"});
    let (_, made) = served.send(Method::POST, "/v1/tokens", Some(made)).await;
    let read = made["token"].as_str().unwrap();
    for (token, put, get) in [(EDGE, 403, 403), (read, 403, 404), ("tg_x", 401, 401), (ADMIN, 200, 200)] {
        let request = served.request(Method::PUT, BYPASS, token).json(&wish("2027-03-02T00:00:00Z"));
        assert_eq!(answer(request).await.0, put, "{token}");
        assert_eq!(answer(served.request(Method::GET, BYPASS, token)).await.0, get, "{token}");
        if put != 200 {
            assert_eq!(answer(served.request(Method::DELETE, BYPASS, token)).await.0, put, "{token}");
        }
    }
    served.stop().await;
}

#[tokio::test]
async fn every_edge_that_knows_the_subject_is_told_also_one_that_holds_nothing() {
    on_each_database(async |test| {
        let served = Served::start_with_policy(&test.url).await;
        served.sync(sync_body(&session(1), "user:a", 0, 1)).await;
        let only_usage = json!({"version": 1, "session": session(2), "subjects": [{"subject": "user:a"}]});
        served.sync(only_usage.clone()).await;
        let mut last = sync_body(&session(3), "user:a", 0, 0);
        served.sync(last.clone()).await;
        last["last"] = json!(true);
        served.sync(last).await;
        let told = async || {
            let told = changes::since(&served.plane.database, 0, 10).await.unwrap();
            told.into_iter().map(|change| change.session).collect::<Vec<_>>()
        };
        let before = told().await.len();
        served.put(BYPASS, wish("2027-03-02T00:00:00Z")).await;
        assert_eq!(told().await[before..], [session(1), session(2)], "and none that has ended");
        served.send(Method::DELETE, BYPASS, None).await;
        assert_eq!(told().await.len(), before + 4);
        served.stop().await;
    })
    .await;
}
