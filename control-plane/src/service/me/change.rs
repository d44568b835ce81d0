//! What users do with their own subscription. Only a tier that is said to be free is granted here: whoever wants another
//! one is sent to where it is paid, and the payment grants it.

use serde_json::json;
use tollgate_policy::subscription::{Subscription, SubscriptionState};

use super::{EndUser, document_tier};
use crate::calendar::HOUR_MS;
use crate::service::entitled::Entitled;
use crate::service::lifecycle::{Action, When, document_in};
use crate::service::payments::{CheckoutLink, still_charges};
use crate::service::{ControlPlane, InForce, Invalid, ServiceError};
use crate::store::audit::Author;
use crate::store::subjects::ListedSubscription;
use crate::store::{StoreError, audit, payments, subjects};

/// Most subscriptions at payment providers that are looked at.
const PROVIDED_MAX: i64 = 100;

/// What is noted when a user is sent to a checkout.
const CHECKOUT: &str = "me.checkout";

/// For how long one note of it is enough, ms.
const CHECKOUT_NOTED_MS: i64 = HOUR_MS;

/// How many of the newest notes are looked at: a policy's tiers, and the administrators of an organisation.
const CHECKOUTS_LOOKED_AT: i64 = 100;

/// Where to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// To a higher tier.
    Up,
    /// To a lower one.
    Down,
}

/// What came of a wish.
#[derive(Debug, Clone, PartialEq)]
pub enum Changed {
    /// Nothing yet: it is paid there first.
    Checkout(CheckoutLink),
    /// The subscription as it is now, with what is to come.
    Subscription(ListedSubscription),
}

impl ControlPlane {
    /// Another tier for whom the user decides.
    pub async fn change_my_tier(
        &self,
        user: &EndUser,
        author: &Author,
        tier: &str,
        direction: Direction,
        when: Option<When>,
    ) -> Result<Changed, ServiceError> {
        let subject = decided(user)?;
        let in_force = self.newest().await?;
        let row = subjects::read(&self.database, subject).await?;
        self.check_direction(&in_force, user, &row, tier, direction, author.now_ms)?;
        // Also before a checkout: whoever bought a second subscription beside the first would pay for both.
        self.check_not_provided(subject, author.now_ms).await?;
        if !self.is_free(document_in(&in_force)?, tier) {
            let link =
                self.checkout(author, subject, tier).await?.ok_or(ServiceError::PaymentNotConfigured)?;
            self.note_checkout(author, subject, tier, &link).await?;
            return Ok(Changed::Checkout(link));
        }
        let default = match direction {
            Direction::Up => When::Now,
            Direction::Down => When::PeriodEnd,
        };
        let change = Action::ChangeTier { tier: tier.to_owned(), when: Some(when.unwrap_or(default)) };
        let make = |in_force: &InForce, before: Option<&Subscription>| match before {
            // What is paused or pending stays so: only its tier is the user's to choose.
            Some(bought) if bought.state != SubscriptionState::Expired => {
                change.apply(before, document_in(in_force)?, author.now_ms)
            }
            _ => Ok(Subscription {
                tier: tier.to_owned(),
                // A billing month must not move.
                anchor_ms: before.map_or(author.now_ms, |over| over.anchor_ms),
                // Who had a trial has had it.
                trial_ends_at_ms: before.and_then(|over| over.trial_ends_at_ms),
                ..Subscription::default()
            }),
        };
        let bought = row.subscription.as_ref().map(|bought| bought.at(author.now_ms).state);
        let action = match bought {
            Some(state) if state != SubscriptionState::Expired => change.name(),
            _ => "subscription.set",
        };
        Ok(Changed::Subscription(self.write_subscription(author, subject, action, make).await?))
    }

