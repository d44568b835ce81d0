//! The published JSON Schema of the policy document, derived from the model.

use serde_json::Value;

use super::PolicyDocument;

/// The JSON Schema (draft 2020-12) of a policy document. It says which members exist and of which types they are;
/// whether a document makes sense is `validate`'s to say.
pub fn json_schema() -> Value {
    schemars::schema_for!(PolicyDocument).to_value()
}

#[cfg(test)]
mod tests;
