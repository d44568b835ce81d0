//! Subscriptions: set, changed, deleted and looked at; and what a subject has at this moment. A change is felt at every
//! edge that knows the subject, because it tells each session in the subject's book.

use std::borrow::Cow;
use std::collections::BTreeMap;

use tollgate_policy::compile::CompiledLimit;
use tollgate_policy::document::{Maximum, Scope, UNITS_MAX};
use tollgate_policy::lease::{Standing, Terms};
use tollgate_policy::subscription::{ScheduledChange, Subscription, SubscriptionState};
use tollgate_policy::window::{CALENDAR_END_MS, CALENDAR_START_MS};

use super::entitled::Entitled;
use super::happenings::{self, Happening};
use super::members::organization_of;
use super::sync::is_subject;
use super::thresholds::Passage;
use super::{ControlPlane, InForce, Invalid, NotFound, ServiceError};
use crate::store::audit::Author;
use crate::store::changes::ChangeKind;
use crate::store::subjects::{Bypass, ListedSubscription, SubjectRow};
use crate::store::{Tx, audit, changes, subjects};

/// Most overrides of one subscription.
pub const OVERRIDES_MAX: usize = 64;

/// Most changes that are scheduled of one subscription.
pub const CHANGES_MAX: usize = 32;

/// Who writes down what happened to subscriptions by itself.
pub(super) const MOMENTS_ACTOR: &str = "job:moments";

/// A subscription as it is asked for: what is left out is taken over or defaulted.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Wish {
    /// The tier. Needed for a new subscription.
    pub tier: Option<String>,
    /// Default: active.
    pub state: Option<SubscriptionState>,
    /// Default: the anchor it has, else now.
    pub anchor_ms: Option<i64>,
    /// `Some(None)`: it no longer expires.
    pub expires_at_ms: Option<Option<i64>>,
    /// `Some(None)`: it is on no trial, and has had none.
    pub trial_ends_at_ms: Option<Option<i64>>,
    /// `Some(None)`: a period is a billing month.
    pub period_ends_at_ms: Option<Option<i64>>,
    /// Since when it is of its tier. Default: since it was given the tier.
    pub tier_since_ms: Option<i64>,
    /// All that is scheduled; it replaces what was.
    pub changes: Option<Vec<ScheduledChange>>,
    /// All overrides; they replace those there were.
    pub overrides: Option<BTreeMap<String, Maximum>>,
}

/// A subject at a moment.
#[derive(Debug, Clone, PartialEq)]
pub struct SubjectView {
    /// The subject.
    pub subject: String,
    /// The tier in force, if any.
    pub tier: Option<String>,
    /// Where it comes from: `subscription`, `claim`, `default` or `none`.
    pub tier_from: &'static str,
    /// Features of the tier.
    pub features: Vec<String>,
    /// What the subject has bought.
    pub subscription: Option<Subscription>,
    /// Testing mode, in force or not any more.
    pub bypass: Option<Bypass>,
    /// Rises with each change of the subscription or the bypass.
    pub revision: i64,
    /// The organisation, of a member: its subscription says what the member's limits are.
    pub organization: Option<String>,
    /// Each limit of the tier, with the subject's own maximums.
    pub limits: Vec<LimitView>,
}

/// A limit of a subject at a moment.
#[derive(Debug, Clone, PartialEq)]
pub struct LimitView {
    /// The limit, with the subject's own maximum.
    pub limit: CompiledLimit,
    /// How it stands; none of the size of one request, of which nothing is kept.
    pub standing: Option<Standing>,
}

