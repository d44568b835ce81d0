//! `/v1/subjects/{subject}/capacity/{name}`: what is in use of a capacity, by an operator's count.

use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use tollgate_policy::document::Maximum;
use tollgate_policy::lease::Standing;
use utoipa::ToSchema;

use super::extract::{self, Path};
use super::problem::{Problem, ProblemBody};
use super::state::Api;
use super::tiers::maximum_of;
use crate::store::audit::Author;

/// What was counted.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CapacityWish {
    /// Units in use now.
    in_use: u64,
    /// Why it is set, for the audit log.
    reason: String,
}

/// Capacities of a subject.
#[derive(Debug, Serialize, ToSchema)]
pub struct CapacityList {
    /// The subject.
    subject: String,
    /// The capacities.
    items: Vec<CapacityBody>,
}

/// A capacity of a subject.
#[derive(Debug, Serialize, ToSchema)]
pub struct CapacityBody {
    /// The limit's name.
    limit: String,
    /// The meter that is limited.
    meter: Option<String>,
    /// The maximum: a number, or `unlimited`.
    #[schema(value_type = serde_json::Value)]
    units: Maximum,
    /// Units in use, as far as edges have reported.
    in_use: u64,
    /// Units that edges hold besides.
    leased: u64,
    /// Units that no edge holds: a number, or `unlimited`.
    #[schema(value_type = serde_json::Value)]
    remaining: Maximum,
    /// Units released in all, since the last count, though nothing was there.
    clamped: u64,
}

impl CapacityList {
    fn new(subject: String, standings: Vec<Standing>) -> Self {
        let items = standings.into_iter().map(|standing| {
            let units = maximum_of(standing.units);
            CapacityBody {
                units,
                remaining: match units {
                    Maximum::Unlimited => Maximum::Unlimited,
                    Maximum::Units(_) => Maximum::Units(standing.unleased),
                },
                limit: standing.limit,
                meter: standing.meter,
                in_use: standing.used,
                leased: standing.leased,
                clamped: standing.clamped,
            }
        });
        Self { subject, items: items.collect() }
    }
}

/// What is in use of a capacity. `name` is that of a limit of the subject's tier, else of a meter: then all capacities on it.
#[utoipa::path(
    get, path = "/v1/subjects/{subject}/capacity/{name}", tag = "subjects",
    params(("subject" = String, Path), ("name" = String, Path)),
    responses((status = 200, body = CapacityList), (status = 422, body = ProblemBody, description = "limit-unknown"))
)]
pub async fn show(
    State(api): State<Api>,
    Path((subject, name)): Path<(String, String)>,
) -> Result<Json<CapacityList>, Problem> {
    let standings = api.plane.capacity(&subject, &name).await?;
    Ok(Json(CapacityList::new(subject, standings)))
}

/// Sets what is in use of a capacity: for data that existed before, or to repair the count after an edge was lost. What
/// closed sessions held is forgotten; what edges report from now on counts on top.
#[utoipa::path(
    put, path = "/v1/subjects/{subject}/capacity/{name}", tag = "subjects",
    params(("subject" = String, Path), ("name" = String, Path)), request_body = CapacityWish,
    responses((status = 200, body = CapacityList))
)]
pub async fn set(
    State(api): State<Api>,
    Path((subject, name)): Path<(String, String)>,
    author: Author,
    extract::Json(body): extract::Json<CapacityWish>,
) -> Result<Json<CapacityList>, Problem> {
    let standings = api.plane.set_capacity(&author, &subject, &name, body.in_use, &body.reason).await?;
    Ok(Json(CapacityList::new(subject, standings)))
}
