//! Why a service did not do what it was asked, named for what the caller can do about it.

use tollgate_policy::document::Fault;

use crate::store::{Retry, StoreError};

/// Why a service did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum ServiceError {
    /// What was asked makes no sense; the sentence says what to change.
    #[error("{message}")]
    Invalid {
        /// Which rule it breaks.
        rule: Invalid,
        /// What to change.
        message: String,
    },
    /// The policy makes no sense.
    #[error("the policy has {} faults", .0.len())]
    PolicyInvalid(Vec<Fault>),
    /// There is no such thing.
    #[error("there is no such {0}")]
    NotFound(NotFound),
    /// It has been changed since the caller looked; look again.
    #[error("version {found} is in force, not version {expected}")]
    VersionConflict {
        /// The version that the caller took to be in force.
        expected: i64,
        /// The version in force; 0 when there is none.
        found: i64,
    },
    /// The key names something else already.
    #[error("the key {0:?} was used for something else")]
    KeyConflict(String),
    /// No more of this can be done now. Try again in a moment.
    #[error("{0}")]
    Busy(&'static str),
    /// The end user's token was not accepted.
    #[error("{0}")]
    Token(tollgate_policy::jwt::TokenFault),
    /// Only an administrator of the organisation may do that.
    #[error("the user does not administrate an organisation")]
    NotAdministrator,
    /// No payment provider sells the tier.
    #[error("no payment provider sells the tier")]
    PaymentNotConfigured,
    /// A view of the policy makes no answer.
    #[error(transparent)]
    View(super::views::ViewFault),
    /// The store did not do it.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// A rule that a request can break.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "the table of problems says them in words")]
pub enum Invalid {
    WireVersion,
    Session,
    Subject,
    Report,
    TooManySubjects,
    NoPolicy,
    TierUnknown,
    LimitUnknown,
    Subscription,
    Bypass,
    Reason,
    Things,
    Capacity,
    Explain,
    Range,
    Token,
    Action,
    Grant,
    GrantConflict,
    NoPrices,
    InvoiceOverlap,
    PeriodOpen,
    AmountTooLarge,
    Usage,
    EventEndpoint,
    Webhook,
    Import,
    Archive,
    ArchiveRestored,
}

/// A thing that can be missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotFound {
    /// No policy was ever applied.
    Policy,
    /// A version of the policy.
    Version,
    /// A tier of the policy in force.
    Tier,
    /// A subject's subscription.
    Subscription,
    /// A subject's bypass.
    Bypass,
    /// A token.
    Token,
    /// An issuer with an address for its keys.
    Issuer,
    /// A subject's grant.
    Grant,
    /// An endpoint of events.
    EventEndpoint,
    /// An event.
    Event,
    /// A webhook.
    Webhook,
    /// A closed invoice.
    Invoice,
    /// A subject's archive.
    Archive,
    /// A view of the policy in force.
    View,
}

impl std::fmt::Display for NotFound {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Policy => "policy",
            Self::Version => "version of the policy",
            Self::Tier => "tier",
            Self::Subscription => "subscription",
            Self::Bypass => "bypass",
            Self::Token => "token",
            Self::Issuer => "issuer",
            Self::Grant => "grant",
            Self::EventEndpoint => "endpoint of events",
            Self::Event => "event",
            Self::Webhook => "webhook",
            Self::Invoice => "invoice",
            Self::Archive => "archive",
            Self::View => "view",
        })
    }
}

impl ServiceError {
    /// An error of a rule, with a sentence.
    pub fn invalid(rule: Invalid, message: impl Into<String>) -> Self {
        Self::Invalid { rule, message: message.into() }
    }
}

impl Retry for ServiceError {
    fn is_conflict(&self) -> bool {
        matches!(self, Self::Store(error) if error.is_conflict())
    }
}
