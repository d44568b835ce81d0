//! What a caller learns of its limits in the headers of each response: `RateLimit` and `RateLimit-Policy`
//! (draft-ietf-httpapi-ratelimit-headers), the older `X-RateLimit-*` where the policy asks for them, and a warning.

use std::fmt::Write as _;

use crate::compile::{CompiledPolicy, UNLIMITED};
use crate::lease::{Admission, Demand, Record};

use super::Now;
use super::plan::Cost;
use super::question::Need;

/// Headers of a response, each empty or absent when there is nothing to say.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Fields {
    /// `RateLimit`.
    pub ratelimit: String,
    /// `RateLimit-Policy`.
    pub policy: String,
    /// `X-RateLimit-*`, of the limit that has least left.
    pub legacy: Option<Legacy>,
    /// `x-tollgate-warning`: limits whose use has passed a threshold, and the highest one passed.
    pub warning: String,
}

/// `X-RateLimit-Limit`, `-Remaining` and `-Reset`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Legacy {
    /// The maximum.
    pub limit: u64,
    /// Units that remain.
    pub remaining: u64,
    /// From now until units come back, s.
    pub reset_s: u64,
}

impl Fields {
    /// Of the accounts of a record after a decision; a limit that several calls touch is told once.
    pub(super) fn of(
        policy: &CompiledPolicy,
        record: &Record,
        needs: &[Need<'_>],
        demands: &[Demand],
        policy_header: &str,
        now: Now,
    ) -> Self {
        let mut fields = Self {
            ratelimit: String::with_capacity(48 * demands.len()),
            policy: policy_header.to_owned(),
            ..Self::default()
        };
        for (position, (demand, need)) in demands.iter().zip(needs).enumerate() {
            let before = demands.get(..position).unwrap_or_default();
            if demand.limit_units == UNLIMITED
                || before.iter().any(|earlier| earlier.account == demand.account)
            {
                continue;
            }
            let cost = need.cost;
            let Some(account) = record.accounts.get(demand.account) else { continue };
            let left = Admission::of(account, demand, now.wall_ms, now.mono_ms);
            let reset_s = left.reset_ms.div_ceil(1_000);
            // Names are tokens by validation, so quoting is safe.
            let comma = if fields.ratelimit.is_empty() { "" } else { ", " };
            let _ = write!(fields.ratelimit, "{comma}\"{}\";r={}", cost.limit.name, left.remaining);
            if cost.resets() {
                let _ = write!(fields.ratelimit, ";t={reset_s}");
            }
            if policy.denials.legacy_headers
                && fields.legacy.is_none_or(|known| left.remaining < known.remaining)
            {
                fields.legacy = Some(Legacy { limit: cost.limit.units, remaining: left.remaining, reset_s });
            }
            fields.warn(policy, cost, left.remaining);
        }
        fields
    }

    fn warn(&mut self, policy: &CompiledPolicy, cost: &Cost, remaining: u64) {
        let maximum = u128::from(cost.limit.units);
        let used = maximum.saturating_sub(u128::from(remaining));
        let passed =
            policy.denials.warn_at.iter().filter(|percent| used * 100 >= maximum * u128::from(**percent));
        if let Some(percent) = passed.max().filter(|_| maximum > 0) {
            let comma = if self.warning.is_empty() { "" } else { ", " };
            let _ = write!(self.warning, "{comma}\"{}\";percent={percent}", cost.limit.name);
        }
    }

    /// What another record's limits say comes first.
    pub(super) fn join(&mut self, first: Self) {
        let both = |first: String, second: &mut String| match (first.is_empty(), second.is_empty()) {
            (true, _) => {}
            (false, true) => *second = first,
            (false, false) => *second = format!("{first}, {second}"),
        };
        both(first.ratelimit, &mut self.ratelimit);
        both(first.warning, &mut self.warning);
        // The policies of both stand in one header already.
        if self.policy.is_empty() {
            self.policy = first.policy;
        }
        if let Some(legacy) = first.legacy
            && self.legacy.is_none_or(|known| legacy.remaining < known.remaining)
        {
            self.legacy = Some(legacy);
        }
    }

    /// Whether there is nothing to say.
    pub fn is_empty(&self) -> bool {
        self.ratelimit.is_empty()
    }
}
