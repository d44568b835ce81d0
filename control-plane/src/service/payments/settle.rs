//! What a subject has, by all that it bought and by what no payment brought: what an operator set by hand or imported stays
//! where what is bought is less. So whoever buys something for somebody else takes nothing away.

use std::collections::{BTreeMap, BTreeSet};

use tollgate_policy::compile::CompiledPolicy;
use tollgate_policy::subscription::{ScheduledChange, Subscription, SubscriptionState};

use super::account::View;
use super::compose::compose;
use crate::service::ServiceError;
use crate::service::subscriptions::{lock_settled, write_as_made_in};
use crate::store::payments::SnapshotRow;
use crate::store::{StoreError, Tx, payments, subjects};

/// Most subscriptions of one subject that are looked at.
const SUBSCRIPTIONS_MAX: i64 = 100;

/// Who is named in the store beside the providers, for what is noted of subjects here. Its rows are of no subject, so they
/// are not among what one bought.
const OURS: &str = "tollgate";

/// Locks subjects until the transaction ends, all at once: what they bought is looked at afterwards.
pub(super) async fn lock(tx: &mut Tx<'_>, subjects: &BTreeSet<String>) -> Result<(), StoreError> {
    let names: Vec<&str> = subjects.iter().map(String::as_str).collect();
    if names.is_empty() {
        return Ok(());
    }
    subjects::lock(tx, &names).await.map(drop)
}

/// Writes what a subject has, by all that it bought. The subject is locked.
pub(super) async fn settle(tx: &mut Tx<'_>, view: View<'_>, subject: &str) -> Result<(), ServiceError> {
    let now_ms = view.author.now_ms;
    let before = lock_settled(tx, view.in_force, subject, now_ms).await?.subscription;
    let bought = payments::of_subject(tx, subject, SUBSCRIPTIONS_MAX).await?;
    let mut candidates: Vec<Subscription> = bought.into_iter().map(|row| row.outcome).collect();
    let policy = view.in_force.policy.as_ref();
    let tier = |tier: &str| policy.and_then(|policy| policy.document.tiers.get(tier));
    // One whose tier is gone from the policy is worth nothing, and must not keep out what is bought.
    let kept = note_kept(tx, subject, before.as_ref(), now_ms).await?;
    candidates.extend(kept.filter(|kept| tier(&kept.tier).is_some()));
    let rank = |name: &str| tier(name).map_or(i64::MIN, |tier| i64::from(tier.order));
    let over = || Subscription {
        state: SubscriptionState::Expired,
        expires_at_ms: Some(now_ms),
        changes: Vec::new(),
        ..before.clone().unwrap_or_default()
    };
    let mut made = compose(&candidates, rank, now_ms).unwrap_or_else(over);
    made.changes.sort_by_key(|change| change.at_ms);
    if made.trial_ends_at_ms.is_none() && !can_be_on_trial(&made) {
        // Who had a trial has had it, whatever was bought since, and whichever is heard first.
        made.trial_ends_at_ms = candidates.iter().chain(&before).filter_map(|had| had.trial_ends_at_ms).max();
    }
    write(tx, subject, WRITTEN, Some(&made)).await?;
    made.overrides = before.map(|before| before.overrides).unwrap_or_default();
    let made = &with_known_overrides(made, policy.map(|policy| &policy.compiled));
    let make = |_: Option<&Subscription>| Ok(made.clone());
    write_as_made_in(tx, view.in_force, view.author, subject, "subscription.payment", make).await?;
    Ok(())
}

/// What is noted of a subject: what no payment brought, and what was written last because of payments.
const KEPT: &str = "kept";
const WRITTEN: &str = "written";

/// What a subject has that no payment brought, noted for as long as it is not over.
async fn note_kept(
    tx: &mut Tx<'_>,
    subject: &str,
    before: Option<&Subscription>,
    now_ms: i64,
) -> Result<Option<Subscription>, StoreError> {
    let was_kept = read(tx, subject, KEPT).await?;
    let written = read(tx, subject, WRITTEN).await?;
    let kept = keep(was_kept.as_ref(), written.as_ref(), before, now_ms);
    if kept != was_kept {
        write(tx, subject, KEPT, kept.as_ref()).await?;
    }
    Ok(kept)
}

async fn read(tx: &mut Tx<'_>, subject: &str, what: &str) -> Result<Option<Subscription>, StoreError> {
    let found = payments::snapshot(tx, OURS, &format!("{what} {subject}")).await?;
    Ok(found.map(|row| row.outcome))
}

