//! What an edge would do with a request at this moment, and why: read, identified and decided by the code that edges run,
//! on what the database says of the subject. Nothing is taken, and nothing is written.
//!
//! Units that edges hold and have not used count as free, since whichever edge has them may use them; and what they have
//! used of a rate they alone know. So an answer may be kinder than an edge, and never stricter.

mod limits;
mod reading;
mod verdict;

use std::cell::RefCell;
use std::sync::Arc;

use tollgate_policy::compile::{CompiledPolicy, CompiledRoute};
use tollgate_policy::decision::{Bill, Mode, Now, Outcome, Plans, Question};
use tollgate_policy::document::Scope;
use tollgate_policy::lease::SessionId;

use super::entitled::{Entitled, Organization};
use super::in_force::InForce;
use super::{ControlPlane, Invalid, NotFound, ServiceError};
use crate::store::subjects::SubjectRow;
pub use limits::LimitUse;
use limits::Stood;
use reading::{Caller, Fate, Read};
pub use verdict::{Refusal, Verdict};

/// A request to be explained.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Wish {
    /// Who sends it.
    pub sender: Sender,
    /// The tier that the token claims, of a subject that is named.
    pub tier_claim: Option<String>,
    /// Such as `GET`.
    pub method: String,
    /// The path, perhaps with a query, as a client sends it.
    pub path: String,
    /// Its host.
    pub host: Option<String>,
    /// Names and values, in order, as they come to the proxy.
    pub headers: Vec<(String, String)>,
    /// Its body.
    pub body: Option<String>,
    /// The address that it comes from.
    pub client_address: Option<String>,
}

/// Who sends a request.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Sender {
    /// Whoever calls without a token, but for what its headers say.
    #[default]
    Anyone,
    /// Who has this token.
    Token(String),
    /// Whoever has a token of this subject.
    Subject(String),
}

/// What an edge would do, and why.
#[derive(Debug, Clone)]
pub struct Explanation {
    /// Version of the policy in force.
    pub version: i64,
    /// The path as routes are matched against it; none when it is ambiguous.
    pub path: Option<String>,
    /// Its JSON-RPC calls.
    pub calls: Vec<CallRoute>,
    /// Who is charged; none where nobody is, or where that is not known.
    pub caller: Option<CallerView>,
    /// Where nobody is charged nothing is limited either.
    pub is_public: bool,
    /// What it asks for; none when that cannot be told.
    pub bill: Option<Bill>,
    /// The limits that apply, in the tier's order; those of the member first.
    pub limits: Vec<LimitUse>,
    /// What an edge would do.
    pub verdict: Verdict,
    /// What the answer rests on, in sentences.
    pub notes: Vec<String>,
    /// The configuration by which it was explained.
    pub in_force: Arc<InForce>,
}

/// A JSON-RPC call and the route that it takes.
#[derive(Debug, Clone)]
pub struct CallRoute {
    /// Its method.
    pub method: String,
    /// The tool that MCP's `tools/call` names.
    pub tool: Option<String>,
    /// The route that it takes.
    pub route: Arc<CompiledRoute>,
}

/// Who is charged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CallerView {
    /// The subject.
    pub subject: String,
    /// The member of an organisation that calls.
    pub member: Option<String>,
    /// The tier in force, if any.
    pub tier: Option<String>,
    /// Where it comes from: `subscription`, `claim`, `anonymous`, `default` or `none`.
    pub tier_from: &'static str,
    /// Features of the tier.
    pub features: Vec<String>,
    /// Until when an operator's grant lets it pass, Unix ms.
    pub bypass_until_ms: Option<i64>,
}

/// A caller as the database knows it.
struct Known {
    row: SubjectRow,
    member: Option<(String, SubjectRow, Organization)>,
    claim: Option<String>,
}

impl ControlPlane {
    /// Explains what an edge would do with a request now.
    pub async fn explain(&self, wish: &Wish) -> Result<Explanation, ServiceError> {
        reading::check(wish)?;
        let now = Now { wall_ms: self.clock.now_ms(), mono_ms: self.clock.monotonic_ms() };
        let in_force = self.newest().await?;
        let policy = in_force.policy.as_ref().ok_or(ServiceError::NotFound(NotFound::Policy))?;
        let read = Read::of(policy, wish, now.wall_ms);
        let explanation = Explanation {
            version: policy.version,
            path: read.path,
            calls: read.calls,
            caller: None,
            is_public: matches!(read.fate, Fate::Public),
            bill: read.bill,
            limits: Vec::new(),
            verdict: Verdict::admitted(),
            notes: read.notes,
            in_force: in_force.clone(),
        };
        match read.fate {
            Fate::Public => Ok(explanation),
            Fate::Refused { denial, enforcement, fault } => {
                let has_calls = read.has_calls;
                let verdict = Verdict::refused(&policy.compiled, denial, enforcement, None, has_calls, fault);
                Ok(Explanation { verdict, ..explanation })
            }
            Fate::Identified(caller) => {
                let known = self.known(&caller, &policy.compiled).await?;
                Ok(decided(explanation, &policy.compiled, &caller, known, read.has_calls, now))
            }
        }
    }

