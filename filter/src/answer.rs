//! Every answer that the filter gives itself: the one place that knows statuses, codes and bodies (RFC 9457).
//!
//! A denial is a value. It says what happened and what to do, never what only an operator may know.

use serde_json::{Map, Value, json};
use tollgate_policy::compile::{CompiledLimit, CompiledPolicy};
use tollgate_policy::jwt::TokenFault;
use tollgate_policy::lease::Refusal;
use tollgate_policy::limit::LimitKind;
use tollgate_policy::path::AmbiguousPath;

use crate::host::Host;

/// A refused request.
#[derive(Debug, Clone, PartialEq)]
pub struct Denial {
    status: u16,
    /// Stable, in kebab case; also the reason in metrics.
    pub code: &'static str,
    /// The subject's tier, where it is known.
    pub tier: String,
    title: &'static str,
    detail: String,
    retry_after_s: Option<u64>,
    ratelimit: String,
    ratelimit_policy: String,
    upgrade_helps: bool,
    members: Map<String, Value>,
}

impl Denial {
    fn new(status: u16, code: &'static str, title: &'static str, detail: impl Into<String>) -> Self {
        Self {
            status,
            code,
            tier: String::new(),
            title,
            detail: detail.into(),
            retry_after_s: None,
            ratelimit: String::new(),
            ratelimit_policy: String::new(),
            upgrade_helps: false,
            members: Map::new(),
        }
    }

    /// No `Authorization` header.
    pub fn no_token() -> Self {
        Self::new(
            401,
            "token-missing",
            "A token is needed",
            "Send your token as `Authorization: Bearer <token>`.",
        )
    }

    /// More than one `Authorization` header, or one of another scheme.
    pub fn bad_authorization() -> Self {
        Self::new(
            401,
            "token-malformed",
            "The token cannot be used",
            "Send exactly one Authorization header, as `Authorization: Bearer <token>`.",
        )
    }

    /// A token that was not accepted.
    pub fn bad_token(fault: TokenFault) -> Self {
        Self::new(401, fault.code(), "The token cannot be used", fault.to_string())
    }

    /// A path that could be read in two ways.
    pub fn ambiguous_path(fault: AmbiguousPath) -> Self {
        Self::new(400, "path-ambiguous", "The path is ambiguous", format!("Send a plain path: {fault}."))
    }

    /// No tier at all.
    pub fn no_subscription() -> Self {
        let mut denial = Self::new(
            402,
            "subscription-required",
            "A subscription is needed",
            "There is no subscription in force for this account.",
        );
        denial.upgrade_helps = true;
        denial
    }

    /// A feature that the tier lacks.
    pub fn no_feature(feature: &str, tier: &str) -> Self {
        let mut denial = Self::new(
            403,
            "feature-required",
            "The plan does not include this",
            format!("The plan {tier} does not have the feature {feature}."),
        );
        tier.clone_into(&mut denial.tier);
        denial.members.insert("feature".into(), json!(feature));
        denial.members.insert("tier".into(), json!(tier));
        denial.upgrade_helps = true;
        denial
    }

    /// A limit that has nothing left.
    pub fn exhausted(
        limit: Option<&CompiledLimit>,
        tier: &str,
        refusal: Refusal,
        ratelimit: String,
        ratelimit_policy: String,
    ) -> Self {
        let name = limit.map_or("", |limit| &limit.name);
        let (units, per) = limit.map_or((0, String::new()), |limit| (limit.units, limit.per()));
        let rate = limit.is_some_and(|limit| matches!(limit.kind, LimitKind::Rate { .. }));
        let (code, title) = if rate {
            ("rate-exceeded", "Too many requests in a short time")
        } else {
            ("quota-exceeded", "The quota is used up")
        };
        let retry_after_s = refusal.retry_after_ms.div_ceil(1_000);
        let advice = if refusal.never {
            "This request costs more than the whole limit.".to_owned()
        } else {
            format!("Try again in {retry_after_s} s.")
        };
        let mut denial = Self::new(
            429,
            code,
            title,
            format!("The plan {tier} allows {units} per {per} ({name}), and they are used. {advice}"),
        );
        tier.clone_into(&mut denial.tier);
        denial.retry_after_s = Some(retry_after_s);
        denial.ratelimit = ratelimit;
        denial.ratelimit_policy = ratelimit_policy;
        denial.upgrade_helps = true;
        for (member, value) in [
            ("limit", json!(name)),
            ("maximum", json!(units)),
            ("per", json!(per)),
            ("tier", json!(tier)),
            ("retry_after_s", json!(retry_after_s)),
        ] {
            denial.members.insert(member.into(), value);
        }
        denial
    }

    /// The control plane must be asked, and does not answer.
    pub fn control_plane_lost() -> Self {
        let mut denial = Self::new(
            503,
            "control-plane-unavailable",
            "The request cannot be decided at the moment",
            "The limits of this account cannot be looked up right now. Try again in a moment.",
        );
        denial.retry_after_s = Some(1);
        denial
    }

    /// This edge has no policy yet.
    pub fn no_policy() -> Self {
        let mut denial = Self::control_plane_lost();
        denial.code = "policy-unavailable";
        denial.detail = "This gateway has not received its policy yet. Try again in a moment.".into();
        denial
    }

    /// The plugin configuration cannot be used; the log says why.
    pub fn misconfigured() -> Self {
        let mut denial = Self::control_plane_lost();
        denial.code = "gateway-misconfigured";
        denial.detail =
            "This gateway is not configured correctly. Its operator finds the reason in its log.".into();
        denial.retry_after_s = Some(30);
        denial
    }

    /// Too many workers or requests want the same thing at once.
    pub fn busy() -> Self {
        let mut denial = Self::control_plane_lost();
        denial.code = "gateway-busy";
        denial.detail = "This gateway has too many requests waiting. Try again in a moment.".into();
        denial
    }

    /// Answers the current stream's request.
    pub fn send(&self, host: &dyn Host, policy: Option<&CompiledPolicy>) {
        let mut body = self.members.clone();
        let denials = policy.map(|policy| &policy.denials);
        let base = denials.and_then(|d| d.type_base.as_deref()).unwrap_or("about:blank#");
        body.insert("type".into(), json!(format!("{base}{}", self.code)));
        body.insert("title".into(), json!(self.title));
        body.insert("status".into(), json!(self.status));
        body.insert("detail".into(), json!(self.detail));
        body.insert("code".into(), json!(self.code));
        if let Some(url) = denials.and_then(|d| d.upgrade_url.as_deref()).filter(|_| self.upgrade_helps) {
            body.insert("upgrade_url".into(), json!(url));
        }
        let retry_after = self.retry_after_s.map(|seconds| seconds.to_string());
        let challenge = format!("Bearer error=\"invalid_token\", error_description=\"{}\"", self.code);
        let mut headers = vec![("content-type", "application/problem+json"), ("cache-control", "no-store")];
        if self.status == 401 {
            // RFC 6750 3.1: no error code when no token was sent.
            headers
                .push(("www-authenticate", if self.code == "token-missing" { "Bearer" } else { &challenge }));
        }
        if let Some(seconds) = &retry_after {
            headers.push(("retry-after", seconds));
        }
        if !self.ratelimit.is_empty() {
            headers.push(("ratelimit", &self.ratelimit));
            headers.push(("ratelimit-policy", &self.ratelimit_policy));
        }
        let body = Value::Object(body).to_string();
        host.respond(self.status, &headers, body.as_bytes());
    }
}
