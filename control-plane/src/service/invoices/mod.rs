//! Invoices: what a subject's time and usage come to. A preview says it of any range; closing one writes it down for good.
//!
//! A closed invoice is never changed. Usage of its time that arrives later, or is corrected, is in the subject's next
//! invoice, in lines that name the closed one.

mod adjust;
mod calculate;

use serde_json::json;
use tollgate_policy::price::{Currency, Line, billing_month};

use super::subscriptions::{check_subject, lock};
use super::{ControlPlane, Invalid, NotFound, ServiceError};
use crate::calendar::DAY_MS;
use crate::store::audit::Author;
use crate::store::invoices::{Content, InvoiceRow};
use crate::store::{audit, invoices, subjects};
use calculate::Priced;

/// Longest time that one invoice is for, days: a leap year.
const RANGE_DAYS_MAX: i64 = 366;

/// How many closed invoices of a subject late usage is looked for in: those of a year, and one.
const ADJUSTABLE_MAX: i64 = 13;

/// An invoice, closed or not.
#[derive(Debug, Clone, PartialEq)]
pub struct InvoiceView {
    /// Nothing of a preview.
    pub closed: Option<Closed>,
    /// Who is charged.
    pub subject: String,
    /// Of all amounts.
    pub currency: Currency,
    /// Start of the time that it is for, Unix ms.
    pub from_ms: i64,
    /// Its end.
    pub to_ms: i64,
    /// The version of the policy whose prices they are.
    pub policy_version: i64,
    /// What makes it up: first what its own time came to, then what earlier invoices are adjusted by.
    pub lines: Vec<Line>,
    /// The sum of lines of its own time, minor units.
    pub subtotal_minor: i64,
    /// The sum of lines that adjust earlier invoices.
    pub adjustments_minor: i64,
    /// The sum of all lines.
    pub total_minor: i64,
}

/// What a closed invoice has and a preview has not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Closed {
    /// Rises by one with each, without gaps.
    pub number: i64,
    /// When, Unix ms.
    pub at_ms: i64,
    /// The name of the token that closed it.
    pub by: String,
}

impl ControlPlane {
    /// What an invoice of `from_ms..to_ms` would say now; by default of the billing month that now is in.
    pub async fn preview_invoice(
        &self,
        subject: &str,
        from_ms: Option<i64>,
        to_ms: Option<i64>,
    ) -> Result<InvoiceView, ServiceError> {
        check_subject(subject)?;
        let row = subjects::read(&self.database, subject).await?;
        let from_ms =
            from_ms.unwrap_or_else(|| billing_month(row.subscription.as_ref(), self.clock.now_ms()).start_ms);
        let to_ms = to_ms.unwrap_or_else(|| billing_month(row.subscription.as_ref(), from_ms).end_ms);
        check_range(from_ms, to_ms)?;
        let priced = self.priced_now().await?;
        let closed = invoices::latest(&self.database, subject, ADJUSTABLE_MAX).await?;
        let (row, _) = self.work_out(subject, row.tier_claim, &priced, &closed, from_ms, to_ms).await?;
        view(row, None)
    }

    /// Closes the invoice of `from_ms..to_ms`, a time that is over; by default of the first billing month that is in none.
    /// One that is closed already is answered again. Answers whether it was closed just now.
    pub async fn close_invoice(
        &self,
        author: &Author,
        subject: &str,
        from_ms: Option<i64>,
        to_ms: Option<i64>,
    ) -> Result<(InvoiceView, bool), ServiceError> {
        check_subject(subject)?;
        let row = subjects::read(&self.database, subject).await?;
        let closed = invoices::latest(&self.database, subject, ADJUSTABLE_MAX).await?;
        let month = |ms: i64| billing_month(row.subscription.as_ref(), ms);
        let from_ms = from_ms.or(closed.first().map(|last| last.to_ms));
        let from_ms = from_ms.unwrap_or_else(|| month(month(author.now_ms).start_ms - 1).start_ms);
        let to_ms = to_ms.unwrap_or_else(|| month(from_ms).end_ms);
        check_range(from_ms, to_ms)?;
        if let Some(same) = closed.iter().find(|row| (row.from_ms, row.to_ms) == (from_ms, to_ms)) {
            return Ok((view(same.clone(), Some(same.number))?, false));
        }
        if let Some(last) = closed.first().filter(|last| from_ms < last.to_ms) {
            let message = format!(
                "Begin at the end of invoice {} or later: no time is charged for twice.",
                last.number
            );
            return Err(ServiceError::invalid(Invalid::InvoiceOverlap, message));
        }
        if to_ms > author.now_ms {
            let message = "Close a time that is over; GET …/invoices/preview says what it comes to so far.";
            return Err(ServiceError::invalid(Invalid::PeriodOpen, message));
        }
        let priced = self.priced_now().await?;
        let (mut invoice, policy_version) =
            self.work_out(subject, row.tier_claim, &priced, &closed, from_ms, to_ms).await?;
        (invoice.closed_ms, invoice.closed_by) = (author.now_ms, author.actor.clone());
        let (invoice, last) = (&invoice, closed.first().map(|last| last.number));
        let number = self
            .database
            .transact("close invoice", |tx| {
                Box::pin(async move {
                    lock(tx, subject).await?;
                    if invoices::last_number(tx, subject).await? != last {
                        return Err(ServiceError::Busy(
                            "Another invoice of the subject was closed just now.",
                        ));
                    }
                    let number = invoices::append(tx, invoice).await?;
                    let after = json!({
                        "number": number, "from_ms": from_ms, "to_ms": to_ms, "currency": invoice.currency,
                        "total_minor": invoice.total_minor, "policy_version": policy_version,
                    });
                    audit::append(tx, author, "invoice.close", subject, None, Some(&after)).await?;
                    Ok::<_, ServiceError>(number)
                })
            })
            .await?;
        Ok((view(invoice.clone(), Some(number))?, true))
    }

