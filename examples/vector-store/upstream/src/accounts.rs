//! Accounts: registering, logging in, and the token that says who calls. Passwords are kept as Argon2id hashes; nobody
//! has one that is written in this program.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use argon2::Argon2;
use argon2::password_hash::phc::PasswordHash;
use argon2::password_hash::{PasswordHasher, PasswordVerifier};
use axum::Json;
use axum::extract::State;
use axum::extract::rejection::JsonRejection;
use axum::http::StatusCode;
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode, get_current_timestamp};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::{Refusal, Store};

/// As in `policy.yaml`, which says whose tokens are believed.
const ISSUER: &str = "https://vector-store.tollgate.example";
const AUDIENCE: &str = "vector-store";

/// A token holds for a day.
const TOKEN_TTL_S: u64 = 24 * 60 * 60;

/// All accounts, by name.
pub struct Accounts {
    key: EncodingKey,
    /// Whether anybody may register.
    open: bool,
    by_name: Mutex<BTreeMap<String, Account>>,
}

#[derive(Clone)]
struct Account {
    id: usize,
    password_hash: String,
    email: Option<String>,
    is_admin: bool,
}

/// What a token says.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Claims<'a> {
    iss: &'a str,
    aud: &'a str,
    iat: u64,
    exp: u64,
    id: usize,
    username: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    email: Option<&'a str>,
    is_admin: bool,
}

/// The body of `/register` and `/login`.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Credentials {
    username: String,
    password: String,
    email: Option<String>,
}

/// A user of the file that was there before.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct UserOfFile {
    password: String,
    #[serde(default)]
    is_admin: bool,
}

/// Accounts as the environment says, or where it says nothing the file `upstream.env` of the working directory:
///
/// - `JWT_SECRET` signs tokens. There is no default.
/// - `ALLOW_SELF_REGISTRATION=true` lets anybody register.
/// - `USERS_FILE` names a `users.json` whose users can go on logging in.
/// - `ADMIN_USERNAME` and `ADMIN_PASSWORD` make an administrator. Whoever has that name already keeps his password.
pub fn from_environment() -> Result<Accounts, String> {
    let file = std::fs::read_to_string("upstream.env").unwrap_or_default();
    let variable = |name: &str| std::env::var(name).ok().or_else(|| line_of(&file, name));
    let secret = variable("JWT_SECRET").ok_or("set JWT_SECRET: the secret that signs tokens")?;
    let accounts =
        Accounts::new(&secret, variable("ALLOW_SELF_REGISTRATION").is_some_and(|value| value == "true"));
    if let Some(path) = variable("USERS_FILE") {
        accounts.add_users_of(Path::new(&path))?;
    }
    if let (Some(name), Some(password)) = (variable("ADMIN_USERNAME"), variable("ADMIN_PASSWORD")) {
        accounts.ensure_admin(&name, &password).map_err(|Refusal(_, message)| message)?;
    }
    Ok(accounts)
}

/// The value of a `NAME=VALUE` line.
fn line_of(file: &str, name: &str) -> Option<String> {
    let value = |line: &str| Some(line.strip_prefix(name)?.strip_prefix('=')?.trim().to_owned());
    file.lines().find_map(value)
}

impl Accounts {
    fn new(secret: &str, open: bool) -> Self {
        Self { key: EncodingKey::from_secret(secret.as_bytes()), open, by_name: Mutex::default() }
    }

    /// Adds the users of a `users.json`: an object by their names. The file stays as it is; what is kept are hashes.
    fn add_users_of(&self, path: &Path) -> Result<(), String> {
        let failed = |error: &dyn std::fmt::Display| format!("cannot read {}: {error}", path.display());
        let text = std::fs::read_to_string(path).map_err(|error| failed(&error))?;
        let users: BTreeMap<String, UserOfFile> =
            serde_json::from_str(&text).map_err(|error| failed(&error))?;
        for (name, user) in users {
            self.put(&name, &user.password, None, user.is_admin)
                .map_err(|Refusal(_, message)| failed(&message))?;
        }
        Ok(())
    }

