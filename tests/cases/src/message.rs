//! What is sent and what the application answers, as the table says it.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::{Map, Value, json};

/// A text, or a long one in short: `{repeat: x, times: 1000}`, or a list of such parts.
#[derive(Debug, Clone, Deserialize)]
#[serde(untagged)]
pub enum Text {
    /// As it stands.
    Plain(String),
    /// The same again and again.
    Repeated {
        /// What.
        repeat: String,
        /// How often.
        times: usize,
    },
    /// One after the other.
    Parts(Vec<Text>),
}

/// Who calls: a user's name, or claims over those of a good token. A claim that is null is left out; `{in_s: 60}` is so
/// many seconds from now.
#[derive(Debug, Clone, Deserialize)]
#[serde(untagged)]
pub enum Token {
    /// `sub`.
    Of(String),
    /// Claims.
    Claims(Map<String, Value>),
}

/// One value of a header, or several headers of one name. U+0000 to U+00FF stand for bytes.
#[derive(Debug, Clone, Deserialize)]
#[serde(untagged)]
enum Values {
    One(String),
    Many(Vec<String>),
}

/// A request.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Request {
    #[serde(default)]
    method: Option<String>,
    /// The request target.
    #[serde(default = "default_path")]
    pub path: String,
    /// The authority.
    #[serde(default = "default_host")]
    pub host: String,
    /// Without one nothing says who calls, unless `headers` have an `authorization`.
    #[serde(default)]
    pub token: Option<Token>,
    #[serde(default)]
    headers: BTreeMap<String, Values>,
    /// A body with its length, unless `headers` have another `content-length`.
    #[serde(default)]
    body: Option<Text>,
    /// The same, of JSON.
    #[serde(default)]
    json: Option<Value>,
    /// A body without a length.
    #[serde(default)]
    pub chunks: Option<Vec<Text>>,
    /// How often it is sent, one after the other.
    #[serde(default = "default_times")]
    pub times: u32,
    /// When the caller goes away, if it does.
    #[serde(default)]
    pub hang_up: Option<HangUp>,
}

/// When a caller goes away.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HangUp {
    /// It has sent the head, and what the step gives of a body that is longer.
    InBody,
    /// The application has the request and has not answered.
    BeforeAnswer,
    /// The head of the answer is there, and the rest is not.
    InAnswer,
}

/// What the application answers.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Upstream {
    #[serde(default)]
    status: Option<u16>,
    #[serde(default)]
    headers: BTreeMap<String, Values>,
    #[serde(default)]
    body: Option<Text>,
    #[serde(default)]
    json: Option<Value>,
    /// A body without a length, chunk by chunk.
    #[serde(default)]
    pub chunks: Option<Vec<Text>>,
    /// What follows the body.
    #[serde(default)]
    pub trailers: BTreeMap<String, String>,
    /// The connection is cut.
    #[serde(default)]
    pub reset: Option<Reset>,
}

/// When the application cuts the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reset {
    /// Instead of an answer.
    Before,
    /// After the head and what the step gives of the body.
    After,
}

impl Text {
    /// Its bytes.
    pub fn bytes(&self) -> Vec<u8> {
        match self {
            Self::Plain(text) => text.clone().into_bytes(),
            Self::Repeated { repeat, times } => repeat.repeat(*times).into_bytes(),
            Self::Parts(parts) => parts.iter().flat_map(Self::bytes).collect(),
        }
    }
}

impl Token {
    /// The claims of a token that is good but for what is said here.
    pub fn claims(&self, issuer: &str, audience: &str, now_s: i64) -> Value {
        let mut claims =
            json!({"iss": issuer, "aud": audience, "sub": "nobody", "iat": now_s - 10, "exp": now_s + 3_600});
        match self {
            Self::Of(user) => claims["sub"] = json!(user),
            Self::Claims(own) => {
                for (name, value) in own {
                    let moment = value.get("in_s").and_then(Value::as_i64).map(|s| json!(now_s + s));
                    claims[name] = moment.unwrap_or_else(|| value.clone());
                }
            }
        }
        if let Some(claims) = claims.as_object_mut() {
            claims.retain(|_, value| !value.is_null());
        }
        claims
    }
}

impl Request {
    /// `GET`, or `POST` where there is a body.
    pub fn method(&self) -> &str {
        let usual = if self.body().is_some() || self.chunks.is_some() { "POST" } else { "GET" };
        self.method.as_deref().unwrap_or(usual)
    }

    /// Headers but for those of the message's form: names in lower case, and bytes.
    pub fn headers(&self) -> Vec<(String, Vec<u8>)> {
        with_type(flat(&self.headers), self.json.is_some())
    }

    /// The body whose length is told.
    pub fn body(&self) -> Option<Vec<u8>> {
        body(self.body.as_ref(), self.json.as_ref())
    }
}

impl Default for Request {
    fn default() -> Self {
        Self {
            method: None,
            path: default_path(),
            host: default_host(),
            token: None,
            headers: BTreeMap::new(),
            body: None,
            json: None,
            chunks: None,
            times: default_times(),
            hang_up: None,
        }
    }
}

impl Upstream {
    /// 200 where nothing is said.
    pub fn status(&self) -> u16 {
        self.status.unwrap_or(200)
    }

    /// Headers but for those of the message's form.
    pub fn headers(&self) -> Vec<(String, Vec<u8>)> {
        with_type(flat(&self.headers), self.json.is_some())
    }

    /// The body whose length is told.
    pub fn body(&self) -> Option<Vec<u8>> {
        body(self.body.as_ref(), self.json.as_ref())
    }
}

fn flat(headers: &BTreeMap<String, Values>) -> Vec<(String, Vec<u8>)> {
    let latin = |text: &String| {
        let byte = |c: char| u8::try_from(c).unwrap_or_else(|_| panic!("{c:?} in a header is no byte"));
        text.chars().map(byte).collect::<Vec<u8>>()
    };
    let each = headers.iter().flat_map(|(name, values)| match values {
        Values::One(value) => vec![(name.clone(), latin(value))],
        Values::Many(values) => values.iter().map(|value| (name.clone(), latin(value))).collect(),
    });
    each.collect()
}

fn with_type(mut headers: Vec<(String, Vec<u8>)>, json: bool) -> Vec<(String, Vec<u8>)> {
    if json && !headers.iter().any(|(name, _)| name == "content-type") {
        headers.push(("content-type".to_owned(), b"application/json".to_vec()));
    }
    headers
}

fn body(text: Option<&Text>, json: Option<&Value>) -> Option<Vec<u8>> {
    text.map(Text::bytes).or_else(|| json.map(|json| json.to_string().into_bytes()))
}

fn default_path() -> String {
    "/a".to_owned()
}

fn default_host() -> String {
    "api.example".to_owned()
}

fn default_times() -> u32 {
    1
}
