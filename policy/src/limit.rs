//! What a limit of the document means: its name, its kind and its window.

use crate::document::Limit;
use crate::window::{Period, PeriodError};

/// Shortest window of a rate, ms.
pub const RATE_WINDOW_MS_MIN: u64 = 1_000;

/// Longest window of a rate, ms; what is longer is a quota.
pub const RATE_WINDOW_MS_MAX: u64 = 24 * 60 * 60 * 1_000;

/// How a limit counts.
#[derive(Debug, Clone, PartialEq)]
pub enum LimitKind {
    /// Units per calendar or billing window.
    Quota(Period),
    /// Units in any sliding window of this length.
    Rate {
        /// Length of the window, ms.
        window_ms: u64,
    },
}

impl LimitKind {
    /// The window as text: `hour`, `day`, `month`, `billing_month`, or a length such as `30s` in its largest whole unit.
    pub fn per(&self) -> String {
        match self {
            Self::Quota(period) => period.name().to_owned(),
            Self::Rate { window_ms } => match window_ms / 1_000 {
                seconds if seconds % 3_600 == 0 => format!("{}h", seconds / 3_600),
                seconds if seconds % 60 == 0 => format!("{}m", seconds / 60),
                seconds => format!("{seconds}s"),
            },
        }
    }
}

/// A limit's meaning apart from its meter.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct LimitMeaning {
    pub(crate) units: u64,
    pub(crate) kind: LimitKind,
}

