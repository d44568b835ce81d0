//! Programs: those that xtask waits for, and services that run until it is done with them.
//!
//! Whatever way xtask ends, nothing that it started stays behind: a service stops when it is dropped, all stop on
//! Ctrl-C or SIGTERM, and the kernel stops them should xtask itself be killed.

use std::ffi::OsStr;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};

/// How long a service may take to stop by itself.
const STOP_WAIT: Duration = Duration::from_secs(10);
const POLL: Duration = Duration::from_millis(20);

static RUNNING: Mutex<Vec<Running>> = Mutex::new(Vec::new());
static SCRATCH: Mutex<Vec<PathBuf>> = Mutex::new(Vec::new());

#[derive(Clone)]
struct Running {
    child: Arc<Mutex<Child>>,
    stop_signal: Signal,
}

/// Makes Ctrl-C, SIGTERM and SIGHUP stop every program and remove every scratch directory before xtask exits.
pub fn stop_on_signal() -> Result<()> {
    ctrlc::set_handler(|| {
        eprintln!("\nstopping ...");
        let running = lock(&RUNNING).clone();
        for one in &running {
            one.signal();
        }
        for one in &running {
            one.wait_or_kill();
        }
        for dir in lock(&SCRATCH).drain(..) {
            let _ = std::fs::remove_dir_all(dir);
        }
        std::process::exit(130);
    })
    .context("cannot listen for Ctrl-C")
}

/// Runs a program to its end, its output going to the terminal.
pub fn run(command: &mut Command) -> Result<()> {
    let status = status(command)?;
    if !status.success() {
        bail!("`{}` failed: {status}", line(command));
    }
    Ok(())
}

/// Runs a program to its end, its output going to the terminal, and says how it ended.
pub fn status(command: &mut Command) -> Result<ExitStatus> {
    let child = command.spawn().with_context(|| format!("cannot run `{}`", line(command)))?;
    let running = Running::register(child, Signal::TERM);
    let status = loop {
        if let Some(status) = lock(&running.child).try_wait()? {
            break status;
        }
        std::thread::sleep(POLL);
    };
    running.forget();
    Ok(status)
}

/// Runs a short program to its end and returns what it printed; its errors go into the error.
pub fn output(command: &mut Command) -> Result<String> {
    let output = command.output().with_context(|| format!("cannot run `{}`", line(command)))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        bail!("`{}` failed: {}\n{}", line(command), output.status, said.trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Whether a program is on PATH.
pub fn on_path(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|dir| dir.join(program)).find(|file| file.is_file())
}

/// A directory that is made empty now and removed when this is dropped.
pub struct Scratch {
    path: PathBuf,
}

impl Scratch {
    /// Makes the directory, without what an earlier run may have left in it.
    pub fn make(path: PathBuf) -> Result<Self> {
        if path.exists() {
            std::fs::remove_dir_all(&path).with_context(|| format!("cannot empty {}", path.display()))?;
        }
        std::fs::create_dir_all(&path).with_context(|| format!("cannot make {}", path.display()))?;
        lock(&SCRATCH).push(path.clone());
        Ok(Self { path })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        lock(&SCRATCH).retain(|other| *other != self.path);
        let _ = std::fs::remove_dir_all(&self.path);
    }
}

/// A program that runs beside xtask until this is dropped.
pub struct Service {
    name: String,
    log: PathBuf,
    running: Running,
}

impl Service {
    /// Starts it, its output going to the file `log`.
    pub fn start(name: &str, command: Command, log: &Path) -> Result<Self> {
        Self::start_with(name, command, log, Signal::TERM)
    }

    /// Starts a program that is stopped by another signal than SIGTERM.
    pub fn start_with(name: &str, command: Command, log: &Path, stop_signal: Signal) -> Result<Self> {
        let out = File::create(log).with_context(|| format!("cannot write {}", log.display()))?;
        let mut command = with_parent_death_signal(command);
        command.stdin(Stdio::null()).stdout(out.try_clone()?).stderr(out);
        let child = command.spawn().with_context(|| format!("cannot run `{}`", line(&command)))?;
        let running = Running::register(child, stop_signal);
        Ok(Self { name: name.to_owned(), log: log.to_owned(), running })
    }

    /// Its process id.
    #[cfg(feature = "bench")]
    pub fn id(&self) -> u32 {
        lock(&self.running.child).id()
    }

    /// Waits until `ready` says so; fails when the service ends before that, or the time is over.
    pub fn wait_until(&self, what: &str, limit: Duration, mut ready: impl FnMut() -> bool) -> Result<()> {
        let deadline = Instant::now() + limit;
        while !ready() {
            self.check_alive()?;
            if Instant::now() > deadline {
                bail!(
                    "{}: {what}: not after {} s; its log:\n{}",
                    self.name,
                    limit.as_secs(),
                    self.log_tail()
                );
            }
            std::thread::sleep(POLL);
        }
        Ok(())
    }

    /// Fails when the service has ended.
    pub fn check_alive(&self) -> Result<()> {
        if let Some(status) = lock(&self.running.child).try_wait()? {
            bail!("{} ended early ({status}); its log:\n{}", self.name, self.log_tail());
        }
        Ok(())
    }

    /// The last lines of its log.
    pub fn log_tail(&self) -> String {
        let text = std::fs::read(&self.log).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let lines: Vec<&str> = text.lines().collect();
        let tail = lines.iter().skip(lines.len().saturating_sub(20));
        tail.map(|line| format!("  | {line}\n")).collect()
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        self.running.signal();
        self.running.wait_or_kill();
        self.running.forget();
    }
}

impl Running {
    fn register(child: Child, stop_signal: Signal) -> Self {
        let running = Self { child: Arc::new(Mutex::new(child)), stop_signal };
        lock(&RUNNING).push(running.clone());
        running
    }

    fn forget(&self) {
        lock(&RUNNING).retain(|other| !Arc::ptr_eq(&other.child, &self.child));
    }

    fn signal(&self) {
        let mut child = lock(&self.child);
        // Only a child that was not yet waited for has its id for certain.
        if let Ok(None) = child.try_wait()
            && let Some(pid) = i32::try_from(child.id()).ok().and_then(Pid::from_raw)
        {
            let _ = kill_process(pid, self.stop_signal);
        }
    }

    fn wait_or_kill(&self) {
        let deadline = Instant::now() + STOP_WAIT;
        while Instant::now() < deadline {
            if !matches!(lock(&self.child).try_wait(), Ok(None)) {
                return;
            }
            std::thread::sleep(POLL);
        }
        let mut child = lock(&self.child);
        let _ = child.kill();
        let _ = child.wait();
    }
}

/// The same command, told to the kernel to end when xtask does. Without util-linux's `setpriv` it is as it was.
fn with_parent_death_signal(command: Command) -> Command {
    if on_path("setpriv").is_none() || command.get_program() == OsStr::new("setpriv") {
        return command;
    }
    let mut wrapped = Command::new("setpriv");
    wrapped.args(["--pdeathsig", "TERM"]).arg(command.get_program()).args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => wrapped.env(name, value),
            None => wrapped.env_remove(name),
        };
    }
    if let Some(dir) = command.get_current_dir() {
        wrapped.current_dir(dir);
    }
    wrapped
}

/// The command as one would type it.
pub fn line(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(OsStr::to_string_lossy).collect::<Vec<_>>().join(" ")
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // A thread that panicked left plain data behind; stopping the programs is still right.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