impl ControlPlane {
    /// Makes or replaces a subscription: what the wish leaves out is defaulted.
    pub async fn set_subscription(
        &self,
        author: &Author,
        subject: &str,
        wish: &Wish,
    ) -> Result<ListedSubscription, ServiceError> {
        let make = |_: &InForce, before: Option<&Subscription>| {
            let tier = wish.tier.clone().unwrap_or_default();
            Ok(Subscription {
                tier,
                state: wish.state.unwrap_or_default(),
                // A billing month must not move because a tier was changed in the middle of it.
                anchor_ms: wish.anchor_ms.or(before.map(|b| b.anchor_ms)).unwrap_or(author.now_ms),
                expires_at_ms: wish.expires_at_ms.flatten(),
                trial_ends_at_ms: wish.trial_ends_at_ms.flatten(),
                period_ends_at_ms: wish.period_ends_at_ms.flatten(),
                tier_since_ms: wish.tier_since_ms,
                changes: wish.changes.clone().unwrap_or_default(),
                held: None,
                overrides: wish.overrides.clone().unwrap_or_default(),
            })
        };
        self.write_subscription(author, subject, "subscription.set", make).await
    }

    /// Changes a subscription: what the wish leaves out stays.
    pub async fn change_subscription(
        &self,
        author: &Author,
        subject: &str,
        wish: &Wish,
    ) -> Result<ListedSubscription, ServiceError> {
        let make = |_: &InForce, before: Option<&Subscription>| {
            let before = before.ok_or(ServiceError::NotFound(NotFound::Subscription))?;
            Ok(Subscription {
                tier: wish.tier.clone().unwrap_or_else(|| before.tier.clone()),
                state: wish
                    .state
                    .unwrap_or_else(|| state_with_end(before, wish.expires_at_ms, author.now_ms)),
                anchor_ms: wish.anchor_ms.unwrap_or(before.anchor_ms),
                expires_at_ms: wish.expires_at_ms.unwrap_or(before.expires_at_ms),
                trial_ends_at_ms: wish.trial_ends_at_ms.unwrap_or(before.trial_ends_at_ms),
                period_ends_at_ms: wish.period_ends_at_ms.unwrap_or(before.period_ends_at_ms),
                tier_since_ms: wish.tier_since_ms.or(before.tier_since_ms),
                changes: wish.changes.clone().unwrap_or_else(|| before.changes.clone()),
                held: before.held.clone(),
                overrides: wish.overrides.clone().unwrap_or_else(|| before.overrides.clone()),
            })
        };
        self.write_subscription(author, subject, "subscription.change", make).await
    }

    pub(super) async fn write_subscription(
        &self,
        author: &Author,
        subject: &str,
        action: &str,
        make: impl Fn(&InForce, Option<&Subscription>) -> Result<Subscription, ServiceError> + Send + Sync,
    ) -> Result<ListedSubscription, ServiceError> {
        let in_force = &self.newest().await?;
        let make = &|before: Option<&Subscription>| make(in_force, before);
        let written = self
            .database
            .transact("write subscription", |tx| {
                Box::pin(async move { write_in(tx, in_force, author, subject, action, make).await })
            })
            .await?;
        self.hub.poke();
        Ok(written)
    }

    /// Deletes a subscription. What was used stays used.
    pub async fn delete_subscription(&self, author: &Author, subject: &str) -> Result<(), ServiceError> {
        check_subject(subject)?;
        let in_force = &self.newest().await?;
        self.database
            .transact("delete subscription", |tx| {
                Box::pin(async move {
                    let row = lock_settled(tx, in_force, subject, author.now_ms).await?;
                    if row.subscription.is_none() {
                        return Err(ServiceError::NotFound(NotFound::Subscription));
                    }
                    write(tx, in_force, author, subject, "subscription.delete", &row, None).await
                })
            })
            .await?;
        self.hub.poke();
        Ok(())
    }

    /// A subject's subscription.
    pub async fn subscription(&self, subject: &str) -> Result<ListedSubscription, ServiceError> {
        check_subject(subject)?;
        let row = subjects::read(&self.database, subject).await?;
        let subscription = row.subscription.ok_or(ServiceError::NotFound(NotFound::Subscription))?;
        Ok(ListedSubscription {
            subject: subject.to_owned(),
            subscription,
            revision: row.subscription_revision,
        })
    }

