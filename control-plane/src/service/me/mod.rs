//! What end users see and do with their own token: their tier and limits, and how near these are; another tier, an end.
//!
//! Tokens are verified as edges verify them. A user sees who is charged for it: itself, or as a member of an organisation
//! its own limits and those of the organisation that can refuse it. What else concerns the organisation is for its
//! administrators alone.

mod change;
mod outlook;

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value as Json, json};
use tollgate_policy::compile::{CompiledTier, UNLIMITED};
use tollgate_policy::document::PolicyDocument;
use tollgate_policy::jwt::{Caller, TokenFault};
use tollgate_policy::limit::LimitKind;
use tollgate_policy::subject::member;
use tollgate_policy::subscription::{EffectiveState, Subscription, effective_state};

use super::entitled::Entitled;
use super::subscriptions::LimitView;
use super::{ControlPlane, InForce, ServiceError};
use crate::calendar::{DAY_MS, day_of};
use crate::store::subjects::{self, SubjectRow};
use crate::store::usage::{Period, Wanted, sums};
pub use change::{Changed, Direction};
use outlook::ESTIMATE_DAYS;
pub use outlook::{Outlook, days_left, outlook};

/// An end user, as its verified token says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EndUser {
    /// What the token says.
    pub caller: Caller,
}

impl EndUser {
    /// The user's own name in what is written down: `user:alice`, `member:acme/alice`, or the organisation where the token
    /// names no user.
    pub fn name(&self) -> String {
        self.caller.member().unwrap_or_else(|| self.caller.subject.clone())
    }

    /// Whether it decides about what is charged: for itself, or as an administrator of its organisation.
    pub fn decides(&self) -> bool {
        self.caller.organization.is_none() || self.caller.is_organization_admin
    }
}

/// All claims of a token that was verified: an object.
pub fn claims(verified: &str) -> Json {
    let payload = verified.split('.').nth(1).and_then(|part| URL_SAFE_NO_PAD.decode(part).ok());
    let claims = payload.and_then(|payload| serde_json::from_slice(&payload).ok());
    claims.filter(Json::is_object).unwrap_or_else(|| json!({}))
}

/// What a user has at a moment.
#[derive(Debug, Clone, PartialEq)]
pub struct MeView {
    /// Who is charged.
    pub subject: String,
    /// The member, of an organisation.
    pub member: Option<String>,
    /// The tier in force, if any.
    pub tier: Option<String>,
    /// Where it comes from: `subscription`, `claim`, `default` or `none`.
    pub tier_from: &'static str,
    /// Where the subscription is in its life.
    pub state: EffectiveState,
    /// Features of the tier.
    pub features: Vec<String>,
    /// What was bought, as it is at this moment.
    pub subscription: Option<Subscription>,
    /// Until when an operator's grant lets it pass, Unix ms.
    pub bypass_until_ms: Option<i64>,
    /// The limits that hold for it; those of the member first.
    pub limits: Vec<MyLimit>,
}

/// A limit, and how near it is.
#[derive(Debug, Clone, PartialEq)]
pub struct MyLimit {
    /// The limit, and how it stands.
    pub view: LimitView,
    /// The maximum, with what was bought besides; [`UNLIMITED`] where there is none.
    pub units: u64,
    /// How near it is; only of a quota or a capacity with a maximum.
    pub outlook: Option<Outlook>,
    /// For how many days what is left lasts, by the usage of the last days.
    pub days_left: Option<f64>,
}

impl MyLimit {
    /// Units that are left.
    pub fn left(&self) -> Option<u64> {
        let used = self.view.standing.as_ref()?.used;
        (self.units != UNLIMITED).then(|| self.units.saturating_sub(used))
    }

    fn counts_up(&self) -> bool {
        matches!(self.view.limit.kind, LimitKind::Quota { .. } | LimitKind::Capacity)
    }
}

impl ControlPlane {
    /// Whose token this is. Verified by the code and the keys that edges use.
    pub async fn end_user(&self, token: &[u8]) -> Result<EndUser, ServiceError> {
        let in_force = self.newest().await?;
        let policy = in_force.policy.as_ref().ok_or(ServiceError::Token(TokenFault::UnknownIssuer))?;
        let caller = policy.keyring.verify(token, self.clock.now_ms()).map_err(ServiceError::Token)?;
        Ok(EndUser { caller })
    }

    /// Whether a user may take a tier without paying. Nothing but the policy's word makes it so: a tier of which nobody said
    /// what it costs may well be sold elsewhere, and one that the payments file sells is paid whatever the policy says.
    pub fn is_free(&self, document: &PolicyDocument, name: &str) -> bool {
        let is_default = document.default_tier.as_deref() == Some(name);
        let offered = document.tiers.get(name);
        offered.is_some_and(|tier| (tier.free || is_default) && tier.prices.is_empty())
            && !self.settings.payments.sells(name)
    }

