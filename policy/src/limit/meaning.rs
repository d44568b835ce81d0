//! What a limit of the document means: its name, its kind and its window; or what is wrong with it.

use super::{LimitKind, RATE_WINDOW_MS_MAX, RATE_WINDOW_MS_MIN, REFILL_MS_MIN, UNLIMITED, bucket};
use crate::document::{Limit, Maximum, Scope, UNITS_MAX};
use crate::window::{Period, PeriodError};

/// A limit's meaning apart from its meter and the policy.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct LimitMeaning {
    pub(crate) units: u64,
    pub(crate) kind: LimitKind,
    pub(crate) status: u16,
}

/// What is wrong with a limit by itself: a field, or `None` for the limit as a whole, and a sentence.
pub(crate) type LimitFault = (Option<&'static str>, String);

/// The limit's name: the given one, or one made of its meter and window.
pub(crate) fn name_of(limit: &Limit) -> String {
    if let Some(name) = &limit.name {
        return name.clone();
    }
    let meter = limit.meter.as_deref().unwrap_or_default();
    let per = limit.per.as_deref().unwrap_or_default();
    let mut name = if limit.concurrency.is_some() {
        "concurrency".to_owned()
    } else if limit.size.is_some() {
        "size".to_owned()
    } else if limit.capacity.is_some() {
        meter.to_owned()
    } else {
        format!("{meter}.{per}")
    };
    if limit.burst.is_some() {
        name.push_str(".burst");
    }
    if limit.scope == Scope::Member {
        name.push_str(".member");
    }
    name
}

/// What the limit means, or all that is wrong with it.
pub(crate) fn meaning_of(limit: &Limit) -> Result<LimitMeaning, Vec<LimitFault>> {
    let given: Vec<(&'static str, Maximum)> = [
        ("quota", limit.quota),
        ("rate", limit.rate),
        ("capacity", limit.capacity),
        ("concurrency", limit.concurrency),
        ("size", limit.size),
    ]
    .into_iter()
    .filter_map(|(name, maximum)| Some((name, maximum?)))
    .collect();
    let (name, maximum) = match given.as_slice() {
        [one] => *one,
        [] => {
            return Err(vec![(
                None,
                "give `quota` (units per calendar or billing window), `rate` (units in any window of a length), \
                 `capacity` (units at once), `concurrency` (requests at once) or `size` (bytes of a body)"
                    .into(),
            )]);
        }
        [(one, _), (other, _), ..] => {
            return Err(vec![(
                None,
                format!("give `{one}` or `{other}`, not both; write two limits to have both"),
            )]);
        }
    };
    let mut faults = misplaced(limit, name);
    let kind = match name {
        "quota" => quota(limit, &mut faults),
        "rate" => rate(limit, maximum, &mut faults),
        "capacity" => Some(LimitKind::Capacity),
        "concurrency" => Some(LimitKind::Concurrency),
        _ => Some(LimitKind::Size),
    };
    let status = match (name, limit.status) {
        ("capacity", None) => 403,
        ("capacity", Some(status)) => {
            if ![403, 413].contains(&status) {
                faults.push((Some("status"), "write 403 or 413".into()));
            }
            status
        }
        ("size", _) => 413,
        _ => 429,
    };
    let units = units_of(match (&kind, limit.burst) {
        (Some(LimitKind::Bucket { .. }), Some(burst)) => burst,
        _ => maximum,
    });
    match kind {
        Some(kind) if faults.is_empty() => Ok(LimitMeaning { units, kind, status }),
        _ => Err(faults),
    }
}

fn units_of(maximum: Maximum) -> u64 {
    maximum.units().unwrap_or(UNLIMITED)
}

/// Members that a limit of the kind `name` has no use for.
fn misplaced(limit: &Limit, name: &'static str) -> Vec<LimitFault> {
    let metered = matches!(name, "quota" | "rate" | "capacity");
    let mut faults = Vec::new();
    let mut refuse = |given: bool, field: &'static str, message: String| {
        if given {
            faults.push((Some(field), message));
        }
    };
    refuse(metered && limit.meter.is_none(), "meter", "add the `meter` that is limited".into());
    let counts = match name {
        "concurrency" => "requests",
        _ => "bytes of a body",
    };
    refuse(
        !metered && limit.meter.is_some(),
        "meter",
        format!("leave `meter` out: `{name}` counts {counts}, whatever is charged"),
    );
    let windowless = !matches!(name, "quota" | "rate");
    refuse(
        windowless && limit.per.is_some(),
        "per",
        format!("leave `per` out: a `{name}` has no window; per window there are `quota` and `rate`"),
    );
    refuse(windowless && limit.zone.is_some(), "zone", format!("leave `zone` out: a `{name}` has no window"));
    refuse(
        name != "quota" && limit.soft,
        "soft",
        "leave `soft` out: only a `quota` can count overage instead of refusing".into(),
    );
    refuse(
        name != "rate" && limit.burst.is_some(),
        "burst",
        "leave `burst` out: only a `rate` can be a token bucket".into(),
    );
    refuse(
        name != "capacity" && limit.status.is_some(),
        "status",
        "leave `status` out: only a `capacity` has a choice; a template in `denials` can give another".into(),
    );
    refuse(
        name == "size" && limit.scope == Scope::Member,
        "scope",
        "leave `scope` out: a `size` is of one request, whoever sends it".into(),
    );
    refuse(
        name == "size" && limit.on_control_plane_loss.is_some(),
        "on_control_plane_loss",
        "leave it out: a `size` is decided without the control plane".into(),
    );
    faults
}

