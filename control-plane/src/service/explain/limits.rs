//! How a subject's limits stand, as a record that can be decided on, and as what a request needs of each.

use tollgate_policy::compile::{CompiledLimit, CompiledPolicy, UNLIMITED};
use tollgate_policy::decision::{Bill, Line, Now};
use tollgate_policy::document::{Enforcement, Scope};
use tollgate_policy::lease::{AccountKind, Record, SessionId, Standing};
use tollgate_policy::limit::LimitKind;
use tollgate_policy::subscription::{Entitlements, Grant};
use tollgate_policy::window::Window;

use super::super::InForce;
use super::super::entitled::Entitled;
use crate::store::subjects::SubjectRow;

/// A limit that applies to a request.
#[derive(Debug, Clone, PartialEq)]
pub struct LimitUse {
    /// The limit, with the subject's own maximum.
    pub limit: CompiledLimit,
    /// How it stands; none of the size of one request, of which nothing is kept.
    pub standing: Option<Standing>,
    /// Units that nobody gets for now, since the edge that held them is gone.
    pub resting: u64,
    /// Units that remain, with those that edges hold and have not used.
    pub remaining: u64,
    /// Units that the request needs, as far as that is known before the response.
    pub needed: u64,
    /// Units that the request gives back.
    pub released: u64,
    /// What holds for it on this request's routes.
    pub enforcement: Enforcement,
}

/// How all limits of a subject stand.
pub(super) struct Stood {
    limits: Vec<LimitStood>,
    /// As edges are told of them.
    grants: Vec<Grant>,
}

struct LimitStood {
    limit: CompiledLimit,
    window: Window,
    standing: Option<Standing>,
    /// Units that nobody gets until a moment, Unix ms.
    resting: Vec<(i64, u64)>,
}

impl Stood {
    /// Of a subject, or of a member.
    pub fn of(
        entitled: &Entitled<'_>,
        row: &SubjectRow,
        in_force: &InForce,
        anchor_ms: i64,
        now: Now,
    ) -> Self {
        let standings = row.book.standings(&entitled.terms(in_force, now.wall_ms), now.wall_ms);
        let limits = entitled.tier(in_force, now.wall_ms).map(|tier| tier.limits).unwrap_or_default();
        let stood = |limit: CompiledLimit| {
            let window = AccountKind::window(&limit.kind, now.wall_ms, anchor_ms);
            LimitStood {
                standing: standings.iter().find(|standing| *standing.limit == *limit.name).cloned(),
                resting: row.book.resting(&limit.name, window.start_ms, now.wall_ms),
                window,
                limit,
            }
        };
        let grants = entitled.told_grants(in_force, now.wall_ms);
        Self { limits: limits.into_iter().map(stood).collect(), grants }
    }

    /// An edge's record, were it the only one: of each limit it may use what is not used and does not rest.
    pub fn record(&self, subject: &str, row: &SubjectRow, session: SessionId, now: Now) -> Record {
        let mut record = Record::new(subject, session, now.mono_ms);
        record.known = true;
        record.revision = u64::try_from(row.subscription_revision).unwrap_or_default();
        let entitlements = Entitlements { grants: self.grants.clone(), ..row.entitlements() };
        record.entitlements = serde_json::to_vec(&entitlements).unwrap_or_default();
        for LimitStood { limit, window, standing, resting } in &self.limits {
            let Some(kind) = AccountKind::of(&limit.kind).filter(|_| limit.units != UNLIMITED) else {
                continue;
            };
            let at = record.open(&limit.name, kind, *window);
            let Some(account) = record.accounts.get_mut(at) else { continue };
            let used = standing.as_ref().map_or(0, |standing| standing.used);
            account.take(used, AccountKind::rest_ms(&limit.kind), limit.units, now.mono_ms);
            for (free_at, units) in resting {
                let rest_ms = u64::try_from(free_at.saturating_sub(now.wall_ms)).unwrap_or(0);
                account.take(*units, rest_ms, limit.units, now.mono_ms);
            }
        }
        record
    }

    /// What a request needs of those that it touches.
    pub fn uses(&self, policy: &CompiledPolicy, bill: &Bill, scope: Scope, bypass: bool) -> Vec<LimitUse> {
        let of_scope = self.limits.iter().filter(|stood| stood.limit.scope == scope);
        of_scope.filter_map(|stood| stood.use_of(policy, bill, bypass)).collect()
    }
}

impl LimitStood {
    fn use_of(&self, policy: &CompiledPolicy, bill: &Bill, bypass: bool) -> Option<LimitUse> {
        let limit = &self.limit;
        let (mut needed, mut released, mut enforcement) = (0_u64, 0_u64, None::<Enforcement>);
        for line in bill.lines.iter().filter(|line| limit.is_of_route(&line.route)) {
            let Some(touched) = touch(limit, line, bill) else { continue };
            match touched {
                Touch::Needs(units) if limit.meter.is_none() => needed = units,
                Touch::Needs(units) => needed = needed.saturating_add(units),
                Touch::Releases(units) => released = released.saturating_add(units),
            }
            let holds = match bypass {
                true => Enforcement::Off,
                false => policy.enforcement_of(&line.route, Some(limit)),
            };
            enforcement = Some(enforcement.map_or(holds, |known| known.strictest(holds)));
        }
        let used = self.standing.as_ref().map_or(0, |standing| standing.used);
        let resting = self.resting.iter().fold(0_u64, |sum, (_, units)| sum.saturating_add(*units));
        Some(LimitUse {
            remaining: limit.units.saturating_sub(used).saturating_sub(resting),
            limit: limit.clone(),
            standing: self.standing.clone(),
            resting,
            needed,
            released,
            enforcement: enforcement?,
        })
    }
}

enum Touch {
    Needs(u64),
    Releases(u64),
}

/// What a line of a bill has to do with a limit of its route; nothing where its meter is not charged there.
fn touch(limit: &CompiledLimit, line: &Line, bill: &Bill) -> Option<Touch> {
    let Some(meter) = limit.meter else {
        return Some(Touch::Needs(match limit.kind {
            LimitKind::Size => bill.body_bytes.unwrap_or(0),
            _ => 1,
        }));
    };
    let at = line.route.charges.iter().position(|charge| charge.meter == meter)?;
    match line.route.charges.get(at).is_some_and(|charge| charge.release) {
        false => Some(Touch::Needs(line.units(at))),
        // Only what exists can be given back.
        true => matches!(limit.kind, LimitKind::Capacity).then(|| Touch::Releases(line.units(at))),
    }
}

/// What an explanation of these limits cannot know.
pub(super) fn notes(limits: &[LimitUse]) -> Vec<String> {
    let mut notes = Vec::new();
    if limits
        .iter()
        .any(|known| known.standing.as_ref().is_some_and(|standing| standing.leased > known.resting))
    {
        let note = "Units that edges hold and have not reported as used (`leased`) count as free: whichever edge has them \
                    may use them, and another one waits a moment until they are given back.";
        notes.push(note.to_owned());
    }
    if limits
        .iter()
        .any(|known| matches!(known.limit.kind, LimitKind::Rate { .. } | LimitKind::Bucket { .. }))
    {
        let note =
            "What was used of a rate in this moment's window is known to the edges alone; it counts as free.";
        notes.push(note.to_owned());
    }
    notes
}
