//! G3: a ready namespace costs the gate nothing: the apiserver does not call it, however pods come in.

mod gate;

use anyhow::{Result, bail, ensure};
use gate::{Gate, eventually, pod};
use serde_json::{Value, json};

/// Rounds: a controller whose pods are refused in another namespace may ask again in the middle of one.
const ROUNDS: usize = 3;

#[tokio::test(flavor = "multi_thread")]
async fn pods_of_a_ready_namespace_call_the_gate_never() -> Result<()> {
    let gate = Gate::shared().await?;
    let mut changed = Vec::new();
    for _ in 0..ROUNDS {
        let ready = gate.ready().await?;
        let before = gate.calls().await?;
        ensure!(!before.is_empty(), "the apiserver counts no calls of the gate at all");
        pods(&gate, &ready).await?;
        let after = gate.calls().await?;
        gate.delete(&[&ready]).await?;
        if after == before {
            return Ok(());
        }
        changed = after.into_iter().filter(|line| !before.contains(line)).collect();
    }
    bail!("pods of a ready namespace called the gate in each of {ROUNDS} rounds, at last: {changed:#?}")
}

/// The same pods in a namespace that is not ready do call it: what the other test reads is a count that counts.
#[tokio::test(flavor = "multi_thread")]
async fn pods_of_others_do() -> Result<()> {
    let gate = Gate::shared().await?;
    let namespace = gate.namespace().await?;
    let before = gate.calls().await?;
    gate.admin.may_not(gate::POD_GATE, &format!("create -f - --namespace={namespace}"), &bare()).await?;
    ensure!(gate.calls().await? != before, "a refusal is not counted");
    gate.delete(&[&namespace]).await
}

fn bare() -> String {
    pod(&json!({"generateName": "a-"})).to_string()
}

/// Pods in every way: by name or generated, applied, as a dry run, by controllers; changed, and deleted.
async fn pods(gate: &Gate, ready: &str) -> Result<()> {
    let within = format!("--namespace={ready}");
    gate.admin.may(&format!("create -f - {within}"), &bare()).await?;
    gate.owner.may(&format!("create -f - {within}"), &bare()).await?;
    gate.admin.may(&format!("create -f - --dry-run=server {within}"), &bare()).await?;
    let named = pod(&json!({"name": "named"})).to_string();
    gate.admin.may(&format!("apply --server-side -f - {within}"), &named).await?;
    gate.admin.may(&format!("label pod named a=b {within}"), "").await?;
    let template = json!({"metadata": {"labels": {"app": "all"}}, "spec": pod(&json!({}))["spec"]});
    let selector = json!({"matchLabels": {"app": "all"}});
    let mut once = template.clone();
    once["spec"]["restartPolicy"] = json!("Never");
    let controllers = [
        ("apps/v1", "Deployment", json!({"replicas": 1, "selector": selector, "template": template})),
        ("apps/v1", "StatefulSet", json!({"serviceName": "all", "selector": selector, "template": template})),
        ("apps/v1", "DaemonSet", json!({"selector": selector, "template": template})),
        ("batch/v1", "Job", json!({"template": once})),
    ];
    for (version, kind, spec) in controllers {
        let name = kind.to_lowercase();
        let manifest: Value =
            json!({"apiVersion": version, "kind": kind, "metadata": {"name": name}, "spec": spec});
        gate.admin.may(&format!("create -f - {within}"), &manifest.to_string()).await?;
    }
    // A DaemonSet has no pods where there is no node.
    let expected = if gate.platform.has_node() { 4 } else { 3 };
    eventually("the controllers' pods", async || {
        let found = gate.admin.get(&format!("pods {within} --selector=app=all")).await?;
        let count = found["items"].as_array().map_or(0, Vec::len);
        Ok((count >= expected).then_some(()))
    })
    .await?;
    gate.admin.may(&format!("delete pod named --wait=false {within}"), "").await.map(drop)
}
