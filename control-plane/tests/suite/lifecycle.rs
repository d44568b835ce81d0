//! The life of subscriptions: what is done with them, what happens by itself, extra units, and versions of tiers.

use reqwest::Method;
use serde_json::{Value, json};
use tollgate_control_plane::service::moments::Moments;
use tollgate_control_plane::service::versions::ChangedTiers;
use tollgate_control_plane::store::subjects;
use tollgate_policy::subscription::SubscriptionState;

use super::support::{
    ADMIN, POLICY, START_MS, Served, TestDatabase, answer, author, on_each_database, plane, session,
    sync_body,
};

const DAY_MS: i64 = 24 * 3_600_000;

async fn act(served: &Served, body: Value) -> Value {
    let (status, answer) =
        served.send(Method::POST, "/v1/subscriptions/user:a/actions", Some(body.clone())).await;
    assert_eq!(status, 200, "{body}: {answer}");
    answer
}

async fn refused(served: &Served, method: Method, path: &str, body: Value, status: u16, code: &str) {
    let (found, answer) = served.send(method, path, Some(body.clone())).await;
    assert_eq!((found.as_u16(), answer["code"].as_str().unwrap()), (status, code), "{path} {body}: {answer}");
}

/// How many of `want` units an edge is granted of the quota of calls.
async fn granted(served: &Served, number: u32, subject: &str, want: u64) -> u64 {
    let mut body = sync_body(&session(number), subject, 0, want);
    let hour_ms = served.plane.clock.now_ms().div_euclid(3_600_000) * 3_600_000;
    body["subjects"][0]["accounts"][0]["window"] = hour_ms.into();
    body["subjects"][0]["usage"] = json!([]);
    let (status, answer) = served.sync(body).await;
    assert_eq!(status, 200, "{answer}");
    answer["subjects"][0]["accounts"][0]["granted"].as_u64().unwrap_or_default()
}

#[tokio::test]
async fn a_subscription_that_was_over_before_it_was_written_is_found_among_the_expired() {
    on_each_database(async |test| {
        let served = Served::start_with_policy(&test.url).await;
        let over = json!({"tier": "pro", "state": "active", "anchor_ms": START_MS - 9, "expires_at_ms": START_MS - 1});
        served.put("/v1/subscriptions/user:a", over).await;
        let found = async |state: &str| served.get(&format!("/v1/subscriptions?state={state}")).await["items"].clone();
        assert_eq!(found("expired").await[0]["subject"], "user:a");
        assert_eq!(found("active").await, json!([]));
    })
    .await;
}

#[tokio::test]
async fn a_trial_ends_at_its_moment_and_is_written_down_later() {
    on_each_database(async |test| {
        let served = Served::start_with_policy(&test.url).await;
        let trial = act(&served, json!({"action": "trial", "tier": "pro", "days": 7})).await;
        assert_eq!(trial["state"], "trialing");
        assert_eq!(trial["trial_ends_at_ms"], START_MS + 7 * DAY_MS);
        assert_eq!(trial["in_force"], true);
        assert!(granted(&served, 1, "user:a", 20).await > 5, "the tier tried");

        served.clock.pass(u64::try_from(7 * DAY_MS).unwrap());
        // Nothing was written since; each of these works it out by the clock.
        assert_eq!(served.get("/v1/subjects/user:a").await["tier"], "free");
        assert_eq!(served.get("/v1/subscriptions/user:a").await["state"], "expired");
        assert_eq!(granted(&served, 2, "user:a", 20).await, 5, "the default tier's");

        Moments.look(&served.plane).await.unwrap();
        let expired = served.get("/v1/subscriptions?state=expired").await;
        assert_eq!(expired["items"][0]["subject"], "user:a");
        assert_eq!(
            expired["items"][0]["revision"], trial["revision"],
            "edges need not be told what they know"
        );
        let audit = served.get("/v1/audit?target=user:a").await;
        let newest = &audit["items"][0];
        assert_eq!(
            (&newest["actor"], &newest["action"]),
            (&json!("job:moments"), &json!("subscription.moment"))
        );
        assert_eq!(
            (&newest["before"]["state"], &newest["after"]["state"]),
            (&json!("trialing"), &json!("expired"))
        );
        assert_eq!(Moments.look(&served.plane).await.unwrap(), 0, "it is written down once");

        refused(
            &served,
            Method::POST,
            "/v1/subscriptions/user:a/actions",
            json!({"action": "trial", "tier": "pro", "days": 7}),
            409,
            "action-refused",
        )
        .await;
        served.stop().await;
    })
    .await;
}

