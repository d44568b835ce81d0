//! Every answer that the filter gives itself: problem+json (RFC 9457), the policy's own templates, and JSON-RPC errors.
//!
//! The one place of the filter that makes statuses and bodies. What is refused, and why, is decided elsewhere.

use serde_json::{Map, Value, json};
use tollgate_policy::body::rpc::{Calls, RpcError, error_response_without_id, error_responses};
use tollgate_policy::compile::{CompiledPolicy, CompiledRoute};
use tollgate_policy::decision::{Denial, Fields};
use tollgate_policy::document::DenialTemplate;
use tollgate_policy::template::{JsonText, Template, Values};

use crate::host::Host;

/// The problem type that draft-ietf-httpapi-ratelimit-headers registers for a quota policy that is used up.
const QUOTA_EXCEEDED: &str = "https://iana.org/assignments/http-problem-types#quota-exceeded";

/// Code of a JSON-RPC error where the policy names none: the first of those left to servers.
const JSONRPC_CODE: i32 = -32_000;

/// Who is answered.
pub struct Asker<'a> {
    /// The policy that decided, if there was one.
    pub policy: Option<&'a CompiledPolicy>,
    /// The route that was refused, once known.
    pub route: Option<&'a CompiledRoute>,
    /// The subject, or empty.
    pub subject: &'a str,
    /// The JSON-RPC calls of the request.
    pub calls: Option<&'a Calls>,
    /// Those of them that are refused for their own sake; `None`: all.
    pub refused: Option<&'a [usize]>,
    /// JSON-RPC's own code of a body that should hold calls and does not.
    pub rpc_fault: Option<i32>,
}

/// Answers the current stream's request with a denial.
pub fn send(host: &dyn Host, denial: &Denial, asker: &Asker<'_>) {
    let retry_after = denial.retry_after_s.map(|seconds| seconds.to_string());
    let challenge = format!("Bearer error=\"invalid_token\", error_description=\"{}\"", denial.code);
    let mut headers: Vec<(&str, &str)> = Vec::new();
    let (status, content_type, body) = body_of(denial, asker);
    headers.push(("content-type", &content_type));
    headers.push(("cache-control", "no-store"));
    if denial.status == 401 {
        // RFC 6750 3.1: no error code when no token was sent.
        let bare = denial.code == "token-missing";
        headers.push(("www-authenticate", if bare { "Bearer" } else { &challenge }));
    }
    if let Some(seconds) = &retry_after {
        headers.push(("retry-after", seconds));
    }
    let fields = lines_of(&denial.fields);
    headers.extend(fields.iter().map(|(name, value)| (*name, value.as_str())));
    host.respond(status, &headers, body.as_bytes());
}

