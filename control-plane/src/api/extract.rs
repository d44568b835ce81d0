//! What a request says, in our types: each reader refuses with a problem of ours where axum would answer in its own words.

use std::net::SocketAddr;

use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{ConnectInfo, FromRequest, FromRequestParts, Request};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, header};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::de::DeserializeOwned;
use tollgate_policy::request::address;

use super::problem::{Problem, ProblemKind};
use super::state::Api;
use crate::config::{PAGE_DEFAULT, PAGE_MAX};
use crate::service::me::EndUser;
use crate::service::tokens::Identity;
use crate::store::audit::Author;

/// Most characters of a `User-Agent` that are written down.
const USER_AGENT_CHARS_MAX: usize = 256;

/// A JSON body.
#[derive(Debug)]
pub struct Json<T>(pub T);

impl<T: DeserializeOwned> FromRequest<Api> for Json<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, api: &Api) -> Result<Self, Problem> {
        check_media_type(
            request.headers(),
            &["application/json"],
            "Send JSON, with Content-Type: application/json.",
        )?;
        let body = Bytes::from_request(request, api).await.map_err(body_problem)?;
        parse_json(&body).map(Self)
    }
}

/// Reads JSON, or says what is wrong with it.
pub fn parse_json<T: DeserializeOwned>(body: &[u8]) -> Result<T, Problem> {
    serde_json::from_slice(body).map_err(|error| match error.classify() {
        serde_json::error::Category::Data => {
            Problem::new(ProblemKind::BodyInvalid, format!("Correct the body: {error}."))
        }
        _ => Problem::new(ProblemKind::JsonMalformed, format!("Send well-formed JSON: {error}.")),
    })
}

/// A policy as its author wrote it: YAML or JSON.
#[derive(Debug)]
pub struct PolicyText(pub String);

impl FromRequest<Api> for PolicyText {
    type Rejection = Problem;

    async fn from_request(request: Request, api: &Api) -> Result<Self, Problem> {
        let types = ["application/yaml", "application/x-yaml", "text/yaml", "text/plain", "application/json"];
        let sentence = "Send the policy with Content-Type: application/yaml or application/json.";
        check_media_type(request.headers(), &types, sentence)?;
        let body = Bytes::from_request(request, api).await.map_err(body_problem)?;
        match String::from_utf8(body.into()) {
            Ok(text) => Ok(Self(text)),
            Err(_) => Err(Problem::new(ProblemKind::TextMalformed, "Send the policy as UTF-8 text.")),
        }
    }
}

/// Refuses a body whose type is none of `types`.
pub fn check_media_type(headers: &HeaderMap, types: &[&str], sentence: &str) -> Result<(), Problem> {
    let given = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let given = given.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    match types.contains(&given.as_str()) {
        true => Ok(()),
        false => Err(Problem::new(ProblemKind::MediaType, sentence)),
    }
}

/// Why a body could not be read.
pub fn body_problem(rejection: BytesRejection) -> Problem {
    match rejection.status() {
        axum::http::StatusCode::PAYLOAD_TOO_LARGE => {
            Problem::new(ProblemKind::BodyTooLarge, "Send a shorter body.")
        }
        _ => Problem::new(ProblemKind::JsonMalformed, "The body ended early. Send it again."),
    }
}

/// The query. Unknown members are refused by the types that are read from it.
#[derive(Debug)]
pub struct Query<T>(pub T);

impl<T: DeserializeOwned> FromRequestParts<Api> for Query<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, api: &Api) -> Result<Self, Problem> {
        let read = axum::extract::Query::from_request_parts(parts, api).await;
        let axum::extract::Query(query) = read.map_err(|rejection| {
            let text = rejection.body_text();
            let text = text.strip_prefix("Failed to deserialize query string: ").unwrap_or(&text);
            Problem::new(ProblemKind::QueryMalformed, format!("Correct the query: {text}."))
        })?;
        Ok(Self(query))
    }
}

/// The parameters in the path.
#[derive(Debug)]
pub struct Path<T>(pub T);

impl<T: DeserializeOwned + Send> FromRequestParts<Api> for Path<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, api: &Api) -> Result<Self, Problem> {
        let read = axum::extract::Path::from_request_parts(parts, api).await;
        let axum::extract::Path(path) = read.map_err(|rejection| {
            let detail = format!("Correct the path: {}.", rejection.body_text());
            Problem::new(ProblemKind::PathMalformed, detail)
        })?;
        Ok(Self(path))
    }
}

/// Where a request comes from: the address of the peer, or what the proxies in front of this program say of it.
#[derive(Debug)]
pub struct Remote(pub String);

