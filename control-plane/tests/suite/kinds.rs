//! Every kind of limit as the control plane counts and shows it: capacities by reports, by things and by an operator's
//! count; soft quotas; members of organisations.

use reqwest::Method;
use serde_json::{Value, json};
use tollgate_control_plane::store::changes;
use tollgate_policy::thing::ThingId;

use super::support::{KINDS, START_MS, Served, author, on_each_database, session};

async fn start(url: &str) -> Served {
    let served = Served::start(url).await;
    served.plane.apply_policy(&author(&served.plane), KINDS, None, None).await.unwrap();
    served
}

/// The window's number of capacities, as edges name it.
const CAPACITY: i64 = tollgate_policy::lease::CAPACITY_WINDOW;

/// A report of one subject's accounts: limit, window, taken, freed, wanted.
fn report(number: u32, subject: &str, accounts: &[(&str, i64, u64, u64, u64)]) -> Value {
    let account = |(limit, window, taken, freed, want): &(&str, i64, u64, u64, u64)| json!({"limit": limit, "window": window, "taken": taken, "freed": freed, "returned": 0, "want": want});
    let accounts: Vec<Value> = accounts.iter().map(account).collect();
    json!({"version": 1, "session": session(number), "subjects": [{"subject": subject, "accounts": accounts}]})
}

async fn granted(served: &Served, body: Value) -> u64 {
    let (status, answer) = served.sync(body).await;
    assert_eq!(status, 200, "{answer}");
    answer["subjects"][0]["accounts"][0]["granted"].as_u64().unwrap_or(0)
}

async fn limit(served: &Served, subject: &str, name: &str) -> Value {
    let view = served.get(&format!("/v1/subjects/{subject}")).await;
    let limits = view["limits"].as_array().unwrap();
    limits.iter().find(|limit| limit["limit"] == name).unwrap_or(&Value::Null).clone()
}

async fn in_use(served: &Served, subject: &str) -> (Value, Value) {
    let item = served.get(&format!("/v1/subjects/{subject}/capacity/documents")).await["items"][0].clone();
    (item["in_use"].clone(), item["remaining"].clone())
}

#[tokio::test]
async fn each_kind_of_limit_is_shown_as_it_stands() {
    on_each_database(async |test| {
        let served = start(&test.url).await;
        let month = START_MS;
        let accounts = [
            ("calls.month", month, 1_003, 0, 1_003),
            ("calls.1s.burst", 1, 4, 0, 8),
            ("documents", CAPACITY, 3, 1, 3),
            ("concurrency", 2, 1, 0, 2),
            ("calls.lifetime", 0, 5, 0, 5),
        ];
        granted(&served, report(1, "user:a", &accounts)).await;
        let of = async |name: &str| limit(&served, "user:a", name).await;
        let quota = of("calls.month").await;
        assert_eq!(
            (&quota["soft"], &quota["used"], &quota["overage"]),
            (&json!(true), &json!(1_003), &json!(3))
        );
        assert_eq!(
            (&quota["window_start"], &quota["window_end"]),
            (&json!("2027-03-01T00:00:00Z"), &json!("2027-04-01T00:00:00Z"))
        );
        let bucket = of("calls.1s.burst").await;
        assert_eq!(
            (&bucket["kind"], &bucket["units"], &bucket["refill_ms"]),
            (&json!("rate"), &json!(20), &json!(2_000))
        );
        assert_eq!(bucket.get("used"), None, "its units come back: {bucket}");
        let documents = of("documents").await;
        assert_eq!(
            (&documents["kind"], &documents["used"], &documents["remaining"]),
            (&json!("capacity"), &json!(2), &json!(7))
        );
        assert_eq!(of("concurrency").await["used"], 1);
        assert_eq!(
            of("size").await,
            json!({"limit": "size", "kind": "size", "units": 1_000, "soft": false}),
            "nothing of it is kept"
        );
        let unlimited = of("calls.lifetime").await;
        assert_eq!(
            (&unlimited["units"], &unlimited["remaining"], &unlimited["used"]),
            (&json!("unlimited"), &json!("unlimited"), &json!(5))
        );
        assert_eq!(unlimited.get("window_end"), None, "{unlimited}");
        assert_eq!(of("calls.day.member").await, Value::Null, "that is each member's own");
        served.stop().await;
    })
    .await;
}

