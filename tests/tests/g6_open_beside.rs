//! G6: with `--open-beside=report` what opens everything to everyone may lie beside a baseline, and is told. Alone in its
//! binary, because it changes the gate for everyone.

mod gate;

use anyhow::{Context as _, Result, ensure};
use contract::names;
use gate::{BASELINE_GUARD, Gate, LABEL_GUARD, eventually};
use serde_json::{Value, json};

/// What kubectl prints about each, and what the audit finds.
const POLICY: &str = "NetworkPolicy open allows everything to everyone";
const BINDING: &str = "RoleBinding everybody gives a role to everybody";

fn policy() -> String {
    json!({"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": {"name": "open"},
        "spec": {"podSelector": {}, "policyTypes": ["Ingress"], "ingress": [{}]}})
    .to_string()
}

fn binding() -> String {
    let group =
        json!({"apiGroup": "rbac.authorization.k8s.io", "kind": "Group", "name": "system:authenticated"});
    json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding", "metadata": {"name": "everybody"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "view"},
        "subjects": [group]})
    .to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn reported_and_not_refused_what_opens_everything() -> Result<()> {
    let gate = Gate::shared().await?;
    let (open, closed) = (gate.baseline().await?, gate.ready().await?);
    gate.admin.may_not(BASELINE_GUARD, &create(&closed), &policy()).await?;
    gate.admin.may_not(BASELINE_GUARD, &create(&closed), &binding()).await?;
    let reporting = gate.with("OPEN_BESIDE", "report").await?;
    let outcome = reported(&gate, &open, &closed).await;
    reporting.back().await?;
    outcome?;
    // What lies there stays, and nothing is proved with it any more.
    eventually("the proof counts it again", async || {
        // A replica that is about to end may have let the label through.
        gate.provisioner.may(&format!("label namespace {open} {}-", names::GATE_LABEL), "").await?;
        Ok(gate.provisioner.may_not(LABEL_GUARD, &ready(&open), "").await.ok())
    })
    .await?;
    gate.delete(&[&open, &closed]).await
}

fn create(namespace: &str) -> String {
    format!("create -f - --namespace={namespace}")
}

fn ready(namespace: &str) -> String {
    format!("label namespace {namespace} {}=true", names::GATE_LABEL)
}

async fn reported(gate: &Gate, open: &str, closed: &str) -> Result<()> {
    // Beside a baseline in force: let in, with a warning each.
    let mut told = eventually("the policy is let in", async || {
        Ok(gate.admin.may(&create(closed), &policy()).await.ok())
    })
    .await?;
    told += &gate.admin.may(&create(closed), &binding()).await?;
    ensure!(told.contains(POLICY) && told.contains(BINDING), "no warnings: {told}");
    // Before the label: the proof holds, with the same warnings.
    gate.admin.may(&create(open), &policy()).await?;
    gate.admin.may(&create(open), &binding()).await?;
    let told = gate.provisioner.may(&ready(open), "").await?;
    ensure!(told.contains(POLICY) && told.contains(BINDING), "no warnings: {told}");
    // What weakens the baseline itself is refused as ever.
    let delete = format!("delete networkpolicy default-deny --namespace={closed}");
    gate.admin.may_not(BASELINE_GUARD, &delete, "").await?;
    for namespace in [open, closed] {
        let found = gate.admin.get(&format!("namespace {namespace}")).await?;
        let label = found["metadata"]["labels"].get(names::GATE_LABEL).and_then(Value::as_str);
        ensure!(label.context("the label")? == names::GATE_OPEN, "{found}");
    }
    Ok(())
}