    /// Adds an account, unless there is one of this name.
    fn put(&self, name: &str, password: &str, email: Option<String>, is_admin: bool) -> Result<(), Refusal> {
        // Before the lock: hashing takes its time, for whoever guesses passwords too.
        let password_hash = hash(password)?;
        let mut by_name = self.by_name.lock().unwrap_or_else(PoisonError::into_inner);
        if by_name.contains_key(name) {
            return Err(Refusal(StatusCode::BAD_REQUEST, "User already exists"));
        }
        let id = by_name.len() + 1;
        by_name.insert(name.to_owned(), Account { id, password_hash, email, is_admin });
        Ok(())
    }

    /// Makes whoever has this name an administrator, with the password that he has; or adds one.
    fn ensure_admin(&self, name: &str, password: &str) -> Result<(), Refusal> {
        let mut by_name = self.by_name.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(account) = by_name.get_mut(name) {
            account.is_admin = true;
            return Ok(());
        }
        drop(by_name);
        self.put(name, password, None, true)
    }

    fn register(&self, wish: &Credentials) -> Result<Value, Refusal> {
        if !self.open {
            let message = "Self-registration is disabled. Please contact an administrator.";
            return Err(Refusal(StatusCode::FORBIDDEN, message));
        }
        wish.check()?;
        self.put(&wish.username, &wish.password, wish.email.clone(), false)?;
        Ok(json!({"message": "User created successfully"}))
    }

    fn login(&self, given: &Credentials, now_s: u64) -> Result<Value, Refusal> {
        given.check()?;
        let name = given.username.as_str();
        let account = self.by_name.lock().unwrap_or_else(PoisonError::into_inner).get(name).cloned();
        let account = match account {
            Some(account) if is_password(&given.password, &account.password_hash) => account,
            Some(_) => return Err(INVALID_CREDENTIALS),
            None => {
                // As long as for a user that exists, so that nobody learns from it who does.
                let _ = hash(&given.password);
                return Err(INVALID_CREDENTIALS);
            }
        };
        let claims = Claims {
            iss: ISSUER,
            aud: AUDIENCE,
            iat: now_s,
            exp: now_s + TOKEN_TTL_S,
            id: account.id,
            username: name,
            email: account.email.as_deref(),
            is_admin: account.is_admin,
        };
        let token = encode(&Header::new(Algorithm::HS256), &claims, &self.key).map_err(internal)?;
        Ok(json!({"token": token, "username": name, "isAdmin": account.is_admin}))
    }
}

const INVALID_CREDENTIALS: Refusal = Refusal(StatusCode::UNAUTHORIZED, "Invalid credentials");

impl Credentials {
    fn check(&self) -> Result<(), Refusal> {
        if self.username.is_empty() || self.password.is_empty() {
            return Err(Refusal(StatusCode::BAD_REQUEST, "Username and password required"));
        }
        Ok(())
    }
}

fn hash(password: &str) -> Result<String, Refusal> {
    let hash: PasswordHash = Argon2::default().hash_password(password.as_bytes()).map_err(internal)?;
    Ok(hash.to_string())
}

fn is_password(given: &str, hash: &str) -> bool {
    let matches = |hash| Argon2::default().verify_password(given.as_bytes(), &hash).is_ok();
    PasswordHash::new(hash).is_ok_and(matches)
}

fn internal(error: impl std::fmt::Display) -> Refusal {
    eprintln!("vector-store-upstream: {error}");
    Refusal(StatusCode::INTERNAL_SERVER_ERROR, "Internal server error")
}

/// What came as the body of a request.
type Given = Result<Json<Credentials>, JsonRejection>;

pub async fn register(State(store): State<Store>, given: Given) -> Result<Json<Value>, Refusal> {
    hashing(store, given, |accounts, given| accounts.register(&given)).await
}

pub async fn login(State(store): State<Store>, given: Given) -> Result<Json<Value>, Refusal> {
    hashing(store, given, |accounts, given| accounts.login(&given, get_current_timestamp())).await
}

/// Does what hashes where it holds up no other request.
async fn hashing(
    store: Store,
    given: Given,
    work: fn(Arc<Accounts>, Credentials) -> Result<Value, Refusal>,
) -> Result<Json<Value>, Refusal> {
    let Json(given) = given.unwrap_or_default();
    let done = tokio::task::spawn_blocking(move || work(store.accounts, given)).await;
    done.map_err(internal)?.map(Json)
}

#[cfg(test)]
mod tests {
    use jsonwebtoken::{DecodingKey, Validation, decode};

    use super::*;

