//! The edge's side of one subject: all its accounts and its usage, in one record, so that a request needs one read and
//! one swap of the proxy's shared memory.

use super::account::Account;
use super::kind::{AccountKind, CAPACITY_WINDOW};
use super::name::Name;
use super::things::{THINGS_MAX, ThingEvent};
use crate::label;
use crate::subscription::Entitlements;
use crate::thing::ThingId;
use crate::window::Window;
use crate::wire::{AccountAnswer, SubjectAnswer, SubjectReport, ThingReport, UsageReport};

/// The id of an edge session: a new one whenever the edge's memory was lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct SessionId(pub [u8; 16]);

impl std::fmt::Display for SessionId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// Usage of one meter, and of one text of labels, in one hour, in this session.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Usage {
    /// The meter's name.
    pub meter: Name,
    /// Start of the hour, Unix ms.
    pub hour_ms: i64,
    /// By what they are told apart: see [`crate::label`]. Empty where they are not.
    pub labels: Box<str>,
    /// Units charged in all.
    pub taken: u64,
    /// Units of them refunded in all.
    pub freed: u64,
}

/// Length of a usage window, ms.
pub const HOUR_MS: i64 = 3_600_000;

/// How long after an hour ended its usage may still be refunded, ms. Longer than a request may take.
const USAGE_LINGER_MS: i64 = 300_000;

/// Most different texts of labels of one meter in one hour; what has others is counted together.
pub const LABEL_TEXTS_MAX: usize = 32;

/// Most entries of usage with labels in a record, and most bytes of their labels: callers choose labels, and a bucket of
/// records and a report are bounded.
const LABELLED_MAX: usize = 256;
const LABELLED_BYTES_MAX: usize = 12_288;

/// Numbers of a thing's events in a millisecond. A monotonic clock of 200 years stays within what JSON's readers can count.
const SEQS_A_MS: u64 = 1_000;

/// An edge's memory of one subject.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Record {
    /// `user:alice`, `org:acme`.
    pub subject: String,
    /// The session that the numbers belong to.
    pub session: SessionId,
    /// When this record was made (monotonic ms). An answer is merged only into the record whose report it answers: one
    /// that was dropped and made anew in between may have given units back that the old answer still counts.
    pub born_ms: u64,
    /// The control plane has answered for this subject in this session.
    pub known: bool,
    /// Rises with each change of the entitlements.
    pub revision: u64,
    /// The entitlements as JSON, or empty where there are none: kept as bytes, since a request parses them only when the
    /// revision changed.
    pub entitlements: Vec<u8>,
    /// The tier that the verified token last claimed, or empty.
    pub tier_claim: String,
    /// Limits, by name and window.
    pub accounts: Vec<Account>,
    /// Usage, by meter and hour.
    pub usage: Vec<Usage>,
    /// The last event of a thing.
    pub things_seq: u64,
    /// What came and went by id and has not been told, in order; at most [`THINGS_MAX`].
    pub things: Vec<ThingEvent>,
}

impl Usage {
    fn is(&self, meter: &str, labels: &str, hour_ms: i64) -> bool {
        self.hour_ms == hour_ms && self.meter == *meter && *self.labels == *labels
    }

    fn is_told(&self, told: &UsageReport) -> bool {
        self.is(&told.meter, &told.labels, told.hour) && (told.taken, told.freed) == (self.taken, self.freed)
    }
}

fn hour_of(moment_ms: i64) -> i64 {
    moment_ms.div_euclid(HOUR_MS).saturating_mul(HOUR_MS)
}

impl Record {
    /// An empty record.
    pub fn new(subject: &str, session: SessionId, born_ms: u64) -> Self {
        Self { subject: subject.to_owned(), session, born_ms, ..Self::default() }
    }

    /// The entitlements; none where there are none (or the bytes are not any, which only a fault could cause).
    pub fn parse_entitlements(&self) -> Entitlements {
        serde_json::from_slice(&self.entitlements).unwrap_or_default()
    }

    /// The position of the account of `limit` in the window that starts at `window_start_ms`.
    pub fn account(&self, limit: &str, window_start_ms: i64) -> Option<usize> {
        self.accounts.iter().position(|a| a.window_start_ms == window_start_ms && a.limit == *limit)
    }

    /// The position of the account of `limit` in `window`, which is opened if it is missing.
    pub fn open(&mut self, limit: &str, kind: AccountKind, window: Window) -> usize {
        let at = self.account(limit, window.start_ms).unwrap_or_else(|| {
            self.accounts.push(Account::new(limit, kind, window));
            self.accounts.len() - 1
        });
        if let Some(account) = self.accounts.get_mut(at) {
            // A new policy may end the window elsewhere, or refill a bucket in another time.
            (account.kind, account.window_end_ms) = (kind, window.end_ms);
        }
        at
    }

