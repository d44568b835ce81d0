//! A stand-in for the providers' models: the same question always has the same answer, and takes as many tokens.

use serde::Deserialize;
use serde_json::{Value, json};

/// What there is, by provider.
const MODELS: [(&str, &[&str]); 3] = [
    ("anthropic", &["claude-3-sonnet", "claude-3-haiku", "claude-3-opus"]),
    ("openai", &["gpt-4", "gpt-4-turbo", "gpt-3.5-turbo"]),
    ("google", &["gemini-pro"]),
];

/// Longest answer where the caller does not say how long it may be, tokens.
const MAX_TOKENS_DEFAULT: u64 = 100;
/// How much is answered to each word, tokens.
const TOKENS_A_WORD: u64 = 16;

/// What is asked of which model.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Options {
    provider: String,
    model: String,
    max_tokens: Option<u64>,
    /// How long the model takes, ms.
    #[serde(default)]
    pub delay_ms: u64,
}

impl Options {
    /// How long an answer may be, tokens.
    pub fn max_tokens(&self) -> u64 {
        self.max_tokens.unwrap_or(MAX_TOKENS_DEFAULT)
    }
}

/// What a model answered.
#[derive(Default)]
pub struct Answer {
    pub content: String,
    pub input_tokens: u64,
    pub output_tokens: u64,
}

/// The models, as `listModels` answers them.
pub fn all() -> Value {
    let names = MODELS
        .iter()
        .flat_map(|(provider, models)| models.iter().map(move |model| format!("{provider}/{model}")));
    json!({"models": names.collect::<Vec<_>>()})
}

/// Asks a model. A word is a token. The answer has as many tokens as the question's first number says ("in 300 tokens"), or
/// 16 for each of its words, and never more than `max_tokens`.
pub fn ask(system_prompt: &str, content: &str, options: &Options, max_tokens: u64) -> Result<Answer, String> {
    let Options { provider, model, .. } = options;
    let models = MODELS.iter().find(|(name, _)| name == provider).map(|(_, models)| *models);
    if !models.is_some_and(|models| models.contains(&model.as_str())) {
        return Err(format!("there is no model {model} of {provider}"));
    }
    let words = |text: &str| text.split_whitespace().map(|_| 1_u64).sum::<u64>();
    let wanted = content.split_whitespace().find_map(|word| word.parse().ok());
    let output_tokens =
        wanted.unwrap_or_else(|| words(content).saturating_mul(TOKENS_A_WORD)).min(max_tokens);
    Ok(Answer {
        content: format!("{model} on \"{content}\""),
        input_tokens: words(system_prompt) + words(content),
        output_tokens,
    })
}

#[cfg(test)]
mod tests {
    use super::{Options, ask};

    fn check(content: &str, max_tokens: Option<u64>, expected: (u64, u64)) {
        let options = Options { provider: "openai".into(), model: "gpt-4".into(), max_tokens, delay_ms: 0 };
        let answer = ask("You are a tutor", content, &options, options.max_tokens()).unwrap();
        assert_eq!((answer.input_tokens, answer.output_tokens), expected, "{content}");
    }

    #[test]
    fn a_question_says_how_many_tokens_it_takes() {
        check("Explain quantum computing", None, (7, 48));
        check("Explain quantum computing in 256 tokens", Some(1000), (10, 256));
        check("Explain quantum computing in 256 tokens", Some(20), (10, 20));
        check("Explain quantum computing in 256 tokens", None, (10, 100));
    }

    #[test]
    fn a_model_that_is_not_there_is_a_fault() {
        let options = Options {
            provider: "openai".into(),
            model: "claude-3-opus".into(),
            max_tokens: None,
            delay_ms: 0,
        };
        assert!(ask("", "Hello", &options, 1).is_err());
    }
}
