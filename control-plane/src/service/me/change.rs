//! What users do with their own subscription. A tier that has a price is never granted here: whoever wants it is sent to
//! where it is paid, and the payment grants it.

use serde_json::json;
use tollgate_policy::subscription::Subscription;

use super::{EndUser, document_tier, is_priced};
use crate::service::entitled::Entitled;
use crate::service::lifecycle::{Action, When};
use crate::service::payments::CheckoutLink;
use crate::service::subscriptions::Wish;
use crate::service::{ControlPlane, InForce, Invalid, ServiceError};
use crate::store::audit::Author;
use crate::store::subjects::ListedSubscription;
use crate::store::{StoreError, audit, payments, subjects};

/// Most subscriptions at payment providers that are looked at.
const PROVIDED_MAX: i64 = 100;

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
        if is_priced(&in_force, tier) {
            let link =
                self.checkout(author, subject, tier).await?.ok_or(ServiceError::PaymentNotConfigured)?;
            let asked = &json!({ "tier": tier, "provider": link.provider.name() });
            let noted: Result<(), StoreError> = self
                .database
                .transact("note checkout", |tx| {
                    Box::pin(async move {
                        audit::append(tx, author, "me.checkout", subject, None, Some(asked)).await
                    })
                })
                .await;
            noted?;
            return Ok(Changed::Checkout(link));
        }
        self.check_not_provided(subject, author.now_ms).await?;
        let bought = row.subscription.as_ref().map(|bought| bought.at(author.now_ms));
        let over =
            |bought: &Subscription| bought.state == tollgate_policy::subscription::SubscriptionState::Expired;
        let changed = match bought.as_deref() {
            // What is paused or pending stays so: only its tier is the user's to choose.
            Some(bought) if !over(bought) => {
                let default = match direction {
                    Direction::Up => When::Now,
                    Direction::Down => When::PeriodEnd,
                };
                let when = Some(when.unwrap_or(default));
                let action = Action::ChangeTier { tier: tier.to_owned(), when };
                self.act_on_subscription(author, subject, &action).await?
            }
            _ => {
                let wish = Wish { tier: Some(tier.to_owned()), ..Wish::default() };
                self.set_subscription(author, subject, &wish).await?
            }
        };
        Ok(Changed::Subscription(changed))
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
        self.act_on_subscription(author, subject, &Action::Cancel { when }).await
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

    /// Refuses to end here what a payment provider goes on charging for: the provider's next word would undo it.
    async fn check_not_provided(&self, subject: &str, now_ms: i64) -> Result<(), ServiceError> {
        let snapshots: Result<_, StoreError> = self
            .database
            .transact("look at payments", |tx| {
                Box::pin(async move { payments::of_subject(tx, subject, PROVIDED_MAX).await })
            })
            .await;
        let charged = snapshots?.into_iter().find(|snapshot| {
            let state = snapshot.outcome.effective(now_ms).state;
            state.is_in_force() && state != tollgate_policy::subscription::SubscriptionState::Cancelled
        });
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
