//! Time, cut where what is charged changes: which version of which tier a subject had when.

use std::collections::{BTreeMap, BTreeSet};

use crate::compile::CompiledPolicy;
use crate::document::{Limit, Maximum, PolicyDocument, Price, Tier};
use crate::subscription::{Subscription, SubscriptionState};
use crate::window::{Period, Window};

/// A time in which one version of one tier held.
#[derive(Debug, Clone, PartialEq)]
pub struct Stretch<'a> {
    /// The first moment, Unix ms.
    pub start_ms: i64,
    /// The first moment after it, Unix ms.
    pub end_ms: i64,
    /// Billing months count from here, Unix ms.
    pub anchor_ms: i64,
    /// The tier's name.
    pub name: &'a str,
    /// The tier.
    pub tier: &'a Tier,
    /// Which of its versions, as in [`crate::compile::CompiledTier::version`].
    pub version: usize,
    /// What it costs. Nothing while it is tried.
    pub prices: &'a [Price],
    /// Its limits.
    pub limits: &'a [Limit],
    /// Maximums of the subject alone.
    pub overrides: BTreeMap<String, Maximum>,
}

/// The stretches of `from_ms..to_ms`, in order. Time without a tier is in none. `history` is what the subscription was, from
/// when on (Unix ms), the oldest first; before its first entry there was none. `claimed` is the tier that the subject's
/// token claims.
pub fn stretches<'a>(
    document: &'a PolicyDocument,
    compiled: &CompiledPolicy,
    history: &[(i64, Option<Subscription>)],
    claimed: Option<&str>,
    from_ms: i64,
    to_ms: i64,
) -> Vec<Stretch<'a>> {
    let mut found: Vec<Stretch<'a>> = Vec::new();
    let first = history.first().map_or(to_ms, |(at_ms, _)| *at_ms);
    let before = std::iter::once((i64::MIN, first, None));
    let known = history.iter().enumerate().map(|(index, (at_ms, subscription))| {
        let end_ms = history.get(index + 1).map_or(i64::MAX, |(at_ms, _)| *at_ms);
        (*at_ms, end_ms, subscription.as_ref())
    });
    for (start_ms, end_ms, subscription) in before.chain(known) {
        let (mut now_ms, end_ms) = (start_ms.max(from_ms), end_ms.min(to_ms));
        while now_ms < end_ms {
            let next_ms = subscription.and_then(|subscription| subscription.next_moment_ms(now_ms));
            let next_ms = next_ms.unwrap_or(end_ms).min(end_ms);
            if let Some(stretch) = stretch(document, compiled, subscription, claimed, now_ms, next_ms) {
                push(&mut found, stretch);
            }
            now_ms = next_ms;
        }
    }
    found
}

fn stretch<'a>(
    document: &'a PolicyDocument,
    compiled: &CompiledPolicy,
    subscription: Option<&Subscription>,
    claimed: Option<&str>,
    start_ms: i64,
    end_ms: i64,
) -> Option<Stretch<'a>> {
    let in_force = compiled.tier_in_force(subscription, claimed, start_ms)?;
    let (name, tier) = document.tiers.get_key_value(&in_force.name)?;
    let (prices, limits) = match tier.earlier.get(in_force.version) {
        Some(earlier) => (&earlier.prices, &earlier.limits),
        None => (&tier.prices, &tier.limits),
    };
    let effective = subscription.map(|subscription| subscription.effective(start_ms));
    let is_tried = effective.is_some_and(|effective| effective.state == SubscriptionState::Trialing);
    // What a subject has for itself ends with its subscription, as edges see it.
    let bought = subscription.filter(|subscription| subscription.in_force(start_ms));
    Some(Stretch {
        start_ms,
        end_ms,
        anchor_ms: subscription.map_or(0, |subscription| subscription.anchor_ms),
        name,
        tier,
        version: in_force.version,
        prices: if is_tried { &[] } else { prices },
        limits,
        overrides: bought.map(|bought| bought.overrides.clone()).unwrap_or_default(),
    })
}

/// What was written again without a change is one stretch.
fn push<'a>(found: &mut Vec<Stretch<'a>>, stretch: Stretch<'a>) {
    if let Some(last) = found.last_mut() {
        let same = Stretch { start_ms: last.start_ms, end_ms: last.end_ms, ..stretch.clone() };
        if last.end_ms == stretch.start_ms
            && *last == same
            && last.prices.is_empty() == same.prices.is_empty()
        {
            last.end_ms = stretch.end_ms;
            return;
        }
    }
    found.push(stretch);
}

/// The billing month of `now_ms`: from the subscription's anchor, or without one that of the calendar (UTC).
pub fn billing_month(subscription: Option<&Subscription>, now_ms: i64) -> Window {
    let anchor_ms = subscription.map_or(0, |subscription| subscription.anchor_ms);
    Period::BillingMonth.window_at(now_ms, anchor_ms)
}

/// The moments between which usage may be summed, for an invoice of `from_ms..to_ms`: the first is where the first of its
/// billing months begins, the last is `to_ms`.
pub fn cuts(stretches: &[Stretch<'_>], from_ms: i64, to_ms: i64) -> Vec<i64> {
    let mut cuts = BTreeSet::from([from_ms, to_ms]);
    for stretch in stretches {
        let (mut now_ms, end_ms) = (stretch.start_ms.max(from_ms), stretch.end_ms.min(to_ms));
        while now_ms < end_ms {
            let month = Period::BillingMonth.window_at(now_ms, stretch.anchor_ms);
            cuts.extend([month.start_ms, now_ms]);
            now_ms = month.end_ms.min(end_ms);
        }
    }
    let first_ms = cuts.first().copied().unwrap_or(from_ms);
    cuts.extend(stretches.iter().flat_map(|stretch| [stretch.start_ms, stretch.end_ms]));
    cuts.into_iter().filter(|cut_ms| (first_ms..=to_ms).contains(cut_ms)).collect()
}

/// The twelve billing months from the anchor, or from an anniversary of it, that hold `month`.
pub(super) fn billing_year(month: Window, anchor_ms: i64) -> Window {
    let index = |ms: i64| {
        let date =
            jiff::tz::Offset::UTC.to_datetime(jiff::Timestamp::from_millisecond(ms).unwrap_or_default());
        i64::from(date.year()) * 12 + i64::from(date.month())
    };
    // A billing month starts in the calendar's month that is as many after the anchor's.
    let into = (index(month.start_ms) - index(anchor_ms)).rem_euclid(12);
    let mut year = month;
    for _ in 0..into {
        year.start_ms = Period::BillingMonth.window_at(year.start_ms - 1, anchor_ms).start_ms;
    }
    for _ in into..11 {
        year.end_ms = Period::BillingMonth.window_at(year.end_ms, anchor_ms).end_ms;
    }
    year
}
