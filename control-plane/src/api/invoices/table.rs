//! An invoice as CSV (RFC 4180): a row for each line, and a last one with the total. Spreadsheets take cells that begin with
//! certain signs for formulas, so a text that does gets an apostrophe before it.

use tollgate_policy::price::Money;

use super::title;
use crate::api::policy::rfc3339;
use crate::service::invoices::InvoiceView;

const HEADING: [&str; 12] = [
    "invoice",
    "subject",
    "line",
    "tier",
    "title",
    "from",
    "to",
    "quantity",
    "unit_price",
    "amount",
    "amount_minor",
    "currency",
];

/// The table.
pub(super) fn table(invoice: &InvoiceView) -> Result<Vec<u8>, csv::Error> {
    let number =
        invoice.closed.as_ref().map_or_else(|| "preview".to_owned(), |closed| closed.number.to_string());
    let (subject, currency) = (text(&invoice.subject), invoice.currency);
    let amount = |minor: i64| Money { minor, currency }.digits().replace(',', "");
    let mut writer = csv::WriterBuilder::new().terminator(csv::Terminator::CRLF).from_writer(Vec::new());
    writer.write_record(HEADING)?;
    for (index, line) in invoice.lines.iter().enumerate() {
        writer.write_record([
            &number,
            &subject,
            &(index + 1).to_string(),
            &text(&line.tier),
            &text(&title(line)),
            &rfc3339(line.from_ms),
            &rfc3339(line.to_ms),
            &line.quantity.to_string(),
            &text(&line.unit_price),
            &amount(line.amount_minor),
            &line.amount_minor.to_string(),
            currency.code(),
        ])?;
    }
    writer.write_record([
        &number,
        &subject,
        "total",
        "",
        "",
        &rfc3339(invoice.from_ms),
        &rfc3339(invoice.to_ms),
        "",
        "",
        &amount(invoice.total_minor),
        &invoice.total_minor.to_string(),
        currency.code(),
    ])?;
    writer.into_inner().map_err(|error| csv::Error::from(error.into_error()))
}

/// A cell of text that no spreadsheet computes.
fn text(text: &str) -> String {
    // Spaces before a sign do not hide it from all programs.
    let begins_formula = text.trim_start_matches(' ').starts_with(['=', '+', '-', '@', '\t', '\r', '\n']);
    if begins_formula { format!("'{text}") } else { text.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::text;

    #[test]
    fn no_text_is_a_formula() {
        for formula in ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", " =1", "=cmd|' /C calc'!A0"] {
            assert_eq!(text(formula), format!("'{formula}"));
        }
        for plain in ["", "user:alice", "a=b", "1-2", "'=1"] {
            assert_eq!(text(plain), plain);
        }
    }
}