async fn write(
    tx: &mut Tx<'_>,
    subject: &str,
    what: &str,
    noted: Option<&Subscription>,
) -> Result<(), StoreError> {
    let reference = format!("{what} {subject}");
    let Some(noted) = noted else { return payments::forget_snapshot(tx, OURS, &reference).await };
    // Maximums of the subject's own are the subject's, whatever it buys.
    let outcome = Subscription { overrides: BTreeMap::new(), ..noted.clone() };
    let row = SnapshotRow {
        provider: OURS.to_owned(),
        reference,
        account: subject.to_owned(),
        subject: None,
        outcome,
    };
    payments::write_snapshot(tx, &row).await
}

/// What of a subject's subscription `before` no payment brought, by what was kept and what was `written` last because of
/// payments. An operator's change to what is being paid for (its dates, a pause) holds until its provider has news; another
/// tier than the one that is paid for is the operator's.
fn keep(
    kept: Option<&Subscription>,
    written: Option<&Subscription>,
    before: Option<&Subscription>,
    now_ms: i64,
) -> Option<Subscription> {
    let is_over = |subscription: &Subscription| subscription.state == SubscriptionState::Expired;
    let kept = kept.map(|kept| kept.at(now_ms).into_owned()).filter(|kept| !is_over(kept));
    let written = written.map(|written| written.at(now_ms).into_owned());
    let before = before.map(|before| Subscription { overrides: BTreeMap::new(), ..before.clone() });
    if before == written {
        return kept;
    }
    let before = before.filter(|before| !is_over(before))?;
    let is_paid_for = written.is_some_and(|written| written.in_force(now_ms) && written.tier == before.tier)
        && kept.as_ref().is_none_or(|kept| kept.tier != before.tier);
    if is_paid_for { kept } else { Some(before) }
}

fn can_be_on_trial(subscription: &Subscription) -> bool {
    let trialing = |change: &ScheduledChange| change.state == Some(SubscriptionState::Trialing);
    subscription.state == SubscriptionState::Trialing || subscription.changes.iter().any(trialing)
}

/// A maximum of the subject's own goes where the new tier has no such limit.
fn with_known_overrides(mut made: Subscription, policy: Option<&CompiledPolicy>) -> Subscription {
    if let Some((policy, tier)) = policy.and_then(|policy| Some((policy, policy.tier(&made.tier)?))) {
        let limits = policy.limits_of(tier, &BTreeMap::new());
        made.overrides.retain(|name, _| limits.iter().any(|limit| *limit.name == **name));
    }
    made
}

#[cfg(test)]
mod tests {
    use tollgate_policy::subscription::{Subscription, SubscriptionState};

    use super::keep;

    fn has(tier: &str, expires_at_ms: Option<i64>) -> Subscription {
        Subscription { tier: tier.to_owned(), expires_at_ms, ..Subscription::default() }
    }

    #[test]
    fn what_an_operator_set_is_kept_and_what_payments_wrote_is_not() {
        let (max, pro) = (&has("max", None), &has("pro", None));
        let ends = &has("pro", Some(10));
        let over = &Subscription { state: SubscriptionState::Expired, ..has("pro", Some(10)) };
        let paused = &Subscription { state: SubscriptionState::Paused, ..has("pro", None) };
        for (kept, written, before, now_ms, expected) in [
            // Set by hand or imported, before anything was paid.
            (None, None, Some(max), 0, Some(max)),
            (None, None, Some(over), 20, None),
            (None, None, None, 0, None),
            // Written by payments, and as it became by itself since.
            (None, Some(pro), Some(pro), 0, None),
            (None, Some(ends), Some(over), 20, None),
            (Some(max), Some(max), Some(max), 0, Some(max)),
            // An operator's change to what is paid for is no gift.
            (None, Some(pro), Some(ends), 0, None),
            (None, Some(pro), Some(paused), 0, None),
            // Another tier is; so is one that is given back after its end, and the end of one that was given.
            (None, Some(pro), Some(max), 0, Some(max)),
            (None, Some(ends), Some(pro), 20, Some(pro)),
            (Some(pro), Some(pro), Some(ends), 0, Some(ends)),
            (Some(pro), Some(pro), Some(paused), 0, Some(paused)),
            // Taken away.
            (Some(max), Some(max), None, 0, None),
            (Some(max), Some(max), Some(over), 20, None),
            (Some(ends), Some(pro), Some(pro), 20, None),
        ] {
            let found = keep(kept, written, before, now_ms);
            assert_eq!(found.as_ref(), expected, "{kept:?} {written:?} {before:?} at {now_ms}");
        }
    }
}