    /// Remembers that a thing was added or removed, until it is told. `false`: too much waits to be told already. An addition
    /// then counts all the same, and the control plane will not know the thing when it is removed.
    #[must_use]
    pub fn note_thing(&mut self, meter: &str, id: ThingId, units: u64, present: bool, mono_ms: u64) -> bool {
        if self.things.len() >= THINGS_MAX {
            return false;
        }
        // By the clock, so that a record that is dropped and made anew does not number its events like those before.
        self.things_seq = self.things_seq.saturating_add(1).max(mono_ms.saturating_mul(SEQS_A_MS));
        self.things.push(ThingEvent { seq: self.things_seq, meter: meter.into(), id, units, present });
        true
    }

    /// Counts `units` of `meter` under `labels` in the hour of `now_ms` (Unix ms).
    pub fn count(&mut self, meter: &str, labels: &str, units: u64, now_ms: i64) {
        if let Some(usage) = self.usage_in(meter, labels, hour_of(now_ms)) {
            usage.taken = usage.taken.saturating_add(units);
        }
    }

    /// Takes back `units` of `meter` counted under `labels` at `counted_at_ms`; answers how many.
    pub fn uncount(&mut self, meter: &str, labels: &str, units: u64, counted_at_ms: i64) -> u64 {
        let hour_ms = hour_of(counted_at_ms);
        let mut left = units;
        // What did not find room under its own labels was counted together.
        let others = (!labels.is_empty()).then(|| label::others(labels));
        for labels in [Some(labels), others.as_deref()].into_iter().flatten() {
            let found = self.usage.iter_mut().find(|u| u.is(meter, labels, hour_ms));
            if let Some(usage) = found.filter(|_| left > 0) {
                let freed = left.min(usage.taken.saturating_sub(usage.freed));
                usage.freed = usage.freed.saturating_add(freed);
                left -= freed;
            }
        }
        units - left
    }

    /// Counts `units` of `meter` that were released in the hour of `now_ms` (Unix ms): in an hour more may be released than
    /// was added.
    pub fn count_released(&mut self, meter: &str, labels: &str, units: u64, now_ms: i64) {
        if let Some(usage) = self.usage_in(meter, labels, hour_of(now_ms)) {
            usage.freed = usage.freed.saturating_add(units);
        }
    }

    /// The entry of usage, made if it is missing.
    fn usage_in(&mut self, meter: &str, labels: &str, hour_ms: i64) -> Option<&mut Usage> {
        let position =
            |usage: &[Usage], labels: &str| usage.iter().rposition(|u| u.is(meter, labels, hour_ms));
        let mut at = position(&self.usage, labels);
        if at.is_none() {
            let others = (!self.has_room_for(meter, labels, hour_ms)).then(|| label::others(labels));
            let labels = others.as_deref().unwrap_or(labels);
            at = position(&self.usage, labels);
            if at.is_none() {
                let (meter, labels) = (meter.into(), labels.into());
                self.usage.push(Usage { meter, hour_ms, labels, taken: 0, freed: 0 });
                return self.usage.last_mut();
            }
        }
        at.and_then(|at| self.usage.get_mut(at))
    }

    /// Whether one more text of labels may be told apart.
    fn has_room_for(&self, meter: &str, labels: &str, hour_ms: i64) -> bool {
        if labels.is_empty() {
            return true;
        }
        let labelled = || self.usage.iter().filter(|usage| !usage.labels.is_empty());
        let of_hour = labelled().filter(|usage| usage.hour_ms == hour_ms && usage.meter == *meter).count();
        let bytes = labelled().map(|usage| usage.labels.len()).sum::<usize>();
        of_hour < LABEL_TEXTS_MAX
            && labelled().count() < LABELLED_MAX
            && bytes + labels.len() <= LABELLED_BYTES_MAX
    }

    /// As [`Record::report`], of a session that goes on. Until the control plane has answered it may know more of the session
    /// than this record, which may have been made anew: merged by max, what was taken since would vanish behind that. So it
    /// is told afterwards, on top.
    pub fn report_open(&self, more: impl FnMut(&Account) -> u64) -> SubjectReport {
        let mut report = self.report(more);
        if !self.known {
            for account in &mut report.accounts {
                (account.taken, account.freed, account.removed, account.returned) = (0, 0, 0, 0);
            }
        }
        report
    }