#[tokio::test]
async fn a_downgrade_waits_for_the_end_of_the_period_and_an_upgrade_does_not() {
    on_each_database(async |test| {
        let served = Served::start(&test.url).await;
        let ordered = POLICY.replace("  pro:\n", "  pro:\n    order: 1\n");
        served.plane.apply_policy(&author(&served.plane), &ordered, None, None).await.unwrap();
        served.put("/v1/subscriptions/user:a", json!({"tier": "free"})).await;
        let up = act(&served, json!({"action": "change_tier", "tier": "pro"})).await;
        assert_eq!((&up["tier"], &up["changes"]), (&json!("pro"), &json!([])));
        let down = act(&served, json!({"action": "change_tier", "tier": "free"})).await;
        let end_ms = down["current_period_ends_at_ms"].as_i64().unwrap();
        assert_eq!(end_ms, START_MS + 31 * DAY_MS, "March");
        assert_eq!(down["tier"], "pro");
        assert_eq!(down["changes"], json!([{"at_ms": end_ms, "tier": "free"}]));

        served.clock.pass(u64::try_from(31 * DAY_MS - 1).unwrap());
        assert_eq!(served.get("/v1/subjects/user:a").await["tier"], "pro");
        served.clock.pass(1);
        assert_eq!(served.get("/v1/subjects/user:a").await["tier"], "free");
        // Whoever writes first writes down what happened before, as what it was.
        act(&served, json!({"action": "cancel", "when": "now"})).await;
        let audit = served.get("/v1/audit?target=user:a").await;
        let actions: Vec<&str> =
            audit["items"].as_array().unwrap().iter().map(|row| row["action"].as_str().unwrap()).collect();
        assert_eq!(actions[..2], ["subscription.cancel", "subscription.moment"]);
        assert_eq!(audit["items"][1]["after"]["tier_since_ms"], end_ms);
        served.stop().await;
    })
    .await;
}

#[tokio::test]
async fn what_is_scheduled_is_listed_told_to_edges_and_cleared() {
    on_each_database(async |test| {
        let served = Served::start_with_policy(&test.url).await;
        served.put("/v1/subscriptions/user:a", json!({"tier": "pro"})).await;
        let path = "/v1/subscriptions/user:a/changes";
        let (status, scheduled) = served
            .send(Method::POST, path, Some(json!({"at": "2027-03-05T00:00:00Z", "state": "paused"})))
            .await;
        assert_eq!(status, 200, "{scheduled}");
        let change = json!({"at": "2027-03-04T00:00:00Z", "tier": "free"});
        served.send(Method::POST, path, Some(change.clone())).await;
        let changes = served.get(path).await;
        let moments: Vec<i64> =
            changes["items"].as_array().unwrap().iter().map(|c| c["at_ms"].as_i64().unwrap()).collect();
        assert_eq!(moments, [START_MS + 3 * DAY_MS, START_MS + 4 * DAY_MS], "in the order of their moments");

        let (_, told) = served.sync(sync_body(&session(1), "user:a", 0, 1)).await;
        let told = &told["subjects"][0]["entitlements"]["subscription"]["changes"];
        assert_eq!(told[0], json!({"at_ms": START_MS + 3 * DAY_MS, "tier": "free"}));

        // Asked for again, it is scheduled once.
        served.send(Method::POST, path, Some(change)).await;
        assert_eq!(served.get(path).await["items"].as_array().unwrap().len(), 2);
        let past = json!({"at": "2027-02-01T00:00:00Z", "tier": "free"});
        refused(&served, Method::POST, path, past, 422, "subscription-invalid").await;
        let unknown = json!({"at": "2027-03-04T00:00:00Z", "tier": "gold"});
        refused(&served, Method::POST, path, unknown, 422, "tier-unknown").await;
        let nothing = json!({"at": "2027-03-04T00:00:00Z"});
        refused(&served, Method::POST, path, nothing, 422, "subscription-invalid").await;
        let elsewhere = "/v1/subscriptions/user:nobody/changes";
        let change = json!({"at": "2027-03-04T00:00:00Z", "tier": "free"});
        refused(&served, Method::POST, elsewhere, change, 404, "subscription-missing").await;

        let (status, cleared) = served.send(Method::DELETE, path, None).await;
        assert_eq!((status.as_u16(), &cleared["changes"]), (200, &json!([])));
        served.stop().await;
    })
    .await;
}