    /// At most `limit` subscriptions of subjects after `after`.
    pub async fn subscriptions(
        &self,
        after: &str,
        tier: Option<&str>,
        state: Option<SubscriptionState>,
        limit: i64,
    ) -> Result<Vec<ListedSubscription>, ServiceError> {
        Ok(subjects::list(&self.database, after, tier, state, limit).await?)
    }

    /// What a subject has at this moment: its tier and why, and how its limits stand.
    pub async fn subject(&self, subject: &str) -> Result<SubjectView, ServiceError> {
        let now_ms = self.clock.now_ms();
        let in_force = self.newest().await?;
        let (row, organization) = self.read_known(subject).await?;
        let entitled = Entitled::of(&row, organization.as_ref());
        let tier = entitled.tier(&in_force, now_ms);
        let standings = row.book.standings(&entitled.terms(&in_force, now_ms), now_ms);
        let limits = tier.iter().flat_map(|tier| &tier.limits).map(|limit| LimitView {
            standing: standings.iter().find(|standing| *standing.limit == *limit.name).cloned(),
            limit: limit.clone(),
        });
        Ok(SubjectView {
            subject: subject.to_owned(),
            tier: tier.as_ref().map(|tier| tier.tier.name.clone()),
            tier_from: tier.as_ref().map_or("none", |tier| tier.from),
            features: tier.as_ref().map(|t| t.tier.features.iter().cloned().collect()).unwrap_or_default(),
            limits: limits.collect(),
            revision: row.subscription_revision,
            organization: organization.map(|organization| organization.subject),
            subscription: row.subscription,
            bypass: row.bypass,
        })
    }
}

/// Refuses what cannot be a subject that buys.
pub fn check_subject(subject: &str) -> Result<(), ServiceError> {
    let message = match (is_subject(subject), organization_of(subject)) {
        (true, None) => return Ok(()),
        (_, Some(organization)) => format!("A member has what its organisation has: name {organization:?}."),
        (false, None) => {
            "Name the subject as user:…, org:… or anon:… with 1 to 256 characters and no control characters."
                .to_owned()
        }
    };
    Err(ServiceError::invalid(Invalid::Subject, message))
}

/// Locks and reads a subject.
pub(super) async fn lock(tx: &mut Tx<'_>, subject: &str) -> Result<SubjectRow, ServiceError> {
    let mut rows = subjects::lock(tx, &[subject]).await?;
    Ok(rows.remove(subject).unwrap_or_default())
}

/// Makes or changes a subscription within a transaction, if it is a change: `make` gets the subscription as it is at the
/// author's moment, and gives what it shall be. One that changes its tier is of the new one from that moment on, unless
/// `make` says since when. Once the transaction is committed, `hub.poke()` tells edges at once instead of in a moment.
pub async fn write_in(
    tx: &mut Tx<'_>,
    in_force: &InForce,
    author: &Author,
    subject: &str,
    action: &str,
    make: impl Fn(Option<&Subscription>) -> Result<Subscription, ServiceError> + Send + Sync,
) -> Result<ListedSubscription, ServiceError> {
    let dated = |before: Option<&Subscription>| Ok(with_tier_since(make(before)?, before, author.now_ms));
    write_made(tx, in_force, author, subject, action, dated).await
}

/// As [`write_in`], where `make` says itself since when a tier is had, or that it is since the anchor. Who had a trial has
/// had it: where what is made knows of none, the one that was is kept in mind.
pub(super) async fn write_as_made_in(
    tx: &mut Tx<'_>,
    in_force: &InForce,
    author: &Author,
    subject: &str,
    action: &str,
    make: impl Fn(Option<&Subscription>) -> Result<Subscription, ServiceError> + Send + Sync,
) -> Result<ListedSubscription, ServiceError> {
    let mindful = |before: Option<&Subscription>| {
        let made = make(before)?;
        let had = before.and_then(|before| before.trial_ends_at_ms);
        Ok(Subscription { trial_ends_at_ms: made.trial_ends_at_ms.or(had), ..made })
    };
    write_made(tx, in_force, author, subject, action, mindful).await
}

