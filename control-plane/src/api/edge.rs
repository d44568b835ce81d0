//! `/edge/v1`: what Tollgate's filter in Envoy asks. The messages are those of `tollgate_policy::wire`.

use axum::Json;
use axum::body::Bytes;
use axum::extract::{FromRequest as _, Request, State};
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use tollgate_policy::wire::{PolicyBundle, SyncRequest, SyncResponse, WIRE_VERSION, WatchResponse};
use utoipa::{IntoParams, ToSchema};

use super::extract::{self, Query, Remote, body_problem, check_media_type, parse_json};
use super::problem::{Problem, ProblemBody, ProblemKind};
use super::state::Api;
use crate::service::{NotFound, ServiceError};

/// The one member that messages of all versions have.
#[derive(Deserialize)]
struct AnyVersion {
    version: u32,
}

/// Reports usage and gets leases.
#[utoipa::path(
    post, path = "/edge/v1/sync", tag = "edge",
    request_body(content = Object, description = "tollgate_policy::wire::SyncRequest"),
    responses((status = 200, body = Object, description = "tollgate_policy::wire::SyncResponse"))
)]
pub async fn sync(
    State(api): State<Api>,
    Remote(remote): Remote,
    request: Request,
) -> Result<Json<SyncResponse>, Problem> {
    check_media_type(
        request.headers(),
        &["application/json"],
        "Send JSON, with Content-Type: application/json.",
    )?;
    let body = Bytes::from_request(request, &api).await.map_err(body_problem)?;
    let request: SyncRequest = match parse_json(&body) {
        Ok(request) => request,
        // A message of another version need not have this one's shape: say what is really wrong.
        Err(problem) => match serde_json::from_slice::<AnyVersion>(&body) {
            Ok(any) if any.version != WIRE_VERSION => return Err(wire_version(any.version)),
            _ => return Err(problem),
        },
    };
    Ok(Json(api.plane.sync(&request, &remote).await?))
}

fn wire_version(version: u32) -> Problem {
    let detail = format!(
        "This control plane speaks version {WIRE_VERSION} of the edge's messages, not {version}. Run the same release \
         on both sides."
    );
    Problem::new(ProblemKind::WireVersion, detail)
}

/// What an edge knows already.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct WatchQuery {
    /// The edge's session.
    session: String,
    /// `after` of the last answer; 0 at first.
    #[serde(default)]
    after: u64,
    /// Revision of the configuration that the edge has; 0 for none.
    #[serde(default)]
    revision: u64,
}

/// Waits until the configuration or a subject of this edge has changed, or the long poll ends.
#[utoipa::path(
    get, path = "/edge/v1/watch", tag = "edge", params(WatchQuery),
    responses((status = 200, body = Object, description = "tollgate_policy::wire::WatchResponse"))
)]
pub async fn watch(
    State(api): State<Api>,
    Query(query): Query<WatchQuery>,
) -> Result<Json<WatchResponse>, Problem> {
    let stopped = api.stopped.clone();
    Ok(Json(api.plane.watch(&query.session, query.after, query.revision, stopped).await?))
}

/// The policy in force, with all keys in it.
#[utoipa::path(
    get, path = "/edge/v1/policy", tag = "edge",
    responses(
        (status = 200, body = Object, description = "tollgate_policy::wire::PolicyBundle"),
        (status = 404, body = ProblemBody, description = "policy-missing"),
    )
)]
pub async fn policy(State(api): State<Api>) -> Result<Json<PolicyBundle>, Problem> {
    let in_force = api.plane.newest().await?;
    let policy = in_force.policy.as_ref().ok_or(ServiceError::NotFound(NotFound::Policy))?;
    Ok(Json((*policy.bundle).clone()))
}

/// An issuer whose key is not known.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct KeysWish {
    /// The exact value of the `iss` claim.
    issuer: String,
}

/// What became of it.
#[derive(Debug, Serialize, ToSchema)]
pub struct KeysBody {
    /// Whether the keys are fetched now; otherwise they were a moment ago.
    fetching: bool,
}

/// Asks for an issuer's keys to be fetched, because a token names one that is not known. At most once in ten seconds for
/// each issuer, over all edges.
#[utoipa::path(
    post, path = "/edge/v1/keys", tag = "edge", request_body = KeysWish,
    responses((status = 202, body = KeysBody), (status = 404, body = ProblemBody, description = "issuer-unknown"))
)]
pub async fn keys(
    State(api): State<Api>,
    extract::Json(body): extract::Json<KeysWish>,
) -> Result<(StatusCode, Json<KeysBody>), Problem> {
    let fetching = api.plane.ask_for_keys(&body.issuer).await?;
    Ok((StatusCode::ACCEPTED, Json(KeysBody { fetching })))
}
