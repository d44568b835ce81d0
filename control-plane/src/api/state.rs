//! What every endpoint is handed.

use std::sync::Arc;

use tokio::sync::watch;

use crate::service::ControlPlane;

/// What every endpoint is handed.
#[derive(Debug, Clone)]
pub struct Api {
    /// The control plane.
    pub plane: Arc<ControlPlane>,
    /// Becomes true when the process ends: long polls end then.
    pub stopped: watch::Receiver<bool>,
}
