//! `tollgate token`: signs tokens as an issuer of one's own would, for tests and demonstrations. It asks no one; whether
//! an edge accepts them is the policy's to say.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use jiff::SignedDuration;
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use serde_json::{Map, Value as Json};
use tollgate_control_plane::clock::SystemClock;

use super::CliError;
use super::output::print;

/// Most tokens that are signed at once.
const COUNT_MAX: u64 = 1_000_000;

/// Sign tokens, as an issuer of your own would: for tests and demonstrations.
#[derive(Debug, Args)]
pub struct TokenArguments {
    /// The private key (PEM), or the secret for HS256.
    #[arg(long, value_name = "FILE")]
    key: PathBuf,
    /// The `iss` claim.
    #[arg(long)]
    issuer: String,
    /// The `aud` claim.
    #[arg(long)]
    audience: Option<String>,
    /// The `sub` claim.
    #[arg(long)]
    subject: String,
    /// Another claim; the value is JSON, or else text. May be repeated.
    #[arg(long = "claim", value_name = "NAME=VALUE", value_parser = parse_claim)]
    claims: Vec<(String, Json)>,
    /// How long it is valid, such as `1h` or `90s`.
    #[arg(long, default_value = "1h", value_name = "DURATION")]
    ttl: SignedDuration,
    /// The `kid` of the header.
    #[arg(long)]
    kid: Option<String>,
    /// The algorithm.
    #[arg(long, value_enum, default_value_t = SigningAlgorithm::Rs256)]
    alg: SigningAlgorithm,
    /// Sign so many, one a line, for the subjects SUBJECT-0, SUBJECT-1 and so on.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=COUNT_MAX))]
    count: Option<u64>,
}

/// An algorithm of RFC 7518 or RFC 8037.
#[derive(Debug, Clone, Copy, ValueEnum)]
#[value(rename_all = "UPPER")]
enum SigningAlgorithm {
    Rs256,
    Rs384,
    Rs512,
    Ps256,
    Es256,
    Es384,
    #[value(name = "EdDSA")]
    EdDsa,
    Hs256,
}

fn parse_claim(text: &str) -> Result<(String, Json), String> {
    let (name, value) = text.split_once('=').ok_or("write it as NAME=VALUE")?;
    Ok((name.to_owned(), serde_json::from_str(value).unwrap_or_else(|_| value.into())))
}

/// Signs and prints.
pub fn run(arguments: &TokenArguments) -> Result<(), CliError> {
    let pem = std::fs::read(&arguments.key)
        .map_err(|source| CliError::File { path: arguments.key.clone(), source })?;
    let (algorithm, key) = key(arguments.alg, &pem).map_err(|error| {
        CliError::Usage(format!("{} is no private key for this algorithm: {error}", arguments.key.display()))
    })?;
    let header = Header { kid: arguments.kid.clone(), ..Header::new(algorithm) };
    let now_s = SystemClock::shared().now_ms().div_euclid(1_000);
    let sign = |subject: String| {
        encode(&header, &claims(arguments, subject, now_s), &key)
            .map_err(|error| CliError::Usage(format!("cannot sign with this key: {error}")))
    };
    match arguments.count {
        None => print(&sign(arguments.subject.clone())?),
        Some(count) => {
            for number in 0..count {
                print(&sign(format!("{}-{number}", arguments.subject))?);
            }
        }
    }
    Ok(())
}

fn claims(arguments: &TokenArguments, subject: String, now_s: i64) -> Map<String, Json> {
    let mut claims = Map::new();
    claims.insert("iss".to_owned(), arguments.issuer.clone().into());
    claims.insert("sub".to_owned(), subject.into());
    if let Some(audience) = &arguments.audience {
        claims.insert("aud".to_owned(), audience.clone().into());
    }
    claims.insert("iat".to_owned(), now_s.into());
    claims.insert("exp".to_owned(), now_s.saturating_add(arguments.ttl.as_secs()).into());
    // Last, so that a test can set any of them to what it likes.
    claims.extend(arguments.claims.iter().cloned());
    claims
}

fn key(
    algorithm: SigningAlgorithm,
    text: &[u8],
) -> Result<(Algorithm, EncodingKey), jsonwebtoken::errors::Error> {
    Ok(match algorithm {
        SigningAlgorithm::Rs256 => (Algorithm::RS256, EncodingKey::from_rsa_pem(text)?),
        SigningAlgorithm::Rs384 => (Algorithm::RS384, EncodingKey::from_rsa_pem(text)?),
        SigningAlgorithm::Rs512 => (Algorithm::RS512, EncodingKey::from_rsa_pem(text)?),
        SigningAlgorithm::Ps256 => (Algorithm::PS256, EncodingKey::from_rsa_pem(text)?),
        SigningAlgorithm::Es256 => (Algorithm::ES256, EncodingKey::from_ec_pem(text)?),
        SigningAlgorithm::Es384 => (Algorithm::ES384, EncodingKey::from_ec_pem(text)?),
        SigningAlgorithm::EdDsa => (Algorithm::EdDSA, EncodingKey::from_ed_pem(text)?),
        SigningAlgorithm::Hs256 => (Algorithm::HS256, EncodingKey::from_secret(text.trim_ascii_end())),
    })
}
