//! An example's programs: control plane on SQLite, application, Envoy. They live in a directory of their own, and
//! end with the value that stands for them.

use std::collections::BTreeMap;
use std::net::{TcpListener, TcpStream};
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
pub const ADMIN_TOKEN: &str = "example-admin-token";
/// As in each example's `envoy.yaml`.
const EDGE_TOKEN: &str = "example-edge-token";
const ISSUER: &str = "https://quickstart.tollgate.example";
const AUDIENCE: &str = "quickstart";

/// How many neighbouring ports an example may have.
const PORTS_MAX: u16 = 10;

/// Within the directory of a run.
const FOLDER: &str = "example";
const ENVOY_LOG: &str = "envoy.log";

const START_WAIT: Duration = Duration::from_secs(30);

/// An example's four ports.
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
                     choose other ports: add --port-base {}",
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

    /// Of the first program that runs beside the application.
    pub fn beside_url(self) -> String {
        format!("http://127.0.0.1:{}", self.base + 4)
    }

    fn listen(self, offset: u16) -> String {
        format!("127.0.0.1:{}", self.base + offset)
    }

    /// A text of an example with these ports in place of its own, which begin with `own_base`.
    pub fn moved(self, text: &str, own_base: u16) -> String {
        let number =
            |text: &str| text.parse::<u16>().ok()?.checked_sub(own_base).filter(|at| *at < PORTS_MAX);
        let mut moved = String::new();
        for run in text.split_inclusive(|letter: char| !letter.is_ascii_digit()) {
            let digits = run.trim_end_matches(|letter: char| !letter.is_ascii_digit());
            match number(digits) {
                Some(at) => moved.push_str(&(self.base + at).to_string()),
                None => moved.push_str(digits),
            }
            moved.push_str(&run[digits.len()..]);
        }
        moved
    }
}

/// The running programs. Envoy stops first, so that it reports its last usage to a control plane that still runs.
pub struct Stack {
    pub ports: Ports,
    pub client: Client,
    port_base: u16,
    envoy: Service,
    programs: Vec<Service>,
    control_plane: Service,
    dir: Scratch,
}

/// What is started: the files of an example, and how its programs are run.
pub struct Plan {
    /// Its name.
    pub name: String,
    /// With `policy.yaml` and `envoy.yaml`.
    pub folder: PathBuf,
    /// The port that its `envoy.yaml` begins with.
    pub port_base: u16,
    /// The application, and what runs beside it: each gets the address to listen on.
    pub programs: Vec<PathBuf>,
    /// More arguments of `tollgate serve`; files are relative to the folder.
    pub serve: Vec<String>,
    /// More of its environment.
    pub environment: BTreeMap<String, String>,
    /// A path that answers 401 without a token once the edge has its policy.
    pub ready: String,
}

impl Plan {
    /// The quickstart's.
    pub fn quickstart() -> Self {
        Self {
            name: "quickstart".to_owned(),
            folder: quickstart(),
            port_base: PORT_BASE_DEFAULT,
            programs: vec![workspace::upstream()],
            serve: Vec::new(),
            environment: BTreeMap::new(),
            ready: "/hello".to_owned(),
        }
    }
}

