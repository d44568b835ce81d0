//! Where a subject buys a tier: the provider's page, with the subject in it, so that the payment is known to be its.
//! A link grants nothing.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::provider::Provider;
use super::settings::{PaymentSettings, SUBJECT_PLACE};
use crate::service::subscriptions::check_subject;
use crate::service::{ControlPlane, ServiceError};
use crate::store::audit::Author;

/// Begins a subject in a Stripe `client_reference_id`, which has only letters, digits, `-` and `_`: base64url follows.
const REFERENCE_PREFIX: &str = "tg_";

/// Where a tier is bought.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckoutLink {
    /// Who takes the payment.
    pub provider: Provider,
    /// Where the payer goes.
    pub url: String,
}

impl PaymentSettings {
    /// Whether a tier is bought at a provider: at a price, by a link or by a plan.
    pub fn sells(&self, tier: &str) -> bool {
        let rules = [self.rules(Provider::Stripe), self.rules(Provider::LemonSqueezy)];
        let links = [
            self.stripe.as_ref().map(|stripe| &stripe.checkout),
            self.lemonsqueezy.as_ref().map(|lemon| &lemon.checkout),
        ];
        rules.into_iter().flatten().flat_map(|rules| rules.values()).any(|rule| rule.tier() == tier)
            || links.into_iter().flatten().any(|links| links.contains_key(tier))
            || self.cinetpay.as_ref().is_some_and(|cinetpay| cinetpay.plans.contains_key(tier))
    }
}

impl ControlPlane {
    /// Where a subject buys a tier; nothing where no provider sells it. The first of Stripe, LemonSqueezy and CinetPay that
    /// sells it is named. For CinetPay an order is made, and its API is asked, unless there is an open one.
    pub async fn checkout(
        &self,
        author: &Author,
        subject: &str,
        tier: &str,
    ) -> Result<Option<CheckoutLink>, ServiceError> {
        check_subject(subject)?;
        let settings = &self.settings.payments;
        if let Some(link) = settings.stripe.as_ref().and_then(|stripe| stripe.checkout.get(tier)) {
            let url = link.replace(SUBJECT_PLACE, &reference_of(subject));
            return Ok(Some(CheckoutLink { provider: Provider::Stripe, url }));
        }
        if let Some(link) = settings.lemonsqueezy.as_ref().and_then(|lemon| lemon.checkout.get(tier)) {
            let encoded: String = form_urlencoded::byte_serialize(subject.as_bytes()).collect();
            // `+` means a space in forms only.
            let url = link.replace(SUBJECT_PLACE, &encoded.replace('+', "%20"));
            return Ok(Some(CheckoutLink { provider: Provider::LemonSqueezy, url }));
        }
        let plan =
            settings.cinetpay.as_ref().and_then(|cinetpay| Some((cinetpay, cinetpay.plans.get(tier)?)));
        let Some((cinetpay, plan)) = plan else { return Ok(None) };
        let url = self.begin_order(author, cinetpay, subject, tier, plan).await?;
        Ok(Some(CheckoutLink { provider: Provider::CinetPay, url }))
    }
}

/// A subject as a Stripe `client_reference_id`.
pub fn reference_of(subject: &str) -> String {
    format!("{REFERENCE_PREFIX}{}", URL_SAFE_NO_PAD.encode(subject))
}

/// The subject of a Stripe `client_reference_id`: of one of ours, or as it is.
pub fn subject_of(reference: &str) -> Option<String> {
    let ours = reference.strip_prefix(REFERENCE_PREFIX);
    let text = match ours {
        Some(encoded) => String::from_utf8(URL_SAFE_NO_PAD.decode(encoded).ok()?).ok()?,
        None => reference.to_owned(),
    };
    check_subject(&text).is_ok().then_some(text)
}
