//! What an edge does with one request: all its limits together, or none.

use super::account::Account;
use super::kind::AccountKind;
use super::record::Record;

/// What one request needs of one account of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Demand {
    /// Position in [`Record::accounts`].
    pub account: usize,
    /// Units that the request costs.
    pub units: u64,
    /// The limit's maximum for this subject.
    pub limit_units: u64,
    /// How long a unit rests after its use, ms: see [`AccountKind::rest_ms`].
    pub window_ms: u64,
    /// What happens where the units are not there.
    pub on_short: OnShort,
}

/// What happens to a request where a demand's units are not there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OnShort {
    /// It does not pass.
    #[default]
    Refuse,
    /// It passes and takes them all the same: of a soft limit.
    Pass,
    /// It passes: of a limit that is only watched. Units that are not there for certain are not taken; those that may be
    /// elsewhere are, since nobody waits for the answer and demand must be told.
    Shadow,
}

/// What happens to the request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It passes; its units are taken.
    Admit {
        /// A bit for each demand, by position, whose units are not there for certain, and which passes all the same.
        over: u64,
    },
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
    /// From now until a unit is free again for certain or in all likelihood, ms. 0: no time makes a difference (a capacity, a
    /// lifetime).
    pub retry_after_ms: u64,
    /// The request costs more than the limit's maximum: no waiting helps.
    pub never: bool,
}

/// What an admitted or refused request learns of one of its limits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Admission {
    /// Units that remain, as far as this edge can know: its own free ones and those that no edge held.
    pub remaining: u64,
    /// From now until units come back, ms. 0 where no time says so: of a capacity, a lifetime, and requests in flight.
    pub reset_ms: u64,
}

impl Admission {
    /// Of the demand's `account` after a decision.
    pub fn of(account: &Account, demand: &Demand, now_ms: i64, mono_ms: u64) -> Self {
        let reset_ms = match account.kind {
            AccountKind::Quota => until_ms(account.window_end_ms, now_ms),
            AccountKind::Rate => {
                account.rest.freed_at_ms(1).map_or(demand.window_ms, |end_ms| end_ms.saturating_sub(mono_ms))
            }
            AccountKind::Bucket { refill_ms } => {
                let held = account.held().min(demand.limit_units);
                account.level.wait_ms(0, held).unwrap_or(refill_ms)
            }
            AccountKind::Concurrency | AccountKind::Capacity => 0,
        };
        // What nobody held was of the maximum at that time, which may have been a higher one.
        let unleased = match account.kind {
            AccountKind::Capacity => account.unleased,
            _ => account.unleased.min(demand.limit_units.saturating_sub(account.held())),
        };
        let remaining = account.free_within(demand.limit_units).saturating_add(unleased);
        Self { remaining: remaining.min(demand.limit_units), reset_ms }
    }
}

/// When nothing is known of the units that other edges hold, a caller is told to try again after this, ms: units idle
/// elsewhere are free again within about a second.
const RETRY_UNKNOWN_MS: u64 = 1_000;

/// Whether a demand's units are there.
enum Units {
    There,
    /// This edge does not hold them; another may.
    Unknown,
    /// Nobody has them.
    Missing {
        never: bool,
    },
}

/// Decides, and takes the units of all demands if all can be met. `valid` says whether the edge's lease is valid at
/// `mono_ms`. Refuses only what is refused for certain; the first demand in order that is, is named.
pub fn decide(record: &mut Record, demands: &[Demand], valid: bool, now_ms: i64, mono_ms: u64) -> Verdict {
    let (mut ask, mut over, mut untaken) = (false, 0, 0);
    for (position, demand) in demands.iter().enumerate() {
        let Some(account) = record.accounts.get_mut(demand.account) else {
            return Verdict::Ask;
        };
        account.settle_within(demand.limit_units, mono_ms);
        let demand = &with_those_before(demands, position, untaken);
        let units = if demand.units > demand.limit_units {
            Units::Missing { never: true }
        } else if !valid {
            // A lease that has run out says nothing about a request that costs nothing.
            Units::Unknown
        } else if account.free_within(demand.limit_units) >= demand.units {
            Units::There
        } else if account.holds_all(demand.limit_units) || mono_ms < account.empty_until_ms {
            // With the whole limit in this edge's hands, or an answer of just now, there is nobody to ask.
            Units::Missing { never: false }
        } else {
            Units::Unknown
        };
        match (units, demand.on_short) {
            (Units::There, _) | (Units::Unknown, OnShort::Pass | OnShort::Shadow) => {}
            (Units::Unknown, OnShort::Refuse) => ask = true,
            (Units::Missing { never }, OnShort::Refuse) => {
                let retry_after_ms = if never { 0 } else { retry_after_ms(account, demand, now_ms, mono_ms) };
                return Verdict::Refuse(Refusal { demand: position, retry_after_ms, never });
            }
            (Units::Missing { .. }, OnShort::Pass) => over |= bit(position),
            (Units::Missing { .. }, OnShort::Shadow) => {
                over |= bit(position);
                untaken |= bit(position);
            }
        }
    }
    if ask {
        return Verdict::Ask;
    }
    take_but(record, demands, untaken, mono_ms);
    Verdict::Admit { over }
}

