//! Metrics of the apiserver.

use anyhow::{Context as _, Result};
use kube::Client;

/// The sum of the samples whose name and labels begin so.
pub async fn total(client: &Client, begins: &str) -> Result<f64> {
    let text = client.request_text(http::Request::get("/metrics").body(Vec::new())?).await?;
    let samples = text.lines().filter(|line| line.starts_with(begins));
    samples
        .map(|line| line.rsplit(' ').next().and_then(|value| value.parse::<f64>().ok()))
        .sum::<Option<f64>>()
        .context("a sample is no number")
}
