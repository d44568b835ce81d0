//! What an edge and the control plane say to each other: `POST /edge/v1/sync`, `GET /edge/v1/watch`,
//! `GET /edge/v1/policy`. JSON; every number that counts is absolute and monotone, so that both sides merge by max and
//! a lost, repeated or late message changes nothing. A number that is left out is 0: most are, in most messages.
//!
//! Types only. The arithmetic on them is in `crate::lease`.

use serde::{Deserialize, Serialize};

use crate::document::PolicyDocument;
use crate::subscription::Entitlements;
use crate::thing::ThingId;

/// Version of these messages. A side that reads another major version answers 400 `wire-version`.
pub const WIRE_VERSION: u32 = 1;

/// Most subjects in one [`SyncRequest`]; the control plane refuses more with 413.
pub const SYNC_SUBJECTS_MAX: usize = 1_000;

/// What an edge reports and asks for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SyncRequest {
    /// [`WIRE_VERSION`].
    pub version: u32,
    /// The edge's memory: a new random id whenever that memory was lost. 32 hex digits.
    pub session: String,
    /// Set when the edge has stopped using this session for good: its numbers are final.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub last: bool,
    /// Per subject, at most [`SYNC_SUBJECTS_MAX`]. May be empty: then it only keeps the session alive.
    pub subjects: Vec<SubjectReport>,
    /// What was refused, for people: counts that only rise.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub denials: Vec<DenialReport>,
}

/// Most [`DenialReport`]s in one [`SyncRequest`].
pub const SYNC_DENIALS_MAX: usize = 1_000;

/// How often requests of one subject were refused on one route, for one reason, in one hour, as one reporter counted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DenialReport {
    /// Who counted: its counts start anew whenever its memory was lost, and then it has another name. 32 hex digits.
    pub reporter: String,
    /// Start of the hour, Unix ms.
    pub hour: i64,
    /// The subject; empty where there was none, or where too many were refused to tell them apart.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub subject: String,
    /// The denial's code, such as `quota-exceeded`.
    pub code: String,
    /// The limit that refused; empty where none did.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub limit: String,
    /// The route's name.
    pub route: String,
    /// Requests refused in all. Monotone.
    pub count: u64,
}

/// What an edge says of one subject.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SubjectReport {
    /// `user:alice`, `org:acme`.
    pub subject: String,
    /// The tier that the subject's verified token claims; only where the policy reads one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tier_claim: Option<String>,
    /// The newest revision of the subject's entitlements that the edge knows: the answer then leaves them out. None while it
    /// knows nothing of the subject.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revision: Option<u64>,
    /// Per limit and window.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub accounts: Vec<AccountReport>,
    /// Per meter and hour, limited or not: the ledger.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub usage: Vec<UsageReport>,
    /// What came and went of what capacities count by id, in order; all that no answer has confirmed yet.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub things: Vec<ThingReport>,
}

/// An edge's side of one account: a limit of a subject in a window, in one session.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AccountReport {
    /// The limit's name.
    pub limit: String,
    /// Start of the window, Unix ms; of a kind without windows the number that `crate::lease` gives it.
    pub window: i64,
    /// Units taken by admitted requests in all. Monotone.
    pub taken: u64,
    /// Units of them that were freed again (refunds) in all. Monotone, never above `taken`.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub freed: u64,
    /// Of a capacity: units released in all that another session added. Monotone.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub removed: u64,
    /// Units given back to the control plane in all. Monotone.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub returned: u64,
    /// Units the edge wants to have been granted in all; absolute, so that a repeated request is not granted twice. 0
    /// when it wants no more than it has.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub want: u64,
}

/// What a session saw of one thing that a capacity counts by id.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ThingReport {
    /// Rises with each event of the session, so that a repeated one is known.
    pub seq: u64,
    /// The meter's name.
    pub meter: String,
    /// Names the thing among those of its subject and meter.
    pub id: ThingId,
    /// Units that it takes.
    pub units: u64,
    /// It was added; else it was removed.
    pub present: bool,
}

