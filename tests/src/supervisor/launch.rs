//! Starting one program.

use std::fs::{self, File, OpenOptions};
use std::io::{Read as _, Seek as _, SeekFrom};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail};

use crate::process::Component;

/// The end of a log that a report quotes, in bytes.
const TAIL_BYTES: u64 = 3000;

/// Prepares the command of a component; its standard streams are left to the caller.
pub fn command(component: &Component, state: &Path) -> Result<Command> {
    let Some((program, arguments)) = component.argv.split_first() else {
        bail!("{} has no program", component.name)
    };
    let mut command = Command::new(program);
    command.args(arguments).envs(&component.env);
    command.current_dir(component.cwd.as_deref().unwrap_or(state));
    command.stdin(if component.input.is_some() { Stdio::piped() } else { Stdio::null() });
    if let Some(user) = component.user.as_deref().filter(|_| nix::unistd::geteuid().is_root()) {
        let (uid, gid) = ids(user)?;
        command.uid(uid).gid(gid).env("USER", user).env("HOME", "/");
    }
    // A group of its own: a signal to one component reaches its children and nobody else's.
    command.process_group(0);
    Ok(command)
}

/// User and group id from /etc/passwd: a static program cannot rely on the name service of the C library.
pub fn ids(user: &str) -> Result<(u32, u32)> {
    let passwd = fs::read_to_string("/etc/passwd").context("read /etc/passwd")?;
    let line = passwd.lines().find(|line| line.split(':').next() == Some(user));
    let mut fields = line.with_context(|| format!("no user {user}"))?.split(':').skip(2);
    let mut next = || fields.next().and_then(|id| id.parse().ok()).context("malformed /etc/passwd");
    Ok((next()?, next()?))
}

/// The log file of a component.
pub fn log_path(state: &Path, name: &str) -> PathBuf {
    state.join("log").join(format!("{name}.log"))
}

/// Opens the log for standard output and standard error.
pub fn log_file(state: &Path, name: &str) -> Result<File> {
    let path = log_path(state, name);
    OpenOptions::new()
        .create(true)
        .append(true)
        .open(&path)
        .with_context(|| format!("open {}", path.display()))
}

/// The last lines of a component's log; empty when there is none.
pub fn log_tail(state: &Path, name: &str) -> String {
    let read = || -> std::io::Result<String> {
        let mut file = File::open(log_path(state, name))?;
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(TAIL_BYTES)))?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    };
    let text = read().unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(20)..].join("\n")
}
