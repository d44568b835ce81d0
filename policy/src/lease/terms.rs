//! What a subject's limits are at a moment, as a [`super::Book`] needs them: maximums, and the windows in which units may
//! be granted.

use super::kind::{
    AccountKind, BUCKET_WINDOW, CAPACITY_WINDOW, CONCURRENCY_WINDOW, RATE_WINDOW, REQUEST_MS_MAX,
};
use crate::compile::CompiledPolicy;
use crate::document::Scope;
use crate::limit::LimitKind;
use crate::subscription::{Grant, Subscription, grants};
use crate::window::Window;

/// How far an edge's clock may differ from the control plane's for a window to be accepted around its borders, ms.
/// Accepting more would be harmless (each window has its own units); it would only let a wrong clock go unnoticed.
pub const WINDOW_SKEW_MS: i64 = 60_000;

/// A subject's limits at a moment.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Terms {
    /// By name, in the tier's order.
    pub limits: Vec<Term>,
    /// Extra units of quotas, a pool over all windows; what they add to other kinds is in their maximums already.
    pub grants: Vec<Grant>,
}

/// One limit at a moment.
#[derive(Debug, Clone, PartialEq)]
pub struct Term {
    /// The limit's name.
    pub limit: String,
    /// The meter's name; none of concurrency, which has no meter.
    pub meter: Option<String>,
    /// The maximum, or [`crate::limit::UNLIMITED`].
    pub units: u64,
    /// Its windows.
    pub kind: TermKind,
}

/// The windows of a limit at a moment, or how long its units rest.
#[derive(Debug, Clone, PartialEq)]
pub enum TermKind {
    /// Counted in windows.
    Quota {
        /// The current window first, then the neighbours that a clock within the skew could think it is in.
        windows: Vec<Window>,
        /// Whether more may be used than there is.
        soft: bool,
    },
    /// A sliding window of this length, ms.
    Rate {
        /// Length, ms.
        window_ms: u64,
    },
    /// A token bucket.
    Bucket {
        /// How long an empty one takes to fill, ms.
        refill_ms: u64,
    },
    /// Requests in flight.
    Concurrency,
    /// What exists at once.
    Capacity,
}

impl Terms {
    /// What holds for a subject at `now_ms` (Unix ms), of those limits that are of `scope`. Those of a member are told by what
    /// its organisation has bought and claims. A subject without any tier has no limits, and no units. Grants are of the
    /// subject's own limits, and none of its members'.
    pub fn of(
        policy: &CompiledPolicy,
        subscription: Option<&Subscription>,
        tier_claim: Option<&str>,
        scope: Scope,
        grants: &[Grant],
        now_ms: i64,
    ) -> Self {
        let grants = if scope == Scope::Subject { grants } else { &[] };
        let Some(tier) = policy.tier_in_force(subscription, tier_claim, now_ms) else {
            // What was used of a grant may still be told.
            return Self { grants: grants.to_vec(), ..Self::default() };
        };
        let anchor_ms = subscription.map_or(0, |s| s.anchor_ms);
        let empty = std::collections::BTreeMap::new();
        let overrides = subscription.filter(|s| s.in_force(now_ms)).map_or(&empty, |s| &s.overrides);
        let mut limits = policy.limits_of(tier, overrides);
        grants::raise(&mut limits, grants, now_ms);
        Self {
            limits: limits
                .iter()
                .filter(|limit| limit.scope == scope)
                .filter_map(|limit| {
                    Some(Term {
                        limit: limit.name.to_string(),
                        meter: limit.meter.and_then(|at| policy.meters.get(at)).cloned(),
                        units: limit.units,
                        kind: TermKind::of(&limit.kind, now_ms, anchor_ms)?,
                    })
                })
                .collect(),
            grants: grants.to_vec(),
        }
    }

    /// The limit of a name.
    pub fn term(&self, limit: &str) -> Option<&Term> {
        self.limits.iter().find(|term| term.limit == limit)
    }
}

impl Term {
    /// The end of the window that starts at `start_ms` (`None` where there are no windows), or `Err` when units of that
    /// window may not be granted now.
    pub(super) fn window_end(&self, start_ms: i64) -> Result<Option<i64>, ()> {
        match self.kind.windows() {
            Ok(windows) => windows.iter().find(|w| w.start_ms == start_ms).map(|w| Some(w.end_ms)).ok_or(()),
            Err(only) if start_ms == only => Ok(None),
            Err(_) => Err(()),
        }
    }

    /// The window that is now; of a kind without windows its number.
    pub(super) fn current_start_ms(&self) -> i64 {
        self.kind.windows().map_or_else(|only| only, |windows| windows.first().map_or(0, |w| w.start_ms))
    }
}

impl TermKind {
    /// Of a limit at `now_ms`; `None` where no units are granted: of the size of one request.
    fn of(kind: &LimitKind, now_ms: i64, anchor_ms: i64) -> Option<Self> {
        Some(match (kind, AccountKind::of(kind)?) {
            (LimitKind::Quota { period, soft }, _) => {
                let current = period.window_at(now_ms, anchor_ms);
                let mut windows = vec![current];
                if now_ms.saturating_sub(current.start_ms) < WINDOW_SKEW_MS {
                    windows.push(period.window_at(current.start_ms.saturating_sub(1), anchor_ms));
                }
                if current.end_ms.saturating_sub(now_ms) <= WINDOW_SKEW_MS {
                    windows.push(period.window_at(current.end_ms, anchor_ms));
                }
                windows.dedup();
                Self::Quota { windows, soft: *soft }
            }
            (LimitKind::Rate { window_ms }, _) => Self::Rate { window_ms: *window_ms },
            (_, AccountKind::Bucket { refill_ms }) => Self::Bucket { refill_ms },
            (LimitKind::Concurrency, _) => Self::Concurrency,
            (LimitKind::Capacity, _) => Self::Capacity,
            (LimitKind::Bucket { .. } | LimitKind::Size, _) => return None,
        })
    }

    /// `quota`, `rate` (a token bucket too), `concurrency` or `capacity`: the member of the document that gives it.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Quota { .. } => "quota",
            Self::Rate { .. } | Self::Bucket { .. } => "rate",
            Self::Concurrency => "concurrency",
            Self::Capacity => "capacity",
        }
    }

    /// How long a unit may rest after the last use of a closed session, ms.
    pub(super) fn rest_ms(&self) -> u64 {
        match self {
            Self::Rate { window_ms } => *window_ms,
            Self::Bucket { refill_ms } => *refill_ms,
            Self::Concurrency => REQUEST_MS_MAX,
            Self::Quota { .. } | Self::Capacity => 0,
        }
    }

    /// The windows, or the only one's number.
    fn windows(&self) -> Result<&[Window], i64> {
        match self {
            Self::Quota { windows, .. } => Ok(windows),
            Self::Rate { .. } => Err(RATE_WINDOW),
            Self::Bucket { .. } => Err(BUCKET_WINDOW),
            Self::Concurrency => Err(CONCURRENCY_WINDOW),
            Self::Capacity => Err(CAPACITY_WINDOW),
        }
    }
}

#[cfg(test)]
mod tests;
