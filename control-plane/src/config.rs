//! What an operator chooses when starting the control plane, and the bounds that are not for choosing.

use std::sync::Arc;

use axum::http::HeaderValue;

use crate::service::payments::PaymentSettings;

/// What an operator chooses.
#[derive(Debug, Clone)]
pub struct Settings {
    /// How long an edge may use its leases after it sent the last request that was answered, ms.
    pub lease_ttl_ms: u64,
    /// How much longer the control plane waits before it closes a silent session, ms: for clocks that run at different
    /// speeds and for requests that were answered late.
    pub lease_margin_ms: u64,
    /// How long a watch waits for a change, ms. Below the idle time-outs of common proxies.
    pub watch_max_ms: u64,
    /// How long the ledger keeps what, and where it sends usage.
    pub usage: UsageSettings,
    /// How events are told.
    pub events: EventSettings,
    /// Payment providers, and what is bought there. Default: none.
    pub payments: Arc<PaymentSettings>,
    /// Origins whose pages may ask from a browser, such as `https://app.example.com`.
    pub allow_origins: Vec<HeaderValue>,
    /// How many proxies in front are trusted to have added an address to `x-forwarded-for`. 0: the address of the connection.
    pub trusted_hops: u32,
}

/// What an operator chooses of the ledger.
#[derive(Debug, Clone)]
pub struct UsageSettings {
    /// How many days the ledger has usage by hour; then by day.
    pub hours_days: u32,
    /// How many days it has usage by day; then by month, for good.
    pub days_days: u32,
    /// How many days what was refused is kept.
    pub denials_days: u32,
    /// Where usage is sent, if anywhere.
    pub sink: Option<SinkSettings>,
}

/// Where usage is sent.
#[derive(Clone)]
pub struct SinkSettings {
    /// An address that takes batches of CloudEvents by POST.
    pub url: String,
    /// Sent as `Authorization: Bearer`, where there is one.
    pub token: Option<String>,
}

impl std::fmt::Debug for SinkSettings {
    // Neither may be logged: an address can hold a secret too.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SinkSettings(..)")
    }
}

impl Default for UsageSettings {
    fn default() -> Self {
        Self { hours_days: 7, days_days: 400, denials_days: 90, sink: None }
    }
}

/// What an operator chooses about events.
#[derive(Debug, Clone)]
pub struct EventSettings {
    /// Whether they may be sent to private addresses and to this machine.
    pub allow_private: bool,
    /// For how long events and the log of their deliveries are kept, days. Longer than a delivery is attempted.
    pub retention_days: u16,
}

impl Default for EventSettings {
    fn default() -> Self {
        Self { allow_private: false, retention_days: 30 }
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            lease_ttl_ms: 30_000,
            lease_margin_ms: 5_000,
            watch_max_ms: 25_000,
            usage: UsageSettings::default(),
            events: EventSettings::default(),
            payments: Arc::default(),
            allow_origins: Vec::new(),
            trusted_hops: 0,
        }
    }
}

/// How often a database is asked for changes while somebody waits for them, ms. Changes made by this process are seen
/// at once; this is for those of replicas.
pub const POLL_MS: u64 = 200;

/// How often it is asked while nobody waits, ms.
pub const IDLE_POLL_MS: u64 = 5_000;

/// Most edges that may wait for changes at one control plane.
pub const WATCHERS_MAX: usize = 10_000;

/// Changes that are kept in memory; an edge that lags further is told from the database.
pub const RING_CHANGES_MAX: usize = 16_384;

/// How long the database keeps changes, ms. An edge that lags further is told of all subjects it holds units of.
pub const CHANGE_RETENTION_MS: i64 = 3_600_000;

/// Most subjects that one watch answers, and that one resync reads.
pub const WATCH_SUBJECTS_MAX: usize = 1_000;

/// Largest body of a sync: 1,000 subjects with a dozen accounts each stay below half of it.
pub const SYNC_BODY_BYTES_MAX: usize = 8 << 20;

/// Largest body of an import of things: 1,000 of them with ids of a kilobyte.
pub const THINGS_BODY_BYTES_MAX: usize = 2 << 20;

/// Largest body of a request to be explained, which may hold the body of the request that it is about: a megabyte of it, with
/// JSON's escapes.
pub const EXPLAIN_BODY_BYTES_MAX: usize = 2 << 20;

/// Largest body of recorded usage: 1,000 entries with long keys, subjects and labels.
pub const USAGE_BODY_BYTES_MAX: usize = 2 << 20;

/// Largest body of a payment provider's webhook: their largest events, with all that can be in them, have a tenth of it.
pub const WEBHOOK_BODY_BYTES_MAX: usize = 1 << 20;

/// Webhooks that may wait to be stored; further ones are answered 503, and come again.
pub const WEBHOOKS_WAITING_MAX: usize = 4_096;
/// See [`WEBHOOKS_WAITING_MAX`]: bytes of those that wait.
pub const WEBHOOKS_WAITING_BYTES_MAX: usize = 64 << 20;

/// Most webhooks that are stored in one transaction, and their bytes.
pub const WEBHOOKS_BATCH_MAX: usize = 256;
/// See [`WEBHOOKS_BATCH_MAX`]; one that is larger goes alone.
pub const WEBHOOKS_BATCH_BYTES_MAX: usize = 4 << 20;

/// Largest file that says which payment providers there are.
pub const PAYMENTS_FILE_BYTES_MAX: usize = 1 << 20;

/// Largest body of an import of users: 1,000 of them with archives of a kilobyte.
pub const IMPORT_BODY_BYTES_MAX: usize = 4 << 20;

/// Largest body of any other request but a policy's.
pub const BODY_BYTES_MAX: usize = 64 << 10;

/// Most rows of one page of a list, and how many without a wish.
pub const PAGE_MAX: i64 = 500;
/// Rows of a page when the caller names no number.
pub const PAGE_DEFAULT: i64 = 100;
