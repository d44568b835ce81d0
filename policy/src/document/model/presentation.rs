//! How things are shown to people: words in several languages.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A text for people: one for all, or one for each language by its tag (BCP 47), such as `{en: Pro, fr: Pro}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Localized {
    /// The same in every language.
    Text(String),
    /// By language tag.
    ByLanguage(BTreeMap<String, String>),
}

impl Localized {
    /// The text, or one of the texts, for readers whose language is not known: English where there is one.
    pub fn any(&self) -> &str {
        match self {
            Self::Text(text) => text,
            Self::ByLanguage(texts) => {
                texts.get("en").or_else(|| texts.values().next()).map_or("", String::as_str)
            }
        }
    }

    /// All its texts.
    pub fn all(&self) -> Vec<&str> {
        match self {
            Self::Text(text) => vec![text],
            Self::ByLanguage(texts) => texts.values().map(String::as_str).collect(),
        }
    }
}
