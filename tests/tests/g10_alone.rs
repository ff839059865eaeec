//! G10: the gate alone, on a cluster that has no other part of ours: it begins with audit, goes on to deny, and its removal
//! leaves nothing. Alone in its binary: the suite makes room for it, and is put back.

mod gate;

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, ensure};
use contract::names;
use gate::{DEPLOYMENT, Gate, LABEL_GUARD, eventually};
use tempfile::TempDir;
use tests::{deploy, workspace};

/// Every kind of cluster-wide object that any of our manifests has.
const KINDS: &str = "namespaces,clusterroles,clusterrolebindings,validatingwebhookconfigurations,\
                     mutatingwebhookconfigurations,validatingadmissionpolicies,validatingadmissionpolicybindings,\
                     mutatingadmissionpolicies,mutatingadmissionpolicybindings";
/// Who makes namespaces ready, as `settings.yaml` has it.
const WRITER: &str = "system:serviceaccount:ci:tenants";

/// A copy of `manifests/` in which an operator fills in what the overlay asks for.
struct Alone(TempDir);

impl Alone {
    fn new() -> Result<Self> {
        let folder = tempfile::tempdir()?;
        copy(&workspace::root().join("manifests"), &folder.path().join("manifests"))?;
        let alone = Self(folder);
        alone.edit(
            "kustomization.yaml",
            "registry.example.com/agent-ready/webhook",
            "localhost/agent-ready/webhook",
        )?;
        alone.edit("kustomization.yaml", "newTag: 0.1.0", "newTag: local")?;
        Ok(alone)
    }

    fn overlay(&self) -> PathBuf {
        self.0.path().join("manifests/overlays/gate")
    }

    fn edit(&self, file: &str, from: &str, to: &str) -> Result<()> {
        let path = self.overlay().join(file);
        let text = fs::read_to_string(&path)?;
        ensure!(text.matches(from).count() == 1, "{file} does not say {from:?} once: {text}");
        Ok(fs::write(path, text.replace(from, to))?)
    }

    async fn apply(&self, gate: &Gate) -> Result<()> {
        gate.admin.may(&format!("apply -k {}", self.overlay().display()), "").await?;
        gate.admin.may(&format!("rollout status {DEPLOYMENT} --timeout=120s"), "").await.map(drop)
    }
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy(&entry.path(), &target)?;
        } else {
            fs::copy(entry.path(), target)?;
        }
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn it_begins_with_audit_goes_on_to_deny_and_leaves_nothing() -> Result<()> {
    let gate = Gate::shared().await?;
    if !gate.runs_pods() {
        return Ok(());
    }
    let (unready, alone) = (gate.namespace().await?, Alone::new()?);
    let (tenant, manifests) = Gate::tenant()?;
    let outcome = async {
        gate.remove(&workspace::root().join("manifests/overlays/local")).await?;
        ensure!(ours(&gate).await?.is_empty(), "another part of ours: {:?}", ours(&gate).await?);
        alone.apply(&gate).await?;
        audits(&gate, &unready).await?;
        alone.edit("settings.yaml", "value: audit", "value: deny")?;
        alone.apply(&gate).await?;
        gate.shut(&unready).await?;
        admits(&gate, &tenant, &manifests).await?;
        gate.remove(&alone.overlay()).await?;
        gate.nothing_refuses(&unready).await?;
        ensure!(ours(&gate).await?.is_empty(), "left behind: {:?}", ours(&gate).await?);
        Ok(())
    }
    .await;
    // What a failure left of it would stay among the suite's own settings.
    gate.remove(&alone.overlay()).await?;
    deploy::deploy(gate.platform, &|line| eprintln!("{line}")).await?;
    outcome?;
    gate.installed().await?;
    gate.delete(&[&unready, &tenant, "--ignore-not-found"]).await
}

/// Cluster-wide objects of ours.
async fn ours(gate: &Gate) -> Result<Vec<String>> {
    let printed = gate.admin.may(&format!("get {KINDS} -o name"), "").await?;
    Ok(printed.lines().filter(|line| line.contains("agent-ready")).map(str::to_owned).collect())
}

/// Nothing is refused; what would be is counted, and told by an Event of the pod that runs all the same.
async fn audits(gate: &Gate, unready: &str) -> Result<()> {
    eventually("the gate is registered", async || {
        Ok(gate.admin.get("validatingwebhookconfiguration agent-ready-gate").await.ok())
    })
    .await?;
    gate.starts(unready).await?;
    eventually("a pod that would be refused is counted", async || {
        // The apiserver sees a registration a moment late.
        gate.starts(unready).await?;
        Ok(metrics(gate).await?.contains("allowed=\"true\",reason=\"audited\"").then_some(()))
    })
    .await?;
    eventually("an Event of a pod that should not run", async || {
        let events = gate.admin.get(&format!("events --namespace={unready}")).await?;
        let mut reasons = events["items"].as_array().into_iter().flatten().map(|event| &event["reason"]);
        Ok(reasons.any(|reason| reason == "PodInUnreadyNamespace").then_some(()))
    })
    .await
}

/// What both replicas count.
async fn metrics(gate: &Gate) -> Result<String> {
    let pods = gate.admin.get(gate::replicas::PODS).await?;
    let mut text = String::new();
    for pod in pods["items"].as_array().context("replicas")? {
        let name = pod["metadata"]["name"].as_str().context("a name")?;
        let path = format!("/api/v1/namespaces/agent-ready-system/pods/{name}:8080/proxy/metrics");
        text += &gate.admin.may(&format!("get --raw {path}"), "").await?;
    }
    Ok(text)
}

/// A pipeline of the operator's own makes a namespace ready, and its pods run.
async fn admits(gate: &Gate, tenant: &str, (namespace, children): &(String, String)) -> Result<()> {
    let pipeline = gate.admin.named(WRITER);
    pipeline.may("create -f -", namespace).await?;
    pipeline.may("apply --server-side -f -", children).await?;
    gate.quota_is_enforced(tenant).await?;
    // There is no sidecar here.
    let label = format!("label namespace {tenant} {}=true {}-", names::GATE_LABEL, names::INJECT_LABEL);
    gate.admin.may_not(LABEL_GUARD, &label, "").await?;
    pipeline.may(&label, "").await?;
    eventually("a pod of the ready namespace", async || Ok(gate.starts(tenant).await.ok())).await
}
