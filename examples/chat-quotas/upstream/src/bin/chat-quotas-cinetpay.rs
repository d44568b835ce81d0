//! A stand-in of CinetPay's API on this machine: it takes orders (`POST /v2/payment`), says how they stand (`POST
//! /v2/payment/check`), and tells of them as CinetPay does, by a signed form. The pages where people pay are `POST
//! /pay/{order}`: no money moves, and what comes of it may be chosen. Beside that it is whoever else is told something:
//! `POST /told` takes Tollgate's events.

use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use hmac::{Hmac, Mac as _};
use serde::Deserialize;
use serde_json::{Value, json};
use sha2::Sha256;

/// The fourth port after the gateway's; the tour names it.
const PORT: u16 = 18404;

/// The merchant's account, as in `payments.yaml`. Everybody may know it: no money moves here.
const SITE_ID: &str = "105885";
const API_KEY: &str = "demo-cinetpay-api-key";
const SECRET_KEY: &str = "demo-cinetpay-secret";

/// What stands for the newest order, for those who do not know its name.
const NEWEST: &str = "newest";

/// What a notification signs, in this order, with nothing between the values.
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

/// All that it keeps.
#[derive(Debug, Clone, Default)]
struct Desk {
    orders: Arc<Mutex<Vec<Order>>>,
    client: reqwest::Client,
}

#[derive(Debug, Clone)]
struct Order {
    id: String,
    amount: i64,
    currency: String,
    notify_url: String,
    payment: Payment,
}

/// What came of an order.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Payment {
    Waiting,
    Accepted { amount: i64 },
    Refused,
}

/// `POST /v2/payment`, as far as it matters here.
#[derive(Debug, Deserialize)]
struct Wanted {
    apikey: String,
    site_id: String,
    transaction_id: String,
    amount: i64,
    currency: String,
    notify_url: String,
}

/// `POST /v2/payment/check`
#[derive(Debug, Deserialize)]
struct Asked {
    apikey: String,
    site_id: String,
    transaction_id: String,
}

/// What the payer does. Nothing said: pays what is asked for.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Payer {
    /// Francs that are paid.
    amount: Option<i64>,
    /// Whether the payment is refused.
    #[serde(default)]
    refused: bool,
    /// Whether nothing is paid yet, and CinetPay tells of it all the same.
    #[serde(default)]
    waits: bool,
}

#[tokio::main]
async fn main() -> ExitCode {
    // reqwest is built without a provider of its own, and wants one although nothing here speaks TLS.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let desk = Desk::default();
    let stand_in = Router::new()
        .route("/v2/payment", post(begin))
        .route("/v2/payment/check", post(check))
        .route("/pay/{order}", get(show).post(pay))
        .route("/orders", get(list))
        .route("/told", post(|| async { StatusCode::NO_CONTENT }))
        .with_state(desk);
    example_listen::serve("chat-quotas-cinetpay", PORT, stand_in).await
}

async fn begin(
    State(desk): State<Desk>,
    headers: axum::http::HeaderMap,
    Json(wanted): Json<Wanted>,
) -> Response {
    if let Some(problem) = account_problem(&wanted.apikey, &wanted.site_id) {
        return problem;
    }
    if wanted.amount % 5 != 0 || wanted.amount < 100 {
        return problem_of("608", "MINIMUM_REQUIRED_FIELDS", "the amount is a multiple of 5, from 100 on");
    }
    let host = headers.get("host").and_then(|host| host.to_str().ok()).unwrap_or_default();
    let page = format!("http://{host}/pay/{}", wanted.transaction_id);
    let order = Order {
        id: wanted.transaction_id,
        amount: wanted.amount,
        currency: wanted.currency,
        notify_url: wanted.notify_url,
        payment: Payment::Waiting,
    };
    let is_new = desk.with(|orders| match orders.iter().any(|known| known.id == order.id) {
        true => false,
        false => {
            orders.push(order);
            true
        }
    });
    if !is_new {
        return problem_of("608", "MINIMUM_REQUIRED_FIELDS", "the transaction_id was used before");
    }
    Json(json!({
        "code": "201",
        "message": "CREATED",
        "description": "Transaction created with success",
        "data": {"payment_token": "stand-in", "payment_url": page},
    }))
    .into_response()
}

async fn check(State(desk): State<Desk>, Json(asked): Json<Asked>) -> Response {
    if let Some(problem) = account_problem(&asked.apikey, &asked.site_id) {
        return problem;
    }
    match desk.find(&asked.transaction_id) {
        Some(order) => Json(standing(&order)).into_response(),
        None => problem_of("600", "PAYMENT_FAILED", "there is no such transaction"),
    }
}

async fn list(State(desk): State<Desk>) -> Json<Value> {
    let orders = desk.with(|orders| orders.clone());
    Json(orders.iter().map(standing).collect())
}

async fn show(State(desk): State<Desk>, Path(order): Path<String>) -> Response {
    match desk.find(&order) {
        Some(order) => Json(standing(&order)).into_response(),
        None => StatusCode::NOT_FOUND.into_response(),
    }
}

