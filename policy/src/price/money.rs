//! Money: a whole number of minor units of an ISO 4217 currency. Never a floating-point number.

use std::fmt;

/// A currency of ISO 4217 that has minor units: cents, or none such as the francs of XOF.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Currency {
    listed: iso_currency::Currency,
    exponent: u16,
}

impl Currency {
    /// The currency of a code such as `EUR`. None: there is no such one, or it has no minor units (gold, testing).
    pub fn from_code(code: &str) -> Option<Self> {
        let listed = iso_currency::Currency::from_code(code)?;
        let exponent = listed.exponent()?;
        (!listed.is_special()).then_some(Self { listed, exponent })
    }

    /// Such as `EUR`.
    pub fn code(self) -> &'static str {
        self.listed.code()
    }

    /// For people, such as `Euro`.
    pub fn name(self) -> String {
        self.listed.name().to_owned()
    }

    /// How many digits stand after the decimal point: 2 of EUR, 0 of JPY and XOF, 3 of KWD.
    pub fn exponent(self) -> u16 {
        self.exponent
    }

    /// The sign that people write, such as `€`; the code, where there is none.
    pub fn symbol(self) -> String {
        match self.listed.symbol().to_string() {
            // The sign of currencies that have none.
            symbol if symbol.is_empty() || symbol == "¤" => self.code().to_owned(),
            symbol => symbol,
        }
    }
}

/// An amount of money, exact.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Money {
    /// Minor units.
    pub minor: i64,
    /// Of this currency.
    pub currency: Currency,
}

impl Money {
    /// As people write it, such as `-1,234.50`: without the currency.
    pub fn digits(&self) -> String {
        decimal(i128::from(self.minor), u32::from(self.currency.exponent))
    }
}

/// Such as `1,234.50 EUR`: signs are of several currencies at once, codes of one.
impl fmt::Display for Money {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.digits(), self.currency.code())
    }
}

/// `value / 10^places` in full, with a comma after each three digits before the point.
pub(super) fn decimal(value: i128, places: u32) -> String {
    let places = usize::try_from(places).unwrap_or_default();
    let digits = format!("{:0>width$}", value.unsigned_abs(), width = places + 1);
    let (whole, fraction) = digits.split_at(digits.len() - places);
    let mut text = String::with_capacity(digits.len() * 4 / 3 + 2);
    if value < 0 {
        text.push('-');
    }
    for (index, digit) in whole.chars().enumerate() {
        if index > 0 && (whole.len() - index) % 3 == 0 {
            text.push(',');
        }
        text.push(digit);
    }
    if !fraction.is_empty() {
        text.push('.');
        text.push_str(fraction);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(minor: i64, code: &str) -> String {
        Money { minor, currency: Currency::from_code(code).unwrap() }.to_string()
    }

    #[test]
    fn a_currency_has_the_digits_that_iso_4217_says() {
        for (code, exponent) in
            [("EUR", 2), ("USD", 2), ("JPY", 0), ("XOF", 0), ("XAF", 0), ("KWD", 3), ("HUF", 2), ("CLF", 4)]
        {
            assert_eq!(Currency::from_code(code).map(Currency::exponent), Some(exponent), "{code}");
        }
        for code in ["", "eur", "EURO", "XXX", "XAU", "XTS", "ZZZ"] {
            assert_eq!(Currency::from_code(code), None, "{code}");
        }
    }

    #[test]
    fn money_is_written_to_the_last_minor_unit() {
        assert_eq!(shown(123_456_789, "EUR"), "1,234,567.89 EUR");
        assert_eq!(shown(5, "EUR"), "0.05 EUR");
        assert_eq!(shown(0, "EUR"), "0.00 EUR");
        assert_eq!(shown(-100_000, "USD"), "-1,000.00 USD");
        assert_eq!(shown(-7, "USD"), "-0.07 USD");
        assert_eq!(shown(7_000, "XOF"), "7,000 XOF");
        assert_eq!(shown(999, "JPY"), "999 JPY");
        assert_eq!(shown(1, "KWD"), "0.001 KWD");
        assert_eq!(shown(i64::MIN, "EUR"), "-92,233,720,368,547,758.08 EUR");
    }
}
