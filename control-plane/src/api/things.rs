//! `/v1/subjects/{subject}/things`: importing what exists already of capacities that count by id.

use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::extract::{self, Path};
use super::problem::{Problem, ProblemBody};
use super::state::Api;
use crate::service::things::{Import, Imported};
use crate::store::audit::Author;

/// Things that exist.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ThingsWish {
    /// At most 1,000, each once.
    things: Vec<ThingWish>,
}

/// A thing that exists.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ThingWish {
    /// A meter of the policy in force.
    meter: String,
    /// Its id as it stands in requests: what the policy names as `id` of the charge, percent-decoded.
    id: String,
    /// Its units. Default: 1.
    #[serde(default = "one")]
    units: u64,
}

fn one() -> u64 {
    1
}

/// What an import did.
#[derive(Debug, Serialize, ToSchema)]
pub struct ImportedBody {
    /// The subject.
    subject: String,
    /// Things that were not there.
    added: usize,
    /// Things that were there with other units.
    changed: usize,
    /// All things of the subject now, by meter.
    meters: Vec<ThingSumBody>,
}

/// All things of a subject and meter.
#[derive(Debug, Serialize, ToSchema)]
pub struct ThingSumBody {
    /// The meter.
    meter: String,
    /// How many there are.
    things: i64,
    /// Their units.
    units: i64,
}

impl ImportedBody {
    fn new(subject: String, imported: Imported) -> Self {
        let meters = imported.sums.into_iter();
        let meters = meters.map(|sum| ThingSumBody { meter: sum.meter, things: sum.count, units: sum.units });
        Self { subject, added: imported.added, changed: imported.changed, meters: meters.collect() }
    }
}

/// Imports things by their ids: what is there already gets these units, what is not is added. Repeating it changes
/// nothing. A deletion through an edge then releases each once.
#[utoipa::path(
    post, path = "/v1/subjects/{subject}/things", tag = "subjects", params(("subject" = String, Path)),
    request_body = ThingsWish,
    responses((status = 200, body = ImportedBody), (status = 409, body = ProblemBody, description = "no-policy"))
)]
pub async fn import(
    State(api): State<Api>,
    Path(subject): Path<String>,
    author: Author,
    extract::Json(body): extract::Json<ThingsWish>,
) -> Result<Json<ImportedBody>, Problem> {
    let things: Vec<Import> = body
        .things
        .into_iter()
        .map(|thing| Import { meter: thing.meter, id: thing.id, units: thing.units })
        .collect();
    let imported = api.plane.import_things(&author, &subject, &things).await?;
    Ok(Json(ImportedBody::new(subject, imported)))
}
