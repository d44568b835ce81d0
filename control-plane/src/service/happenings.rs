//! What happens and is told to whoever listens: noted in the transaction in which it happens, so that what is undone is not
//! told and what is committed is. Telling it is the work of [`super::deliveries`].
//!
//! A happening is told once: what makes two of them the same is `Happening::once`. Where nobody listens nothing is kept.

use jiff::Timestamp;
use serde_json::{Value as Json, json};
use sha2::{Digest as _, Sha256};

use crate::calendar::{DAY_MS, day_of};
use crate::store::events::{Due, EventRow};
use crate::store::{StoreError, Tx, events};

/// How many happenings are noted in one statement.
const BATCH_MAX: usize = 500;

/// A type of event: stable, since receivers decide by it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EventType {
    /// A limit is used up to 80, 95 or 100 percent.
    ThresholdReached,
    /// A limit had nothing left when more was asked for.
    LimitHit,
    /// Another tier is in force for a subject.
    TierChanged,
    /// A trial ends soon.
    TrialEnding,
    /// A subscription is over.
    SubscriptionExpired,
    /// A payment failed.
    PaymentFailed,
    /// An endpoint is not told events any more, because it failed for too long.
    EndpointDisabled,
    /// An operator tries an endpoint.
    Test,
}

impl EventType {
    /// All types.
    pub const ALL: [Self; 8] = [
        Self::ThresholdReached,
        Self::LimitHit,
        Self::TierChanged,
        Self::TrialEnding,
        Self::SubscriptionExpired,
        Self::PaymentFailed,
        Self::EndpointDisabled,
        Self::Test,
    ];

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::ThresholdReached => "threshold.reached",
            Self::LimitHit => "limit.hit",
            Self::TierChanged => "tier.changed",
            Self::TrialEnding => "trial.ending",
            Self::SubscriptionExpired => "subscription.expired",
            Self::PaymentFailed => "payment.failed",
            Self::EndpointDisabled => "endpoint.disabled",
            Self::Test => "test",
        }
    }

    /// The type of a name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }
}

/// A limit of a subject in one window, and how it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LimitState {
    /// The limit's name.
    pub limit: String,
    /// The meter that is limited.
    pub meter: Option<String>,
    /// `quota` or `capacity`.
    pub kind: &'static str,
    /// Start of the window, Unix ms; none of a capacity.
    pub window_start_ms: Option<i64>,
    /// End of the window, Unix ms; none of a capacity.
    pub window_end_ms: Option<i64>,
    /// The maximum.
    pub units: u64,
    /// Units used, as far as edges have reported.
    pub used: u64,
}

/// Something that happened. Holds nothing secret: whoever receives events reads it all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Happening {
    /// A limit is used up to so many percent.
    ThresholdReached {
        /// Whose limit.
        subject: String,
        /// Which.
        limit: LimitState,
        /// 80, 95 or 100.
        percent: u8,
    },
    /// A limit had nothing left when more was asked for.
    LimitHit {
        /// Whose limit.
        subject: String,
        /// Which.
        limit: LimitState,
    },
    /// Another tier is in force.
    TierChanged {
        /// The subject.
        subject: String,
        /// The tier before, if any.
        from: Option<String>,
        /// The tier from now on, if any.
        to: Option<String>,
        /// Since when, Unix ms.
        at_ms: i64,
    },
    /// A trial ends soon.
    TrialEnding {
        /// The subject.
        subject: String,
        /// Its tier.
        tier: String,
        /// When the trial ends, Unix ms.
        ends_at_ms: i64,
    },
    /// A subscription is over.
    SubscriptionExpired {
        /// The subject.
        subject: String,
        /// The tier it was of.
        tier: String,
        /// Since when, Unix ms.
        at_ms: i64,
    },
    /// A payment failed.
    PaymentFailed {
        /// The subject.
        subject: String,
        /// Such as `stripe`.
        provider: String,
        /// The provider's id of what failed (an invoice, an order): the same one is told once.
        reference: String,
        /// In minor units, where the provider says.
        amount: Option<i64>,
        /// ISO 4217, where the provider says.
        currency: Option<String>,
        /// When, Unix ms.
        at_ms: i64,
    },
    /// An endpoint is not told events any more.
    EndpointDisabled {
        /// The endpoint's id.
        endpoint: String,
        /// Why, in a sentence.
        because: String,
        /// Since when, Unix ms.
        at_ms: i64,
    },
    /// An operator tries an endpoint.
    Test {
        /// The endpoint's id.
        endpoint: String,
        /// Tells one test from another.
        nonce: String,
    },
}

