//! The filter's plugin configuration: where the control plane is, or a whole policy for an edge that stands alone.

use serde::Deserialize;
use tollgate_policy::document::PolicyDocument;

/// What the plugin is configured with. Exactly one of the two is given.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Plugin {
    control_plane: Option<ControlPlane>,
    policy: Option<PolicyDocument>,
}

/// Where the control plane is.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ControlPlane {
    /// The proxy's name of its cluster.
    pub cluster: String,
    /// The edge token.
    pub token: String,
}

/// How this edge works.
#[derive(Debug, Clone)]
pub enum Config {
    /// With a control plane.
    Connected(ControlPlane),
    /// Alone: the policy is inline, and limits are this edge's own.
    Alone(Box<PolicyDocument>),
}

impl Config {
    /// Reads the plugin configuration. The error is a sentence for the log.
    pub fn parse(bytes: &[u8]) -> Result<Self, String> {
        let plugin: Plugin = serde_json::from_slice(bytes).map_err(|error| {
            let error = without_values(&error);
            format!("the plugin configuration is not what Tollgate reads: {error}. Give {WANTED}")
        })?;
        match (plugin.control_plane, plugin.policy) {
            (Some(control_plane), None) => Ok(Self::Connected(control_plane)),
            (None, Some(policy)) => Ok(Self::Alone(Box::new(policy))),
            _ => Err(format!("the plugin configuration needs exactly one of its two forms. Give {WANTED}")),
        }
    }
}

/// An error for the log without the text that it is about: a token may stand where another thing was expected.
pub fn without_values(error: &serde_json::Error) -> String {
    let text = error.to_string();
    match (text.find('"'), text.rfind('"')) {
        (Some(start), Some(end)) if start < end => [&text[..=start], "...", &text[end..]].concat(),
        _ => text,
    }
}

const WANTED: &str = r#"{"control_plane": {"cluster": "...", "token": "..."}} or {"policy": {...}}"#;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exactly_one_form_is_accepted() {
        assert!(matches!(
            Config::parse(br#"{"control_plane": {"cluster": "tollgate", "token": "t"}}"#),
            Ok(Config::Connected(ControlPlane { cluster, .. })) if cluster == "tollgate"
        ));
        assert!(matches!(
            Config::parse(br#"{"policy": {"version": 1, "meters": {}, "tiers": {}}}"#),
            Ok(Config::Alone(_))
        ));
        for bad in ["", "{}", "[]", r#"{"control_plane": {"cluster": "c"}}"#, r#"{"extra": 1}"#] {
            let error = Config::parse(bad.as_bytes()).unwrap_err();
            assert!(error.contains("control_plane"), "{error}");
        }
        let both = r#"{"control_plane": {"cluster": "c", "token": "t"}, "policy": {"version": 1, "meters": {}, "tiers": {}}}"#;
        assert!(Config::parse(both.as_bytes()).unwrap_err().contains("exactly one"));
    }
}
