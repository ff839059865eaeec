//! G15: the injection by the apiserver alone (INJECTION_CARRIER=policy). Alone in its binary, because it takes the webhook
//! away from everyone.

mod gate;

use anyhow::{Result, ensure};
use contract::names;
use gate::{DEPLOYMENT, Gate, eventually};
use serde_json::{Value, json};
use tests::pods::{Inhabited, pod, with_pods};
use tokio::process::Command;

const REGISTRATION: &str = "mutatingwebhookconfiguration agent-ready-inject";
/// What the platform's own overlay calls the sidecar.
const IMAGE: &str = "localhost/agent-ready/sidecar:local";

#[tokio::test(flavor = "multi_thread")]
async fn with_every_replica_stopped_a_ready_tenants_pod_gets_its_sidecar_and_runs() -> Result<()> {
    let gate = Gate::shared().await?;
    with_pods(gate.platform, async |tenant| {
        let Some(replicas) = gate.replicas().await? else { return Ok(()) };
        let policies = policies().await?;
        let outcome = by_the_apiserver(&gate, tenant, &policies).await;
        gate.admin.may(&format!("set env {DEPLOYMENT} INJECTION_CARRIER-"), "").await?;
        gate.start_replicas(replicas).await?;
        gate.admin.may("delete -f - --ignore-not-found", &policies).await?;
        outcome?;
        eventually("the webhook injects again", async || Ok(registered(&gate).await?.then_some(()))).await
    })
    .await
}

/// What the documentation has the administrator apply.
async fn policies() -> Result<String> {
    let mut command = Command::new(tests::workspace::binary("webhook")?);
    command.args(["manifests", "injection-policy", &format!("--sidecar-image={IMAGE}")]);
    let output = command.output().await?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8(output.stdout)?)
}

/// Whether the webhook asks to be called for the injection.
async fn registered(gate: &Gate) -> Result<bool> {
    let configuration = gate.admin.get(REGISTRATION).await?;
    let mut entries = configuration["webhooks"].as_array().into_iter().flatten();
    Ok(entries.any(|entry| entry["name"] == "pods.inject.agent-ready.io"))
}

fn is_injected(pod: &Value) -> bool {
    pod["spec"]["initContainers"][0]["name"] == names::SIDECAR_CONTAINER
}

async fn by_the_apiserver(gate: &Gate, tenant: &Inhabited, policies: &str) -> Result<()> {
    let version = tenant.put("threshold", json!(0.75)).await?;
    ensure!(registered(gate).await?, "it injects already without the webhook");
    gate.admin.may(&format!("set env {DEPLOYMENT} INJECTION_CARRIER=policy"), "").await?;
    gate.admin.may(&format!("rollout status {DEPLOYMENT} --timeout=120s"), "").await?;
    eventually("the webhook injects no more", async || Ok((!registered(gate).await?).then_some(()))).await?;
    gate.end_replicas("--grace-period=0 --force").await?;

    // Nobody injects now: what comes below is the policy's doing.
    let dry = format!("create -f - --dry-run=server -o json --namespace={}", tenant.namespace);
    let manifest = pod("by-policy", &["sleep"]);
    let stored: Value = serde_json::from_str(&gate.admin.ask(&dry, &manifest.to_string()).await?.stdout)?;
    ensure!(!is_injected(&stored), "somebody else injects: {stored}");
    gate.admin.may("apply -f -", policies).await?;
    eventually("the policy is in force", async || {
        let stored: Value = serde_json::from_str(&gate.admin.ask(&dry, &manifest.to_string()).await?.stdout)?;
        Ok(is_injected(&stored).then_some(()))
    })
    .await?;
    tenant.run(&manifest).await?;
    let by_policy = tenant.pod("by-policy").await?;
    ensure!(by_policy["spec"]["initContainers"][0]["image"] == IMAGE, "{by_policy}");
    ensure!(tenant.value("by-policy", "threshold").await? == (json!(0.75), version), "another value");
    ensure!(gate.replicas().await? == Some(0), "a replica was there all the time");
    Ok(())
}