async fn write_made(
    tx: &mut Tx<'_>,
    in_force: &InForce,
    author: &Author,
    subject: &str,
    action: &str,
    make: impl Fn(Option<&Subscription>) -> Result<Subscription, ServiceError> + Send + Sync,
) -> Result<ListedSubscription, ServiceError> {
    check_subject(subject)?;
    let row = lock_settled(tx, in_force, subject, author.now_ms).await?;
    let before = row.subscription.as_ref();
    let mut subscription = make(before)?;
    subscription.changes.sort_by_key(|change| change.at_ms);
    // What a pause holds back is of what there was. Whoever changes that meanwhile has said what shall be.
    let told =
        |s: &Subscription| (s.tier.clone(), s.state, s.changes.clone(), s.expires_at_ms, s.trial_ends_at_ms);
    if before.is_some_and(|before| before.held == subscription.held && told(before) != told(&subscription)) {
        subscription.held = None;
    }
    let unchanged = before == Some(&subscription);
    let revision = row.subscription_revision + i64::from(!unchanged);
    if !unchanged {
        check_subscription(&subscription, before, in_force)?;
        write(tx, in_force, author, subject, action, &row, Some(&subscription)).await?;
    }
    Ok(ListedSubscription { subject: subject.to_owned(), subscription, revision })
}

/// Whose end was and is moved is not over by it any more.
fn state_with_end(before: &Subscription, moved: Option<Option<i64>>, now_ms: i64) -> SubscriptionState {
    let ended = before.expires_at_ms.is_some_and(|end_ms| end_ms <= now_ms);
    let goes_on = moved.is_some_and(|moved| moved.is_none_or(|end_ms| now_ms < end_ms));
    match before.state {
        SubscriptionState::Expired if ended && goes_on => SubscriptionState::Active,
        state => state,
    }
}

fn with_tier_since(made: Subscription, before: Option<&Subscription>, now_ms: i64) -> Subscription {
    let tier_since_ms = match before {
        Some(before) if before.tier != made.tier && before.tier_since_ms == made.tier_since_ms => {
            Some(now_ms)
        }
        Some(before) if before.tier == made.tier => made.tier_since_ms.or(before.tier_since_ms),
        _ => made.tier_since_ms.or(Some(now_ms)),
    };
    Subscription { tier_since_ms, ..made }
}

/// Locks and reads a subject; what happened to its subscription by itself up to `now_ms` is written into it.
pub(super) async fn lock_settled(
    tx: &mut Tx<'_>,
    in_force: &InForce,
    subject: &str,
    now_ms: i64,
) -> Result<SubjectRow, ServiceError> {
    let row = lock(tx, subject).await?;
    settle(tx, in_force, subject, row, now_ms).await
}

/// Writes down what happened to a subject's subscription by itself up to `now_ms`. The subject is locked.
pub(super) async fn settle(
    tx: &mut Tx<'_>,
    in_force: &InForce,
    subject: &str,
    row: SubjectRow,
    now_ms: i64,
) -> Result<SubjectRow, ServiceError> {
    let Some(Cow::Owned(settled)) = row.subscription.as_ref().map(|bought| bought.at(now_ms)) else {
        return Ok(row);
    };
    let author = Author { actor: MOMENTS_ACTOR.to_owned(), remote: String::new(), now_ms };
    let at_ms = row.subscription.as_ref().and_then(|bought| bought.last_moment_ms(now_ms)).unwrap_or(now_ms);
    let write = Write { author: &author, subject, action: "subscription.moment", at_ms };
    // Edges know already: what they hold says the same of this moment. So the revision stays, and nobody is told.
    let revision = row.subscription_revision;
    write.record(tx, in_force, &row, Some(&settled), revision).await?;
    Ok(SubjectRow { subscription: Some(settled), ..row })
}

