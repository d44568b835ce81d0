//! `/v1/views/{view}`: what users have and used, and what is offered, in the words of another API: by the templates in the
//! policy. The token is verified as for `/v1/me`, and nobody sees more than there.

mod context;
mod ledger;
mod refusal;
mod renderings;
mod rpc;

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::{FromRequest as _, Request, State};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use serde_json::Value as Json;

use super::auth;
use super::extract::{Path, body_problem, check_media_type, parse_json};
use super::plans::CACHE_CONTROL;
use super::problem::{Problem, ProblemBody, ProblemKind};
use super::state::Api;
use crate::service::in_force::InForce;
use crate::service::views::{ANSWER_BYTES_MAX, Made, View};
use crate::service::{NotFound, ServiceError};
use context::Context;
use renderings::{RENDERINGS, internal};

/// Most levels of a body: a template that puts it into its answer makes some more of them.
const DEPTH_MAX: usize = 64;

/// An answer of a view, as its template words it.
#[utoipa::path(
    get, path = "/v1/views/{view}", tag = "me",
    params(("view" = String, Path, description = "A view of the policy in force. Its template may read any query")),
    responses(
        (status = 200, body = serde_json::Value, description = "What the template makes: any JSON"),
        (status = 404, body = ProblemBody, description = "view-missing"),
        (status = 409, body = ProblemBody, description = "no-prices"),
        (status = 422, body = ProblemBody, description = "amount-too-large"),
    )
)]
pub async fn show(
    State(api): State<Api>,
    Path(view): Path<String>,
    request: Request,
) -> Result<Response, Problem> {
    answer(&api, view, request).await
}

/// An answer of a view to a body, as its template words it; or, of a view that says so, to JSON-RPC: single, or in a batch of at
/// most 100 calls.
#[utoipa::path(
    post, path = "/v1/views/{view}", tag = "me",
    params(("view" = String, Path, description = "A view of the policy in force. Its template may read any query")),
    request_body(content = Option<serde_json::Value>, description = "What the template may read: any JSON"),
    responses(
        (status = 200, body = serde_json::Value, description = "What the template makes: any JSON; or JSON-RPC"),
        (status = 204, description = "JSON-RPC with notifications alone"),
        (status = 404, body = ProblemBody, description = "view-missing"),
        (status = 409, body = ProblemBody, description = "no-prices"),
        (status = 413, body = ProblemBody, description = "body-too-large"),
        (status = 415, body = ProblemBody, description = "media-type"),
        (status = 422, body = ProblemBody, description = "amount-too-large"),
    )
)]
pub async fn ask(
    State(api): State<Api>,
    Path(view): Path<String>,
    request: Request,
) -> Result<Response, Problem> {
    answer(&api, view, request).await
}

async fn answer(api: &Api, name: String, request: Request) -> Result<Response, Problem> {
    let (parts, body) = request.into_parts();
    let (in_force, view) = find(api, &name).await?;
    let user = match view.is_public {
        true => None,
        false => Some(auth::verified(api, &parts.headers).await?),
    };
    let user = user.map(|(user, token)| (user, crate::service::me::claims(token)));
    let context = Context::gather(api, &in_force, &view, user, &parts).await?;
    let is_post = parts.method == Method::POST;
    let body = match is_post {
        true => {
            Bytes::from_request(Request::from_parts(parts.clone(), body), api).await.map_err(body_problem)?
        }
        false => Bytes::new(),
    };
    if view.is_jsonrpc {
        return answer_calls(&in_force, name, context, &body).await;
    }
    let json = read_json(&parts.headers, &body)?;
    let made = render(&in_force, name, context, vec![json]).await?;
    let made = made.into_iter().next().unwrap_or_else(|| Err(internal()))?;
    let status = StatusCode::from_u16(made.status).unwrap_or_default();
    let mut response = json_response(made.json, view.is_public && !is_post && status == StatusCode::OK);
    *response.status_mut() = status;
    Ok(response)
}

