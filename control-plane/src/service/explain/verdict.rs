//! What an edge would do with a request, as it would answer it.

use tollgate_policy::compile::CompiledPolicy;
use tollgate_policy::decision::{Bill, Denial, Outcome};
use tollgate_policy::document::Enforcement;

/// What an edge would do.
#[derive(Debug, Clone, PartialEq)]
pub struct Verdict {
    /// Whether the request passes.
    pub admit: bool,
    /// Why it does not; or would not, where the refusal is only watched.
    pub refusal: Option<Refusal>,
    /// Codes of the refusals that are only watched: what `x-tollgate-shadow` tells the upstream.
    pub shadow: Vec<String>,
    /// Soft limits that it goes beyond.
    pub over: Vec<String>,
}

/// A refusal.
#[derive(Debug, Clone, PartialEq)]
pub struct Refusal {
    /// What happened, and what to do.
    pub denial: Box<Denial>,
    /// The HTTP status that the caller gets: a template or JSON-RPC may say another than the denial does.
    pub status: u16,
    /// Positions of the JSON-RPC calls that are refused for their own sake; `None`: there are none, or all are.
    pub calls: Option<Vec<usize>>,
}

impl Verdict {
    /// It passes, and nobody is charged.
    pub(super) fn admitted() -> Self {
        Self { admit: true, refusal: None, shadow: Vec::new(), over: Vec::new() }
    }

    /// It is refused, unless that is only watched. `bill`: of a caller that is known.
    pub(super) fn refused(
        policy: &CompiledPolicy,
        denial: Box<Denial>,
        enforcement: Enforcement,
        bill: Option<&Bill>,
        has_calls: bool,
        fault: bool,
    ) -> Self {
        let line = bill.and_then(|bill| denial.line_of(bill));
        let status = denial.answered_status(policy, line.map(|line| &*line.route), has_calls, fault);
        let admit = enforcement == Enforcement::Shadow;
        let shadow = if admit { vec![denial.code.to_owned()] } else { Vec::new() };
        let calls = line.filter(|_| has_calls).map(|line| line.calls.clone());
        Self { admit, refusal: Some(Refusal { denial, status, calls }), shadow, over: Vec::new() }
    }

    /// Of a decision.
    pub(super) fn of(policy: &CompiledPolicy, outcome: Outcome, bill: &Bill, has_calls: bool) -> Self {
        let denial = match outcome {
            Outcome::Admit(admitted) => {
                let shadow = admitted.shadow.iter().map(|code| (*code).to_owned()).collect();
                let over = admitted.over.iter().map(ToString::to_string).collect();
                return Self { admit: true, refusal: None, shadow, over };
            }
            Outcome::Deny(denial) => denial,
            // Nobody is left to be asked; decisions in this mode do not ask.
            Outcome::Ask => Box::new(Denial::busy()),
        };
        // What is only watched was not refused.
        Self::refused(policy, denial, Enforcement::Enforce, Some(bill), has_calls, false)
    }
}