/// The first demand that cannot be met from what this edge holds, as a refusal: for a caller that has asked and waited,
/// and knows now.
pub fn refuse(record: &Record, demands: &[Demand], now_ms: i64, mono_ms: u64) -> Refusal {
    let short = demands.iter().enumerate().find_map(|(position, demand)| {
        let account = record.accounts.get(demand.account)?;
        let demand = &with_those_before(demands, position, 0);
        // Not for certain: other edges may hold units that they do not need, and giving them back takes a moment.
        let never = demand.units > demand.limit_units;
        let certain = account.holds_all(demand.limit_units) || mono_ms < account.empty_until_ms;
        let retry_after_ms = match (never, certain) {
            (true, _) => 0,
            (false, true) => retry_after_ms(account, demand, now_ms, mono_ms),
            (false, false) => RETRY_UNKNOWN_MS,
        };
        let short = account.free_within(demand.limit_units) < demand.units;
        (short && demand.on_short == OnShort::Refuse).then_some(Refusal {
            demand: position,
            retry_after_ms,
            never,
        })
    });
    short.unwrap_or(Refusal { demand: 0, retry_after_ms: RETRY_UNKNOWN_MS, never: false })
}

/// A demand with the units of those before it on the same account, which come out of the same hand.
fn with_those_before(demands: &[Demand], position: usize, untaken: u64) -> Demand {
    let Some(demand) = demands.get(position) else { return Demand::default() };
    let before = demands.iter().enumerate().take(position);
    let before = before.filter(|(at, d)| d.account == demand.account && untaken & bit(*at) == 0);
    let units = before.fold(demand.units, |sum, (_, d)| sum.saturating_add(d.units));
    Demand { units, ..*demand }
}

/// Takes the units of all demands without asking whether they are free: only for a policy that says `open`.
pub fn take(record: &mut Record, demands: &[Demand], mono_ms: u64) {
    take_but(record, demands, 0, mono_ms);
}

fn take_but(record: &mut Record, demands: &[Demand], untaken: u64, mono_ms: u64) {
    for (position, demand) in demands.iter().enumerate() {
        if untaken & bit(position) != 0 {
            continue;
        }
        if let Some(account) = record.accounts.get_mut(demand.account) {
            account.take(demand.units, demand.window_ms, demand.limit_units, mono_ms);
        }
    }
}

/// A request has far fewer demands than 64; what lies beyond has no bit, and is taken.
fn bit(position: usize) -> u64 {
    u32::try_from(position).ok().and_then(|position| 1_u64.checked_shl(position)).unwrap_or(0)
}

fn retry_after_ms(account: &Account, demand: &Demand, now_ms: i64, mono_ms: u64) -> u64 {
    let held = account.held().min(demand.limit_units);
    let wait_ms = match account.kind {
        AccountKind::Quota if account.window_end_ms >= END_OF_TIME_MS => return 0,
        AccountKind::Quota => until_ms(account.window_end_ms, now_ms),
        AccountKind::Capacity => return 0,
        AccountKind::Concurrency => RETRY_UNKNOWN_MS,
        AccountKind::Rate => {
            let missing = account.resting().saturating_add(demand.units).saturating_sub(held);
            let end_ms = account.rest.freed_at_ms(missing);
            end_ms.map_or(RETRY_UNKNOWN_MS, |end_ms| end_ms.saturating_sub(mono_ms))
        }
        AccountKind::Bucket { .. } => {
            let owed_max = held.checked_sub(demand.units);
            owed_max.and_then(|units| account.level.wait_ms(units, held)).unwrap_or(RETRY_UNKNOWN_MS)
        }
    };
    wait_ms.max(1)
}

/// A window that ends here or later never does.
const END_OF_TIME_MS: i64 = i64::MAX - 1;

fn until_ms(end_ms: i64, now_ms: i64) -> u64 {
    if end_ms >= END_OF_TIME_MS { 0 } else { u64::try_from(end_ms.saturating_sub(now_ms)).unwrap_or(0) }
}

#[cfg(test)]
mod tests;