/// Usage of one meter in one hour, as this session saw it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct UsageReport {
    /// The meter's name.
    pub meter: String,
    /// Start of the hour, Unix ms.
    pub hour: i64,
    /// What the meter tells its units apart by (`by`), such as `model=large&route=POST%20%2Fchat`: names in order, values
    /// percent-encoded. Empty where it does not.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub labels: String,
    /// Units charged in all. Monotone.
    pub taken: u64,
    /// Units of them that were refunded in all. Monotone.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub freed: u64,
}

/// The answer to a [`SyncRequest`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SyncResponse {
    /// [`WIRE_VERSION`].
    pub version: u32,
    /// The session is closed: the edge stops using it, opens a new one, and reports this one's final numbers.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub closed: bool,
    /// How long a lease is valid after the edge sent the request that this answers, ms.
    pub lease_ttl_ms: u64,
    /// The control plane's clock, Unix ms. For people and metrics; nothing is decided by it.
    pub now_ms: i64,
    /// The newest configuration (policy and keys). An edge that has an older one fetches `GET /edge/v1/policy`.
    pub policy_revision: u64,
    /// One for each subject of the request, in its order.
    pub subjects: Vec<SubjectAnswer>,
}

impl SubjectReport {
    /// Whether the edge has the entitlements of this revision already.
    pub fn has_entitlements(&self, revision: u64) -> bool {
        self.revision == Some(revision)
    }
}

/// What the control plane says of one subject.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SubjectAnswer {
    /// As in the report.
    pub subject: String,
    /// What the subject is entitled to; left out where the report's revision is the newest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub entitlements: Option<Entitlements>,
    /// Rises with every change of the entitlements, so that a late answer cannot undo a newer one.
    pub revision: u64,
    /// The last of the session's [`ThingReport`]s that was heard.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub things_seq: u64,
    /// One for each account that the control plane has for this session and that is still in its window.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub accounts: Vec<AccountAnswer>,
}

/// The control plane's side of one account.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AccountAnswer {
    /// The limit's name.
    pub limit: String,
    /// Start of the window, Unix ms; of a kind without windows the number that `crate::lease` gives it.
    pub window: i64,
    /// End of a quota's window, Unix ms, where the report does not name the account: by it an edge that dropped the record
    /// can open the account again before it takes anything of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub end: Option<i64>,
    /// Units granted to this session in all. Monotone.
    pub granted: u64,
    /// What the control plane has merged of the edge's own numbers, so that an edge that dropped an idle subject's
    /// record can pick it up again: without `returned` it would take units it gave back for its own.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub returned: u64,
    /// As in the report, merged.
    pub taken: u64,
    /// As in the report, merged.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub freed: u64,
    /// As in the report, merged.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub removed: u64,
    /// Units of the limit that no edge holds, after this grant.
    pub unleased: u64,
    /// Other edges hold units that they do not use; they were asked for them, so asking again in a moment is worthwhile.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub pending: bool,
    /// Another edge needs units: give back what is idle now.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub recall: bool,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde calls it so")]
fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// The answer to `GET /edge/v1/policy`: the policy with every issuer's keys written into it as `keys.jwks`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PolicyBundle {
    /// [`WIRE_VERSION`].
    pub version: u32,
    /// Rises with every change of the policy or of an issuer's keys.
    pub revision: u64,
    /// The policy.
    pub policy: PolicyDocument,
}

/// The answer to `GET /edge/v1/watch?session=…&after=…&revision=…`: sent as soon as one of these differs, or after the long poll's end.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct WatchResponse {
    /// [`WIRE_VERSION`].
    pub version: u32,
    /// Pass it as `after` in the next watch. Changes up to here have been told.
    pub after: u64,
    /// The newest configuration.
    pub policy_revision: u64,
    /// Subjects to sync now: their subscription changed, or units of theirs are recalled.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub subjects: Vec<String>,
}