    fn given(username: &str, password: &str) -> Credentials {
        Credentials { username: username.to_owned(), password: password.to_owned(), email: None }
    }

    fn claims(answer: &Value) -> BTreeMap<String, Value> {
        let mut validation = Validation::new(Algorithm::HS256);
        validation.set_audience(&[AUDIENCE]);
        validation.validate_exp = false;
        let key = DecodingKey::from_secret(b"secret");
        decode(answer["token"].as_str().unwrap(), &key, &validation).unwrap().claims
    }

    #[test]
    fn nobody_registers_where_self_registration_is_off() {
        let accounts = Accounts::new("secret", false);
        let message = "Self-registration is disabled. Please contact an administrator.";
        let refused = accounts.register(&given("alice", "p"));
        assert_eq!(refused, Err(Refusal(StatusCode::FORBIDDEN, message)));
    }

    #[test]
    fn a_name_is_registered_once_and_needs_a_password() {
        let accounts = Accounts::new("secret", true);
        assert_eq!(
            accounts.register(&given("alice", "p")),
            Ok(json!({"message": "User created successfully"}))
        );
        let refused = |message| Err(Refusal(StatusCode::BAD_REQUEST, message));
        assert_eq!(accounts.register(&given("alice", "q")), refused("User already exists"));
        assert_eq!(accounts.register(&given("bob", "")), refused("Username and password required"));
        assert_eq!(accounts.login(&given("", "p"), 0), refused("Username and password required"));
    }

    #[test]
    fn a_password_is_kept_as_a_hash_only() {
        let accounts = Accounts::new("secret", true);
        accounts.register(&given("alice", "correct horse")).unwrap();
        let kept = accounts.by_name.lock().unwrap()["alice"].password_hash.clone();
        assert!(kept.starts_with("$argon2id$"), "{kept}");
        assert!(!kept.contains("horse"));
    }

    #[test]
    fn a_wrong_password_and_an_unknown_name_are_refused_alike() {
        let accounts = Accounts::new("secret", true);
        accounts.register(&given("alice", "p")).unwrap();
        let refused = Err(Refusal(StatusCode::UNAUTHORIZED, "Invalid credentials"));
        assert_eq!(accounts.login(&given("alice", "q"), 0), refused);
        assert_eq!(accounts.login(&given("nobody", "p"), 0), refused);
    }

    #[test]
    fn a_token_says_who_it_is_for_a_day_and_nothing_that_is_bought() {
        let accounts = Accounts::new("secret", true);
        let wish = Credentials { email: Some("alice@example.com".to_owned()), ..given("alice", "p") };
        accounts.register(&wish).unwrap();
        let answer = accounts.login(&given("alice", "p"), 1_800_000_000).unwrap();
        assert_eq!((&answer["username"], &answer["isAdmin"]), (&json!("alice"), &json!(false)));
        let expected = json!({
            "iss": ISSUER, "aud": AUDIENCE, "iat": 1_800_000_000, "exp": 1_800_086_400,
            "id": 1, "username": "alice", "email": "alice@example.com", "isAdmin": false,
        });
        assert_eq!(json!(claims(&answer)), expected);
    }

    #[test]
    fn users_of_the_file_log_in_with_the_password_that_they_had() {
        let accounts = Accounts::new("secret", false);
        accounts.add_users_of(Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../users.json"))).unwrap();
        let answer = accounts.login(&given("grace", "correct-horse-battery"), 0).unwrap();
        assert_eq!((&answer["username"], &answer["isAdmin"]), (&json!("grace"), &json!(false)));
        assert_eq!(accounts.login(&given("admin", "admin123"), 0), Err(INVALID_CREDENTIALS));
    }

    #[test]
    fn an_administrator_who_is_there_keeps_the_password_and_one_who_is_not_is_added() {
        let accounts = Accounts::new("secret", true);
        accounts.register(&given("admin", "old")).unwrap();
        accounts.ensure_admin("admin", "new").unwrap();
        accounts.ensure_admin("root", "new").unwrap();
        assert_eq!(accounts.login(&given("admin", "new"), 0), Err(INVALID_CREDENTIALS));
        assert_eq!(accounts.login(&given("admin", "old"), 0).unwrap()["isAdmin"], json!(true));
        assert_eq!(accounts.login(&given("root", "new"), 0).unwrap()["isAdmin"], json!(true));
    }
}
