//! Who may pass: the bearer token is looked up once, here, for all endpoints of a group.

use axum::extract::{Request, State};
use axum::http::{HeaderMap, Method, header};
use axum::middleware::Next;
use axum::response::Response;

use super::problem::{Problem, ProblemKind};
use super::state::Api;
use crate::service::me::EndUser;
use crate::service::tokens::{Identity, Role};

/// Lets admins pass, and readers where nothing is changed or made known that they could use to change anything.
pub async fn admin(State(api): State<Api>, request: Request, next: Next) -> Result<Response, Problem> {
    let identity = identify(&api, request.headers()).await?;
    let looks = match *request.method() {
        Method::GET => !request.uri().path().starts_with("/v1/tokens"),
        // It has a body, and changes nothing.
        Method::POST => request.uri().path() == "/v1/explain",
        _ => false,
    };
    match identity.role {
        Role::Admin => {}
        Role::Read if looks => {}
        Role::Read => return Err(forbidden("This token may only look. Use an admin token.")),
        Role::Edge => return Err(forbidden("This is an edge's token. Use an admin token.")),
    }
    Ok(pass(identity, request, next).await)
}

/// Lets edges pass.
pub async fn edge(State(api): State<Api>, request: Request, next: Next) -> Result<Response, Problem> {
    let identity = identify(&api, request.headers()).await?;
    if identity.role != Role::Edge {
        return Err(forbidden("Only an edge's token may do this. Use the token of TOLLGATE_EDGE_TOKEN."));
    }
    Ok(pass(identity, request, next).await)
}

async fn pass(identity: Identity, mut request: Request, next: Next) -> Response {
    request.extensions_mut().insert(identity);
    next.run(request).await
}

fn forbidden(detail: &str) -> Problem {
    Problem::new(ProblemKind::RightMissing, detail)
}

/// Lets end users pass, by the tokens that their issuer gave them.
pub async fn user(State(api): State<Api>, mut request: Request, next: Next) -> Result<Response, Problem> {
    let (user, _) = verified(&api, request.headers()).await?;
    request.extensions_mut().insert(user);
    Ok(next.run(request).await)
}

/// The end user, and the token that says so.
pub async fn verified<'h>(api: &Api, headers: &'h HeaderMap) -> Result<(EndUser, &'h str), Problem> {
    let token = bearer(headers)?;
    Ok((api.plane.end_user(token.as_bytes()).await?, token))
}

fn bearer(headers: &HeaderMap) -> Result<&str, Problem> {
    // Two could be read as one here and as the other elsewhere.
    if headers.get_all(header::AUTHORIZATION).iter().count() > 1 {
        return Err(Problem::new(ProblemKind::TokenInvalid, "Send Authorization once."));
    }
    let token = headers
        .get(header::AUTHORIZATION)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.split_once(' '))
        .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"))
        .map(|(_, token)| token.trim());
    token.ok_or_else(|| Problem::new(ProblemKind::TokenMissing, "Send Authorization: Bearer <token>."))
}

async fn identify(api: &Api, headers: &HeaderMap) -> Result<Identity, Problem> {
    let token = bearer(headers)?;
    if let Some(identity) = api.plane.identify(token).await? {
        return Ok(identity);
    }
    // An end user's token is known, and may do nothing here, whatever it asks for and whether that is there.
    if token.bytes().filter(|byte| *byte == b'.').count() == 2
        && api.plane.end_user(token.as_bytes()).await.is_ok()
    {
        return Err(forbidden("This is an end user's token: it may use /v1/me and what is below it."));
    }
    Err(Problem::new(ProblemKind::TokenInvalid, "This token is not known, or was revoked. Use another one."))
}
