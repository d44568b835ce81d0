//! What a request takes of its subject's record, and of its member's: all together or nothing; and what is settled or
//! taken back later.

use std::rc::Rc;

use tollgate_policy::decision::{Admitted, Denial, Ending, Mode, Now, Outcome, Question, Reservation};
use tollgate_policy::lease::Record;

use super::Edge;
use crate::identity::Member;
use crate::records::{Change, Key, Records, Stuck};
use crate::request::{Identified, Reservations};

/// What is to be done with an identified request.
pub enum Decision {
    /// It passes.
    Admit {
        /// By its subject's record.
        admitted: Box<Admitted>,
        /// What it took of its member's.
        member: Option<Reservation>,
    },
    /// It is refused.
    Deny(Box<Denial>),
    /// The control plane must be asked about this subject.
    Ask(Rc<str>),
}

impl Edge {
    /// Decides an identified request, in one read and one swap of its subject's record; where limits of each member of an
    /// organisation are touched, in those of the member's record too.
    pub fn decide(&self, of: &Identified, mode: Mode, now: Now) -> Result<Decision, Stuck> {
        let question = of.question(self, now);
        let member = match &of.identity.member {
            Some(member) if of.policy.compiled.limits_members => {
                self.decide_member(of, member, &question, mode)?
            }
            _ => None,
        };
        let member = match member {
            None => None,
            Some(Decision::Admit { admitted, .. }) => Some(*admitted),
            Some(refused) => return Ok(refused),
        };
        let subject = &of.identity.subject;
        let outcome =
            self.update(&of.identity.key, subject, &question, mode, |record| question.decide(record, mode));
        match outcome {
            Ok(Outcome::Admit(mut admitted)) => {
                let reservation = member.map(|member| admitted.join(member));
                Ok(Decision::Admit { admitted, member: reservation })
            }
            other => {
                // All limits of a request are taken together or none is.
                if let (Some(member), Some(at)) = (member, &of.identity.member) {
                    self.undo_one(of, &at.key, &at.subject, &member.reservation);
                }
                Ok(match other? {
                    Outcome::Deny(denial) => Decision::Deny(denial),
                    _ => Decision::Ask(subject.clone()),
                })
            }
        }
    }

    /// `None`: the request touches no limit of each member.
    fn decide_member(
        &self,
        of: &Identified,
        member: &Member,
        question: &Question<'_>,
        mode: Mode,
    ) -> Result<Option<Decision>, Stuck> {
        let plan = Records::update(&*self.host, &of.identity.key, &of.identity.subject, |record| {
            let record = question.begun(record, &of.identity.subject, mode);
            (Change::Keep, record.and_then(|mut record| question.member_plan(&mut record, mode)))
        })?;
        let Some(plan) = plan else { return Ok(None) };
        let decide = |record: &mut Record| question.decide_member(record, &plan, mode);
        Ok(Some(match self.update(&member.key, &member.subject, question, mode, decide)? {
            Outcome::Admit(admitted) => Decision::Admit { admitted, member: None },
            Outcome::Deny(denial) => Decision::Deny(denial),
            Outcome::Ask => Decision::Ask(member.subject.clone()),
        }))
    }

    /// Decides on one record, and writes it where the request is admitted.
    fn update(
        &self,
        key: &Key,
        subject: &str,
        question: &Question<'_>,
        mode: Mode,
        decide: impl Fn(&mut Record) -> Outcome,
    ) -> Result<Outcome, Stuck> {
        Records::update(&*self.host, key, subject, |record| {
            let Some(mut record) = question.begun(record, subject, mode) else {
                return (Change::Keep, Outcome::Ask);
            };
            let outcome = decide(&mut record);
            let change =
                if matches!(outcome, Outcome::Admit(_)) { Change::Put(record) } else { Change::Keep };
            (change, outcome)
        })
    }

    /// Settles what a request took, now that its end is known.
    pub fn settle(&self, of: &Identified, reservations: &Reservations, ending: &Ending<'_>) {
        let now = self.host.now();
        let identity = &of.identity;
        let settle = |reservation: &Reservation, key: &Key, subject: &str| {
            let settled = Records::update(&*self.host, key, subject, |record| {
                // One that had nothing to remember was dropped meanwhile; what the response says is counted all the same.
                let before = record.unwrap_or_else(|| Record::new(subject, self.session.id(), now.mono_ms));
                let mut record = before.clone();
                let unheard = reservation.settle(&of.policy.compiled, &of.bill, &mut record, ending, now);
                (if record == before { Change::Keep } else { Change::Put(record) }, unheard)
            });
            if let Ok(unheard @ 1..) = settled {
                self.metrics.add(
                    &*self.host,
                    "tollgate.things.unheard",
                    i64::try_from(unheard).unwrap_or(i64::MAX),
                );
            }
            self.note_stuck(settled.map(|_| ()));
        };
        settle(&reservations.subject, &identity.key, &identity.subject);
        if let (Some(reservation), Some(member)) = (&reservations.member, &identity.member) {
            settle(reservation, &member.key, &member.subject);
        }
        self.touch(of);
    }

    /// Takes back what a request took, as if it had never been.
    pub fn undo(&self, of: &Identified, reservations: &Reservations) {
        self.undo_one(of, &of.identity.key, &of.identity.subject, &reservations.subject);
        if let (Some(reservation), Some(member)) = (&reservations.member, &of.identity.member) {
            self.undo_one(of, &member.key, &member.subject, reservation);
        }
        self.touch(of);
    }

    fn undo_one(&self, of: &Identified, key: &Key, subject: &str, reservation: &Reservation) {
        let undone = Records::update(&*self.host, key, subject, |record| match record {
            Some(mut record) => {
                reservation.undo(&of.policy.compiled, &of.bill, &mut record);
                (Change::Put(record), ())
            }
            None => (Change::Keep, ()),
        });
        self.note_stuck(undone);
    }

    /// A record that cannot be written keeps its charges: never a free pass.
    fn note_stuck(&self, written: Result<(), Stuck>) {
        if written.is_err() {
            self.metrics.add(&*self.host, "tollgate.records.stuck", 1);
        }
    }
}
