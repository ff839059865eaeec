//! Metrics of the apiserver.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use kube::Client;

/// Seconds of CPU that the apiserver has used.
pub const CPU: &str = "process_cpu_seconds_total";
/// What it may use of each second and still be at rest.
const REST: f64 = 0.15;

/// The sum of the samples whose name and labels begin so.
pub async fn total(client: &Client, begins: &str) -> Result<f64> {
    let text = client.request_text(http::Request::get("/metrics").body(Vec::new())?).await?;
    let samples = text.lines().filter(|line| line.starts_with(begins));
    samples
        .map(|line| line.rsplit(' ').next().and_then(|value| value.parse::<f64>().ok()))
        .sum::<Option<f64>>()
        .context("a sample is no number")
}

/// Waits until the apiserver has done what controllers want of it because of what was made before, a minute at most.
pub async fn at_rest(client: &Client) -> Result<()> {
    let end = Instant::now() + Duration::from_mins(1);
    let mut before = total(client, CPU).await?;
    while Instant::now() < end {
        tokio::time::sleep(Duration::from_secs(1)).await;
        let now = total(client, CPU).await?;
        if now - before < REST {
            break;
        }
        before = now;
    }
    Ok(())
}
