//! A refused request, as a value: what happened and what to do, never what only an operator may know.
//!
//! Knows codes, statuses and sentences; how they are sent is each program's own business.

use crate::compile::{CompiledLimit, CompiledPolicy, CompiledRoute};
use crate::document::DenialTemplate;
use crate::jwt::TokenFault;
use crate::lease::Refusal;
use crate::limit::LimitKind;
use crate::path::AmbiguousPath;
use crate::window::Window;

use super::bill::{Bill, Line};
use super::fields::Fields;

/// A refused request.
#[derive(Debug, Clone, PartialEq)]
pub struct Denial {
    /// HTTP status.
    pub status: u16,
    /// Stable, in kebab case; also the reason in metrics.
    pub code: &'static str,
    /// The subject's tier, where it is known.
    pub tier: String,
    /// The same for each denial of a code.
    pub title: &'static str,
    /// A sentence for the caller.
    pub detail: String,
    /// From now until trying again makes sense, s.
    pub retry_after_s: Option<u64>,
    /// The limit that refused.
    pub limit: Option<LimitFacts>,
    /// The feature that is missing.
    pub feature: Option<String>,
    /// What the caller learns of its limits.
    pub fields: Fields,
    /// A larger plan would let the request pass.
    pub upgrade_helps: bool,
    /// Position of the bill's line that was refused: which call of a batch.
    pub line: usize,
}

/// A limit at the moment at which it refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LimitFacts {
    /// Its name.
    pub name: String,
    /// The meter that it counts, or empty.
    pub meter: String,
    /// The maximum, units.
    pub maximum: u64,
    /// Units used, as far as this edge can know.
    pub used: u64,
    /// Units that remain, as far as this edge can know.
    pub remaining: u64,
    /// Units that the request needs.
    pub needed: u64,
    /// The window as text; empty where it has none.
    pub per: String,
    /// When units come back, Unix ms; none where no time helps.
    pub reset_at_ms: Option<i64>,
    /// From now until then, s.
    pub reset_s: Option<u64>,
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
            limit: None,
            feature: None,
            fields: Fields::default(),
            upgrade_helps: false,
            line: 0,
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

    /// A header that decides on the route, and comes more than once.
    pub fn ambiguous_header(name: &str) -> Self {
        Self::new(400, "header-ambiguous", "A header comes twice", format!("Send the header {name} once."))
    }

    /// A body that must be read and is not what it has to be.
    pub fn bad_body(fault: &str) -> Self {
        Self::new(400, "body-malformed", "The body cannot be read", format!("Send a valid body: {fault}."))
    }

    /// An amount that the request must tell and does not.
    pub fn unpriced(meter: &str) -> Self {
        Self::new(
            400,
            "amount-unreadable",
            "The request does not say what it costs",
            format!("Say how many {meter} this request needs, as a whole number, where the API expects it."),
        )
    }

    /// A batch of more calls than are read.
    pub fn batch_too_large(fault: &str) -> Self {
        Self::new(413, "batch-too-large", "The batch is too large", format!("Send it in parts: {fault}."))
    }

    /// A body that must be read and is longer than the policy reads.
    pub fn body_too_large(bytes_max: u64) -> Self {
        Self::new(
            413,
            "body-too-large",
            "The body is too large",
            format!("A request's body that is looked into may have at most {bytes_max} bytes here."),
        )
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
        denial.feature = Some(feature.to_owned());
        denial.upgrade_helps = true;
        denial
    }

    /// A body larger than the plan allows. `bytes` are those that were seen or announced.
    pub fn too_large(limit: &CompiledLimit, tier: &str, bytes: u64) -> Self {
        let units = limit.units;
        let mut denial = Self::new(
            limit.status,
            "size-exceeded",
            "The body is too large for the plan",
            format!(
                "The plan {tier} allows bodies of up to {units} bytes ({}); this one has {bytes}.",
                limit.name
            ),
        );
        tier.clone_into(&mut denial.tier);
        denial.limit = Some(LimitFacts {
            name: limit.name.to_string(),
            meter: String::new(),
            maximum: units,
            used: 0,
            remaining: units,
            needed: bytes,
            per: String::new(),
            reset_at_ms: None,
            reset_s: None,
        });
        denial.upgrade_helps = true;
        denial
    }

    /// A limit that has too little left. `facts` are of its account.
    pub fn exhausted(
        limit: &CompiledLimit,
        tier: &str,
        refusal: Refusal,
        facts: LimitFacts,
        fields: Fields,
    ) -> Self {
        let retry_after_s = refusal.retry_after_ms.div_ceil(1_000);
        let LimitFacts { name, maximum, used, needed, per, .. } = &facts;
        let advice = match (refusal.never, &limit.kind) {
            (true, _) => "This request needs more than the whole limit.".to_owned(),
            (false, LimitKind::Capacity) => "Delete something first.".to_owned(),
            (false, _) if retry_after_s == 0 => "Only a larger plan helps.".to_owned(),
            (false, _) => format!("Try again in {retry_after_s} s."),
        };
        let (code, title, allowance) = match &limit.kind {
            LimitKind::Capacity => (
                "capacity-exceeded",
                "The plan's capacity is used up",
                format!(
                    "The plan {tier} holds {maximum} ({name}); {used} are in use and this needs {needed}."
                ),
            ),
            LimitKind::Concurrency => (
                "concurrency-exceeded",
                "Too many requests at once",
                format!("The plan {tier} allows {maximum} requests at once ({name})."),
            ),
            LimitKind::Rate { .. } | LimitKind::Bucket { .. } => (
                "rate-exceeded",
                "Too many requests in a short time",
                format!("The plan {tier} allows {maximum} per {per} ({name}), and they are used."),
            ),
            LimitKind::Quota { .. } | LimitKind::Size => (
                "quota-exceeded",
                "The quota is used up",
                format!("The plan {tier} allows {maximum} per {per} ({name}), and they are used."),
            ),
        };
        let mut denial = Self::new(limit.status, code, title, format!("{allowance} {advice}"));
        tier.clone_into(&mut denial.tier);
        denial.retry_after_s = Some(retry_after_s).filter(|seconds| *seconds > 0 && limit.status == 429);
        denial.limit = Some(facts);
        denial.fields = fields;
        denial.upgrade_helps = true;
        denial
    }

    /// Another call of the same JSON-RPC batch was refused: all are taken together, or none is.
    pub fn batch_refused() -> Self {
        Self::new(
            429,
            "batch-refused",
            "Another call of the batch was refused",
            "All calls of a batch are admitted together or none is. Send this one again without the refused ones.",
        )
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
}

