//! `/v1/tiers`: the tiers of the policy in force. They are changed by applying a policy.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::State;
use serde::Serialize;
use tollgate_policy::compile::{CompiledPolicy, CompiledTier};
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
    /// The meter that is limited.
    meter: String,
    /// `quota` or `rate`.
    kind: &'static str,
    /// The maximum.
    units: u64,
    /// The window, such as `day` or `60s`.
    per: String,
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
        limits: limits
            .iter()
            .map(|limit| LimitBody {
                name: limit.name.to_string(),
                meter: policy.meters.get(limit.meter).cloned().unwrap_or_default(),
                kind: match limit.kind {
                    tollgate_policy::limit::LimitKind::Rate { .. } => "rate",
                    tollgate_policy::limit::LimitKind::Quota(_) => "quota",
                },
                units: limit.units,
                per: limit.per(),
            })
            .collect(),
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
        let description = policy.document.tiers.get(name).and_then(|tier| tier.description.clone());
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
    let description = policy.document.tiers.get(&name).and_then(|tier| tier.description.clone());
    Ok(Json(tier_body(&name, tier, &policy.compiled, description)))
}
