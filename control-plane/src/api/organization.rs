//! `/v1/me/organization`: what administrators of an organisation see of it. Who is one, the token says by the claim that the
//! policy names. Everybody else gets the same 403, whatever there is.

use axum::Json;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::Response;
use serde::{Deserialize, Serialize};
use tollgate_policy::subject::{member, parts_of_member};
use utoipa::{IntoParams, ToSchema};

use super::extract::{Path, Query, cursor_key, page_limit};
use super::me::{MeBody, me};
use super::policy::next_cursor;
use super::problem::Problem;
use super::state::Api;
use super::usage::{UsageBody, UsageParameters, usage_of};
use crate::service::ServiceError;
use crate::service::me::EndUser;

/// A page of members, by name.
#[derive(Debug, Serialize, ToSchema)]
pub struct MemberPage {
    /// The members that an edge has seen.
    items: Vec<MemberBody>,
    /// Pass it as `cursor` for the next page; missing on the last.
    #[serde(skip_serializing_if = "Option::is_none")]
    next_cursor: Option<String>,
}

/// A member.
#[derive(Debug, Serialize, ToSchema)]
pub struct MemberBody {
    /// Such as `alice`.
    user: String,
    /// Such as `member:acme/alice`.
    subject: String,
}

/// Which members.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct MembersQuery {
    /// Rows of the page, 1 to 500. Default: 100.
    limit: Option<i64>,
    /// `next_cursor` of the page before.
    cursor: Option<String>,
}

/// What the organisation has now.
#[utoipa::path(get, path = "/v1/me/organization", tag = "me", responses((status = 200, body = MeBody)))]
pub async fn show(State(api): State<Api>, user: EndUser, headers: HeaderMap) -> Result<Response, Problem> {
    administrated(&user)?;
    let view = api.plane.me_of(&user.caller.subject, user.caller.tier.as_deref()).await?;
    me(&api, view, &headers)
}

/// What the organisation used, from the ledger.
#[utoipa::path(
    get, path = "/v1/me/organization/usage", tag = "me", params(UsageParameters),
    responses((status = 200, body = UsageBody))
)]
pub async fn usage(
    State(api): State<Api>,
    user: EndUser,
    Query(parameters): Query<UsageParameters>,
) -> Result<Json<UsageBody>, Problem> {
    administrated(&user)?;
    usage_of(&api, user.caller.subject, parameters).await
}

/// The organisation's members, of those with limits of their own.
#[utoipa::path(
    get, path = "/v1/me/organization/members", tag = "me", params(MembersQuery),
    responses((status = 200, body = MemberPage))
)]
pub async fn members(
    State(api): State<Api>,
    user: EndUser,
    Query(query): Query<MembersQuery>,
) -> Result<Json<MemberPage>, Problem> {
    let organization = administrated(&user)?;
    let limit = page_limit(query.limit)?;
    let after = cursor_key(query.cursor.as_deref())?.unwrap_or_default();
    let mut rows = api.plane.members_of(organization, &after, limit + 1).await?;
    let next_cursor = next_cursor(&mut rows, limit, Clone::clone);
    let member = |subject: String| {
        let (_, user) = parts_of_member(&subject)?;
        Some(MemberBody { user: user.to_owned(), subject })
    };
    Ok(Json(MemberPage { items: rows.into_iter().filter_map(member).collect(), next_cursor }))
}

/// What a member has now: the limits that each member has, and how much of them it used.
#[utoipa::path(
    get, path = "/v1/me/organization/members/{user}", tag = "me", params(("user" = String, Path)),
    responses((status = 200, body = MeBody))
)]
pub async fn show_member(
    State(api): State<Api>,
    user: EndUser,
    Path(name): Path<String>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let organization = administrated(&user)?;
    let view = api.plane.me_of(&member(organization, &name), user.caller.tier.as_deref()).await?;
    me(&api, view, &headers)
}

/// The organisation that a user administrates.
fn administrated(user: &EndUser) -> Result<&str, Problem> {
    let organization = user.caller.organization.as_deref().filter(|_| user.caller.is_organization_admin);
    organization.ok_or_else(|| ServiceError::NotAdministrator.into())
}
