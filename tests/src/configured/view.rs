//! What an app sees of a sidecar: its API on localhost.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use reqwest::StatusCode;
use serde_json::Value;

use super::SERVICE;

/// A sidecar's API.
#[derive(Clone, Debug)]
pub struct View {
    /// Where it is.
    pub url: String,
    client: reqwest::Client,
}

impl View {
    /// The API at a base URL.
    pub fn at(url: String) -> Result<Self> {
        runtime::crypto::install();
        Ok(Self { url, client: reqwest::Client::builder().no_proxy().build()? })
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

    /// What the sidecar tells of itself.
    pub async fn status(&self) -> Result<Value> {
        Ok(self.get("/status").await?.1)
    }

    /// Waits until what it tells of itself is as wanted; when that was.
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
            ensure!(Instant::now() < deadline, "not {what} after {limit:?}: {status}");
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
}
