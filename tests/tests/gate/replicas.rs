//! The webhook's replicas on the node, as journeys take them away and bring them back.

use anyhow::{Context as _, Result};
use serde_json::json;

use super::{DEPLOYMENT, Gate, eventually};

/// The replicas where pods run.
pub const PODS: &str = "pods --namespace=agent-ready-system --selector=app.kubernetes.io/name=webhook";

impl Gate {
    /// How many replicas are wanted; none where the webhook is a process of the machine.
    pub async fn replicas(&self) -> Result<Option<i64>> {
        if !self.platform.has_node() {
            return Ok(None);
        }
        self.admin.get(DEPLOYMENT).await?["spec"]["replicas"].as_i64().context("replicas").map(Some)
    }

    /// Ends every replica, by a deletion with these flags.
    pub async fn end_replicas(&self, flags: &str) -> Result<()> {
        self.admin.may(&format!("scale {DEPLOYMENT} --replicas=0"), "").await?;
        self.admin.may(&format!("delete {PODS} {flags}"), "").await?;
        eventually("the end of every replica", async || {
            Ok((self.admin.get(PODS).await?["items"] == json!([])).then_some(()))
        })
        .await
    }

    /// Starts so many replicas, and waits for them.
    pub async fn start_replicas(&self, replicas: i64) -> Result<()> {
        self.admin.may(&format!("scale {DEPLOYMENT} --replicas={replicas}"), "").await?;
        self.admin.may(&format!("rollout status {DEPLOYMENT} --timeout=120s"), "").await.map(drop)
    }
}
