//! The quickstart's programs: control plane on SQLite, application, Envoy. They live in a directory of their own, and
//! end with the value that stands for them.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use super::http::Client;
use crate::process::{Scratch, Service, output};
use crate::workspace;

/// The port that `examples/quickstart/envoy.yaml` begins with.
pub const PORT_BASE_DEFAULT: u16 = 18000;
/// For the REST interface. Anybody may know it: the demo listens on the loopback address only.
pub const ADMIN_TOKEN: &str = "quickstart-admin-token";
/// As in `examples/quickstart/envoy.yaml`.
const EDGE_TOKEN: &str = "quickstart-edge-token";
const ISSUER: &str = "https://quickstart.tollgate.example";
const AUDIENCE: &str = "quickstart";

const START_WAIT: Duration = Duration::from_secs(30);

/// The quickstart's four ports.
#[derive(Debug, Clone, Copy)]
pub struct Ports {
    base: u16,
}

impl Ports {
    /// The four ports from `base` on.
    pub fn from_base(base: u16) -> Result<Self> {
        if !(1024..=u16::MAX - 3).contains(&base) {
            bail!("--port-base is between 1024 and {}", u16::MAX - 3);
        }
        Ok(Self { base })
    }

    /// The first of four neighbouring ports that are all free.
    pub fn free_base() -> Result<u16> {
        let bases = (19000..30000).step_by(4);
        let free = |base: &u16| Self { base: *base }.check_free().is_ok();
        bases.into_iter().find(free).context("there are no four free ports between 19000 and 30000")
    }

    /// Fails, and says what to do, when a port is taken.
    pub fn check_free(self) -> Result<()> {
        for (port, user) in self.all() {
            if let Err(error) = TcpListener::bind(("127.0.0.1", port)) {
                bail!(
                    "port {port}, for {user}, is taken ({error}).\n{}Stop what listens there (another demo?), or \
                     choose other ports: cargo xtask demo --port-base {}",
                    listener_on(port),
                    Self::free_base_or(self.base.saturating_add(1000)),
                );
            }
        }
        Ok(())
    }

    fn free_base_or(base: u16) -> u16 {
        let free = |base: &u16| (*base..*base + 4).all(|port| TcpListener::bind(("127.0.0.1", port)).is_ok());
        (19000..30000).step_by(1000).find(free).unwrap_or(base)
    }

    fn all(self) -> [(u16, &'static str); 4] {
        [
            (self.base, "Envoy's gateway"),
            (self.base + 1, "Envoy's admin page"),
            (self.base + 2, "the control plane"),
            (self.base + 3, "the application"),
        ]
    }

    pub fn gateway_url(self) -> String {
        format!("http://127.0.0.1:{}", self.base)
    }

    pub fn admin_url(self) -> String {
        format!("http://127.0.0.1:{}", self.base + 1)
    }

    pub fn control_plane_url(self) -> String {
        format!("http://127.0.0.1:{}", self.base + 2)
    }

    fn listen(self, offset: u16) -> String {
        format!("127.0.0.1:{}", self.base + offset)
    }

    /// The quickstart's Envoy configuration with these ports in place of its own.
    fn render(self, config: &str) -> String {
        (0..4)
            .fold(config.to_owned(), |config, offset| {
                let own = format!("port_value: {}}}", PORT_BASE_DEFAULT + offset);
                // In two steps, so that a new port is not taken for the old one of the next step.
                config.replace(&own, &format!("port_value: @{}}}", self.base + offset))
            })
            .replace("port_value: @", "port_value: ")
    }
}

/// The running programs. Envoy stops first, so that it reports its last usage to a control plane that still runs.
pub struct Stack {
    pub ports: Ports,
    pub client: Client,
    envoy: Service,
    upstream: Service,
    control_plane: Service,
    dir: Scratch,
}

impl Stack {
    /// Starts everything, applies the policy, and waits until Envoy enforces it.
    pub fn start(envoy: &Path, ports: Ports) -> Result<Self> {
        let dir = Scratch::make(workspace::target().join("demo").join(std::process::id().to_string()))?;
        let client = Client::new();

        let mut serve = Command::new(workspace::tollgate());
        serve.args(["serve", "--listen", &ports.listen(2), "--database-url"]);
        serve.arg(format!("sqlite://{}", dir.path().join("tollgate.db").display()));
        serve.env("TOLLGATE_ADMIN_TOKEN", ADMIN_TOKEN).env("TOLLGATE_EDGE_TOKEN", EDGE_TOKEN);
        let control_plane =
            Service::start("the control plane", serve, &dir.path().join("control-plane.log"))?;
        let ready = format!("{}/readyz", ports.control_plane_url());
        control_plane.wait_until("ready", START_WAIT, || client.answers(&ready, 200))?;

        let policy = quickstart().join("policy.yaml");
        let mut apply = Command::new(workspace::tollgate());
        apply.args(["policy", "apply"]).arg(policy);
        output(apply.args(["--server", &ports.control_plane_url(), "--token", ADMIN_TOKEN]))?;

        let mut serve = Command::new(workspace::upstream());
        serve.arg(ports.listen(3));
        let upstream = Service::start("the application", serve, &dir.path().join("upstream.log"))?;

        let template = quickstart().join("envoy.yaml");
        let config = std::fs::read_to_string(&template)
            .with_context(|| format!("cannot read {}", template.display()))?;
        let rendered = dir.path().join("envoy.yaml");
        std::fs::write(&rendered, ports.render(&config))?;
        let mut serve = Command::new(envoy);
        // The configuration names the module relative to the repository's root.
        serve.current_dir(workspace::root()).arg("--config-path").arg(&rendered);
        // Two workers, as an edge has several; no hot restart, so that two demos do not meet in shared memory.
        serve.args(["--concurrency", "2", "--disable-hot-restart", "--log-level", "warning"]);
        let envoy = Service::start("Envoy", serve, &dir.path().join("envoy.log"))?;
        // Without a policy the filter answers 503; 401 to a caller without a token means that it has one.
        let hello = format!("{}/hello", ports.gateway_url());
        envoy.wait_until("enforce the policy", START_WAIT, || client.answers(&hello, 401))?;

        let stack = Self { ports, client, envoy, upstream, control_plane, dir };
        stack.check_alive()?;
        Ok(stack)
    }