impl Stack {
    /// Starts everything, applies the policy, and waits until Envoy enforces it.
    pub fn start(envoy: &Path, ports: Ports, plan: &Plan) -> Result<Self> {
        // READMEs name what lies in it; two of one example can only run on other ports.
        let dir = match ports.base == plan.port_base {
            true => plan.name.clone(),
            false => format!("{}-{}", plan.name, ports.base),
        };
        let dir = Scratch::make(workspace::target().join("demo").join(dir))?;
        let client = Client::new();
        // A copy, so that ports can be moved in all of it and what the tour writes is gone with it.
        let folder = dir.path().join(FOLDER);
        copy(&plan.folder, &folder, &|text| ports.moved(text, plan.port_base))?;

        let mut serve = Command::new(workspace::tollgate());
        serve.args(["serve", "--listen", &ports.listen(2), "--database-url"]);
        serve.arg(database_url(&dir));
        serve.args(plan.serve.iter().map(|argument| ports.moved(argument, plan.port_base)));
        serve.envs(plan.environment.iter().map(|(name, value)| (name, ports.moved(value, plan.port_base))));
        serve.env("TOLLGATE_ADMIN_TOKEN", ADMIN_TOKEN).env("TOLLGATE_EDGE_TOKEN", EDGE_TOKEN);
        let log = dir.path().join("control-plane.log");
        serve.current_dir(&folder);
        let control_plane = Service::start("the control plane", serve, &log)?;
        let ready = format!("{}/readyz", ports.control_plane_url());
        control_plane.wait_until("ready", START_WAIT, || client.answers(&ready, 200))?;

        let mut apply = Command::new(workspace::tollgate());
        apply.args(["policy", "apply", "policy.yaml"]).current_dir(&folder);
        output(apply.args(["--server", &ports.control_plane_url(), "--token", ADMIN_TOKEN]))?;

        let mut programs = Vec::new();
        for (program, offset) in plan.programs.iter().zip(3..) {
            let mut serve = Command::new(program);
            let name = program.file_name().unwrap_or_default().to_string_lossy();
            let log = dir.path().join(format!("{name}.log"));
            serve.arg(ports.listen(offset)).current_dir(&folder);
            let service = Service::start(&name, serve, &log)?;
            let listens = || TcpStream::connect(ports.listen(offset)).is_ok();
            service.wait_until("listen", START_WAIT, listens)?;
            programs.push(service);
        }

        let mut serve = Command::new(envoy);
        // The configuration names the module relative to the repository's root.
        serve.current_dir(workspace::root()).arg("--config-path").arg(folder.join("envoy.yaml"));
        // Two workers, as an edge has several; no hot restart, so that two demos do not meet in shared memory.
        serve.args(["--concurrency", "2", "--disable-hot-restart", "--log-level", "warning"]);
        // Its access log is read as it grows.
        serve.args(["--file-flush-interval-msec", "100"]);
        let envoy = Service::start("Envoy", serve, &dir.path().join(ENVOY_LOG))?;
        // Without a policy the filter answers 503; 401 to a caller without a token means that it has one.
        let first = format!("{}{}", ports.gateway_url(), plan.ready);
        envoy.wait_until("enforce the policy", START_WAIT, || client.answers(&first, 401))?;

        let stack = Self { ports, client, port_base: plan.port_base, envoy, programs, control_plane, dir };
        stack.check_alive()?;
        Ok(stack)
    }

    /// The example's files, as they are used.
    pub fn folder(&self) -> PathBuf {
        self.dir.path().join(FOLDER)
    }

    /// A text of the example with the ports that this run has.
    pub fn moved(&self, text: &str) -> String {
        self.ports.moved(text, self.port_base)
    }

    /// The control plane's database.
    pub fn database_url(&self) -> String {
        database_url(&self.dir)
    }

    /// What Envoy printed.
    pub fn access_log(&self) -> Result<String> {
        let path = self.dir.path().join(ENVOY_LOG);
        std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))
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
        [&self.envoy, &self.control_plane]
            .into_iter()
            .chain(&self.programs)
            .try_for_each(Service::check_alive)
    }
}

fn database_url(dir: &Scratch) -> String {
    format!("sqlite://{}", dir.path().join("tollgate.db").display())
}

/// Copies the files of a folder, texts as `edit` leaves them. An application's source is no part of what is run.
fn copy(from: &Path, to: &Path, edit: &dyn Fn(&str) -> String) -> Result<()> {
    let failed = |what: &str, path: &Path| format!("cannot {what} {}", path.display());
    std::fs::create_dir_all(to).with_context(|| failed("make", to))?;
    for entry in std::fs::read_dir(from).with_context(|| failed("read", from))? {
        let (path, target) = entry.map(|entry| (entry.path(), to.join(entry.file_name())))?;
        if path.is_dir() {
            if !path.join("Cargo.toml").is_file() {
                copy(&path, &target, edit)?;
            }
            continue;
        }
        let bytes = std::fs::read(&path).with_context(|| failed("read", &path))?;
        let bytes = match String::from_utf8(bytes) {
            Ok(text) => edit(&text).into_bytes(),
            Err(other) => other.into_bytes(),
        };
        std::fs::write(&target, bytes).with_context(|| failed("write", &target))?;
    }
    Ok(())
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
        let moved = Ports { base: PORT_BASE_DEFAULT + 2 }.moved(&config, PORT_BASE_DEFAULT);
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