async fn write(
    tx: &mut Tx<'_>,
    in_force: &InForce,
    author: &Author,
    subject: &str,
    action: &str,
    row: &SubjectRow,
    after: Option<&Subscription>,
) -> Result<(), ServiceError> {
    let write = Write { author, subject, action, at_ms: author.now_ms };
    write.record(tx, in_force, row, after, row.subscription_revision + 1).await?;
    tell(tx, subject, row, author.now_ms).await
}

/// One write of a subscription.
struct Write<'a> {
    author: &'a Author,
    subject: &'a str,
    action: &'a str,
    /// When it happened, Unix ms: a moment that was written down later was before.
    at_ms: i64,
}

impl Write<'_> {
    /// Writes a subscription and what is kept of the change: every write of one comes through here.
    async fn record(
        &self,
        tx: &mut Tx<'_>,
        in_force: &InForce,
        row: &SubjectRow,
        after: Option<&Subscription>,
        revision: i64,
    ) -> Result<(), ServiceError> {
        let Self { author, subject, action, .. } = self;
        subjects::write_subscription(tx, subject, after, revision, author.now_ms).await?;
        let happened = self.happened(in_force, row, after);
        happenings::note(tx, author.now_ms, &happened).await?;
        let before = row.subscription.as_ref().and_then(|s| serde_json::to_value(s).ok());
        let after = after.and_then(|s| serde_json::to_value(s).ok());
        Ok(audit::append(tx, author, action, subject, before.as_ref(), after.as_ref()).await?)
    }

    /// What whoever listens is told of it.
    fn happened(&self, in_force: &InForce, row: &SubjectRow, after: Option<&Subscription>) -> Vec<Happening> {
        let (subject, at_ms, now_ms) = (self.subject.to_owned(), self.at_ms, self.author.now_ms);
        let before = row.subscription.as_ref();
        let tier = |subscription, moment_ms| {
            let policy = &in_force.policy.as_ref()?.compiled;
            let tier = policy.tier_in_force(subscription, row.tier_claim.as_deref(), moment_ms);
            tier.map(|tier| tier.name.clone())
        };
        let mut happened = Vec::new();
        let (from, to) = (tier(before, at_ms.saturating_sub(1)), tier(after, now_ms));
        if from != to {
            happened.push(Happening::TierChanged { subject: subject.clone(), from, to, at_ms });
        }
        let is_over = |bought: &&Subscription| bought.state == SubscriptionState::Expired;
        if let (Some(over), None) = (after.filter(is_over), before.filter(is_over)) {
            let tier = over.tier.clone();
            happened.push(Happening::SubscriptionExpired { subject, tier, at_ms });
        }
        happened.extend(after.and_then(|bought| trial_ending(self.subject, bought, now_ms)));
        let terms = |subscription, moment_ms| {
            let (claim, grants) = (row.tier_claim.as_deref(), &row.grants);
            let policy = &in_force.policy.as_ref()?.compiled;
            Some(Terms::of(policy, subscription, claim, Scope::Subject, grants, moment_ms))
        };
        if let (Some(held), Some(terms)) = (terms(before, at_ms.saturating_sub(1)), terms(after, now_ms)) {
            let (subject, book, terms) = (self.subject, &row.book, &terms);
            Passage { subject, before: book, after: book, terms, now_ms }.fallen(&held, &mut happened);
        }
        happened
    }
}

/// That a trial ends soon, if it does.
pub(super) fn trial_ending(subject: &str, bought: &Subscription, now_ms: i64) -> Option<Happening> {
    let ends_at_ms = bought.trial_ending_ms(now_ms)?;
    Some(Happening::TrialEnding { subject: subject.to_owned(), tier: bought.tier.clone(), ends_at_ms })
}

