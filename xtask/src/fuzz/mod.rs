//! The control plane's interface, asked for what its own description allows and for what it does not: every answer must
//! be one that `/openapi.json` names, and none may be a failure of the server.
//!
//! What is sent and judged stands in `schemathesis.toml`; the requests are the same in each run.

use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

use crate::process::{Scratch, Service, output, status};
use crate::progress::note;
use crate::tools::postgres::free_port;
use crate::tools::schemathesis;
use crate::{build, workspace};

const ADMIN_TOKEN: &str = "fuzz-token-of-admins";
const EDGE_TOKEN: &str = "fuzz-token-of-edges";

/// The secret of the issuer in `policy.yaml`.
const ISSUER_KEY: &str = "secret-of-32-bytes-for-the-tests!!";

const START_WAIT: Duration = Duration::from_secs(30);

/// Sends it all to a control plane on SQLite, and fails when an answer is not described.
pub fn run() -> Result<()> {
    // Cheap when it is there already, and right when this step runs alone.
    build::programs()?;
    let schemathesis = schemathesis::provide()?;
    let dir = Scratch::make(workspace::target().join("fuzz").join(std::process::id().to_string()))?;
    let plane = Plane::start(&dir)?;
    plane.fill()?;

    let start = Instant::now();
    let mut fuzz = Command::new(schemathesis);
    fuzz.arg("--config-file").arg(file("schemathesis.toml")).args(["--no-color", "run"]);
    fuzz.arg(format!("{}/openapi.json", plane.server));
    fuzz.env("TOLLGATE_USER_TOKEN", plane.sign_user_token(&dir)?);
    fuzz.envs(plane.environment()).current_dir(dir.path());
    let ended = status(&mut fuzz)?;
    note(&format!("{:.0} s of requests", start.elapsed().as_secs_f64()));
    plane.service.check_alive()?;
    if !ended.success() {
        bail!(
            "the interface differs from its description, as said above; its log ends:\n{}",
            plane.service.log_tail()
        );
    }
    Ok(())
}

/// The control plane that is asked.
struct Plane {
    server: String,
    service: Service,
}

impl Plane {
    fn start(dir: &Scratch) -> Result<Self> {
        let address = format!("127.0.0.1:{}", free_port()?);
        let mut serve = Command::new(workspace::tollgate());
        serve.args(["serve", "--listen", &address, "--database-url"]);
        serve.arg(format!("sqlite://{}", dir.path().join("tollgate.db").display()));
        // A long poll must not take the time of other requests.
        serve.args(["--watch-max-ms", "100"]);
        serve.env("TOLLGATE_ADMIN_TOKEN", ADMIN_TOKEN).env("TOLLGATE_EDGE_TOKEN", EDGE_TOKEN);
        let service = Service::start("the control plane", serve, &dir.path().join("control-plane.log"))?;
        let plane = Self { server: format!("http://{address}"), service };
        let ready = format!("{}/readyz", plane.server);
        plane.service.wait_until("ready", START_WAIT, || ureq::get(&ready).call().is_ok())?;
        Ok(plane)
    }

    fn environment(&self) -> [(&'static str, &str); 3] {
        [
            ("TOLLGATE_SERVER", self.server.as_str()),
            ("TOLLGATE_ADMIN_TOKEN", ADMIN_TOKEN),
            ("TOLLGATE_EDGE_TOKEN", EDGE_TOKEN),
        ]
    }

    /// A policy and subjects, so that requests find something.
    fn fill(&self) -> Result<()> {
        let policy = file("policy.yaml").display().to_string();
        self.tollgate(&["policy", "apply", &policy])?;
        let pro = |subject| self.tollgate(&["subscription", "set", subject, "--tier", "pro"]).map(drop);
        ["user:alice", "org:acme"].into_iter().try_for_each(pro)
    }

    /// A token of the issuer in the policy: alice, who looks after acme.
    fn sign_user_token(&self, dir: &Scratch) -> Result<String> {
        let key = dir.path().join("issuer.key");
        std::fs::write(&key, ISSUER_KEY)?;
        let key = key.display().to_string();
        let issuer = ["token", "--issuer", "https://id.fuzz.example", "--audience", "fuzz", "--kid", "k1"];
        let user = ["--subject", "alice", "--claim", "org=acme", "--claim", "role=admin"];
        let signed = self.tollgate(&[&issuer[..], &user, &["--alg", "HS256", "--key", &key]].concat())?;
        Ok(signed.trim().to_owned())
    }

    fn tollgate(&self, arguments: &[&str]) -> Result<String> {
        let mut command = Command::new(workspace::tollgate());
        output(command.args(arguments).envs(self.environment()))
    }
}

fn file(name: &str) -> PathBuf {
    workspace::root().join("xtask/src/fuzz").join(name)
}
