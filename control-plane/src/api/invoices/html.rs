//! An invoice as a page that people print. The template escapes whatever is put into it.

use askama::Template;
use tollgate_policy::price::{Line, Money};

use super::title;
use crate::calendar::rfc3339;
use crate::service::invoices::InvoiceView;

#[derive(Template)]
#[template(path = "invoice.html")]
struct Page {
    heading: String,
    subject: String,
    from: String,
    to: String,
    closed_at: Option<String>,
    currency: &'static str,
    currency_name: String,
    symbol: String,
    lines: Vec<PageLine>,
    subtotal: String,
    adjustments: String,
    total: String,
}

struct PageLine {
    title: String,
    tier: String,
    from: String,
    to: String,
    quantity: i64,
    unit_price: String,
    amount: String,
}

/// The page. Fails only when memory does.
pub(super) fn page(invoice: &InvoiceView) -> Result<String, askama::Error> {
    let currency = invoice.currency;
    let digits = |minor: i64| Money { minor, currency }.digits();
    let line = |line: &Line| PageLine {
        title: title(line),
        tier: line.tier.clone(),
        from: rfc3339(line.from_ms),
        to: rfc3339(line.to_ms),
        quantity: line.quantity,
        unit_price: line.unit_price.clone(),
        amount: digits(line.amount_minor),
    };
    let page = Page {
        heading: match &invoice.closed {
            Some(closed) => format!("Invoice {}", closed.number),
            None => "Preview of an invoice".to_owned(),
        },
        subject: invoice.subject.clone(),
        from: rfc3339(invoice.from_ms),
        to: rfc3339(invoice.to_ms),
        closed_at: invoice.closed.as_ref().map(|closed| rfc3339(closed.at_ms)),
        currency: currency.code(),
        currency_name: currency.name(),
        symbol: currency.symbol(),
        lines: invoice.lines.iter().map(line).collect(),
        subtotal: digits(invoice.subtotal_minor),
        adjustments: digits(invoice.adjustments_minor),
        total: digits(invoice.total_minor),
    };
    page.render()
}
