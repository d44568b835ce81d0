//! Payments: what providers tell by webhooks becomes subscriptions.
//!
//! A webhook is checked and stored before it is answered, and worked off afterwards: its effect and its being done are one
//! commit. What a subscription at a provider comes to is a function of *all* events that are known of it, so it makes no
//! difference in which order they came, or how often. What a subject has is a function of all its subscriptions.
//!
//! Nothing here takes an event's word for an amount: a price that is known is compared.

#[allow(dead_code, reason = "webhooks use it next")]
mod checkout;
#[allow(dead_code, reason = "webhooks use it next")]
mod cinetpay;
mod provider;
mod secret;
mod settings;
#[allow(dead_code, reason = "webhooks use it next")]
mod signature;

use std::sync::OnceLock;
use std::time::Duration;

pub use checkout::{CheckoutLink, reference_of};
pub use provider::Provider;
pub use secret::{Secret, Secrets};
pub use settings::{
    CheckedPrice, CinetPaySettings, LemonSqueezySettings, PaymentSettings, Plan, PriceRule, SettingsError,
    StripeSettings,
};
pub use signature::Refusal;

/// How long a provider's API may take.
const API_TIMEOUT: Duration = Duration::from_secs(10);

/// What a control plane keeps of payments in memory.
#[derive(Debug, Default)]
pub struct Payments {
    client: OnceLock<reqwest::Client>,
}

impl Payments {
    /// The client of providers' APIs; fails when the system's certificates cannot be read.
    fn client(&self) -> Result<&reqwest::Client, reqwest::Error> {
        if let Some(client) = self.client.get() {
            return Ok(client);
        }
        let client = crate::http_client::http_client_without_redirects(API_TIMEOUT)?;
        Ok(self.client.get_or_init(|| client))
    }
}
