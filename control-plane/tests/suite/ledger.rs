//! The ledger's arithmetic: whatever is reported, repeated, late, recorded, folded and read, in any order, each unit counts
//! once. Random histories against a model that keeps every number by session and hour.

use std::collections::BTreeMap;

use tollgate_control_plane::calendar::{DAY_MS, HOUR_MS, day_of, hour_of, month_of};
use tollgate_control_plane::store::usage::{self, Horizons, Period, UsageWrite, Wanted, fold};
use tollgate_control_plane::store::{Database, StoreError, subjects};

use super::edges::Random;
use super::support::{START_MS, on_each_database};

const SUBJECTS: [&str; 3] = ["user:a", "user:b", "org:c"];
const METERS: [&str; 2] = ["calls", "tokens"];
const LABELS: [&str; 3] = ["", "model=large", "model=small&route=chat"];
const SESSIONS: [&str; 3] = ["s1", "s2", "s3"];

/// How long the ledger has hours and days in these histories, days.
const HOURS_DAYS: i64 = 2;
const DAYS_DAYS: i64 = 40;

/// Subject, meter, labels, hour and session.
type Key = (&'static str, &'static str, &'static str, i64, &'static str);

/// What a session says of a key.
type Said = (Key, (i64, i64));

struct World<'a> {
    database: &'a Database,
    random: Random,
    now_ms: i64,
    /// What each session has counted.
    truth: BTreeMap<Key, (i64, i64)>,
    /// Every report that was ever sent: any may come again.
    sent: Vec<Vec<Said>>,
    /// What the ledger must hold.
    model: BTreeMap<Key, (i64, i64)>,
    late: u64,
}

