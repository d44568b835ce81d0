//! `/v1/explain`: what an edge would do with a request, and why.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use tollgate_policy::compile::{Amount, CompiledCharge, CompiledPolicy, UNLIMITED};
use tollgate_policy::decision::{Bill, Line};
use tollgate_policy::document::{Auth, Enforcement, Maximum, On, Scope};
use tollgate_policy::limit::LimitKind;
use tollgate_policy::window::{CALENDAR_END_MS, CALENDAR_START_MS};
use utoipa::ToSchema;

use super::extract;
use super::problem::{Problem, ProblemBody, ProblemKind};
use super::state::Api;
use super::tiers::maximum_of;
use crate::calendar::rfc3339;
use crate::service::explain::{CallerView, Explanation, LimitUse, Refusal, Sender, Verdict, Wish};

/// A request to be explained. Give `token`, or `subject`, or neither: then it comes without a token.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ExplainWish {
    /// The caller's token, as it stands after `Bearer`. It is verified as an edge does, and not kept.
    token: Option<String>,
    /// Whose token it would be: `user:…`, `org:…` or `member:<organisation>/<user>`; or `anon:…` in place of the address.
    subject: Option<String>,
    /// The tier that the token of `subject` would claim. Default: the one that its newest token did.
    tier_claim: Option<String>,
    /// Such as `GET`.
    method: String,
    /// The path, perhaps with a query, as the client sends it.
    path: String,
    /// The host.
    host: Option<String>,
    /// Other headers, by name: a value, or several. As they come to the proxy, which adds `client_address` to `x-forwarded-for`.
    #[serde(default)]
    #[schema(value_type = BTreeMap<String, serde_json::Value>)]
    headers: BTreeMap<String, HeaderWish>,
    /// The body as text. Where it is long, `content-length` among the headers may stand for it.
    body: Option<String>,
    /// The address that the request comes from: of a caller without a token.
    client_address: Option<String>,
}

/// A header's value, or several.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum HeaderWish {
    One(String),
    Several(Vec<String>),
}

/// What an edge would do with a request now, and why. Nothing was taken for it.
#[derive(Debug, Serialize, ToSchema)]
pub struct ExplanationBody {
    /// What an edge would do.
    decision: DecisionBody,
    /// Version of the policy in force.
    policy_version: i64,
    /// The path as routes are matched against it; `null` when it is ambiguous.
    path: Option<String>,
    /// Whether nobody is charged: then nothing is limited either.
    public: bool,
    /// Who is charged; `null` where nobody is, or where that is not known.
    caller: Option<CallerBody>,
    /// The routes that it takes, and what each costs; several only for a JSON-RPC batch.
    routes: Vec<RouteBody>,
    /// Its JSON-RPC calls, in order.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    calls: Vec<CallBody>,
    /// The limits that apply; those of the member first.
    limits: Vec<LimitUseBody>,
    /// What the answer rests on, in sentences.
    notes: Vec<String>,
}

/// What an edge would do.
#[derive(Debug, Serialize, ToSchema)]
pub struct DecisionBody {
    /// `admit` or `deny`.
    outcome: &'static str,
    #[serde(flatten)]
    refusal: Option<RefusalBody>,
    /// It passes, but would be refused so if that were not only watched (`enforcement: shadow`).
    #[serde(skip_serializing_if = "Option::is_none")]
    would_deny: Option<RefusalBody>,
    /// Codes of refusals that are only watched: what `x-tollgate-shadow` tells the upstream.
    shadow: Vec<String>,
    /// Soft limits that it goes beyond: what `x-tollgate-overage` tells the upstream.
    over: Vec<String>,
}

/// A refusal.
#[derive(Debug, Serialize, ToSchema)]
pub struct RefusalBody {
    /// The HTTP status that the caller gets.
    status: u16,
    /// The stable code.
    code: &'static str,
    /// What all refusals of this code have in common.
    title: &'static str,
    /// What the caller is told.
    detail: String,
    /// The limit that refuses.
    #[serde(skip_serializing_if = "Option::is_none")]
    limit: Option<String>,
    /// The feature that is missing.
    #[serde(skip_serializing_if = "Option::is_none")]
    feature: Option<String>,
    /// After so many seconds it makes sense to try again.
    #[serde(skip_serializing_if = "Option::is_none")]
    retry_after_s: Option<u64>,
    /// When units come back, RFC 3339.
    #[serde(skip_serializing_if = "Option::is_none")]
    reset_at: Option<String>,
    /// Positions of the JSON-RPC calls that are refused for their own sake; the others are told `batch-refused`. Left out
    /// where all are.
    #[serde(skip_serializing_if = "Option::is_none")]
    calls: Option<Vec<usize>>,
}