/// What is wrong with a limit by itself: a field, or `None` for the limit as a whole, and a sentence.
pub(crate) type LimitFault = (Option<&'static str>, String);

/// The limit's name: the given one, or `<meter>.<per>`.
pub(crate) fn name_of(limit: &Limit) -> String {
    limit.name.clone().unwrap_or_else(|| format!("{}.{}", limit.meter, limit.per))
}

/// What the limit means, or all that is wrong with it.
pub(crate) fn meaning_of(limit: &Limit) -> Result<LimitMeaning, Vec<LimitFault>> {
    match (limit.quota, limit.rate) {
        (Some(units), None) => {
            let kind = LimitKind::Quota(quota_period(limit)?);
            Ok(LimitMeaning { units, kind })
        }
        (None, Some(units)) => {
            let kind = LimitKind::Rate { window_ms: rate_window_ms(limit)? };
            Ok(LimitMeaning { units, kind })
        }
        (None, None) => Err(vec![(
            None,
            "give `quota` (units per calendar or billing window) or `rate` (units in any window of a length)"
                .into(),
        )]),
        (Some(_), Some(_)) => {
            Err(vec![(None, "give `quota` or `rate`, not both; write two limits to have both".into())])
        }
    }
}

fn quota_period(limit: &Limit) -> Result<Period, Vec<LimitFault>> {
    Period::new(&limit.per, limit.zone.as_deref()).map_err(|error| match error {
        PeriodError::Name if duration_ms(&limit.per).is_some() => vec![(
            Some("per"),
            format!(
                "a `quota` counts per hour, day, month or billing_month; for any {} use `rate`",
                limit.per
            ),
        )],
        PeriodError::Name => vec![(Some("per"), "use hour, day, month or billing_month".into())],
        PeriodError::ZoneUnknown => vec![(
            Some("zone"),
            "use the name of an IANA time zone, such as Europe/Berlin, or leave `zone` out for UTC".into(),
        )],
        PeriodError::ZoneNotAllowed => vec![(
            Some("zone"),
            "leave `zone` out: a billing month starts at the moment the subscription started".into(),
        )],
    })
}

fn rate_window_ms(limit: &Limit) -> Result<u64, Vec<LimitFault>> {
    let mut faults = Vec::new();
    if limit.zone.is_some() {
        faults
            .push((Some("zone"), "leave `zone` out: a rate's window slides and has no calendar".to_owned()));
    }
    match duration_ms(&limit.per) {
        Some(window_ms) if (RATE_WINDOW_MS_MIN..=RATE_WINDOW_MS_MAX).contains(&window_ms) => {
            if faults.is_empty() {
                return Ok(window_ms);
            }
        }
        Some(_) => {
            faults.push((Some("per"), "use a length from 1s to 24h; for longer windows use `quota`".into()))
        }
        None if Period::new(&limit.per, None).is_ok() => faults.push((
            Some("per"),
            format!("a `rate` counts in a length such as 1s, 60s, 5m or 1h; for a {} use `quota`", limit.per),
        )),
        None => faults.push((Some("per"), "use a length such as 1s, 60s, 5m or 1h".into())),
    }
    Err(faults)
}

/// A whole number and one of `s`, `m`, `h`, as milliseconds.
fn duration_ms(text: &str) -> Option<u64> {
    let unit_ms = match text.as_bytes().last()? {
        b's' => 1_000,
        b'm' => 60_000,
        b'h' => 3_600_000,
        _ => return None,
    };
    let digits = &text[..text.len() - 1];
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    digits.parse::<u64>().ok()?.checked_mul(unit_ms)
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;

    /// Reads a limit written as `quota|rate PER [ZONE]` and shows its window or its faults.
    fn check(text: &str, expected: Expect) {
        let words: Vec<&str> = text.split(' ').collect();
        let limit = Limit {
            name: None,
            meter: "calls".into(),
            quota: (words[0] != "rate").then_some(5),
            rate: (words[0] != "quota").then_some(5),
            per: words[1].into(),
            zone: words.get(2).map(|zone| (*zone).to_owned()),
        };
        let shown = match meaning_of(&limit) {
            Ok(LimitMeaning { units, kind: LimitKind::Rate { window_ms } }) => {
                format!("{units} in any {window_ms} ms ({})", LimitKind::Rate { window_ms }.per())
            }
            Ok(LimitMeaning { units, kind }) => format!("{units} per {}", kind.per()),
            Err(faults) => faults
                .iter()
                .map(|(field, message)| format!("{}: {message}", field.unwrap_or("limit")))
                .collect::<Vec<_>>()
                .join("\n"),
        };
        expected.assert_eq(&shown);
    }

    #[test]
    fn a_rate_has_a_length_from_a_second_to_a_day() {
        check("rate 1s", expect!["5 in any 1000 ms (1s)"]);
        check("rate 59s", expect!["5 in any 59000 ms (59s)"]);
        check("rate 60s", expect!["5 in any 60000 ms (1m)"]);
        check("rate 90m", expect!["5 in any 5400000 ms (90m)"]);
        check("rate 24h", expect!["5 in any 86400000 ms (24h)"]);
        check("rate 0s", expect!["per: use a length from 1s to 24h; for longer windows use `quota`"]);
        check("rate 86401s", expect!["per: use a length from 1s to 24h; for longer windows use `quota`"]);
        check("rate 99999999999999999999h", expect!["per: use a length such as 1s, 60s, 5m or 1h"]);
        check("rate 18446744073709551615h", expect!["per: use a length such as 1s, 60s, 5m or 1h"]);
        check("rate s", expect!["per: use a length such as 1s, 60s, 5m or 1h"]);
        check("rate +1s", expect!["per: use a length such as 1s, 60s, 5m or 1h"]);
        check(
            "rate day",
            expect!["per: a `rate` counts in a length such as 1s, 60s, 5m or 1h; for a day use `quota`"],
        );
        check("rate 5é", expect!["per: use a length such as 1s, 60s, 5m or 1h"]);
        check(
            "rate 1d UTC",
            expect![[r#"
            zone: leave `zone` out: a rate's window slides and has no calendar
            per: use a length such as 1s, 60s, 5m or 1h"#]],
        );
        check("rate 1s UTC", expect!["zone: leave `zone` out: a rate's window slides and has no calendar"]);
    }

    #[test]
    fn a_quota_counts_by_the_calendar_or_the_subscription() {
        check("quota hour", expect!["5 per hour"]);
        check("quota day Europe/Berlin", expect!["5 per day"]);
        check("quota month", expect!["5 per month"]);
        check("quota billing_month", expect!["5 per billing_month"]);
        check(
            "quota billing_month UTC",
            expect!["zone: leave `zone` out: a billing month starts at the moment the subscription started"],
        );
        check(
            "quota day Europe/Nowhere",
            expect![
                "zone: use the name of an IANA time zone, such as Europe/Berlin, or leave `zone` out for UTC"
            ],
        );
        check(
            "quota day Etc/Unknown",
            expect![
                "zone: use the name of an IANA time zone, such as Europe/Berlin, or leave `zone` out for UTC"
            ],
        );
        check(
            "quota 60s",
            expect!["per: a `quota` counts per hour, day, month or billing_month; for any 60s use `rate`"],
        );
        check("quota week", expect!["per: use hour, day, month or billing_month"]);
    }

    #[test]
    fn a_limit_has_one_kind() {
        check("both day", expect!["limit: give `quota` or `rate`, not both; write two limits to have both"]);
    }
}
