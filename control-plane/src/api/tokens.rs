//! `/v1/tokens`: who may use this interface. A token is shown once, when it is made.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::extract::{self, Path, Query, cursor_key, page_limit};
use super::policy::{PageQuery, next_cursor};
use super::problem::{Problem, ProblemBody};
use super::state::Api;
use crate::calendar::rfc3339;
use crate::store::audit::Author;
use crate::store::tokens::TokenRow;

/// A token to be made.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct TokenWish {
    /// For people and the audit log.
    name: String,
    /// `admin`: everything under `/v1`; `read`: look at it; `edge`: everything under `/edge/v1`.
    role: String,
}

/// A token, without the token.
#[derive(Debug, Serialize, ToSchema)]
pub struct TokenBody {
    /// What it is named by here; the part of the token that is no secret.
    id: String,
    /// For people and the audit log.
    name: String,
    /// `admin`, `read` or `edge`.
    role: String,
    /// When it was made, RFC 3339.
    created_at: String,
    /// The name of the token it was made with.
    created_by: String,
    /// Since when it is worthless, RFC 3339.
    #[serde(skip_serializing_if = "Option::is_none")]
    revoked_at: Option<String>,
}

impl From<TokenRow> for TokenBody {
    fn from(row: TokenRow) -> Self {
        Self {
            id: row.id,
            name: row.name,
            role: row.role,
            created_at: rfc3339(row.created_ms),
            created_by: row.created_by,
            revoked_at: row.revoked_ms.map(rfc3339),
        }
    }
}

/// A token that was made.
#[derive(Debug, Serialize, ToSchema)]
pub struct MadeToken {
    /// The token. It is shown this once.
    token: String,
    #[serde(flatten)]
    about: TokenBody,
}

/// A page of tokens.
#[derive(Debug, Serialize, ToSchema)]
pub struct TokenPage {
    /// The tokens, revoked ones too.
    items: Vec<TokenBody>,
    /// Pass it as `cursor` for the next page; missing on the last.
    #[serde(skip_serializing_if = "Option::is_none")]
    next_cursor: Option<String>,
}

/// The tokens made here. Those that the control plane was started with are not among them.
#[utoipa::path(
    get, path = "/v1/tokens", tag = "tokens", params(PageQuery),
    responses((status = 200, body = TokenPage))
)]
pub async fn list(
    State(api): State<Api>,
    Query(query): Query<PageQuery>,
) -> Result<Json<TokenPage>, Problem> {
    let limit = page_limit(query.limit)?;
    let after = cursor_key(query.cursor.as_deref())?.unwrap_or_default();
    let mut rows = api.plane.tokens(&after, limit + 1).await?;
    let next_cursor = next_cursor(&mut rows, limit, |row| row.id.clone());
    Ok(Json(TokenPage { items: rows.into_iter().map(TokenBody::from).collect(), next_cursor }))
}

/// Makes a token.
#[utoipa::path(
    post, path = "/v1/tokens", tag = "tokens", request_body = TokenWish,
    responses((status = 201, body = MadeToken))
)]
pub async fn create(
    State(api): State<Api>,
    author: Author,
    extract::Json(body): extract::Json<TokenWish>,
) -> Result<(StatusCode, Json<MadeToken>), Problem> {
    let (token, row) = api.plane.create_token(&author, &body.name, &body.role).await?;
    Ok((StatusCode::CREATED, Json(MadeToken { token, about: row.into() })))
}

/// Makes a token worthless from now on.
#[utoipa::path(
    delete, path = "/v1/tokens/{id}", tag = "tokens", params(("id" = String, Path)),
    responses((status = 204), (status = 404, body = ProblemBody, description = "token-unknown"))
)]
pub async fn revoke(
    State(api): State<Api>,
    Path(id): Path<String>,
    author: Author,
) -> Result<StatusCode, Problem> {
    api.plane.revoke_token(&author, &id).await?;
    Ok(StatusCode::NO_CONTENT)
}
