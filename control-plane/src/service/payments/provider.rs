//! The payment providers there are.

use serde::{Deserialize, Serialize};
use tollgate_policy::subscription::SubscriptionState;

use crate::store::payments::SnapshotRow;

/// A payment provider.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Provider {
    /// <https://stripe.com>
    Stripe,
    /// <https://www.lemonsqueezy.com>
    LemonSqueezy,
    /// <https://cinetpay.com>
    CinetPay,
}

impl Provider {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Stripe, Self::LemonSqueezy, Self::CinetPay];

    /// Its name in paths, in the database and in metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::Stripe => "stripe",
            Self::LemonSqueezy => "lemonsqueezy",
            Self::CinetPay => "cinetpay",
        }
    }

    /// The provider of this name.
    pub fn of(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|provider| provider.name() == name)
    }
}

/// Whether a provider goes on charging for this at `now_ms` (Unix ms), until it is cancelled there. What is paid once for some
/// months is not charged for again, and there is nothing to cancel.
pub fn still_charges(bought: &SnapshotRow, now_ms: i64) -> bool {
    let state = bought.outcome.effective(now_ms).state;
    let renews = match Provider::of(&bought.provider) {
        Some(Provider::Stripe | Provider::LemonSqueezy) => true,
        Some(Provider::CinetPay) | None => false,
    };
    renews && state.is_in_force() && state != SubscriptionState::Cancelled
}

#[cfg(test)]
mod tests {
    use tollgate_policy::subscription::{Subscription, SubscriptionState};

    use super::{SnapshotRow, still_charges};

    #[test]
    fn only_what_renews_itself_is_still_charged_for() {
        for (provider, state, expires_at_ms, expected) in [
            ("stripe", SubscriptionState::Active, None, true),
            ("lemonsqueezy", SubscriptionState::PastDue, Some(10), true),
            ("stripe", SubscriptionState::Cancelled, Some(10), false),
            ("stripe", SubscriptionState::Active, Some(0), false),
            ("stripe", SubscriptionState::Paused, None, false),
            ("cinetpay", SubscriptionState::Active, Some(10), false),
        ] {
            let bought = SnapshotRow {
                provider: provider.to_owned(),
                reference: "1".to_owned(),
                account: "1".to_owned(),
                subject: Some("user:a".to_owned()),
                outcome: Subscription { state, expires_at_ms, ..Subscription::default() },
            };
            assert_eq!(still_charges(&bought, 0), expected, "{bought:?}");
        }
    }
}
