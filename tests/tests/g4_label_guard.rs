//! G4: who may write the labels and annotations that decide what may run in a namespace.

mod change;
mod gate;

use anyhow::{Result, ensure};
use change::{annotation, guarded, label};
use gate::{Gate, LABEL_GUARD, fresh, pod};
use serde_json::{Value, json};

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_admin_is_refused_through_every_verb_and_subresource() -> Result<()> {
    let gate = Gate::shared().await?;
    let (bare, ready) = (gate.namespace().await?, gate.ready().await?);
    for (namespace, change) in guarded(&bare, &ready) {
        for (command, input) in change.ways(&gate.admin, namespace).await? {
            let message = gate.admin.may_not(LABEL_GUARD, &command, &input).await?;
            ensure!(
                message.contains("written only by") && message.contains("To do:"),
                "{command}: {message}"
            );
        }
    }
    gate.delete(&[&bare, &ready]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn at_creation_too_and_the_ready_label_by_nobody() -> Result<()> {
    let gate = Gate::shared().await?;
    let namespace = |labels: Value, annotations: Value| {
        let name = fresh("org-gate-");
        json!({"apiVersion": "v1", "kind": "Namespace",
            "metadata": {"name": name, "labels": labels, "annotations": annotations}})
        .to_string()
    };
    let organization = "0198b1f2-0000-7000-8000-000000000001";
    let ready = json!({"isolation-ready": "true", "agent-ready.io/organization": organization});
    for actor in [&gate.admin, &gate.break_glass, &gate.provisioner] {
        for command in ["create -f -", "apply --server-side -f -", "create --dry-run=server -f -"] {
            let message = actor.may_not(LABEL_GUARD, command, &namespace(ready.clone(), json!({}))).await?;
            ensure!(message.contains("cannot be set at creation"), "{message}");
        }
    }
    for (labels, annotations) in [
        (json!({"agent-ready.io/organization": organization}), json!({})),
        (json!({"agent-ready.io/gate": "exempt"}), json!({})),
        (json!({}), json!({"agent-ready.io/owner": "User:eve"})),
    ] {
        gate.admin.may_not(LABEL_GUARD, "create -f -", &namespace(labels, annotations)).await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_guarded_is_let_through() -> Result<()> {
    let gate = Gate::shared().await?;
    let (bare, ready) = (gate.namespace().await?, gate.ready().await?);
    for namespace in [&bare, &ready] {
        for change in
            [label("team", "a"), annotation("note", "b"), label("app.kubernetes.io/managed-by", "Helm")]
        {
            for (command, input) in change.ways(&gate.admin, namespace).await? {
                if command.starts_with("replace") {
                    // The object read first is stale after the first write.
                    continue;
                }
                gate.admin.may(&command, &input).await?;
            }
        }
    }
    // Pod Security is anybody's in a namespace that is no tenant's.
    gate.admin
        .may(&format!("label namespace {bare} pod-security.kubernetes.io/enforce=baseline"), "")
        .await?;
    gate.delete(&[&bare, &ready]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn break_glass_may_exempt_with_a_warning_but_make_no_false_label() -> Result<()> {
    let gate = Gate::shared().await?;
    let (bare, ready) = (gate.namespace().await?, gate.ready().await?);
    let printed =
        gate.break_glass.may(&format!("label namespace {bare} agent-ready.io/gate=exempt"), "").await?;
    ensure!(printed.contains("Warning: break-glass was used"), "{printed}");
    let message = gate
        .break_glass
        .may_not(LABEL_GUARD, &format!("label namespace {bare} isolation-ready=true"), "")
        .await?;
    ensure!(message.contains("No identity can set the label without them"), "{message}");
    // A ready namespace cannot be made less than what was proved, as long as it is called ready.
    let loosen = format!("label namespace {ready} --overwrite pod-security.kubernetes.io/enforce=privileged");
    let message = gate.break_glass.may_not(LABEL_GUARD, &loosen, "").await?;
    ensure!(message.contains("is \"privileged\", not baseline or restricted"), "{message}");
    gate.break_glass.may(&format!("label namespace {ready} isolation-ready-"), "").await?;
    gate.break_glass.may(&loosen, "").await?;
    gate.delete(&[&bare, &ready]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_owner_cannot_open_its_own_namespace() -> Result<()> {
    let gate = Gate::shared().await?;
    let ready = gate.ready().await?;
    // RBAC already refuses the owner's write; the gate would too.
    let owner = ["--as=agent-ready:ann@acme.example", "--dry-run=server"].join(" ");
    let refused =
        gate.admin.may(&format!("label namespace {ready} agent-ready.io/gate=exempt {owner}"), "").await;
    ensure!(refused.is_err(), "the owner changed its namespace");
    let manifest = pod(&json!({"generateName": "a-"})).to_string();
    gate.admin.may(&format!("create -f - --namespace={ready} {owner}"), &manifest).await?;
    gate.delete(&[&ready]).await
}