#[tokio::test]
async fn a_thing_that_is_released_makes_room_at_once() {
    on_each_database(async |test| {
        let served = start(&test.url).await;
        assert_eq!(granted(&served, report(1, "user:a", &[("documents", CAPACITY, 0, 0, 10)])).await, 10);
        let id = ThingId::of(b"d").to_string();
        let event = |seq: u64, present: bool| json!([{"seq": seq, "meter": "documents", "id": id, "units": 10, "present": present}]);
        let mut full = report(1, "user:a", &[("documents", CAPACITY, 10, 0, 10)]);
        full["subjects"][0]["things"] = event(1, true);
        granted(&served, full).await;
        assert_eq!(granted(&served, report(2, "user:a", &[("documents", CAPACITY, 0, 0, 4)])).await, 0, "it is full");
        let mut removed = report(2, "user:a", &[("documents", CAPACITY, 0, 0, 4)]);
        removed["subjects"][0]["things"] = event(1, false);
        assert_eq!(granted(&served, removed.clone()).await, 4);
        assert_eq!(in_use(&served, "user:a").await.0, 0);
        assert_eq!(granted(&served, removed).await, 4);
        assert_eq!(in_use(&served, "user:a").await, (json!(0), json!(6)), "told again it frees nothing more");
        served.stop().await;
    })
    .await;
}

#[tokio::test]
async fn what_is_imported_is_in_use_and_can_be_released() {
    on_each_database(async |test| {
        let served = start(&test.url).await;
        let import = async |units: u64| {
            let things = json!({"things": [{"meter": "documents", "id": "a", "units": units}]});
            let (status, answer) =
                served.send(Method::POST, "/v1/subjects/user:a/things", Some(things)).await;
            assert_eq!(status, 200, "{answer}");
        };
        import(4).await;
        import(4).await;
        assert_eq!(in_use(&served, "user:a").await, (json!(4), json!(6)));
        import(7).await;
        assert_eq!(in_use(&served, "user:a").await, (json!(7), json!(3)));
        assert_eq!(granted(&served, report(1, "user:a", &[("documents", CAPACITY, 0, 0, 10)])).await, 3);
        let mut removed = report(1, "user:a", &[("documents", CAPACITY, 0, 0, 3)]);
        let id = ThingId::of(b"a").to_string();
        removed["subjects"][0]["things"] =
            json!([{"seq": 1, "meter": "documents", "id": id, "units": 1, "present": false}]);
        granted(&served, removed).await;
        assert_eq!(
            in_use(&served, "user:a").await,
            (json!(0), json!(7)),
            "what it was, not what the edge took it for"
        );
        served.stop().await;
    })
    .await;
}

#[tokio::test]
async fn an_operator_s_count_holds_while_edges_go_on() {
    on_each_database(async |test| {
        let served = start(&test.url).await;
        let path = "/v1/subjects/user:a/capacity/documents";
        let set = async |units: u64| {
            served.put(path, json!({"in_use": units, "reason": "counted"})).await["items"][0].clone()
        };
        assert_eq!(set(6).await["remaining"], 4, "before any edge knows the subject");
        assert_eq!(granted(&served, report(1, "user:a", &[("documents", CAPACITY, 0, 0, 3)])).await, 3);
        granted(&served, report(1, "user:a", &[("documents", CAPACITY, 2, 0, 3)])).await;
        assert_eq!(in_use(&served, "user:a").await.0, 8);
        let lowered = set(5).await;
        assert_eq!(
            (&lowered["in_use"], &lowered["leased"], &lowered["remaining"]),
            (&json!(5), &json!(1), &json!(4))
        );
        granted(&served, report(1, "user:a", &[("documents", CAPACITY, 3, 0, 3)])).await;
        assert_eq!(
            in_use(&served, "user:a").await,
            (json!(6), json!(4)),
            "what is reported from then on counts on top"
        );

        // The edge is lost with a unit that it held and did not tell of: that stays charged until somebody counts.
        granted(&served, report(1, "user:a", &[("documents", CAPACITY, 3, 0, 5)])).await;
        let mut sweeper = tollgate_control_plane::service::sweeper::Sweeper::default();
        sweeper.sweep(&served.plane).await.unwrap();
        served.clock.pass(36_000);
        assert_eq!(sweeper.sweep(&served.plane).await.unwrap(), 1);
        assert_eq!(in_use(&served, "user:a").await, (json!(8), json!(2)), "forfeited");
        let told = changes::since(&served.plane.database, 0, 100).await.unwrap().len();
        assert_eq!(set(6).await["in_use"], 6);
        assert_eq!(
            changes::since(&served.plane.database, 0, 100).await.unwrap().len(),
            told,
            "nobody is left to be told"
        );
        let mut late = report(1, "user:a", &[("documents", CAPACITY, 5, 0, 5)]);
        late["last"] = json!(true);
        served.sync(late).await;
        assert_eq!(in_use(&served, "user:a").await.0, 6, "its final numbers were counted already");

        let audit = served.get("/v1/audit?target=user:a&limit=1").await["items"][0].clone();
        assert_eq!(audit["action"], "capacity.set");
        assert_eq!(
            (&audit["before"], &audit["after"]),
            (&json!({"in_use": {"documents": 8}}), &json!({"in_use": {"documents": 6}, "reason": "counted"}))
        );
        served.stop().await;
    })
    .await;
}

