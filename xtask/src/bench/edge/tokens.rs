//! RS256 tokens for the measurement, signed once and kept: signing 10,000 takes longer than a round.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::{Value, json};

use crate::progress::note;
use crate::workspace;

/// The quickstart's issuer and key: any would do, and this one is in the repository.
pub const ISSUER: &str = "https://quickstart.tollgate.example";
pub const AUDIENCE: &str = "quickstart";
const KEY_ID: &str = "quickstart";

const LIFE: Duration = Duration::from_secs(30 * 24 * 3600);

/// `count` tokens, one for each of as many subjects.
pub fn provide(count: usize) -> Result<Vec<String>> {
    let path = workspace::target().join(format!("bench/tokens-{count}.txt"));
    if is_fresh(&path) {
        let text =
            std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        return Ok(text.lines().map(str::to_owned).collect());
    }
    note(&format!("signing {count} tokens (kept in {})", path.display()));
    let key_path = quickstart().join("issuer.key.pem");
    let pem = std::fs::read(&key_path).with_context(|| format!("cannot read {}", key_path.display()))?;
    let key = EncodingKey::from_rsa_pem(&pem)?;
    let header = Header { kid: Some(KEY_ID.to_owned()), ..Header::new(Algorithm::RS256) };
    let exp = (now() + LIFE).as_secs();
    let sign = |index: usize| {
        // About as many claims as an identity provider puts into an access token.
        let claims = json!({
            "iss": ISSUER, "aud": AUDIENCE, "sub": format!("bench-{index}"), "exp": exp, "iat": now().as_secs(),
            "scope": "openid profile email", "azp": "bench-client", "jti": format!("{index:032x}"),
        });
        jsonwebtoken::encode(&header, &claims, &key)
    };
    let tokens = (0..count).map(sign).collect::<Result<Vec<String>, _>>()?;
    if let Some(dir) = path.parent() {
        std::fs::create_dir_all(dir)?;
    }
    std::fs::write(&path, tokens.join("\n"))?;
    Ok(tokens)
}

/// The public key.
pub fn jwks() -> Result<Value> {
    let path = quickstart().join("issuer.jwks.json");
    let text = std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    Ok(serde_json::from_str(&text)?)
}

fn is_fresh(path: &Path) -> bool {
    let age = path.metadata().and_then(|file| file.modified()).ok().and_then(|at| at.elapsed().ok());
    age.is_some_and(|age| age < LIFE / 2)
}

fn quickstart() -> PathBuf {
    workspace::root().join("examples/quickstart")
}

#[allow(clippy::disallowed_methods, reason = "a token's expiry is on the real clock")]
fn now() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}
