//! What an operator sees of all subjects: each move of a subscription at its moment and once, sums that add up, and who uses
//! most.

use serde_json::{Value, json};
use tollgate_control_plane::service::analytics::background::Background;
use tollgate_control_plane::service::moments::Moments;
use tollgate_control_plane::store::{Database, history};

use super::support::{START_MS, Served, TestDatabase, author, on_each_database, session};

const DAY_MS: i64 = 86_400_000;

const POLICY: &str = "
version: 1
meters: {calls: {}, tokens: {}}
default_tier: free
billing: {currency: EUR}
default_route: {auth: none}
tiers:
  free: {limits: [{meter: calls, quota: 5, per: hour}]}
  basic: {order: 1, prices: [{flat: 500}], limits: [{meter: calls, quota: 50, per: hour}]}
  pro: {order: 2, prices: [{flat: 12000, per: year}, {flat: 100}], limits: [{meter: calls, quota: 1000, per: hour}]}
";

async fn start(url: &str) -> Served {
    let served = Served::start(url).await;
    served.plane.apply_policy(&author(&served.plane), POLICY, None, None).await.unwrap();
    served
}

async fn subscribe(served: &Served, subject: &str, subscription: Value) {
    served.put(&format!("/v1/subscriptions/{subject}"), subscription).await;
}

fn by_tier<'a>(body: &'a Value, tier: &str) -> &'a Value {
    body["items"].as_array().unwrap().iter().find(|item| item["tier"] == tier).unwrap_or(&Value::Null)
}

#[tokio::test]
async fn history_keeps_what_each_write_made_and_what_held_at_any_moment() {
    on_each_database(async |test| {
        let served = start(&test.url).await;
        let database = Database::open(&test.url).await.unwrap();
        subscribe(&served, "user:a", json!({"tier": "basic"})).await;
        subscribe(&served, "user:a", json!({"tier": "basic"})).await;
        served.clock.pass(1_000);
        subscribe(&served, "user:a", json!({"tier": "pro"})).await;
        // A clock that goes back never makes a row that is older than the one before.
        served.clock.set_wall_back(60_000);
        served.send(reqwest::Method::DELETE, "/v1/subscriptions/user:a", None).await;
        let shown = async |from_ms: i64, to_ms: i64| {
            let rows = history::range(&database, "user:a", from_ms, to_ms).await.unwrap();
            let row =
                |row: history::HistoryRow| (row.at_ms - START_MS, row.subscription.map(|bought| bought.tier));
            rows.into_iter().map(row).collect::<Vec<_>>()
        };
        let (basic, pro) = ((0, Some("basic".to_owned())), (1_000, Some("pro".to_owned())));
        assert_eq!(shown(0, i64::MAX).await, [basic.clone(), pro.clone(), (1_000, None)]);
        assert_eq!(
            shown(START_MS + 10, START_MS + 500).await,
            std::slice::from_ref(&basic),
            "what held at the start is there"
        );
        assert_eq!(shown(START_MS, START_MS + 1_000).await, [basic], "the end is not in the range");
        assert_eq!(shown(0, START_MS).await, []);
        database.close().await;
        served.stop().await;
    })
    .await;
}

#[tokio::test]
async fn each_move_counts_once_on_the_day_on_which_it_held() {
    on_each_database(async |test| {
        let served = start(&test.url).await;
        subscribe(&served, "user:a", json!({"tier": "pro"})).await;
        subscribe(&served, "user:b", json!({"tier": "pro", "expires_at_ms": START_MS + 2 * DAY_MS + 5}))
            .await;
        subscribe(&served, "user:c", json!({"tier": "basic"})).await;
        served.clock.pass(u64::try_from(DAY_MS).unwrap());
        subscribe(&served, "user:c", json!({"tier": "pro"})).await;
        // What ended on the third day is written down on the sixth.
        served.clock.pass(u64::try_from(4 * DAY_MS).unwrap());
        Moments.look(&served.plane).await.unwrap();
        Moments.look(&served.plane).await.unwrap();
        served.send(reqwest::Method::DELETE, "/v1/subscriptions/user:a", None).await;

        let range = "from=2027-03-01T00:00:00Z&to=2027-03-07T00:00:00Z";
        let of = served.get(&format!("/v1/analytics/subscriptions?{range}")).await;
        let days = of["days"].as_array().unwrap();
        let active = |day: usize, tier: &str| {
            let counts = days[day]["counts"].as_array().unwrap();
            counts
                .iter()
                .find(|count| count["tier"] == tier && count["state"] == "active")
                .map_or(0, |count| count["count"].as_i64().unwrap())
        };
        assert_eq!(days.len(), 6, "{of}");
        let pro: Vec<_> = (0..6).map(|day| active(day, "pro")).collect();
        let basic: Vec<_> = (0..6).map(|day| active(day, "basic")).collect();
        assert_eq!((pro, basic), (vec![2, 3, 2, 2, 2, 1], vec![1, 0, 0, 0, 0, 0]), "{of}");

        let churn = served.get("/v1/analytics/churn?from=2027-03-02T00:00:00Z&to=2027-03-07T00:00:00Z").await;
        let pro = by_tier(&churn, "pro");
        assert_eq!(
            (&pro["at_start"], &pro["arrived"], &pro["lost"], &pro["at_end"], &pro["churn_percent"]),
            (&json!(2), &json!(1), &json!(2), &json!(1), &json!(100.0)),
            "{churn}"
        );
        assert_eq!(by_tier(&churn, "basic")["left"], 1, "{churn}");
        served.stop().await;
    })
    .await;
}

