//! What the control plane does: everything between an HTTP request and the store. Knows neither HTTP nor SQL.

pub mod analytics;
pub mod archives;
pub mod bypass;
pub mod capacity;
pub mod deliveries;
mod entitled;
mod error;
pub mod event_endpoints;
pub mod everything;
pub mod explain;
pub mod grants;
pub mod happenings;
pub mod import;
pub mod in_force;
pub mod invoices;
pub mod jwks;
pub mod languages;
pub mod lifecycle;
pub mod me;
pub mod members;
pub mod metrics;
pub mod moments;
pub mod payments;
pub mod policy;
mod steadiness;
pub mod subscriptions;
pub mod sweeper;
pub mod sync;
pub mod things;
mod thresholds;
pub mod tokens;
pub mod usage;
pub mod versions;
pub mod views;
pub mod watch;

use std::sync::{Arc, RwLock};

pub use error::{Invalid, NotFound, ServiceError};
pub use in_force::InForce;

use crate::clock::SharedClock;
use crate::config::Settings;
use crate::store::{Database, StoreError};
use metrics::Metrics;
use tokens::ConfiguredTokens;
use watch::Hub;

/// A control plane. Replicas on one database hold nothing that another lacks: what is kept here is a copy of what the
/// database says, or how busy this process is.
#[derive(Debug)]
pub struct ControlPlane {
    /// The ledger and all else that must not be lost.
    pub database: Database,
    /// What time it is.
    pub clock: SharedClock,
    /// What its operator chose.
    pub settings: Settings,
    /// How busy it is.
    pub metrics: Metrics,
    /// Who waits for changes.
    pub hub: Hub,
    /// Webhooks on their way.
    pub payments: payments::Payments,
    believed: moments::Believed,
    configured: ConfiguredTokens,
    in_force: RwLock<Arc<InForce>>,
}

impl ControlPlane {
    /// A control plane on an open database, with the configuration that is in force.
    pub async fn start(
        database: Database,
        clock: SharedClock,
        settings: Settings,
        configured: ConfiguredTokens,
    ) -> Result<Arc<Self>, StoreError> {
        let plane = Self {
            hub: Hub::default(),
            payments: payments::Payments::default(),
            believed: moments::Believed::default(),
            metrics: Metrics::new(),
            in_force: RwLock::new(Arc::new(InForce::default())),
            database,
            clock,
            settings,
            configured,
        };
        plane.refresh().await?;
        plane.hub_begin().await?;
        Ok(Arc::new(plane))
    }
}
