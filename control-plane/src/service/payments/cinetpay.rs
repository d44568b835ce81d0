//! CinetPay: single payments by mobile money and cards. Its notifications are signed over values without boundaries, and
//! may be repeated by whoever saw one, so nothing is granted by a notification: it only makes us ask CinetPay's API, and
//! what that says is compared with the order.

use reqwest::Client;
use serde_json::{Value as Json, json};

use super::settings::{CinetPaySettings, Plan};
use super::signature;
use crate::calendar::HOUR_MS;
use crate::service::tokens::random_hex;
use crate::service::{ControlPlane, ServiceError};
use crate::store::audit::Author;
use crate::store::payments::OrderRow;
use crate::store::{StoreError, orders, payments, subjects};

/// The values that `x-token` signs, in this order, without anything between them:
/// <https://docs.cinetpay.com/api/1.0-en/checkout/hmac>
const SIGNED: [&str; 16] = [
    "cpm_site_id",
    "cpm_trans_id",
    "cpm_trans_date",
    "cpm_amount",
    "cpm_currency",
    "signature",
    "payment_method",
    "cel_phone_num",
    "cpm_phone_prefixe",
    "cpm_language",
    "cpm_version",
    "cpm_payment_config",
    "cpm_page_action",
    "cpm_custom",
    "cpm_designation",
    "cpm_error_message",
];

/// Largest answer of its API that is read, bytes.
const ANSWER_BYTES_MAX: usize = 64 << 10;

/// Code of a payment that is made.
const CODE_ACCEPTED: &str = "00";

/// Codes of payments that have failed; so has one whose status is `REFUSED`.
const CODES_REFUSED: [&str; 2] = ["600", "627"];

/// What CinetPay's API says of a payment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Check {
    /// It is made.
    Accepted {
        /// As CinetPay writes it.
        amount: String,
        /// ISO 4217.
        currency: String,
    },
    /// It has failed.
    Refused,
    /// The payer has still to do something; CinetPay notifies again.
    Waiting,
}

/// Why its API was of no use. No variant has the address or the body of a request: these hold keys.
#[derive(Debug, thiserror::Error)]
pub enum CinetPayError {
    /// It does not answer.
    #[error("CinetPay does not answer")]
    Unreachable(#[source] reqwest::Error),
    /// It answers something else.
    #[error("CinetPay answered something unexpected: {0}")]
    Unexpected(String),
}

/// The fields of a notification.
pub fn fields(body: &[u8]) -> Vec<(String, String)> {
    form_urlencoded::parse(body).into_owned().collect()
}

/// The value of a field; empty where it is missing.
pub fn field<'a>(fields: &'a [(String, String)], name: &str) -> &'a str {
    fields.iter().find(|(known, _)| known == name).map_or("", |(_, value)| value)
}

/// The form of those fields that are signed.
pub fn signed(fields: &[(String, String)]) -> String {
    let pairs = SIGNED.iter().map(|name| (*name, field(fields, name))).filter(|(_, value)| !value.is_empty());
    form_urlencoded::Serializer::new(String::new()).extend_pairs(pairs).finish()
}

/// Whether `x-token` is that of these fields.
pub fn is_signed(settings: &CinetPaySettings, fields: &[(String, String)], token: &str) -> bool {
    let parts: Vec<&[u8]> = SIGNED.iter().map(|name| field(fields, name).as_bytes()).collect();
    signature::is_hex_mac(settings.secret_key.expose(), &parts, token)
}

/// Asks how a payment stands.
pub async fn check(client: &Client, settings: &CinetPaySettings, id: &str) -> Result<Check, CinetPayError> {
    let body = json!({
        "apikey": settings.api_key.expose(),
        "site_id": settings.site_id,
        "transaction_id": id,
    });
    let answer =
        post(client, &format!("{}/v2/payment/check", settings.base_url.trim_end_matches('/')), &body).await?;
    let code = text(&answer, "/code").unwrap_or_default();
    let status = text(&answer, "/data/status").unwrap_or_default();
    match (code.as_str(), status.as_str()) {
        (CODE_ACCEPTED, "ACCEPTED") => Ok(Check::Accepted {
            amount: text(&answer, "/data/amount").unwrap_or_default(),
            currency: text(&answer, "/data/currency").unwrap_or_default(),
        }),
        (_, "REFUSED") => Ok(Check::Refused),
        (code, _) if CODES_REFUSED.contains(&code) => Ok(Check::Refused),
        // WAITING_FOR_CUSTOMER, and codes 623 and 662 to 664.
        (_, "WAITING_FOR_CUSTOMER" | "WAITING_CUSTOMER_PAYMENT" | "PENDING")
        | ("623" | "662" | "663" | "664", _) => Ok(Check::Waiting),
        (code, _) => Err(CinetPayError::Unexpected(format!("code {:?}", short(code)))),
    }
}

