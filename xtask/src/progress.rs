//! What a person sees while xtask works: a heading for each step, and how long it took.

use std::io::IsTerminal;
use std::time::Instant;

use anyhow::Result;

/// Says what begins now.
pub fn heading(text: &str) {
    if std::io::stdout().is_terminal() {
        println!("\x1b[1;36m==>\x1b[0m \x1b[1m{text}\x1b[0m");
    } else {
        println!("==> {text}");
    }
}

/// Says more about the step under way.
pub fn note(text: &str) {
    println!("    {text}");
}

/// Does a step under a heading and says how long it took.
pub fn step<T>(text: &str, work: impl FnOnce() -> Result<T>) -> Result<T> {
    heading(text);
    let start = Instant::now();
    let result = work()?;
    note(&format!("done in {:.1} s", start.elapsed().as_secs_f64()));
    Ok(result)
}