impl World<'_> {
    async fn horizons(&self) -> Horizons {
        let found: Result<_, StoreError> =
            self.database.transact("test", |tx| Box::pin(async move { usage::horizons(tx).await })).await;
        found.unwrap()
    }

    fn key(&mut self, session: &'static str) -> Key {
        let hours = self.random.pick(&[0, 0, 0, 1, 1, 5, 30, 60, 200, 700, 1_500]) as i64;
        let hour_ms = hour_of(self.now_ms) - hours * HOUR_MS;
        let (meter, labels) = (self.random.pick(&METERS), self.random.pick(&LABELS));
        (self.random.pick(&SUBJECTS), meter, labels, hour_ms, session)
    }

    async fn step(&mut self) {
        match self.random.below(100) {
            0..30 => {
                let hours = self.random.pick(&[1, 1, 3, 20, 60]);
                self.now_ms += hours as i64 * HOUR_MS;
            }
            30..50 => self.report().await,
            50..65 if !self.sent.is_empty() => {
                let again = self.random.index(self.sent.len());
                let again = self.sent[again].clone();
                self.deliver(&again).await;
            }
            65..70 => self.record().await,
            70..75 => self.raise().await,
            75..90 => self.fold().await,
            _ => self.check().await,
        }
    }

    /// A session counts something more, and reports all it has of those subjects.
    async fn report(&mut self) {
        let session = self.random.pick(&SESSIONS);
        let mut said = BTreeMap::new();
        for _ in 0..1 + self.random.below(4) {
            let key = self.key(session);
            let more = (self.random.below(9) as i64, self.random.below(3) as i64);
            let truth = self.truth.entry(key).or_default();
            *truth = (truth.0 + more.0, truth.1 + more.1);
            said.insert(key, *truth);
        }
        let said: Vec<Said> = said.into_iter().collect();
        self.sent.push(said.clone());
        // Some are lost, and come later or never.
        if self.random.percent(80) {
            self.deliver(&said).await;
        }
    }

    async fn deliver(&mut self, said: &[Said]) {
        let days_from_ms = self.horizons().await.days_from_ms;
        let mut late = 0;
        for (key, units) in said {
            if key.3 < days_from_ms {
                late += 1;
                continue;
            }
            let known = self.model.entry(*key).or_default();
            *known = (known.0.max(units.0), known.1.max(units.1));
        }
        let rows = &writes(said);
        let session = said[0].0.4;
        let merged: Result<_, StoreError> = self
            .database
            .transact("test", |tx| {
                Box::pin(async move {
                    subjects::lock(tx, &SUBJECTS).await?;
                    usage::merge(tx, session, rows).await
                })
            })
            .await;
        assert_eq!(merged.unwrap().too_late, late, "what cannot be told apart is left out, and said");
        self.late += late;
    }

    async fn record(&mut self) {
        let key = self.key("recorded");
        let units = (1 + self.random.below(50) as i64, 0);
        let known = self.model.entry(key).or_default();
        *known = (known.0 + units.0, known.1);
        let rows = &writes(&[(key, units)]);
        let added: Result<_, StoreError> = self
            .database
            .transact("test", |tx| {
                Box::pin(async move {
                    subjects::lock(tx, &SUBJECTS).await?;
                    usage::add(tx, "recorded", rows).await
                })
            })
            .await;
        added.unwrap();
    }

    async fn raise(&mut self) {
        let to = &Horizons {
            hours_from_ms: self.now_ms - HOURS_DAYS * DAY_MS,
            days_from_ms: self.now_ms - DAYS_DAYS * DAY_MS,
        };
        let raised: Result<_, StoreError> =
            self.database.transact("test", |tx| Box::pin(async move { fold::raise(tx, to).await })).await;
        let raised = raised.unwrap();
        assert!(raised.days_from_ms <= raised.hours_from_ms && raised.hours_from_ms <= self.now_ms);
    }

    /// One batch, as small as can be.
    async fn fold(&mut self) {
        let rows_max = self.random.pick(&[1, 2, 7, 1_000]);
        let hours = self.random.percent(60);
        let folded: Result<u64, StoreError> = self
            .database
            .transact("test", |tx| {
                Box::pin(async move {
                    subjects::lock(tx, &SUBJECTS).await?;
                    match hours {
                        true => fold::hours(tx, &SUBJECTS, rows_max).await,
                        false => fold::days(tx, &SUBJECTS, rows_max.unsigned_abs()).await,
                    }
                })
            })
            .await;
        folded.unwrap();
    }

    fn expected(&self, subject: &str, from_ms: i64, to_ms: i64) -> BTreeMap<(String, String), (i64, i64)> {
        let mut sums: BTreeMap<(String, String), (i64, i64)> = BTreeMap::new();
        for ((of, meter, labels, hour_ms, _), units) in &self.model {
            if *of == subject && (from_ms..to_ms).contains(hour_ms) {
                let sum = sums.entry((meter.to_string(), labels.to_string())).or_default();
                *sum = (sum.0 + units.0, sum.1 + units.1);
            }
        }
        sums
    }

    /// Compares a range of a subject, by each period.
    async fn check(&mut self) {
        let subject = self.random.pick(&SUBJECTS);
        let days_from_ms = self.horizons().await.days_from_ms;
        // Any hour while there are days; before, the months are whole.
        let mut border = || {
            let at_ms = hour_of(self.now_ms) - self.random.below(3_000) as i64 * HOUR_MS + HOUR_MS;
            if at_ms < days_from_ms { month_of(at_ms).0 } else { at_ms }
        };
        let (one, other) = (border(), border());
        self.compare(subject, one.min(other), one.max(other)).await;
        self.compare(subject, 0, i64::MAX).await;
    }

    async fn compare(&self, subject: &str, from_ms: i64, to_ms: i64) {
        let expected = self.expected(subject, from_ms, to_ms);
        for by in [Period::Hour, Period::Day, Period::Month, Period::Total] {
            let wanted = Wanted { subject, meter: None, from_ms, to_ms, by };
            let mut found: BTreeMap<(String, String), (i64, i64)> = BTreeMap::new();
            for sum in usage::sums(self.database, &wanted).await.unwrap() {
                let all = found.entry((sum.meter, sum.labels)).or_default();
                *all = (all.0 + sum.taken, all.1 + sum.freed);
                assert!(sum.start_ms < sum.end_ms);
            }
            // A key of which nothing was used is there or not.
            found.retain(|_, units| *units != (0, 0));
            let mut expected = expected.clone();
            expected.retain(|_, units| *units != (0, 0));
            assert_eq!(found, expected, "{subject} in {from_ms}..{to_ms} by {by:?}");
        }
    }
}

fn writes(said: &[Said]) -> Vec<UsageWrite<'static>> {
    said.iter()
        .map(|((subject, meter, labels, hour_ms, _), (taken, freed))| UsageWrite {
            subject,
            hour_ms: *hour_ms,
            meter,
            labels,
            taken: *taken,
            freed: *freed,
        })
        .collect()
}

async fn histories(url: &str, count: u64, steps: u64) {
    let (mut late, mut months) = (0, 0);
    for seed in 0..count {
        let database = &Database::open(url).await.unwrap();
        let mut world = World {
            database,
            random: Random::new(seed),
            // Each history has its own years, so that one database does for many.
            now_ms: START_MS + seed as i64 * 10_000 * DAY_MS,
            truth: BTreeMap::new(),
            sent: Vec::new(),
            model: BTreeMap::new(),
            late: 0,
        };
        for _ in 0..steps {
            world.step().await;
        }
        // At last all is folded that can be.
        world.raise().await;
        for _ in 0..50 {
            world.fold().await;
        }
        for subject in SUBJECTS {
            world.compare(subject, 0, i64::MAX).await;
        }
        late += world.late;
        months += u64::from(world.horizons().await.days_from_ms > 0);
        database.close().await;
    }
    assert!(late > 0 && months > 0, "the histories were long enough to matter");
}

