//! The webhook's replicas on the node, as journeys take them away and bring them back.

use anyhow::{Context as _, Result};
use serde_json::json;
use tests::{deploy, workspace};
use tokio::process::Command;

use super::{DEPLOYMENT, Gate, eventually};

/// The replicas where pods run.
pub const PODS: &str = "pods --namespace=agent-ready-system --selector=app.kubernetes.io/name=webhook";

impl Gate {
    /// Whether pods run here. Where they do not, it says that a journey that needs them proves nothing.
    pub fn runs_pods(&self) -> bool {
        let runs = self.platform.has_node();
        if !runs {
            eprintln!("NOT PROVED: no pods run here ({})", self.platform.no_node());
        }
        runs
    }

    /// The webhook as a process of the machine, with its own account and the platform's settings.
    pub async fn webhook_process(&self) -> Result<Command> {
        let kubeconfig = deploy::service_account_kubeconfig(self.platform, "webhook").await?;
        let mut command = Command::new(workspace::binary("webhook")?);
        command.arg("serve").envs(deploy::settings::webhook_process(self.platform));
        command.env("KUBECONFIG", kubeconfig).kill_on_drop(true);
        Ok(command)
    }

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

    /// How often the apiserver has called the gate's entries, by its own count.
    pub async fn calls(&self) -> Result<Vec<String>> {
        let metrics = self.admin.may("get --raw /metrics", "").await?;
        let of_ours = |line: &&str| {
            line.starts_with("apiserver_admission_webhook_") && line.contains("_count{")
                || line.starts_with("apiserver_admission_webhook_request_total")
                || line.starts_with("apiserver_admission_webhook_fail_open_count")
        };
        let gates = |line: &&str| {
            ["pods.gate", "pods.hold", "namespaces.guard", "baseline.guard"]
                .iter()
                .any(|entry| line.contains(&format!("{entry}.agent-ready.io")))
        };
        Ok(metrics.lines().filter(of_ours).filter(gates).map(str::to_owned).collect())
    }
}
