//! The lines of an invoice: what each price came to, and what is said of it to people.

use serde::{Deserialize, Serialize};

use super::function::{Part, PartOf, parts, share};
use super::money::decimal;
use super::stretches::billing_year;
use super::{Currency, Money, Stretch, TooLarge, Used};
use crate::document::{Price, PricePeriod, UnitPrice};
use crate::window::{Period, Window};

/// A line of an invoice.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Line {
    /// The same line of another calculation of the same time has the same key.
    pub key: String,
    /// The tier's name.
    pub tier: String,
    /// For people: what is charged for.
    pub title: String,
    /// Start of the time that it is for, Unix ms.
    pub from_ms: i64,
    /// Its end.
    pub to_ms: i64,
    /// Units or packages; 1 of a flat price; 0 of a fee.
    pub quantity: i64,
    /// For people, exact: what one of them costs.
    pub unit_price: String,
    /// Minor units. The lines' amounts make up the total.
    pub amount_minor: i64,
    /// The number of the closed invoice that it adds to, or takes from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub adjusts: Option<i64>,
}

/// The lines of `from_ms..to_ms`. `stretches` are those of a time that begins with the first of [`super::cuts`], and `used`
/// what was used in it. Units count where they were used; flat prices by the time that the tier held, to the minor unit.
pub fn lines(
    currency: Currency,
    stretches: &[Stretch<'_>],
    used: &[Used],
    from_ms: i64,
    to_ms: i64,
) -> Result<Vec<Line>, TooLarge> {
    let mut lines = Vec::new();
    for stretch in stretches {
        let end_ms = stretch.end_ms.min(to_ms);
        let mut now_ms = stretch.start_ms.max(from_ms);
        while now_ms < end_ms {
            let month = Period::BillingMonth.window_at(now_ms, stretch.anchor_ms);
            let until_ms = month.end_ms.min(end_ms);
            let time = Time { month, from_ms: now_ms, to_ms: until_ms };
            for (index, price) in stretch.prices.iter().enumerate() {
                match price.flat {
                    Some(flat) => lines.push(flat_line(currency, stretch, (index, price, flat), time)?),
                    None => unit_lines(currency, stretch, (index, price), time, used, &mut lines)?,
                }
            }
            now_ms = until_ms;
        }
    }
    Ok(lines)
}

/// A part of a billing month.
#[derive(Clone, Copy)]
struct Time {
    month: Window,
    from_ms: i64,
    to_ms: i64,
}

impl Time {
    fn line(self, stretch: &Stretch<'_>, price: usize, part: usize) -> Line {
        let Stretch { name, version, start_ms, .. } = stretch;
        Line {
            key: format!("{}/{name}/{version}/{start_ms}/{price}/{part}", self.month.start_ms),
            tier: (*name).to_owned(),
            title: String::new(),
            from_ms: self.from_ms,
            to_ms: self.to_ms,
            quantity: 0,
            unit_price: String::new(),
            amount_minor: 0,
            adjusts: None,
        }
    }
}

fn flat_line(
    currency: Currency,
    stretch: &Stretch<'_>,
    (index, price, flat): (usize, &Price, u64),
    time: Time,
) -> Result<Line, TooLarge> {
    let (period, per) = match price.per.unwrap_or_default() {
        PricePeriod::Month => (time.month, "month"),
        PricePeriod::Year => (billing_year(time.month, stretch.anchor_ms), "year"),
    };
    let until = |ms: i64| share(flat, ms - period.start_ms, period.end_ms - period.start_ms);
    let title = price.title.as_ref().or(stretch.tier.title.as_ref());
    Ok(Line {
        title: title.map_or(stretch.name, |title| title.any()).to_owned(),
        quantity: 1,
        unit_price: format!("{} per {per}", shown(currency, flat)),
        amount_minor: minor(until(time.to_ms) - until(time.from_ms))?,
        ..time.line(stretch, index, 0)
    })
}

fn unit_lines(
    currency: Currency,
    stretch: &Stretch<'_>,
    (index, price): (usize, &Price),
    time: Time,
    used: &[Used],
    lines: &mut Vec<Line>,
) -> Result<(), TooLarge> {
    let before = parts(price, stretch, time.month, used, time.from_ms)?;
    let after = parts(price, stretch, time.month, used, time.to_ms)?;
    for (number, (before, after)) in before.iter().zip(&after).enumerate() {
        let (quantity, amount) = (after.quantity - before.quantity, after.amount - before.amount);
        if quantity == 0 && amount == 0 {
            continue;
        }
        lines.push(Line {
            title: title(price, after),
            quantity: minor(quantity)?,
            unit_price: unit_price(currency, price, after),
            amount_minor: minor(amount)?,
            ..time.line(stretch, index, number)
        });
    }
    Ok(())
}

fn title(price: &Price, part: &Part) -> String {
    let meter = price.meter.as_deref().unwrap_or_default();
    let title = price.title.as_ref().map_or(meter, |title| title.any());
    match &part.of {
        PartOf::Units(_) | PartOf::Packages(_) => title.to_owned(),
        PartOf::Step { first, last: Some(last), .. } => {
            format!("{title} ({} to {})", count(*first), count(*last))
        }
        PartOf::Step { first, last: None, .. } => format!("{title} (from {})", count(*first)),
        PartOf::Cost { index, .. } => {
            let labels = price.costs.iter().flatten().nth(*index).map(|cost| &cost.labels);
            let labels: Vec<&str> = labels.into_iter().flatten().map(|(_, text)| text.as_str()).collect();
            if labels.is_empty() {
                format!("{title} (other)")
            } else {
                format!("{title} ({})", labels.join(", "))
            }
        }
        PartOf::Rest => format!("{title} (no cost fits)"),
        PartOf::Fee => format!("{title} (fee)"),
    }
}

fn unit_price(currency: Currency, price: &Price, part: &Part) -> String {
    let each = |one: UnitPrice| match one.units {
        1 => shown(currency, one.amount),
        units => format!("{} per {}", shown(currency, one.amount), count(units)),
    };
    match &part.of {
        PartOf::Units(one) | PartOf::Step { price: one, .. } | PartOf::Cost { price: one, .. } => each(*one),
        PartOf::Packages(one) => {
            format!("{} per package of {}", shown(currency, one.amount), count(one.units))
        }
        PartOf::Rest => shown(currency, 0),
        PartOf::Fee => format!("{} %", decimal(i128::from(price.fee_basis_points.unwrap_or_default()), 2)),
    }
}

fn shown(currency: Currency, amount: u64) -> String {
    Money { minor: i64::try_from(amount).unwrap_or(i64::MAX), currency }.to_string()
}

fn count(units: u64) -> String {
    decimal(i128::from(units), 0)
}

fn minor(amount: i128) -> Result<i64, TooLarge> {
    i64::try_from(amount).map_err(|_| TooLarge)
}
