//! How limits count: their kinds and windows. What a limit of the document means is in `meaning`.

mod meaning;

use crate::window::Period;

pub(crate) use meaning::{meaning_of, name_of};

/// The units of a limit that is `unlimited`.
pub const UNLIMITED: u64 = u64::MAX;

/// Shortest window of a rate, ms.
pub const RATE_WINDOW_MS_MIN: u64 = 1_000;

/// Longest window of a rate, and longest time that an empty bucket takes to fill, ms; what is longer is a quota.
pub const RATE_WINDOW_MS_MAX: u64 = 24 * 60 * 60 * 1_000;

/// Shortest time that an empty bucket takes to fill, ms: rounding it up to a whole millisecond costs 1 % of the rate at most.
pub const REFILL_MS_MIN: u64 = 100;

/// How a limit counts.
#[derive(Debug, Clone, PartialEq)]
pub enum LimitKind {
    /// Units per calendar or billing window.
    Quota {
        /// How time is divided into windows.
        period: Period,
        /// Whether what is used beyond the units is overage, and not refused.
        soft: bool,
    },
    /// Units in any sliding window of this length.
    Rate {
        /// Length of the window, ms.
        window_ms: u64,
    },
    /// A token bucket: the limit's units are what it holds.
    Bucket {
        /// Units that come back in `per_ms`; [`UNLIMITED`] where there is no maximum.
        units_per: u64,
        /// See `units_per`.
        per_ms: u64,
        /// How long an empty bucket takes to fill, ms, rounded up.
        refill_ms: u64,
    },
    /// Units that exist at once.
    Capacity,
    /// Requests in flight at once.
    Concurrency,
    /// Bytes of one request's body.
    Size,
}

impl LimitKind {
    /// The window as text: `hour`, `day`, `billing_month`, `lifetime`, or a length such as `30s` in its largest whole unit.
    /// Empty where there is none: of capacity, concurrency and size.
    pub fn per(&self) -> String {
        match self {
            Self::Quota { period, .. } => period.name().to_owned(),
            Self::Rate { window_ms } => length(*window_ms),
            Self::Bucket { per_ms, .. } => length(*per_ms),
            Self::Capacity | Self::Concurrency | Self::Size => String::new(),
        }
    }

    /// `quota`, `rate` (a token bucket too), `capacity`, `concurrency` or `size`: the member of the document that gives it.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Quota { .. } => "quota",
            Self::Rate { .. } | Self::Bucket { .. } => "rate",
            Self::Capacity => "capacity",
            Self::Concurrency => "concurrency",
            Self::Size => "size",
        }
    }

    /// Whether what was used under the one kind means the same under the other: only maximums differ, and what happens there.
    pub(crate) fn counts_alike(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Quota { period, .. }, Self::Quota { period: other, .. }) => period == other,
            (Self::Bucket { per_ms, .. }, Self::Bucket { per_ms: other, .. }) => per_ms == other,
            (one, other) => one == other,
        }
    }

    /// The kind of the same limit with other units.
    #[must_use]
    pub(crate) fn with_units(&self, units: u64) -> Self {
        match *self {
            Self::Bucket { units_per, per_ms, .. } => bucket(units, units_per, per_ms),
            _ => self.clone(),
        }
    }
}

/// A bucket of `burst` units. One that refills without a maximum holds its units anew in each `per_ms`.
fn bucket(burst: u64, units_per: u64, per_ms: u64) -> LimitKind {
    let units_per = if units_per == UNLIMITED || burst == UNLIMITED { burst } else { units_per };
    let refill_ms = (u128::from(burst) * u128::from(per_ms)).div_ceil(u128::from(units_per.max(1)));
    // However long that takes: a subject's own maximum may be large, and must not refill faster than its rate.
    let refill_ms = u64::try_from(refill_ms).unwrap_or(u64::MAX).max(1);
    LimitKind::Bucket { units_per, per_ms, refill_ms }
}

fn length(ms: u64) -> String {
    match ms / 1_000 {
        seconds if seconds % 3_600 == 0 => format!("{}h", seconds / 3_600),
        seconds if seconds % 60 == 0 => format!("{}m", seconds / 60),
        seconds => format!("{seconds}s"),
    }
}

#[cfg(test)]
mod tests;
