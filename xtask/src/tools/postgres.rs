//! A PostgreSQL of one's own: a new cluster on a free port, gone when it is dropped.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rustix::process::Signal;

use super::apt;
use crate::process::{Scratch, Service, on_path, output};
use crate::workspace;

/// The account that PostgreSQL runs as when we are root, which it refuses to be. Debian's package makes it.
const ACCOUNT: &str = "postgres";
const START_WAIT: Duration = Duration::from_secs(60);

/// A running PostgreSQL.
pub struct Postgres {
    // Dropped in this order: the program first, then its files.
    _service: Service,
    _dir: Scratch,
    url: String,
}

impl Postgres {
    /// Makes a cluster for tests and starts it, installing PostgreSQL where it is missing. No commit waits for the disk.
    pub fn start_for_tests() -> Result<Self> {
        Self::start(&["-c", "fsync=off", "-c", "synchronous_commit=off", "-c", "full_page_writes=off"])
    }

    /// Makes a cluster as a user would run it, every commit on the disk before it is answered.
    #[cfg(feature = "bench")]
    pub fn start_for_bench() -> Result<Self> {
        Self::start(&[])
    }

    fn start(settings: &[&str]) -> Result<Self> {
        let bin = provide()?;
        let dir = Scratch::make(cluster_dir())?;
        // The log lies beside the data, because root's Service writes it and initdb wants an empty directory.
        let data = dir.path().join("data");
        if as_other_account() {
            output(Command::new("chown").arg(ACCOUNT).arg(dir.path()))?;
        }
        let mut init = command(&bin.join("initdb"));
        init.args([
            "--auth=trust",
            "--username=tollgate",
            "--encoding=UTF8",
            "--locale=C",
            "--no-sync",
            "--pgdata",
        ]);
        output(init.arg(&data).current_dir(dir.path()))?;

        let port = free_port()?;
        let mut serve = command(&bin.join("postgres"));
        serve.arg("-D").arg(&data).arg("-k").arg(dir.path()).args([
            "-h",
            "127.0.0.1",
            "-p",
            &port.to_string(),
        ]);
        // Every test has a database and a pool of its own.
        serve.args(["-c", "max_connections=300"]).args(settings);
        serve.current_dir(dir.path());
        // SIGINT is PostgreSQL's fast shutdown; SIGTERM would wait for every client to leave.
        let service = Service::start_with("PostgreSQL", serve, &dir.path().join("log"), Signal::INT)?;
        service.wait_until("accept connections", START_WAIT, || {
            let mut ready = Command::new(bin.join("pg_isready"));
            ready.args(["-q", "-h", "127.0.0.1", "-p", &port.to_string()]);
            ready.status().is_ok_and(|status| status.success())
        })?;
        Ok(Self {
            _service: service,
            _dir: dir,
            url: format!("postgres://tollgate@127.0.0.1:{port}/postgres"),
        })
    }

    /// The address of a database whose user may create others.
    pub fn url(&self) -> &str {
        &self.url
    }
}

/// The directory of PostgreSQL's programs.
fn provide() -> Result<PathBuf> {
    if let Some(bin) = find() {
        return Ok(bin);
    }
    apt::install(&["postgresql"], "PostgreSQL")?;
    find().context("apt installed postgresql, yet there is no initdb below /usr/lib/postgresql")
}

fn find() -> Option<PathBuf> {
    let complete =
        |bin: &Path| ["initdb", "postgres", "pg_isready"].iter().all(|name| bin.join(name).is_file());
    // What is on PATH may be a link into the directory that has them all.
    let initdb = on_path("initdb").and_then(|initdb| initdb.canonicalize().ok());
    if let Some(bin) = initdb.as_deref().and_then(Path::parent).filter(|bin| complete(bin)) {
        return Some(bin.to_owned());
    }
    // Debian keeps them off PATH, one directory for each version.
    let versions = std::fs::read_dir("/usr/lib/postgresql").ok()?;
    let bins = versions.flatten().map(|version| version.path().join("bin"));
    bins.filter(|bin| complete(bin)).max()
}

fn as_other_account() -> bool {
    rustix::process::geteuid().is_root()
}

/// The other account may be unable to reach our target directory, but it can reach /tmp.
fn cluster_dir() -> PathBuf {
    let name = format!("tollgate-postgres-{}", std::process::id());
    if as_other_account() { std::env::temp_dir().join(name) } else { workspace::target().join(name) }
}

/// The program, run as the other account when we are root.
fn command(program: &Path) -> Command {
    if !as_other_account() {
        return Command::new(program);
    }
    let mut command = Command::new("setpriv");
    let (user, group) = (format!("--reuid={ACCOUNT}"), format!("--regid={ACCOUNT}"));
    command.args([&user, &group]).args(["--init-groups", "--pdeathsig", "INT", "--"]).arg(program);
    command
}

/// A port that was free a moment ago.
pub fn free_port() -> Result<u16> {
    let listener = TcpListener::bind(("127.0.0.1", 0)).context("there is no free port")?;
    match listener.local_addr()?.port() {
        0 => bail!("there is no free port"),
        port => Ok(port),
    }
}
