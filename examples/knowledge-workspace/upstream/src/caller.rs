//! Who calls. Envoy's filter has verified the token, and says whose it is; a client's own header of this name never arrives.

use axum::extract::FromRequestParts;
use axum::http::request::Parts;

use crate::answer::Failure;

/// The name of the user who calls.
pub struct Caller(pub String);

impl<S: Sync> FromRequestParts<S> for Caller {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Failure> {
        let subject = parts.headers.get("x-tollgate-subject").and_then(|value| value.to_str().ok());
        let user = subject.and_then(|subject| subject.strip_prefix("user:"));
        user.map(|user| Self(user.to_owned())).ok_or(Failure::NobodyKnown)
    }
}
