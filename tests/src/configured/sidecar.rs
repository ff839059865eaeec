//! A sidecar as a process of this machine, and what is asked of it.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use reqwest::StatusCode;
use serde_json::Value;

use super::SERVICE;
use crate::program::Program;

/// How long a sidecar may take to be ready, with servers that come up meanwhile.
const READY_LIMIT: Duration = Duration::from_mins(1);

/// A sidecar that runs on this machine.
pub struct Sidecar {
    program: Program,
    /// Where its API is.
    pub url: String,
    /// Where its probes and metrics are.
    pub pod_url: String,
    client: reqwest::Client,
}

impl Sidecar {
    /// Starts it; it need not become ready.
    pub fn start(credentials_dir: &Path, flags: &[&str]) -> Result<Self> {
        let (listen, pod_listen) = (free_address()?, free_address()?);
        let directory = credentials_dir.to_str().context("a path in UTF-8")?;
        let mut arguments =
            vec!["serve", "--credentials-dir", directory, "--listen", &listen, "--pod-listen", &pod_listen];
        arguments.extend(flags);
        runtime::crypto::install();
        Ok(Self {
            program: Program::spawn("sidecar", &arguments, &BTreeMap::new())?,
            url: format!("http://{listen}"),
            pod_url: format!("http://{pod_listen}"),
            client: reqwest::Client::builder().no_proxy().build()?,
        })
    }

    /// Waits until it is ready.
    pub async fn ready(&mut self) -> Result<()> {
        let url = format!("{}/readyz", self.pod_url);
        self.program.ready(&url, READY_LIMIT).await
    }

    /// Asks the API.
    pub async fn get(&self, path: &str) -> Result<(StatusCode, Value)> {
        let answer = self.client.get(format!("{}{path}", self.url)).send().await?;
        let status = answer.status();
        let body = answer.bytes().await?;
        Ok((status, serde_json::from_slice(&body).unwrap_or(Value::Null)))
    }

    /// The value and version of a key.
    pub async fn value(&self, key: &str) -> Result<(Value, u64)> {
        let (status, mut body) = self.get(&format!("/v1/config/{SERVICE}/{key}")).await?;
        ensure!(status == StatusCode::OK, "{status}: {body}");
        let version = body["version"].as_u64().context("a version")?;
        Ok((body["value"].take(), version))
    }

    /// Waits, by long poll, until a key has at least this version; when that was.
    pub async fn reaches(&self, key: &str, version: u64, limit: Duration) -> Result<Instant> {
        let path =
            format!("/v1/config/{SERVICE}/{key}?after_version={}&wait={}ms", version - 1, limit.as_millis());
        let (status, body) = self.get(&path).await?;
        let at = Instant::now();
        ensure!(
            body["version"].as_u64() >= Some(version),
            "not at {version} after {limit:?}: {status} {body}"
        );
        Ok(at)
    }

    /// What it tells of itself.
    pub async fn status(&self) -> Result<Value> {
        Ok(self.get("/status").await?.1)
    }

    /// Waits until what it tells of itself is as wanted.
    pub async fn until(
        &self,
        what: &str,
        limit: Duration,
        wanted: impl Fn(&Value) -> bool,
    ) -> Result<Instant> {
        let deadline = Instant::now() + limit;
        loop {
            let status = self.status().await?;
            if wanted(&status) {
                return Ok(Instant::now());
            }
            ensure!(
                Instant::now() < deadline,
                "not {what} after {limit:?}: {status}\n{}",
                self.program.log()
            );
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Reads all values over and over while `work` goes on: no key's version may ever go back, and every read must
    /// succeed.
    pub async fn hammered<T>(&self, work: impl Future<Output = Result<T>>) -> Result<T> {
        let mut newest: BTreeMap<String, u64> = BTreeMap::new();
        let reading = async {
            loop {
                let (status, body) = self.get("/v1/config").await?;
                ensure!(status == StatusCode::OK, "{status}: {body}");
                for entry in body["configs"].as_array().into_iter().flatten() {
                    let (key, version) = (entry["key"].to_string(), entry["version"].as_u64().unwrap_or(0));
                    let before = newest.insert(key.clone(), version).unwrap_or(0);
                    ensure!(version >= before, "{key} went back from {before} to {version}");
                }
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        tokio::select! {
            result = work => result,
            result = reading => result.map(|never: std::convert::Infallible| match never {}),
        }
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
