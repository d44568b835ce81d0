//! Who the users are. A new one is written down here and nowhere else.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use argon2::Argon2;
use argon2::password_hash::phc::PasswordHash;
use argon2::password_hash::{PasswordHasher as _, PasswordVerifier as _};
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use serde::Deserialize;
use serde_json::json;

use crate::refuse;

/// Signs tokens. Published with the source: nobody else may trust it.
const KEY: &[u8] = include_bytes!("../../issuer.key.pem");
const KEY_ID: &str = "chat-quotas";
const ISSUER: &str = "https://users.chat-quotas.example";
const AUDIENCE: &str = "chat-quotas";
const TOKEN_S: i64 = 3_600;

const PASSWORD_CHARS_MIN: usize = 8;

/// All users, by their address. A real service has a database here.
#[derive(Debug, Clone, Default)]
pub struct Users(Arc<Mutex<BTreeMap<String, User>>>);

#[derive(Debug, Clone)]
struct User {
    id: String,
    /// Salted and hashed (Argon2id): nobody can read a password here.
    password_hash: String,
}

/// What a user types in.
#[derive(Debug, Deserialize)]
pub struct Credentials {
    email: String,
    password: String,
}

/// `POST /api/v1/auth/register`
pub async fn register(State(users): State<Users>, Json(given): Json<Credentials>) -> Response {
    if !given.email.contains('@') || given.password.chars().count() < PASSWORD_CHARS_MIN {
        return refuse(
            StatusCode::UNPROCESSABLE_ENTITY,
            "Give an address and a password of 8 characters or more",
        );
    }
    let (Some(id), Some(password_hash)) = (random_uuid(), hash(&given.password)) else {
        return refuse(StatusCode::INTERNAL_SERVER_ERROR, "No randomness");
    };
    let user = User { id, password_hash };
    let added = users.with(|users| match users.contains_key(&given.email) {
        true => false,
        false => users.insert(given.email.clone(), user.clone()).is_none(),
    });
    match added {
        true => {
            (StatusCode::CREATED, Json(json!({"user_id": user.id, "email": given.email}))).into_response()
        }
        false => refuse(StatusCode::CONFLICT, "Email already registered"),
    }
}

/// `POST /api/v1/auth/login`
pub async fn login(State(users): State<Users>, Json(given): Json<Credentials>) -> Response {
    let user = users.with(|users| users.get(&given.email).cloned());
    let user = user.filter(|user| is_password(&given.password, &user.password_hash));
    let Some(user) = user else { return refuse(StatusCode::UNAUTHORIZED, "Incorrect email or password") };
    match sign(&user.id) {
        Ok(token) => {
            let answer = json!({"access_token": token, "token_type": "bearer", "user_id": user.id, "email": given.email});
            Json(answer).into_response()
        }
        Err(error) => refuse(StatusCode::INTERNAL_SERVER_ERROR, &error.to_string()),
    }
}

impl Users {
    fn with<T>(&self, look: impl FnOnce(&mut BTreeMap<String, User>) -> T) -> T {
        // Poisoned by a panic under the lock; the map is whole between any two statements.
        look(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Says who it is, and nothing of what was bought: that would hold as long as the token.
fn sign(user: &str) -> Result<String, jsonwebtoken::errors::Error> {
    let header = Header { kid: Some(KEY_ID.to_owned()), ..Header::new(Algorithm::RS256) };
    let now_s = jiff::Timestamp::now().as_second();
    let claims = json!({"iss": ISSUER, "aud": AUDIENCE, "sub": user, "iat": now_s, "exp": now_s + TOKEN_S});
    encode(&header, &claims, &EncodingKey::from_rsa_pem(KEY)?)
}

/// With a salt of its own, at the costs that the library advises.
fn hash(password: &str) -> Option<String> {
    Some(Argon2::default().hash_password(password.as_bytes()).ok()?.to_string())
}

fn is_password(password: &str, hash: &str) -> bool {
    let hash = PasswordHash::new(hash);
    hash.is_ok_and(|hash| Argon2::default().verify_password(password.as_bytes(), &hash).is_ok())
}

/// RFC 9562, version 4.
fn random_uuid() -> Option<String> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).ok()?;
    let number = u128::from_be_bytes(bytes);
    let number = number & !(0xf << 76) & !(0x3 << 62) | (0x4 << 76) | (0x2 << 62);
    let hex = format!("{number:032x}");
    let part = |from: usize, to: usize| hex.get(from..to).unwrap_or_default();
    Some(format!("{}-{}-{}-{}-{}", part(0, 8), part(8, 12), part(12, 16), part(16, 20), part(20, 32)))
}

#[cfg(test)]
mod tests {
    use super::{hash, is_password, random_uuid};

    #[test]
    fn a_password_is_known_by_its_hash_alone() {
        let kept = hash("TestPassword123").unwrap();
        assert!(!kept.contains("TestPassword123"), "{kept}");
        assert!(is_password("TestPassword123", &kept));
        assert!(!is_password("TestPassword124", &kept));
        assert_ne!(kept, hash("TestPassword123").unwrap(), "salted");
    }

    #[test]
    fn ids_are_uuids_of_version_4() {
        let id = random_uuid().unwrap();
        let parts: Vec<usize> = id.split('-').map(str::len).collect();
        assert_eq!(parts, [8, 4, 4, 4, 12], "{id}");
        assert_eq!(id.as_bytes()[14], b'4', "{id}");
        assert!(b"89ab".contains(&id.as_bytes()[19]), "{id}");
    }
}