#[tokio::test]
async fn each_unit_counts_once_whatever_comes_late_or_twice_and_is_folded() {
    histories("sqlite::memory:", 60, 400).await;
}

#[tokio::test]
async fn so_it_does_on_each_database() {
    on_each_database(async |test| histories(&test.url, 1, 300).await).await;
}

#[tokio::test]
async fn a_session_that_comes_back_after_weeks_is_counted_once() {
    on_each_database(async |test| {
        let database = &Database::open(&test.url).await.unwrap();
        let mut world = World {
            database,
            random: Random::new(1),
            now_ms: START_MS,
            truth: BTreeMap::new(),
            sent: Vec::new(),
            model: BTreeMap::new(),
            late: 0,
        };
        let at = |hours: i64| ("user:a", "calls", "", START_MS + hours * HOUR_MS, "s1");
        world.deliver(&[(at(0), (5, 1)), (at(1), (7, 0))]).await;
        world.now_ms += 21 * DAY_MS;
        world.raise().await;
        while world.rows("usage_hours").await > 0 {
            world.fold().await;
        }
        assert_eq!(world.rows("usage_days").await, 1, "two hours are one day");
        // It had not told the last of the first hour, and nothing of the third.
        world.deliver(&[(at(0), (6, 1)), (at(1), (7, 0)), (at(2), (3, 3))]).await;
        world.compare("user:a", 0, i64::MAX).await;
        // A period that begins within the day is exact to the hour.
        world.compare("user:a", START_MS + HOUR_MS, START_MS + 2 * HOUR_MS).await;
        assert_eq!(world.model.values().map(|units| units.0).sum::<i64>(), 16);
        assert_eq!(world.rows("usage_hours").await, 0, "what is late goes where its day is");
        assert_eq!(day_of(START_MS), START_MS);
        database.close().await;
    })
    .await;
}

impl World<'_> {
    /// Rows of a table, as a reader sees them: by what folding would still do.
    async fn rows(&self, table: &str) -> usize {
        let found = match table {
            "usage_hours" => fold::subjects_with_hours(self.database, i64::MAX, 100).await,
            _ => fold::subjects_with_days(self.database, i64::MAX, 100).await,
        };
        found.unwrap().len()
    }
}

#[tokio::test]
async fn reports_and_folds_at_the_same_time_lose_nothing() {
    on_each_database(async |test| {
        let database = Database::open(&test.url).await.unwrap();
        // Each session reports rising totals of old hours again and again, while they are being folded.
        let report = async |database: Database, session: usize| {
            for number in 1..=40_i64 {
                let said: Vec<Said> = (0..6)
                    .map(|hour| {
                        (("user:a", "calls", "", START_MS + hour * HOUR_MS, SESSIONS[session]), (number, 0))
                    })
                    .collect();
                let rows = &writes(&said);
                let merged: Result<_, StoreError> = database
                    .transact("test", |tx| {
                        Box::pin(async move {
                            subjects::lock(tx, &["user:a"]).await?;
                            usage::merge(tx, SESSIONS[session], rows).await
                        })
                    })
                    .await;
                merged.unwrap();
            }
        };
        let fold = async |database: Database| {
            for number in 0..40_i64 {
                let to = &Horizons { hours_from_ms: START_MS + (number / 10) * DAY_MS, days_from_ms: 0 };
                let folded: Result<u64, StoreError> = async {
                    database
                        .transact("raise", |tx| Box::pin(async move { fold::raise(tx, to).await }))
                        .await?;
                    database
                        .transact("test", |tx| {
                            Box::pin(async move {
                                subjects::lock(tx, &["user:a"]).await?;
                                fold::hours(tx, &["user:a"], 2).await
                            })
                        })
                        .await
                }
                .await;
                folded.unwrap();
            }
        };
        tokio::join!(
            report(database.clone(), 0),
            report(database.clone(), 1),
            report(database.clone(), 2),
            fold(database.clone()),
            fold(database.clone()),
        );
        let wanted =
            Wanted { subject: "user:a", meter: None, from_ms: 0, to_ms: i64::MAX, by: Period::Total };
        let sums = usage::sums(&database, &wanted).await.unwrap();
        assert_eq!(sums[0].taken, 3 * 6 * 40, "{sums:?}");
        database.close().await;
    })
    .await;
}
