//! The processes that a supervisor has started, on disk: found again when it was killed.

use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::path::Path;

use anyhow::{Context as _, Result};

/// One line a process: its id and when it started, since ids are used again.
const FILE: &str = "processes";

/// Says that the ids are those of a process namespace, which ends as a whole: they mean others outside.
pub const INSIDE: &str = "processes.inside";

/// Adds a process.
pub fn add(state: &Path, pid: i32) -> Result<()> {
    let file = OpenOptions::new().create(true).append(true).open(state.join(FILE));
    let mut file = file.context("open the record of processes")?;
    // A process that has ended by now needs no line.
    start(pid).map_or(Ok(()), |start| writeln!(file, "{pid} {start}").context("record a process"))
}

/// The recorded processes that still run.
pub fn running(state: &Path) -> Vec<i32> {
    let text = fs::read_to_string(state.join(FILE)).unwrap_or_default();
    let lines = text.lines().filter_map(|line| line.split_once(' '));
    let entries = lines.filter_map(|(pid, start)| Some((pid.parse().ok()?, start.parse().ok()?)));
    entries.filter(|(pid, recorded)| start(*pid) == Some(*recorded)).map(|(pid, _)| pid).collect()
}

/// When a process started, in clock ticks since the machine did; nothing if it does not run.
fn start(pid: i32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name before the last parenthesis may hold anything. State is the first field after it, the start the 20th.
    let mut fields = stat.rsplit_once(") ")?.1.split(' ');
    if fields.next()? == "Z" {
        return None;
    }
    fields.nth(18)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_recorded_process_is_found_while_it_runs_and_only_it() {
        let folder = tempfile::tempdir().unwrap();
        let own = std::process::id().cast_signed();
        add(folder.path(), own).unwrap();
        let file = folder.path().join(FILE);
        // The same id, started at another time.
        let lines = format!("{}{own} 1\n", fs::read_to_string(&file).unwrap());
        fs::write(&file, lines).unwrap();
        assert_eq!(running(folder.path()), [own]);
    }
}