/// How a denial is answered.
impl Denial {
    /// The line of the bill that was refused for its own sake; none where the request was refused as a whole.
    pub fn line_of<'b>(&self, bill: &'b Bill) -> Option<&'b Line> {
        let is_of_line = self.limit.is_some() || self.feature.is_some();
        bill.lines.get(self.line).filter(|_| is_of_line)
    }

    /// The words that the route, or else the policy, has for it.
    pub fn template<'p>(
        &self,
        policy: Option<&'p CompiledPolicy>,
        route: Option<&'p CompiledRoute>,
    ) -> Option<&'p DenialTemplate> {
        let of_route = route.and_then(|route| route.denials.get(self.code));
        of_route.or_else(|| policy?.denials.templates.get(self.code))
    }

    /// The HTTP status that the caller gets: JSON-RPC's own first, then the template's. `calls` says whether the request has
    /// JSON-RPC calls, `fault` whether it should have some and is none: that HTTP's status says too.
    pub fn answered_status(
        &self,
        policy: &CompiledPolicy,
        route: Option<&CompiledRoute>,
        calls: bool,
        fault: bool,
    ) -> u16 {
        match (calls, fault) {
            (_, true) => self.status,
            (true, false) => policy.denials.jsonrpc.status,
            (false, false) => {
                let template = self.template(Some(policy), route);
                template.and_then(|template| template.status).unwrap_or(self.status)
            }
        }
    }
}

/// The window of a limit as its end, where time brings units back.
pub(super) fn reset_at_ms(limit: &CompiledLimit, window: &Window, now_ms: i64, reset_ms: u64) -> Option<i64> {
    match limit.kind {
        LimitKind::Quota { .. } if window.end_ms >= crate::window::CALENDAR_END_MS => None,
        LimitKind::Quota { .. } => Some(window.end_ms),
        LimitKind::Rate { .. } | LimitKind::Bucket { .. } => Some(now_ms.saturating_add_unsigned(reset_ms)),
        LimitKind::Capacity | LimitKind::Concurrency | LimitKind::Size => None,
    }
}
