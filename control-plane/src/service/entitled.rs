//! By what a subject's limits are told: its own subscription and claim, or of a member its organisation's subscription.

use std::collections::{BTreeMap, BTreeSet};

use tollgate_policy::compile::{CompiledLimit, CompiledTier};
use tollgate_policy::document::Scope;
use tollgate_policy::lease::{Book, Terms};
use tollgate_policy::subscription::{Grant, Subscription, grants};

use super::members::organization_of;
use super::sync::is_subject;
use super::{ControlPlane, InForce, Invalid, ServiceError};
use crate::store::subjects::SubjectRow;
use crate::store::{StoreError, Tx, sessions, subjects};

/// By what a subject's limits are told.
#[derive(Debug, Clone, Copy)]
pub(super) struct Entitled<'a> {
    scope: Scope,
    subscription: Option<&'a Subscription>,
    tier_claim: Option<&'a str>,
    grants: &'a [Grant],
    book: &'a Book,
}

/// The organisation of a member.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Organization {
    /// Such as `org:acme`.
    pub subject: String,
    /// What it has bought.
    pub subscription: Option<Subscription>,
}

/// The tier in force.
#[derive(Debug)]
pub(super) struct TierInForce<'a> {
    /// The tier.
    pub tier: &'a CompiledTier,
    /// Where it comes from: `subscription`, `claim` or `default`.
    pub from: &'static str,
    /// Its limits of this subject's scope, with its own maximums.
    pub limits: Vec<CompiledLimit>,
}

impl<'a> Entitled<'a> {
    /// Of a subject with this row; `organization` is that of a member. What a member's token claims stands in its own row:
    /// it came with the newest of its tokens.
    pub fn of(row: &'a SubjectRow, organization: Option<&'a Organization>) -> Self {
        let (scope, subscription) = match organization {
            None => (Scope::Subject, row.subscription.as_ref()),
            Some(organization) => (Scope::Member, organization.subscription.as_ref()),
        };
        Self {
            scope,
            subscription,
            tier_claim: row.tier_claim.as_deref(),
            grants: &row.grants,
            book: &row.book,
        }
    }

    /// The subject's limits, as its book needs them.
    pub fn terms(&self, in_force: &InForce, now_ms: i64) -> Terms {
        let Some(policy) = &in_force.policy else {
            return Terms { grants: self.grants.to_vec(), ..Terms::default() };
        };
        let (subscription, claim) = (self.subscription, self.tier_claim);
        Terms::of(&policy.compiled, subscription, claim, self.scope, self.grants, now_ms)
    }

    /// The grants as edges are told of them: with them a limit has the maximum of its window of now.
    pub fn told_grants(&self, in_force: &InForce, now_ms: i64) -> Vec<Grant> {
        let mut told = self.grants.to_vec();
        if !told.is_empty() || self.book.has_drawn() {
            // A view changes nothing of the book's own.
            self.book.clone().tell(&self.terms(in_force, now_ms), &mut told, now_ms);
        }
        told
    }

    /// The tier in force, if any.
    pub fn tier<'p>(&self, in_force: &'p InForce, now_ms: i64) -> Option<TierInForce<'p>> {
        let policy = &in_force.policy.as_ref()?.compiled;
        let subscription = self.subscription;
        let claimed = self.tier_claim.filter(|name| policy.tier(name).is_some());
        let tier = policy.tier_in_force(subscription, claimed, now_ms)?;
        let bought = subscription.filter(|subscription| subscription.in_force(now_ms));
        let from = match (subscription, bought) {
            (_, Some(_)) => "subscription",
            (None, _) if claimed.is_some() => "claim",
            _ => "default",
        };
        let overrides = bought.map(|bought| bought.overrides.clone()).unwrap_or_default();
        let mut limits = policy.limits_of(tier, &overrides);
        grants::raise_all(&mut limits, &self.told_grants(in_force, now_ms), now_ms);
        limits.retain(|limit| limit.scope == self.scope);
        Some(TierInForce { tier, from, limits })
    }
}

impl ControlPlane {
    /// A subject as last written, with sessions closed that are, and its organisation where it is a member.
    pub(super) async fn read_known(
        &self,
        subject: &str,
    ) -> Result<(SubjectRow, Option<Organization>), ServiceError> {
        check_known_subject(subject)?;
        let mut row = subjects::read(&self.database, subject).await?;
        let named = row.knowing();
        let named: Vec<&str> = named.iter().map(String::as_str).collect();
        // A lock, to close sessions for good, is not worth a look: a view closes them for itself.
        let closed = sessions::closed_of(&self.database, &named).await?;
        for (session, heard_ms) in closed {
            row.book.close(&session, heard_ms, self.session_ttl_ms());
        }
        let organization = match organization_of(subject) {
            Some(name) => {
                let subscription = subjects::read(&self.database, &name).await?.subscription;
                Some(Organization { subject: name, subscription })
            }
            None => None,
        };
        Ok((row, organization))
    }

    /// Locks a subject, with sessions closed that are, and reads its organisation where it is a member.
    pub(super) async fn lock_known(
        &self,
        tx: &mut Tx<'_>,
        subject: &str,
    ) -> Result<(SubjectRow, Option<Organization>), ServiceError> {
        check_known_subject(subject)?;
        let mut row = super::subscriptions::lock(tx, subject).await?;
        let named = row.knowing();
        let named: Vec<&str> = named.iter().map(String::as_str).collect();
        for (session, heard_ms) in sessions::closed_among(tx, &named).await? {
            row.book.close(&session, heard_ms, self.session_ttl_ms());
            row.sessions.remove(&session);
        }
        Ok((row, organizations_in(tx, &[subject]).await?.remove(subject)))
    }

    /// How long after it was last heard a session may have used its leases, ms.
    pub(super) fn session_ttl_ms(&self) -> u64 {
        self.settings.lease_ttl_ms.saturating_add(self.settings.lease_margin_ms)
    }
}

/// The organisations of those of `names` that are members, by member; nothing is asked where none is. They are not locked: a
/// change of what one bought may come before or after, as that of any subject may.
pub(super) async fn organizations_in(
    tx: &mut Tx<'_>,
    names: &[&str],
) -> Result<BTreeMap<String, Organization>, StoreError> {
    let members: BTreeMap<&str, String> =
        names.iter().filter_map(|name| Some((*name, organization_of(name)?))).collect();
    if members.is_empty() {
        return Ok(BTreeMap::new());
    }
    let wanted: BTreeSet<&str> = members.values().map(String::as_str).collect();
    let bought = subjects::subscriptions_in(tx, &wanted.into_iter().collect::<Vec<_>>()).await?;
    let organization = |subject: String| {
        let subscription = bought.get(&subject).cloned();
        Organization { subject, subscription }
    };
    Ok(members.into_iter().map(|(member, name)| (member.to_owned(), organization(name))).collect())
}

/// Refuses what cannot be a subject, a member being one.
pub(super) fn check_known_subject(subject: &str) -> Result<(), ServiceError> {
    match is_subject(subject) {
        true => Ok(()),
        false => Err(ServiceError::invalid(
            Invalid::Subject,
            "Name the subject as user:…, org:…, anon:… or member:<organisation>/<user> with 1 to 256 characters and no \
             control characters.",
        )),
    }
}
