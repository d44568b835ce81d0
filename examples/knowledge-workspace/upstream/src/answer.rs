//! What goes wrong, and JSON that comes in: both as the API's clients know it, with `{"detail": …}`.

use axum::Json;
use axum::body::{Body, Bytes, to_bytes};
use axum::extract::{FromRequest, Request};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::de::DeserializeOwned;
use serde_json::json;

/// Why something is not done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failure {
    /// The request did not come through Envoy.
    NobodyKnown,
    /// There is no such project, or it is none of the caller's.
    NoProject,
    /// There is no such document, or somebody else added it.
    NoDocument,
    /// Only who owns the project may.
    NotOwner,
    /// The person is in the project already.
    InProjectAlready,
    /// The person is in none of the owner's projects.
    NotInTeam,
    /// The body is not what this endpoint reads.
    Unreadable,
}

impl Failure {
    fn told(self) -> (StatusCode, &'static str) {
        match self {
            Self::NobodyKnown => (StatusCode::UNAUTHORIZED, "Not authenticated"),
            Self::NoProject => (StatusCode::NOT_FOUND, "Project not found"),
            Self::NoDocument => (StatusCode::NOT_FOUND, "Document not found"),
            Self::NotOwner => (StatusCode::FORBIDDEN, "Only the project's owner may do this"),
            Self::InProjectAlready => (StatusCode::CONFLICT, "Already in this project"),
            Self::NotInTeam => (StatusCode::NOT_FOUND, "Not in your team: add this person first"),
            Self::Unreadable => (StatusCode::UNPROCESSABLE_ENTITY, "The body cannot be read"),
        }
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let (status, detail) = self.told();
        (status, Json(json!({"detail": detail}))).into_response()
    }
}

/// A JSON body, of whatever length.
pub struct Sent<T>(pub T);

impl<S: Sync, T: DeserializeOwned> FromRequest<S> for Sent<T> {
    type Rejection = Failure;

    async fn from_request(request: Request, _: &S) -> Result<Self, Failure> {
        let body = read(request.into_body()).await?;
        serde_json::from_slice(&body).map(Self).map_err(|_| Failure::Unreadable)
    }
}

/// A whole body. How large it may be is Envoy's filter's to say.
pub async fn read(body: Body) -> Result<Bytes, Failure> {
    to_bytes(body, usize::MAX).await.map_err(|_| Failure::Unreadable)
}
