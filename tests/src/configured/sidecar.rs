//! A sidecar as a process of this machine, and what is asked of it.

use std::collections::BTreeMap;
use std::ops::Deref;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use serde_json::Value;

use super::View;
use crate::program::Program;

/// How long a sidecar may take to be ready, with servers that come up meanwhile.
const READY_LIMIT: Duration = Duration::from_mins(1);

/// A sidecar that runs on this machine.
pub struct Sidecar {
    program: Program,
    view: View,
    /// Where its probes and metrics are.
    pub pod_url: String,
}

impl Deref for Sidecar {
    type Target = View;

    fn deref(&self) -> &View {
        &self.view
    }
}

impl Sidecar {
    /// Starts it; it need not become ready.
    pub fn start(credentials_dir: &Path, flags: &[&str]) -> Result<Self> {
        let (listen, pod_listen) = (free_address()?, free_address()?);
        let directory = credentials_dir.to_str().context("a path in UTF-8")?;
        let mut arguments =
            vec!["serve", "--credentials-dir", directory, "--listen", &listen, "--pod-listen", &pod_listen];
        arguments.extend(flags);
        Ok(Self {
            program: Program::spawn("sidecar", &arguments, &BTreeMap::new())?,
            view: View::at(format!("http://{listen}"))?,
            pod_url: format!("http://{pod_listen}"),
        })
    }

    /// Waits until it is ready.
    pub async fn ready(&mut self) -> Result<()> {
        let url = format!("{}/readyz", self.pod_url);
        self.program.ready(&url, READY_LIMIT).await
    }

    /// Waits until what it tells of itself is as wanted; its log is told otherwise.
    pub async fn until(
        &self,
        what: &str,
        limit: Duration,
        wanted: impl Fn(&Value) -> bool,
    ) -> Result<Instant> {
        self.view.until(what, limit, wanted).await.with_context(|| self.program.log())
    }

    /// The program.
    pub fn program(&mut self) -> &mut Program {
        &mut self.program
    }
}

/// An address of this machine that nothing listens on.
fn free_address() -> Result<String> {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").context("find a free port")?;
    Ok(listener.local_addr()?.to_string())
}