#[tokio::test]
async fn a_subscription_is_replaced_with_all_that_it_has() {
    let test = TestDatabase::sqlite();
    let served = Served::start_with_policy(&test.url).await;
    let wish = json!({
        "tier": "pro", "state": "trialing", "anchor_ms": START_MS, "trial_ends_at_ms": START_MS + DAY_MS,
        "period_ends_at_ms": START_MS + 10 * DAY_MS, "tier_since_ms": START_MS - DAY_MS,
        "changes": [{"at_ms": START_MS + DAY_MS, "state": "active"}],
    });
    let set = served.put("/v1/subscriptions/user:a", wish.clone()).await;
    for name in ["state", "trial_ends_at_ms", "period_ends_at_ms", "tier_since_ms", "changes"] {
        assert_eq!(set[name], wish[name], "{name}");
    }
    assert_eq!(set["current_period_ends_at_ms"], START_MS + 10 * DAY_MS);
    let (_, changed) =
        served.send(Method::PATCH, "/v1/subscriptions/user:a", Some(json!({"trial_ends_at_ms": null}))).await;
    assert_eq!(changed["trial_ends_at_ms"], Value::Null);
    assert_eq!(changed["tier_since_ms"], START_MS - DAY_MS, "what is left out stays");
    let replaced = served.put("/v1/subscriptions/user:a", json!({"tier": "free"})).await;
    assert_eq!((&replaced["changes"], &replaced["tier_since_ms"]), (&json!([]), &json!(START_MS)));
    let path = "/v1/subscriptions/user:a/actions";
    let when = json!({"action": "cancel", "when": "someday"});
    refused(&served, Method::POST, path, when, 422, "body-invalid").await;
    refused(&served, Method::POST, path, json!({"action": "explode"}), 422, "body-invalid").await;
    served.stop().await;
}

#[tokio::test]
async fn a_grant_is_given_once_by_its_id() {
    on_each_database(async |test| {
        let served = Served::start_with_policy(&test.url).await;
        let path = "/v1/subjects/user:a/grants";
        let later = json!({"id": "later", "limit": "calls.hour", "units": 10});
        let soon =
            json!({"id": "soon", "limit": "calls.hour", "units": 5, "expires_at": "2027-03-02T00:00:00Z"});
        for (wish, expected) in [(&later, 201), (&soon, 201), (&later, 200)] {
            let (status, given) = served.send(Method::POST, path, Some(wish.clone())).await;
            assert_eq!(status.as_u16(), expected, "{given}");
        }
        let ids = async || {
            let grants = served.get(path).await;
            let ids = grants["items"].as_array().unwrap().iter();
            ids.map(|grant| format!("{} {}", grant["id"].as_str().unwrap(), grant["left"]))
                .collect::<Vec<_>>()
        };
        assert_eq!(ids().await, ["soon 5", "later 10"], "the first to expire is used first");
        let other = json!({"id": "later", "limit": "calls.hour", "units": 11});
        refused(&served, Method::POST, path, other, 409, "grant-conflict").await;
        let unknown = json!({"id": "x", "limit": "calls.year", "units": 11});
        refused(&served, Method::POST, path, unknown, 422, "limit-unknown").await;
        let none = json!({"id": "x", "limit": "calls.hour", "units": 0});
        refused(&served, Method::POST, path, none, 422, "grant-invalid").await;
        let past =
            json!({"id": "x", "limit": "calls.hour", "units": 1, "expires_at": "2027-01-01T00:00:00Z"});
        refused(&served, Method::POST, path, past, 422, "grant-invalid").await;

        let (_, told) = served.sync(sync_body(&session(1), "user:a", 0, 1)).await;
        let told = told["subjects"][0]["entitlements"]["grants"].as_array().unwrap().clone();
        assert_eq!((told.len(), &told[0]["id"]), (2, &json!("soon")));

        served.clock.pass(u64::try_from(DAY_MS).unwrap());
        assert_eq!(ids().await, ["soon 0", "later 10"], "nothing is left of what expired");
        let (status, _) = served.send(Method::DELETE, &format!("{path}/later"), None).await;
        assert_eq!(status, 204);
        refused(&served, Method::DELETE, &format!("{path}/later"), json!(null), 404, "grant-missing").await;
        let audit = served.get("/v1/audit?target=user:a").await;
        assert_eq!(audit["items"][0]["action"], "grant.remove");
        served.stop().await;
    })
    .await;
}