impl Happening {
    /// Its type.
    pub fn kind(&self) -> EventType {
        match self {
            Self::ThresholdReached { .. } => EventType::ThresholdReached,
            Self::LimitHit { .. } => EventType::LimitHit,
            Self::TierChanged { .. } => EventType::TierChanged,
            Self::TrialEnding { .. } => EventType::TrialEnding,
            Self::SubscriptionExpired { .. } => EventType::SubscriptionExpired,
            Self::PaymentFailed { .. } => EventType::PaymentFailed,
            Self::EndpointDisabled { .. } => EventType::EndpointDisabled,
            Self::Test { .. } => EventType::Test,
        }
    }

    /// Whom it concerns, where it concerns a subject.
    pub fn subject(&self) -> Option<&str> {
        match self {
            Self::ThresholdReached { subject, .. }
            | Self::LimitHit { subject, .. }
            | Self::TierChanged { subject, .. }
            | Self::TrialEnding { subject, .. }
            | Self::SubscriptionExpired { subject, .. }
            | Self::PaymentFailed { subject, .. } => Some(subject),
            Self::EndpointDisabled { .. } | Self::Test { .. } => None,
        }
    }

    /// What makes two happenings the same one. JSON, so that no name can be taken for another's end.
    fn once(&self, now_ms: i64) -> String {
        let parts = match self {
            Self::ThresholdReached { subject, limit, percent } => {
                json!([subject, limit.once(now_ms), percent])
            }
            Self::LimitHit { subject, limit } => json!([subject, limit.once(now_ms)]),
            Self::TierChanged { subject, from, to, at_ms } => json!([subject, from, to, at_ms]),
            Self::TrialEnding { subject, ends_at_ms, .. } => json!([subject, ends_at_ms]),
            Self::SubscriptionExpired { subject, at_ms, .. } => json!([subject, at_ms]),
            Self::PaymentFailed { subject, provider, reference, .. } => {
                json!([subject, provider, reference])
            }
            Self::EndpointDisabled { endpoint, at_ms, .. } => json!([endpoint, at_ms]),
            Self::Test { endpoint, nonce } => json!([endpoint, nonce]),
        };
        format!("{} {parts}", self.kind().name())
    }

    /// Until when it may happen again, Unix ms.
    fn keep_until_ms(&self, now_ms: i64) -> i64 {
        match self {
            Self::ThresholdReached { limit, .. } | Self::LimitHit { limit, .. } => {
                limit.window_end_ms.unwrap_or_else(|| now_ms.saturating_add(DAY_MS))
            }
            Self::TrialEnding { ends_at_ms, .. } => *ends_at_ms,
            _ => now_ms,
        }
    }

    /// When it happened, Unix ms: what happens at its moment may be noted later.
    fn at_ms(&self, now_ms: i64) -> i64 {
        match self {
            Self::TierChanged { at_ms, .. }
            | Self::SubscriptionExpired { at_ms, .. }
            | Self::PaymentFailed { at_ms, .. }
            | Self::EndpointDisabled { at_ms, .. } => *at_ms,
            Self::ThresholdReached { .. }
            | Self::LimitHit { .. }
            | Self::TrialEnding { .. }
            | Self::Test { .. } => now_ms,
        }
    }

