//! The edge's side of one subject: all its accounts and its usage, in one record, so that a request needs one read and
//! one swap of the proxy's shared memory.

use super::account::Account;
use crate::subscription::Subscription;
use crate::wire::{SubjectAnswer, SubjectReport, UsageReport};

/// The id of an edge session: a new one whenever the edge's memory was lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct SessionId(pub [u8; 16]);

impl std::fmt::Display for SessionId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// Usage of one meter in one hour, in this session.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Usage {
    /// The meter's name.
    pub meter: String,
    /// Start of the hour, Unix ms.
    pub hour_ms: i64,
    /// Units charged in all.
    pub taken: u64,
    /// Units of them refunded in all.
    pub freed: u64,
}

/// Length of a usage window, ms.
pub const HOUR_MS: i64 = 3_600_000;

/// How long after an hour ended its usage may still be refunded, ms. Longer than a request may take.
const USAGE_LINGER_MS: i64 = 300_000;

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
    /// Rises with each change of the subscription.
    pub subscription_revision: u64,
    /// The subscription as JSON, or empty: kept as bytes, since a request parses it only when the revision changed.
    pub subscription: Vec<u8>,
    /// The tier that the verified token last claimed, or empty.
    pub tier_claim: String,
    /// Limits, by name and window.
    pub accounts: Vec<Account>,
    /// Usage, by meter and hour.
    pub usage: Vec<Usage>,
}

impl Record {
    /// An empty record.
    pub fn new(subject: &str, session: SessionId, born_ms: u64) -> Self {
        Self { subject: subject.to_owned(), session, born_ms, ..Self::default() }
    }

    /// The subscription, or `None` when there is none (or the bytes are not one, which only a fault could cause).
    pub fn parse_subscription(&self) -> Option<Subscription> {
        serde_json::from_slice(&self.subscription).ok()
    }

    /// The position of the account of `limit` in the window that starts at `window_start_ms`.
    pub fn account(&self, limit: &str, window_start_ms: i64) -> Option<usize> {
        self.accounts.iter().position(|a| a.window_start_ms == window_start_ms && a.limit == limit)
    }

    /// Counts `units` of `meter` in the hour of `now_ms` (Unix ms).
    pub fn count(&mut self, meter: &str, units: u64, now_ms: i64) {
        let hour_ms = now_ms.div_euclid(HOUR_MS).saturating_mul(HOUR_MS);
        let usage = match self.usage.iter_mut().rposition(|u| u.hour_ms == hour_ms && u.meter == meter) {
            Some(at) => self.usage.get_mut(at),
            None => {
                self.usage.push(Usage { meter: meter.to_owned(), hour_ms, taken: 0, freed: 0 });
                self.usage.last_mut()
            }
        };
        if let Some(usage) = usage {
            usage.taken = usage.taken.saturating_add(units);
        }
    }

    /// Takes back `units` of `meter` counted at `counted_at_ms`.
    pub fn uncount(&mut self, meter: &str, units: u64, counted_at_ms: i64) {
        let hour_ms = counted_at_ms.div_euclid(HOUR_MS).saturating_mul(HOUR_MS);
        if let Some(usage) = self.usage.iter_mut().find(|u| u.hour_ms == hour_ms && u.meter == meter) {
            usage.freed = usage.freed.saturating_add(units).min(usage.taken);
        }
    }

    /// What the edge tells the control plane; `more` says how many units it wants on top, for each account.
    pub fn report(&self, more: impl Fn(&Account) -> u64) -> SubjectReport {
        SubjectReport {
            subject: self.subject.clone(),
            tier_claim: (!self.tier_claim.is_empty()).then(|| self.tier_claim.clone()),
            accounts: self.accounts.iter().map(|account| account.report(more(account))).collect(),
            usage: self
                .usage
                .iter()
                .map(|u| UsageReport {
                    meter: u.meter.clone(),
                    hour: u.hour_ms,
                    taken: u.taken,
                    freed: u.freed,
                })
                .collect(),
        }
    }

    /// Merges an answer that was given to this record's session. `report` is what it answers. Subscriptions go by their
    /// revision, numbers by max, so that a late answer undoes nothing.
    pub fn merge(&mut self, report: &SubjectReport, answer: &SubjectAnswer, mono_ms: u64) {
        self.known = true;
        let changed = answer.subscription_revision > self.subscription_revision;
        if changed
            || (self.subscription.is_empty() && answer.subscription_revision >= self.subscription_revision)
        {
            self.subscription_revision = answer.subscription_revision;
            self.subscription = answer
                .subscription
                .as_ref()
                .and_then(|subscription| serde_json::to_vec(subscription).ok())
                .unwrap_or_default();
        }
        for told in &answer.accounts {
            let asked = report
                .accounts
                .iter()
                .any(|r| r.limit == told.limit && r.window == told.window && r.want > told.granted);
            let account = self.account(&told.limit, told.window).and_then(|at| self.accounts.get_mut(at));
            if let Some(account) = account {
                account.merge(told, asked, mono_ms);
            }
        }
        if changed {
            // "Nothing is free" was said of the old maximum.
            self.accounts.iter_mut().for_each(|account| account.empty_until_ms = 0);
        }
    }

    /// Drops what is over and has been told: `told` is the last report that was answered. Never drops a number that the
    /// control plane does not have.
    pub fn forget_told(&mut self, told: &SubjectReport, now_ms: i64) {
        self.accounts.retain(|a| {
            let over = a.window_end_ms.saturating_add(USAGE_LINGER_MS) <= now_ms;
            let same = told.accounts.iter().any(|t| {
                t.limit == a.limit
                    && t.window == a.window_start_ms
                    && (t.taken, t.freed, t.returned) == (a.taken, a.freed, a.returned)
            });
            !(over && same)
        });
        self.usage.retain(|u| {
            let over = u.hour_ms.saturating_add(HOUR_MS + USAGE_LINGER_MS) <= now_ms;
            let same = told.usage.iter().any(|t| {
                t.meter == u.meter && t.hour == u.hour_ms && (t.taken, t.freed) == (u.taken, u.freed)
            });
            !(over && same)
        });
    }

    /// Whether the control plane has all of this record's numbers: `told` is the last report of it that was answered.
    /// A record that is dropped while it is not told comes back with fewer units used than were.
    pub fn is_told(&self, told: &SubjectReport) -> bool {
        let accounts = self.accounts.iter().all(|a| {
            told.accounts.iter().any(|t| {
                t.limit == a.limit
                    && t.window == a.window_start_ms
                    && (t.taken, t.freed, t.returned) == (a.taken, a.freed, a.returned)
            })
        });
        accounts
            && self.usage.iter().all(|u| {
                let same = |t: &UsageReport| {
                    t.meter == u.meter && t.hour == u.hour_ms && (t.taken, t.freed) == (u.taken, u.freed)
                };
                told.usage.iter().any(same)
            })
    }

    /// Whether the whole record may be dropped, if also [`Record::is_told`]: nothing of it is held, rests, or counts in an hour that goes on.
    /// The accounts' numbers must have been told; the control plane answers them again when the subject comes back.
    pub fn is_idle(&mut self, mono_ms: u64) -> bool {
        self.usage.is_empty()
            && self.accounts.iter_mut().all(|a| {
                a.rest.expire(mono_ms);
                if a.is_rate() { a.rest.units() == 0 && a.held() == 0 } else { a.free() == 0 }
            })
    }
}

#[cfg(test)]
mod tests;
