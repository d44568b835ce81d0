//! Watches: who waits is woken for what concerns it, at once, also by another replica; and misses nothing.

use std::time::{Duration, Instant};

use reqwest::Method;
use serde_json::{Value, json};
use tollgate_control_plane::store::changes;

use super::support::{
    EDGE, POLICY, Served, answer, author, eventually, on_each_database, session, sync_body,
};

/// A change must be felt within this.
const AT_ONCE: Duration = Duration::from_secs(1);

async fn watch(served: &Served, session: &str, after: u64, revision: u64) -> Value {
    let path = format!("/edge/v1/watch?session={session}&after={after}&revision={revision}");
    let (status, body) = answer(served.request(Method::GET, &path, EDGE)).await;
    assert_eq!(status, 200, "{body}");
    body
}

async fn revision(served: &Served) -> u64 {
    served.plane.refresh().await.unwrap().revision
}

/// Begins to watch, waits until the watch waits, does something, and tells what the watch answered, and how fast.
async fn woken_by(served: &Served, after: u64, act: impl AsyncFnOnce()) -> (Value, Duration) {
    let revision = revision(served).await;
    let one = session(1);
    let watching = watch(served, &one, after, revision);
    let acting = async {
        eventually("the watch", async || (served.plane.hub.waiting() > 0).then_some(())).await;
        let begun = Instant::now();
        act().await;
        begun
    };
    let ended = async { (watching.await, Instant::now()) };
    let ((answer, ended), begun) = tokio::join!(ended, acting);
    (answer, ended.saturating_duration_since(begun))
}

#[tokio::test]
async fn a_change_of_a_subscription_wakes_the_edges_that_know_the_subject() {
    on_each_database(async |test| {
        let served = Served::start_with_policy(&test.url).await;
        served.sync(sync_body(&session(1), "user:a", 0, 1)).await;
        let (answer, took) = woken_by(&served, 0, async || {
            served.put("/v1/subscriptions/user:b", json!({"tier": "pro"})).await;
            served.put("/v1/subscriptions/user:a", json!({"tier": "pro"})).await;
        })
        .await;
        assert_eq!(answer["subjects"], json!(["user:a"]), "and not for a subject it does not hold");
        assert!(took < AT_ONCE, "{took:?}");
        served.stop().await;
    })
    .await;
}

#[tokio::test]
async fn a_policy_wakes_all_edges() {
    on_each_database(async |test| {
        let served = Served::start_with_policy(&test.url).await;
        let before = revision(&served).await;
        let (answer, took) = woken_by(&served, 0, async || {
            let text = POLICY.replace("quota: 5", "quota: 6");
            served.plane.apply_policy(&author(&served.plane), &text, None, None).await.unwrap();
        })
        .await;
        assert_eq!(answer["policy_revision"], json!(before + 1));
        assert!(took < AT_ONCE, "{took:?}");
        served.stop().await;
    })
    .await;
}

#[tokio::test]
async fn a_recall_wakes_the_edge_that_holds_the_units() {
    on_each_database(async |test| {
        let served = Served::start_with_policy(&test.url).await;
        served.sync(sync_body(&session(1), "user:a", 0, 5)).await;
        let (answer, took) = woken_by(&served, 0, async || {
            let (_, other) = served.sync(sync_body(&session(2), "user:a", 0, 1)).await;
            assert_eq!(other["subjects"][0]["accounts"][0]["pending"], true, "{other}");
        })
        .await;
        assert_eq!(answer["subjects"], json!(["user:a"]));
        assert!(took < AT_ONCE, "{took:?}");
        served.stop().await;
    })
    .await;
}

#[tokio::test]
async fn a_change_at_one_replica_is_felt_at_another() {
    on_each_database(async |test| {
        let (one, other) = (Served::start_with_policy(&test.url).await, Served::start(&test.url).await);
        one.sync(sync_body(&session(1), "user:a", 0, 1)).await;
        let (answer, took) = woken_by(&one, 0, async || {
            other.put("/v1/subscriptions/user:a", json!({"tier": "pro"})).await;
        })
        .await;
        assert_eq!(answer["subjects"], json!(["user:a"]));
        assert!(took < AT_ONCE, "{took:?}");
        other
            .plane
            .apply_policy(&author(&other.plane), &POLICY.replace("quota: 5", "quota: 1"), None, None)
            .await
            .unwrap();
        let (_, synced) = one.sync(sync_body(&session(3), "user:new", 0, 5)).await;
        assert_eq!(
            synced["subjects"][0]["accounts"][0]["granted"], 1,
            "no grant by a policy of yesterday: {synced}"
        );
        one.stop().await;
        other.stop().await;
    })
    .await;
}

#[tokio::test]
async fn what_happened_before_the_watch_is_not_missed() {
    on_each_database(async |test| {
        let served = Served::start_with_policy(&test.url).await;
        served.sync(sync_body(&session(1), "user:a", 0, 1)).await;
        served.put("/v1/subscriptions/user:a", json!({"tier": "pro"})).await;
        let revision = revision(&served).await;
        let first = watch(&served, &session(1), 0, revision).await;
        assert_eq!(first["subjects"], json!(["user:a"]), "since the session opened");
        let after = first["after"].as_u64().unwrap();
        served.put("/v1/subscriptions/user:a", json!({"tier": "free"})).await;
        // One that just started knows nothing of it from memory.
        let fresh = Served::start(&test.url).await;
        let second = watch(&fresh, &session(1), after, revision).await;
        assert_eq!(second["subjects"], json!(["user:a"]), "from the database");

        served.clock.pass(4_000_000);
        let before_ms = tollgate_control_plane::clock::Clock::now_ms(&*served.clock);
        let pruned: Result<u64, tollgate_control_plane::store::StoreError> = served
            .plane
            .database
            .transact("test", |tx| Box::pin(async move { changes::prune(tx, before_ms).await }))
            .await;
        assert!(pruned.unwrap() > 0);
        let third = watch(&fresh, &session(1), after, revision).await;
        assert_eq!(third["subjects"], json!(["user:a"]), "forgotten: all that the session holds");
        fresh.stop().await;
        served.stop().await;
    })
    .await;
}

#[tokio::test]
async fn stopping_ends_the_watches_that_wait() {
    on_each_database(async |test| {
        let served = Served::start_with_policy(&test.url).await;
        let revision = revision(&served).await;
        let path = format!("/edge/v1/watch?session={}&after=0&revision={revision}", session(1));
        let request = served.request(Method::GET, &path, EDGE);
        let watching = tokio::spawn(answer(request));
        eventually("the watch", async || (served.plane.hub.waiting() > 0).then_some(())).await;
        let begun = Instant::now();
        served.stop().await;
        let (status, body) = watching.await.unwrap();
        assert_eq!((status.as_u16(), &body["policy_revision"]), (200, &json!(revision)));
        assert!(begun.elapsed() < Duration::from_secs(3), "{:?}", begun.elapsed());
    })
    .await;
}
