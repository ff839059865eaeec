//! Our programs as processes of this machine, for faults that a pod cannot be made to have.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use tokio::process::{Child, Command};

/// A program of ours that ends with the value.
#[derive(Debug)]
pub struct Program {
    name: String,
    child: Child,
    log: PathBuf,
}

impl Program {
    /// Starts `name` with arguments and no environment but `environment` (and RUST_LOG, PATH of the caller).
    pub fn spawn(name: &str, arguments: &[&str], environment: &BTreeMap<String, String>) -> Result<Self> {
        let folder = crate::workspace::root().join(".local/programs");
        std::fs::create_dir_all(&folder)?;
        let log = folder.join(format!("{name}-{}.log", uuid::Uuid::now_v7()));
        let output = File::create(&log)?;
        let mut command = Command::new(crate::workspace::binary(name)?);
        command.args(arguments).env_clear().envs(environment);
        for variable in ["RUST_LOG", "RUST_BACKTRACE", "PATH"] {
            if let Some(value) = std::env::var_os(variable) {
                command.env(variable, value);
            }
        }
        command.stdin(Stdio::null()).stdout(output.try_clone()?).stderr(output).kill_on_drop(true);
        let child = command.spawn().with_context(|| format!("start {name}"))?;
        Ok(Self { name: name.to_owned(), child, log })
    }

    /// Waits until `url` answers 200; the program's end before that is an error with its log.
    pub async fn ready(&mut self, url: &str, limit: Duration) -> Result<()> {
        let client = crate::http::unverified()?;
        let deadline = Instant::now() + limit;
        loop {
            if client.get(url).send().await.is_ok_and(|answer| answer.status().is_success()) {
                return Ok(());
            }
            if let Some(status) = self.child.try_wait()? {
                bail!("{} ended with {status}:\n{}", self.name, self.log())
            }
            if Instant::now() > deadline {
                bail!("{} does not answer {url} after {limit:?}:\n{}", self.name, self.log())
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Its process id, while it runs.
    pub fn pid(&self) -> Option<u32> {
        self.child.id()
    }

    /// Sends SIGKILL and waits for its end.
    pub async fn kill(&mut self) -> Result<()> {
        self.child.kill().await.with_context(|| format!("kill {}", self.name))
    }

    /// Sends SIGTERM and waits for its end.
    pub async fn terminate(&mut self) -> Result<ExitStatus> {
        if let Some(pid) = self.child.id() {
            let pid = nix::unistd::Pid::from_raw(pid.cast_signed());
            nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM)?;
        }
        self.wait(Duration::from_secs(30)).await
    }

    /// Waits for its end.
    pub async fn wait(&mut self, limit: Duration) -> Result<ExitStatus> {
        let status = tokio::time::timeout(limit, self.child.wait()).await;
        Ok(status.with_context(|| format!("{} does not end in {limit:?}", self.name))??)
    }

    /// What it wrote.
    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }
}