/// What is read of the policy here is enough for what all may see: it is asked often, and the poller keeps it new.
async fn find(api: &Api, name: &str) -> Result<(Arc<InForce>, View), Problem> {
    let find = |in_force: Arc<InForce>| {
        let view = in_force.policy.as_ref().and_then(|policy| policy.views.get(name)).cloned();
        view.map(|view| (in_force, view))
    };
    match find(api.plane.in_force()) {
        Some((in_force, view)) if view.is_public => Ok((in_force, view)),
        _ => {
            let in_force = api.plane.newest().await?;
            find(in_force).ok_or_else(|| ServiceError::NotFound(NotFound::View).into())
        }
    }
}

async fn answer_calls(
    in_force: &Arc<InForce>,
    name: String,
    context: Context,
    body: &[u8],
) -> Result<Response, Problem> {
    let batch = match rpc::Batch::read(body) {
        Ok(batch) => batch,
        Err(refusal) => return Ok(json_response(refusal, false)),
    };
    let results = render(in_force, name, context, batch.to_answer()).await?;
    Ok(match batch.answer(results) {
        Some(text) => json_response(text, false),
        None => StatusCode::NO_CONTENT.into_response(),
    })
}

/// Renders a view once for each of `bodies`, off the threads that serve: a template may go on for milliseconds, and waits where it
/// asks the database. Together they make at most so much as one may.
async fn render(
    in_force: &Arc<InForce>,
    name: String,
    context: Context,
    bodies: Vec<Json>,
) -> Result<Vec<Result<Made, Problem>>, Problem> {
    let policy = in_force.policy.as_ref().ok_or(ServiceError::NotFound(NotFound::View))?;
    let views = policy.views.clone();
    let render = move || {
        let mut left = Some(ANSWER_BYTES_MAX);
        let made = bodies.into_iter().map(|body| {
            let before = left.ok_or_else(too_large)?;
            let made = views.render(&name, context.for_body(&body));
            // What was refused is told as such, and not as a fault of the template.
            let made = made.map_err(|fault| match context.refused() {
                Some(problem) => problem,
                None => ServiceError::View(fault).into(),
            })?;
            left = before.checked_sub(made.json.len());
            left.map(|_| made).ok_or_else(too_large)
        });
        made.collect()
    };
    RENDERINGS.run(render).await
}

fn too_large() -> Problem {
    let text = format!("The answers have more than {ANSWER_BYTES_MAX} bytes. Send fewer calls at once.");
    Problem::new(ProblemKind::BatchTooLarge, text)
}

/// The body, or null where there is none.
fn read_json(headers: &HeaderMap, body: &[u8]) -> Result<Json, Problem> {
    if body.is_empty() {
        return Ok(Json::Null);
    }
    check_media_type(headers, &["application/json"], "Send JSON, with Content-Type: application/json.")?;
    let json = parse_json(body)?;
    match is_deeper(&json, DEPTH_MAX) {
        true => Err(Problem::new(
            ProblemKind::JsonMalformed,
            format!("Nest the body in {DEPTH_MAX} levels at most."),
        )),
        false => Ok(json),
    }
}

/// Whether it has more levels than so many.
fn is_deeper(json: &Json, levels: usize) -> bool {
    let Some(left) = levels.checked_sub(1) else { return json.is_array() || json.is_object() };
    match json {
        Json::Array(values) => values.iter().any(|value| is_deeper(value, left)),
        Json::Object(members) => members.values().any(|value| is_deeper(value, left)),
        _ => false,
    }
}

fn json_response(text: String, may_be_kept: bool) -> Response {
    let mut response = text.into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    if may_be_kept {
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static(CACHE_CONTROL));
        headers.insert(header::VARY, HeaderValue::from_static("Accept-Language, Origin"));
    } else {
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    }
    response
}