fn quota(limit: &Limit, faults: &mut Vec<LimitFault>) -> Option<LimitKind> {
    const PERIODS: &str = "hour, day, week, month, year, billing_month or lifetime";
    let Some(per) = limit.per.as_deref() else {
        faults.push((None, format!("add `per`: {PERIODS}")));
        return None;
    };
    let fault = match Period::new(per, limit.zone.as_deref()) {
        Ok(period) => return Some(LimitKind::Quota { period, soft: limit.soft }),
        Err(PeriodError::Name) if duration_ms(per).is_some() => {
            (Some("per"), format!("a `quota` counts per {PERIODS}; for any {per} use `rate`"))
        }
        Err(PeriodError::Name) => (Some("per"), format!("use {PERIODS}")),
        Err(PeriodError::ZoneUnknown) => (
            Some("zone"),
            "use the name of an IANA time zone, such as Europe/Berlin, or leave `zone` out for UTC".into(),
        ),
        Err(PeriodError::ZoneNotAllowed) if per == "lifetime" => {
            (Some("zone"), "leave `zone` out: a lifetime has no calendar".into())
        }
        Err(PeriodError::ZoneNotAllowed) => (
            Some("zone"),
            "leave `zone` out: a billing month starts at the moment the subscription started".into(),
        ),
    };
    faults.push(fault);
    None
}

fn rate(limit: &Limit, maximum: Maximum, faults: &mut Vec<LimitFault>) -> Option<LimitKind> {
    if limit.zone.is_some() {
        faults
            .push((Some("zone"), "leave `zone` out: a rate's window slides and has no calendar".to_owned()));
    }
    let Some(per) = limit.per.as_deref() else {
        faults.push((None, "add `per`: a length such as 1s, 60s, 5m or 1h".into()));
        return None;
    };
    let message = match duration_ms(per) {
        Some(window_ms) if (RATE_WINDOW_MS_MIN..=RATE_WINDOW_MS_MAX).contains(&window_ms) => {
            return match limit.burst {
                None => Some(LimitKind::Rate { window_ms }),
                Some(burst) => token_bucket(maximum, burst, window_ms, faults),
            };
        }
        Some(_) => "use a length from 1s to 24h; for longer windows use `quota`".to_owned(),
        None if Period::new(per, None).is_ok() => {
            format!("a `rate` counts in a length such as 1s, 60s, 5m or 1h; for a {per} use `quota`")
        }
        None => "use a length such as 1s, 60s, 5m or 1h".to_owned(),
    };
    faults.push((Some("per"), message));
    None
}

fn token_bucket(
    rate: Maximum,
    burst: Maximum,
    per_ms: u64,
    faults: &mut Vec<LimitFault>,
) -> Option<LimitKind> {
    let fault = match (rate, burst) {
        (Maximum::Unlimited, Maximum::Unlimited) => return Some(bucket(UNLIMITED, UNLIMITED, per_ms)),
        (Maximum::Unlimited, Maximum::Units(_)) | (Maximum::Units(_), Maximum::Unlimited) => {
            (Some("burst"), "make both `rate` and `burst` numbers, or both `unlimited`".to_owned())
        }
        (Maximum::Units(0), _) => {
            (Some("rate"), "use 1 or more: a bucket must fill again, or leave `burst` out".to_owned())
        }
        (_, Maximum::Units(0)) => {
            (Some("burst"), "use 1 or more: the bucket would never hold a unit".to_owned())
        }
        (Maximum::Units(rate), Maximum::Units(burst)) if rate <= UNITS_MAX && burst <= UNITS_MAX => {
            let refill_ms = u128::from(burst) * u128::from(per_ms) / u128::from(rate);
            if refill_ms < u128::from(REFILL_MS_MIN) {
                let message =
                    format!("use a larger `burst`: it must last for {REFILL_MS_MIN} ms of the rate");
                (Some("burst"), message)
            } else if refill_ms > u128::from(RATE_WINDOW_MS_MAX) {
                (Some("burst"), "use a smaller `burst`: the bucket must be full again within 24h".to_owned())
            } else {
                return Some(bucket(burst, rate, per_ms));
            }
        }
        // Too large: that is said of each number by itself.
        _ => return Some(bucket(1, 1, per_ms)),
    };
    faults.push(fault);
    None
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