    async fn known(&self, caller: &Caller, policy: &CompiledPolicy) -> Result<Known, ServiceError> {
        let (row, _) = self.read_known(&caller.subject).await?;
        let member = match caller.member.as_deref().filter(|_| policy.limits_members) {
            None => None,
            Some(name) => {
                let (row, organization) = self.read_known(name).await?;
                organization.map(|organization| (name.to_owned(), row, organization))
            }
        };
        let claim = match &caller.tier_claim {
            Some(claim) => claim.clone(),
            // What the newest of its tokens claimed.
            None => member.as_ref().map_or(&row, |(_, row, _)| row).tier_claim.clone(),
        };
        Ok(Known { row, member, claim })
    }
}

/// Decides as an edge does: on the record of the member first, then on the subject's.
fn decided(
    mut explanation: Explanation,
    policy: &CompiledPolicy,
    caller: &Caller,
    known: Known,
    has_calls: bool,
    now: Now,
) -> Explanation {
    let Some(bill) = &explanation.bill else { return explanation };
    let in_force = &explanation.in_force;
    let mut row = SubjectRow { tier_claim: known.claim.clone(), ..known.row };
    row.bypass = row.bypass.filter(|bypass| bypass.in_force(now.wall_ms));
    let entitled = Entitled::of(&row, None);
    let tier = entitled.tier(in_force, now.wall_ms);
    let anchor_ms = row.subscription.as_ref().map_or(0, |bought| bought.anchor_ms);
    let of_subject = Stood::of(&entitled, &row, in_force, anchor_ms, now);
    let member_row = known.member.map(|(name, row, organization)| {
        (name, SubjectRow { tier_claim: known.claim.clone(), ..row }, organization)
    });
    let of_member = member_row.as_ref().map(|(_, row, organization)| {
        Stood::of(&Entitled::of(row, Some(organization)), row, in_force, anchor_ms, now)
    });

    let (kept, plans) = (RefCell::new(None), Plans::default());
    let session = SessionId::default();
    let tier_claim = known.claim.as_deref().unwrap_or("");
    let question = Question { policy, kept: &kept, plans: &plans, tier_claim, bill, session, now };
    let mut record = of_subject.record(&caller.subject, &row, session, now);
    let member = member_row.as_ref().zip(of_member.as_ref()).and_then(|((name, row, _), stood)| {
        let plan = question.member_plan(&mut record, Mode::Alone)?;
        let mut record = stood.record(name, row, session, now);
        Some(question.decide_member(&mut record, &plan, Mode::Alone))
    });
    let outcome = match member {
        None => question.decide(&mut record, Mode::Alone),
        Some(Outcome::Admit(member)) => match question.decide(&mut record, Mode::Alone) {
            Outcome::Admit(mut admitted) => {
                admitted.join(*member);
                Outcome::Admit(admitted)
            }
            refused => refused,
        },
        Some(refused) => refused,
    };
    let verdict = Verdict::of(policy, outcome, bill, has_calls);
    let bypass = row.bypass.is_some();
    let mut limits = Vec::new();
    if let Some(stood) = &of_member {
        limits.extend(stood.uses(policy, bill, Scope::Member, bypass));
    }
    limits.extend(of_subject.uses(policy, bill, Scope::Subject, bypass));
    explanation.notes.extend(limits::notes(&limits));
    let tier_from = match tier.as_ref().map_or("none", |tier| tier.from) {
        "claim" if caller.is_anonymous => "anonymous",
        from => from,
    };
    explanation.caller = Some(CallerView {
        subject: caller.subject.clone(),
        member: caller.member.clone(),
        tier_from,
        features: tier.as_ref().map_or_else(Vec::new, |tier| tier.tier.features.iter().cloned().collect()),
        tier: tier.map(|tier| tier.tier.name.clone()),
        bypass_until_ms: row.bypass.as_ref().map(|bypass| bypass.expires_ms),
    });
    Explanation { limits, verdict, ..explanation }
}

fn invalid<T>(message: impl Into<String>) -> Result<T, ServiceError> {
    Err(ServiceError::invalid(Invalid::Explain, message))
}
