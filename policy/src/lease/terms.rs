//! What a subject's limits are at a moment, as a [`super::Book`] needs them: maximums, and the windows in which units may
//! be granted.

use crate::compile::CompiledPolicy;
use crate::limit::LimitKind;
use crate::subscription::{Subscription, effective_tier};
use crate::window::Window;

/// How far an edge's clock may differ from the control plane's for a window to be accepted around its borders, ms.
/// Accepting more would be harmless (each window has its own units); it would only let a wrong clock go unnoticed.
pub const WINDOW_SKEW_MS: i64 = 60_000;

/// A subject's limits at a moment.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Terms {
    /// By name, in the tier's order.
    pub limits: Vec<Term>,
}

/// One limit at a moment.
#[derive(Debug, Clone, PartialEq)]
pub struct Term {
    /// The limit's name.
    pub limit: String,
    /// The meter's name.
    pub meter: String,
    /// The maximum.
    pub units: u64,
    /// Its windows.
    pub kind: TermKind,
}

/// The windows of a limit at a moment.
#[derive(Debug, Clone, PartialEq)]
pub enum TermKind {
    /// The current window first, then the neighbours that a clock within the skew could think it is in.
    Quota(Vec<Window>),
    /// A sliding window of this length, ms.
    Rate {
        /// Length, ms.
        window_ms: u64,
    },
}

impl Terms {
    /// What holds for a subject at `now_ms` (Unix ms). A subject without any tier has no limits, and no units.
    pub fn of(
        policy: &CompiledPolicy,
        subscription: Option<&Subscription>,
        tier_claim: Option<&str>,
        now_ms: i64,
    ) -> Self {
        // A claim that names no tier of the policy counts as absent, at the edge as here.
        let claimed = tier_claim.filter(|name| policy.tier(name).is_some());
        let tier = effective_tier(subscription, claimed, policy.default_tier.as_deref(), now_ms);
        let Some(tier) = tier.and_then(|name| policy.tier(name)) else {
            return Self::default();
        };
        let anchor_ms = subscription.map_or(0, |s| s.anchor_ms);
        let empty = std::collections::BTreeMap::new();
        let overrides = subscription.filter(|s| s.in_force(now_ms)).map_or(&empty, |s| &s.overrides);
        let limits = policy.limits_of(tier, overrides);
        Self {
            limits: limits
                .iter()
                .map(|limit| Term {
                    limit: limit.name.to_string(),
                    meter: policy.meters.get(limit.meter).cloned().unwrap_or_default(),
                    units: limit.units,
                    kind: match &limit.kind {
                        LimitKind::Rate { window_ms } => TermKind::Rate { window_ms: *window_ms },
                        LimitKind::Quota(period) => {
                            let current = period.window_at(now_ms, anchor_ms);
                            let mut windows = vec![current];
                            if now_ms.saturating_sub(current.start_ms) < WINDOW_SKEW_MS {
                                windows.push(period.window_at(current.start_ms.saturating_sub(1), anchor_ms));
                            }
                            if current.end_ms.saturating_sub(now_ms) <= WINDOW_SKEW_MS {
                                windows.push(period.window_at(current.end_ms, anchor_ms));
                            }
                            TermKind::Quota(windows)
                        }
                    },
                })
                .collect(),
        }
    }

    /// The limit of a name.
    pub fn term(&self, limit: &str) -> Option<&Term> {
        self.limits.iter().find(|term| term.limit == limit)
    }
}

impl Term {
    /// The end of the window that starts at `start_ms` (`None` for a rate), or `Err` when units of that window may not
    /// be granted now.
    pub(super) fn window_end(&self, start_ms: i64) -> Result<Option<i64>, ()> {
        match &self.kind {
            TermKind::Rate { .. } if start_ms == 0 => Ok(None),
            TermKind::Rate { .. } => Err(()),
            TermKind::Quota(windows) => {
                windows.iter().find(|w| w.start_ms == start_ms).map(|w| Some(w.end_ms)).ok_or(())
            }
        }
    }
}

#[cfg(test)]
mod tests;
