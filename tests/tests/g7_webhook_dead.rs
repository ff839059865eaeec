//! G3 and G7: what goes on and what stands still while no replica of the webhook answers. Alone in its binary, because it
//! takes the gate away from everyone.

mod gate;

use anyhow::{Context as _, Result, ensure};
use contract::names;
use gate::{Gate, eventually, fresh, pod};
use serde_json::json;

const DEPLOYMENT: &str = "deployment/webhook --namespace=agent-ready-system";

#[tokio::test(flavor = "multi_thread")]
async fn ready_tenants_deploy_and_nothing_else_is_let_in() -> Result<()> {
    let gate = Gate::shared().await?;
    if !gate.platform.has_node() {
        eprintln!("no node: the webhook is no pod here, so that this journey is left out");
        return Ok(());
    }
    let (unready, ready, leaving) = (gate.namespace().await?, gate.ready().await?, gate.ready().await?);
    let replicas = gate.admin.get(DEPLOYMENT).await?["spec"]["replicas"].as_i64().context("replicas")?;
    let outcome = async {
        kill(&gate).await?;
        while_dead(&gate, &unready, &ready, &leaving).await
    }
    .await;
    // The webhook can be started again as a pod, with nobody there to admit it.
    gate.admin.may(&format!("scale {DEPLOYMENT} --replicas={replicas}"), "").await?;
    gate.admin.may(&format!("rollout status {DEPLOYMENT} --timeout=120s"), "").await?;
    outcome?;
    eventually("the gate refuses again with its reason", async || {
        let create = format!("create -f - --dry-run=server --namespace={unready}");
        let asked =
            gate.admin.may_not(gate::POD_GATE, &create, &pod(&json!({"name": "a"})).to_string()).await;
        Ok(asked.ok())
    })
    .await?;
    gate.delete(&[&unready, &ready]).await
}

async fn kill(gate: &Gate) -> Result<()> {
    gate.admin.may(&format!("scale {DEPLOYMENT} --replicas=0"), "").await?;
    let pods = "pods --namespace=agent-ready-system --selector=app.kubernetes.io/name=webhook";
    gate.admin.may(&format!("delete {pods} --grace-period=0 --force"), "").await?;
    eventually("the end of every replica", async || {
        Ok((gate.admin.get(pods).await?["items"] == json!([])).then_some(()))
    })
    .await?;
    // An endpoint that is just going away may still answer.
    let (unready, manifest) = (gate.namespace().await?, pod(&json!({"name": "a"})).to_string());
    eventually("the webhook is out of reach", async || {
        let create = format!("create -f - --dry-run=server --namespace={unready}");
        Ok(gate.admin.may_not("failed calling webhook", &create, &manifest).await.ok())
    })
    .await?;
    gate.delete(&[&unready]).await
}

async fn while_dead(gate: &Gate, unready: &str, ready: &str, leaving: &str) -> Result<()> {
    let calls = calls(gate).await?;
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
    let since = self::calls(gate).await?;
    ensure!(since == calls, "pods of a ready tenant called the gate: before {calls:#?}, after {since:#?}");

    // Namespaces come, are labelled and go.
    let fresh = fresh("gate-");
    gate.admin.may(&format!("create namespace {fresh}"), "").await?;
    gate.admin
        .may(&format!("label namespace {fresh} team=a pod-security.kubernetes.io/warn=baseline"), "")
        .await?;
    gate.admin.may(&format!("annotate namespace {ready} note=b"), "").await?;
    gate.admin.may(&format!("delete namespace {fresh} {leaving} --timeout=60s"), "").await?;
    let since = self::calls(gate).await?;
    ensure!(
        since == calls,
        "unrelated namespace requests called the gate: before {calls:#?}, after {since:#?}"
    );
    gate.admin.may("create -f - --dry-run=server --namespace=kube-system", &manifest).await?;

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

/// How often the apiserver has called the gate's entries, by its own count.
async fn calls(gate: &Gate) -> Result<Vec<String>> {
    let metrics = gate.admin.may("get --raw /metrics", "").await?;
    let of_ours = |line: &&str| {
        line.starts_with("apiserver_admission_webhook_") && line.contains("_count{")
            || line.starts_with("apiserver_admission_webhook_request_total")
            || line.starts_with("apiserver_admission_webhook_fail_open_count")
    };
    let gates = |line: &&str| {
        line.contains("pods.gate.agent-ready.io") || line.contains("namespaces.guard.agent-ready.io")
    };
    Ok(metrics.lines().filter(of_ours).filter(gates).map(str::to_owned).collect())
}
