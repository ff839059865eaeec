//! Processes that the bench starts and ends, and what they weigh.

use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

/// A process that ends with this value.
pub struct Process {
    child: Child,
}

impl Process {
    /// Starts `command` with its output in `log`.
    pub fn start(command: &mut Command, log: &Path) -> Result<Self> {
        let file = std::fs::File::create(log)?;
        let child = command.stdin(Stdio::null()).stdout(file.try_clone()?).stderr(file).spawn();
        Ok(Self { child: child.with_context(|| format!("start {}", command.get_program().display()))? })
    }

    /// Resident memory now, in bytes (`VmRSS` of proc_pid_status(5)).
    pub fn resident(&self) -> Result<u64> {
        self.memory("VmRSS:")
    }

    /// The most that was ever resident, in bytes (`VmHWM`).
    pub fn resident_most(&self) -> Result<u64> {
        self.memory("VmHWM:")
    }

    fn memory(&self, label: &str) -> Result<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let kib = status
            .lines()
            .find_map(|line| line.strip_prefix(label))
            .and_then(|rest| rest.trim().trim_end_matches("kB").trim().parse::<u64>().ok());
        Ok(kib.with_context(|| format!("the process has no {label}"))? * 1024)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Waits until something listens at `address`.
pub fn wait_for_port(address: SocketAddr) -> Result<()> {
    let end = Instant::now() + Duration::from_secs(10);
    while Instant::now() < end {
        if std::net::TcpStream::connect_timeout(&address, Duration::from_millis(200)).is_ok() {
            return Ok(());
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    bail!("nothing listens at {address}")
}

/// A free port on loopback.
pub fn free_port() -> Result<SocketAddr> {
    Ok(std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?)
}

/// Bytes as MiB, for print.
pub fn mib(bytes: u64) -> String {
    #[allow(clippy::cast_precision_loss, reason = "for print")]
    let value = bytes as f64 / f64::from(1 << 20);
    format!("{value:.1} MiB")
}
