//! G7, and G3 with nobody there: what goes on and what stands still while no replica of the webhook answers. Alone in its binary, because it
//! takes the gate away from everyone.

mod gate;

use anyhow::{Result, ensure};
use contract::names;
use gate::{Gate, eventually, fresh, pod};
use serde_json::json;

#[tokio::test(flavor = "multi_thread")]
async fn ready_tenants_deploy_and_nothing_else_is_let_in() -> Result<()> {
    let gate = Gate::shared().await?;
    let (unready, ready, leaving) = (gate.namespace().await?, gate.ready().await?, gate.ready().await?);
    let replicas = gate.replicas().await?;
    let outcome = async {
        kill(&gate, &unready).await?;
        while_dead(&gate, &unready, &ready, &leaving).await
    }
    .await;
    start_again(&gate, replicas).await?;
    outcome?;
    let (create, manifest) = ask(&unready);
    eventually("the gate refuses again with its reason", async || {
        Ok(gate.admin.may_not(gate::POD_GATE, &create, &manifest).await.ok())
    })
    .await?;
    gate.delete(&[&unready, &ready]).await
}

/// A pod that nobody wants to keep: command and manifest.
fn ask(namespace: &str) -> (String, String) {
    let manifest = pod(&json!({"name": "a"})).to_string();
    (format!("create -f - --dry-run=server --namespace={namespace}"), manifest)
}

async fn kill(gate: &Gate, unready: &str) -> Result<()> {
    if gate.platform.has_node() {
        gate.end_replicas("--grace-period=0 --force").await?;
    } else {
        gate.platform.component("webhook").kill().await?;
    }
    // An endpoint that is just going away may still answer.
    let (create, manifest) = ask(unready);
    eventually("the webhook is out of reach", async || {
        Ok(gate.admin.may_not("failed calling webhook", &create, &manifest).await.ok())
    })
    .await
    .map(drop)
}

/// With nobody there to admit its pods.
async fn start_again(gate: &Gate, replicas: Option<i64>) -> Result<()> {
    let Some(replicas) = replicas else {
        return gate.platform.component("webhook").start().await;
    };
    gate.start_replicas(replicas).await
}

async fn while_dead(gate: &Gate, unready: &str, ready: &str, leaving: &str) -> Result<()> {
    let calls = gate.calls().await?;
    let manifest = pod(&json!({"generateName": "a-"})).to_string();

    // A ready tenant deploys: bare pods, under its quota, and through controllers.
    gate.admin.may(&format!("create -f - --namespace={ready}"), &manifest).await?;
    let image = "localhost/agent-ready/probe:local";
    gate.admin
        .may(&format!("create deployment web --image={image} --namespace={ready} -- /probe sleep"), "")
        .await?;
    eventually("the Deployment's pod", async || {
        let set = gate.admin.get(&format!("pods --namespace={ready} --selector=app=web")).await?;
        Ok((set["items"] != json!([])).then_some(()))
    })
    .await?;
    let since = gate.calls().await?;
    ensure!(since == calls, "pods of a ready tenant called the gate: before {calls:#?}, after {since:#?}");

    // Namespaces come, are labelled and go.
    let fresh = fresh("gate-");
    gate.admin.may(&format!("create namespace {fresh}"), "").await?;
    gate.admin
        .may(&format!("label namespace {fresh} team=a pod-security.kubernetes.io/warn=baseline"), "")
        .await?;
    gate.admin.may(&format!("annotate namespace {ready} note=b"), "").await?;
    gate.admin.may(&format!("delete namespace {fresh} {leaving} --timeout=60s"), "").await?;
    let since = gate.calls().await?;
    ensure!(
        since == calls,
        "unrelated namespace requests called the gate: before {calls:#?}, after {since:#?}"
    );
    gate.admin.may("create -f - --dry-run=server --namespace=kube-system", &manifest).await?;

    baselines_while_dead(gate, ready).await?;

    // What the gate decides stands still.
    let failed = "failed calling webhook \"";
    gate.admin.may_not(failed, &format!("create -f - --namespace={unready}"), &manifest).await?;
    gate.admin.may_not(failed, &format!("label namespace {unready} {}=true", names::GATE_LABEL), "").await?;
    gate.provisioner.may_not(failed, &format!("label namespace {ready} {}-", names::GATE_LABEL), "").await?;
    gate.break_glass
        .may_not(failed, &format!("label namespace {unready} {}=exempt", names::MODE_LABEL), "")
        .await?;
    Ok(())
}

/// What a baseline is made of cannot be changed; what could not weaken it goes on, and so does the provisioner.
async fn baselines_while_dead(gate: &Gate, tenant: &str) -> Result<()> {
    let calls = gate.calls().await?;
    let create = format!("create -f - --namespace={tenant}");
    let policy = json!({"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": {"name": "own"},
        "spec": {"podSelector": {"matchLabels": {"a": "b"}}, "ingress": [{"from": [{"podSelector": {}}]}]}});
    gate.owner.may(&create, &policy.to_string()).await?;
    gate.owner.may(&format!("delete networkpolicy own --namespace={tenant}"), "").await?;
    gate.owner
        .may(&format!("create rolebinding own --clusterrole=view --user=bob --namespace={tenant}"), "")
        .await?;
    gate.owner.may(&format!("delete rolebinding own --namespace={tenant}"), "").await?;
    let patch = json!({"metadata": {"labels": {"a": "b"}}});
    let patch = format!("patch resourcequota tenant-quota --namespace={tenant} --type=merge --patch={patch}");
    gate.provisioner.may(&patch, "").await?;
    let since = gate.calls().await?;
    ensure!(since == calls, "a tenant's own objects called the gate: before {calls:#?}, after {since:#?}");

    for object in [
        "networkpolicy default-deny",
        "resourcequota tenant-quota",
        "limitrange tenant-limits",
        "rolebinding tenant-owner",
    ] {
        let delete = format!("delete {object} --namespace={tenant}");
        gate.admin.may_not("failed calling webhook \"baseline.guard", &delete, "").await?;
    }
    let mut open = policy;
    open["spec"]["ingress"] = json!([{}]);
    gate.owner.may_not("failed calling webhook \"baseline.guard", &create, &open.to_string()).await.map(drop)
}
