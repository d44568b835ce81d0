//! Secrets of payment providers. They are in no log, no answer and no error: what shows one shows three dots.

use serde::Deserialize;
use serde::de::{Deserializer, Error};

/// A secret: as it stands in a file, or the name of the environment variable that has it.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Source);

#[derive(Clone, PartialEq, Eq)]
enum Source {
    Literal(String),
    Environment(String),
}

/// Secrets of which each may have signed, so that a secret can be changed without losing a webhook.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Secrets(Vec<Secret>);

impl Secret {
    /// A secret.
    pub fn literal(secret: impl Into<String>) -> Self {
        Self(Source::Literal(secret.into()))
    }

    /// Puts the value of the environment variable in its name's place; answers the name of one that is not set.
    pub(super) fn resolve(&mut self, environment: &dyn Fn(&str) -> Option<String>) -> Result<(), String> {
        if let Source::Environment(name) = &self.0 {
            let value = environment(name).filter(|value| !value.is_empty()).ok_or_else(|| name.clone())?;
            self.0 = Source::Literal(value);
        }
        Ok(())
    }

    /// The secret itself.
    pub(super) fn expose(&self) -> &str {
        match &self.0 {
            Source::Literal(secret) => secret,
            Source::Environment(_) => "",
        }
    }
}

impl Secrets {
    /// These secrets.
    pub fn new(secrets: Vec<Secret>) -> Self {
        Self(secrets)
    }

    pub(super) fn each(&self) -> impl Iterator<Item = &Secret> {
        self.0.iter()
    }

    pub(super) fn each_mut(&mut self) -> impl Iterator<Item = &mut Secret> {
        self.0.iter_mut()
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// As it stands in a file. Untagged, because serde's other errors say what they met, and that would be the secret.
#[derive(Deserialize)]
#[serde(untagged)]
enum Written {
    Literal(String),
    Environment { env: String },
}

#[derive(Deserialize)]
#[serde(untagged)]
enum OneOrMore {
    One(Written),
    More(Vec<Written>),
}

impl From<Written> for Secret {
    fn from(written: Written) -> Self {
        Self(match written {
            Written::Literal(secret) => Source::Literal(secret),
            Written::Environment { env } => Source::Environment(env),
        })
    }
}

impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let written = Written::deserialize(from);
        written.map(Self::from).map_err(|_| D::Error::custom("write a secret in quotes, or {env: NAME}"))
    }
}

impl<'de> Deserialize<'de> for Secrets {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let written = OneOrMore::deserialize(from).map_err(|_| {
            D::Error::custom("write a secret in quotes, or {env: NAME}, or a list of such secrets")
        })?;
        Ok(Self(match written {
            OneOrMore::One(secret) => vec![secret.into()],
            OneOrMore::More(secrets) => secrets.into_iter().map(Secret::from).collect(),
        }))
    }
}
