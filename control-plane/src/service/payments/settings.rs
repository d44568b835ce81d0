//! Which payment providers there are, and which tier is bought by what: the file of `tollgate serve --payments`. It holds
//! secrets, so it is no part of the policy, which every edge gets.

use std::collections::BTreeMap;

use serde::Deserialize;
use tollgate_policy::price::Currency;

use super::provider::Provider;
use super::secret::{Secret, Secrets};
use crate::config::PAYMENTS_FILE_BYTES_MAX;

/// What stands for the subject in links to a checkout.
pub const SUBJECT_PLACE: &str = "{subject}";

/// LemonSqueezy's secrets have 6 to 40 characters; no shorter one is worth the name.
const SECRET_CHARS_MIN: usize = 6;

/// Which payment providers there are.
#[derive(Debug, Clone, PartialEq, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PaymentSettings {
    /// Stripe.
    #[serde(default)]
    pub stripe: Option<StripeSettings>,
    /// LemonSqueezy.
    #[serde(default)]
    pub lemonsqueezy: Option<LemonSqueezySettings>,
    /// CinetPay.
    #[serde(default)]
    pub cinetpay: Option<CinetPaySettings>,
}

/// How Stripe is used.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StripeSettings {
    /// The endpoint's secrets, `whsec_…`: while one is being replaced, both.
    pub signing_secrets: Secrets,
    /// Whether events are of real money; the others are refused.
    pub livemode: bool,
    /// Which tier is bought by which price, `price_…`.
    pub prices: BTreeMap<String, PriceRule>,
    /// Where tiers are bought: a payment link for each, with `?client_reference_id={subject}`.
    #[serde(default)]
    pub checkout: BTreeMap<String, String>,
}

/// How LemonSqueezy is used.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LemonSqueezySettings {
    /// The webhook's secrets: while one is being replaced, both.
    pub signing_secrets: Secrets,
    /// Whether events are of real money; the others are refused.
    pub livemode: bool,
    /// Which tier is bought by which variant, by its number.
    pub variants: BTreeMap<String, PriceRule>,
    /// Where tiers are bought: a checkout for each, with `?checkout[custom][subject]={subject}`.
    #[serde(default)]
    pub checkout: BTreeMap<String, String>,
}

/// How CinetPay is used.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CinetPaySettings {
    /// The site's number.
    pub site_id: String,
    /// The key of its API.
    pub api_key: Secret,
    /// The key that notifications are signed with.
    pub secret_key: Secret,
    /// Where its API is.
    #[serde(default = "cinetpay_base_url")]
    pub base_url: String,
    /// Where CinetPay reaches `/webhooks/cinetpay` of this control plane.
    pub notify_url: String,
    /// Where the payer is sent after the payment.
    pub return_url: String,
    /// What each tier costs.
    pub plans: BTreeMap<String, Plan>,
}

/// What a tier costs that is paid once for some months.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Plan {
    /// Units of a currency that has no decimals, such as whole francs.
    pub amount: i64,
    /// ISO 4217, such as `XOF`.
    pub currency: String,
    /// For how many months.
    #[serde(default = "one")]
    pub months: u32,
}

/// What a price buys: a tier's name, or more.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(untagged)]
pub enum PriceRule {
    /// The tier.
    Tier(String),
    /// The tier, and what it must cost.
    Checked(CheckedPrice),
}

/// A tier, and what it must cost.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CheckedPrice {
    /// The tier.
    pub tier: String,
    /// Minor units.
    pub amount: i64,
    /// ISO 4217, such as `eur`.
    pub currency: String,
}

/// Why the file was not understood. Says nothing of what stands where secrets stand.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// It is too large.
    #[error("it has more than {PAYMENTS_FILE_BYTES_MAX} bytes")]
    TooLarge,
    /// It does not have the right shape.
    #[error("line {line}, column {column}: {message}")]
    Shape {
        /// From 1; 0 where it is not known.
        line: u64,
        /// From 1; 0 where it is not known.
        column: u64,
        /// What to write.
        message: String,
    },
    /// A variable of the environment is not there.
    #[error("{path} names the environment variable {name}, which is not set")]
    Environment {
        /// Where.
        path: &'static str,
        /// Its name.
        name: String,
    },
    /// What is said makes no sense.
    #[error("{path}: {message}")]
    Meaning {
        /// Where.
        path: String,
        /// What to write.
        message: String,
    },
}

fn cinetpay_base_url() -> String {
    "https://api-checkout.cinetpay.com".to_owned()
}

fn one() -> u32 {
    1
}

impl PriceRule {
    /// The tier.
    pub fn tier(&self) -> &str {
        match self {
            Self::Tier(tier) => tier,
            Self::Checked(checked) => &checked.tier,
        }
    }

    /// What it must cost, where that is said.
    pub fn checked(&self) -> Option<&CheckedPrice> {
        match self {
            Self::Tier(_) => None,
            Self::Checked(checked) => Some(checked),
        }
    }
}

impl PaymentSettings {
    /// Reads them from YAML. Variables of the environment are asked of `environment`.
    pub fn parse(text: &str, environment: &dyn Fn(&str) -> Option<String>) -> Result<Self, SettingsError> {
        if text.len() > PAYMENTS_FILE_BYTES_MAX {
            return Err(SettingsError::TooLarge);
        }
        let options = serde_saphyr::options! { with_snippet: false, };
        let mut settings: Self = serde_saphyr::from_str_with_options(text, options).map_err(|error| {
            let place = error.location().map(|location| (location.line(), location.column()));
            let (line, column) = place.unwrap_or_default();
            SettingsError::Shape { line, column, message: shape_message(&error) }
        })?;
        settings.resolve(environment)?;
        settings.check()?;
        Ok(settings)
    }

