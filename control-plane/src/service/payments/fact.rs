//! What an event says, in words that all providers share, and how what is said of one subscription comes together.
//!
//! [`fold`] is a function of the set of all that is known: the order in which events came does not matter, and repeated ones
//! do not count twice.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use tollgate_policy::subscription::{ScheduledChange, Subscription, SubscriptionState};

use super::settings::PriceRule;

/// What one event says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fact {
    /// Whose it is, where the event says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
    /// What is said.
    pub what: What,
}

/// What is said.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum What {
    /// How a subscription stands.
    Snapshot(Box<Snapshot>),
    /// That somebody bought.
    Bought,
    /// That a payment was made, or failed.
    Payment(Payment),
    /// That there is news of an order, to be asked for.
    Notice,
}

/// How a subscription stands at the provider.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Snapshot {
    /// Whether nothing can follow it.
    pub last: bool,
    /// Which of two events of one moment is the later: the kind of the event says.
    pub rank: u8,
    /// Where it is in its life.
    pub standing: Standing,
    /// What is bought.
    pub items: Vec<Item>,
    /// Start of the first billing period, Unix ms.
    pub anchor_ms: i64,
    /// End of the period that is paid, Unix ms.
    pub period_ends_ms: Option<i64>,
    /// End of the trial, Unix ms.
    pub trial_ends_ms: Option<i64>,
    /// When it ends, of one that is cancelled, Unix ms.
    pub ends_ms: Option<i64>,
}

/// Where a subscription is in its life, as the provider sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Standing {
    /// Not paid yet.
    Pending,
    /// On trial.
    Trialing,
    /// Paid.
    Active,
    /// A payment failed, and is tried again.
    PastDue,
    /// Paused.
    Paused,
    /// Over.
    Over,
}

/// Something bought.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Item {
    /// The provider's price or variant.
    pub price: String,
    /// What one costs, minor units, where the event says so.
    pub amount: Option<i64>,
    /// ISO 4217, where the event says so.
    pub currency: Option<String>,
}

/// A payment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Payment {
    /// The provider's id of the invoice, where the event says so.
    pub id: Option<String>,
    /// Whether it was made; else it failed.
    pub paid: bool,
    /// Whether its amount is that of one period: no change in the middle of one, and no refund.
    pub whole: bool,
    /// Minor units.
    pub amount: Option<i64>,
    /// ISO 4217.
    pub currency: Option<String>,
}

/// A snapshot, and where it stands among the others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Known {
    /// When it happened, Unix ms.
    pub at_ms: i64,
    /// The provider's id of the event.
    pub event_id: String,
    /// How the subscription stands.
    pub snapshot: Snapshot,
}

/// What prices mean.
#[derive(Debug, Clone, Copy)]
pub struct Meaning<'a> {
    /// What each price buys.
    pub rules: &'a BTreeMap<String, PriceRule>,
    /// How long a tier stays in force after a payment failed, ms.
    pub grace_ms: i64,
}

/// What is wrong with an event: trying again does not help.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// The price buys nothing.
    #[error("no tier is bought by price {0:?}: name it in the payments file, and replay this")]
    PriceUnknown(String),
    /// Nothing is bought.
    #[error("the subscription has no price")]
    NoPrice,
    /// It costs something else.
    #[error("the amount is {found}, where the payments file says {expected}")]
    Differs {
        /// What the event says.
        found: String,
        /// What the payments file says.
        expected: String,
    },
}

impl Known {
    /// Later ones are greater. Of events of the same second, a provider's clock says no more.
    fn order(&self) -> impl Ord + use<'_> {
        let snapshot = &self.snapshot;
        let begun = snapshot.standing != Standing::Pending;
        (snapshot.last, self.at_ms, begun, snapshot.rank, snapshot.period_ends_ms, &self.event_id)
    }
}

