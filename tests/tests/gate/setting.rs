//! The webhook with another setting, for everyone: journeys that change one are alone in their binary.

use anyhow::Result;
use tests::load::Webhook;
use tokio::process::Child;

use super::{DEPLOYMENT, Gate};

/// A changed setting of the webhook.
pub struct Setting<'a> {
    gate: &'a Gate,
    variable: &'static str,
    /// Where pods run.
    replicas: Option<i64>,
    /// The webhook itself where it is a process of the machine.
    process: Option<Child>,
}

impl Gate {
    /// The webhook with this environment variable, once nobody serves without it.
    pub async fn with(&self, variable: &'static str, value: &str) -> Result<Setting<'_>> {
        let replicas = self.replicas().await?;
        let mut setting = Setting { gate: self, variable, replicas, process: None };
        match setting.change(value).await {
            Ok(()) => Ok(setting),
            Err(error) => {
                setting.back().await?;
                Err(error)
            }
        }
    }
}

impl Setting<'_> {
    async fn change(&mut self, value: &str) -> Result<()> {
        let (platform, variable) = (self.gate.platform, self.variable);
        if let Some(replicas) = self.replicas {
            self.gate.admin.may(&format!("set env {DEPLOYMENT} {variable}={value}"), "").await?;
            let webhook = Webhook::on(platform);
            webhook.rolled_out().await?;
            return webhook.settled(u32::try_from(replicas)?).await;
        }
        platform.component("webhook").kill().await?;
        self.process = Some(self.gate.webhook_process().await?.env(variable, value).spawn()?);
        Ok(())
    }

    /// Kills the webhook as it runs, every replica.
    pub async fn kill(&mut self) -> Result<()> {
        match &mut self.process {
            Some(process) => Ok(process.kill().await?),
            None => self.gate.end_replicas("--grace-period=0 --force").await,
        }
    }

    /// The webhook as it was.
    pub async fn back(mut self) -> Result<()> {
        let Some(replicas) = self.replicas else {
            if let Some(process) = &mut self.process {
                process.kill().await?;
            }
            return self.gate.platform.component("webhook").start().await;
        };
        self.gate.admin.may(&format!("set env {DEPLOYMENT} {}-", self.variable), "").await?;
        self.gate.start_replicas(replicas).await
    }
}
