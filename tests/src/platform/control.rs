//! Components under a test's control.

use std::time::Duration;

use anyhow::Result;

use crate::host::Host;
use crate::process::Ready;

/// A component under a test's control.
pub struct Control<'a> {
    pub(super) host: &'a Host,
    pub(super) name: String,
}

impl Control<'_> {
    /// Ends it with SIGTERM and waits for its end.
    pub async fn stop(&self) -> Result<()> {
        self.host.stop(&self.name, false).await
    }

    /// Ends it with SIGKILL and waits for its end.
    pub async fn kill(&self) -> Result<()> {
        self.host.stop(&self.name, true).await
    }

    /// Starts it again as it was; waits for nothing more.
    pub async fn start(&self) -> Result<()> {
        self.host.restart(&self.name).await
    }

    /// Starts it again as it was and waits until it serves.
    pub async fn start_ready(&self, ready: &Ready, limit: Duration) -> Result<()> {
        self.start().await?;
        self.host.wait(&self.name, ready, limit).await
    }
}