/// Whether an amount, as CinetPay writes it, is so many units of a currency without decimals.
pub fn is_amount(written: &str, amount: i64) -> bool {
    let whole = written.trim().split_once('.').map_or(written.trim(), |(whole, decimals)| {
        if decimals.bytes().all(|byte| byte == b'0') { whole } else { "" }
    });
    whole.parse() == Ok(amount)
}

/// For how long whoever asks again is sent to the same order, ms. Prices may change, and CinetPay's pages end.
const ORDER_MS: i64 = HOUR_MS;

/// Most orders that a subject makes in that time and does not pay.
const ORDERS_MAX: i64 = 10;

impl ControlPlane {
    /// The page where a subject's order is paid: of the one that it made a while ago, or of a new one, for which CinetPay is
    /// asked.
    pub(super) async fn begin_order(
        &self,
        author: &Author,
        settings: &CinetPaySettings,
        subject: &str,
        tier: &str,
        plan: &Plan,
    ) -> Result<String, ServiceError> {
        let random = random_hex::<12>().map_err(|error| StoreError::corrupt("a random number", error))?;
        let order = &OrderRow {
            provider: "cinetpay".to_owned(),
            id: format!("tg{random}"),
            subject: subject.to_owned(),
            tier: tier.to_owned(),
            amount: plan.amount,
            currency: plan.currency.clone(),
            months: i64::from(plan.months),
            state: "open".to_owned(),
            created_ms: author.now_ms,
            paid_ms: None,
        };
        // First the order, so that no notification can come before it.
        let page = self
            .database
            .transact("make order", |tx| {
                Box::pin(async move {
                    // One at a time, or each would see none of the others.
                    subjects::lock(tx, &[subject]).await?;
                    let after_ms = order.created_ms.saturating_sub(ORDER_MS);
                    if let Some(page) = orders::page(tx, order, after_ms).await? {
                        return Ok(Some(page));
                    }
                    if orders::unpaid(tx, &order.provider, subject, after_ms).await? >= ORDERS_MAX {
                        return Err(ServiceError::Busy(
                            "Too many payments were begun and not made. Make one of them, or try again in an hour.",
                        ));
                    }
                    payments::make_order(tx, order).await?;
                    Ok(None)
                })
            })
            .await?;
        if let Some(page) = page {
            return Ok(page);
        }
        let body = json!({
            "apikey": settings.api_key.expose(),
            "site_id": settings.site_id,
            "transaction_id": order.id,
            "amount": order.amount,
            "currency": order.currency,
            "description": "Subscription",
            "notify_url": settings.notify_url,
            "return_url": settings.return_url,
            "channels": "ALL",
        });
        let unavailable = |error: CinetPayError| {
            tracing::warn!(error = &error as &dyn std::error::Error, "cannot begin a payment");
            ServiceError::Busy("The payment provider does not answer. Try again in a moment.")
        };
        let client = self.payments.client().map_err(|e| unavailable(CinetPayError::Unreachable(e)))?;
        let url = format!("{}/v2/payment", settings.base_url.trim_end_matches('/'));
        let answer = post(client, &url, &body).await.map_err(unavailable)?;
        let page =
            text(&answer, "/data/payment_url").filter(|_| text(&answer, "/code").as_deref() == Some("201"));
        let page = page.ok_or_else(|| {
            let code = text(&answer, "/code").unwrap_or_default();
            unavailable(CinetPayError::Unexpected(format!("code {:?}", short(&code))))
        })?;
        let url = page.as_str();
        let written: Result<(), StoreError> = self
            .database
            .transact("note page of order", |tx| {
                Box::pin(async move { orders::write_page(tx, &order.provider, &order.id, url).await })
            })
            .await;
        written?;
        Ok(page)
    }
}

async fn post(client: &Client, url: &str, body: &Json) -> Result<Json, CinetPayError> {
    let unreachable = |error: reqwest::Error| CinetPayError::Unreachable(error.without_url());
    let mut response = client.post(url).json(body).send().await.map_err(unreachable)?;
    let status = response.status();
    let mut answer = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(unreachable)? {
        if answer.len() + chunk.len() > ANSWER_BYTES_MAX {
            return Err(CinetPayError::Unexpected("a very long answer".to_owned()));
        }
        answer.extend_from_slice(&chunk);
    }
    // Failed payments come with statuses of failure and a body all the same.
    serde_json::from_slice(&answer)
        .map_err(|_| CinetPayError::Unexpected(format!("status {status} without JSON")))
}

/// A text, or a number as text: CinetPay writes both.
fn text(json: &Json, pointer: &str) -> Option<String> {
    match json.pointer(pointer)? {
        Json::String(text) => Some(text.clone()),
        Json::Number(number) => Some(number.to_string()),
        _ => None,
    }
}

fn short(text: &str) -> String {
    text.chars().take(40).collect()
}