    /// What a user has now.
    pub async fn me(&self, user: &EndUser) -> Result<MeView, ServiceError> {
        let tier_claim = user.caller.tier.as_deref();
        let mut view = self.me_of(&user.caller.subject, tier_claim).await?;
        if let Some(member) = user.caller.member() {
            let of_member = self.me_of(&member, tier_claim).await?;
            view.limits.splice(0..0, of_member.limits);
            view.member = Some(member);
        }
        Ok(view)
    }

    /// What a subject has now, whose newest token claims a tier.
    pub async fn me_of(&self, subject: &str, tier_claim: Option<&str>) -> Result<MeView, ServiceError> {
        let now_ms = self.clock.now_ms();
        let in_force = self.newest().await?;
        let (row, organization) = self.read_known(subject).await?;
        // The token at hand is newer than what the last edge told.
        let claim = tier_claim.map(str::to_owned).or(row.tier_claim.clone());
        let row = SubjectRow { tier_claim: claim, ..row };
        let entitled = Entitled::of(&row, organization.as_ref());
        let tier = entitled.tier(&in_force, now_ms);
        let standings = row.book.standings(&entitled.terms(&in_force, now_ms), now_ms);
        let limits = tier.iter().flat_map(|tier| &tier.limits).map(|limit| LimitView {
            standing: standings.iter().find(|standing| *standing.limit == *limit.name).cloned(),
            limit: limit.clone(),
        });
        let used = self.used_lately(subject, now_ms).await?;
        let limits = limits.map(|view| my_limit(view, &used, now_ms)).collect();
        let bought =
            organization.as_ref().map_or(&row.subscription, |organization| &organization.subscription);
        Ok(MeView {
            subject: subject.to_owned(),
            member: None,
            tier: tier.as_ref().map(|tier| tier.tier.name.clone()),
            tier_from: tier.as_ref().map_or("none", |tier| tier.from),
            state: effective_state(bought.as_ref(), now_ms),
            features: tier.as_ref().map(|t| t.tier.features.iter().cloned().collect()).unwrap_or_default(),
            subscription: bought.as_ref().map(|bought| bought.at(now_ms).into_owned()),
            bypass_until_ms: row.bypass.filter(|b| b.in_force(now_ms)).map(|bypass| bypass.expires_ms),
            limits,
        })
    }

    /// At most `limit` members of an organisation after the subject `after`, by subject.
    pub async fn members_of(
        &self,
        organization: &str,
        after: &str,
        limit: i64,
    ) -> Result<Vec<String>, ServiceError> {
        let prefix = member(organization, "");
        Ok(subjects::beginning_with(&self.database, &prefix, after, limit).await?)
    }

    /// What was used of each meter in the last days, and the start of the first of them with any.
    async fn used_lately(
        &self,
        subject: &str,
        now_ms: i64,
    ) -> Result<BTreeMap<String, (i64, i64)>, ServiceError> {
        let from_ms = day_of(now_ms) - (ESTIMATE_DAYS - 1) * DAY_MS;
        let wanted =
            Wanted { subject, meter: None, from_ms, to_ms: now_ms.saturating_add(1), by: Period::Day };
        let mut used: BTreeMap<String, (i64, i64)> = BTreeMap::new();
        for sum in sums(&self.database, &wanted).await? {
            let (units, first_ms) = used.entry(sum.meter.clone()).or_insert((0, sum.start_ms));
            *units = units.saturating_add(sum.used());
            *first_ms = (*first_ms).min(sum.start_ms);
        }
        Ok(used)
    }
}

/// The tier that a subject has, as the policy in force writes it down.
pub(super) fn document_tier<'a>(
    in_force: &'a InForce,
    name: &str,
) -> Option<&'a tollgate_policy::document::Tier> {
    in_force.policy.as_ref()?.document.tiers.get(name)
}

fn my_limit(view: LimitView, used: &BTreeMap<String, (i64, i64)>, now_ms: i64) -> MyLimit {
    let units = view.standing.as_ref().map_or(view.limit.units, |standing| standing.units);
    let mut limit = MyLimit { units, view, outlook: None, days_left: None };
    if !limit.counts_up() {
        return limit;
    }
    let Some((standing, left)) = limit.view.standing.as_ref().zip(limit.left()) else { return limit };
    let lately = standing.meter.as_ref().and_then(|meter| used.get(meter));
    limit.outlook = Some(outlook(standing.used, units));
    limit.days_left = lately.and_then(|(units, first_ms)| days_left(left, *units, *first_ms, now_ms));
    limit
}

/// Places of two tiers: which is the higher.
pub(super) fn place<'a>(in_force: &InForce, tier: &'a CompiledTier) -> (i32, &'a str) {
    (document_tier(in_force, &tier.name).map_or(0, |tier| tier.order), &tier.name)
}
