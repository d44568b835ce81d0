//! The kinds of account: when a unit that was used may be used again.

use crate::limit::LimitKind;
use crate::window::Window;

/// Longest time that a request may be in flight, ms. A worker that traps leaks the units of its requests for that long, and
/// what a killed edge held of a concurrency limit is free again that long after its lease. A proxy must end its requests
/// sooner (`max_stream_duration`, or a route's `timeout`): one that goes on is not counted any more.
pub const REQUEST_MS_MAX: u64 = 300_000;

/// When a unit of an account that was used may be used again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum AccountKind {
    /// When the window ends; so it is counted.
    #[default]
    Quota,
    /// When the limit's window has passed since its use.
    Rate,
    /// Bit by bit: all units that an edge holds have come back after this time.
    Bucket {
        /// How long an empty bucket takes to fill, ms. A share of it takes as long.
        refill_ms: u64,
    },
    /// When the request ends, and at most [`REQUEST_MS_MAX`] later.
    Concurrency,
    /// When it is released; so it is counted.
    Capacity,
}

impl AccountKind {
    /// The kind of a limit's accounts; `None` of a limit that needs none.
    pub fn of(kind: &LimitKind) -> Option<Self> {
        match kind {
            LimitKind::Quota { .. } => Some(Self::Quota),
            LimitKind::Rate { .. } => Some(Self::Rate),
            LimitKind::Bucket { refill_ms, .. } => Some(Self::Bucket { refill_ms: *refill_ms }),
            LimitKind::Concurrency => Some(Self::Concurrency),
            LimitKind::Capacity => Some(Self::Capacity),
            LimitKind::Size => None,
        }
    }

    /// The window of a limit's account at `now_ms` (Unix ms). Those of a kind without windows never end, and each such kind
    /// has a start of its own, so that a limit that changes its kind does not inherit what was counted.
    pub fn window(kind: &LimitKind, now_ms: i64, anchor_ms: i64) -> Window {
        let start_ms = match kind {
            LimitKind::Quota { period, .. } => return period.window_at(now_ms, anchor_ms),
            LimitKind::Rate { .. } => RATE_WINDOW,
            LimitKind::Bucket { .. } => BUCKET_WINDOW,
            LimitKind::Concurrency => CONCURRENCY_WINDOW,
            LimitKind::Capacity | LimitKind::Size => CAPACITY_WINDOW,
        };
        Window { start_ms, end_ms: i64::MAX }
    }

    /// [`super::Demand::window_ms`] of a limit: how long a unit rests after its use, ms; 0 where that is not said in time.
    pub fn rest_ms(kind: &LimitKind) -> u64 {
        match kind {
            LimitKind::Rate { window_ms } => *window_ms,
            LimitKind::Concurrency => REQUEST_MS_MAX,
            _ => 0,
        }
    }

    /// Whether what was used stays used until the window ends or it is freed.
    pub fn is_counted(self) -> bool {
        matches!(self, Self::Quota | Self::Capacity)
    }
}

/// The window's number of a rate's account.
pub const RATE_WINDOW: i64 = 0;

/// Of a token bucket's.
pub const BUCKET_WINDOW: i64 = 1;

/// Of a concurrency limit's.
pub const CONCURRENCY_WINDOW: i64 = 2;

/// Of a capacity's.
pub const CAPACITY_WINDOW: i64 = 3;