/// Notes on the request why, and whom, it was refused, for the proxy's access log: nothing of a refused request goes on.
pub fn note(host: &dyn Host, denial: &Denial, asker: &Asker<'_>) {
    let mut note = denial.code.to_owned();
    let limit = denial.limit.as_ref().map_or("", |limit| &limit.name);
    let route = asker.route.map_or("", |route| &*route.name);
    for (name, value) in
        [("subject", asker.subject), ("tier", &*denial.tier), ("limit", limit), ("route", route)]
    {
        if !value.is_empty() {
            let value = value.replace('\\', r"\\").replace('"', r#"\""#);
            note.push_str(&format!(";{name}=\"{value}\""));
        }
    }
    host.set_request_header("x-tollgate-denial", &note);
}

/// Tells the current stream's response what the caller has left.
pub fn tell(host: &dyn Host, fields: &Fields) {
    if fields.is_empty() {
        return;
    }
    host.set_response_header("ratelimit", &fields.ratelimit);
    if !fields.policy.is_empty() {
        host.set_response_header("ratelimit-policy", &fields.policy);
    }
    if fields.legacy.is_some() || !fields.warning.is_empty() {
        for (name, value) in rare_lines_of(fields) {
            host.set_response_header(name, &value);
        }
    }
}

fn lines_of(fields: &Fields) -> Vec<(&'static str, String)> {
    let mut lines = Vec::new();
    if !fields.ratelimit.is_empty() {
        lines.push(("ratelimit", fields.ratelimit.clone()));
    }
    if !fields.policy.is_empty() {
        lines.push(("ratelimit-policy", fields.policy.clone()));
    }
    lines.extend(rare_lines_of(fields));
    lines
}

fn rare_lines_of(fields: &Fields) -> Vec<(&'static str, String)> {
    let mut lines = Vec::new();
    if let Some(legacy) = &fields.legacy {
        lines.push(("x-ratelimit-limit", legacy.limit.to_string()));
        lines.push(("x-ratelimit-remaining", legacy.remaining.to_string()));
        lines.push(("x-ratelimit-reset", legacy.reset_s.to_string()));
    }
    if !fields.warning.is_empty() {
        lines.push(("x-tollgate-warning", fields.warning.clone()));
    }
    lines
}

/// Status, content type and body: JSON-RPC's own form first, then the route's and the policy's templates, then a problem.
fn body_of(denial: &Denial, asker: &Asker<'_>) -> (u16, String, String) {
    let (calls, fault) = (asker.calls.is_some(), asker.rpc_fault.is_some());
    let status = asker
        .policy
        .map_or(denial.status, |policy| denial.answered_status(policy, asker.route, calls, fault));
    if let Some(policy) = asker.policy.filter(|_| calls || fault) {
        return (status, "application/json".to_owned(), jsonrpc(denial, asker, policy));
    }
    match denial.template(asker.policy, asker.route) {
        Some(template) => {
            let (content_type, body) = from_template(denial, asker, template);
            (status, content_type, body)
        }
        None => (status, "application/problem+json".to_owned(), problem(denial, asker).to_string()),
    }
}

fn from_template(denial: &Denial, asker: &Asker<'_>, template: &DenialTemplate) -> (String, String) {
    let rendered = Template::new(&template.body).render(&values(denial, asker)).into_string();
    // A template that is a text is sent as one, and not as JSON's way to write it.
    let text = template.body.as_str().and_then(|_| serde_json::from_str::<String>(&rendered).ok());
    let (default_type, body) = match text {
        Some(text) => ("text/plain; charset=utf-8", text),
        None => ("application/json", rendered),
    };
    let content_type = template.content_type.clone().unwrap_or_else(|| default_type.to_owned());
    (content_type, body)
}

fn problem(denial: &Denial, asker: &Asker<'_>) -> Value {
    let denials = asker.policy.map(|policy| &policy.denials);
    let base = denials.and_then(|denials| denials.type_base.as_deref());
    let kind = match base {
        None if denial.status == 429 && denial.limit.is_some() => QUOTA_EXCEEDED.to_owned(),
        base => format!("{}{}", base.unwrap_or("about:blank#"), denial.code),
    };
    let mut body = Map::new();
    let mut put = |member: &str, value: Value| {
        body.insert(member.to_owned(), value);
    };
    put("type", json!(kind));
    put("title", json!(denial.title));
    put("status", json!(denial.status));
    put("detail", json!(denial.detail));
    put("code", json!(denial.code));
    if !denial.tier.is_empty() {
        put("tier", json!(denial.tier));
    }
    if let Some(feature) = &denial.feature {
        put("feature", json!(feature));
    }
    if let Some(limit) = &denial.limit {
        put("limit", json!(limit.name));
        put("maximum", json!(limit.maximum));
        put("used", json!(limit.used));
        put("needed", json!(limit.needed));
        if !limit.per.is_empty() {
            put("per", json!(limit.per));
        }
        if denial.status == 429 {
            put("violated-policies", json!([limit.name]));
        }
    }
    if let Some(seconds) = denial.retry_after_s {
        put("retry_after_s", json!(seconds));
    }
    if let Some(url) = upgrade_url(denial, asker) {
        put("upgrade_url", json!(url));
    }
    Value::Object(body)
}

/// JSON-RPC 2.0 errors, one for each call that asked for an answer. In a batch the calls of the refused route get the
/// denial, and the others are told why they were not carried out either.
fn jsonrpc(denial: &Denial, asker: &Asker<'_>, policy: &CompiledPolicy) -> String {
    let rules = &policy.denials.jsonrpc;
    let error = |denial: &Denial| {
        let code = rules.codes.get(denial.code).or_else(|| rules.codes.get("default"));
        let code = code.and_then(|code| i32::try_from(*code).ok());
        let data = match rules.data.get(denial.code) {
            Some(template) => Template::new(template).render(&values(denial, asker)),
            None => JsonText::from(&problem(denial, asker)),
        };
        RpcError {
            code: asker.rpc_fault.or(code).unwrap_or(JSONRPC_CODE),
            message: message(denial, asker, policy),
            data: Some(data),
        }
    };
    let refused = error(denial);
    let Some(calls) = asker.calls else { return error_response_without_id(&refused) };
    let bystander = error(&Denial::batch_refused());
    // Notifications are never answered, and not asked about.
    let mut answered =
        calls.calls().enumerate().filter(|(_, call)| call.id.is_some()).map(|(position, _)| position);
    error_responses(calls, |_| {
        let position = answered.next().unwrap_or(usize::MAX);
        let concerned = asker.refused.is_none_or(|refused| refused.contains(&position));
        if concerned { refused.clone() } else { bystander.clone() }
    })
}

fn message(denial: &Denial, asker: &Asker<'_>, policy: &CompiledPolicy) -> String {
    let Some(text) = policy.denials.jsonrpc.messages.get(denial.code) else {
        return denial.title.to_owned();
    };
    let template = Value::from(text.as_str());
    let rendered = Template::new(&template).render(&values(denial, asker)).into_string();
    // A text that is one placeholder becomes the value itself, and a message is always a text.
    serde_json::from_str(&rendered).unwrap_or(rendered)
}

fn upgrade_url<'a>(denial: &Denial, asker: &Asker<'a>) -> Option<&'a str> {
    asker.policy?.denials.upgrade_url.as_deref().filter(|_| denial.upgrade_helps)
}

fn values<'a>(denial: &'a Denial, asker: &Asker<'a>) -> Values<'a> {
    let limit = denial.limit.as_ref();
    let text = |text: &'a str| (!text.is_empty()).then_some(text);
    Values {
        code: text(denial.code),
        title: text(denial.title),
        detail: text(&denial.detail),
        limit: limit.map(|limit| &*limit.name),
        meter: limit.and_then(|limit| text(&limit.meter)),
        maximum: limit.map(|limit| limit.maximum),
        used: limit.map(|limit| limit.used),
        remaining: limit.map(|limit| limit.remaining),
        needed: limit.map(|limit| limit.needed),
        per: limit.and_then(|limit| text(&limit.per)),
        tier: text(&denial.tier),
        subject: text(asker.subject),
        route: asker.route.map(|route| &*route.name),
        feature: denial.feature.as_deref(),
        retry_after_s: denial.retry_after_s,
        reset_s: limit.and_then(|limit| limit.reset_s),
        reset_at_ms: limit.and_then(|limit| limit.reset_at_ms),
        upgrade_url: upgrade_url(denial, asker),
    }
}