#[tokio::test]
async fn what_is_reported_of_a_grant_while_paused_is_written_down() {
    let test = TestDatabase::sqlite();
    let served = Served::start_with_policy(&test.url).await;
    let plane = &served.plane;
    let text = POLICY.replace("default_tier: free\n", "");
    plane.apply_policy_to(&author(plane), &text, None, None, ChangedTiers::All).await.unwrap();
    served.put("/v1/subscriptions/user:a", json!({"tier": "free"})).await;
    let path = "/v1/subjects/user:a/grants";
    let wish = json!({"id": "g", "limit": "calls.hour", "units": 10});
    assert_eq!(served.send(Method::POST, path, Some(wish)).await.0, 201);
    served.sync(sync_body(&session(1), "user:a", 0, 15)).await;
    served.sync(sync_body(&session(1), "user:a", 10, 0)).await;
    let left = async || served.get(path).await["items"][0]["left"].clone();
    assert_eq!(left().await, 5);
    act(&served, json!({"action": "pause"})).await;
    assert_eq!(served.get("/v1/subjects/user:a").await["tier"], Value::Null);
    served.sync(sync_body(&session(1), "user:a", 15, 0)).await;
    assert_eq!(left().await, 0, "it was used before the pause");
    served.stop().await;
}

#[tokio::test]
async fn what_is_bought_after_a_used_grant_was_removed_can_be_used() {
    let test = TestDatabase::sqlite();
    let served = Served::start_with_policy(&test.url).await;
    let path = "/v1/subjects/user:a/grants";
    let wish = |id: &str| json!({"id": id, "limit": "calls.hour", "units": 5});
    assert_eq!(served.send(Method::POST, path, Some(wish("one"))).await.0, 201);
    assert_eq!(granted(&served, 1, "user:a", 20).await, 10);
    served.sync(sync_body(&session(1), "user:a", 10, 0)).await;
    assert_eq!(served.send(Method::DELETE, &format!("{path}/one"), None).await.0, 204);
    assert_eq!(served.send(Method::POST, path, Some(wish("two"))).await.0, 201);
    let (_, told) = served.sync(sync_body(&session(1), "user:a", 10, 20)).await;
    let told = &told["subjects"][0];
    assert_eq!(told["accounts"][0]["granted"], 15);
    let shown = told["entitlements"]["grants"].as_array().unwrap().iter();
    let units: u64 = shown.map(|grant| grant["units"].as_u64().unwrap()).sum();
    assert_eq!(units, 10, "the edge reckons with a maximum of fifteen: {told}");
    served.stop().await;
}

#[tokio::test]
async fn grants_are_bounded() {
    let test = TestDatabase::sqlite();
    let served = Served::start_with_policy(&test.url).await;
    let path = "/v1/subjects/user:a/grants";
    for number in 0..64 {
        let wish = json!({"id": number.to_string(), "limit": "calls.hour", "units": 1});
        assert_eq!(served.send(Method::POST, path, Some(wish)).await.0, 201);
    }
    let more = json!({"id": "more", "limit": "calls.hour", "units": 1});
    refused(&served, Method::POST, path, more, 422, "grant-invalid").await;
    served.stop().await;
}

async fn preview(served: &Served, text: &str, changed_tiers: &str) -> Value {
    let request = served
        .request(Method::POST, &format!("/v1/policy/preview?changed_tiers={changed_tiers}"), ADMIN)
        .header("content-type", "application/yaml")
        .body(text.to_owned());
    let (status, preview) = answer(request).await;
    assert_eq!(status, 200, "{preview}");
    preview
}