#[tokio::test]
async fn trials_are_converted_or_given_up() {
    on_each_database(async |test| {
        let served = start(&test.url).await;
        let trial = json!({"action": "trial", "tier": "pro", "days": 2});
        for subject in ["user:a", "user:b", "user:c"] {
            let path = format!("/v1/subscriptions/{subject}/actions");
            let (status, body) = served.send(reqwest::Method::POST, &path, Some(trial.clone())).await;
            assert_eq!(status, 200, "{body}");
        }
        subscribe(&served, "user:a", json!({"tier": "pro"})).await;
        subscribe(&served, "user:d", json!({"tier": "pro"})).await;
        served.clock.pass(u64::try_from(3 * DAY_MS).unwrap());
        Moments.look(&served.plane).await.unwrap();
        let conversion = served.get("/v1/analytics/conversion").await;
        let pro = by_tier(&conversion, "pro");
        assert_eq!(
            (&pro["trials"], &pro["converted"], &pro["given_up"], &pro["direct"], &pro["conversion_percent"]),
            (&json!(3), &json!(1), &json!(2), &json!(1), &json!(33.3)),
            "{conversion}"
        );
        served.stop().await;
    })
    .await;
}

#[tokio::test]
async fn who_uses_most_and_what_comes_in_is_worked_out_from_the_ledger() {
    on_each_database(async |test| {
        let served = start(&test.url).await;
        let usage = |taken: i64, tokens: i64| {
            json!([{"meter": "calls", "hour": START_MS, "taken": taken, "freed": 1},
                   {"meter": "tokens", "hour": START_MS, "taken": tokens, "freed": 0}])
        };
        let (status, body) = served
            .sync(json!({"version": 1, "session": session(1), "subjects": [
                {"subject": "user:a", "usage": usage(5, 10)}, {"subject": "user:b", "usage": usage(9, 0)}]}))
            .await;
        assert_eq!(status, 200, "{body}");
        for (subject, state) in [("user:a", "active"), ("user:b", "past_due"), ("user:c", "paused"), ("user:d", "trialing")] {
            subscribe(&served, subject, json!({"tier": "pro", "state": state})).await;
        }
        subscribe(&served, "user:e", json!({"tier": "basic"})).await;
        served.clock.pass(3_600_000);
        for _ in 0..2 {
            Background.look(&served.plane).await.unwrap();
        }
        for period in ["day", "month"] {
            let tops = served.get(&format!("/v1/analytics/subjects?period={period}")).await;
            assert_eq!(
                tops["items"],
                json!([
                    {"meter": "calls", "place": 1, "subject": "user:b", "used": 8},
                    {"meter": "calls", "place": 2, "subject": "user:a", "used": 4},
                    {"meter": "tokens", "place": 1, "subject": "user:a", "used": 10},
                ]),
                "{tops}"
            );
            assert_eq!((&tops["active_subjects"], &tops["as_of"]), (&json!(2), &json!("2027-03-01T01:00:00Z")));
        }
        let tops = served.get("/v1/analytics/subjects?meter=calls&limit=1").await;
        assert_eq!(tops["items"].as_array().unwrap().len(), 1);
        let revenue = served.get("/v1/analytics/revenue?from=2027-03-01T00:00:00Z").await;
        assert_eq!(
            revenue["recurring"],
            json!([
                {"day": "2027-03-01T00:00:00Z", "tier": "basic", "version": 0, "currency": "EUR", "subscriptions": 1, "month_minor": 500},
                {"day": "2027-03-01T00:00:00Z", "tier": "pro", "version": 0, "currency": "EUR", "subscriptions": 2, "month_minor": 2200},
            ]),
            "{revenue}"
        );
        assert_eq!((&revenue["invoiced"], &revenue["paid"]), (&json!([]), &json!([])));
        served.stop().await;
    })
    .await;
}