/// Who is charged.
#[derive(Debug, Serialize, ToSchema)]
pub struct CallerBody {
    /// The subject.
    subject: String,
    /// The member of an organisation that calls.
    #[serde(skip_serializing_if = "Option::is_none")]
    member: Option<String>,
    /// The tier in force; `null` when it has none.
    tier: Option<String>,
    /// Where the tier comes from: `subscription`, `claim` (of the token), `anonymous` (what the policy gives callers without
    /// a token), `default` or `none`.
    tier_from: &'static str,
    /// Features of the tier.
    features: Vec<String>,
    /// Until then an operator's grant lets it pass all limits, RFC 3339.
    #[serde(skip_serializing_if = "Option::is_none")]
    bypass_until: Option<String>,
}

/// A JSON-RPC call.
#[derive(Debug, Serialize, ToSchema)]
pub struct CallBody {
    /// Its method.
    method: String,
    /// The tool that MCP's `tools/call` names.
    #[serde(skip_serializing_if = "Option::is_none")]
    tool: Option<String>,
    /// The route that it takes.
    route: String,
}

/// A route that the request takes.
#[derive(Debug, Serialize, ToSchema)]
pub struct RouteBody {
    /// Its name.
    name: String,
    /// Positions of the JSON-RPC calls that take it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    calls: Vec<usize>,
    /// Whether a token is needed: `required`, `optional` or `none`.
    #[schema(value_type = String)]
    auth: Auth,
    /// What holds here where no limit says otherwise: `enforce`, `shadow` or `off`.
    #[schema(value_type = String)]
    enforcement: Enforcement,
    /// Features that the tier must have.
    features: Vec<String>,
    /// What it costs.
    charges: Vec<ChargeBody>,
}

/// What a route costs on one meter.
#[derive(Debug, Serialize, ToSchema)]
pub struct ChargeBody {
    /// The meter.
    meter: String,
    /// Units that are taken when the request is admitted; of a release, those that are given back.
    units: u64,
    /// Whether that is an estimate, and the response says what it comes to.
    estimate: bool,
    /// Where the amount comes from, such as `units`, `request_header x-items` or `response_json /usage/total_tokens`.
    source: String,
    /// When it counts: `request`, `success` or `response`.
    #[schema(value_type = String)]
    on: On,
    /// Whether the amount is given back.
    release: bool,
    /// Under which id what is stored or deleted is counted once.
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<String>,
}

/// A limit that applies.
#[derive(Debug, Serialize, ToSchema)]
pub struct LimitUseBody {
    /// Its name.
    limit: String,
    /// The meter that is limited; not of `concurrency` and `size`.
    #[serde(skip_serializing_if = "Option::is_none")]
    meter: Option<String>,
    /// `quota`, `rate` (a token bucket too), `capacity`, `concurrency` or `size`.
    kind: &'static str,
    /// Whose it is: `subject`, or `member`.
    #[schema(value_type = String)]
    scope: Scope,
    /// What holds for it here: `enforce`, `shadow` or `off`.
    #[schema(value_type = String)]
    enforcement: Enforcement,
    /// Whether what is used beyond it is overage, and not refused.
    soft: bool,
    /// The maximum: a number, or `unlimited`.
    #[schema(value_type = serde_json::Value)]
    maximum: Maximum,
    /// Units used, as far as edges have reported; not of a rate, whose units come back, and of a size.
    #[serde(skip_serializing_if = "Option::is_none")]
    used: Option<u64>,
    /// Units that edges hold and have not reported as used. They count as free.
    #[serde(skip_serializing_if = "Option::is_none")]
    leased: Option<u64>,
    /// Units that nobody gets for now, since the edge that held them is gone.
    #[serde(skip_serializing_if = "Option::is_none")]
    resting: Option<u64>,
    /// Units that remain: a number, or `unlimited`.
    #[schema(value_type = serde_json::Value)]
    remaining: Maximum,
    /// Units that the request needs when it is admitted.
    needed: u64,
    /// Units that the request gives back.
    #[serde(skip_serializing_if = "Option::is_none")]
    released: Option<u64>,
    /// The window, such as `day` or `60s`; not of `capacity`, `concurrency` and `size`.
    #[serde(skip_serializing_if = "Option::is_none")]
    per: Option<String>,
    /// Start of the window, RFC 3339; of a quota that has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    window_start: Option<String>,
    /// Its end.
    #[serde(skip_serializing_if = "Option::is_none")]
    window_end: Option<String>,
}

