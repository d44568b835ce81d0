//! Usage that came after its invoice was closed: what closed invoices would come to now, less what was charged for already.

use std::collections::BTreeMap;

use tollgate_policy::price::Line;

use super::calculate::{Priced, fingerprint};
use crate::service::{ControlPlane, ServiceError};
use crate::store::invoices::{self, Adjusted, InvoiceRow};

impl ControlPlane {
    /// Lines that adjust `closed` invoices of the subject (the newest first) that end up to `until_ms`, and which they are.
    /// Each by the prices that it was closed by; one in another currency stays as it is.
    pub(super) async fn adjustments(
        &self,
        subject: &str,
        priced: &Priced,
        closed: &[InvoiceRow],
        until_ms: i64,
    ) -> Result<(Vec<Line>, Vec<Adjusted>), ServiceError> {
        let days_from_ms = invoices::days_from(&self.database).await?;
        let (mut lines, mut adjusted) = (Vec::new(), Vec::new());
        let adjustable = |row: &&InvoiceRow| {
            // Where the ledger has only months left, what lies in which part of one is not known any more.
            let is_told = row.content.cuts.first().is_some_and(|first_ms| *first_ms >= days_from_ms);
            is_told && row.to_ms <= until_ms && row.currency == priced.currency.code()
        };
        // A policy of then is read and compiled once, however many invoices it was in force for.
        let mut then = BTreeMap::new();
        for row in closed.iter().rev().filter(adjustable) {
            let usage = fingerprint(&self.used(subject, &row.content.cuts).await?);
            if usage == *charged_usage(row, closed) {
                continue;
            }
            let claimed = row.content.claimed.as_deref();
            let (from_ms, to_ms) = (row.from_ms, row.to_ms);
            let version = row.policy_version;
            if version != priced.version && !then.contains_key(&version) {
                then.insert(version, self.priced_then(version).await?);
            }
            let prices = then.get(&version).unwrap_or(priced);
            let now = self.calculate(subject, prices, claimed, from_ms, to_ms).await?;
            lines.extend(differences(row.number, now.lines, charged_lines(row, closed)));
            adjusted.push(Adjusted { number: row.number, usage: now.usage });
        }
        Ok((lines, adjusted))
    }
}

/// The usage that `row`, and what adjusted it since, charged for.
fn charged_usage<'a>(row: &'a InvoiceRow, closed: &'a [InvoiceRow]) -> &'a String {
    let since = closed.iter().flat_map(|later| &later.content.adjusted);
    let newest =
        since.filter(|adjusted| adjusted.number == row.number).map(|adjusted| &adjusted.usage).next();
    newest.unwrap_or(&row.content.usage)
}

/// The lines of `row`, and those that adjusted it since.
fn charged_lines<'a>(row: &'a InvoiceRow, closed: &'a [InvoiceRow]) -> Vec<&'a Line> {
    let own = row.content.lines.iter().filter(|line| line.adjusts.is_none());
    let since = closed.iter().flat_map(|later| &later.content.lines);
    own.chain(since.filter(|line| line.adjusts == Some(row.number))).collect()
}

fn differences(number: i64, now: Vec<Line>, charged: Vec<&Line>) -> Vec<Line> {
    let mut before: BTreeMap<&str, (i64, i64, &Line)> = BTreeMap::new();
    for line in charged {
        let (quantity, amount, _) = before.entry(&line.key).or_insert((0, 0, line));
        *quantity = quantity.saturating_add(line.quantity);
        *amount = amount.saturating_add(line.amount_minor);
    }
    let mut differences = Vec::new();
    for line in now {
        let (quantity, amount, _) = before.remove(line.key.as_str()).unwrap_or((0, 0, &line));
        differences.push(Line {
            quantity: line.quantity.saturating_sub(quantity),
            amount_minor: line.amount_minor.saturating_sub(amount),
            adjusts: Some(number),
            ..line.clone()
        });
    }
    // Lines that came to something, and come to nothing now.
    differences.extend(before.into_values().map(|(quantity, amount, line)| Line {
        quantity: quantity.saturating_neg(),
        amount_minor: amount.saturating_neg(),
        adjusts: Some(number),
        ..line.clone()
    }));
    differences.retain(|line| line.quantity != 0 || line.amount_minor != 0);
    differences
}