/// Tells every session that knows the subject that its entitlements changed. The last thing that a transaction does.
pub(super) async fn tell(
    tx: &mut Tx<'_>,
    subject: &str,
    row: &SubjectRow,
    now_ms: i64,
) -> Result<(), ServiceError> {
    let told = row.knowing();
    let told: Vec<_> =
        told.iter().map(|session| (ChangeKind::Entitlements, subject, session.as_str())).collect();
    Ok(changes::append(tx, &told, now_ms).await?)
}

/// What was so before is not looked at: a tier or a limit may be gone from the policy since, and whoever has it must still be
/// able to cancel.
fn check_subscription(
    subscription: &Subscription,
    before: Option<&Subscription>,
    in_force: &InForce,
) -> Result<(), ServiceError> {
    let invalid = |rule, message: String| Err(ServiceError::invalid(rule, message));
    let Some(policy) = &in_force.policy else {
        return invalid(Invalid::NoPolicy, "Apply a policy first: it says which tiers there are.".to_owned());
    };
    let since_ms = subscription.tier_since_ms.unwrap_or(subscription.anchor_ms);
    let tier = policy.compiled.tier_since(&subscription.tier, since_ms);
    if tier.is_none() && before.is_none_or(|before| before.tier != subscription.tier) {
        let known: Vec<&str> = policy.compiled.tiers.keys().map(String::as_str).collect();
        let message = match subscription.tier.as_str() {
            "" => format!("Name the tier; the policy in force has: {}.", known.join(", ")),
            tier => format!("The policy in force has no tier {tier:?}; it has: {}.", known.join(", ")),
        };
        return invalid(Invalid::TierUnknown, message);
    }
    if subscription.overrides.len() > OVERRIDES_MAX {
        return invalid(Invalid::Subscription, format!("Give at most {OVERRIDES_MAX} overrides."));
    }
    let limits = tier.map(|tier| policy.compiled.limits_of(tier, &BTreeMap::new())).unwrap_or_default();
    let had = |name: &str| before.and_then(|before| before.overrides.get(name));
    for (name, maximum) in &subscription.overrides {
        if had(name).is_none() && !limits.iter().any(|limit| *limit.name == **name) {
            let known: Vec<&str> = limits.iter().map(|limit| &*limit.name).collect();
            let message = format!(
                "The tier {:?} has no limit {name:?}; it has: {}.",
                subscription.tier,
                known.join(", ")
            );
            return invalid(Invalid::LimitUnknown, message);
        }
        if maximum.units().is_some_and(|units| units > UNITS_MAX) {
            return invalid(
                Invalid::Subscription,
                format!("Override {name:?} with at most {UNITS_MAX} units, or with \"unlimited\"."),
            );
        }
    }
    if subscription.changes.len() > CHANGES_MAX {
        return invalid(Invalid::Subscription, format!("Schedule at most {CHANGES_MAX} changes."));
    }
    let was_scheduled = |change| before.is_some_and(|before| before.changes.contains(change));
    for change in subscription.changes.iter().filter(|change| !was_scheduled(*change)) {
        if let Some(tier) = change.tier.as_ref().filter(|tier| policy.compiled.tier(tier).is_none()) {
            let message = format!("The policy in force has no tier {tier:?} to change to.");
            return invalid(Invalid::TierUnknown, message);
        }
    }
    let moments = [
        Some(subscription.anchor_ms),
        subscription.expires_at_ms,
        subscription.trial_ends_at_ms,
        subscription.period_ends_at_ms,
        subscription.tier_since_ms,
    ];
    let mut moments =
        moments.into_iter().flatten().chain(subscription.changes.iter().map(|change| change.at_ms));
    if moments.any(|moment| !(CALENDAR_START_MS..CALENDAR_END_MS).contains(&moment)) {
        let message = "Give all moments as Unix time in milliseconds, of the years 1 to 9998.";
        return invalid(Invalid::Subscription, message.to_owned());
    }
    Ok(())
}
