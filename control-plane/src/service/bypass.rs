//! Testing mode: an admin's grant that a subject's limits and features are not looked at until a moment. Edges learn of
//! it as of a change of the subscription, and it ends by itself.

use super::subscriptions::{check_subject, lock, tell};
use super::{ControlPlane, Invalid, NotFound, ServiceError};
use crate::calendar::DAY_MS;
use crate::store::audit::Author;
use crate::store::subjects::Bypass;
use crate::store::{audit, subjects};

/// Longest time that a bypass may hold, days. One that is needed for longer is a tier.
pub const BYPASS_DAYS_MAX: i64 = 90;

/// Longest reason, in characters.
pub const REASON_CHARS_MAX: usize = 500;

/// A subject's bypass.
#[derive(Debug, Clone, PartialEq)]
pub struct BypassView {
    /// The subject.
    pub subject: String,
    /// Its bypass.
    pub bypass: Bypass,
    /// Rises with each change of the bypass or the subscription.
    pub revision: i64,
}

impl Bypass {
    /// Whether it holds at `now_ms` (Unix ms). At the very moment of expiry it does not.
    pub fn in_force(&self, now_ms: i64) -> bool {
        now_ms < self.expires_ms
    }
}

impl ControlPlane {
    /// Grants a bypass until `expires_ms` (Unix ms), or replaces the one there is.
    pub async fn set_bypass(
        &self,
        author: &Author,
        subject: &str,
        expires_ms: i64,
        reason: &str,
    ) -> Result<BypassView, ServiceError> {
        check_subject(subject)?;
        check_bypass(expires_ms, reason, author.now_ms)?;
        let wish = &Bypass {
            expires_ms,
            reason: reason.to_owned(),
            granted_ms: author.now_ms,
            granted_by: author.actor.clone(),
        };
        let view = self
            .database
            .transact("set bypass", |tx| {
                Box::pin(async move {
                    let row = lock(tx, subject).await?;
                    let same = |b: &&Bypass| b.expires_ms == expires_ms && b.reason == reason;
                    if let Some(bypass) = row.bypass.as_ref().filter(same) {
                        let (bypass, revision) = (bypass.clone(), row.subscription_revision);
                        return Ok(BypassView { subject: subject.to_owned(), bypass, revision });
                    }
                    let revision = row.subscription_revision + 1;
                    subjects::write_bypass(tx, subject, Some(wish), revision, author.now_ms).await?;
                    let before = row.bypass.as_ref().and_then(|b| serde_json::to_value(b).ok());
                    let after = serde_json::to_value(wish).ok();
                    audit::append(tx, author, "bypass.set", subject, before.as_ref(), after.as_ref()).await?;
                    tell(tx, subject, &row, author.now_ms).await?;
                    let view = BypassView { subject: subject.to_owned(), bypass: wish.clone(), revision };
                    Ok::<_, ServiceError>(view)
                })
            })
            .await?;
        self.hub.poke();
        Ok(view)
    }

    /// A subject's bypass, in force or not any more.
    pub async fn bypass(&self, subject: &str) -> Result<BypassView, ServiceError> {
        check_subject(subject)?;
        let row = subjects::read(&self.database, subject).await?;
        let bypass = row.bypass.ok_or(ServiceError::NotFound(NotFound::Bypass))?;
        Ok(BypassView { subject: subject.to_owned(), bypass, revision: row.subscription_revision })
    }

    /// Ends a bypass now.
    pub async fn clear_bypass(&self, author: &Author, subject: &str) -> Result<(), ServiceError> {
        check_subject(subject)?;
        self.database
            .transact("clear bypass", |tx| {
                Box::pin(async move {
                    let row = lock(tx, subject).await?;
                    let before = row.bypass.as_ref().ok_or(ServiceError::NotFound(NotFound::Bypass))?;
                    let revision = row.subscription_revision + 1;
                    subjects::write_bypass(tx, subject, None, revision, author.now_ms).await?;
                    let before = serde_json::to_value(before).ok();
                    audit::append(tx, author, "bypass.clear", subject, before.as_ref(), None).await?;
                    tell(tx, subject, &row, author.now_ms).await
                })
            })
            .await?;
        self.hub.poke();
        Ok(())
    }
}

fn check_bypass(expires_ms: i64, reason: &str, now_ms: i64) -> Result<(), ServiceError> {
    if expires_ms <= now_ms || expires_ms > now_ms.saturating_add(BYPASS_DAYS_MAX * DAY_MS) {
        let message =
            format!("Give an expires_at that is still to come, at most {BYPASS_DAYS_MAX} days from now.");
        return Err(ServiceError::invalid(Invalid::Bypass, message));
    }
    check_reason(reason)
}

/// Refuses words that say nothing, or that a log could not show on one line.
pub(super) fn check_reason(reason: &str) -> Result<(), ServiceError> {
    let good = !reason.trim().is_empty()
        && reason.chars().count() <= REASON_CHARS_MAX
        && !reason.chars().any(char::is_control);
    match good {
        true => Ok(()),
        false => {
            let message = format!(
                "Say why: a reason of 1 to {REASON_CHARS_MAX} characters, without control characters."
            );
            Err(ServiceError::invalid(Invalid::Reason, message))
        }
    }
}
