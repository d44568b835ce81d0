//! How busy a control plane is, as Prometheus metrics. Each control plane has a registry of its own; nothing is global.
//! Labels have few values, none of which a caller chooses.

use prometheus::{
    Encoder as _, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec,
    Opts, Registry, TextEncoder,
};

/// All metrics.
#[derive(Debug, Clone)]
pub struct Metrics {
    registry: Registry,
    /// Syncs that were committed.
    pub syncs: IntCounter,
    /// Leases that grew.
    pub grants: IntCounter,
    /// Units by which they grew.
    pub granted_units: IntCounter,
    /// Sessions that were asked to give units back.
    pub recalls: IntCounter,
    /// Subjects of a sync.
    pub sync_subjects: Histogram,
    /// Open edge sessions, as last seen.
    pub open_sessions: IntGauge,
    /// Sessions closed for silence.
    pub silenced_sessions: IntCounter,
    /// Entries of usage that came too late to be counted once.
    pub usage_too_late: IntCounter,
    /// Rows of usage that became days or months.
    pub usage_folded: IntCounter,
    /// How long the oldest hour that was not sent to the sink is over, s.
    pub usage_sink_lag: IntGauge,
    /// Batches of usage for the sink, by outcome.
    pub usage_sink_batches: IntCounterVec,
    /// Edges that wait for changes.
    pub watchers: IntGauge,
    /// The configuration in force.
    pub configuration_revision: IntGauge,
    /// Age of each issuer's keys, s.
    pub jwks_age: IntGaugeVec,
    /// Fetches of keys, by outcome.
    pub jwks_fetches: IntCounterVec,
    /// Attempts to deliver events, by outcome.
    pub event_attempts: IntCounterVec,
    /// Webhooks of payment providers, by what became of them when they came.
    pub webhooks_received: IntCounterVec,
    /// Those that were worked off, by what they are then.
    pub webhooks_worked_off: IntCounterVec,
    /// Requests by route, method and status.
    pub requests: IntCounterVec,
    /// Their duration by route, s.
    pub request_seconds: HistogramVec,
}

impl Metrics {
    /// Metrics that all read 0.
    pub fn new() -> Self {
        let registry = Registry::new();
        let counter = |name: &str, help: &str| register(&registry, IntCounter::new(name, help));
        let gauge = |name: &str, help: &str| register(&registry, IntGauge::new(name, help));
        let counters = |name: &str, help: &str, labels: &[&str]| {
            register(&registry, IntCounterVec::new(Opts::new(name, help), labels))
        };
        let subjects = HistogramOpts::new("tollgate_sync_subjects", "Subjects of a sync")
            .buckets(vec![0.0, 1.0, 10.0, 50.0, 100.0, 250.0, 500.0, 1000.0]);
        let seconds = HistogramOpts::new("tollgate_http_request_seconds", "Duration of requests")
            .buckets(vec![0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 30.0]);
        Self {
            syncs: counter("tollgate_syncs_total", "Syncs that were committed"),
            grants: counter("tollgate_grants_total", "Leases that grew"),
            granted_units: counter("tollgate_granted_units_total", "Units by which leases grew"),
            recalls: counter(
                "tollgate_recalls_total",
                "Times a session was asked to give units of a subject back",
            ),
            sync_subjects: register(&registry, Histogram::with_opts(subjects)),
            open_sessions: gauge("tollgate_open_sessions", "Edge sessions that are open"),
            silenced_sessions: counter(
                "tollgate_silenced_sessions_total",
                "Edge sessions closed for silence",
            ),
            usage_too_late: counter(
                "tollgate_usage_too_late_total",
                "Entries of usage that came too late to be counted once",
            ),
            usage_folded: counter("tollgate_usage_folded_total", "Rows of usage that became days or months"),
            usage_sink_lag: gauge(
                "tollgate_usage_sink_lag_seconds",
                "How long the oldest hour that was not sent is over",
            ),
            usage_sink_batches: counters(
                "tollgate_usage_sink_batches_total",
                "Batches of usage for the sink",
                &["outcome"],
            ),
            watchers: gauge("tollgate_watchers", "Edges that wait for changes here"),
            configuration_revision: gauge(
                "tollgate_configuration_revision",
                "Revision of the configuration in force",
            ),
            jwks_age: register(
                &registry,
                IntGaugeVec::new(
                    Opts::new("tollgate_jwks_age_seconds", "Age of an issuer's keys"),
                    &["issuer"],
                ),
            ),
            jwks_fetches: counters("tollgate_jwks_fetches_total", "Fetches of issuers' keys", &["outcome"]),
            event_attempts: counters(
                "tollgate_event_attempts_total",
                "Attempts to deliver events",
                &["outcome"],
            ),
            webhooks_received: counters(
                "tollgate_webhooks_received_total",
                "Webhooks of payment providers that came",
                &["provider", "outcome"],
            ),
            webhooks_worked_off: counters(
                "tollgate_webhooks_worked_off_total",
                "Webhooks of payment providers that were worked off",
                &["provider", "state"],
            ),
            requests: counters(
                "tollgate_http_requests_total",
                "HTTP requests",
                &["route", "method", "status"],
            ),
            request_seconds: register(&registry, HistogramVec::new(seconds, &["route"])),
            registry,
        }
    }

    /// All metrics in Prometheus' text format.
    pub fn render(&self) -> String {
        let mut text = Vec::new();
        match TextEncoder::new().encode(&self.registry.gather(), &mut text) {
            Ok(()) => String::from_utf8_lossy(&text).into_owned(),
            Err(error) => {
                tracing::error!(error = &error as &dyn std::error::Error, "cannot write metrics");
                String::new()
            }
        }
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

/// Registers a metric of the table above.
#[expect(
    clippy::expect_used,
    reason = "names and labels are literals; every start and test runs through all of them"
)]
fn register<T: prometheus::core::Collector + Clone + 'static>(
    registry: &Registry,
    metric: prometheus::Result<T>,
) -> T {
    let metric = metric.expect("a well-formed metric");
    registry.register(Box::new(metric.clone())).expect("a metric of its own name");
    metric
}