#[tokio::test]
async fn an_edge_that_holds_more_than_there_is_is_told_at_once() {
    on_each_database(async |test| {
        let served = start(&test.url).await;
        granted(&served, report(1, "user:a", &[("documents", CAPACITY, 0, 0, 8)])).await;
        let before = changes::since(&served.plane.database, 0, 100).await.unwrap().len();
        served.put("/v1/subjects/user:a/capacity/documents", json!({"in_use": 9, "reason": "import"})).await;
        let told = changes::since(&served.plane.database, 0, 100).await.unwrap();
        assert_eq!(
            told[before..].iter().map(|change| change.session.clone()).collect::<Vec<_>>(),
            [session(1)]
        );
        let (_, answer) = served.sync(report(1, "user:a", &[("documents", CAPACITY, 0, 0, 8)])).await;
        assert_eq!(answer["subjects"][0]["accounts"][0]["recall"], true, "{answer}");
        served.stop().await;
    })
    .await;
}

#[tokio::test]
async fn a_count_that_makes_no_sense_is_refused() {
    let test = super::support::TestDatabase::sqlite();
    let served = start(&test.url).await;
    let good = json!({"in_use": 1, "reason": "counted"});
    for (path, body, status, code) in [
        ("user:a/capacity/calls", good.clone(), 422, "limit-unknown"),
        ("user:a/capacity/concurrency", good.clone(), 422, "limit-unknown"),
        ("member:acme/alice/capacity/documents", good.clone(), 404, "route-unknown"),
        ("member:acme%2Falice/capacity/documents", good.clone(), 422, "limit-unknown"),
        ("nobody/capacity/documents", good, 400, "subject-malformed"),
        ("user:a/capacity/documents", json!({"in_use": 1}), 422, "body-invalid"),
        ("user:a/capacity/documents", json!({"in_use": -1, "reason": "counted"}), 422, "body-invalid"),
        (
            "user:a/capacity/documents",
            json!({"in_use": 1_u64 << 53, "reason": "counted"}),
            422,
            "capacity-invalid",
        ),
        ("user:a/capacity/documents", json!({"in_use": 1, "reason": ""}), 422, "reason-invalid"),
    ] {
        let (found, answer) = served.send(Method::PUT, &format!("/v1/subjects/{path}"), Some(body)).await;
        assert_eq!((found.as_u16(), &answer["code"]), (status, &json!(code)), "{path}: {answer}");
    }
    served.stop().await;
}

#[tokio::test]
async fn a_member_s_limits_follow_its_organisation() {
    on_each_database(async |test| {
        let served = start(&test.url).await;
        let day = |want: u64| report(1, "member:acme/alice", &[("calls.day.member", START_MS, 0, 0, want)]);
        assert_eq!(granted(&served, day(100)).await, 7, "by the default tier");
        let member = "member:acme%2Falice";
        let view = served.get(&format!("/v1/subjects/{member}")).await;
        assert_eq!((&view["organization"], &view["tier_from"]), (&json!("org:acme"), &json!("default")));
        let names: Vec<_> = view["limits"].as_array().unwrap().iter().map(|limit| &limit["limit"]).collect();
        assert_eq!(names, ["calls.day.member"], "and no limit of the organisation");

        let bought = json!({"tier": "pro", "overrides": {"calls.day.member": 9}});
        served.put("/v1/subscriptions/org:acme", bought).await;
        assert_eq!(granted(&served, day(100)).await, 9, "what the organisation bought");
        let shown = limit(&served, member, "calls.day.member").await;
        assert_eq!((&shown["units"], &shown["leased"]), (&json!(9), &json!(9)));
        let other = report(1, "member:acme/bob", &[("calls.day.member", START_MS, 0, 0, 5)]);
        assert!(granted(&served, other).await >= 5, "each member has its own");

        for (path, method) in [
            (format!("/v1/subscriptions/{member}"), Method::PUT),
            (format!("/v1/subjects/{member}/bypass"), Method::PUT),
        ] {
            let body = json!({"tier": "pro"});
            let body = if path.ends_with("bypass") {
                json!({"expires_at": "2027-03-02T00:00:00Z", "reason": "x"})
            } else {
                body
            };
            let (status, answer) = served.send(method, &path, Some(body)).await;
            assert_eq!((status.as_u16(), &answer["code"]), (400, &json!("subject-malformed")), "{answer}");
            assert!(answer["detail"].as_str().unwrap().contains("org:acme"), "{answer}");
        }
        served.stop().await;
    })
    .await;
}
