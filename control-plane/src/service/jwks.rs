//! Issuers' keys that are published at an address: fetched, checked and followed, so that edges get keys like any other
//! configuration. Keys that cannot be fetched, or make no sense, change nothing: the last good ones stay.

use std::time::Duration;

use reqwest::{Client, StatusCode, header};
use serde_json::{Value as Json, json};
use tokio::sync::watch;
use tollgate_policy::document::{Issuer, KeySource};
use tollgate_policy::jwt::Keyring;

use super::{ControlPlane, NotFound, ServiceError};
use crate::store::audit::Author;
use crate::store::{audit, configuration, issuer_keys};

/// How long keys are good for when the issuer does not say, and the bounds on what it says, s.
const MAX_AGE_S: i64 = 300;
const MAX_AGE_S_MIN: i64 = 60;
const MAX_AGE_S_MAX: i64 = 24 * 3_600;

/// When a failed fetch is tried again, ms.
const RETRY_MS: i64 = 30_000;

/// How often edges may ask for a fetch because of an unknown key, for each issuer, ms.
const ASK_INTERVAL_MS: i64 = 10_000;

/// Largest key set that is read, bytes.
const JWKS_BYTES_MAX: usize = 1 << 20;

/// How long one fetch may take.
const FETCH_TIMEOUT: Duration = Duration::from_secs(10);

/// How often it is looked whether a fetch is due.
const INTERVAL: Duration = Duration::from_millis(500);

