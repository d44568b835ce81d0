//! `POST /v1/policy/preview`: what a policy would do to tiers, and to how many of those who have them.

use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use tollgate_policy::document::Maximum;
use utoipa::{IntoParams, ToSchema};

use super::extract::{PolicyText, Query};
use super::policy::ChangedTiersQuery;
use super::problem::Problem;
use super::state::Api;
use super::tiers::maximum_of;
use crate::service::versions::TierPreview;

/// For whom tiers would differ.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct PreviewQuery {
    /// For whom tiers that differ would do: `all` (default) or `new_subscribers`.
    #[serde(default)]
    changed_tiers: ChangedTiersQuery,
}

/// What a policy would do.
#[derive(Debug, Serialize, ToSchema)]
pub struct PreviewBody {
    /// Tiers that differ, by name.
    tiers: Vec<TierPreviewBody>,
}

/// What a policy would do to one tier and those who have it.
#[derive(Debug, Serialize, ToSchema)]
pub struct TierPreviewBody {
    /// The tier.
    tier: String,
    /// `added`, `removed` or `changed`.
    kind: &'static str,
    /// Whether subjects without a subscription have it, now or then; they are not counted here.
    is_default: bool,
    /// Limits that differ.
    limits: Vec<LimitPreviewBody>,
    /// Features that come.
    features_added: Vec<String>,
    /// Features that go.
    features_removed: Vec<String>,
    /// Whether what it costs differs.
    prices_changed: bool,
    /// How many subscriptions in force get something else than they have.
    affected: u64,
    /// How many keep what they have.
    kept: u64,
    /// The first 20 subjects that are affected.
    subjects: Vec<String>,
}

/// A limit that differs.
#[derive(Debug, Serialize, ToSchema)]
pub struct LimitPreviewBody {
    /// Its name.
    limit: String,
    /// The maximum now; missing where the tier has no such limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<serde_json::Value>)]
    from: Option<Maximum>,
    /// The maximum then; missing where the limit goes. The same one: it differs otherwise, such as by being soft.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<serde_json::Value>)]
    to: Option<Maximum>,
}

impl From<TierPreview> for TierPreviewBody {
    fn from(preview: TierPreview) -> Self {
        let limits = preview.limits.into_iter().map(|limit| LimitPreviewBody {
            limit: limit.limit,
            from: limit.from.map(maximum_of),
            to: limit.to.map(maximum_of),
        });
        Self {
            tier: preview.tier,
            kind: preview.kind,
            is_default: preview.is_default,
            limits: limits.collect(),
            features_added: preview.features_added,
            features_removed: preview.features_removed,
            prices_changed: preview.prices_changed,
            affected: preview.affected,
            kept: preview.kept,
            subjects: preview.subjects,
        }
    }
}

/// What putting a policy in force would do to tiers, and to those who have them. Nothing is changed.
#[utoipa::path(
    post, path = "/v1/policy/preview", tag = "policy", params(PreviewQuery),
    request_body(content = String, content_type = "application/yaml"),
    responses((status = 200, body = PreviewBody))
)]
pub async fn preview(
    State(api): State<Api>,
    Query(query): Query<PreviewQuery>,
    PolicyText(text): PolicyText,
) -> Result<Json<PreviewBody>, Problem> {
    let tiers = api.plane.preview_policy(&text, query.changed_tiers.into()).await?;
    Ok(Json(PreviewBody { tiers: tiers.into_iter().map(TierPreviewBody::from).collect() }))
}
