//! Things: each is added once and removed once, whatever is lost, repeated or told by several edges.

use reqwest::Method;
use serde_json::{Value, json};
use tollgate_control_plane::store::things;
use tollgate_policy::thing::ThingId;

use super::support::{Served, TestDatabase, on_each_database, session};

const THINGS: &str = "/v1/subjects/user:a/things";

/// An event: `+name units` or `-name units`.
fn event(seq: u64, text: &str) -> Value {
    let (sign, rest) = text.split_at(1);
    let (name, units) = rest.rsplit_once(' ').unwrap_or((rest, "1"));
    let id = ThingId::of(name.as_bytes()).to_string();
    let units: u64 = units.parse().unwrap();
    json!({"seq": seq, "meter": "calls", "id": id, "units": units, "present": sign == "+"})
}

fn report(number: u32, events: &[(u64, &str)]) -> Value {
    let events: Vec<Value> = events.iter().map(|(seq, text)| event(*seq, text)).collect();
    json!({"version": 1, "session": session(number), "subjects": [{"subject": "user:a", "things": events}]})
}

/// Tells events; compares what is heard up to, and what is there then (count and units).
async fn check(served: &Served, number: u32, events: &[(u64, &str)], seq: u64, there: (i64, i64)) {
    let (status, answer) = served.sync(report(number, events)).await;
    assert_eq!(status, 200, "{answer}");
    assert_eq!(answer["subjects"][0]["things_seq"].as_u64().unwrap_or(0), seq, "{events:?}");
    let sums = things::sums(&served.plane.database, "user:a").await.unwrap();
    let found = sums.first().map_or((0, 0), |sum| (sum.count, sum.units));
    assert_eq!(found, there, "after {events:?} of session {number}");
}

#[tokio::test]
async fn each_event_is_applied_once_and_in_order() {
    on_each_database(async |test| {
        let served = Served::start_with_policy(&test.url).await;
        check(&served, 1, &[(1, "+a 2"), (2, "+b 3")], 2, (2, 5)).await;
        check(&served, 1, &[(1, "+a 2"), (2, "+b 3")], 2, (2, 5)).await;
        check(&served, 1, &[(1, "+a 2"), (2, "+b 3"), (3, "-a")], 3, (1, 3)).await;
        check(&served, 1, &[(1, "+a 2")], 3, (1, 3)).await;
        check(&served, 1, &[(5, "-b"), (4, "+c 7")], 5, (1, 7)).await;
        check(&served, 2, &[(1, "-c"), (2, "-c"), (3, "-never")], 3, (0, 0)).await;
        check(&served, 1, &[(6, "-c"), (7, "+c 1"), (8, "+c 4")], 8, (1, 4)).await;
        served.stop().await;
    })
    .await;
}

#[tokio::test]
async fn a_session_that_was_closed_is_heard_once_as_any_other() {
    on_each_database(async |test| {
        let served = Served::start_with_policy(&test.url).await;
        check(&served, 1, &[(1, "+a")], 1, (1, 1)).await;
        let mut last = report(1, &[(1, "+a"), (2, "+b")]);
        last["last"] = json!(true);
        for _ in 0..2 {
            let (_, answer) = served.sync(last.clone()).await;
            assert_eq!((&answer["closed"], &answer["subjects"][0]["things_seq"]), (&json!(true), &json!(2)));
        }
        check(&served, 2, &[(1, "-b")], 1, (1, 1)).await;
        served.sync(last).await;
        check(&served, 2, &[(2, "-b")], 2, (1, 1)).await;
        served.stop().await;
    })
    .await;
}

#[tokio::test]
async fn what_cannot_be_a_thing_is_heard_and_changes_nothing() {
    let test = TestDatabase::sqlite();
    let served = Served::start_with_policy(&test.url).await;
    let mut odd = report(1, &[(1, "+a"), (2, "+b"), (3, "+c"), (4, "+d")]);
    odd["subjects"][0]["things"][0]["meter"] = json!("Not a meter");
    odd["subjects"][0]["things"][2]["units"] = json!(u64::MAX);
    let (status, answer) = served.sync(odd.clone()).await;
    assert_eq!((status.as_u16(), &answer["subjects"][0]["things_seq"]), (200, &json!(4)), "{answer}");
    check(&served, 1, &[], 0, (2, 2)).await;
    odd["subjects"][0]["subject"] = json!("nobody");
    let (status, answer) = served.sync(odd).await;
    assert_eq!((status.as_u16(), answer["subjects"][0].get("things_seq")), (200, None), "{answer}");
    let many: Vec<Value> = (0..513).map(|seq| event(seq, "+a")).collect();
    let (status, answer) = served
        .sync(
            json!({"version": 1, "session": session(1), "subjects": [{"subject": "user:a", "things": many}]}),
        )
        .await;
    assert_eq!((status.as_u16(), &answer["code"]), (422, &json!("body-invalid")));
    served.stop().await;
}

#[tokio::test]
async fn things_are_imported_by_their_ids_once() {
    on_each_database(async |test| {
        let served = Served::start_with_policy(&test.url).await;
        let import = async |things: Value| {
            let (status, answer) = served.send(Method::POST, THINGS, Some(json!({"things": things}))).await;
            assert_eq!(status, 200, "{answer}");
            (answer["added"].clone(), answer["changed"].clone(), answer["meters"].clone())
        };
        let calls = |things: u64, units: u64| json!([{"meter": "calls", "things": things, "units": units}]);
        let two = json!([{"meter": "calls", "id": "a", "units": 2}, {"meter": "calls", "id": "café 1"}]);
        assert_eq!(import(two.clone()).await, (json!(2), json!(0), calls(2, 3)));
        assert_eq!(import(two).await, (json!(0), json!(0), calls(2, 3)), "repeated");
        let other = json!([{"meter": "calls", "id": "a", "units": 5}]);
        assert_eq!(import(other).await, (json!(0), json!(1), calls(2, 6)));
        check(&served, 1, &[(1, "-café 1 1"), (2, "-a")], 2, (0, 0)).await;

        let audit = served.get("/v1/audit?target=user:a").await;
        let after: Vec<_> =
            audit["items"].as_array().unwrap().iter().map(|row| &row["after"]["calls"]).collect();
        let sum = |things: u64, units: u64| json!({"things": things, "units": units});
        assert_eq!(after, [&sum(1, 5), &sum(2, 3)], "what changed nothing is not written down");
        served.stop().await;
    })
    .await;
}

#[tokio::test]
async fn an_import_that_makes_no_sense_changes_nothing() {
    let test = TestDatabase::sqlite();
    let served = Served::start_with_policy(&test.url).await;
    let many: Vec<Value> = (0..1_001).map(|n| json!({"meter": "calls", "id": n.to_string()})).collect();
    let good = json!({"meter": "calls", "id": "a"});
    for things in [
        json!([]),
        json!(many),
        json!([good, {"meter": "cals", "id": "a"}]),
        json!([good, {"meter": "calls", "id": ""}]),
        json!([good, {"meter": "calls", "id": "x".repeat(1_025)}]),
        json!([good, {"meter": "calls", "id": "b", "units": 0}]),
        json!([good, {"meter": "calls", "id": "b", "units": 1_u64 << 53}]),
        json!([good, good]),
    ] {
        let (status, answer) = served.send(Method::POST, THINGS, Some(json!({"things": things}))).await;
        assert_eq!((status.as_u16(), &answer["code"]), (422, &json!("things-invalid")), "{answer}");
    }
    assert!(things::sums(&served.plane.database, "user:a").await.unwrap().is_empty());
    served.stop().await;
}
