//! The programs a supervisor has started, and what became of them.

use std::collections::{BTreeMap, HashMap};
use std::fs::OpenOptions;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use nix::errno::Errno;
use nix::sys::signal::{Signal, killpg};
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid, waitpid};
use nix::unistd::Pid;

use super::launch;
use crate::process::{Component, Output, Phase, Status};

/// How long a program may take to end after SIGTERM before it is killed.
const GRACE: Duration = Duration::from_secs(20);

struct Entry {
    component: Component,
    pid: i32,
    phase: Phase,
    /// Told to end: its end is no crash.
    told: bool,
}

#[derive(Default)]
struct Inner {
    components: BTreeMap<String, Entry>,
    /// Programs that run to their end, by process id; the code once they have.
    runs: HashMap<i32, Option<i32>>,
}

/// All programs of one platform. The lock is held while a program starts, so that no end is seen before its start.
pub struct Table {
    state: PathBuf,
    inner: Mutex<Inner>,
    changed: Condvar,
}

impl Table {
    pub fn new(state: PathBuf) -> Self {
        Self { state, inner: Mutex::default(), changed: Condvar::new() }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Starts a component unless one of its name runs.
    pub fn start(&self, component: Component) -> Result<()> {
        let mut inner = self.lock();
        if inner.components.get(&component.name).is_some_and(|entry| entry.phase == Phase::Running) {
            bail!("{} runs already", component.name)
        }
        let log = launch::log_file(&self.state, &component.name)?;
        let mut command = launch::command(&component, &self.state)?;
        command.stdout(log.try_clone()?).stderr(log);
        let mut child = command.spawn().with_context(|| format!("start {}", component.argv[0]))?;
        feed(&mut child, &component)?;
        let pid = child.id().cast_signed();
        super::record::add(&self.state, pid)?;
        let entry = Entry { pid, phase: Phase::Running, told: false, component };
        inner.components.insert(entry.component.name.clone(), entry);
        Ok(())
    }

    /// Starts a known component again, as it was.
    pub fn restart(&self, name: &str) -> Result<()> {
        let component = self.lock().components.get(name).map(|entry| entry.component.clone());
        self.start(component.with_context(|| format!("no component {name}"))?)
    }

    /// Ends a component and waits until it is gone.
    pub fn stop(&self, name: &str, kill: bool) -> Result<()> {
        let mut inner = self.lock();
        let entry = inner.components.get_mut(name).with_context(|| format!("no component {name}"))?;
        let group = Pid::from_raw(entry.pid);
        if entry.phase != Phase::Running {
            return Ok(());
        }
        entry.told = true;
        signal(group, if kill { Signal::SIGKILL } else { Signal::SIGTERM })?;
        let deadline = Instant::now() + GRACE;
        loop {
            if inner.components.get(name).is_none_or(|entry| entry.phase != Phase::Running) {
                // Children that outlived the program (PostgreSQL's after SIGKILL) hold its ports.
                return if kill { signal(group, Signal::SIGKILL) } else { Ok(()) };
            }
            if Instant::now() > deadline {
                signal(group, Signal::SIGKILL)?;
            }
            let waited = self.changed.wait_timeout(inner, Duration::from_millis(500));
            inner = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Runs a program to its end.
    pub fn run(&self, component: &Component) -> Result<Output> {
        let mut inner = self.lock();
        let mut command = launch::command(component, &self.state)?;
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().with_context(|| format!("run {}", component.argv[0]))?;
        let pid = child.id().cast_signed();
        inner.runs.insert(pid, None);
        drop(inner);
        feed(&mut child, component)?;
        let stderr = child.stderr.take().map(|pipe| std::thread::spawn(move || read_all(pipe)));
        let stdout = child.stdout.take().map(read_all).unwrap_or_default();
        let stderr = stderr.and_then(|thread| thread.join().ok()).unwrap_or_default();
        let mut inner = self.lock();
        loop {
            if let Some(code) = inner.runs.get(&pid).copied().flatten() {
                inner.runs.remove(&pid);
                return Ok(Output { code, stdout, stderr });
            }
            inner = self.changed.wait(inner).unwrap_or_else(PoisonError::into_inner);
        }
    }

    pub fn status(&self) -> Vec<Status> {
        let inner = self.lock();
        let one = |entry: &Entry| Status {
            name: entry.component.name.clone(),
            pid: entry.pid,
            phase: entry.phase.clone(),
        };
        inner.components.values().map(one).collect()
    }

    /// Takes leave of every child that ends, orphans included; never returns.
    pub fn reap(&self) -> ! {
        loop {
            // Only looks: the exit is collected under the lock, after the start was entered.
            match waitid(Id::All, WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT) {
                Ok(_) => self.collect(),
                Err(Errno::ECHILD) => std::thread::sleep(Duration::from_millis(20)),
                Err(_) => {}
            }
        }
    }

    fn collect(&self) {
        let mut inner = self.lock();
        let (pid, code, how) = match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
            Ok(WaitStatus::Exited(pid, code)) => (pid, code, format!("exit code {code}")),
            Ok(WaitStatus::Signaled(pid, signal, _)) => {
                (pid, 128 + signal as i32, format!("signal {signal}"))
            }
            _ => return,
        };
        if let Some(run) = inner.runs.get_mut(&pid.as_raw()) {
            *run = Some(code);
        }
        let mut ended = inner.components.values_mut();
        if let Some(entry) = ended.find(|e| e.pid == pid.as_raw() && e.phase == Phase::Running) {
            entry.phase = if entry.told { Phase::Stopped } else { self.report(&entry.component.name, how) };
        }
        self.changed.notify_all();
    }

    /// Writes a crash to `crashes.log`.
    fn report(&self, name: &str, how: String) -> Phase {
        let log = launch::log_tail(&self.state, name);
        let file = OpenOptions::new().create(true).append(true).open(self.state.join("crashes.log"));
        // The report also stays in memory: a full disk must not end the supervisor.
        if let Ok(mut file) = file {
            let _ = writeln!(file, "{} {name} ended by itself: {how}\n{log}\n", jiff::Timestamp::now());
        }
        Phase::Crashed { how, log }
    }
}

fn signal(group: Pid, signal: Signal) -> Result<()> {
    match killpg(group, signal) {
        Ok(()) | Err(Errno::ESRCH) => Ok(()),
        Err(error) => Err(error).context("signal a component"),
    }
}

fn feed(child: &mut Child, component: &Component) -> Result<()> {
    if let (Some(mut pipe), Some(input)) = (child.stdin.take(), component.input.as_deref()) {
        pipe.write_all(input.as_bytes()).context("write the standard input")?;
    }
    Ok(())
}

fn read_all(mut pipe: impl std::io::Read) -> String {
    let mut bytes = Vec::new();
    // What came before a read error is still worth showing.
    let _ = pipe.read_to_end(&mut bytes);
    String::from_utf8_lossy(&bytes).into_owned()
}
