//! What the store promises, on every database: the same tests for SQLite and PostgreSQL.

use std::time::Duration;

use tollgate_control_plane::store::audit::Author;
use tollgate_control_plane::store::changes::ChangeKind;
use tollgate_control_plane::store::usage::{Period, UsageWrite, Wanted};
use tollgate_control_plane::store::{
    Database, StoreError, audit, changes, configuration, sessions, subjects, usage,
};
use tollgate_policy::subscription::{Subscription, SubscriptionState};

use super::support::{TestDatabase, on_each_database, session};

const HOUR: i64 = 3_600_000;

fn written(taken: i64, freed: i64) -> UsageWrite<'static> {
    UsageWrite { subject: "user:a", hour_ms: HOUR, meter: "calls", labels: "", taken, freed }
}

async fn total(database: &Database) -> (i64, i64) {
    let wanted = Wanted { subject: "user:a", meter: None, from_ms: 0, to_ms: 10 * HOUR, by: Period::Total };
    let rows = usage::sums(database, &wanted).await.unwrap();
    rows.iter().fold((0, 0), |sum, row| (sum.0 + row.taken, sum.1 + row.freed))
}

async fn merge(database: &Database, session: &str, rows: &[UsageWrite<'_>]) {
    let merged =
        database.transact("test", |tx| Box::pin(async move { usage::merge(tx, session, rows).await }));
    let merged: Result<_, StoreError> = merged.await;
    merged.unwrap();
}

#[tokio::test]
async fn usage_is_merged_by_max_in_any_order() {
    on_each_database(async |test| {
        let database = Database::open(&test.url).await.unwrap();
        merge(&database, "s1", &[written(3, 1)]).await;
        merge(&database, "s1", &[written(2, 0)]).await;
        merge(&database, "s1", &[written(3, 1)]).await;
        assert_eq!(total(&database).await, (3, 1), "an old report, repeated, changes nothing");
        merge(&database, "s2", &[written(10, 0)]).await;
        assert_eq!(total(&database).await, (13, 1), "sessions are summed");
        let far = UsageWrite { hour_ms: 11 * HOUR, ..written(1, 0) };
        merge(&database, "s1", &[far]).await;
        assert_eq!(total(&database).await, (13, 1), "hours outside of the range are left out");
        database.close().await;
    })
    .await;
}

#[tokio::test]
async fn a_closed_session_never_opens_again() {
    on_each_database(async |test| {
        let database = &Database::open(&test.url).await.unwrap();
        let beat = async |now_ms: i64| {
            let beat = database.transact("test", |tx| {
                Box::pin(async move { sessions::beat(tx, "s", "here", now_ms).await })
            });
            let beat: Result<_, StoreError> = beat.await;
            beat.unwrap()
        };
        assert_eq!(beat(10).await.closed_ms, None);
        assert_eq!(beat(5).await.closed_ms, None, "a clock that is set back closes nothing");
        let open = sessions::open(database).await.unwrap();
        assert_eq!(open.get("s"), Some(&2), "each sync is counted");
        let close = async |beats: i64| {
            let silent = &[("s".to_owned(), beats)];
            let closed = database
                .transact("test", |tx| Box::pin(async move { sessions::close_silent(tx, silent, 99).await }));
            let closed: Result<u64, StoreError> = closed.await;
            closed.unwrap()
        };
        assert_eq!(close(1).await, 0, "it was heard meanwhile");
        assert_eq!(close(2).await, 1);
        assert_eq!(beat(200).await.closed_ms, Some(99));
        let closed = sessions::closed_of(database, &["s", "other"]).await.unwrap();
        assert_eq!(
            closed.into_iter().collect::<Vec<_>>(),
            [("s".to_owned(), 10)],
            "heard at the latest moment"
        );
        database.close().await;
    })
    .await;
}

async fn tell(database: &Database, subject: &str, now_ms: i64) {
    let row = &[(ChangeKind::Recall, subject, "s")];
    let told: Result<(), StoreError> =
        database.transact("test", |tx| Box::pin(async move { changes::append(tx, row, now_ms).await })).await;
    told.unwrap();
}

#[tokio::test]
async fn changes_are_numbered_in_the_order_of_their_commits() {
    on_each_database(async |test| {
        let database = Database::open(&test.url).await.unwrap();
        let writers = (0..8).map(|number| {
            let database = database.clone();
            tokio::spawn(async move {
                for change in 0..5 {
                    tell(&database, &format!("user:{number}-{change}"), change).await;
                }
            })
        });
        let writers: Vec<_> = writers.collect();
        // A reader that follows misses nothing: whatever it sees, nothing before that can still come.
        let (mut seen, mut after) = (0, 0);
        while seen < 40 {
            let ended = writers.iter().all(tokio::task::JoinHandle::is_finished);
            let fresh = changes::since(&database, after, 100).await.unwrap();
            for change in &fresh {
                assert_eq!(change.seq, after + 1, "no gap");
                (after, seen) = (change.seq, seen + 1);
            }
            assert!(seen == 40 || !ended, "all was written, and {seen} changes were seen");
        }
        for writer in writers {
            writer.await.unwrap();
        }
        let pruned: Result<u64, StoreError> =
            database.transact("test", |tx| Box::pin(async move { changes::prune(tx, 4).await })).await;
        assert!(pruned.unwrap() > 0);
        let first = changes::pruned(&database).await.unwrap();
        assert_eq!(changes::since(&database, 0, 100).await.unwrap().first().map(|c| c.seq), Some(first + 1));
        database.close().await;
    })
    .await;
}

#[tokio::test]
async fn two_transactions_on_one_subject_run_after_one_another() {
    on_each_database(async |test| {
        let database = Database::open(&test.url).await.unwrap();
        let writers = (0..10).map(|_| {
            let database = database.clone();
            tokio::spawn(async move {
                let raised: Result<(), StoreError> = database
                    .transact("test", |tx| {
                        Box::pin(async move {
                            let rows = subjects::lock(tx, &["user:new", "user:other"]).await?;
                            let revision =
                                rows.get("user:new").map_or(0, |row| row.subscription_revision) + 1;
                            tokio::time::sleep(Duration::from_millis(2)).await;
                            subjects::write_subscription(tx, "user:new", None, revision, 1).await
                        })
                    })
                    .await;
                raised.unwrap();
            })
        });
        for writer in writers.collect::<Vec<_>>() {
            writer.await.unwrap();
        }
        let row = subjects::read(&database, "user:new").await.unwrap();
        assert_eq!(row.subscription_revision, 10, "no write was lost");
        database.close().await;
    })
    .await;
}

#[tokio::test]
async fn what_fails_leaves_nothing_behind() {
    on_each_database(async |test| {
        let database = Database::open(&test.url).await.unwrap();
        let author = &Author { actor: "a".to_owned(), remote: "r".to_owned(), now_ms: 1 };
        let failed: Result<(), StoreError> = database
            .transact("test", |tx| {
                Box::pin(async move {
                    configuration::raise(tx).await?;
                    audit::append(tx, author, "x", "y", None, None).await?;
                    Err(StoreError::Corrupt { what: "on purpose".to_owned(), source: None })
                })
            })
            .await;
        assert!(failed.is_err());
        assert_eq!(configuration::read(&database).await.unwrap().revision, 0);
        assert!(
            audit::page(&database, i64::MAX, &audit::AuditFilter::default(), 10).await.unwrap().is_empty()
        );
        database.close().await;
    })
    .await;
}

#[tokio::test]
async fn subscriptions_are_listed_by_tier_and_state() {
    on_each_database(async |test| {
        let database = &Database::open(&test.url).await.unwrap();
        let states = [SubscriptionState::Active, SubscriptionState::Paused];
        for number in 0..6 {
            let (subject, tier) = (&format!("user:{number}"), ["free", "pro"][number % 2]);
            let subscription =
                &Subscription { tier: tier.to_owned(), state: states[number / 3], ..Subscription::default() };
            let written: Result<(), StoreError> = database
                .transact("test", |tx| {
                    Box::pin(async move {
                        subjects::write_subscription(tx, subject, Some(subscription), 1, 1).await
                    })
                })
                .await;
            written.unwrap();
        }
        let list = async |after: &str, tier: Option<&str>, state, limit| {
            let rows = subjects::list(database, after, tier, state, limit).await.unwrap();
            rows.iter().map(|row| row.subject.replace("user:", "")).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(list("", None, None, 10).await, "0 1 2 3 4 5");
        assert_eq!(list("user:2", None, None, 2).await, "3 4");
        assert_eq!(list("", Some("pro"), None, 10).await, "1 3 5");
        assert_eq!(list("", Some("pro"), Some(SubscriptionState::Paused), 10).await, "3 5");
        database.close().await;
    })
    .await;
}

#[tokio::test]
async fn a_database_is_brought_up_to_date_once_by_any_number_of_replicas() {
    on_each_database(async |test: &TestDatabase| {
        let opened = (0..4).map(|_| {
            let url = test.url.clone();
            tokio::spawn(async move { Database::open(&url).await })
        });
        for opened in opened.collect::<Vec<_>>() {
            let database = opened.await.unwrap().unwrap();
            database.ping().await.unwrap();
            database.close().await;
        }
    })
    .await;
}

#[tokio::test]
async fn a_session_that_holds_units_is_found_in_the_books() {
    on_each_database(async |test| {
        let clock = super::support::TestClock::shared();
        let plane = super::support::plane(&test.url, clock).await;
        let author = super::support::author(&plane);
        plane.apply_policy(&author, super::support::POLICY, None, None).await.unwrap();
        let body = super::support::sync_body(&session(7), "user:a", 0, 2);
        plane.sync(&serde_json::from_value(body).unwrap(), "edge").await.unwrap();
        let holding = async |number| subjects::holding(&plane.database, &session(number), 10).await.unwrap();
        assert_eq!(holding(7).await, ["user:a"]);
        assert!(holding(8).await.is_empty());
        plane.database.close().await;
    })
    .await;
}
