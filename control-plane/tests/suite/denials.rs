//! What edges refused: merged by max, summed by whatever it is asked for by, and never in the way of a sync.

use serde_json::{Value, json};
use tollgate_control_plane::config::{Settings, UsageSettings};
use tollgate_control_plane::service::usage::retention::Keeper;
use tollgate_control_plane::store::denials::{DenialGroup, sums};
use tollgate_control_plane::store::{Database, denials};

use super::support::{START_MS, Served, on_each_database, session};

const HOUR: i64 = 3_600_000;

fn denial(reporter: &str, hour: i64, subject: &str, limit: &str, count: u64) -> Value {
    json!({"reporter": reporter, "hour": hour, "subject": subject, "code": "quota-exceeded", "limit": limit,
           "route": "/x", "count": count})
}

fn body(denials: &Value) -> Value {
    json!({"version": 1, "session": session(1), "subjects": [], "denials": denials})
}

/// The sums of two hours, as `subject limit hour: count`.
async fn shown(database: &Database, subject: Option<&str>, group: DenialGroup) -> Vec<String> {
    let sums = sums(database, 0, 2 * HOUR, subject, group, 10).await.unwrap();
    let show = |sum: denials::DenialSum| {
        format!("{} {} {}: {}", sum.subject, sum.limit, sum.start_ms / HOUR, sum.count)
    };
    sums.into_iter().map(show).collect()
}

#[tokio::test]
async fn denials_are_merged_by_max_and_summed_over_reporters() {
    on_each_database(async |test| {
        let server = Served::start_with_policy(&test.url).await;
        let (one, two) = (session(7), session(8));
        let first = json!([
            denial(&one, 0, "user:a", "day", 3),
            denial(&one, 0, "user:b", "day", 5),
            denial(&one, HOUR, "user:a", "minute", 1),
            denial(&one, 2 * HOUR, "user:a", "day", 100),
        ]);
        let second = json!([denial(&two, 0, "user:a", "day", 4), denial(&one, 0, "user:a", "day", 2)]);
        for report in [&first, &second, &first] {
            assert_eq!(server.sync(body(report)).await.0, 200);
        }
        let database = Database::open(&test.url).await.unwrap();
        let all = DenialGroup { subject: true, limit: true, period_ms: Some(HOUR), ..DenialGroup::default() };
        let of_b = ["user:b day 0: 5"].map(str::to_owned);
        assert_eq!(
            shown(&database, None, all).await,
            ["user:a day 0: 7", "user:b day 0: 5", "user:a minute 1: 1"]
        );
        assert_eq!(shown(&database, Some("user:b"), all).await, of_b);
        assert_eq!(shown(&database, None, DenialGroup::default()).await, ["  0: 13"]);
        let by_subject = DenialGroup { subject: true, ..DenialGroup::default() };
        assert_eq!(shown(&database, None, by_subject).await, ["user:a  0: 8", "user:b  0: 5"]);
        let top = sums(&database, 0, 2 * HOUR, None, by_subject, 1).await.unwrap();
        assert_eq!(top.len(), 1, "no more than asked for");
        database.close().await;
        server.stop().await;
    })
    .await;
}

#[tokio::test]
async fn what_cannot_be_a_denial_is_left_out_and_too_many_are_refused() {
    on_each_database(async |test| {
        let server = Served::start_with_policy(&test.url).await;
        let good = denial(&session(7), 0, "", "", 1);
        let with = |member: &str, value: Value| {
            let mut denial = good.clone();
            denial[member] = value;
            denial
        };
        let report = json!([
            good,
            with("reporter", json!("me")),
            with("hour", json!(5)),
            with("hour", json!(-HOUR)),
            with("subject", json!("alice")),
            with("code", json!("a\nb")),
            with("route", json!("x".repeat(3_000))),
        ]);
        assert_eq!(server.sync(body(&report)).await.0, 200);
        let database = Database::open(&test.url).await.unwrap();
        assert_eq!(shown(&database, None, DenialGroup::default()).await, ["  0: 1"]);
        database.close().await;
        let many = json!(vec![good.clone(); 1_001]);
        let (status, problem) = server.sync(body(&many)).await;
        assert_eq!((status.as_u16(), &problem["code"]), (422, &json!("body-invalid")));
        server.stop().await;
    })
    .await;
}

#[tokio::test]
async fn denials_are_forgotten_after_a_while() {
    on_each_database(async |test| {
        let settings = Settings {
            usage: UsageSettings { denials_days: 2, ..UsageSettings::default() },
            ..Settings::default()
        };
        let server = Served::start_with(&test.url, settings).await;
        let hour = |days: i64| START_MS - days * 24 * HOUR;
        let report: Vec<Value> = [0, 1, 2, 3, 400]
            .into_iter()
            .map(|days| denial(&session(7), hour(days), "anon:::1", "day", 1))
            .collect();
        assert_eq!(server.sync(body(&json!(report))).await.0, 200);
        // A clock that is years ahead forgets nothing that is new.
        server.clock.set_wall_ahead(3_000 * 24 * HOUR);
        let mut keeper = Keeper::default();
        while keeper.fold(&server.plane).await.unwrap() > 0 {}
        let database = Database::open(&test.url).await.unwrap();
        let by_hour = DenialGroup { period_ms: Some(HOUR), ..DenialGroup::default() };
        let left = sums(&database, 0, i64::MAX, None, by_hour, 10).await.unwrap();
        let left: Vec<i64> = left.into_iter().map(|sum| sum.start_ms).collect();
        assert_eq!(left, [hour(2), hour(1), hour(0)]);
        database.close().await;
        server.stop().await;
    })
    .await;
}