impl ExplanationBody {
    fn new(explanation: Explanation) -> Result<Self, Problem> {
        let policy = explanation.in_force.policy.as_ref();
        let policy =
            policy.ok_or(crate::service::ServiceError::NotFound(crate::service::NotFound::Policy))?;
        let policy = &policy.compiled;
        let routes = match &explanation.bill {
            Some(bill) => routes_of(bill, policy, explanation.is_public),
            None => Vec::new(),
        };
        let calls = explanation.calls.into_iter().map(|call| CallBody {
            method: call.method,
            tool: call.tool,
            route: call.route.name.to_string(),
        });
        Ok(Self {
            decision: DecisionBody::new(explanation.verdict),
            policy_version: explanation.version,
            path: explanation.path,
            public: explanation.is_public,
            caller: explanation.caller.map(CallerBody::new),
            routes,
            calls: calls.collect(),
            limits: explanation.limits.iter().map(|limit| LimitUseBody::new(limit, policy)).collect(),
            notes: explanation.notes,
        })
    }
}

impl DecisionBody {
    fn new(verdict: Verdict) -> Self {
        let refusal = verdict.refusal.map(RefusalBody::new);
        let (refusal, would_deny) = if verdict.admit { (None, refusal) } else { (refusal, None) };
        let outcome = if verdict.admit { "admit" } else { "deny" };
        Self { outcome, refusal, would_deny, shadow: verdict.shadow, over: verdict.over }
    }
}

impl RefusalBody {
    fn new(Refusal { denial, status, calls }: Refusal) -> Self {
        let reset_at_ms = denial.limit.as_ref().and_then(|limit| limit.reset_at_ms);
        Self {
            status,
            code: denial.code,
            title: denial.title,
            detail: denial.detail,
            limit: denial.limit.map(|limit| limit.name),
            feature: denial.feature,
            retry_after_s: denial.retry_after_s,
            reset_at: reset_at_ms.map(rfc3339),
            calls,
        }
    }
}

impl CallerBody {
    fn new(caller: CallerView) -> Self {
        Self {
            subject: caller.subject,
            member: caller.member,
            tier: caller.tier,
            tier_from: caller.tier_from,
            features: caller.features,
            bypass_until: caller.bypass_until_ms.map(rfc3339),
        }
    }
}

fn routes_of(bill: &Bill, policy: &CompiledPolicy, is_public: bool) -> Vec<RouteBody> {
    let route = |line: &Line| {
        let route = &line.route;
        let charges = route.charges.iter().enumerate().filter(|_| !is_public);
        RouteBody {
            name: route.name.to_string(),
            calls: line.calls.clone(),
            auth: route.auth,
            enforcement: policy.enforcement_of(route, None),
            features: route.features.clone(),
            charges: charges.map(|(at, charge)| ChargeBody::new(charge, line, at, bill, policy)).collect(),
        }
    };
    bill.lines.iter().map(route).collect()
}

