//! What is left of an installation when it was removed: nothing, and pods start.

use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use serde_json::json;

use super::{Gate, POD_GATE, eventually, fresh, pod};

/// What refuses pods.
const CONFIGURATIONS: [&str; 2] =
    ["validatingwebhookconfiguration/agent-ready-gate", "mutatingwebhookconfiguration/agent-ready-inject"];

impl Gate {
    /// Removes an overlay as the documentation says.
    pub async fn remove(&self, overlay: &Path) -> Result<()> {
        let delete = format!("delete -k {} --ignore-not-found --timeout=120s", overlay.display());
        self.admin.may(&delete, "").await.map(drop)
    }

    /// Makes a pod, and waits until it runs where pods run.
    pub async fn starts(&self, namespace: &str) -> Result<()> {
        let name = fresh("after-");
        let manifest = pod(&json!({"name": name})).to_string();
        self.admin.may(&format!("create -f - --namespace={namespace}"), &manifest).await?;
        if self.platform.has_node() {
            let running =
                format!("wait pod/{name} --namespace={namespace} --for=condition=Ready --timeout=60s");
            self.admin.may(&running, "").await?;
        }
        Ok(())
    }

    /// No configuration is left or comes back, and a pod runs where none could.
    pub async fn nothing_refuses(&self, namespace: &str) -> Result<()> {
        for configuration in CONFIGURATIONS {
            eventually("the end of a configuration", async || {
                Ok(self.absent(configuration).await?.then_some(()))
            })
            .await
            .context(configuration)?;
        }
        self.starts(namespace).await?;
        for configuration in CONFIGURATIONS {
            ensure!(self.absent(configuration).await?, "{configuration} came back");
        }
        Ok(())
    }

    async fn absent(&self, what: &str) -> Result<bool> {
        let printed = self.admin.may(&format!("get {what} --ignore-not-found -o name"), "").await?;
        Ok(printed.trim().is_empty())
    }

    /// The gate is shut again, by its own replicas.
    pub async fn installed(&self) -> Result<()> {
        let namespace = self.namespace().await?;
        self.shut(&namespace).await?;
        self.delete(&[&namespace]).await
    }

    /// Waits until the gate refuses pods in a namespace that is not ready.
    pub async fn shut(&self, namespace: &str) -> Result<()> {
        let create = format!("create -f - --dry-run=server --namespace={namespace}");
        let manifest = pod(&json!({"generateName": "refused-"})).to_string();
        eventually("the gate refuses", async || {
            Ok(self.admin.may_not(POD_GATE, &create, &manifest).await.ok())
        })
        .await
        .map(drop)
    }
}
