//! Subjects: one row each, with the subject's book of leases, its subscription and its bypass.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use tollgate_policy::lease::Book;
use tollgate_policy::subscription::{Entitlements, Grant, Subscription};

use super::statement::Statement;
use super::value::{Row, from_json, json_rows, to_json, values};
use super::{Database, StoreError, Tx};

/// Everything that a subject owns. A subject that nobody has named yet has the default one.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct SubjectRow {
    /// Who holds how many units of what.
    pub book: Book,
    /// The tier that the subject's verified token last claimed.
    pub tier_claim: Option<String>,
    /// What the subject has bought.
    pub subscription: Option<Subscription>,
    /// Testing mode.
    pub bypass: Option<Bypass>,
    /// Extra units, in the order in which they are used: the first to expire first.
    pub grants: Vec<Grant>,
    /// Rises with each change of the subscription, the bypass or the grants.
    pub subscription_revision: i64,
    /// Open sessions that were told what the subject is entitled to.
    pub sessions: BTreeSet<String>,
}

/// Testing mode: a grant that a subject's limits and features are not looked at for a while.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bypass {
    /// From this moment (Unix ms) on it no longer holds.
    pub expires_ms: i64,
    /// Why, in its author's words.
    pub reason: String,
    /// When it was granted, Unix ms.
    pub granted_ms: i64,
    /// The name of the token it was granted with.
    pub granted_by: String,
}

/// What a sync writes back of a subject.
#[derive(Debug)]
pub struct BookWrite<'a> {
    /// The subject.
    pub subject: &'a str,
    /// Its book.
    pub book: &'a Book,
    /// Its extra units, with what of them is used up.
    pub grants: &'a [Grant],
    /// See [`SubjectRow::subscription_revision`].
    pub revision: i64,
    /// The tier that the subject's verified token last claimed.
    pub tier_claim: Option<&'a str>,
    /// Open sessions that were told what the subject is entitled to.
    pub sessions: &'a BTreeSet<String>,
}

impl SubjectRow {
    /// What edges are told.
    pub fn entitlements(&self) -> Entitlements {
        Entitlements {
            subscription: self.subscription.as_ref().map(|s| Subscription { held: None, ..s.clone() }),
            bypass_until_ms: self.bypass.as_ref().map(|bypass| bypass.expires_ms),
            grants: self.grants.clone(),
        }
    }

    /// The sessions that must be told of a change: those that hold units, and those that only know the subject.
    pub fn knowing(&self) -> BTreeSet<String> {
        self.book.sessions().into_iter().chain(self.sessions.iter().cloned()).collect()
    }
}

/// A subscription in a list.
#[derive(Debug, Clone, PartialEq)]
pub struct ListedSubscription {
    /// The subject.
    pub subject: String,
    /// What it has bought.
    pub subscription: Subscription,
    /// Rises with each change of it.
    pub revision: i64,
}

static READ: Statement = Statement::new(
    "SELECT subject, book, tier_claim, subscription, subscription_revision, bypass, sessions, grants FROM subjects
     WHERE subject = $1",
);
static LOCK: Statement = Statement::new(
    "SELECT subject, book, tier_claim, subscription, subscription_revision, bypass, sessions, grants FROM subjects
     WHERE subject IN (SELECT r.subject FROM {rows $1 r subject text}) ORDER BY subject {lock}",
);
static SUBSCRIPTIONS: Statement = Statement::new(
    "SELECT subject, subscription FROM subjects
     WHERE subscription IS NOT NULL AND subject IN (SELECT r.subject FROM {rows $1 r subject text})",
);
static CREATE: Statement = Statement::new(
    "INSERT INTO subjects (subject) SELECT r.subject FROM {rows $1 r subject text} WHERE true ORDER BY r.subject
     ON CONFLICT (subject) DO NOTHING",
);
static WRITE_BOOKS: Statement = Statement::new(
    "INSERT INTO subjects (subject, book, tier_claim, sessions, grants, subscription_revision, updated_ms)
     SELECT r.subject, r.book, r.tier_claim, r.sessions, r.grants, r.revision, CAST($2 AS BIGINT)
     FROM {rows $1 r subject text, book text, tier_claim text, sessions text, grants text, revision bigint} WHERE true
     ON CONFLICT (subject) DO UPDATE SET
         book = excluded.book, tier_claim = excluded.tier_claim, sessions = excluded.sessions,
         grants = excluded.grants, subscription_revision = excluded.subscription_revision,
         updated_ms = excluded.updated_ms",
);
static WRITE_SUBSCRIPTION: Statement = Statement::new(
    "INSERT INTO subjects (subject, subscription, subscription_tier, subscription_state, next_moment_ms,
                           subscription_revision, updated_ms)
     VALUES ($1, $2, $3, $4, $5, $6, $7)
     ON CONFLICT (subject) DO UPDATE SET
         subscription = excluded.subscription, subscription_tier = excluded.subscription_tier,
         subscription_state = excluded.subscription_state, next_moment_ms = excluded.next_moment_ms,
         subscription_revision = excluded.subscription_revision, updated_ms = excluded.updated_ms",
);
static WRITE_BYPASS: Statement = Statement::new(
    "INSERT INTO subjects (subject, bypass, subscription_revision, updated_ms) VALUES ($1, $2, $3, $4)
     ON CONFLICT (subject) DO UPDATE SET
         bypass = excluded.bypass, subscription_revision = excluded.subscription_revision,
         updated_ms = excluded.updated_ms",
);
static WRITE_GRANTS: Statement = Statement::new(
    "INSERT INTO subjects (subject, grants, subscription_revision, updated_ms) VALUES ($1, $2, $3, $4)
     ON CONFLICT (subject) DO UPDATE SET
         grants = excluded.grants, subscription_revision = excluded.subscription_revision,
         updated_ms = excluded.updated_ms",
);
static LIST: Statement = Statement::new(
    "SELECT subject, subscription, subscription_revision FROM subjects
     WHERE subscription IS NOT NULL AND subject > $1
       AND (CAST($2 AS TEXT) IS NULL OR subscription_tier = $2)
       AND (CAST($3 AS TEXT) IS NULL OR subscription_state = $3)
     ORDER BY subject LIMIT $4",
);
static WRITE_NEXT_MOMENT: Statement =
    Statement::new("UPDATE subjects SET next_moment_ms = $2 WHERE subject = $1");
