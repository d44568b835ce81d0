//! Grants: extra units of a limit, bought as a top-up or given. Edges learn of them as of a change of the subscription, and
//! one ends by itself. Here they are given and taken away; `policy::lease` uses them up.

use tollgate_policy::document::UNITS_MAX;
use tollgate_policy::limit::LimitKind;
use tollgate_policy::subscription::Grant;

use super::subscriptions::{check_subject, lock, tell};
use super::{ControlPlane, InForce, Invalid, NotFound, ServiceError};
use crate::calendar::DAY_MS;
use crate::store::audit::Author;
use crate::store::subjects::SubjectRow;
use crate::store::{Tx, audit, subjects};

/// Most grants of one subject.
pub const GRANTS_MAX: usize = 64;

/// Longest id of a grant, in bytes.
pub const GRANT_ID_BYTES_MAX: usize = 128;

/// How long a grant that has expired is kept, ms: as long as a window in which it was used may last.
const KEPT_MS: i64 = 400 * DAY_MS;

impl ControlPlane {
    /// Gives a subject extra units. Given again under the same id it is given once; answers whether it is new.
    pub async fn add_grant(
        &self,
        author: &Author,
        subject: &str,
        wish: &Grant,
    ) -> Result<(Grant, bool), ServiceError> {
        check_subject(subject)?;
        let in_force = &self.newest().await?;
        let given = self
            .database
            .transact("add grant", |tx| {
                Box::pin(async move { add_in(tx, in_force, author, subject, wish).await })
            })
            .await?;
        self.hub.poke();
        Ok(given)
    }

    /// A subject's grants, the first to expire first; those that expired or are used up among them.
    pub async fn grants(&self, subject: &str) -> Result<Vec<Grant>, ServiceError> {
        check_subject(subject)?;
        Ok(subjects::read(&self.database, subject).await?.grants)
    }

    /// Takes a grant away. What was used of it stays used.
    pub async fn remove_grant(&self, author: &Author, subject: &str, id: &str) -> Result<(), ServiceError> {
        check_subject(subject)?;
        self.database
            .transact("remove grant", |tx| {
                Box::pin(async move {
                    let row = lock(tx, subject).await?;
                    let at = row.grants.iter().position(|grant| grant.id == id);
                    let at = at.ok_or(ServiceError::NotFound(NotFound::Grant))?;
                    let mut grants = row.grants.clone();
                    let removed = serde_json::to_value(grants.remove(at)).ok();
                    let revision = row.subscription_revision + 1;
                    subjects::write_grants(tx, subject, &grants, revision, author.now_ms).await?;
                    audit::append(tx, author, "grant.remove", subject, removed.as_ref(), None).await?;
                    tell(tx, subject, &row, author.now_ms).await
                })
            })
            .await?;
        self.hub.poke();
        Ok(())
    }
}

/// As [`ControlPlane::add_grant`], within a transaction.
pub async fn add_in(
    tx: &mut Tx<'_>,
    in_force: &InForce,
    author: &Author,
    subject: &str,
    wish: &Grant,
) -> Result<(Grant, bool), ServiceError> {
    let row = lock(tx, subject).await?;
    if let Some(known) = row.grants.iter().find(|grant| grant.id == wish.id) {
        let same =
            (&known.limit, known.units, known.expires_at_ms) == (&wish.limit, wish.units, wish.expires_at_ms);
        return match same {
            true => Ok((known.clone(), false)),
            false => Err(ServiceError::invalid(
                Invalid::GrantConflict,
                format!("The grant {:?} was given with other units, another limit or end.", wish.id),
            )),
        };
    }
    check_grant(wish, &row, in_force, author.now_ms)?;
    let mut grants = row.grants.clone();
    grants.retain(|grant| grant.expires_at_ms.is_none_or(|end| author.now_ms < end.saturating_add(KEPT_MS)));
    if grants.len() >= GRANTS_MAX {
        let message = format!("A subject has at most {GRANTS_MAX} grants. Remove one that is used up.");
        return Err(ServiceError::invalid(Invalid::Grant, message));
    }
    let grant = Grant { burnt: 0, ..wish.clone() };
    grants.push(grant.clone());
    grants.sort_by(|a, b| order(a).cmp(&order(b)));
    let revision = row.subscription_revision + 1;
    subjects::write_grants(tx, subject, &grants, revision, author.now_ms).await?;
    let after = serde_json::to_value(&grant).ok();
    audit::append(tx, author, "grant.add", subject, None, after.as_ref()).await?;
    tell(tx, subject, &row, author.now_ms).await?;
    Ok((grant, true))
}

/// The first to expire first; what never does last.
fn order(grant: &Grant) -> (i64, &str) {
    (grant.expires_at_ms.unwrap_or(i64::MAX), &grant.id)
}

fn check_grant(grant: &Grant, row: &SubjectRow, in_force: &InForce, now_ms: i64) -> Result<(), ServiceError> {
    let invalid = |rule, message: String| Err(ServiceError::invalid(rule, message));
    if !(1..=GRANT_ID_BYTES_MAX).contains(&grant.id.len()) || grant.id.chars().any(char::is_control) {
        let message =
            format!("Name the grant with 1 to {GRANT_ID_BYTES_MAX} bytes and no control characters.");
        return invalid(Invalid::Grant, message);
    }
    if !(1..=UNITS_MAX).contains(&grant.units) {
        return invalid(Invalid::Grant, format!("Give 1 to {UNITS_MAX} units."));
    }
    if !grant.holds(now_ms) {
        return invalid(Invalid::Grant, "Let it expire at a moment that is to come.".to_owned());
    }
    let Some(policy) = &in_force.policy else {
        return invalid(
            Invalid::NoPolicy,
            "Apply a policy first: it says which limits there are.".to_owned(),
        );
    };
    // The subject's own tier may be an earlier version, with limits that no tier has any more.
    let own = policy.compiled.tier_in_force(row.subscription.as_ref(), row.tier_claim.as_deref(), now_ms);
    let mut limits = policy.compiled.tiers.values().chain(own).flat_map(|tier| &tier.limits);
    match limits.find(|limit| *limit.name == *grant.limit) {
        None => {
            let message = format!("No tier of the policy in force has a limit {:?}.", grant.limit);
            invalid(Invalid::LimitUnknown, message)
        }
        Some(limit) if limit.kind == LimitKind::Size => {
            let message = "The size of one request is no number of units: give the subject an override.";
            invalid(Invalid::Grant, message.to_owned())
        }
        Some(_) => Ok(()),
    }
}
