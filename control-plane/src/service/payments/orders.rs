//! Single payments: what CinetPay's API says of an order, compared with the order; and how long what was paid lasts.

use jiff::{Timestamp, ToSpan as _, tz::TimeZone};
use serde_json::json;
use tollgate_policy::subscription::{Subscription, SubscriptionState};

use super::account::View;
use super::cinetpay::{self, Check};
use super::settle::settle;
use crate::service::happenings::{self, Happening};
use crate::service::{ControlPlane, ServiceError};
use crate::store::payments::{OrderRow, SnapshotRow};
use crate::store::webhooks::WebhookRow;
use crate::store::{StoreError, Tx, audit, payments, subjects, webhooks};

/// CinetPay's name in the store.
const CINETPAY: &str = "cinetpay";

/// What is to be written of an order.
enum News {
    Paid,
    Refused,
    Differs(String),
}

impl ControlPlane {
    /// Works off a notification: CinetPay's API is asked, unless the order is known to be paid.
    pub(super) async fn work_off_notification(&self, row: &WebhookRow) -> Result<&'static str, ServiceError> {
        let Some(settings) = &self.settings.payments.cinetpay else {
            return Err(ServiceError::Busy("CinetPay is not configured any more."));
        };
        let id = row.reference.as_deref().unwrap_or_default();
        let Some(order) = payments::order(&self.database, CINETPAY, id).await? else {
            return self.finish_webhook(row, "ignored", Some("it is no order of ours"), None).await;
        };
        let subject = Some(order.subject.as_str());
        if order.state == "paid" {
            return self.finish_webhook(row, "done", None, subject).await;
        }
        let unavailable = |error: &(dyn std::error::Error + 'static)| {
            tracing::warn!(error, "cannot ask CinetPay how a payment stands");
            ServiceError::Busy("CinetPay could not be asked how the payment stands")
        };
        let client = self.payments.client().map_err(|error| unavailable(&error))?;
        let news = match cinetpay::check(client, settings, id).await.map_err(|error| unavailable(&error))? {
            Check::Waiting => {
                return self
                    .finish_webhook(row, "done", Some("the payer has still to confirm it"), subject)
                    .await;
            }
            Check::Refused => News::Refused,
            Check::Accepted { amount, currency }
                if cinetpay::is_amount(&amount, order.amount) && currency == order.currency =>
            {
                News::Paid
            }
            Check::Accepted { amount, currency } => {
                let amount: String = amount.chars().take(40).collect();
                let currency: String = currency.chars().take(40).collect();
                News::Differs(format!(
                    "paid {amount} {currency}, ordered {} {}",
                    order.amount, order.currency
                ))
            }
        };
        let in_force = &self.newest().await?;
        let author = &self.webhook_author(row);
        let view = View { settings: &self.settings.payments, in_force, author };
        let subject = order.subject.as_str();
        let (news, state) = (&news, if matches!(news, News::Differs(_)) { "failed" } else { "done" });
        self.database
            .transact("settle order", |tx| {
                Box::pin(async move {
                    if !webhooks::lock_pending(tx, row.id).await? {
                        return Ok::<_, ServiceError>(());
                    }
                    // Another order of the subject's may be on its way to be paid: what is paid is looked at one by one.
                    subjects::lock(tx, &[subject]).await?;
                    let order = payments::lock_order(tx, CINETPAY, id).await?;
                    let error = match news {
                        News::Differs(error) => Some(error.as_str()),
                        _ => None,
                    };
                    webhooks::finish(tx, row.id, state, error, Some(subject)).await?;
                    match order {
                        Some(order) if order.state != "paid" => write_news(tx, view, row, &order, news).await,
                        _ => Ok(()),
                    }
                })
            })
            .await?;
        self.hub.poke();
        Ok(state)
    }

    async fn finish_webhook(
        &self,
        row: &WebhookRow,
        state: &'static str,
        error: Option<&str>,
        subject: Option<&str>,
    ) -> Result<&'static str, ServiceError> {
        let finished: Result<(), StoreError> = self
            .database
            .transact("finish webhook", |tx| {
                Box::pin(async move {
                    match webhooks::lock_pending(tx, row.id).await? {
                        true => webhooks::finish(tx, row.id, state, error, subject).await,
                        false => Ok(()),
                    }
                })
            })
            .await;
        finished?;
        Ok(state)
    }
}

