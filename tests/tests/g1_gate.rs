//! G1: no pod in a namespace that is not ready, whoever asks and however.

mod gate;

use anyhow::{Result, ensure};
use gate::{Gate, LABEL_GUARD, POD_GATE, eventually, pod};
use serde_json::{Value, json};

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_admin_is_refused_in_every_way_of_asking() -> Result<()> {
    let gate = Gate::shared().await?;
    let namespace = gate.namespace().await?;
    let named = pod(&json!({"name": "a"})).to_string();
    let generated = pod(&json!({"generateName": "a-"})).to_string();
    for (command, manifest) in [
        ("create -f -", &named),
        ("create -f -", &generated),
        ("apply -f -", &named),
        ("apply --server-side -f -", &named),
        ("apply --server-side --dry-run=server -f -", &named),
        ("create --dry-run=server -f -", &named),
        ("create --dry-run=server -f -", &generated),
        ("run a --image=a", &String::new()),
    ] {
        let message =
            gate.admin.may_not(POD_GATE, &format!("{command} --namespace={namespace}"), manifest).await?;
        for part in [
            format!("namespace \"{namespace}\" is not proved isolated").as_str(),
            "no NetworkPolicy denies ingress to all pods",
            "annotation agent-ready.io/quota: missing",
            "To do:",
        ] {
            ensure!(message.contains(part), "{command}: the message does not say {part:?}: {message}");
        }
    }
    gate.break_glass.may_not(POD_GATE, &format!("create -f - --namespace={namespace}"), &named).await?;
    gate.delete(&[&namespace]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn controllers_are_refused_and_their_events_say_why() -> Result<()> {
    let gate = Gate::shared().await?;
    let namespace = gate.namespace().await?;
    gate.admin.may(&format!("create deployment web --image=a --namespace={namespace}"), "").await?;
    gate.admin.may(&format!("create job once --image=a --namespace={namespace}"), "").await?;
    let set = json!({
        "apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": {"name": "db"},
        "spec": {"serviceName": "db", "selector": {"matchLabels": {"app": "db"}},
            "template": {"metadata": {"labels": {"app": "db"}}, "spec": {"containers": [{"name": "a", "image": "a"}]}}},
    });
    let mut daemons = set.clone();
    daemons["kind"] = json!("DaemonSet");
    if let Some(spec) = daemons["spec"].as_object_mut() {
        spec.remove("serviceName");
    }
    let mut kinds = vec!["ReplicaSet", "Job", "StatefulSet"];
    gate.admin.may(&format!("create -f - --namespace={namespace}"), &set.to_string()).await?;
    if gate.platform.has_node() {
        // Without a node a DaemonSet makes no pod.
        gate.admin.may(&format!("create -f - --namespace={namespace}"), &daemons.to_string()).await?;
        kinds.push("DaemonSet");
    }
    for kind in kinds {
        let message = eventually(&format!("a FailedCreate event of the {kind}"), async || {
            let events = gate.admin.get(&format!("events --namespace={namespace}")).await?;
            let of =
                |event: &&Value| event["reason"] == "FailedCreate" && event["involvedObject"]["kind"] == kind;
            Ok(events["items"].as_array().and_then(|items| {
                items.iter().find(of).and_then(|event| event["message"].as_str()).map(str::to_owned)
            }))
        })
        .await?;
        ensure!(message.contains(POD_GATE) && message.contains("To do:"), "{kind}: {message}");
    }
    let pods = gate.admin.get(&format!("pods --namespace={namespace}")).await?;
    ensure!(pods["items"] == json!([]), "pods came in: {pods}");
    gate.delete(&[&namespace]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ready_namespace_admits_and_an_unlabelled_one_refuses_again() -> Result<()> {
    let gate = Gate::shared().await?;
    let namespace = gate.ready().await?;
    let create = format!("create -f - --dry-run=server --namespace={namespace}");
    let manifest = pod(&json!({"generateName": "a-"})).to_string();
    gate.admin.may(&create, &manifest).await?;
    gate.provisioner.may(&format!("label namespace {namespace} isolation-ready-"), "").await?;
    eventually("the apiserver's selector sees the removal", async || {
        Ok(gate.admin.may_not(POD_GATE, &create, &manifest).await.ok())
    })
    .await?;
    gate.delete(&[&namespace]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn modes_warn_audit_and_exempt_admit_and_are_set_by_break_glass_only() -> Result<()> {
    let gate = Gate::shared().await?;
    let namespace = gate.namespace().await?;
    let create = format!("create -f - --dry-run=server --namespace={namespace}");
    let manifest = pod(&json!({"generateName": "a-"})).to_string();
    for (mode, admits, warns) in [
        ("warn", true, true),
        ("audit", true, false),
        ("exempt", true, false),
        ("deny", false, false),
        ("typo", false, false),
    ] {
        let label = format!("label namespace {namespace} agent-ready.io/gate={mode} --overwrite");
        gate.admin.may_not(LABEL_GUARD, &label, "").await?;
        gate.break_glass.may(&label, "").await?;
        let printed = eventually(&format!("mode {mode}"), async || {
            Ok(if admits {
                gate.admin.may(&create, &manifest).await.ok()
            } else {
                gate.admin.may_not(POD_GATE, &create, &manifest).await.ok()
            })
        })
        .await?;
        ensure!(printed.contains("Warning: Would be refused:") == warns, "{mode}: {printed}");
    }
    gate.delete(&[&namespace]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_control_planes_namespaces_are_not_gated() -> Result<()> {
    let gate = Gate::shared().await?;
    let manifest = pod(&json!({"generateName": "a-"})).to_string();
    for namespace in ["kube-system", "kube-public", "kube-node-lease"] {
        gate.admin.may(&format!("create -f - --dry-run=server --namespace={namespace}"), &manifest).await?;
    }
    Ok(())
}
