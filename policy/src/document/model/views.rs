//! Views: what the control plane answers in the words of another API.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// An answer of the control plane at `/v1/views/{name}`, in words of one's own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct View {
    /// Whether it needs no token, and knows no user.
    #[serde(default, skip_serializing_if = "super::is_default")]
    pub public: bool,
    /// Whether the request is JSON-RPC: `body` is the `result` of each call.
    #[serde(default, skip_serializing_if = "super::is_default")]
    pub jsonrpc: bool,
    /// A template in the language of Jinja, which makes JSON: a value in `{{ }}` is written as JSON.
    pub body: String,
}