static DUE: Statement = Statement::new(
    "SELECT subject FROM subjects WHERE next_moment_ms <= $1 ORDER BY next_moment_ms, subject LIMIT $2",
);
// Not by a range of names, whose order is the database's own.
static BEGINNING_WITH: Statement = Statement::new(
    "SELECT subject FROM subjects WHERE substr(subject, 1, length($1)) = $1 AND subject > $2
     ORDER BY subject LIMIT $3",
);
static HOLDING: Statement = Statement::new(
    "SELECT subject FROM subjects WHERE book LIKE '%\"' || $1 || '\"%' OR sessions LIKE '%\"' || $1 || '\"%'
     ORDER BY subject LIMIT $2",
);

/// Reads one subject.
pub async fn read(database: &Database, subject: &str) -> Result<SubjectRow, StoreError> {
    match database.fetch_first(&READ, values![subject]).await? {
        Some(row) => read_row(&row).map(|(_, row)| row),
        None => Ok(SubjectRow::default()),
    }
}

/// Locks and reads the rows of `subjects` until the transaction ends. A subject without a row may be missing in the
/// answer, and is locked all the same.
pub async fn lock(tx: &mut Tx<'_>, subjects: &[&str]) -> Result<BTreeMap<String, SubjectRow>, StoreError> {
    let names = json_rows(&subject_rows(subjects))?;
    let mut found = read_rows(&tx.fetch_all(&LOCK, values![names.as_str()]).await?)?;
    let missing: Vec<&str> =
        subjects.iter().copied().filter(|subject| !found.contains_key(*subject)).collect();
    if tx.has_many_writers() && !missing.is_empty() {
        // A row that is not there cannot be locked, and two transactions must not both take it for new.
        let names = json_rows(&subject_rows(&missing))?;
        tx.execute(&CREATE, values![names.as_str()]).await?;
        found.append(&mut read_rows(&tx.fetch_all(&LOCK, values![names]).await?)?);
    }
    Ok(found)
}

/// What those of `subjects` have bought that have bought anything. Not locked.
pub async fn subscriptions_in(
    tx: &mut Tx<'_>,
    subjects: &[&str],
) -> Result<BTreeMap<String, Subscription>, StoreError> {
    let rows = tx.fetch_all(&SUBSCRIPTIONS, values![json_rows(&subject_rows(subjects))?]).await?;
    rows.iter().map(|row| Ok((row.text(0)?, from_json("a subscription", &row.text(1)?)?))).collect()
}

/// Writes books back, all in one statement. Their subjects are locked.
pub async fn write_books(tx: &mut Tx<'_>, books: &[BookWrite<'_>], now_ms: i64) -> Result<(), StoreError> {
    #[derive(Serialize)]
    struct Written<'a> {
        subject: &'a str,
        book: String,
        tier_claim: Option<&'a str>,
        sessions: String,
        grants: String,
        revision: i64,
    }
    if books.is_empty() {
        return Ok(());
    }
    let rows = books.iter().map(|write| {
        let book = to_json("a book", write.book)?;
        let sessions = to_json("a subject's sessions", write.sessions)?;
        let grants = to_json("a subject's grants", &write.grants)?;
        let (subject, tier_claim, revision) = (write.subject, write.tier_claim, write.revision);
        Ok(Written { subject, book, tier_claim, sessions, grants, revision })
    });
    let rows = rows.collect::<Result<Vec<_>, StoreError>>()?;
    tx.execute(&WRITE_BOOKS, values![json_rows(&rows)?, now_ms]).await.map(drop)
}

