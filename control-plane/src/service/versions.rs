//! Versions of tiers: when a policy changes a tier, who has it may keep it as it was. Writes the versions into the policy,
//! and tells before who is affected.

use std::collections::BTreeSet;

use tollgate_policy::compile::{CompiledPolicy, CompiledTier};
use tollgate_policy::document::{EarlierTier, PolicyDocument, Tier, validate};
use tollgate_policy::subscription::Subscription;

use super::policy::check;
use super::{ControlPlane, ServiceError};
use crate::store::subjects;

/// Most subjects that a preview names for one tier.
pub const PREVIEW_SUBJECTS_MAX: usize = 20;

/// Subscriptions that a preview reads at a time.
const PAGE: i64 = 1_000;

/// For whom tiers that differ do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChangedTiers {
    /// For all.
    All,
    /// For those who subscribe from now on: who has one keeps it as it is.
    NewSubscribers,
}

/// What a policy would do to one tier and those who have it.
#[derive(Debug, Clone, PartialEq)]
pub struct TierPreview {
    /// The tier.
    pub tier: String,
    /// `added`, `removed` or `changed`.
    pub kind: &'static str,
    /// Whether subjects without a subscription have it, now or then: they get its newest version.
    pub is_default: bool,
    /// Limits that differ.
    pub limits: Vec<LimitPreview>,
    /// Features that come.
    pub features_added: Vec<String>,
    /// Features that go.
    pub features_removed: Vec<String>,
    /// Whether what it costs differs.
    pub prices_changed: bool,
    /// How many subscriptions in force get something else than they have.
    pub affected: u64,
    /// How many keep what they have.
    pub kept: u64,
    /// The first that are affected.
    pub subjects: Vec<String>,
}

/// A limit that differs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LimitPreview {
    /// Its name.
    pub limit: String,
    /// The maximum now; none where the tier has no such limit.
    pub from: Option<u64>,
    /// The maximum then. The same one: it differs otherwise.
    pub to: Option<u64>,
}

/// The document to be put in force where `after` was written: tiers' earlier versions, which authors need not write, are
/// taken over, and those of tiers that change now are added where that is asked for.
pub(super) fn carry(
    before: Option<&PolicyDocument>,
    after: &PolicyDocument,
    changed_tiers: ChangedTiers,
    now_ms: i64,
) -> Result<PolicyDocument, ServiceError> {
    let mut document = after.clone();
    for (name, tier) in &mut document.tiers {
        let Some(old) = before.and_then(|before| before.tiers.get(name)) else { continue };
        let is_changed = old.newest() != tier.newest();
        let is_written = !tier.earlier.is_empty();
        if !is_written && (!is_changed || changed_tiers == ChangedTiers::NewSubscribers) {
            tier.earlier = old.earlier.clone();
        }
        if is_changed && changed_tiers == ChangedTiers::NewSubscribers {
            let last_ms = tier.earlier.last().map_or(i64::MIN, |last| last.subscribed_before_ms);
            tier.earlier.push(EarlierTier {
                subscribed_before_ms: now_ms.max(last_ms.saturating_add(1)),
                features: old.features.clone(),
                limits: old.limits.clone(),
                prices: old.prices.clone(),
            });
        }
    }
    // What was taken over must make sense with what was written: a meter may be gone that an earlier version limits.
    let faults = validate(&document);
    if faults.is_empty() { Ok(document) } else { Err(ServiceError::PolicyInvalid(faults)) }
}

impl ControlPlane {
    /// What putting a policy in force would do to tiers and those who have them. Reads the subscriptions of the tiers that
    /// differ, all of them.
    pub async fn preview_policy(
        &self,
        text: &str,
        changed_tiers: ChangedTiers,
    ) -> Result<Vec<TierPreview>, ServiceError> {
        let written = check(text).map_err(ServiceError::PolicyInvalid)?;
        let (in_force, now_ms) = (self.newest().await?, self.clock.now_ms());
        let before = in_force.policy.as_ref();
        let document = carry(before.map(|policy| &policy.document), &written, changed_tiers, now_ms)?;
        let compiled = CompiledPolicy::compile(&document, 0).map_err(ServiceError::PolicyInvalid)?;
        let old = before.map(|policy| (&policy.document, &policy.compiled));
        let tiers = |document: &PolicyDocument| document.tiers.keys().cloned().collect::<Vec<_>>();
        let mut names: BTreeSet<String> = tiers(&document).into_iter().collect();
        names.extend(old.map(|(document, _)| tiers(document)).unwrap_or_default());
        let mut previews = Vec::new();
        for name in names {
            let sides = Sides {
                from: old.and_then(|(document, compiled)| Side::of(document, compiled, &name)),
                to: Side::of(&document, &compiled, &name),
            };
            if let Some(preview) = sides.preview(&name) {
                previews.push(self.count_affected(preview, &sides, now_ms).await?);
            }
        }
        Ok(previews)
    }