    fn data(&self) -> Json {
        match self {
            Self::ThresholdReached { subject, limit, percent } => limit.data(subject, u64::from(*percent)),
            Self::LimitHit { subject, limit } => {
                let percent = u128::from(limit.used) * 100 / u128::from(limit.units.max(1));
                limit.data(subject, u64::try_from(percent).unwrap_or(u64::MAX))
            }
            Self::TierChanged { subject, from, to, at_ms } => {
                json!({ "subject": subject, "from": from, "to": to, "at": rfc3339(*at_ms) })
            }
            Self::TrialEnding { subject, tier, ends_at_ms } => {
                json!({ "subject": subject, "tier": tier, "ends_at": rfc3339(*ends_at_ms) })
            }
            Self::SubscriptionExpired { subject, tier, at_ms } => {
                json!({ "subject": subject, "tier": tier, "at": rfc3339(*at_ms) })
            }
            Self::PaymentFailed { subject, provider, reference, amount, currency, at_ms } => json!({
                "subject": subject, "provider": provider, "reference": reference,
                "amount": amount, "currency": currency, "at": rfc3339(*at_ms),
            }),
            Self::EndpointDisabled { endpoint, because, at_ms } => {
                json!({ "endpoint": endpoint, "because": because, "at": rfc3339(*at_ms) })
            }
            Self::Test { endpoint, .. } => json!({ "endpoint": endpoint }),
        }
    }

    /// The row of it at `now_ms` (Unix ms). Its id follows from what it is, so that a transaction that runs twice makes one.
    pub(super) fn row(&self, now_ms: i64) -> EventRow {
        let once = self.once(now_ms);
        let hash = Sha256::digest(once.as_bytes());
        let hash = hash.iter().take(8).fold(0_u64, |number, byte| number << 8 | u64::from(*byte));
        let at = rfc3339(self.at_ms(now_ms));
        let body = json!({ "type": self.kind().name(), "timestamp": at, "data": self.data() });
        EventRow {
            id: format!("{}{hash:016x}", id_at(now_ms)),
            kind: self.kind().name().to_owned(),
            subject: self.subject().map(str::to_owned),
            keep_until_ms: self.keep_until_ms(now_ms),
            created_ms: now_ms,
            body: body.to_string(),
            once,
        }
    }
}

impl LimitState {
    /// What is told once: the limit in its window, and once more where the maximum changed within it, since "80 percent" then
    /// means something else. A capacity, which has no window, is told once a day.
    fn once(&self, now_ms: i64) -> Json {
        let window = self.window_start_ms.unwrap_or_else(|| day_of(now_ms));
        json!([self.limit, window, self.units])
    }

    fn data(&self, subject: &str, percent: u64) -> Json {
        let window = self.window_start_ms.zip(self.window_end_ms);
        json!({
            "subject": subject, "limit": self.limit, "meter": self.meter, "kind": self.kind,
            "window": window.map(|(start, end)| json!({ "start": rfc3339(start), "end": rfc3339(end) })),
            "units": self.units, "used": self.used, "percent": percent,
        })
    }
}

/// How the ids of events at `now_ms` (Unix ms) begin: in the order of time.
pub(super) fn id_at(now_ms: i64) -> String {
    format!("evt_{:012x}", now_ms.max(0))
}

fn rfc3339(ms: i64) -> Option<String> {
    Timestamp::from_millisecond(ms).ok().map(|at| at.to_string())
}

/// Notes what happened, for all who listen: to be called in the transaction in which it happens, which may run twice. With
/// nothing to note it does nothing; where nobody listens it asks for that, and no more.
pub async fn note(tx: &mut Tx<'_>, now_ms: i64, happenings: &[Happening]) -> Result<(), StoreError> {
    if happenings.is_empty() {
        return Ok(());
    }
    let listeners = events::listeners(tx).await?;
    let wants = |types: &[String], kind: &str| types.is_empty() || types.iter().any(|wanted| wanted == kind);
    for batch in happenings.chunks(BATCH_MAX) {
        let rows: Vec<EventRow> = batch
            .iter()
            .filter(|happening| {
                let kind = happening.kind().name();
                listeners.iter().any(|listener| wants(&listener.types, kind))
            })
            .map(|happening| happening.row(now_ms))
            .collect();
        if rows.is_empty() {
            continue;
        }
        let fresh = events::insert(tx, &rows).await?;
        let fresh = rows.iter().filter(|row| fresh.contains(&row.id));
        let due: Vec<Due<'_>> = fresh
            .flat_map(|row| {
                let told = listeners.iter().filter(|listener| wants(&listener.types, &row.kind));
                told.map(|listener| Due { event: &row.id, endpoint: &listener.endpoint })
            })
            .collect();
        if !due.is_empty() {
            events::enqueue(tx, &due, now_ms).await?;
        }
    }
    Ok(())
}
