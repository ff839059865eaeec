//! G2: with `--default-mode=audit` the gate cannot block an existing cluster, not even dead. Alone in its binary, because it
//! changes the gate for everyone.

mod gate;

use anyhow::{Context as _, Result, ensure};
use contract::names;
use gate::{DEPLOYMENT, Gate, POD_GATE, eventually, pod};
use serde_json::json;
use tests::{deploy, workspace};

#[tokio::test(flavor = "multi_thread")]
async fn an_existing_cluster_starts_with_audit_and_cannot_be_blocked() -> Result<()> {
    let gate = Gate::shared().await?;
    let (plain, strict) = (gate.namespace().await?, gate.namespace().await?);
    let label = format!("label namespace {strict} {}=deny", names::MODE_LABEL);
    gate.break_glass.may(&label, "").await?;
    let replicas = if gate.platform.has_node() {
        gate.admin.get(DEPLOYMENT).await?["spec"]["replicas"].as_i64().context("replicas")?
    } else {
        1
    };
    let outcome = lenient(&gate, &plain, &strict, replicas).await;
    restore(&gate, replicas).await?;
    outcome?;
    eventually("the default is deny again", async || {
        Ok(gate.admin.may_not(POD_GATE, &create(&plain), &manifest()).await.ok())
    })
    .await?;
    gate.delete(&[&plain, &strict]).await
}

fn create(namespace: &str) -> String {
    format!("create -f - --dry-run=server --namespace={namespace}")
}

fn manifest() -> String {
    pod(&json!({"generateName": "a-"})).to_string()
}

async fn lenient(gate: &Gate, plain: &str, strict: &str, replicas: i64) -> Result<()> {
    let mut process = None;
    if gate.platform.has_node() {
        gate.admin.may(&format!("set env {DEPLOYMENT} DEFAULT_MODE=audit"), "").await?;
        gate.admin.may(&format!("rollout status {DEPLOYMENT} --timeout=120s"), "").await?;
    } else {
        gate.platform.component("webhook").kill().await?;
        let kubeconfig = deploy::service_account_kubeconfig(gate.platform, "webhook").await?;
        let mut command = tokio::process::Command::new(workspace::binary("webhook")?);
        command
            .args(["serve", "--default-mode=audit"])
            .envs(deploy::settings::webhook_process(gate.platform));
        process = Some(command.env("KUBECONFIG", kubeconfig).kill_on_drop(true).spawn()?);
    }
    eventually("pods come in", async || Ok(gate.admin.may(&create(plain), &manifest()).await.ok())).await?;
    let message = gate.admin.may_not(POD_GATE, &create(strict), &manifest()).await?;
    ensure!(message.contains("is not proved isolated"), "{message}");

    if let Some(process) = &mut process {
        process.kill().await?;
    } else {
        gate.end_replicas("--grace-period=0 --force").await?;
    }
    eventually("the webhook is out of reach", async || {
        Ok(gate.admin.may_not("failed calling webhook", &create(strict), &manifest()).await.ok())
    })
    .await?;
    gate.admin.may(&create(plain), &manifest()).await?;
    ensure!(replicas > 0, "there was a webhook to be killed");
    Ok(())
}

async fn restore(gate: &Gate, replicas: i64) -> Result<()> {
    if !gate.platform.has_node() {
        return gate.platform.component("webhook").start().await;
    }
    gate.admin.may(&format!("set env {DEPLOYMENT} DEFAULT_MODE-"), "").await?;
    gate.start_replicas(replicas).await
}