/// What a subscription comes to, by all that is known of it.
pub fn fold(known: &[Known], meaning: Meaning<'_>) -> Result<Subscription, Fault> {
    let mut known: Vec<&Known> = known.iter().collect();
    known.sort_by(|one, other| one.order().cmp(&other.order()));
    let newest = known.last().ok_or(Fault::NoPrice)?;
    let tier = tier_of(&newest.snapshot, meaning.rules)?;
    let since = |is_same: &dyn Fn(&Snapshot) -> bool| {
        let run = known.iter().rev().take_while(|known| is_same(&known.snapshot));
        run.map(|known| known.at_ms).min().unwrap_or(newest.at_ms)
    };
    let tier_since_ms = since(&|other| tier_of(other, meaning.rules).is_ok_and(|other| other == tier));
    let failed_ms = since(&|other| other.standing == Standing::PastDue);
    let made = made_of(&newest.snapshot, newest.at_ms, failed_ms, meaning.grace_ms);
    Ok(Subscription { tier: tier.to_owned(), tier_since_ms: Some(tier_since_ms), ..made })
}

fn made_of(snapshot: &Snapshot, at_ms: i64, failed_ms: i64, grace_ms: i64) -> Subscription {
    let mut made = Subscription {
        anchor_ms: snapshot.anchor_ms,
        trial_ends_at_ms: snapshot.trial_ends_ms,
        period_ends_at_ms: snapshot.period_ends_ms,
        expires_at_ms: snapshot.ends_ms,
        ..Subscription::default()
    };
    let graced_ms = |since_ms: i64| since_ms.saturating_add(grace_ms);
    made.state = match snapshot.standing {
        Standing::Pending => SubscriptionState::Pending,
        Standing::Paused => SubscriptionState::Paused,
        Standing::Over => {
            made.expires_at_ms = Some(snapshot.ends_ms.unwrap_or(at_ms).min(at_ms));
            SubscriptionState::Expired
        }
        Standing::PastDue => {
            let end_ms = graced_ms(failed_ms);
            made.expires_at_ms = Some(snapshot.ends_ms.map_or(end_ms, |ends_ms| ends_ms.min(end_ms)));
            SubscriptionState::PastDue
        }
        Standing::Active | Standing::Trialing if snapshot.ends_ms.is_some() => SubscriptionState::Cancelled,
        Standing::Active => SubscriptionState::Active,
        Standing::Trialing => {
            // The provider says at the end whether it was paid. Until that is heard, it is as with a payment that failed.
            if let Some(end_ms) = snapshot.trial_ends_ms {
                let state = Some(SubscriptionState::PastDue);
                made.changes = vec![ScheduledChange { at_ms: end_ms, state, ..ScheduledChange::default() }];
                made.expires_at_ms = Some(graced_ms(end_ms));
            }
            SubscriptionState::Trialing
        }
    };
    made
}

/// The tier that is bought: of the first price that buys one.
fn tier_of<'a>(snapshot: &Snapshot, rules: &'a BTreeMap<String, PriceRule>) -> Result<&'a str, Fault> {
    let Some((item, rule)) = snapshot.items.iter().find_map(|item| Some((item, rules.get(&item.price)?)))
    else {
        let first = snapshot.items.first().ok_or(Fault::NoPrice)?;
        return Err(Fault::PriceUnknown(first.price.clone()));
    };
    check_amount(rule, item.amount, item.currency.as_deref())?;
    Ok(rule.tier())
}

/// Compares an amount with what the price must be, where both are known.
pub fn check_amount(rule: &PriceRule, amount: Option<i64>, currency: Option<&str>) -> Result<(), Fault> {
    let (Some(checked), Some(amount), Some(currency)) = (rule.checked(), amount, currency) else {
        return Ok(());
    };
    if checked.amount == amount && checked.currency.eq_ignore_ascii_case(currency) {
        return Ok(());
    }
    let found = format!("{amount} {}", currency.to_ascii_uppercase());
    let expected = format!("{} {}", checked.amount, checked.currency.to_ascii_uppercase());
    Err(Fault::Differs { found, expected })
}
