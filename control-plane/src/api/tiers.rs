//! `/v1/tiers`: the tiers of the policy in force. They are changed by applying a policy.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::State;
use serde::Serialize;
use tollgate_policy::compile::{CompiledLimit, CompiledPolicy, CompiledTier, UNLIMITED};
use tollgate_policy::document::{Enforcement, Maximum, Scope};
use tollgate_policy::limit::LimitKind;
use utoipa::ToSchema;

use super::extract::Path;
use super::problem::{Problem, ProblemBody};
use super::state::Api;
use crate::service::{NotFound, ServiceError};

/// A tier.
#[derive(Debug, Serialize, ToSchema)]
pub struct TierBody {
    /// Its name.
    name: String,
    /// For people.
    #[serde(skip_serializing_if = "Option::is_none")]
    description: Option<String>,
    /// Whether subjects without a subscription have it.
    is_default: bool,
    /// Names of its features.
    features: Vec<String>,
    /// Its limits.
    limits: Vec<LimitBody>,
}

/// A limit of a tier.
#[derive(Debug, Serialize, ToSchema)]
pub struct LimitBody {
    /// Its name: what overrides name.
    name: String,
    /// The meter that is limited; not of `concurrency` and `size`.
    #[serde(skip_serializing_if = "Option::is_none")]
    meter: Option<String>,
    /// `quota`, `rate` (a token bucket too), `capacity`, `concurrency` or `size`.
    kind: &'static str,
    /// The maximum: a number, or `unlimited`. Of a token bucket what it holds.
    #[schema(value_type = serde_json::Value)]
    units: Maximum,
    /// The window, such as `day` or `60s`; not of `capacity`, `concurrency` and `size`.
    #[serde(skip_serializing_if = "Option::is_none")]
    per: Option<String>,
    /// Units that come back in `per`; of a token bucket.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<serde_json::Value>)]
    refill: Option<Maximum>,
    /// Whether what is used beyond it is overage, and not refused.
    soft: bool,
    /// `subject`, or `member`: each member of an organisation has the maximum.
    #[schema(value_type = String)]
    scope: Scope,
    /// Whether its denials are carried out: `enforce`, `shadow` or `off`; where it is missing, the route or the policy says.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    enforcement: Option<Enforcement>,
    /// The only routes where it is looked at; where it is missing, all.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    routes: Vec<String>,
}

impl LimitBody {
    pub(super) fn new(limit: &CompiledLimit, policy: &CompiledPolicy) -> Self {
        let per = limit.per();
        Self {
            name: limit.name.to_string(),
            meter: limit.meter.and_then(|meter| policy.meters.get(meter)).cloned(),
            kind: limit.kind.name(),
            units: maximum_of(limit.units),
            per: (!per.is_empty()).then_some(per),
            refill: match limit.kind {
                LimitKind::Bucket { units_per, .. } => Some(maximum_of(units_per)),
                _ => None,
            },
            soft: matches!(limit.kind, LimitKind::Quota { soft: true, .. }),
            scope: limit.scope,
            enforcement: limit.enforcement,
            routes: limit.routes.iter().map(ToString::to_string).collect(),
        }
    }
}

/// Units as people write them.
pub(super) fn maximum_of(units: u64) -> Maximum {
    match units {
        UNLIMITED => Maximum::Unlimited,
        units => Maximum::Units(units),
    }
}

/// All tiers.
#[derive(Debug, Serialize, ToSchema)]
pub struct TierList {
    /// The tiers, by name.
    items: Vec<TierBody>,
}

fn tier_body(
    name: &str,
    tier: &CompiledTier,
    policy: &CompiledPolicy,
    description: Option<String>,
) -> TierBody {
    let limits = policy.limits_of(tier, &BTreeMap::new());
    TierBody {
        name: name.to_owned(),
        description,
        is_default: policy.default_tier.as_deref() == Some(name),
        features: tier.features.iter().map(ToString::to_string).collect(),
        limits: limits.iter().map(|limit| LimitBody::new(limit, policy)).collect(),
    }
}

/// The tiers of the policy in force.
#[utoipa::path(
    get, path = "/v1/tiers", tag = "policy",
    responses((status = 200, body = TierList), (status = 404, body = ProblemBody, description = "policy-missing"))
)]
pub async fn list(State(api): State<Api>) -> Result<Json<TierList>, Problem> {
    let in_force = api.plane.newest().await?;
    let policy = in_force.policy.as_ref().ok_or(ServiceError::NotFound(NotFound::Policy))?;
    let items = policy.compiled.tiers.iter().map(|(name, tier)| {
        let description = policy
            .document
            .tiers
            .get(name)
            .and_then(|tier| tier.description.as_ref())
            .map(|text| text.any().to_owned());
        tier_body(name, tier, &policy.compiled, description)
    });
    Ok(Json(TierList { items: items.collect() }))
}

/// One tier.
#[utoipa::path(
    get, path = "/v1/tiers/{name}", tag = "policy", params(("name" = String, Path)),
    responses(
        (status = 200, body = TierBody),
        (status = 404, body = ProblemBody, description = "policy-missing, tier-missing"),
    )
)]
pub async fn show(State(api): State<Api>, Path(name): Path<String>) -> Result<Json<TierBody>, Problem> {
    let in_force = api.plane.newest().await?;
    let policy = in_force.policy.as_ref().ok_or(ServiceError::NotFound(NotFound::Policy))?;
    let tier = policy.compiled.tier(&name).ok_or(ServiceError::NotFound(NotFound::Tier))?;
    let description = policy
        .document
        .tiers
        .get(&name)
        .and_then(|tier| tier.description.as_ref())
        .map(|text| text.any().to_owned());
    Ok(Json(tier_body(&name, tier, &policy.compiled, description)))
}
