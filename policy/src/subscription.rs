//! Subscriptions and grants: what a subject has bought, and was given besides.
//!
//! What of it holds at a moment is in `moments`: pure functions of it and the time, which both sides share. So a change
//! happens at its moment at every edge, whether or not anybody tells it.

pub mod grants;
mod moments;
mod moves;

use std::collections::BTreeMap;

pub use moments::{Effective, effective_state, effective_tier};
pub use moves::{Move, Stage, moves};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::document::Maximum;

/// How long before its end a trial is said to end soon, ms: three days.
pub const TRIAL_NOTICE_MS: i64 = 3 * 24 * 3_600_000;

/// Where a subscription is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SubscriptionState {
    /// Paid, or granted.
    #[default]
    Active,
    /// On trial; the tier is in force.
    Trialing,
    /// A payment failed; the tier is in force until `expires_at_ms`.
    PastDue,
    /// Cancelled; the tier is in force until `expires_at_ms`.
    Cancelled,
    /// Not yet paid; the tier is not in force.
    Pending,
    /// Paused; the tier is not in force.
    Paused,
    /// Over; the tier is not in force.
    Expired,
}

impl SubscriptionState {
    /// Whether the tier of a subscription in this state is in force.
    pub fn is_in_force(self) -> bool {
        match self {
            Self::Active | Self::Trialing | Self::PastDue | Self::Cancelled => true,
            Self::Pending | Self::Paused | Self::Expired => false,
        }
    }
}

/// What a subject is shown as: where its subscription is in its life, or that it has none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum EffectiveState {
    /// Paid, or granted.
    Active,
    /// On trial.
    Trialing,
    /// A payment failed; the tier is in force for a while.
    PastDue,
    /// Cancelled; the tier is in force for a while.
    Cancelled,
    /// Not yet paid.
    Pending,
    /// Paused.
    Paused,
    /// Over.
    Expired,
    /// Without a subscription: it has what a token claims, or the default tier.
    Free,
}

impl From<SubscriptionState> for EffectiveState {
    fn from(state: SubscriptionState) -> Self {
        match state {
            SubscriptionState::Active => Self::Active,
            SubscriptionState::Trialing => Self::Trialing,
            SubscriptionState::PastDue => Self::PastDue,
            SubscriptionState::Cancelled => Self::Cancelled,
            SubscriptionState::Pending => Self::Pending,
            SubscriptionState::Paused => Self::Paused,
            SubscriptionState::Expired => Self::Expired,
        }
    }
}

/// What a subject has bought, as both sides need it to decide.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Subscription {
    /// The tier bought.
    pub tier: String,
    /// Where it is in its life.
    #[serde(default)]
    pub state: SubscriptionState,
    /// Start of the first billing period, Unix ms. Billing months count from here.
    pub anchor_ms: i64,
    /// From this moment (Unix ms) the tier is no longer in force.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at_ms: Option<i64>,
    /// End of the trial (Unix ms), of one that is or was on trial. From then on the tier is not in force, unless a change is
    /// scheduled for that moment or one before it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trial_ends_at_ms: Option<i64>,
    /// End of the period that is paid (Unix ms), where a payment provider tells it. Else a period is a billing month.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub period_ends_at_ms: Option<i64>,
    /// Since when it is of its tier (Unix ms): decides which version of a tier holds. Missing: since the anchor.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tier_since_ms: Option<i64>,
    /// What changes by itself, at its moment; in the order of their moments.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub changes: Vec<ScheduledChange>,
    /// What a pause holds back. Edges are not told: they need what holds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub held: Option<Box<Held>>,
    /// Maximums of this subject alone, by limit name; they replace the tier's.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub overrides: BTreeMap<String, Maximum>,
}

/// What a subscription was when it was paused, or when its pause was scheduled: resuming gives it back.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Held {
    /// Its state then.
    pub state: SubscriptionState,
    /// What was scheduled then.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub changes: Vec<ScheduledChange>,
}

/// A change of a subscription that happens by itself at its moment. What is left out stays.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ScheduledChange {
    /// When, Unix ms: at this very moment it holds.
    pub at_ms: i64,
    /// The tier from then on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tier: Option<String>,
    /// The state from then on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<SubscriptionState>,
}

/// Extra units of one limit, bought or given: of a quota they are used up, after what the window itself allows, those that
/// expire first; of any other kind they raise the maximum for as long as they hold.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Grant {
    /// Names it among the subject's grants.
    pub id: String,
    /// The limit's name.
    pub limit: String,
    /// Units in all.
    pub units: u64,
    /// Units of a quota's grant that are used up.
    #[serde(default)]
    pub burnt: u64,
    /// From this moment (Unix ms) what is left of it is gone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at_ms: Option<i64>,
}

/// All that holds for a subject and not for others: what it has bought, and what an operator has granted.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Entitlements {
    /// What the subject has bought, or nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subscription: Option<Subscription>,
    /// Until this moment (Unix ms) no limit refuses the subject: an operator's grant for tests.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bypass_until_ms: Option<i64>,
    /// Extra units, the first to expire first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub grants: Vec<Grant>,
}

impl Entitlements {
    /// Whether limits are looked at only to count, at `now_ms` (Unix ms).
    pub fn bypasses(&self, now_ms: i64) -> bool {
        self.bypass_until_ms.is_some_and(|until_ms| now_ms < until_ms)
    }
}

impl Grant {
    /// Whether something of it can hold at `now_ms` (Unix ms). At the very moment of expiry nothing does.
    pub fn holds(&self, now_ms: i64) -> bool {
        self.expires_at_ms.is_none_or(|end_ms| now_ms < end_ms)
    }
}

#[cfg(test)]
mod tests;
