//! Envoy with a configuration that users copy, mostly `envoy/tollgate.yaml`: only what is marked CHANGE there, and the admin
//! port, is replaced. A test that changes more says so by `edit`.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};

use crate::artefacts;
use crate::client::Client;
use crate::http::Message;
use crate::process::Process;
use crate::scene::Scene;
use crate::wait;

/// The edge token of the tests' control planes.
pub const EDGE_TOKEN: &str = "edge-token-of-the-tests";

/// What an Envoy is to be started with.
#[derive(Debug, Clone)]
pub struct Options {
    name: &'static str,
    upstream: u16,
    control_plane: u16,
    gateway: u16,
    plugin: String,
    module: PathBuf,
    shipped: &'static str,
    edits: Vec<(String, String)>,
    workers: u32,
}

/// A running Envoy.
#[derive(Debug)]
pub struct Envoy {
    process: Process,
    admin: u16,
    gateway: u16,
}

impl Options {
    /// An edge of a control plane at this port.
    pub fn connected(control_plane: u16, upstream: u16) -> Self {
        let plugin = json!({"control_plane": {"cluster": "tollgate", "token": EDGE_TOKEN}});
        Self { control_plane, ..Self::of(plugin.to_string(), upstream) }
    }

    /// An edge that stands alone, with this policy.
    pub fn alone(policy: &Value, upstream: u16) -> Self {
        Self::of(json!({"policy": policy}).to_string(), upstream)
    }

    /// An edge with this plugin configuration, whatever it is. One line.
    pub fn of(plugin: String, upstream: u16) -> Self {
        Self {
            name: "envoy",
            upstream,
            // Nobody listens there.
            control_plane: 1,
            gateway: 0,
            plugin,
            module: artefacts::filter_wasm(),
            shipped: "envoy/tollgate.yaml",
            edits: Vec::new(),
            workers: 2,
        }
    }

    /// Its name among this test's Envoys.
    pub fn name(self, name: &'static str) -> Self {
        Self { name, ..self }
    }

    /// Another plugin configuration, whatever it is. One line.
    pub fn plugin(self, plugin: String) -> Self {
        Self { plugin, ..self }
    }

    /// Another of the shipped configurations.
    pub fn shipped(self, shipped: &'static str) -> Self {
        Self { shipped, ..self }
    }

    /// Another module in place of the filter.
    pub fn module(self, module: PathBuf) -> Self {
        Self { module, ..self }
    }

    /// Listening on this port; else it chooses one itself.
    pub fn gateway(self, gateway: u16) -> Self {
        Self { gateway, ..self }
    }

    /// With so many workers; else two.
    pub fn workers(self, workers: u32) -> Self {
        Self { workers, ..self }
    }

    /// With an application that speaks HTTP/2.
    pub fn http2(self) -> Self {
        let options = "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions";
        let http2 =
            format!("{{\"@type\": {options}, explicit_http_config: {{http2_protocol_options: {{}}}}}}");
        let name = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions";
        let cluster = "  - name: application\n    type: STRICT_DNS\n";
        let with = format!("{cluster}    typed_extension_protocol_options: {{{name}: {http2}}}\n");
        self.edit(cluster, &with)
    }

    /// With this text of the shipped configuration replaced.
    pub fn edit(mut self, from: &str, to: &str) -> Self {
        self.edits.push((from.to_owned(), to.to_owned()));
        self
    }