    /// An end for what the user decides about: at the end of what is paid for, or at once.
    pub async fn cancel_mine(
        &self,
        user: &EndUser,
        author: &Author,
        when: When,
    ) -> Result<ListedSubscription, ServiceError> {
        let subject = decided(user)?;
        self.check_not_provided(subject, author.now_ms).await?;
        let cancel = Action::Cancel { when };
        // Within the write: what is over can be begun anew, so an end would undo what an operator has paused meanwhile.
        let make = |in_force: &InForce, before: Option<&Subscription>| match before.map(|bought| bought.state)
        {
            Some(SubscriptionState::Paused) => Err(refused("The subscription is paused. Ask who paused it.")),
            Some(SubscriptionState::Pending) => Err(refused("The subscription waits for its first payment.")),
            _ => cancel.apply(before, document_in(in_force)?, author.now_ms),
        };
        self.write_subscription(author, subject, cancel.name(), make).await
    }

    /// Notes that a user was sent to a checkout: the same link once in an hour, however often it is asked for.
    async fn note_checkout(
        &self,
        author: &Author,
        subject: &str,
        tier: &str,
        link: &CheckoutLink,
    ) -> Result<(), ServiceError> {
        let asked = &json!({ "tier": tier, "provider": link.provider.name() });
        let noted: Result<(), StoreError> = self
            .database
            .transact("note checkout", |tx| {
                Box::pin(async move {
                    // One at a time, or each would find nothing yet.
                    subjects::lock(tx, &[subject]).await?;
                    let since_ms = author.now_ms.saturating_sub(CHECKOUT_NOTED_MS);
                    let noted = audit::latest(tx, subject, CHECKOUT, since_ms, CHECKOUTS_LOOKED_AT).await?;
                    if noted.iter().any(|row| row.actor == author.actor && row.after.as_ref() == Some(asked))
                    {
                        return Ok(());
                    }
                    audit::append(tx, author, CHECKOUT, subject, None, Some(asked)).await
                })
            })
            .await;
        Ok(noted?)
    }

    fn check_direction(
        &self,
        in_force: &InForce,
        user: &EndUser,
        row: &subjects::SubjectRow,
        tier: &str,
        direction: Direction,
        now_ms: i64,
    ) -> Result<(), ServiceError> {
        let offered = document_tier(in_force, tier).filter(|tier| tier.visible.0);
        let Some(offered) = offered else {
            let message =
                format!("There is no tier {tier:?} to choose. GET /v1/plans lists those there are.");
            return Err(ServiceError::invalid(Invalid::TierUnknown, message));
        };
        let claim = user.caller.tier.clone().or(row.tier_claim.clone());
        let row = subjects::SubjectRow { tier_claim: claim, ..row.clone() };
        let Some(has) = Entitled::of(&row, None).tier(in_force, now_ms) else {
            return match direction {
                Direction::Up => Ok(()),
                Direction::Down => Err(refused("There is no tier to go down from.")),
            };
        };
        let (from, to) = (super::place(in_force, has.tier), (offered.order, tier));
        match direction {
            _ if from == to => Err(refused("The tier is in force already.")),
            Direction::Up if to < from => Err(refused("The tier is a lower one: POST /v1/me/downgrade.")),
            Direction::Down if from < to => Err(refused("The tier is a higher one: POST /v1/me/upgrade.")),
            _ => Ok(()),
        }
    }

    /// Refuses to change here what a payment provider goes on charging for: the provider's next word would undo it, or it
    /// would be charged for beside what is bought anew.
    async fn check_not_provided(&self, subject: &str, now_ms: i64) -> Result<(), ServiceError> {
        let snapshots: Result<_, StoreError> = self
            .database
            .transact("look at payments", |tx| {
                Box::pin(async move { payments::of_subject(tx, subject, PROVIDED_MAX).await })
            })
            .await;
        let charged = snapshots?.into_iter().find(|snapshot| still_charges(snapshot, now_ms));
        match charged {
            None => Ok(()),
            Some(snapshot) => Err(refused(format!(
                "The subscription is paid through {}. Cancel or change it there; it is then felt here by itself.",
                snapshot.provider
            ))),
        }
    }
}

/// Whom a user decides about.
fn decided(user: &EndUser) -> Result<&str, ServiceError> {
    match user.decides() {
        true => Ok(&user.caller.subject),
        false => Err(ServiceError::NotAdministrator),
    }
}

fn refused(message: impl Into<String>) -> ServiceError {
    ServiceError::invalid(Invalid::Action, message)
}