impl ChargeBody {
    fn new(charge: &CompiledCharge, line: &Line, at: usize, bill: &Bill, policy: &CompiledPolicy) -> Self {
        let unknown_body = charge.amount == Amount::RequestBytes && bill.body_bytes.is_none();
        Self {
            meter: policy.meters.get(charge.meter).cloned().unwrap_or_default(),
            units: line.units(at),
            estimate: charge.amount.is_of_response() || unknown_body,
            source: match &charge.amount {
                Amount::Units(_) => "units".to_owned(),
                Amount::RequestBytes => "body_bytes request".to_owned(),
                Amount::ResponseBytes => "body_bytes response".to_owned(),
                Amount::RequestHeader(name) => format!("request_header {name}"),
                Amount::ResponseHeader(name) => format!("response_header {name}"),
                Amount::RequestJson(pointer) => format!("request_json {pointer}"),
                Amount::ResponseJson(pointer) => format!("response_json {pointer}"),
            },
            on: charge.on,
            release: charge.release,
            id: line.things.get(at).copied().flatten().map(|id| id.to_string()),
        }
    }
}

impl LimitUseBody {
    fn new(known: &LimitUse, policy: &CompiledPolicy) -> Self {
        let (limit, standing) = (&known.limit, known.standing.as_ref());
        let is_rate = matches!(limit.kind, LimitKind::Rate { .. } | LimitKind::Bucket { .. });
        let moment = |at: Option<i64>| at.filter(|ms| (CALENDAR_START_MS..CALENDAR_END_MS).contains(ms));
        let window_end = moment(standing.and_then(|standing| standing.window_end_ms));
        // A lifetime has no end, and so no window worth telling.
        let window_start = moment(standing.and_then(|standing| standing.window_start_ms));
        let window_start = window_start.filter(|_| window_end.is_some());
        let per = limit.per();
        Self {
            limit: limit.name.to_string(),
            meter: limit.meter.and_then(|meter| policy.meters.get(meter)).cloned(),
            kind: limit.kind.name(),
            scope: limit.scope,
            enforcement: known.enforcement,
            soft: matches!(limit.kind, LimitKind::Quota { soft: true, .. }),
            maximum: maximum_of(limit.units),
            used: standing.filter(|_| !is_rate).map(|standing| standing.used),
            leased: standing.map(|standing| standing.leased.saturating_sub(known.resting)),
            resting: Some(known.resting).filter(|units| *units > 0),
            remaining: if limit.units == UNLIMITED {
                Maximum::Unlimited
            } else {
                maximum_of(known.remaining)
            },
            needed: known.needed,
            released: Some(known.released).filter(|units| *units > 0),
            per: (!per.is_empty()).then_some(per),
            window_start: window_start.map(rfc3339),
            window_end: window_end.map(rfc3339),
        }
    }
}

impl TryFrom<ExplainWish> for Wish {
    type Error = Problem;

    fn try_from(wish: ExplainWish) -> Result<Self, Problem> {
        let sender = match (wish.token, wish.subject) {
            (None, None) => Sender::Anyone,
            (Some(token), None) => Sender::Token(token),
            (None, Some(subject)) => Sender::Subject(subject),
            (Some(_), Some(_)) => {
                let detail = "Give `token` or `subject`, not both: a token says whose it is.";
                return Err(Problem::new(ProblemKind::ExplainInvalid, detail));
            }
        };
        let headers = wish.headers.into_iter().flat_map(|(name, value)| {
            let values = match value {
                HeaderWish::One(value) => vec![value],
                HeaderWish::Several(values) => values,
            };
            values.into_iter().map(move |value| (name.clone(), value))
        });
        Ok(Self {
            sender,
            headers: headers.collect(),
            tier_claim: wish.tier_claim,
            method: wish.method,
            path: wish.path,
            host: wish.host,
            body: wish.body,
            client_address: wish.client_address,
        })
    }
}

/// Explains what an edge would do with a request now: which route it takes, who is charged and what, how each limit that
/// applies stands, and what would be decided. It is decided by the code that edges run; nothing is taken. A read token does.
#[utoipa::path(
    post, path = "/v1/explain", tag = "policy", request_body = ExplainWish,
    responses(
        (status = 200, body = ExplanationBody),
        (status = 404, body = ProblemBody, description = "policy-missing"),
    )
)]
pub async fn explain(
    State(api): State<Api>,
    extract::Json(body): extract::Json<ExplainWish>,
) -> Result<Json<ExplanationBody>, Problem> {
    let explanation = api.plane.explain(&Wish::try_from(body)?).await?;
    Ok(Json(ExplanationBody::new(explanation)?))
}
