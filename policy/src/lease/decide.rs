//! What an edge does with one request: all its limits together, or none.

use super::account::Account;
use super::record::Record;

/// What one request needs of one account of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Demand {
    /// Position in [`Record::accounts`].
    pub account: usize,
    /// Units that the request costs.
    pub units: u64,
    /// The limit's maximum for this subject.
    pub limit_units: u64,
    /// A rate's window, ms; not read for a quota.
    pub window_ms: u64,
}

/// What happens to the request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It passes; its units are taken.
    Admit,
    /// It is refused for certain; nothing is taken.
    Refuse(Refusal),
    /// The edge does not know: it has nothing left of a limit that may have units elsewhere. Nothing is taken.
    Ask,
}

/// Which demand cannot be met, and when trying again makes sense.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Refusal {
    /// Position in the demands.
    pub demand: usize,
    /// From now until a unit is free again for certain or in all likelihood, ms. At least 1.
    pub retry_after_ms: u64,
    /// The request costs more than the limit's maximum: no waiting helps.
    pub never: bool,
}

/// What an admitted or refused request learns of one of its limits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Admission {
    /// Units that remain, as far as this edge can know: its own free ones and those that no edge held.
    pub remaining: u64,
    /// From now until units come back, ms.
    pub reset_ms: u64,
}

impl Admission {
    /// Of the demand's `account` after a decision.
    pub fn of(account: &Account, demand: &Demand, now_ms: i64, mono_ms: u64) -> Self {
        let reset_ms = if account.is_rate() {
            account.rest.freed_at_ms(1).map_or(demand.window_ms, |end_ms| end_ms.saturating_sub(mono_ms))
        } else {
            u64::try_from(account.window_end_ms.saturating_sub(now_ms)).unwrap_or(0)
        };
        let remaining = account.free_within(demand.limit_units).saturating_add(account.unleased);
        Self { remaining: remaining.min(demand.limit_units), reset_ms }
    }
}

/// When nothing is known of the units that other edges hold, a caller is told to try again after this, ms: units idle
/// elsewhere are free again within about a second.
const RETRY_UNKNOWN_MS: u64 = 1_000;

/// Decides, and takes the units of all demands if all can be met. `valid` says whether the edge's lease is valid at
/// `mono_ms`. Refuses only what is refused for certain; the first demand in order that is, is named.
pub fn decide(record: &mut Record, demands: &[Demand], valid: bool, now_ms: i64, mono_ms: u64) -> Verdict {
    let mut ask = false;
    for (position, demand) in demands.iter().enumerate() {
        let Some(account) = record.accounts.get_mut(demand.account) else {
            return Verdict::Ask;
        };
        account.rest.expire(mono_ms);
        let before =
            demands.get(..position).unwrap_or_default().iter().filter(|d| d.account == demand.account);
        let units = before.fold(demand.units, |sum, d| sum.saturating_add(d.units));
        if demand.units > demand.limit_units {
            return Verdict::Refuse(Refusal {
                demand: position,
                retry_after_ms: retry_after_ms(account, demand, now_ms, mono_ms),
                never: true,
            });
        }
        if !valid {
            ask = true;
        } else if account.free_within(demand.limit_units) < units {
            // With the whole limit in this edge's hands, or an answer of just now, there is nobody to ask.
            let certain = account.held() >= demand.limit_units || mono_ms < account.empty_until_ms;
            if certain {
                return Verdict::Refuse(Refusal {
                    demand: position,
                    retry_after_ms: retry_after_ms(account, demand, now_ms, mono_ms),
                    never: false,
                });
            }
            ask = true;
        }
    }
    // A lease that has run out says nothing about a request that costs nothing.
    if ask {
        return Verdict::Ask;
    }
    take(record, demands, mono_ms);
    Verdict::Admit
}

/// The first demand that cannot be met from what this edge holds, as a refusal: for a caller that has asked and waited,
/// and knows now.
pub fn refuse(record: &Record, demands: &[Demand], now_ms: i64, mono_ms: u64) -> Refusal {
    let short = demands.iter().enumerate().find_map(|(position, demand)| {
        let account = record.accounts.get(demand.account)?;
        // Not for certain: other edges may hold units that they do not need, and giving them back takes a moment.
        let never = demand.units > demand.limit_units;
        let certain = never || account.held() >= demand.limit_units || mono_ms < account.empty_until_ms;
        let retry_after_ms =
            if certain { retry_after_ms(account, demand, now_ms, mono_ms) } else { RETRY_UNKNOWN_MS };
        (account.free_within(demand.limit_units) < demand.units).then_some(Refusal {
            demand: position,
            retry_after_ms,
            never,
        })
    });
    short.unwrap_or(Refusal { demand: 0, retry_after_ms: RETRY_UNKNOWN_MS, never: false })
}

/// Takes the units of all demands without asking whether they are free: only for a policy that says `open`.
pub fn take(record: &mut Record, demands: &[Demand], mono_ms: u64) {
    for demand in demands {
        if let Some(account) = record.accounts.get_mut(demand.account) {
            account.take(demand.units, demand.window_ms, demand.limit_units, mono_ms);
        }
    }
}

fn retry_after_ms(account: &Account, demand: &Demand, now_ms: i64, mono_ms: u64) -> u64 {
    let wait_ms = if account.is_rate() {
        let held = account.held().min(demand.limit_units);
        let missing = account.resting().saturating_add(demand.units).saturating_sub(held);
        account.rest.freed_at_ms(missing).map_or(RETRY_UNKNOWN_MS, |end_ms| end_ms.saturating_sub(mono_ms))
    } else {
        u64::try_from(account.window_end_ms.saturating_sub(now_ms)).unwrap_or(0)
    };
    wait_ms.max(1)
}

#[cfg(test)]
mod tests;