#[tokio::test]
async fn a_changed_tier_is_kept_by_those_who_have_it_where_that_is_asked_for() {
    on_each_database(async |test| {
        let served = Served::start_with_policy(&test.url).await;
        let plane = &served.plane;
        served.put("/v1/subscriptions/user:old", json!({"tier": "pro"})).await;
        served.put("/v1/subscriptions/user:ended", json!({"tier": "pro", "state": "expired"})).await;
        served.clock.pass(1_000);
        let dearer = POLICY.replace("quota: 1000,", "quota: 7,").replace("[export]", "[export, beta]");

        let all = preview(&served, &dearer, "all").await;
        assert_eq!(
            all["tiers"],
            json!([{
                "tier": "pro", "kind": "changed", "is_default": false,
                "limits": [{"limit": "calls.hour", "from": 1000, "to": 7}],
                "features_added": ["beta"], "features_removed": [], "prices_changed": false,
                "affected": 1, "kept": 0, "subjects": ["user:old"],
            }])
        );
        let new = preview(&served, &dearer, "new_subscribers").await;
        assert_eq!(
            (&new["tiers"][0]["affected"], &new["tiers"][0]["kept"], &new["tiers"][0]["subjects"]),
            (&json!(0), &json!(1), &json!([]))
        );

        let to_new = ChangedTiers::NewSubscribers;
        let applied = plane.apply_policy_to(&author(plane), &dearer, None, None, to_new).await.unwrap();
        assert_eq!(applied.version, 2);
        served.put("/v1/subscriptions/user:new", json!({"tier": "pro"})).await;
        let maximum = async |subject: &str| {
            let shown = served.get(&format!("/v1/subjects/{subject}")).await;
            (shown["limits"][0]["units"].clone(), shown["features"].clone())
        };
        assert_eq!(maximum("user:old").await, (json!(1000), json!(["export"])));
        assert_eq!(maximum("user:new").await, (json!(7), json!(["beta", "export"])));
        assert!(granted(&served, 1, "user:old", 100).await > 7);
        assert_eq!(granted(&served, 1, "user:new", 100).await, 7);

        // The same text again says nothing of earlier versions, and takes none away.
        let same = plane.apply_policy(&author(plane), &dearer, None, None).await.unwrap();
        assert_eq!((same.version, same.revision), (2, None));
        assert_eq!(preview(&served, &dearer, "all").await["tiers"], json!([]));

        // Whoever leaves and comes back has the newest.
        served.clock.pass(1_000);
        served.put("/v1/subscriptions/user:old", json!({"tier": "free"})).await;
        served.put("/v1/subscriptions/user:old", json!({"tier": "pro"})).await;
        assert_eq!(maximum("user:old").await.0, json!(7));

        // For all, a change is for those too who had an earlier version.
        served.put("/v1/subscriptions/user:old", json!({"tier": "pro", "tier_since_ms": START_MS})).await;
        assert_eq!(maximum("user:old").await.0, json!(1000));
        let generous = POLICY.replace("quota: 1000,", "quota: 2000,");
        let all = preview(&served, &generous, "all").await;
        assert_eq!(all["tiers"][0]["affected"], 2);
        plane.apply_policy(&author(plane), &generous, None, None).await.unwrap();
        assert_eq!(maximum("user:old").await.0, json!(2000));
        served.stop().await;
    })
    .await;
}

#[tokio::test]
async fn who_has_what_the_policy_has_no_more_can_still_cancel() {
    let test = TestDatabase::sqlite();
    let served = Served::start_with_policy(&test.url).await;
    let own = json!({"tier": "pro", "overrides": {"tokens.billing_month": 7}});
    served.put("/v1/subscriptions/user:a", own).await;
    // The override stays for the day on which the tier has such a limit again.
    let down = act(&served, json!({"action": "change_tier", "tier": "free", "when": "now"})).await;
    assert_eq!(down["overrides"], json!({"tokens.billing_month": 7}));
    act(&served, json!({"action": "change_tier", "tier": "pro", "when": "now"})).await;
    let gone = POLICY.replace("  pro:", "  gold:");
    served.plane.apply_policy(&author(&served.plane), &gone, None, None).await.unwrap();
    let cancelled = act(&served, json!({"action": "cancel"})).await;
    assert_eq!((&cancelled["tier"], &cancelled["state"]), (&json!("pro"), &json!("cancelled")));
    refused(&served, Method::PUT, "/v1/subscriptions/user:b", json!({"tier": "pro"}), 422, "tier-unknown")
        .await;
    served.stop().await;
}

