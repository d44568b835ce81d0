//! Payments: what providers tell by webhooks becomes subscriptions.
//!
//! A webhook is checked and stored before it is answered, and worked off afterwards: its effect and its being done are one
//! commit. What a subscription at a provider comes to is a function of *all* events that are known of it, so it makes no
//! difference in which order they came, or how often. What a subject has is a function of all its subscriptions.
//!
//! `inbox` takes webhooks in (`signature`, then `stripe`, `lemonsqueezy` or `cinetpay` read them into a `fact`), `worker` works
//! them off (`account`, `orders`, `compose`, `settle`), `desk` is for operators, `checkout` says where a tier is bought. Nothing here
//! takes an event's word for an amount: one that is known is compared.

mod account;
mod checkout;
mod cinetpay;
mod compose;
mod desk;
mod fact;
mod inbox;
mod lemonsqueezy;
mod orders;
mod provider;
mod reading;
mod secret;
mod settings;
mod settle;
mod signature;
mod stripe;
mod worker;

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::sync::Notify;

pub use checkout::{CheckoutLink, reference_of};
pub use desk::STATES;
pub use inbox::{Delivery, NotTaken};
pub use provider::{Provider, still_charges};
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
    inbox: Arc<inbox::Inbox>,
    stripe: Notify,
    lemonsqueezy: Notify,
    cinetpay: Notify,
    client: OnceLock<reqwest::Client>,
}

impl Payments {
    /// Says that a provider's webhooks were stored.
    fn wake(&self, provider: Provider) {
        self.bell(provider).notify_one();
    }

    /// Waits for [`Payments::wake`].
    async fn woken(&self, provider: Provider) {
        self.bell(provider).notified().await;
    }

    fn bell(&self, provider: Provider) -> &Notify {
        match provider {
            Provider::Stripe => &self.stripe,
            Provider::LemonSqueezy => &self.lemonsqueezy,
            Provider::CinetPay => &self.cinetpay,
        }
    }

    /// The client of providers' APIs; fails when the system's certificates cannot be read.
    fn client(&self) -> Result<&reqwest::Client, reqwest::Error> {
        if let Some(client) = self.client.get() {
            return Ok(client);
        }
        let client = crate::http_client::http_client_without_redirects(API_TIMEOUT)?;
        Ok(self.client.get_or_init(|| client))
    }
}