    /// What the edge tells the control plane; `more` says how many units it wants on top, for each account.
    pub fn report(&self, mut more: impl FnMut(&Account) -> u64) -> SubjectReport {
        SubjectReport {
            subject: self.subject.clone(),
            tier_claim: (!self.tier_claim.is_empty()).then(|| self.tier_claim.clone()),
            revision: self.known.then_some(self.revision),
            accounts: self.accounts.iter().map(|account| account.report(more(account))).collect(),
            usage: self
                .usage
                .iter()
                .map(|u| UsageReport {
                    meter: u.meter.to_string(),
                    hour: u.hour_ms,
                    labels: u.labels.to_string(),
                    taken: u.taken,
                    freed: u.freed,
                })
                .collect(),
            things: self
                .things
                .iter()
                .map(|event| ThingReport {
                    seq: event.seq,
                    meter: event.meter.to_string(),
                    id: event.id,
                    units: event.units,
                    present: event.present,
                })
                .collect(),
        }
    }

    /// Merges an answer that was given to this record's session. `report` is what it answers, and `asked_ms` (monotonic) when
    /// it was sent. Entitlements go by their revision, numbers by max, so that a late answer undoes nothing.
    pub fn merge(&mut self, report: &SubjectReport, answer: &SubjectAnswer, asked_ms: u64, mono_ms: u64) {
        let changed = answer.revision > self.revision;
        let was_known = self.known;
        if let Some(entitlements) = &answer.entitlements
            && (changed || (!self.known && answer.revision >= self.revision))
        {
            self.known = true;
            self.revision = answer.revision;
            self.entitlements = match *entitlements == Entitlements::default() {
                true => Vec::new(),
                false => serde_json::to_vec(entitlements).unwrap_or_default(),
            };
        }
        if self.known && !was_known {
            self.pick_up(&answer.accounts);
        }
        self.things_seq = self.things_seq.max(answer.things_seq);
        self.things.retain(|event| event.seq > answer.things_seq);
        for told in &answer.accounts {
            let asked = report
                .accounts
                .iter()
                .any(|r| r.limit == told.limit && r.window == told.window && r.want > told.granted);
            let account = self.account(&told.limit, told.window).and_then(|at| self.accounts.get_mut(at));
            if let Some(account) = account {
                account.merge(told, asked.then_some(asked_ms), mono_ms);
            }
        }
        if changed {
            // "Nothing is free" was said of the old maximum.
            self.accounts.iter_mut().for_each(|account| account.empty_until_ms = 0);
        }
    }

    /// Takes up what this session had taken before its record was dropped. Accounts that are counted are opened: a request of
    /// a limit that refuses nobody takes units at once, and would count them from zero. To what was taken since, while nobody
    /// could be asked, it is added: that has not been reported (see [`Record::report_open`]).
    fn pick_up(&mut self, told: &[AccountAnswer]) {
        for told in told {
            if let Some(account) =
                self.account(&told.limit, told.window).and_then(|at| self.accounts.get_mut(at))
            {
                account.taken = account.taken.saturating_add(told.taken);
                account.freed = account.freed.saturating_add(told.freed);
                account.removed = account.removed.saturating_add(told.removed);
                continue;
            }
            let (kind, end_ms) = match told.end {
                Some(end_ms) => (AccountKind::Quota, end_ms),
                None if told.window == CAPACITY_WINDOW => (AccountKind::Capacity, i64::MAX),
                None => continue,
            };
            self.open(&told.limit, kind, Window { start_ms: told.window, end_ms });
        }
    }

    /// Drops what is over and has been told: `told` is the last report that was answered. Never drops a number that the
    /// control plane does not have.
    pub fn forget_told(&mut self, told: &SubjectReport, now_ms: i64) {
        self.accounts.retain(|a| {
            let over = a.window_end_ms.saturating_add(USAGE_LINGER_MS) <= now_ms;
            !(over && told.accounts.iter().any(|t| a.is_told(t)))
        });
        self.usage.retain(|u| {
            let over = u.hour_ms.saturating_add(HOUR_MS + USAGE_LINGER_MS) <= now_ms;
            !(over && told.usage.iter().any(|t| u.is_told(t)))
        });
    }

    /// Whether the control plane has all of this record's numbers: `told` is the last report of it that was answered.
    /// A record that is dropped while it is not told comes back with fewer units used than were.
    pub fn is_told(&self, told: &SubjectReport) -> bool {
        self.things.is_empty()
            && self.accounts.iter().all(|a| told.accounts.iter().any(|t| a.is_told(t)))
            && self.usage.iter().all(|u| told.usage.iter().any(|t| u.is_told(t)))
    }

    /// Whether the whole record may be dropped, if also [`Record::is_told`]: nothing of it is held, rests, or counts in an hour that goes on.
    /// The accounts' numbers must have been told; the control plane answers them again when the subject comes back.
    pub fn is_idle(&mut self, mono_ms: u64) -> bool {
        self.usage.is_empty()
            && self.accounts.iter_mut().all(|account| {
                account.settle(mono_ms);
                account.is_idle()
            })
    }
}

#[cfg(test)]
mod tests;
