//! An invoice as CSV: a row for each line, and a last one with the total.

use tollgate_policy::price::Money;

use super::title;
use crate::api::csv::{row, text};
use crate::calendar::rfc3339;
use crate::service::invoices::InvoiceView;

const HEADING: &str =
    "invoice,subject,line,tier,title,from,to,quantity,unit_price,amount,amount_minor,currency\r\n";

/// The table. Amounts have no comma before thousands, so that programs read them.
pub(super) fn table(invoice: &InvoiceView) -> String {
    let closed = invoice.closed.as_ref();
    let number = closed.map_or_else(|| "preview".to_owned(), |closed| closed.number.to_string());
    let (subject, currency) = (text(&invoice.subject), invoice.currency);
    let amount = |minor: i64| Money { minor, currency }.digits().replace(',', "");
    let mut table = HEADING.to_owned();
    for (index, line) in invoice.lines.iter().enumerate() {
        table.push_str(&row(&[
            number.clone(),
            subject.clone(),
            (index + 1).to_string(),
            text(&line.tier),
            text(&title(line)),
            rfc3339(line.from_ms),
            rfc3339(line.to_ms),
            line.quantity.to_string(),
            text(&line.unit_price),
            amount(line.amount_minor),
            line.amount_minor.to_string(),
            currency.code().to_owned(),
        ]));
    }
    table.push_str(&row(&[
        number,
        subject,
        "total".to_owned(),
        String::new(),
        String::new(),
        rfc3339(invoice.from_ms),
        rfc3339(invoice.to_ms),
        String::new(),
        String::new(),
        amount(invoice.total_minor),
        invoice.total_minor.to_string(),
        currency.code().to_owned(),
    ]));
    table
}
