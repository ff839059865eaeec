//! Removing a platform from the machine, however its supervisor ended.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::{Identity, cgroups};
use crate::supervisor::{MARKER, record};

/// How long the kernel may take to end processes and to release their cgroups.
const LIMIT: Duration = Duration::from_secs(20);

/// What is there of the platform on the machine, in words.
pub fn traces(state: &Path, identity: &Identity) -> Vec<String> {
    let processes = processes(state, identity).into_iter().map(|pid| format!("process {pid}"));
    let link = Path::new("/sys/class/net").join(identity.link());
    let links = link.exists().then(|| format!("interface {}", identity.link())).into_iter();
    let cgroups = cgroups::existing(identity).into_iter().map(|path| format!("cgroup {}", path.display()));
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let inside = state.display().to_string();
    let mounts = mounts.lines().filter(|line| line.contains(&inside)).map(|line| format!("mount {line}"));
    processes.chain(links).chain(cgroups).chain(mounts).collect()
}

/// Ends the platform's processes, removes its interface and cgroups, and empties the state folder but for the logs.
pub async fn clear(state: &Path, identity: &Identity) -> Result<()> {
    let deadline = Instant::now() + LIMIT;
    loop {
        let processes = processes(state, identity);
        if processes.is_empty() {
            break;
        }
        if Instant::now() > deadline {
            bail!("processes {processes:?} do not end")
        }
        for pid in processes {
            // One that is gone by now is what we want.
            let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    remove_link(identity);
    cgroups::remove(identity, deadline).await?;
    empty(state)
}

fn processes(state: &Path, identity: &Identity) -> Vec<i32> {
    let mut processes = marked(identity);
    if !state.join(record::INSIDE).exists() {
        processes.extend(record::running(state));
    }
    processes
}

/// The processes that carry the platform's id. Those in a container do not; they end with their namespace's first
/// process, which does.
fn marked(identity: &Identity) -> Vec<i32> {
    let marker = format!("{MARKER}={}", identity.id);
    let own = std::process::id().cast_signed();
    let pids = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = pids.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    pids.filter(|pid| *pid != own && carries(*pid, marker.as_bytes())).collect()
}

fn carries(pid: i32, marker: &[u8]) -> bool {
    let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
    environment.split(|byte| *byte == 0).any(|variable| variable == marker)
}

fn remove_link(identity: &Identity) {
    let link = identity.link();
    if Path::new("/sys/class/net").join(&link).exists() {
        // It may vanish by itself at this moment: its other end's namespace is being taken down.
        let _ = std::process::Command::new("ip").args(["link", "delete", &link]).output();
    }
}

/// Removes everything in the state folder but the logs.
fn empty(state: &Path) -> Result<()> {
    let Ok(entries) = fs::read_dir(state) else { return Ok(()) };
    for entry in entries {
        let entry = entry?;
        let name = entry.file_name();
        if ["log", "log.previous", "crashes.log", "lock"].iter().any(|kept| name == *kept) {
            continue;
        }
        let path = entry.path();
        let removed =
            if entry.file_type()?.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
        removed.with_context(|| format!("remove {}", path.display()))?;
    }
    Ok(())
}
