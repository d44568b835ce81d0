//! Who may do what: tokens from the start-up configuration and tokens made through the API. A token is compared as its
//! SHA-256, in constant time, and kept in no other form.

use serde_json::json;
use sha2::{Digest as _, Sha256};
use subtle::{Choice, ConstantTimeEq as _};

use super::{ControlPlane, Invalid, NotFound, ServiceError};
use crate::hex::hex;
use crate::store::audit::Author;
use crate::store::tokens::TokenRow;
use crate::store::{audit, tokens};

/// Shortest token that an operator may choose, bytes. What is guessed by trying is short.
pub const TOKEN_BYTES_MIN: usize = 16;

/// Longest token that is looked at, bytes.
const TOKEN_BYTES_MAX: usize = 512;

/// Longest name of a token, characters.
const NAME_CHARS_MAX: usize = 100;

/// How a token made here begins, so that people and leak scanners know it.
const PREFIX: &str = "tg_";

/// What a token may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Everything below `/v1`.
    Admin,
    /// Look at what is below `/v1`, but for tokens.
    Read,
    /// Everything below `/edge/v1`.
    Edge,
}

impl Role {
    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Admin => "admin",
            Self::Read => "read",
            Self::Edge => "edge",
        }
    }

    /// The role of a name.
    pub fn named(name: &str) -> Option<Self> {
        [Self::Admin, Self::Read, Self::Edge].into_iter().find(|role| role.name() == name)
    }
}

/// Who asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// The token's name.
    pub name: String,
    /// What it may do.
    pub role: Role,
}

/// The tokens that a control plane was started with, hashed.
#[derive(Clone)]
pub struct ConfiguredTokens {
    admin: [u8; 32],
    edge: Option<[u8; 32]>,
}

impl std::fmt::Debug for ConfiguredTokens {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ConfiguredTokens(hashed)")
    }
}

impl ConfiguredTokens {
    /// Keeps the hashes of the two tokens. Without an edge token only edges with a token made through the API can sync.
    pub fn new(admin: &str, edge: Option<&str>) -> Self {
        Self { admin: hash(admin), edge: edge.map(hash) }
    }

    fn identify(&self, hashed: &[u8; 32]) -> Option<Identity> {
        // Both are compared in any case, so that the time tells nothing.
        let admin = self.admin.ct_eq(hashed);
        let edge = self.edge.map_or(Choice::from(0), |edge| edge.ct_eq(hashed));
        let role = match (bool::from(admin), bool::from(edge)) {
            (true, _) => Role::Admin,
            (_, true) => Role::Edge,
            _ => return None,
        };
        Some(Identity { name: role.name().to_owned(), role })
    }
}

fn hash(token: &str) -> [u8; 32] {
    Sha256::digest(token.as_bytes()).into()
}

/// Random bytes as hex, from the operating system.
pub fn random_hex<const BYTES: usize>() -> Result<String, getrandom::Error> {
    let mut bytes = [0; BYTES];
    getrandom::fill(&mut bytes)?;
    Ok(hex(&bytes))
}

impl ControlPlane {
    /// Who has this token; nothing when nobody has.
    pub async fn identify(&self, token: &str) -> Result<Option<Identity>, ServiceError> {
        if token.len() > TOKEN_BYTES_MAX {
            return Ok(None);
        }
        let hashed = hash(token);
        if let Some(identity) = self.configured.identify(&hashed) {
            return Ok(Some(identity));
        }
        // tg_<id>_<secret>: found by the part that is no secret, compared by the hash of the whole.
        let Some((id, _)) = token.strip_prefix(PREFIX).and_then(|rest| rest.split_once('_')) else {
            return Ok(None);
        };
        let Some(row) = tokens::read(&self.database, id).await? else {
            return Ok(None);
        };
        let same = bool::from(row.hash.as_bytes().ct_eq(hex(&hashed).as_bytes()));
        let role = Role::named(&row.role).filter(|_| same && row.revoked_ms.is_none());
        Ok(role.map(|role| Identity { name: row.name, role }))
    }

    /// Makes a token; answers it together with what is kept of it. It cannot be read again.
    pub async fn create_token(
        &self,
        author: &Author,
        name: &str,
        role: &str,
    ) -> Result<(String, TokenRow), ServiceError> {
        let count = name.chars().count();
        if count == 0 || count > NAME_CHARS_MAX || name.chars().any(char::is_control) {
            let message =
                format!("Name the token with 1 to {NAME_CHARS_MAX} characters, none a control character.");
            return Err(ServiceError::invalid(Invalid::Token, message));
        }
        let role = Role::named(role)
            .ok_or_else(|| ServiceError::invalid(Invalid::Token, "Choose a role: admin, read or edge."))?;
        let random = |made: Result<String, getrandom::Error>| {
            made.map_err(|_| ServiceError::Busy("The operating system gives no random numbers. Try again."))
        };
        let (id, secret) = (random(random_hex::<8>())?, random(random_hex::<32>())?);
        let token = format!("{PREFIX}{id}_{secret}");
        let row = &TokenRow {
            id,
            name: name.to_owned(),
            role: role.name().to_owned(),
            hash: hex(&hash(&token)),
            created_ms: author.now_ms,
            created_by: author.actor.clone(),
            revoked_ms: None,
        };
        let about = &json!({ "name": row.name, "role": row.role });
        self.database
            .transact("create token", |tx| {
                Box::pin(async move {
                    tokens::insert(tx, row).await?;
                    audit::append(tx, author, "token.create", &row.id, None, Some(about)).await
                })
            })
            .await?;
        Ok((token, row.clone()))
    }

    /// At most `limit` tokens after the id `after`.
    pub async fn tokens(&self, after: &str, limit: i64) -> Result<Vec<TokenRow>, ServiceError> {
        Ok(tokens::page(&self.database, after, limit).await?)
    }

    /// Makes a token worthless from now on.
    pub async fn revoke_token(&self, author: &Author, id: &str) -> Result<(), ServiceError> {
        self.database
            .transact("revoke token", |tx| {
                Box::pin(async move {
                    let row =
                        tokens::read_in(tx, id).await?.ok_or(ServiceError::NotFound(NotFound::Token))?;
                    if tokens::revoke(tx, id, author.now_ms).await? {
                        let about = json!({ "name": row.name, "role": row.role });
                        audit::append(tx, author, "token.revoke", id, Some(&about), None).await?;
                    }
                    Ok(())
                })
            })
            .await
    }
}
