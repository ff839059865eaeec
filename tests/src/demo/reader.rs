//! Reading a value where the tenant's program would: on localhost in its pod.

use std::net::{Ipv4Addr, TcpListener};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;
use tokio::io::{AsyncBufReadExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};

use super::Demonstrated;
use crate::pki::write_secret;
use crate::platform::Platform;
use crate::process::{Component, Ready};

/// The component that stands in for the sidecar of a pod that cannot run.
const SIDECAR: &str = "demo-sidecar";

/// How the sidecar is asked: a command that runs `probe get --timed` where the sidecar is on localhost.
pub struct Reader {
    command: Vec<String>,
    kubeconfig: std::path::PathBuf,
    port: u16,
}

/// A value, and when it was there.
pub struct Read {
    /// The sidecar's answer.
    pub body: Value,
    /// When it had been read.
    pub at: jiff::Timestamp,
}

/// A question that the sidecar has received and holds.
pub struct Waiting {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Reader {
    /// In the demonstration's pod.
    pub fn pod(platform: &Platform, owner: &Demonstrated) -> Self {
        let (kubectl, kubeconfig) = (platform.kubectl_command(), platform.kubeconfig());
        let program = kubectl.parts().0.to_string_lossy().into_owned();
        let words = ["--namespace", &owner.namespace, "exec", &owner.pod, "-c", "app", "--", "/probe"];
        let command = std::iter::once(program).chain(words.map(str::to_owned)).collect();
        Self { command, kubeconfig, port: 7070 }
    }

    /// Beside a sidecar that runs as a process of this machine, with what the kubelet would mount.
    pub async fn process(platform: &Platform, owner: &Demonstrated) -> Result<Self> {
        let folder = platform.host().data_folder("demo-credentials", None)?;
        let name = contract::names::SECRET_NAME;
        let arguments = ["--namespace", &owner.namespace, "get", "secret", name, "-o", "json"];
        let secret: Value = serde_json::from_str(&platform.kubectl(&arguments).await?.success()?)?;
        for (key, value) in secret["data"].as_object().context("the Secret is empty")? {
            let value = STANDARD.decode(value.as_str().unwrap_or_default())?;
            write_secret(&folder.join(key), &String::from_utf8(value)?)?;
        }
        if platform.status().await?.iter().any(|status| status.name == SIDECAR) {
            platform.component(SIDECAR).stop().await?;
        }
        let (port, pod_port) = (free_port()?, free_port()?);
        let binary = crate::workspace::binary("sidecar")?;
        let component = Component::new(SIDECAR, [binary.to_string_lossy().as_ref(), "serve"])
            .env("CREDENTIALS_DIR", folder.to_string_lossy())
            .env("LISTEN", format!("127.0.0.1:{port}"))
            .env("POD_LISTEN", format!("127.0.0.1:{pod_port}"));
        let ready = Ready::Http(format!("http://127.0.0.1:{port}/readyz"));
        platform.host().start(component, &ready, Duration::from_secs(20)).await?;
        let probe = crate::workspace::binary("probe")?.to_string_lossy().into_owned();
        Ok(Self { command: vec![probe], kubeconfig: platform.kubeconfig(), port })
    }

    /// The value as soon as it is newer than `after_version`.
    pub async fn value(&mut self, service: &str, key: &str, after_version: u64) -> Result<Read> {
        self.wait(service, key, after_version).await?.answer().await
    }

    /// Asks for a value newer than `after_version`; comes back when the question is sent.
    pub async fn wait(&self, service: &str, key: &str, after_version: u64) -> Result<Waiting> {
        let query = format!("after_version={after_version}&wait=20s");
        let url = format!("http://127.0.0.1:{}/v1/config/{service}/{key}?{query}", self.port);
        let mut command = Command::new(&self.command[0]);
        command.args(&self.command[1..]).args(["get", "--timed", &url]).env("KUBECONFIG", &self.kubeconfig);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        let mut child = command.spawn().context("ask the sidecar")?;
        let mut lines = BufReader::new(child.stdout.take().context("no output")?).lines();
        ensure!(lines.next_line().await?.is_some_and(|line| line == "asked"), "the sidecar was not asked");
        Ok(Waiting { child, lines })
    }
}

impl Waiting {
    /// The answer.
    pub async fn answer(mut self) -> Result<Read> {
        let at = self.lines.next_line().await?;
        let body = self.lines.next_line().await?;
        let (Some(at), Some(body)) = (at, body) else {
            let output = self.child.wait_with_output().await?;
            bail!("the sidecar gave no answer: {}", String::from_utf8_lossy(&output.stderr))
        };
        let body = serde_json::from_str(&body).with_context(|| format!("not JSON: {body}"))?;
        Ok(Read {
            body,
            at: jiff::Timestamp::from_microsecond(at.parse().context("read the probe's clock")?)?,
        })
    }
}

fn free_port() -> Result<u16> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("find a free port")?.local_addr()?.port())
}
