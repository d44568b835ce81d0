//! Requests that wait: asked for together, decided again when an answer is there, and not kept for longer than they may.

use std::collections::{HashMap, HashSet};
use std::rc::Rc;

use tollgate_policy::decision::{Denial, Mode, Now};

use super::{Edge, RECALL_RETRY_MS};
use crate::request::{Identified, Rpc};
use crate::sync::{Effect, Occasion};
use crate::wait::{Cause, Waiter};

/// A question is repeated at once so often: a subject's record may have to be told, begun anew and filled.
const ROUNDS_AT_ONCE: u32 = 4;

impl Edge {
    pub(super) fn on_effect(&self, subject: &Rc<str>, effect: Effect, now: Now) {
        let (answered, pending) = match effect {
            Effect::Merged { pending, .. } => (true, pending),
            Effect::Again => (false, false),
        };
        for waiter in self.waiting.take(|waiter| waiter.cause == Cause::Subject(subject.clone())) {
            self.host.select_stream(waiter.request.stream);
            waiter.request.decide(now, Mode::Leased { valid: self.lease_is_valid(now) });
            let pause_ms = if pending || waiter.rounds >= ROUNDS_AT_ONCE { RECALL_RETRY_MS } else { 0 };
            let retry_at_ms = now.mono_ms.saturating_add(pause_ms);
            self.waiting.resume(waiter.request.stream, &waiter, answered, retry_at_ms);
        }
    }

    pub(super) fn serve_waiting(&self, now: Now) {
        if self.waiting.is_empty() {
            return;
        }
        for waiter in self.waiting.take(|waiter| waiter.is_late(now)) {
            self.host.select_stream(waiter.request.stream);
            match waiter.cause {
                Cause::Policy => drop(waiter.request.deny(&Denial::no_policy(), None, Rpc::NONE)),
                Cause::Key => waiter.request.go_without_keys(now),
                Cause::Subject(_) if waiter.answered => {
                    waiter.request.decide(now, Mode::Answered { valid: self.lease_is_valid(now) });
                    // What still cannot be decided after an answer and a long wait is not decided better by waiting.
                    for waiter in self.waiting.take(|again| again.request.stream == waiter.request.stream) {
                        self.without_control_plane(&waiter, now);
                    }
                }
                Cause::Subject(_) => self.without_control_plane(&waiter, now),
            }
        }
        let mut asking: HashMap<Rc<str>, Vec<Rc<Identified>>> = HashMap::new();
        let mut in_flight = HashSet::new();
        self.waiting.each(|waiter| {
            if let (Cause::Subject(subject), true) = (&waiter.cause, waiter.asked) {
                in_flight.insert(subject.clone());
            }
        });
        self.waiting.each(|waiter| {
            let Cause::Subject(subject) = &waiter.cause else { return };
            if waiter.asked || in_flight.contains(subject) || now.mono_ms < waiter.retry_at_ms {
                return;
            }
            if let Some(of) = waiter.request.identified() {
                waiter.asked = true;
                asking.entry(subject.clone()).or_default().push(of);
            }
        });
        if asking.is_empty() {
            return;
        }
        if now.mono_ms < self.lost_until_ms.get() {
            let asked =
                |w: &Waiter| matches!(&w.cause, Cause::Subject(subject) if asking.contains_key(subject));
            for waiter in self.waiting.take(|waiter| waiter.asked && asked(waiter)) {
                self.without_control_plane(&waiter, now);
            }
            return;
        }
        let subjects: Vec<Rc<str>> = asking.keys().cloned().collect();
        self.metrics.add(&*self.host, "tollgate.asks", 1);
        let stuck = self.send_sync(&subjects, now, Occasion::Urgent, &|record| {
            let mut needs: HashMap<usize, u64> = HashMap::new();
            for of in asking.get(record.subject.as_str()).into_iter().flatten() {
                let question = of.question(self, now);
                // A member's record is asked about by its organisation's plan.
                let plan = if *record.subject == *of.identity.subject {
                    None
                } else {
                    match &*of.identity.plan.borrow() {
                        Some(kept) => Some(kept.plan.clone()),
                        None => continue,
                    }
                };
                for (account, units) in question.needs(record, plan.as_ref()) {
                    let sum = needs.entry(account).or_default();
                    *sum = sum.saturating_add(units);
                }
            }
            let wants = record.accounts.iter_mut().enumerate().map(|(at, account)| {
                account.settle(now.mono_ms);
                needs.get(&at).filter(|units| **units > 0).map_or(0, |units| account.missing(*units))
            });
            wants.collect()
        });
        for subject in stuck {
            for waiter in self.waiting.take(|w| w.asked && w.cause == Cause::Subject(subject.clone())) {
                self.host.select_stream(waiter.request.stream);
                if let Some(of) = waiter.request.identified() {
                    waiter.request.refuse_identified(&Denial::busy(), &of);
                }
            }
        }
    }

    /// The control plane cannot be asked: the policy says, for each limit, what happens.
    pub(super) fn without_control_plane(&self, waiter: &Waiter, now: Now) {
        let Some(of) = waiter.request.identified() else { return };
        self.host.select_stream(waiter.request.stream);
        waiter.request.decide(now, Mode::Debt { valid: self.lease_is_valid(now) });
        // What waits again after that waits for nothing.
        for again in self.waiting.take(|again| again.request.stream == waiter.request.stream) {
            again.request.refuse_identified(&Denial::control_plane_lost(), &of);
        }
    }
}
