//! HTTP clients for looking at components.

use std::sync::OnceLock;
use std::time::Duration;

use anyhow::{Context as _, Result};

/// A client that checks no certificate: for readiness only, where no answer is trusted with anything.
pub fn unverified() -> Result<reqwest::Client> {
    static CLIENT: OnceLock<reqwest::Client> = OnceLock::new();
    if let Some(client) = CLIENT.get() {
        return Ok(client.clone());
    }
    runtime::crypto::install();
    let builder = reqwest::Client::builder().tls_danger_accept_invalid_certs(true).no_proxy();
    let client = builder.timeout(Duration::from_secs(5)).build().context("build an HTTP client")?;
    Ok(CLIENT.get_or_init(|| client).clone())
}
