//! What a range comes to, by the prices of one version of the policy.

use std::borrow::Cow;

use sha2::{Digest as _, Sha256};
use tollgate_policy::compile::CompiledPolicy;
use tollgate_policy::document::PolicyDocument;
use tollgate_policy::labels;
use tollgate_policy::price::{Currency, Line, Used, cuts, lines, stretches};

use crate::calendar::DAY_MS;
use crate::hex::hex;
use crate::service::{ControlPlane, Invalid, ServiceError};
use crate::store::usage::{Period, Wanted, sums};
use crate::store::{StoreError, history, policies};

/// Every billing month that holds a moment begins less than this before it.
const MONTH_MS_MAX: i64 = 32 * DAY_MS;

/// A version of the policy, with the currency of its prices.
#[derive(Debug)]
pub(super) struct Priced {
    pub(super) version: i64,
    pub(super) currency: Currency,
    document: PolicyDocument,
    compiled: CompiledPolicy,
}

/// What a range comes to, and what that was worked out from.
#[derive(Debug)]
pub(super) struct Calculated {
    pub(super) lines: Vec<Line>,
    /// Between which moments usage was summed. Empty: no usage has a price.
    pub(super) cuts: Vec<i64>,
    /// Of that usage, SHA-256.
    pub(super) usage: String,
}

impl ControlPlane {
    /// The policy in force, if it has prices.
    pub(super) async fn priced_now(&self) -> Result<Priced, ServiceError> {
        let in_force = self.newest().await?;
        let code = in_force.policy.as_ref().and_then(|policy| policy.document.billing.currency.clone());
        let (Some(policy), Some(code)) = (&in_force.policy, code) else {
            let message = "Apply a policy with prices first: it names their currency in `billing.currency`.";
            return Err(ServiceError::invalid(Invalid::NoPrices, message));
        };
        Ok(Priced {
            version: policy.version,
            currency: currency(&code)?,
            document: policy.document.clone(),
            compiled: policy.compiled.clone(),
        })
    }

    /// A version that prices were by once.
    pub(super) async fn priced_then(&self, version: i64) -> Result<Priced, ServiceError> {
        let what = || format!("version {version} of the policy, which an invoice is by");
        let row = policies::read(&self.database, version).await?;
        let document = row.ok_or_else(|| StoreError::Corrupt { what: what(), source: None })?.document;
        let compiled = CompiledPolicy::compile(&document, 0)
            .map_err(|_| StoreError::Corrupt { what: what(), source: None })?;
        let code = document.billing.currency.clone().unwrap_or_default();
        Ok(Priced { version, currency: currency(&code)?, document, compiled })
    }

    /// What a range comes to.
    pub(super) async fn calculate(
        &self,
        subject: &str,
        priced: &Priced,
        claimed: Option<&str>,
        from_ms: i64,
        to_ms: i64,
    ) -> Result<Calculated, ServiceError> {
        let back_ms = from_ms.saturating_sub(MONTH_MS_MAX);
        let history = history::range(&self.database, subject, back_ms, to_ms).await?;
        let history: Vec<_> = history.into_iter().map(|row| (row.at_ms, row.subscription)).collect();
        let found = stretches(&priced.document, &priced.compiled, &history, claimed, back_ms, to_ms);
        let is_counted = found
            .iter()
            .filter(|stretch| stretch.end_ms > from_ms)
            .any(|stretch| stretch.prices.iter().any(|price| price.meter.is_some()));
        let cuts = if is_counted { cuts(&found, from_ms, to_ms) } else { Vec::new() };
        let used = self.used(subject, &cuts).await?;
        let lines = lines(priced.currency, &found, &used, from_ms, to_ms).map_err(|_| too_large())?;
        Ok(Calculated { lines, cuts, usage: fingerprint(&used) })
    }

    /// What was used between each two moments and the next, by day.
    pub(super) async fn used(&self, subject: &str, cuts: &[i64]) -> Result<Vec<Used>, ServiceError> {
        let mut used = Vec::new();
        for pair in cuts.windows(2) {
            let &[from_ms, to_ms] = pair else { continue };
            let wanted = Wanted { subject, meter: None, from_ms, to_ms, by: Period::Day };
            for sum in sums(&self.database, &wanted).await? {
                used.push(Used {
                    // A day that a moment cuts is summed in two parts.
                    at_ms: sum.start_ms.max(from_ms),
                    units: sum.used(),
                    labels: labels::parse(&sum.labels).unwrap_or_default(),
                    meter: sum.meter,
                });
            }
        }
        Ok(used)
    }
}

/// Two usages have the same one when they are the same.
pub(super) fn fingerprint(used: &[Used]) -> String {
    let mut hash = Sha256::new();
    for used in used.iter().filter(|used| used.units != 0) {
        let labels = labels::to_text(&used.labels).map_or(Cow::Borrowed(""), Cow::Owned);
        hash.update(format!("{} {} {labels} {}\n", used.at_ms, used.meter, used.units));
    }
    hex(&hash.finalize())
}

pub(super) fn currency(code: &str) -> Result<Currency, ServiceError> {
    let unknown = || StoreError::Corrupt { what: format!("the currency {code:?}"), source: None };
    Ok(Currency::from_code(code).ok_or_else(unknown)?)
}

pub(super) fn too_large() -> ServiceError {
    let message = "Lower the prices, or correct the usage: the amount is larger than 2^63 minor units.";
    ServiceError::invalid(Invalid::AmountTooLarge, message)
}