/// Writes a subscription, or its absence, and what it became into its history. The subject is locked.
pub async fn write_subscription(
    tx: &mut Tx<'_>,
    subject: &str,
    subscription: Option<&Subscription>,
    revision: i64,
    now_ms: i64,
) -> Result<(), StoreError> {
    let text = subscription.map(|subscription| to_json("a subscription", subscription)).transpose()?;
    // Found by what it is now: of one whose end had passed before it was written no moment is to come.
    let settled = subscription.map(|subscription| subscription.at(now_ms));
    let tier = settled.as_ref().map(|settled| settled.tier.as_str());
    let state = settled.as_ref().map(|settled| state_text(settled.state)).transpose()?;
    let next_ms = subscription.and_then(|subscription| subscription.next_notice_ms(now_ms));
    let values = values![subject, text.as_deref(), tier, state.as_deref(), next_ms, revision, now_ms];
    tx.execute(&WRITE_SUBSCRIPTION, values).await?;
    super::history::append(tx, subject, subscription, now_ms).await
}

/// Writes a bypass, or its absence. The subject is locked.
pub async fn write_bypass(
    tx: &mut Tx<'_>,
    subject: &str,
    bypass: Option<&Bypass>,
    revision: i64,
    now_ms: i64,
) -> Result<(), StoreError> {
    let text = bypass.map(|bypass| to_json("a bypass", bypass)).transpose()?;
    tx.execute(&WRITE_BYPASS, values![subject, text.as_deref(), revision, now_ms]).await.map(drop)
}

/// Writes all grants of a subject. The subject is locked.
pub async fn write_grants(
    tx: &mut Tx<'_>,
    subject: &str,
    grants: &[Grant],
    revision: i64,
    now_ms: i64,
) -> Result<(), StoreError> {
    let text = to_json("a subject's grants", &grants)?;
    tx.execute(&WRITE_GRANTS, values![subject, text, revision, now_ms]).await.map(drop)
}

/// At most `limit` subscriptions of subjects after `after`, by subject.
pub async fn list(
    database: &Database,
    after: &str,
    tier: Option<&str>,
    state: Option<tollgate_policy::subscription::SubscriptionState>,
    limit: i64,
) -> Result<Vec<ListedSubscription>, StoreError> {
    let state = state.map(state_text).transpose()?;
    let rows = database.fetch_all(&LIST, values![after, tier, state.as_deref(), limit]).await?;
    rows.iter()
        .map(|row| {
            Ok(ListedSubscription {
                subject: row.text(0)?,
                subscription: from_json("a subscription", &row.text(1)?)?,
                revision: row.int(2)?,
            })
        })
        .collect()
}

/// At most `limit` subjects to whose subscriptions something happened by itself up to `now_ms` (Unix ms), or is to be told of
/// them. Not locked.
pub async fn due(database: &Database, now_ms: i64, limit: i64) -> Result<Vec<String>, StoreError> {
    database.fetch_all(&DUE, values![now_ms, limit]).await?.iter().map(|row| row.text(0)).collect()
}

/// Writes when the subject is due again; nothing else of it. The subject is locked.
pub async fn write_next_moment(
    tx: &mut Tx<'_>,
    subject: &str,
    next_ms: Option<i64>,
) -> Result<(), StoreError> {
    tx.execute(&WRITE_NEXT_MOMENT, values![subject, next_ms]).await.map(drop)
}

/// At most `limit` subjects that `session` knows. Reads all books: only for an edge that missed changes which
/// have been forgotten since.
pub async fn holding(database: &Database, session: &str, limit: i64) -> Result<Vec<String>, StoreError> {
    database.fetch_all(&HOLDING, values![session, limit]).await?.iter().map(|row| row.text(0)).collect()
}

/// At most `limit` subjects after `after` whose names begin with `prefix`.
pub async fn beginning_with(
    database: &Database,
    prefix: &str,
    after: &str,
    limit: i64,
) -> Result<Vec<String>, StoreError> {
    let rows = database.fetch_all(&BEGINNING_WITH, values![prefix, after, limit]).await?;
    rows.iter().map(|row| row.text(0)).collect()
}

fn subject_rows(subjects: &[&str]) -> Vec<serde_json::Value> {
    subjects.iter().map(|subject| serde_json::json!({ "subject": subject })).collect()
}

fn read_rows(rows: &[Row]) -> Result<BTreeMap<String, SubjectRow>, StoreError> {
    rows.iter().map(read_row).collect()
}

fn read_row(row: &Row) -> Result<(String, SubjectRow), StoreError> {
    let (subscription, bypass) = (row.try_text(3)?, row.try_text(5)?);
    let read = SubjectRow {
        book: from_json("a book", &row.text(1)?)?,
        tier_claim: row.try_text(2)?,
        subscription: subscription.map(|text| from_json("a subscription", &text)).transpose()?,
        subscription_revision: row.int(4)?,
        bypass: bypass.map(|text| from_json("a bypass", &text)).transpose()?,
        sessions: from_json("a subject's sessions", &row.text(6)?)?,
        grants: from_json("a subject's grants", &row.text(7)?)?,
    };
    Ok((row.text(0)?, read))
}

/// A subscription's state, as it is kept or as it is shown, in a column of its own.
pub(super) fn state_text(state: impl Serialize) -> Result<String, StoreError> {
    Ok(to_json("a subscription's state", &state)?.trim_matches('"').to_owned())
}
