//! Subscriptions: set, changed, deleted and looked at; and what a subject has at this moment. A change is felt at every
//! edge that knows the subject, because it tells each session in the subject's book.

use std::collections::BTreeMap;

use tollgate_policy::document::UNITS_MAX;
use tollgate_policy::lease::{Standing, Terms};
use tollgate_policy::subscription::{Subscription, SubscriptionState, effective_tier};
use tollgate_policy::window::{CALENDAR_END_MS, CALENDAR_START_MS};

use super::sync::is_subject;
use super::{ControlPlane, InForce, Invalid, NotFound, ServiceError};
use crate::store::audit::Author;
use crate::store::changes::ChangeKind;
use crate::store::subjects::{ListedSubscription, SubjectRow};
use crate::store::{Tx, audit, changes, sessions, subjects};

/// Most overrides of one subscription.
pub const OVERRIDES_MAX: usize = 64;

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
    /// All overrides; they replace those there were.
    pub overrides: Option<BTreeMap<String, u64>>,
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
    /// Rises with each change of the subscription.
    pub revision: i64,
    /// Each limit of the tier, with the subject's own maximums.
    pub limits: Vec<Standing>,
}

impl ControlPlane {
    /// Makes or replaces a subscription: what the wish leaves out is defaulted.
    pub async fn set_subscription(
        &self,
        author: &Author,
        subject: &str,
        wish: &Wish,
    ) -> Result<ListedSubscription, ServiceError> {
        let make = |before: Option<&Subscription>| {
            let tier = wish.tier.clone().unwrap_or_default();
            Ok(Subscription {
                tier,
                state: wish.state.unwrap_or_default(),
                // A billing month must not move because a tier was changed in the middle of it.
                anchor_ms: wish.anchor_ms.or(before.map(|b| b.anchor_ms)).unwrap_or(author.now_ms),
                expires_at_ms: wish.expires_at_ms.flatten(),
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
        let make = |before: Option<&Subscription>| {
            let before = before.ok_or(ServiceError::NotFound(NotFound::Subscription))?;
            Ok(Subscription {
                tier: wish.tier.clone().unwrap_or_else(|| before.tier.clone()),
                state: wish.state.unwrap_or(before.state),
                anchor_ms: wish.anchor_ms.unwrap_or(before.anchor_ms),
                expires_at_ms: wish.expires_at_ms.unwrap_or(before.expires_at_ms),
                overrides: wish.overrides.clone().unwrap_or_else(|| before.overrides.clone()),
            })
        };
        self.write_subscription(author, subject, "subscription.change", make).await
    }

    async fn write_subscription(
        &self,
        author: &Author,
        subject: &str,
        action: &str,
        make: impl Fn(Option<&Subscription>) -> Result<Subscription, ServiceError> + Send + Sync,
    ) -> Result<ListedSubscription, ServiceError> {
        check_subject(subject)?;
        let (in_force, make) = (&self.newest().await?, &make);
        let written = self
            .database
            .transact("write subscription", |tx| {
                Box::pin(async move {
                    let row = lock(tx, subject).await?;
                    let subscription = make(row.subscription.as_ref())?;
                    check_subscription(&subscription, in_force)?;
                    let revision = row.subscription_revision + 1;
                    let listed = ListedSubscription { subject: subject.to_owned(), subscription, revision };
                    if row.subscription.as_ref() != Some(&listed.subscription) {
                        write(tx, author, subject, action, &row, Some(&listed.subscription)).await?;
                        return Ok(listed);
                    }
                    Ok::<_, ServiceError>(ListedSubscription {
                        revision: row.subscription_revision,
                        ..listed
                    })
                })
            })
            .await?;
        self.hub.poke();
        Ok(written)
    }

    /// Deletes a subscription. What was used stays used.
    pub async fn delete_subscription(&self, author: &Author, subject: &str) -> Result<(), ServiceError> {
        check_subject(subject)?;
        self.database
            .transact("delete subscription", |tx| {
                Box::pin(async move {
                    let row = lock(tx, subject).await?;
                    if row.subscription.is_none() {
                        return Err(ServiceError::NotFound(NotFound::Subscription));
                    }
                    write(tx, author, subject, "subscription.delete", &row, None).await
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
        check_subject(subject)?;
        let now_ms = self.clock.now_ms();
        let in_force = self.newest().await?;
        // Read for its closed sessions' units in a transaction that changes nothing for good is not worth a lock: a view
        // shows what was last written, and closes sessions for itself.
        let mut row = subjects::read(&self.database, subject).await?;
        self.close_for_view(&mut row).await?;
        let policy = in_force.policy.as_ref().map(|policy| &policy.compiled);
        let claimed = row.tier_claim.as_deref().filter(|name| policy.is_some_and(|p| p.tier(name).is_some()));
        let default = policy.and_then(|policy| policy.default_tier.as_deref());
        let subscription = row.subscription.as_ref();
        let tier = effective_tier(subscription, claimed, default, now_ms);
        let tier_from = match (subscription, tier) {
            (_, None) => "none",
            (Some(subscription), Some(_)) if subscription.in_force(now_ms) => "subscription",
            (None, Some(_)) if claimed.is_some() => "claim",
            _ => "default",
        };
        let terms = policy.map_or_else(Terms::default, |policy| {
            Terms::of(policy, subscription, row.tier_claim.as_deref(), now_ms)
        });
        let compiled = tier.and_then(|tier| policy.and_then(|policy| policy.tier(tier)));
        Ok(SubjectView {
            subject: subject.to_owned(),
            tier: tier.map(str::to_owned),
            tier_from,
            features: compiled.map(|tier| tier.features.iter().cloned().collect()).unwrap_or_default(),
            limits: row.book.standings(&terms, now_ms),
            revision: row.subscription_revision,
            subscription: row.subscription,
        })
    }

    async fn close_for_view(&self, row: &mut SubjectRow) -> Result<(), ServiceError> {
        let named = row.book.sessions();
        let named: Vec<&str> = named.iter().map(String::as_str).collect();
        let closed = sessions::closed_of(&self.database, &named).await?;
        let ttl_ms = self.settings.lease_ttl_ms.saturating_add(self.settings.lease_margin_ms);
        for (session, heard_ms) in closed {
            row.book.close(&session, heard_ms, ttl_ms);
        }
        Ok(())
    }
}

/// Refuses what cannot be a subject.
pub fn check_subject(subject: &str) -> Result<(), ServiceError> {
    match is_subject(subject) {
        true => Ok(()),
        false => Err(ServiceError::invalid(
            Invalid::Subject,
            "Name the subject as user:…, org:… or anon:… with 1 to 256 characters and no control characters.",
        )),
    }
}

async fn lock(tx: &mut Tx<'_>, subject: &str) -> Result<SubjectRow, ServiceError> {
    let mut rows = subjects::lock(tx, &[subject]).await?;
    Ok(rows.remove(subject).unwrap_or_default())
}

async fn write(
    tx: &mut Tx<'_>,
    author: &Author,
    subject: &str,
    action: &str,
    row: &SubjectRow,
    after: Option<&Subscription>,
) -> Result<(), ServiceError> {
    let revision = row.subscription_revision + 1;
    subjects::write_subscription(tx, subject, after, revision, author.now_ms).await?;
    let before = row.subscription.as_ref().and_then(|s| serde_json::to_value(s).ok());
    let after = after.and_then(|s| serde_json::to_value(s).ok());
    audit::append(tx, author, action, subject, before.as_ref(), after.as_ref()).await?;
    let told = row.book.sessions();
    let told: Vec<_> =
        told.iter().map(|session| (ChangeKind::Subscription, subject, session.as_str())).collect();
    changes::append(tx, &told, author.now_ms).await?;
    Ok(())
}

fn check_subscription(subscription: &Subscription, in_force: &InForce) -> Result<(), ServiceError> {
    let invalid = |rule, message: String| Err(ServiceError::invalid(rule, message));
    let Some(policy) = &in_force.policy else {
        return invalid(Invalid::NoPolicy, "Apply a policy first: it says which tiers there are.".to_owned());
    };
    let Some(tier) = policy.compiled.tier(&subscription.tier) else {
        let known: Vec<&str> = policy.compiled.tiers.keys().map(String::as_str).collect();
        let message = match subscription.tier.as_str() {
            "" => format!("Name the tier; the policy in force has: {}.", known.join(", ")),
            tier => format!("The policy in force has no tier {tier:?}; it has: {}.", known.join(", ")),
        };
        return invalid(Invalid::TierUnknown, message);
    };
    if subscription.overrides.len() > OVERRIDES_MAX {
        return invalid(Invalid::Subscription, format!("Give at most {OVERRIDES_MAX} overrides."));
    }
    let limits = policy.compiled.limits_of(tier, &BTreeMap::new());
    for (name, units) in &subscription.overrides {
        if !limits.iter().any(|limit| *limit.name == **name) {
            let known: Vec<&str> = limits.iter().map(|limit| &*limit.name).collect();
            let message = format!(
                "The tier {:?} has no limit {name:?}; it has: {}.",
                subscription.tier,
                known.join(", ")
            );
            return invalid(Invalid::LimitUnknown, message);
        }
        if *units > UNITS_MAX {
            return invalid(
                Invalid::Subscription,
                format!("Override {name:?} with at most {UNITS_MAX} units."),
            );
        }
    }
    let moments = [Some(subscription.anchor_ms), subscription.expires_at_ms];
    if moments.into_iter().flatten().any(|moment| !(CALENDAR_START_MS..CALENDAR_END_MS).contains(&moment)) {
        let message =
            "Give anchor_ms and expires_at_ms as Unix time in milliseconds, of the years 1 to 9998.";
        return invalid(Invalid::Subscription, message.to_owned());
    }
    Ok(())
}
