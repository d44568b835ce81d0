//! How denials are worded.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// How denials are worded.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Denials {
    /// Base of the `type` member of problem+json bodies: `<base><code>`. Default `about:blank#`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub type_base: Option<String>,
    /// Where a caller can buy more; put into denials that an upgrade would lift.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub upgrade_url: Option<String>,
    /// Whether responses have `X-RateLimit-Limit`, `-Remaining` and `-Reset` too.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub legacy_headers: bool,
    /// Percentages of a limit's maximum: once its use has passed one, responses have `x-tollgate-warning`. Default: none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warn_at: Vec<u8>,
    /// How denials are answered, by code. Default: problem+json (RFC 9457).
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub templates: BTreeMap<String, DenialTemplate>,
    /// How denials of JSON-RPC calls are answered.
    #[serde(default)]
    pub jsonrpc: JsonRpcDenials,
}

/// How one denial is answered. What is left out is as without a template.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DenialTemplate {
    /// The HTTP status.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// The `content-type`. Default `application/json`, or `text/plain` where the body is a text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content_type: Option<String>,
    /// The body. Its texts may hold placeholders such as `{maximum}`; `{{` is a brace.
    #[serde(default)]
    pub body: Value,
}

/// How denials of JSON-RPC calls are answered: as errors with the call's `id`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct JsonRpcDenials {
    /// The HTTP status.
    #[serde(default = "default_jsonrpc_status")]
    pub status: u16,
    /// `error.code`, by the denial's code; `default` for all others, which is -32000 where it is not given.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub codes: BTreeMap<String, i64>,
    /// `error.message`, by the denial's code. May hold placeholders. Default: the denial's title.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub messages: BTreeMap<String, String>,
    /// `error.data`, by the denial's code. Its texts may hold placeholders.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub data: BTreeMap<String, Value>,
}

fn default_jsonrpc_status() -> u16 {
    200
}

impl Default for JsonRpcDenials {
    fn default() -> Self {
        Self {
            status: default_jsonrpc_status(),
            codes: BTreeMap::new(),
            messages: BTreeMap::new(),
            data: BTreeMap::new(),
        }
    }
}