    async fn count_affected(
        &self,
        mut preview: TierPreview,
        sides: &Sides<'_>,
        now_ms: i64,
    ) -> Result<TierPreview, ServiceError> {
        let mut after = String::new();
        loop {
            let page = subjects::list(&self.database, &after, Some(&preview.tier), None, PAGE).await?;
            for listed in &page {
                match sides.affects(&preview.tier, &listed.subscription, now_ms) {
                    None => {}
                    Some(false) => preview.kept += 1,
                    Some(true) => {
                        preview.affected += 1;
                        if preview.subjects.len() < PREVIEW_SUBJECTS_MAX {
                            preview.subjects.push(listed.subject.clone());
                        }
                    }
                }
            }
            match page.last() {
                Some(last) if i64::try_from(page.len()).unwrap_or(i64::MAX) == PAGE => {
                    after.clone_from(&last.subject);
                }
                _ => return Ok(preview),
            }
        }
    }
}

/// A tier now and then.
struct Sides<'a> {
    from: Option<Side<'a>>,
    to: Option<Side<'a>>,
}

/// A tier of one policy.
struct Side<'a> {
    written: &'a Tier,
    compiled: &'a CompiledTier,
    is_default: bool,
}

impl<'a> Side<'a> {
    fn of(document: &'a PolicyDocument, compiled: &'a CompiledPolicy, name: &str) -> Option<Self> {
        Some(Self {
            written: document.tiers.get(name)?,
            compiled: compiled.tier(name)?,
            is_default: document.default_tier.as_deref() == Some(name),
        })
    }

    /// Each limit's name with how it was written and its maximum.
    fn limits(&self) -> impl Iterator<Item = (&str, &tollgate_policy::document::Limit, u64)> {
        let compiled = self.compiled.limits.iter();
        compiled.zip(&self.written.limits).map(|(limit, written)| (&*limit.name, written, limit.units))
    }
}

impl Sides<'_> {
    /// What differs, with nobody counted yet; `None`: nothing.
    fn preview(&self, name: &str) -> Option<TierPreview> {
        let kind = match (&self.from, &self.to) {
            (None, Some(_)) => "added",
            (Some(_), None) => "removed",
            (Some(from), Some(to)) if tier_differs(from.written, to.written) => "changed",
            _ => return None,
        };
        let newest = |side: &Option<Side<'_>>| {
            let newest = side.as_ref().map(|side| side.written.newest());
            let features = newest.map(|newest| newest.features.to_vec()).unwrap_or_default();
            (features, newest.map(|newest| newest.prices.to_vec()).unwrap_or_default())
        };
        let ((had, cost), (has, costs)) = (newest(&self.from), newest(&self.to));
        let without = |some: &[String], others: &[String]| {
            some.iter().filter(|feature| !others.contains(feature)).cloned().collect()
        };
        Some(TierPreview {
            tier: name.to_owned(),
            kind,
            is_default: [&self.from, &self.to].into_iter().flatten().any(|side| side.is_default),
            limits: self.limits(),
            features_added: without(&has, &had),
            features_removed: without(&had, &has),
            prices_changed: cost != costs,
            affected: 0,
            kept: 0,
            subjects: Vec::new(),
        })
    }

    fn limits(&self) -> Vec<LimitPreview> {
        let (from, to) = (self.from.as_ref(), self.to.as_ref());
        let mut names: Vec<&str> = to.iter().flat_map(|side| side.limits()).map(|limit| limit.0).collect();
        let gone = from.iter().flat_map(|side| side.limits()).map(|limit| limit.0);
        names.extend(gone.filter(|name| !names.contains(name)).collect::<Vec<_>>());
        let find = |side: Option<&Side<'_>>, name: &str| {
            let found = side?.limits().find(|limit| limit.0 == name)?;
            Some((found.1.clone(), found.2))
        };
        let differs = names.into_iter().filter_map(|name| {
            let (from, to) = (find(from, name), find(to, name));
            (from != to).then(|| LimitPreview {
                limit: name.to_owned(),
                from: from.map(|(_, units)| units),
                to: to.map(|(_, units)| units),
            })
        });
        differs.collect()
    }

    /// Whether a subscription gets something else than it has; `None`: the tier is not in force for it.
    fn affects(&self, name: &str, subscription: &Subscription, now_ms: i64) -> Option<bool> {
        let effective = subscription.effective(now_ms);
        if !effective.in_force() || effective.tier != name {
            return None;
        }
        let since_ms = effective.tier_since_ms;
        let from = self.from.as_ref().map(|side| side.written.version_since(since_ms));
        Some(from != self.to.as_ref().map(|side| side.written.version_since(since_ms)))
    }
}

fn tier_differs(from: &Tier, to: &Tier) -> bool {
    from.newest() != to.newest() || from.earlier != to.earlier
}