impl FromRequestParts<Api> for Remote {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, api: &Api) -> Result<Self, Problem> {
        let forwarded_for = parts.headers.get_all("x-forwarded-for").iter();
        let forwarded_for: Vec<&[u8]> = forwarded_for.map(HeaderValue::as_bytes).collect();
        // Who came by fewer proxies is known by its connection.
        if let Some(address) = address::forwarded(&forwarded_for, api.plane.settings.trusted_hops) {
            return Ok(Self(address.to_string()));
        }
        let address = parts.extensions.get::<ConnectInfo<SocketAddr>>();
        Ok(Self(address.map_or_else(|| "unknown".to_owned(), |address| address.0.to_string())))
    }
}

/// Who asks, from where, at what time: what the audit log keeps of a change.
impl FromRequestParts<Api> for Author {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, api: &Api) -> Result<Self, Problem> {
        let Remote(remote) = Remote::from_request_parts(parts, api).await?;
        let actor =
            parts.extensions.get::<Identity>().map(|identity| identity.name.clone()).unwrap_or_default();
        Ok(Self { actor, remote, now_ms: api.plane.clock.now_ms() })
    }
}

/// The end user whose token was verified.
impl FromRequestParts<Api> for EndUser {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &Api) -> Result<Self, Problem> {
        let user = parts.extensions.get::<Self>().cloned();
        user.ok_or_else(|| Problem::new(ProblemKind::TokenMissing, "Send Authorization: Bearer <token>."))
    }
}

/// An end user as the author of a change: its name, and from where, with the program that it uses.
#[derive(Debug)]
pub struct UserAuthor(pub Author);

impl FromRequestParts<Api> for UserAuthor {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, api: &Api) -> Result<Self, Problem> {
        let Remote(remote) = Remote::from_request_parts(parts, api).await?;
        let user = EndUser::from_request_parts(parts, api).await?;
        let agent = parts.headers.get(header::USER_AGENT).and_then(|value| value.to_str().ok()).unwrap_or("");
        let agent: String = agent.chars().take(USER_AGENT_CHARS_MAX).collect();
        // An address has no spaces: what comes after the first one is the program.
        let remote = format!("{remote} {agent}").trim_end().to_owned();
        Ok(Self(Author { actor: user.name(), remote, now_ms: api.plane.clock.now_ms() }))
    }
}

/// The version that a change expects to be in force, from `If-Match: "7"`.
#[derive(Debug)]
pub struct ExpectedVersion(pub Option<i64>);

impl FromRequestParts<Api> for ExpectedVersion {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &Api) -> Result<Self, Problem> {
        let Some(value) = parts.headers.get(header::IF_MATCH) else {
            return Ok(Self(None));
        };
        let version =
            value.to_str().ok().map(|text| text.trim().trim_matches('"')).and_then(|text| text.parse().ok());
        match version {
            Some(version) => Ok(Self(Some(version))),
            None => Err(Problem::new(
                ProblemKind::HeaderMalformed,
                "Send If-Match with one version, as in the ETag of GET /v1/policy: \"7\". \"0\" means none.",
            )),
        }
    }
}

/// How many rows a page has.
pub fn page_limit(wanted: Option<i64>) -> Result<i64, Problem> {
    match wanted.unwrap_or(PAGE_DEFAULT) {
        limit @ 1..=PAGE_MAX => Ok(limit),
        _ => Err(Problem::new(ProblemKind::QueryMalformed, format!("Ask for a limit of 1 to {PAGE_MAX}."))),
    }
}

/// The cursor after a row. Opaque, so that what lists are ordered by can change.
pub fn cursor_after(key: &str) -> String {
    URL_SAFE_NO_PAD.encode(key)
}

/// The row that a cursor stands after.
pub fn cursor_key(cursor: Option<&str>) -> Result<Option<String>, Problem> {
    let Some(cursor) = cursor else {
        return Ok(None);
    };
    let key = URL_SAFE_NO_PAD.decode(cursor).ok().and_then(|key| String::from_utf8(key).ok());
    match key.filter(|key| !key.contains('\0')) {
        Some(key) => Ok(Some(key)),
        None => Err(cursor_problem()),
    }
}

/// As [`cursor_key`], where lists are ordered by a number.
pub fn cursor_number(cursor: Option<&str>) -> Result<Option<i64>, Problem> {
    cursor_key(cursor)?.map(|key| key.parse().map_err(|_| cursor_problem())).transpose()
}

fn cursor_problem() -> Problem {
    Problem::new(ProblemKind::CursorMalformed, "Pass `next_cursor` of the page before as it is.")
}