    /// A token of the quickstart's issuer.
    pub fn sign_token(&self, user: &str) -> Result<String> {
        let mut sign = Command::new(workspace::tollgate());
        sign.args(["token", "--issuer", ISSUER, "--audience", AUDIENCE, "--subject", user, "--key"]);
        Ok(output(sign.arg(quickstart().join("issuer.key.pem")))?.trim().to_owned())
    }

    /// Where the database and the logs are.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Fails as soon as one of the programs ends; otherwise waits for Ctrl-C.
    pub fn wait_until_one_ends(&self) -> Result<()> {
        loop {
            self.check_alive()?;
            std::thread::sleep(Duration::from_millis(200));
        }
    }

    /// The last lines of each program's log, for a report of what went wrong.
    pub fn log_tails(&self) -> String {
        let programs = [("control plane", &self.control_plane), ("Envoy", &self.envoy)];
        programs.map(|(name, service)| format!("{name}:\n{}", service.log_tail())).concat()
    }

    fn check_alive(&self) -> Result<()> {
        [&self.envoy, &self.upstream, &self.control_plane].into_iter().try_for_each(Service::check_alive)
    }
}

fn quickstart() -> PathBuf {
    workspace::root().join("examples/quickstart")
}

/// Who listens on a port, when `ss` can tell.
fn listener_on(port: u16) -> String {
    let told = output(Command::new("ss").args(["-Hltnp", &format!("sport = :{port}")])).unwrap_or_default();
    match told.trim() {
        "" => String::new(),
        told => format!("  {told}\n"),
    }
}

#[cfg(test)]
mod tests {
    use super::{PORT_BASE_DEFAULT, Ports, quickstart};

    #[test]
    fn every_port_of_the_quickstart_moves_with_the_base() {
        let config = std::fs::read_to_string(quickstart().join("envoy.yaml")).unwrap();
        let moved = Ports { base: PORT_BASE_DEFAULT + 2 }.render(&config);
        let ports = |config: &str| {
            let after = config.split("port_value: ").skip(1);
            let mut ports: Vec<u16> = after.map(|text| text[..5].parse().unwrap()).collect();
            ports.sort_unstable();
            ports
        };
        assert_eq!(ports(&config), [18000, 18001, 18002, 18003]);
        assert_eq!(ports(&moved), [18002, 18003, 18004, 18005]);
    }
}