    /// What each price or variant of a provider buys.
    pub fn rules(&self, provider: Provider) -> Option<&BTreeMap<String, PriceRule>> {
        match provider {
            Provider::Stripe => self.stripe.as_ref().map(|stripe| &stripe.prices),
            Provider::LemonSqueezy => self.lemonsqueezy.as_ref().map(|lemon| &lemon.variants),
            Provider::CinetPay => None,
        }
    }

    fn resolve(&mut self, environment: &dyn Fn(&str) -> Option<String>) -> Result<(), SettingsError> {
        let mut secrets: Vec<(&'static str, &mut Secret)> = Vec::new();
        if let Some(stripe) = &mut self.stripe {
            secrets.extend(stripe.signing_secrets.each_mut().map(|s| ("stripe.signing_secrets", s)));
        }
        if let Some(lemon) = &mut self.lemonsqueezy {
            secrets.extend(lemon.signing_secrets.each_mut().map(|s| ("lemonsqueezy.signing_secrets", s)));
        }
        if let Some(cinetpay) = &mut self.cinetpay {
            secrets.push(("cinetpay.api_key", &mut cinetpay.api_key));
            secrets.push(("cinetpay.secret_key", &mut cinetpay.secret_key));
        }
        for (path, secret) in secrets {
            secret.resolve(environment).map_err(|name| SettingsError::Environment { path, name })?;
        }
        Ok(())
    }

    fn check(&self) -> Result<(), SettingsError> {
        let wrong =
            |path: &str, message: String| Err(SettingsError::Meaning { path: path.to_owned(), message });
        let signing = [
            ("stripe.signing_secrets", self.stripe.as_ref().map(|stripe| &stripe.signing_secrets)),
            ("lemonsqueezy.signing_secrets", self.lemonsqueezy.as_ref().map(|lemon| &lemon.signing_secrets)),
        ];
        for (path, secrets) in signing {
            let Some(secrets) = secrets else { continue };
            let short = |secret: &Secret| secret.expose().chars().count() < SECRET_CHARS_MIN;
            if secrets.each().next().is_none() || secrets.each().any(short) {
                return wrong(
                    path,
                    format!("give one secret or more, each of {SECRET_CHARS_MIN} characters or more"),
                );
            }
        }
        let links = [
            ("stripe.checkout", self.stripe.as_ref().map(|stripe| &stripe.checkout)),
            ("lemonsqueezy.checkout", self.lemonsqueezy.as_ref().map(|lemon| &lemon.checkout)),
        ];
        for (path, links) in links {
            for (tier, link) in links.into_iter().flatten() {
                if !is_url(link) || !link.contains(SUBJECT_PLACE) {
                    let message =
                        format!("give a link that begins with https:// and has {SUBJECT_PLACE} in it");
                    return wrong(&format!("{path}.{tier}"), message);
                }
            }
        }
        let Some(cinetpay) = &self.cinetpay else { return Ok(()) };
        if cinetpay.secret_key.expose().chars().count() < SECRET_CHARS_MIN
            || cinetpay.api_key.expose().is_empty()
        {
            return wrong("cinetpay", "give its api_key and its secret_key".to_owned());
        }
        for (name, url) in [
            ("base_url", &cinetpay.base_url),
            ("notify_url", &cinetpay.notify_url),
            ("return_url", &cinetpay.return_url),
        ] {
            if !is_url(url) {
                return wrong(
                    &format!("cinetpay.{name}"),
                    "give a link that begins with https://".to_owned(),
                );
            }
        }
        for (tier, plan) in &cinetpay.plans {
            if plan.amount < 5 || plan.amount % 5 != 0 || !(1..=120).contains(&plan.months) {
                let message = "give an amount that is a multiple of 5, and 1 to 120 months".to_owned();
                return wrong(&format!("cinetpay.plans.{tier}"), message);
            }
            let least = if ["XOF", "XAF"].contains(&plan.currency.as_str()) { 100 } else { 5 };
            if plan.amount < least {
                return wrong(&format!("cinetpay.plans.{tier}.amount"), format!("give {least} or more"));
            }
            // CinetPay counts in whole units, and all others here in minor ones: where these differ, an amount is a trap.
            if Currency::from_code(&plan.currency).is_none_or(|currency| currency.exponent() != 0) {
                let message =
                    "give a currency without decimals, as its ISO 4217 code in capitals: XOF, XAF or GNF"
                        .to_owned();
                return wrong(&format!("cinetpay.plans.{tier}.currency"), message);
            }
        }
        Ok(())
    }
}

/// What to do about an error of the reader, without what it met: that may be a secret in the wrong place.
fn shape_message(error: &serde_saphyr::Error) -> String {
    use serde_saphyr::Error;
    match error {
        Error::SerdeMissingField { field, .. } => format!("add `{field}`"),
        Error::SerdeUnknownField { field, expected, .. } => {
            format!("remove `{field}`, or write one of {}", expected.join(", "))
        }
        Error::SerdeInvalidType { expected, .. } | Error::SerdeInvalidValue { expected, .. } => {
            format!("write {expected}")
        }
        _ => "this is not understood; docs/payments.md shows what to write".to_owned(),
    }
}

/// A stand-in on the same machine may do without TLS.
fn is_url(url: &str) -> bool {
    let local = ["http://127.0.0.1", "http://localhost", "http://[::1]"];
    let known = url.starts_with("https://") || local.iter().any(|prefix| url.starts_with(prefix));
    known && reqwest::Url::parse(&url.replace(SUBJECT_PLACE, "x")).is_ok()
}