    /// The configuration, from the shipped one.
    pub fn render(&self) -> String {
        let config = artefacts::shipped(self.shipped);
        let config = replace_once(&config, "port_value: 9901}", "port_value: 0}");
        let config = replace_once(&config, "{address: 0.0.0.0, ", "{address: 127.0.0.1, ");
        let config = change_port(&config, "where clients connect", self.gateway);
        let config = change_port(&config, "the application", self.upstream);
        let config = change_port(&config, "the control plane", self.control_plane);
        let module = self.module.display().to_string();
        let config = replace_once(&config, "/etc/envoy/tollgate-filter.wasm", &module);
        let plugin = config.lines().find(|line| line.trim_start().starts_with(r#"{"control_plane": "#));
        let plugin = plugin.expect("the configuration has the plugin's").trim_start().to_owned();
        let config = replace_once(&config, &plugin, &self.plugin);
        self.edits.iter().fold(config, |config, (from, to)| replace_once(&config, from, to))
    }

    /// The same configuration with its listener in a file of its own, which Envoy follows: the bootstrap, and that file.
    pub fn render_with_listener_file(&self, listener_file: &Path) -> (String, String) {
        let config = self.render();
        let (head, rest) = config.split_once("  listeners:\n").expect("there are listeners");
        let (listener, tail) = rest.split_once("\n  clusters:").expect("there are clusters");
        let listener = listener.strip_prefix("  - name: gateway\n").expect("the listener is `gateway`");
        let lines = listener.lines().map(|line| line.strip_prefix("  ").unwrap_or(line));
        let listener = lines.fold(
            "resources:\n- \"@type\": type.googleapis.com/envoy.config.listener.v3.Listener\n  name: gateway\n"
                .to_owned(),
            |text, line| text + line + "\n",
        );
        let head = head.replace("static_resources:\n", "");
        let bootstrap = format!(
            "node: {{id: test, cluster: test}}\ndynamic_resources:\n  lds_config: {{path_config_source: {{path: {}}}}}\n\
             {head}static_resources:\n  clusters:{tail}",
            listener_file.display(),
        );
        (bootstrap, listener)
    }

    /// Starts it, or shows that it refuses to: `Err` has the log.
    pub fn try_start(&self, scene: &Scene) -> Result<Envoy, String> {
        let config = scene.write(&format!("{}.yaml", self.name), self.render());
        let (mut process, admin_file) = self.launch(scene, &config);
        let started = wait::until("Envoy starts or refuses to", wait::SOON, || match process.is_alive() {
            true => find_ports(&admin_file).map(Some),
            false => Some(None),
        });
        let log = process.log();
        started.map(|(admin, gateway)| Envoy { process, admin, gateway }).ok_or(log)
    }

    /// Starts it, and waits until it listens.
    pub fn start(&self, scene: &Scene) -> Envoy {
        let config = scene.write(&format!("{}.yaml", self.name), self.render());
        self.start_with(scene, &config)
    }

    /// Starts it with this configuration file.
    pub fn start_with(&self, scene: &Scene, config: &Path) -> Envoy {
        let (mut process, admin_file) = self.launch(scene, config);
        let (admin, gateway) = wait::until("Envoy listens", wait::SOON, || {
            process.assert_alive();
            find_ports(&admin_file)
        });
        Envoy { process, admin, gateway }
    }

    /// Starts it without waiting; answers the process and the file that it writes its admin address to.
    pub fn launch(&self, scene: &Scene, config: &Path) -> (Process, PathBuf) {
        let admin_file = scene.dir().join(format!("{}.admin", self.name));
        let _ = std::fs::remove_file(&admin_file);
        let mut command = Command::new(artefacts::envoy());
        command.arg("--config-path").arg(config).arg("--admin-address-path").arg(&admin_file);
        command.args(["--concurrency", &self.workers.to_string(), "--disable-hot-restart"]);
        command.args(["--log-level", "info", "--file-flush-interval-msec", "100", "--drain-time-s", "3"]);
        let log = scene.dir().join(format!("{}.log", self.name));
        (Process::start(self.name, &command, &log), admin_file)
    }

    /// Whether Envoy takes this configuration (`--mode validate`); else what it said.
    pub fn validate(config: &Path) -> Result<(), String> {
        let mut command = Command::new(artefacts::envoy());
        command.args(["--mode", "validate", "--disable-hot-restart", "--config-path"]).arg(config);
        // The quickstart names its module relative to the repository's root.
        command.current_dir(artefacts::root());
        let output = command.output().expect("Envoy runs");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        if output.status.success() { Ok(()) } else { Err(said) }
    }
}

impl Envoy {
    /// A caller of its gateway.
    pub fn client(&self) -> Client {
        Client::new(self.gateway)
    }

    /// The port that callers use.
    pub fn gateway(&self) -> u16 {
        self.gateway
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.process.id()
    }

    /// The program.
    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }

    /// What its admin page says at this path.
    #[track_caller]
    pub fn admin(&self, path: &str) -> Message {
        Client::new(self.admin).request("GET", path).send().expect(200).message
    }

    /// All metrics whose name contains `part`, by name.
    pub fn stats(&self, part: &str) -> Vec<(String, i64)> {
        let page = self.admin(&format!("/stats?filter={part}")).body;
        let page = String::from_utf8_lossy(&page);
        let lines = page.lines().filter_map(|line| line.rsplit_once(": "));
        lines.filter_map(|(name, value)| Some((name.to_owned(), value.parse().ok()?))).collect()
    }

    /// A metric; 0 while there is none of this name.
    pub fn stat(&self, name: &str) -> i64 {
        self.stats(name).into_iter().find(|(found, _)| found == name).map_or(0, |(_, value)| value)
    }

    /// How many requests the filter has decided so, for this reason and tier.
    pub fn decided(&self, decision: &str, reason: &str, tier: &str) -> i64 {
        self.stat(&format!("wasmcustom.tollgate.requests.{decision}.{reason}.{tier}"))
    }

    /// Fails unless it runs and no VM of it has trapped since it started.
    #[track_caller]
    pub fn assert_no_trap(&mut self) {
        self.process.assert_alive();
        let log = self.process.log();
        let trap = log.lines().find(|line| {
            ["RuntimeError", "panicked at", "wasm log: panic", "VM failure"]
                .iter()
                .any(|word| line.contains(word))
        });
        assert_eq!(trap, None, "a VM trapped");
    }

    /// Waits until it has a policy: a caller without a token then gets 401, before that 503.
    #[track_caller]
    pub fn wait_for_policy(&self) {
        wait::until_equal("the edge has a policy", wait::SOON, &401, || {
            self.client().request("GET", "/").send().status
        });
    }
}

/// The admin port and the gateway's, once Envoy is ready.
fn find_ports(admin_file: &Path) -> Option<(u16, u16)> {
    let address = std::fs::read_to_string(admin_file).ok()?;
    let admin = address.trim().rsplit_once(':')?.1.parse().ok()?;
    let ready = Client::new(admin).request("GET", "/ready").try_send().ok()?;
    let listeners = Client::new(admin).request("GET", "/listeners?format=json").try_send().ok()?.json();
    let address = &listeners["listener_statuses"][0]["local_address"]["socket_address"];
    let port = address["port_value"].as_u64().and_then(|port| u16::try_from(port).ok());
    port.filter(|_| ready.status == 200).map(|gateway| (admin, gateway))
}

fn replace_once(config: &str, from: &str, to: &str) -> String {
    assert_eq!(config.matches(from).count(), 1, "the shipped configuration has this once: {from}");
    config.replace(from, to)
}

/// Replaces the port in the line that is marked so.
fn change_port(config: &str, mark: &str, port: u16) -> String {
    let mark = format!("# CHANGE: {mark}");
    let marked = config.lines().find(|line| line.ends_with(&mark));
    let line = marked.unwrap_or_else(|| panic!("the shipped configuration has a line marked {mark}"));
    let (before, after) = line.split_once("port_value: ").expect("it has a port");
    let (_, after) = after.split_once('}').expect("it has a port");
    replace_once(config, line, &format!("{before}port_value: {port}}}{after}"))
}
