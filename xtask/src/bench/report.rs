//! BENCHMARKS.md: each benchmark's latest results between two markers, with the machine named. The text around them is
//! a person's, and stays.

use std::process::Command;

use anyhow::{Context, Result};

use crate::process::output;
use crate::progress::note;
use crate::workspace;

/// Replaces the section `name`, or adds it.
pub fn write(name: &str, text: &str) -> Result<()> {
    let path = workspace::root().join("BENCHMARKS.md");
    let page = std::fs::read_to_string(&path).unwrap_or_else(|_| "# Benchmarks\n".to_owned());
    let section = format!("Measured by `cargo xtask bench {name}` on {}.\n\n{}", machine(), text.trim());
    std::fs::write(&path, replace(&page, name, &section))
        .with_context(|| format!("cannot write {}", path.display()))?;
    note(&format!("written into {}", path.display()));
    Ok(())
}

fn replace(page: &str, name: &str, section: &str) -> String {
    let (begin, end) = (format!("<!-- {name}: begin -->"), format!("<!-- {name}: end -->"));
    let section = format!("{begin}\n{section}\n{end}");
    let found = page.find(&begin).zip(page.find(&end));
    match found {
        Some((from, to)) if from < to => {
            let after = page.get(to + end.len()..).unwrap_or_default();
            format!("{}{section}{after}", page.get(..from).unwrap_or_default())
        }
        _ => format!("{}\n\n{section}\n", page.trim_end()),
    }
}

/// The processor, the number of cores and the kernel, and the day.
fn machine() -> String {
    let processor = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = processor.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    let model = model.map_or("an unnamed processor", |(_, model)| model).to_owned();
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let told = |program: &str, argument: &str| {
        output(Command::new(program).arg(argument))
            .map_or_else(|_| "?".to_owned(), |text| text.trim().to_owned())
    };
    // `cores` is what this process may use, and a benchmark confines itself to one of them.
    let cores = told("nproc", "--all").parse().unwrap_or(cores);
    format!("{model}, {cores} cores, Linux {}, {}", told("uname", "-r"), told("date", "+%Y-%m-%d"))
}

#[cfg(test)]
mod tests {
    use super::replace;

    #[test]
    fn only_the_section_of_the_benchmark_changes() {
        let page = replace("# Benchmarks\n\nIntroduction.\n", "edge", "first");
        let page = replace(&page, "control-plane", "other");
        let page = replace(&page, "edge", "second");
        let expected = "# Benchmarks\n\nIntroduction.\n\n<!-- edge: begin -->\nsecond\n<!-- edge: end -->\n\n\
                        <!-- control-plane: begin -->\nother\n<!-- control-plane: end -->\n";
        assert_eq!(page, expected);
    }
}
