//! The commands of a README, run as its reader would: what is written there works.

use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process_group};

use crate::workspace;

/// Longest that the commands of a reader may take.
const PATIENCE: Duration = Duration::from_secs(180);
const POLL: Duration = Duration::from_millis(50);

/// Runs the `sh` blocks of READMEs one after the other in one shell, from the repository's root, with `envoy` on the path.
/// Lines of `cargo xtask` are left out: they are what runs this. What the commands leave in the background is stopped.
pub fn run(readmes: &[PathBuf], envoy: &Path) -> Result<()> {
    let mut script = "exec 2>&1\n".to_owned();
    for readme in readmes {
        let text = std::fs::read_to_string(readme);
        let text = text.with_context(|| format!("cannot read {}", readme.display()))?;
        script.push_str(&format!("cd {}\n{}", workspace::root().display(), commands(&text)));
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let dirs = envoy.parent().into_iter().map(Path::to_owned).chain(std::env::split_paths(&path));
    let mut shell = Command::new("bash");
    shell.args(["-euo", "pipefail", "-c", &script]);
    shell.current_dir(workspace::root()).env("PATH", std::env::join_paths(dirs)?);
    shell.stdin(Stdio::null()).process_group(0);
    let dir = workspace::target().join("demo");
    std::fs::create_dir_all(&dir).with_context(|| format!("cannot make {}", dir.display()))?;
    let log = dir.join(format!("readme-{}.log", std::process::id()));
    let out = std::fs::File::create(&log).with_context(|| format!("cannot write {}", log.display()))?;
    let mut shell = shell.stdout(out).spawn().context("cannot run bash")?;
    let group = Pid::from_child(&shell);
    let deadline = Instant::now() + PATIENCE;
    let status = loop {
        match shell.try_wait()? {
            Some(status) => break Some(status),
            None if Instant::now() > deadline => break None,
            None => std::thread::sleep(POLL),
        }
    };
    // Nothing is left to stop where nothing was started in the background.
    let _ = kill_process_group(group, Signal::TERM);
    let said = std::fs::read_to_string(&log).unwrap_or_default();
    let _ = std::fs::remove_file(&log);
    let _ = shell.wait();
    if !status.is_some_and(|status| status.success()) {
        let names = readmes.iter().map(|readme| readme.display().to_string()).collect::<Vec<_>>().join(", ");
        let ended = status.map_or_else(|| "they did not end".to_owned(), |status| status.to_string());
        bail!("the commands of {names} failed ({ended}); they printed:\n{said}");
    }
    Ok(())
}

/// The lines of all `sh` blocks, also of those within a list.
fn commands(text: &str) -> String {
    let mut commands = String::new();
    let mut inside = false;
    for line in text.lines() {
        match line.trim() {
            "```sh" => inside = true,
            "```" => inside = false,
            command if inside && !command.starts_with("cargo xtask") => {
                commands.push_str(line);
                commands.push('\n');
            }
            _ => {}
        }
    }
    commands
}

#[cfg(test)]
mod tests {
    #[test]
    fn commands_are_those_of_all_sh_blocks() {
        let text =
            "# A\n```sh\ncargo xtask demo\na \\\n  b\n```\n```json\n{}\n```\n- c:\n  ```sh\n  d\n  ```\n";
        assert_eq!(super::commands(text), "a \\\n  b\n  d\n");
    }
}