async fn write_news(
    tx: &mut Tx<'_>,
    view: View<'_>,
    row: &WebhookRow,
    order: &OrderRow,
    news: &News,
) -> Result<(), ServiceError> {
    let (state, action) = match news {
        News::Paid => ("paid", "payment.paid"),
        News::Refused => ("refused", "payment.failed"),
        News::Differs(_) => ("differs", "payment.failed"),
    };
    let now_ms = view.author.now_ms;
    let paid_ms = (state == "paid").then_some(now_ms);
    payments::settle_order(tx, CINETPAY, &order.id, state, paid_ms).await?;
    let after = json!({
        "webhook": row.id,
        "order": order.id,
        "tier": order.tier,
        "amount": order.amount,
        "currency": order.currency,
        "state": state,
    });
    audit::append(tx, view.author, action, &order.subject, None, Some(&after)).await?;
    if paid_ms.is_none() {
        let failed = Happening::PaymentFailed {
            subject: order.subject.clone(),
            provider: CINETPAY.to_owned(),
            reference: order.id.clone(),
            amount: Some(order.amount),
            currency: Some(order.currency.clone()),
            at_ms: now_ms,
        };
        return Ok(happenings::note(tx, now_ms, &[failed]).await?);
    }
    let paid = payments::paid_orders(tx, CINETPAY, &order.subject, &order.tier).await?;
    let Some(outcome) = lasting(&paid) else { return Ok(()) };
    let snapshot = SnapshotRow {
        provider: CINETPAY.to_owned(),
        reference: format!("{} {}", order.tier, order.subject),
        account: order.subject.clone(),
        subject: Some(order.subject.clone()),
        outcome,
    };
    payments::write_snapshot(tx, &snapshot).await?;
    settle(tx, view, &order.subject).await
}

/// How long paid orders of one tier last: each for its months, the next from where the one before ends, or from when it
/// was paid if that is later. Months count from the first of a row, so that a 31st stays a 31st.
fn lasting(paid: &[OrderRow]) -> Option<Subscription> {
    let mut lasting: Option<(i64, i64, i64)> = None;
    for order in paid {
        let paid_ms = order.paid_ms?;
        let (begin_ms, months) = match lasting {
            Some((begin_ms, months, end_ms)) if paid_ms <= end_ms => (begin_ms, months + order.months),
            _ => (paid_ms, order.months),
        };
        lasting = Some((begin_ms, months, months_after(begin_ms, months)));
    }
    let (anchor_ms, _, end_ms) = lasting?;
    Some(Subscription {
        tier: paid.first()?.tier.clone(),
        state: SubscriptionState::Active,
        anchor_ms,
        tier_since_ms: Some(anchor_ms),
        period_ends_at_ms: Some(end_ms),
        expires_at_ms: Some(end_ms),
        ..Subscription::default()
    })
}

fn months_after(begin_ms: i64, months: i64) -> i64 {
    let begin = Timestamp::from_millisecond(begin_ms).unwrap_or_default().to_zoned(TimeZone::UTC);
    begin.checked_add(months.months()).map_or(begin_ms, |end| end.timestamp().as_millisecond())
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::{OrderRow, lasting};

    /// Orders by the day on which each was paid, and the day on which what they bought ends.
    fn check(orders: &[(&str, i64)], end: &str) {
        let paid: Vec<OrderRow> = orders
            .iter()
            .map(|(day, months)| OrderRow {
                provider: "cinetpay".to_owned(),
                id: (*day).to_owned(),
                subject: "user:a".to_owned(),
                tier: "pro".to_owned(),
                amount: 100,
                currency: "XOF".to_owned(),
                months: *months,
                state: "paid".to_owned(),
                created_ms: 0,
                paid_ms: Some(format!("{day}T12:00:00Z").parse::<Timestamp>().unwrap().as_millisecond()),
            })
            .collect();
        let end_ms = lasting(&paid).and_then(|lasting| lasting.expires_at_ms).unwrap();
        assert_eq!(Timestamp::from_millisecond(end_ms).unwrap().to_string(), format!("{end}T12:00:00Z"));
    }

    #[test]
    fn months_are_calendar_months_and_follow_each_other() {
        check(&[("2027-01-31", 1)], "2027-02-28");
        check(&[("2027-01-31", 1), ("2027-02-20", 1)], "2027-03-31");
        check(&[("2028-01-31", 1)], "2028-02-29");
        check(&[("2027-01-31", 1), ("2027-05-10", 2)], "2027-07-10");
        check(&[("2027-01-01", 12), ("2027-01-01", 1)], "2028-02-01");
    }
}
