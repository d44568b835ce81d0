//! The control plane: the `tollgate` program on a database of its own, to be killed and started again on the same port.

use std::path::PathBuf;
use std::process::Command;

use serde_json::{Value, json};

use crate::artefacts;
use crate::client::{Answer, Client};
use crate::envoy::{EDGE_TOKEN, Envoy, Options};
use crate::port::Port;
use crate::process::Process;
use crate::scene::Scene;
use crate::wait;

/// The admin token.
pub const ADMIN_TOKEN: &str = "admin-token-of-the-tests";

/// A control plane.
#[derive(Debug)]
pub struct ControlPlane {
    port: Port,
    database_url: String,
    log: PathBuf,
    environment: Vec<(String, String)>,
    process: Option<Process>,
}

impl ControlPlane {
    /// Starts one on a new SQLite file.
    pub fn start(scene: &Scene) -> Self {
        let file = scene.dir().join("tollgate.db");
        Self::start_on(scene, &format!("sqlite://{}", file.display()))
    }

    /// Starts one on a new SQLite file, with these variables in its environment.
    pub fn start_with(scene: &Scene, environment: &[(&str, &str)]) -> Self {
        let file = scene.dir().join("tollgate.db");
        let mut control_plane = Self::prepare(scene, &format!("sqlite://{}", file.display()));
        let owned = environment.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        control_plane.environment = owned.collect();
        control_plane.restart();
        control_plane
    }

    /// Starts one on this database.
    pub fn start_on(scene: &Scene, database_url: &str) -> Self {
        let mut control_plane = Self::prepare(scene, database_url);
        control_plane.restart();
        control_plane
    }

    /// One that is not started yet, but whose port is known.
    pub fn prepare(scene: &Scene, database_url: &str) -> Self {
        let log = scene.dir().join("control-plane.log");
        Self {
            port: Port::take(),
            database_url: database_url.to_owned(),
            log,
            environment: Vec::new(),
            process: None,
        }
    }

    /// Where it listens, or will.
    pub fn port(&self) -> u16 {
        self.port.number
    }

    /// Kills it without warning.
    pub fn kill(&mut self) {
        self.process = None;
    }

    /// Starts it again, on the same port and database, and waits until it is ready.
    pub fn restart(&mut self) {
        self.launch();
        wait::until("the control plane is ready", wait::SOON, || {
            self.process().assert_alive();
            Client::new(self.port()).request("GET", "/readyz").try_send().ok().filter(|a| a.status == 200)
        });
    }

    /// Starts it and does not wait.
    pub fn launch(&mut self) {
        let mut command = Command::new(artefacts::tollgate());
        command.args(["serve", "--listen", &format!("127.0.0.1:{}", self.port())]);
        command.args(["--database-url", &self.database_url]);
        command.env("TOLLGATE_ADMIN_TOKEN", ADMIN_TOKEN).env("TOLLGATE_EDGE_TOKEN", EDGE_TOKEN);
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        self.process = Some(Process::start("the control plane", &command, &self.log));
    }

    /// The program.
    #[track_caller]
    pub fn process(&mut self) -> &mut Process {
        self.process.as_mut().expect("it was started")
    }

    /// A request by an administrator.
    #[track_caller]
    pub fn ask(&self, method: &str, path: &str, body: Option<&Value>) -> Answer {
        let mut client = Client::new(self.port());
        let request = client.request(method, path).token(ADMIN_TOKEN);
        match body {
            Some(body) => request.json(body).send(),
            None => request.send(),
        }
    }

    /// Puts a policy in force.
    #[track_caller]
    pub fn apply(&self, policy: &Value) {
        self.ask("PUT", "/v1/policy", Some(policy)).expect(200);
    }

    /// Gives a subject a tier.
    #[track_caller]
    pub fn subscribe(&self, subject: &str, tier: &str) {
        self.subscribe_as(subject, &json!({ "tier": tier }));
    }

    /// Gives a subject a subscription.
    #[track_caller]
    pub fn subscribe_as(&self, subject: &str, subscription: &Value) {
        let answer = self.ask("PUT", &format!("/v1/subscriptions/{subject}"), Some(subscription));
        assert!(matches!(answer.status, 200 | 201), "{}: {}", answer.status, answer.text());
    }

    /// Units of `calls` that the ledger has for a subject: used, which is charged less refunded.
    #[track_caller]
    pub fn used(&self, subject: &str) -> i64 {
        self.used_of(subject, "calls")
    }

    /// Units of a meter that the ledger has for a subject.
    #[track_caller]
    pub fn used_of(&self, subject: &str, meter: &str) -> i64 {
        let page =
            self.ask("GET", &format!("/v1/subjects/{subject}/usage?by=total"), None).expect(200).json();
        let rows = page["usage"].as_array().cloned().unwrap_or_default();
        let of_meter = rows.iter().filter(|row| row["meter"] == meter);
        of_meter.map(|row| row["used"].as_i64().expect("a number")).sum()
    }

    /// How a limit of a subject stands.
    #[track_caller]
    pub fn standing(&self, subject: &str, limit: &str) -> Value {
        let page = self.ask("GET", &format!("/v1/subjects/{subject}"), None).expect(200).json();
        let standings = page["limits"].as_array().cloned().unwrap_or_default();
        let found = standings.into_iter().find(|standing| standing["limit"] == limit);
        found.unwrap_or_else(|| panic!("{subject} has no limit {limit}: {page}"))
    }

    /// Waits until so many units of a limit are in use, as far as edges have said.
    #[track_caller]
    pub fn wait_until_standing(&self, subject: &str, limit: &str, used: u64) {
        wait::until_equal("the standing follows", wait::SOON, &json!(used), || {
            self.standing(subject, limit)["used"].clone()
        });
    }

    /// Waits until the ledger has exactly this for a subject.
    #[track_caller]
    pub fn wait_until_used(&self, subject: &str, units: usize) {
        let units = i64::try_from(units).expect("it is small");
        wait::until_equal("the ledger follows", wait::SOON, &units, || self.used(subject));
    }

    /// An edge of it, with a policy.
    #[track_caller]
    pub fn edge(&self, scene: &Scene, name: &'static str, upstream: u16) -> Envoy {
        let envoy = Options::connected(self.port(), upstream).name(name).start(scene);
        envoy.wait_for_policy();
        envoy
    }
}
