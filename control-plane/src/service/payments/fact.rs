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

/// A payment, and where it stands among the others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KnownPayment {
    /// When it happened, Unix ms.
    pub at_ms: i64,
    /// The provider's id of the event.
    pub event_id: String,
    /// The payment.
    pub payment: Payment,
}

/// What a subscription comes to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Folded {
    /// What it comes to; nothing where it never bought anything that is known.
    pub outcome: Option<Subscription>,
    /// Why it is not what the newest event says.
    pub fault: Option<Fault>,
}

/// What a subscription comes to, by all that is known of it. `held`: what it came to before, which tells what was bought where
/// no price that is known does any more.
///
/// What is wrong with a subscription never leaves it in force for good: it ends as after a payment that failed.
pub fn fold(
    known: &[Known],
    payments: &[KnownPayment],
    meaning: Meaning<'_>,
    held: Option<&Subscription>,
) -> Folded {
    let mut known: Vec<&Known> = known.iter().collect();
    known.sort_by(|one, other| one.order().cmp(&other.order()));
    let Some(newest) = known.last() else { return Folded { outcome: None, fault: None } };
    let tier_at = |known: &Known| tier_of(&known.snapshot, meaning.rules);
    let good = known.iter().rev().find_map(|known| tier_at(known).ok());
    let mut fault = tier_at(newest).err();
    let Some(tier) = good.or(held.map(|held| held.tier.as_str())) else {
        return Folded { outcome: None, fault };
    };
    let since = |is_same: &dyn Fn(&Known) -> bool| {
        let run = known.iter().rev().take_while(|known| is_same(known));
        run.map(|known| known.at_ms).min().unwrap_or(newest.at_ms)
    };
    let graced_ms = |since_ms: i64| since_ms.saturating_add(meaning.grace_ms);
    let failed_ms = since(&|other| other.snapshot.standing == Standing::PastDue);
    let mut made = made_of(&newest.snapshot, newest.at_ms, failed_ms, meaning.grace_ms);
    made.tier = tier.to_owned();
    made.tier_since_ms = match good {
        Some(_) => {
            let run =
                known.iter().rev().take_while(|known| tier_at(known).map_or(true, |other| other == tier));
            run.filter(|known| tier_at(known).is_ok()).map(|known| known.at_ms).min()
        }
        None => held.and_then(|held| held.tier_since_ms),
    };
    if !newest.snapshot.standing.grants() {
        // Nothing is granted, whatever it costs.
        return Folded { outcome: Some(made), fault: None };
    }
    if fault.is_some() {
        let end_ms = match (good, held) {
            // The file has changed, not the subscription. Each event must not give it more time.
            (
                None,
                Some(Subscription { state: SubscriptionState::PastDue, expires_at_ms: Some(end_ms), .. }),
            ) => graced_ms(newest.at_ms).min(*end_ms),
            (None, Some(held)) if held.state.is_in_force() => graced_ms(newest.at_ms),
            // What is over does not come back for a price that nobody knows.
            (None, _) => return Folded { outcome: None, fault },
            _ => graced_ms(since(&|other| tier_at(other).is_err())),
        };
        end_at(&mut made, end_ms);
    }
    if let Some(wrong) = Wrong::of(payments, &known, meaning.rules) {
        match wrong.was_right {
            true => end_at(&mut made, graced_ms(wrong.since_ms)),
            false => (made.state, made.changes) = (SubscriptionState::Pending, Vec::new()),
        }
        fault = fault.or(Some(wrong.fault));
    }
    Folded { outcome: Some(made), fault }
}

impl Standing {
    /// Whether the tier is in force.
    fn grants(self) -> bool {
        matches!(self, Self::Trialing | Self::Active | Self::PastDue)
    }
}

/// Lets a subscription end as after a payment that failed, unless it ends before.
fn end_at(made: &mut Subscription, end_ms: i64) {
    made.state = SubscriptionState::PastDue;
    made.changes = Vec::new();
    made.expires_at_ms = Some(made.expires_at_ms.map_or(end_ms, |own_ms| own_ms.min(end_ms)));
}

/// That the newest payment of a whole period was not what that must cost.
struct Wrong {
    fault: Fault,
    /// Since when that is so, Unix ms.
    since_ms: i64,
    /// Whether one before was right.
    was_right: bool,
}

impl Wrong {
    fn of(payments: &[KnownPayment], known: &[&Known], rules: &BTreeMap<String, PriceRule>) -> Option<Self> {
        let mut whole: Vec<&KnownPayment> =
            payments.iter().filter(|known| known.payment.paid && known.payment.whole).collect();
        whole.sort_by_key(|known| (known.at_ms, &known.event_id));
        let mut wrong: Option<Self> = None;
        let mut was_right = false;
        for paid in whole {
            match check_payment(&paid.payment, paid.at_ms, known.iter().copied(), rules) {
                Err(fault @ Fault::Differs { .. }) => {
                    let since_ms = wrong.map_or(paid.at_ms, |wrong| wrong.since_ms);
                    wrong = Some(Self { fault, since_ms, was_right });
                }
                Ok(()) => (wrong, was_right) = (None, true),
                Err(_) => {}
            }
        }
        wrong
    }
}

/// Compares what was paid for a whole period with what that must cost: by what was bought when it was paid.
pub fn check_payment<'a>(
    payment: &Payment,
    at_ms: i64,
    known: impl Iterator<Item = &'a Known> + Clone,
    rules: &BTreeMap<String, PriceRule>,
) -> Result<(), Fault> {
    if !payment.paid || !payment.whole {
        return Ok(());
    }
    let then = known.clone().filter(|known| known.at_ms <= at_ms).max_by(|a, b| a.order().cmp(&b.order()));
    let then = then.or_else(|| known.min_by(|a, b| a.order().cmp(&b.order())));
    let Some(then) = then.map(|known| &known.snapshot) else { return Ok(()) };
    let is_trial =
        then.standing == Standing::Trialing && then.trial_ends_ms.is_none_or(|end_ms| at_ms < end_ms);
    if is_trial && payment.amount == Some(0) {
        return Ok(());
    }
    let (_, rule) = rule_of(then, rules)?;
    check_amount(rule, payment.amount, payment.currency.as_deref())
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
    let (item, rule) = rule_of(snapshot, rules)?;
    check_amount(rule, item.amount, item.currency.as_deref())?;
    Ok(rule.tier())
}

fn rule_of<'a, 'b>(
    snapshot: &'a Snapshot,
    rules: &'b BTreeMap<String, PriceRule>,
) -> Result<(&'a Item, &'b PriceRule), Fault> {
    let bought = snapshot.items.iter().find_map(|item| Some((item, rules.get(&item.price)?)));
    bought.ok_or_else(|| match snapshot.items.first() {
        Some(first) => Fault::PriceUnknown(first.price.clone()),
        None => Fault::NoPrice,
    })
}

/// Compares an amount with what the price must be, where both are known.
fn check_amount(rule: &PriceRule, amount: Option<i64>, currency: Option<&str>) -> Result<(), Fault> {
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
