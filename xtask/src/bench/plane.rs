//! The control plane under measurement: the real program, on the database that is asked for.

use std::ffi::OsStr;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};
use rustix::process::{Pid, Signal, kill_process};

use crate::process::{Service, output};
use crate::tools::postgres::free_port;
use crate::workspace;

/// The edge token of the measured control plane.
pub const EDGE_TOKEN: &str = "bench-edge-token";
/// The admin token of the measured control plane.
pub const ADMIN_TOKEN: &str = "bench-admin-token";
const START_WAIT: Duration = Duration::from_secs(60);

/// A control plane that stops when it is dropped.
pub struct Plane {
    service: Service,
    pub port: u16,
}

impl Plane {
    /// Starts it on a database, with a policy in force.
    pub fn start(dir: &Path, database_url: &str, policy: &str) -> Result<Self> {
        Self::start_with(dir, database_url, policy, &[])
    }

    /// The same, with more arguments to `tollgate serve`.
    pub fn start_with(dir: &Path, database_url: &str, policy: &str, more: &[&OsStr]) -> Result<Self> {
        let port = free_port()?;
        let mut serve = Command::new(workspace::tollgate());
        serve.args(["serve", "--listen", &format!("127.0.0.1:{port}"), "--database-url", database_url]);
        serve.args(more).env("TOLLGATE_ADMIN_TOKEN", ADMIN_TOKEN).env("TOLLGATE_EDGE_TOKEN", EDGE_TOKEN);
        let service = Service::start("the control plane", serve, &dir.join("control-plane.log"))?;
        let url = format!("http://127.0.0.1:{port}/readyz");
        service.wait_until("ready", START_WAIT, || ureq::get(&url).call().is_ok())?;
        let path = dir.join("policy.yaml");
        std::fs::write(&path, policy).with_context(|| format!("cannot write {}", path.display()))?;
        let mut apply = Command::new(workspace::tollgate());
        apply.args(["policy", "apply"]).arg(path).args(["--token", ADMIN_TOKEN, "--server"]);
        output(apply.arg(format!("http://127.0.0.1:{port}")))?;
        Ok(Self { service, port })
    }

    /// Kills the program: it finishes nothing.
    pub fn kill(&self) -> Result<()> {
        let id = i32::try_from(self.service.id()).ok().and_then(Pid::from_raw).context("no process")?;
        Ok(kill_process(id, Signal::KILL)?)
    }

    /// Puts a subject on a tier.
    pub fn subscribe(&self, subject: &str, tier: &str) -> Result<()> {
        let url = format!("http://127.0.0.1:{}/v1/subscriptions/{subject}", self.port);
        let put = ureq::put(&url).header("authorization", format!("Bearer {ADMIN_TOKEN}"));
        put.header("content-type", "application/json").send(format!("{{\"tier\":\"{tier}\"}}"))?;
        Ok(())
    }
}