/// Somebody pays, and whoever is to be told is told before this answers.
async fn pay(State(desk): State<Desk>, Path(order): Path<String>, payer: Option<Json<Payer>>) -> Response {
    let payer = payer.map(|Json(payer)| payer).unwrap_or_default();
    let paid = desk.with(|orders| {
        let order = match order.as_str() {
            NEWEST => orders.last_mut(),
            id => orders.iter_mut().find(|order| order.id == id),
        }?;
        order.payment = match &payer {
            Payer { waits: true, .. } => Payment::Waiting,
            Payer { refused: true, .. } => Payment::Refused,
            Payer { amount, .. } => Payment::Accepted { amount: amount.unwrap_or(order.amount) },
        };
        Some(order.clone())
    });
    let Some(order) = paid else { return StatusCode::NOT_FOUND.into_response() };
    let (form, token) = notification(&order);
    let told = desk
        .client
        .post(&order.notify_url)
        .header("x-token", token)
        .header("content-type", "application/x-www-form-urlencoded")
        .body(form)
        .send()
        .await;
    let status = told.map_or(0, |answer| answer.status().as_u16());
    let mut answer = standing(&order);
    answer["notified"] = json!({"url": order.notify_url, "status": status});
    Json(answer).into_response()
}

impl Desk {
    fn with<T>(&self, look: impl FnOnce(&mut Vec<Order>) -> T) -> T {
        // Poisoned by a panic under the lock; the list is whole between any two statements.
        look(&mut self.orders.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn find(&self, id: &str) -> Option<Order> {
        self.with(|orders| orders.iter().find(|order| order.id == id).cloned())
    }
}

/// What CinetPay's API says of an order.
fn standing(order: &Order) -> Value {
    let (code, message, status, amount) = match order.payment {
        Payment::Waiting => ("662", "WAITING_CUSTOMER_PAYMENT", "WAITING_FOR_CUSTOMER", order.amount),
        Payment::Accepted { amount } => ("00", "SUCCES", "ACCEPTED", amount),
        Payment::Refused => ("627", "TRANSACTION_CANCEL", "REFUSED", order.amount),
    };
    json!({
        "code": code,
        "message": message,
        // As CinetPay writes it: a text.
        "data": {
            "amount": amount.to_string(), "currency": order.currency, "status": status, "payment_method": "OM",
            "description": "", "metadata": null, "operator_id": null, "payment_date": "",
        },
    })
}

fn account_problem(api_key: &str, site_id: &str) -> Option<Response> {
    match (api_key, site_id) {
        (API_KEY, SITE_ID) => None,
        (API_KEY, _) => Some(problem_of("613", "ERROR_SITE_ID_NOTVALID", "look at site_id")),
        _ => Some(problem_of("609", "AUTH_NOT_FOUND", "look at apikey")),
    }
}

fn problem_of(code: &str, message: &str, description: &str) -> Response {
    let body = json!({"code": code, "message": message, "description": description, "data": []});
    (StatusCode::BAD_REQUEST, Json(body)).into_response()
}

/// The form that CinetPay sends, and its `x-token`. It says that there is news, and not which: whoever gets it must ask.
fn notification(order: &Order) -> (String, String) {
    let amount = order.amount.to_string();
    let value = |name: &str| match name {
        "cpm_site_id" => SITE_ID,
        "cpm_trans_id" => &order.id,
        "cpm_amount" => &amount,
        "cpm_currency" => &order.currency,
        "payment_method" => "OM",
        "cpm_phone_prefixe" => "225",
        "cel_phone_num" => "0102030405",
        "cpm_language" => "fr",
        "cpm_version" => "V4",
        "cpm_payment_config" => "SINGLE",
        "cpm_page_action" => "PAYMENT",
        "cpm_designation" => "Abonnement",
        "cpm_error_message" => "SUCCES",
        _ => "",
    };
    let fields = SIGNED.map(|name| (name, value(name)));
    let form = form_urlencoded::Serializer::new(String::new()).extend_pairs(fields).finish();
    (form, mac(&fields.map(|(_, value)| value)))
}

fn mac(values: &[&str]) -> String {
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(SECRET_KEY.as_bytes()) else {
        // HMAC takes keys of any length.
        return String::new();
    };
    values.iter().for_each(|value| mac.update(value.as_bytes()));
    mac.finalize().into_bytes().iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::{Order, Payment, notification, standing};

    fn order(payment: Payment) -> Order {
        Order {
            id: "tg1".to_owned(),
            amount: 7_000,
            currency: "XOF".to_owned(),
            notify_url: String::new(),
            payment,
        }
    }

    #[test]
    fn a_notification_tells_nothing_of_what_came_of_the_order() {
        let of = |payment| notification(&order(payment));
        assert_eq!(of(Payment::Waiting), of(Payment::Accepted { amount: 7_000 }));
        let (form, token) = of(Payment::Refused);
        assert!(form.starts_with("cpm_site_id=105885&cpm_trans_id=tg1&"), "{form}");
        assert_eq!(token.len(), 64);
    }

    #[test]
    fn the_api_tells_what_was_paid() {
        let told = standing(&order(Payment::Accepted { amount: 5_000 }));
        assert_eq!((told["code"].as_str(), told["data"]["amount"].as_str()), (Some("00"), Some("5000")));
        assert_eq!(standing(&order(Payment::Refused))["data"]["status"], "REFUSED");
    }
}
