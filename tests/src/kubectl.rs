//! kubectl, as people use it.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context as _, Result};
use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;

use crate::process::Output;

/// A kubectl with a kubeconfig.
#[derive(Clone, Debug)]
pub struct Kubectl {
    program: PathBuf,
    kubeconfig: PathBuf,
}

impl Kubectl {
    /// The `program` with the rights of `kubeconfig`.
    pub fn new(program: PathBuf, kubeconfig: PathBuf) -> Self {
        Self { program, kubeconfig }
    }

    /// The same program with the rights of another kubeconfig.
    #[must_use]
    pub fn with(&self, kubeconfig: PathBuf) -> Self {
        Self { kubeconfig, ..self.clone() }
    }

    /// Its program and its kubeconfig, for a caller that cannot wait asynchronously.
    pub fn parts(&self) -> (&Path, &Path) {
        (&self.program, &self.kubeconfig)
    }

    /// Runs it with arguments.
    pub async fn run(&self, arguments: &[&str]) -> Result<Output> {
        self.feed(arguments, "").await
    }

    /// Runs it with arguments and a standard input (`-f -`).
    pub async fn feed(&self, arguments: &[&str], input: &str) -> Result<Output> {
        let mut command = Command::new(&self.program);
        command.args(arguments).env("KUBECONFIG", &self.kubeconfig).env("KUBECTL_KUBERC", "false");
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        let mut child = command.spawn().with_context(|| format!("run {}", self.program.display()))?;
        let pipe = child.stdin.take();
        let write = async {
            if let Some(mut pipe) = pipe {
                // A kubectl that does not read its input has closed it: its own message says more.
                let _ = pipe.write_all(input.as_bytes()).await;
            }
        };
        let (output, ()) = tokio::join!(child.wait_with_output(), write);
        let output = output.context("wait for kubectl")?;
        Ok(Output {
            code: output.status.code().unwrap_or(137),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        })
    }
}
