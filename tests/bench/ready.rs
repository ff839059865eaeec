//! What the gate costs where it has nothing to decide: creating a pod in a ready namespace, with the gate registered and without.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use contract::{baseline, names};
use k8s_openapi::api::admissionregistration::v1::{
    MutatingWebhookConfiguration, ValidatingWebhookConfiguration,
};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{Namespace, Pod, ResourceQuota};
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::runtime::wait::await_condition;
use kube::{Api, Client};
use serde_json::json;
use tests::Platform;
use tests::platform::client_of;

use crate::report::{figure, section};
use crate::stats::Samples;
use crate::{metrics, tenant};

/// Pairs of blocks, one with the gate and one without, in turns.
const PAIRS: usize = 16;
/// Pods of a block.
const BLOCK: usize = 40;
/// Until an apiserver goes by a configuration that was made or deleted.
const SEEN: Duration = Duration::from_millis(1_500);
/// Student's t for a two-sided 95 % interval of [`PAIRS`] samples.
const T: f64 = 2.131;
/// What the apiserver counts of its calls to our entries.
const CALLS: &str = "apiserver_admission_webhook_request_total{";

type Configurations = (Vec<ValidatingWebhookConfiguration>, Vec<MutatingWebhookConfiguration>);

/// Runs the section. The webhook has no replica while it is measured: in a ready namespace none is needed.
pub async fn run(platform: &Platform, client: &Client) -> Result<()> {
    section("A pod of a ready namespace: CREATE through the apiserver, with the gate registered and without");
    let name = ready(platform, client).await?;
    let replicas = scale(client, 0).await?;
    metrics::at_rest(client).await?;
    let configurations = saved(client).await?;
    let measured = measure(client, &name, &configurations).await;
    remove(client, &configurations).await?;
    register(client, &configurations).await?;
    scale(client, replicas).await?;
    let namespaces: Api<Namespace> = Api::all(client.clone());
    namespaces.delete(&name, &DeleteParams::background()).await?;
    let (with, without, calls) = measured?;
    #[allow(clippy::cast_precision_loss, reason = "small counts")]
    let count = with.len() as f64;
    let ratios: Vec<f64> = with.iter().zip(&without).map(|(with, without)| with / without).collect();
    let mean = ratios.iter().sum::<f64>() / count;
    let spread = (ratios.iter().map(|ratio| (ratio - mean).powi(2)).sum::<f64>() / (count - 1.0)).sqrt();
    let half = T * spread / count.sqrt();
    let millis =
        |blocks: &[f64]| Samples::new(blocks.iter().map(|one| Duration::from_secs_f64(*one)).collect());
    figure("with the gate, medians of blocks", millis(&with));
    figure("without it, medians of blocks", millis(&without));
    let within = if (mean - half..=mean + half).contains(&1.0) { "reached" } else { "MISSED" };
    figure(
        "with against without, mean and its 95 % interval",
        format!("{mean:.3} [{:.3}, {:.3}] (aim: 1.00 within, {within})", mean - half, mean + half),
    );
    figure("calls of the apiserver to the gate meanwhile", calls);
    Ok(())
}

/// A ready namespace without injection.
async fn ready(platform: &Platform, client: &Client) -> Result<String> {
    let writer = client_of(&platform.service_account_kubeconfig("provisioner").await?).await?;
    let tenant = tenant::fresh()?;
    let name = tenant.namespace();
    let mut namespace = baseline::namespace(&tenant);
    namespace.metadata.labels.get_or_insert_default().remove(names::INJECT_LABEL);
    let namespaces: Api<Namespace> = Api::all(writer.clone());
    namespaces.create(&PostParams::default(), &namespace).await?;
    tenant::complete(client, &tenant).await?;
    let quotas: Api<ResourceQuota> = Api::namespaced(client.clone(), &name);
    await_condition(quotas, names::QUOTA_NAME, tenant::filled).await?;
    let label = Patch::Merge(json!({"metadata": {"labels": {names::GATE_LABEL: names::GATE_OPEN}}}));
    namespaces.patch(&name, &PatchParams::default(), &label).await?;
    tokio::time::sleep(SEEN).await;
    Ok(name)
}

/// Seconds of a pod's creation, the median of each block; and how often the gate was called.
async fn measure(
    client: &Client,
    name: &str,
    configurations: &Configurations,
) -> Result<(Vec<f64>, Vec<f64>, f64)> {
    let (mut with, mut without) = (Vec::new(), Vec::new());
    block(client, name).await?;
    let before = metrics::total(client, CALLS).await?;
    for pair in 0..PAIRS {
        // Each is first in every other pair, so that what drifts favours neither.
        for registered in [pair % 2 == 0, pair % 2 == 1] {
            remove(client, configurations).await?;
            if registered {
                register(client, configurations).await?;
            }
            tokio::time::sleep(SEEN).await;
            let median = block(client, name).await?.p50().as_secs_f64();
            if registered { with.push(median) } else { without.push(median) }
        }
    }
    Ok((with, without, metrics::total(client, CALLS).await? - before))
}