    /// The closed invoice of a number.
    pub async fn invoice(&self, number: i64) -> Result<InvoiceView, ServiceError> {
        let row = invoices::read(&self.database, number).await?;
        let row = row.ok_or(ServiceError::NotFound(NotFound::Invoice))?;
        view(row, Some(number))
    }

    /// At most `limit` closed invoices with numbers below `before`, the newest first; of one subject only, where it is given.
    pub async fn invoices(
        &self,
        before: i64,
        subject: Option<&str>,
        limit: i64,
    ) -> Result<Vec<InvoiceView>, ServiceError> {
        let rows = invoices::page(&self.database, before, subject, limit).await?;
        rows.into_iter().map(|row| (row.number, row)).map(|(number, row)| view(row, Some(number))).collect()
    }

    /// An invoice, not closed yet, and the version of the policy that it is by.
    async fn work_out(
        &self,
        subject: &str,
        claimed: Option<String>,
        priced: &Priced,
        closed: &[InvoiceRow],
        from_ms: i64,
        to_ms: i64,
    ) -> Result<(InvoiceRow, i64), ServiceError> {
        let calculated = self.calculate(subject, priced, claimed.as_deref(), from_ms, to_ms).await?;
        let mut lines = calculated.lines;
        let (adjustments, adjusted) = self.adjustments(subject, priced, closed, from_ms).await?;
        lines.extend(adjustments);
        let invoice = InvoiceRow {
            number: 0,
            subject: subject.to_owned(),
            from_ms,
            to_ms,
            currency: priced.currency.code().to_owned(),
            total_minor: sum(&lines, |_| true)?,
            policy_version: priced.version,
            closed_ms: 0,
            closed_by: String::new(),
            content: Content { lines, claimed, cuts: calculated.cuts, usage: calculated.usage, adjusted },
        };
        Ok((invoice, priced.version))
    }
}

fn check_range(from_ms: i64, to_ms: i64) -> Result<(), ServiceError> {
    match from_ms < to_ms && to_ms.saturating_sub(from_ms) <= RANGE_DAYS_MAX * DAY_MS {
        true => Ok(()),
        false => {
            let message =
                format!("Give a range whose start is before its end, of at most {RANGE_DAYS_MAX} days.");
            Err(ServiceError::invalid(Invalid::Range, message))
        }
    }
}

fn view(row: InvoiceRow, number: Option<i64>) -> Result<InvoiceView, ServiceError> {
    let lines = row.content.lines;
    Ok(InvoiceView {
        closed: number.map(|number| Closed { number, at_ms: row.closed_ms, by: row.closed_by }),
        subject: row.subject,
        currency: calculate::currency(&row.currency)?,
        from_ms: row.from_ms,
        to_ms: row.to_ms,
        policy_version: row.policy_version,
        subtotal_minor: sum(&lines, |line| line.adjusts.is_none())?,
        adjustments_minor: sum(&lines, |line| line.adjusts.is_some())?,
        total_minor: row.total_minor,
        lines,
    })
}

fn sum(lines: &[Line], which: impl Fn(&Line) -> bool) -> Result<i64, ServiceError> {
    let sum: i128 = lines.iter().filter(|line| which(line)).map(|line| i128::from(line.amount_minor)).sum();
    i64::try_from(sum).map_err(|_| calculate::too_large())
}