/// Why keys were not fetched.
#[derive(Debug, thiserror::Error)]
enum FetchError {
    #[error("the issuer does not answer")]
    Unreachable(#[source] reqwest::Error),
    #[error("the issuer answered {0}")]
    Status(StatusCode),
    #[error("the key set has more than {JWKS_BYTES_MAX} bytes")]
    TooLarge,
    #[error("the key set is not JSON")]
    NotJson(#[source] serde_json::Error),
    #[error("the key set has a fault at {path}: {message}")]
    Fault { path: String, message: String },
}

/// Fetches key sets.
#[derive(Debug, Clone)]
pub struct Fetcher {
    client: Client,
}

impl Fetcher {
    /// A fetcher; fails when the system's certificates cannot be read.
    pub fn new() -> Result<Self, reqwest::Error> {
        let client = crate::http_client::http_client(FETCH_TIMEOUT)?;
        Ok(Self { client })
    }

    /// The key set at `url`, and for how long it is good, s.
    async fn fetch(&self, url: &str) -> Result<(Json, i64), FetchError> {
        let mut response = self
            .client
            .get(url)
            .header(header::ACCEPT, "application/jwk-set+json, application/json")
            .send()
            .await
            .map_err(FetchError::Unreachable)?;
        if response.status() != StatusCode::OK {
            return Err(FetchError::Status(response.status()));
        }
        let max_age_s = max_age_s(response.headers().get(header::CACHE_CONTROL));
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(FetchError::Unreachable)? {
            if body.len() + chunk.len() > JWKS_BYTES_MAX {
                return Err(FetchError::TooLarge);
            }
            body.extend_from_slice(&chunk);
        }
        Ok((serde_json::from_slice(&body).map_err(FetchError::NotJson)?, max_age_s))
    }
}

fn max_age_s(header: Option<&header::HeaderValue>) -> i64 {
    let directives = header.and_then(|value| value.to_str().ok()).unwrap_or_default();
    let directives = directives.split(',').map(|directive| directive.trim().to_ascii_lowercase());
    let mut said = None;
    for directive in directives {
        match directive.as_str() {
            "no-store" | "no-cache" => said = Some(0),
            other => {
                let age = other.strip_prefix("max-age=").and_then(|age| age.trim_matches('"').parse().ok());
                said = said.or(age);
            }
        }
    }
    said.unwrap_or(MAX_AGE_S).clamp(MAX_AGE_S_MIN, MAX_AGE_S_MAX)
}

impl ControlPlane {
    /// An edge met an unknown key of this issuer: its keys are fetched now, unless they were a moment ago. Answers
    /// whether they will be.
    pub async fn ask_for_keys(&self, issuer: &str) -> Result<bool, ServiceError> {
        let in_force = self.in_force();
        let known = in_force.policy.as_ref().is_some_and(|policy| {
            policy.document.issuers.iter().any(|known| known.issuer == issuer && known.keys.url.is_some())
        });
        if !known {
            return Err(ServiceError::NotFound(NotFound::Issuer));
        }
        let before_ms = self.clock.now_ms().saturating_sub(ASK_INTERVAL_MS);
        let asked = self
            .database
            .transact("ask for keys", |tx| {
                Box::pin(async move { issuer_keys::ask(tx, issuer, before_ms).await })
            })
            .await?;
        Ok(asked)
    }

    /// Fetches what is due, once.
    pub async fn fetch_due_keys(&self, fetcher: &Fetcher) -> Result<(), ServiceError> {
        let in_force = self.in_force();
        let Some(policy) = &in_force.policy else {
            return Ok(());
        };
        if policy.document.issuers.iter().all(|issuer| issuer.keys.url.is_none()) {
            return Ok(());
        }
        let rows = issuer_keys::all(&self.database).await?;
        let now_ms = self.clock.now_ms();
        for issuer in &policy.document.issuers {
            let Some(url) = &issuer.keys.url else { continue };
            let Some(row) = rows.iter().find(|row| row.issuer == issuer.issuer && row.url == *url) else {
                continue;
            };
            if let Some(fetched_ms) = row.fetched_ms {
                let age = self.metrics.jwks_age.with_label_values(&[issuer.issuer.as_str()]);
                age.set(now_ms.saturating_sub(fetched_ms) / 1_000);
            }
            if row.due_ms <= now_ms {
                self.follow(fetcher, issuer, url, now_ms).await?;
            }
        }
        Ok(())
    }

    /// Fetches the keys of one issuer, if no other replica does.
    async fn follow(
        &self,
        fetcher: &Fetcher,
        issuer: &Issuer,
        url: &str,
        now_ms: i64,
    ) -> Result<(), ServiceError> {
        let name = issuer.issuer.as_str();
        let retry_ms = now_ms.saturating_add(RETRY_MS);
        let claim = self.database.transact("claim keys", |tx| {
            Box::pin(async move { issuer_keys::claim(tx, name, url, now_ms, retry_ms).await })
        });
        if !claim.await? {
            return Ok(());
        }
        let (jwks, max_age_s) = match fetch_checked(fetcher, issuer, url).await {
            Ok(fetched) => fetched,
            Err(error) => {
                self.metrics.jwks_fetches.with_label_values(&["failed"]).inc();
                tracing::warn!(
                    issuer = name,
                    error = &error as &dyn std::error::Error,
                    "cannot fetch keys; the last good ones stay"
                );
                return Ok(());
            }
        };
        self.metrics.jwks_fetches.with_label_values(&["fetched"]).inc();
        let due_ms = now_ms.saturating_add(max_age_s.saturating_mul(1_000));
        let author = &Author { actor: "control-plane".to_owned(), remote: "localhost".to_owned(), now_ms };
        let jwks = &jwks;
        let changed = self
            .database
            .transact("store keys", |tx| {
                Box::pin(async move {
                    let Some(row) = issuer_keys::lock(tx, name, url).await? else {
                        return Ok::<_, ServiceError>(false);
                    };
                    issuer_keys::store(tx, name, url, jwks, now_ms, due_ms).await?;
                    if row.jwks.as_ref() == Some(jwks) {
                        return Ok(false);
                    }
                    let (before, after) = (row.jwks.as_ref().map(key_ids), key_ids(jwks));
                    configuration::raise(tx).await?;
                    audit::append(tx, author, "keys.rotate", name, before.as_ref(), Some(&after)).await?;
                    Ok(true)
                })
            })
            .await?;
        if changed {
            tracing::info!(issuer = name, "the issuer's keys changed");
            self.configuration_rose().await?;
        }
        Ok(())
    }

    /// Follows all issuers until `stopped`.
    pub async fn run_fetcher(&self, fetcher: Fetcher, mut stopped: watch::Receiver<bool>) {
        loop {
            tokio::select! {
                () = tokio::time::sleep(INTERVAL) => {}
                _ = stopped.wait_for(|stopped| *stopped) => return,
            }
            if let Err(error) = self.fetch_due_keys(&fetcher).await {
                tracing::debug!(error = &error as &dyn std::error::Error, "cannot follow keys; trying on");
            }
        }
    }
}

async fn fetch_checked(fetcher: &Fetcher, issuer: &Issuer, url: &str) -> Result<(Json, i64), FetchError> {
    let (jwks, max_age_s) = fetcher.fetch(url).await?;
    let keys = KeySource { jwks: Some(jwks.clone()), ..KeySource::default() };
    let issuer = Issuer { keys, ..issuer.clone() };
    match Keyring::from_issuers(std::slice::from_ref(&issuer)) {
        Ok(_) => Ok((jwks, max_age_s)),
        Err(faults) => {
            let (path, message) = faults.into_iter().next().unwrap_or_default();
            Err(FetchError::Fault { path, message })
        }
    }
}

/// What the audit log keeps of a key set: the names of its keys.
fn key_ids(jwks: &Json) -> Json {
    let keys = jwks.get("keys").and_then(Json::as_array).map(Vec::as_slice).unwrap_or_default();
    let ids: Vec<&Json> = keys.iter().filter_map(|key| key.get("kid")).collect();
    json!({ "keys": ids })
}