async fn block(client: &Client, name: &str) -> Result<Samples> {
    let pods: Api<Pod> = Api::namespaced(client.clone(), name);
    let mut pod = tests::pods::pod("x", &["sleep"]);
    pod["metadata"] = json!({"generateName": "bench-"});
    let amount = json!({"cpu": "1m", "memory": "4Mi"});
    pod["spec"]["containers"][0]["resources"] = json!({"requests": amount, "limits": amount});
    // Nobody binds it: the scheduler and the node are not part of what is measured.
    pod["spec"]["schedulerName"] = json!("nobody");
    let pod: Pod = serde_json::from_value(pod)?;
    let mut times = Vec::new();
    for _ in 0..BLOCK {
        let started = Instant::now();
        pods.create(&PostParams::default(), &pod).await?;
        times.push(started.elapsed());
    }
    pods.delete_collection(&DeleteParams::default().grace_period(0), &ListParams::default()).await?;
    Ok(Samples::new(times))
}

async fn saved(client: &Client) -> Result<Configurations> {
    Ok((ours(client).await?, ours(client).await?))
}

async fn ours<K>(client: &Client) -> Result<Vec<K>>
where
    K: kube::Resource<DynamicType = (), Scope = k8s_openapi::ClusterResourceScope>
        + Clone
        + std::fmt::Debug
        + serde::de::DeserializeOwned,
{
    let mut found = Api::<K>::all(client.clone()).list(&ListParams::default()).await?.items;
    found.retain(|one| one.meta().name.as_deref().is_some_and(|name| name.starts_with("agent-ready-")));
    for one in &mut found {
        let meta = one.meta_mut();
        (meta.resource_version, meta.uid, meta.managed_fields) = (None, None, None);
    }
    Ok(found)
}

async fn remove(client: &Client, configurations: &Configurations) -> Result<()> {
    for one in &configurations.0 {
        absent(&Api::<ValidatingWebhookConfiguration>::all(client.clone()), one.metadata.name.as_deref())
            .await?;
    }
    for one in &configurations.1 {
        absent(&Api::<MutatingWebhookConfiguration>::all(client.clone()), one.metadata.name.as_deref())
            .await?;
    }
    Ok(())
}

async fn absent<K: Clone + std::fmt::Debug + serde::de::DeserializeOwned>(
    api: &Api<K>,
    name: Option<&str>,
) -> Result<()> {
    match api.delete(name.unwrap_or_default(), &DeleteParams::default()).await {
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
        deleted => deleted.map(drop).context("delete a configuration"),
    }
}

async fn register(client: &Client, configurations: &Configurations) -> Result<()> {
    let params = PostParams::default();
    for one in &configurations.0 {
        Api::all(client.clone()).create(&params, one).await?;
    }
    for one in &configurations.1 {
        Api::all(client.clone()).create(&params, one).await?;
    }
    Ok(())
}

/// Gives the webhook so many replicas, waits until it is so, and says how many there were.
async fn scale(client: &Client, replicas: i32) -> Result<i32> {
    let deployments: Api<Deployment> = Api::namespaced(client.clone(), names::SYSTEM_NAMESPACE);
    let before = deployments.get("webhook").await?.spec.and_then(|spec| spec.replicas).unwrap_or(1);
    let patch = Patch::Merge(json!({"spec": {"replicas": replicas}}));
    deployments.patch_scale("webhook", &PatchParams::default(), &patch).await?;
    let there = |deployment: Option<&Deployment>| {
        let status = deployment.and_then(|deployment| deployment.status.as_ref());
        status.is_some_and(|status| {
            status.replicas.unwrap_or(0) == replicas && status.ready_replicas.unwrap_or(0) == replicas
        })
    };
    tokio::time::timeout(Duration::from_mins(2), await_condition(deployments, "webhook", there)).await??;
    let pods: Api<Pod> = Api::namespaced(client.clone(), names::SYSTEM_NAMESPACE);
    let ended = async {
        let webhook = ListParams::default().labels("app.kubernetes.io/name=webhook");
        // A replica that still drains would heal what is deleted.
        while replicas == 0 && !pods.list(&webhook).await?.items.is_empty() {
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        anyhow::Ok(())
    };
    tokio::time::timeout(Duration::from_mins(2), ended).await??;
    Ok(before)
}