#[tokio::test]
async fn subscriptions_of_an_earlier_release_are_looked_at_once() {
    on_each_database(async |test| {
        let served = Served::start_with_policy(&test.url).await;
        let plane = &served.plane;
        served
            .put("/v1/subscriptions/user:a", json!({"tier": "pro", "expires_at_ms": START_MS + 1_000}))
            .await;
        // As the migration leaves them.
        plane
            .database
            .transact("forget", |tx| {
                Box::pin(async move {
                    tollgate_control_plane::store::subjects::write_next_moment(tx, "user:a", Some(0)).await
                })
            })
            .await
            .unwrap();
        Moments.look(plane).await.unwrap();
        assert_eq!(served.get("/v1/subscriptions/user:a").await["state"], "active");
        served.clock.pass(1_000);
        Moments.look(plane).await.unwrap();
        assert_eq!(served.get("/v1/subscriptions?state=expired").await["items"].as_array().unwrap().len(), 1);
        served.stop().await;
    })
    .await;
}

#[tokio::test]
async fn many_moments_are_written_down_in_batches() {
    let test = TestDatabase::sqlite();
    let served = Served::start_with_policy(&test.url).await;
    for number in 0..250 {
        let ends = json!({"tier": "pro", "expires_at_ms": START_MS + 1});
        served.put(&format!("/v1/subscriptions/user:{number}"), ends).await;
    }
    served.clock.pass(1);
    Moments.look(&served.plane).await.unwrap();
    let expired = served.get("/v1/subscriptions?state=expired&limit=500").await;
    assert_eq!(expired["items"].as_array().unwrap().len(), 250);
    served.stop().await;
}

#[tokio::test]
async fn a_clock_that_jumps_ahead_ends_nothing_for_good() {
    const YEAR_MS: i64 = 365 * 86_400_000;
    on_each_database(async |test| {
        let served = Served::start_with_policy(&test.url).await;
        served
            .put("/v1/subscriptions/user:a", json!({"tier": "pro", "expires_at_ms": START_MS + 3_600_000}))
            .await;
        // As it is written down, not as it is shown at this moment.
        let state = async || {
            let row = subjects::read(&served.plane.database, "user:a").await.unwrap();
            row.subscription.unwrap().state
        };
        let tier = async || served.get("/v1/subjects/user:a").await["tier"].clone();
        Moments.look(&served.plane).await.unwrap();
        for _ in 0..2 {
            served.clock.set_wall_ahead(YEAR_MS);
            assert_eq!(Moments.look(&served.plane).await.unwrap(), 0);
            assert_eq!(
                (state().await, tier().await),
                (SubscriptionState::Active, json!("free")),
                "the tier does not wait"
            );
            served.clock.set_wall_back(YEAR_MS);
            Moments.look(&served.plane).await.unwrap();
            assert_eq!(
                (state().await, tier().await),
                (SubscriptionState::Active, json!("pro")),
                "nothing was lost"
            );
        }
        // A process that starts on a clock that is ahead knows what another one saw.
        served.clock.set_wall_ahead(YEAR_MS);
        let other = plane(&test.url, served.clock.clone()).await;
        assert_eq!(Moments.look(&other).await.unwrap(), 0);
        assert_eq!(state().await, SubscriptionState::Active);
        // One that stays there has been set, or time has passed that nobody saw.
        Moments.look(&served.plane).await.unwrap();
        served.clock.pass(9 * 60_000);
        Moments.look(&other).await.unwrap();
        Moments.look(&served.plane).await.unwrap();
        assert_eq!(state().await, SubscriptionState::Active);
        served.clock.pass(60_000);
        Moments.look(&other).await.unwrap();
        assert_eq!(state().await, SubscriptionState::Expired);
        other.database.close().await;
        served.stop().await;
    })
    .await;
}
