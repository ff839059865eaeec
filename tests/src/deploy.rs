//! Our programs on a platform.

use anyhow::Result;

use crate::platform::{Platform, Say};

/// Brings the programs on the platform up to date.
pub async fn deploy(platform: &Platform, say: Say<'_>) -> Result<()> {
    let _ = (platform, say);
    Ok(())
}
