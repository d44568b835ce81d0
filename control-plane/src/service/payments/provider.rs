//! The payment providers there are.

use serde::{Deserialize, Serialize};

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
