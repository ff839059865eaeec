//! The webhook with another setting, for everyone: journeys that change one are alone in their binary.

use anyhow::Result;
use tests::{deploy, workspace};
use tokio::process::{Child, Command};

use super::{DEPLOYMENT, Gate};

/// A changed setting of the webhook.
pub struct Setting<'a> {
    gate: &'a Gate,
    variable: &'static str,
    /// The webhook itself where it is a process of the machine.
    process: Option<Child>,
}

impl Gate {
    /// The webhook with this environment variable, once it serves with it.
    pub async fn with(&self, variable: &'static str, value: &str) -> Result<Setting<'_>> {
        let mut process = None;
        if self.platform.has_node() {
            self.admin.may(&format!("set env {DEPLOYMENT} {variable}={value}"), "").await?;
            self.admin.may(&format!("rollout status {DEPLOYMENT} --timeout=120s"), "").await?;
        } else {
            self.platform.component("webhook").kill().await?;
            let kubeconfig = deploy::service_account_kubeconfig(self.platform, "webhook").await?;
            let mut command = Command::new(workspace::binary("webhook")?);
            command.arg("serve").envs(deploy::settings::webhook_process(self.platform));
            command.env("KUBECONFIG", kubeconfig).env(variable, value).kill_on_drop(true);
            process = Some(command.spawn()?);
        }
        Ok(Setting { gate: self, variable, process })
    }
}

impl Setting<'_> {
    /// Kills the webhook as it runs, every replica.
    pub async fn kill(&mut self) -> Result<()> {
        match &mut self.process {
            Some(process) => Ok(process.kill().await?),
            None => self.gate.end_replicas("--grace-period=0 --force").await,
        }
    }

    /// The webhook as it was, with so many replicas where pods run.
    pub async fn back(mut self, replicas: Option<i64>) -> Result<()> {
        let Some(replicas) = replicas else {
            if let Some(process) = &mut self.process {
                process.kill().await?;
            }
            return self.gate.platform.component("webhook").start().await;
        };
        self.gate.admin.may(&format!("set env {DEPLOYMENT} {}-", self.variable), "").await?;
        self.gate.start_replicas(replicas).await
    }
}
