//! An example, run: its programs are started, its tour is taken, and what is seen is held against what was reviewed.

mod script;
mod tour;
mod transcript;

use std::path::PathBuf;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, ensure};

use super::stack::{Plan, Stack};
use crate::progress::note;
use crate::workspace;
use script::Script;
use transcript::Transcript;

const HOUR: Duration = Duration::from_secs(3600);
/// Longer than any tour that must lie within one hour.
const TOUR_TAKES: Duration = Duration::from_secs(40);

/// Lines of the tour that a failure shows.
const TAIL_LINES: usize = 40;

/// An example that is there.
pub struct Example {
    name: String,
    script: Script,
}

impl Example {
    /// The one of this name.
    pub fn open(name: &str) -> Result<Self> {
        let folder = folder(name);
        ensure!(
            folder.join("tour.yaml").is_file(),
            "there is no example {name:?}; there are: {}",
            Self::names()?.join(", ")
        );
        Ok(Self { script: Script::read(&folder)?, name: name.to_owned() })
    }

    /// All that have a tour.
    pub fn names() -> Result<Vec<String>> {
        let mut names = workspace::examples()?;
        names.retain(|name| folder(name).join("tour.yaml").is_file());
        Ok(names)
    }

    /// Where a reader begins.
    pub fn readme(&self) -> PathBuf {
        folder(&self.name).join("README.md")
    }

    /// What is started.
    pub fn plan(&self) -> Plan {
        let program = |name: &str| workspace::target().join("release").join(name);
        let upstream = program(&workspace::upstream_of(&self.name));
        Plan {
            name: self.name.clone(),
            folder: folder(&self.name),
            port_base: self.script.port_base,
            programs: std::iter::once(upstream)
                .chain(self.script.beside.iter().map(|name| program(name)))
                .collect(),
            serve: self.script.serve.clone(),
            environment: self.script.environment.clone(),
            ready: self.script.ready.clone(),
        }
    }

    /// Waits until the next hour has begun where the tour must lie within one and too little of this one is left.
    #[expect(clippy::disallowed_methods, reason = "what is waited for is the hour of the programs that run")]
    pub fn wait_for_its_hour(&self) {
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let left = HOUR - Duration::from_secs(since_epoch.as_secs() % HOUR.as_secs());
        if self.script.within_one_hour && left < TOUR_TAKES {
            note(&format!(
                "the hour ends in {} s, and with it what the tour counts: waiting",
                left.as_secs()
            ));
            std::thread::sleep(left + Duration::from_secs(1));
        }
    }

    /// Takes the tour; with `prints` people see it.
    pub fn tour(&self, stack: &Stack, prints: bool) -> Result<()> {
        let mut transcript = Transcript::new(prints)?;
        let walked = tour::walk(&self.script, stack, &mut transcript);
        walked.and_then(|()| transcript.hold(&folder(&self.name))).with_context(|| {
            format!("the tour ended so:\n{}\n{}", transcript.tail(TAIL_LINES), stack.log_tails())
        })
    }
}

fn folder(name: &str) -> PathBuf {
    workspace::root().join("examples").join(name)
}