#[tokio::test]
async fn refusals_are_summed_by_what_is_asked_for() {
    on_each_database(async |test| {
        let served = start(&test.url).await;
        let denial = |subject: &str, code: &str, limit: &str, route: &str, hour: i64, count: u64| {
            json!({"reporter": session(9), "hour": START_MS + hour * 3_600_000, "subject": subject, "code": code, "limit": limit,
                   "route": route, "count": count})
        };
        let (status, body) = served
            .sync(json!({"version": 1, "session": session(1), "subjects": [], "denials": [
                denial("user:a", "quota-exceeded", "calls.hour", "/a", 0, 5),
                denial("user:b", "quota-exceeded", "calls.hour", "/b", 1, 2),
                denial("", "token-expired", "", "/a", 0, 4),
            ]}))
            .await;
        assert_eq!(status, 200, "{body}");
        served.clock.pass(7_200_000);
        let denials = served.get("/v1/analytics/denials").await;
        assert_eq!(
            denials["items"],
            json!([{"code": "quota-exceeded", "limit": "calls.hour", "count": 7}, {"code": "token-expired", "limit": "", "count": 4}]),
            "{denials}"
        );
        let routes = served.get("/v1/analytics/denials?group=route,day").await;
        assert_eq!(routes["items"][0], json!({"route": "/a", "start": "2027-03-01T00:00:00Z", "count": 9}), "{routes}");
        let mine = served.get("/v1/analytics/denials?subject=user:b&group=subject").await;
        assert_eq!(mine["items"], json!([{"subject": "user:b", "count": 2}]));
        let limits = served.get("/v1/analytics/limits").await;
        assert_eq!(limits["items"], json!([{"limit": "calls.hour", "refused": 7, "subjects": 2}]), "{limits}");
        served.stop().await;
    })
    .await;
}

#[tokio::test]
async fn ranges_that_make_no_sense_are_refused() {
    let test = TestDatabase::sqlite();
    let served = start(&test.url).await;
    for query in [
        "churn?from=2027-03-02T00:00:00Z&to=2027-03-01T00:00:00Z",
        "churn?from=1990-01-01T00:00:00Z",
        "subscriptions?from=-009999-01-02T01:59:59Z&to=9999-12-30T22:00:00.9Z",
        "revenue?to=-009999-01-02T01:59:59Z&from=9999-12-30T22:00:00.9Z",
        "denials?group=%27;DROP",
        "denials?limit=501",
        "subjects?period=year",
        "limits?from=yesterday",
    ] {
        let (status, body) = served.send(reqwest::Method::GET, &format!("/v1/analytics/{query}"), None).await;
        assert_eq!(status, 400, "{query}: {body}");
    }
    served.stop().await;
}

#[tokio::test]
async fn what_a_wrong_clock_wrote_does_not_hold_up_what_comes_after() {
    on_each_database(async |test| {
        let served = start(&test.url).await;
        let database = Database::open(&test.url).await.unwrap();
        let year_ms = 365 * 86_400_000;
        served.clock.set_wall_ahead(year_ms);
        subscribe(&served, "user:a", json!({"tier": "basic"})).await;
        subscribe(&served, "user:a", json!({"tier": "pro"})).await;
        served.clock.set_wall_back(year_ms);
        served.clock.pass(1_000);
        subscribe(&served, "user:a", json!({"tier": "basic", "state": "past_due"})).await;
        let soon_ms = START_MS + 1_000 + 5 * 60_000;
        let rows = history::range(&database, "user:a", 0, soon_ms + 1).await.unwrap();
        let moments: Vec<i64> = rows.iter().map(|row| row.at_ms).collect();
        assert_eq!(moments, [soon_ms; 3], "all of it is known, and in the order in which it was written");
        served.clock.pass(10 * 60_000);
        subscribe(&served, "user:a", json!({"tier": "pro"})).await;
        let rows = history::range(&database, "user:a", soon_ms + 1, i64::MAX).await.unwrap();
        assert_eq!(rows.last().unwrap().at_ms, START_MS + 1_000 + 10 * 60_000);
        database.close().await;
        served.stop().await;
    })
    .await;
}
