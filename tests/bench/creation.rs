//! Tenant creation by one call, against five bare API calls in sequence plus the wait for what the apiserver's
//! controllers fill in.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use contract::baseline;
use k8s_openapi::api::core::v1::{Namespace, ResourceQuota, ServiceAccount};
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use kube::{Api as KubeApi, Client};
use serde_json::json;
use tests::api::{Api, Wanted};

use crate::report::{Aim, against, figure, ratio, section};
use crate::stats::Samples;
use crate::{metrics, tenant};

/// Tenants made each way, in turns.
const ROUNDS: u32 = 30;
/// Before each measurement: what the controllers still do for the one before is not part of it.
const REST: Duration = Duration::from_millis(300);

/// Runs the section.
pub async fn run(client: &Client, provisioner: &Api) -> Result<()> {
    section("Tenant creation: POST /api/organizations until 201, everything of the tenant made and enforced");
    let namespaces: KubeApi<Namespace> = KubeApi::all(client.clone());
    metrics::at_rest(client).await?;
    let (mut floors, mut calls, mut ours, mut made) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for round in 0..ROUNDS + 2 {
        tokio::time::sleep(REST).await;
        let (name, call, floor) = bare(client).await?;
        made.push(name);
        tokio::time::sleep(REST).await;
        let elapsed = created(provisioner).await?;
        // The first two rounds warm connections and caches on both sides.
        if round >= 2 {
            calls.push(call);
            floors.push(floor);
            ours.push(elapsed);
        }
    }
    let mut in_a_row = Vec::new();
    for _ in 0..ROUNDS {
        in_a_row.push(created(provisioner).await?);
    }
    // Only now: a namespace's deletion lists every resource there is, and would be felt by what is measured beside it.
    for name in made {
        namespaces.delete(&name, &DeleteParams::background()).await?;
    }
    let (calls, floors, ours) = (Samples::new(calls), Samples::new(floors), Samples::new(ours));
    figure("five bare API calls in sequence", &calls);
    figure("the same, plus quota status and service account (floor)", &floors);
    figure("POST /api/organizations", &ours);
    figure("POST /api/organizations, one right after the other", Samples::new(in_a_row));
    against("creation against the floor, p50", ratio(ours.p50(), floors.p50()), Aim::AtMost(1.25));
    Ok(())
}

async fn created(provisioner: &Api) -> Result<Duration> {
    let wanted = Wanted::fresh("bench");
    let started = Instant::now();
    provisioner.create(&wanted, None).await?.expect(201)?;
    Ok(started.elapsed())
}

/// The five calls as an administrator would send them: the namespace, the time of the calls, and with the wait.
async fn bare(client: &Client) -> Result<(String, Duration, Duration)> {
    let tenant = tenant::fresh()?;
    let name = tenant.namespace();
    // Without our labels: the guard would ask who writes them, and that is not part of the floor.
    let namespace: Namespace = serde_json::from_value(json!({"metadata": {"name": name}}))?;
    let namespaces: KubeApi<Namespace> = KubeApi::all(client.clone());
    let started = Instant::now();
    namespaces.create(&PostParams::default(), &namespace).await?;
    tenant::create(client, &name, &baseline::resource_quota(&tenant)).await?;
    tenant::create(client, &name, &baseline::default_deny(&name)).await?;
    tenant::create(client, &name, &baseline::owner_binding(&tenant)).await?;
    let label = Patch::Merge(json!({"metadata": {"labels": {"bench": "floor"}}}));
    namespaces.patch(&name, &PatchParams::default(), &label).await?;
    let calls = started.elapsed();
    enforced(client, &name).await?;
    Ok((name, calls, started.elapsed()))
}

/// Waits until the quota's status and the default service account are there.
async fn enforced(client: &Client, namespace: &str) -> Result<()> {
    let quotas: KubeApi<ResourceQuota> = KubeApi::namespaced(client.clone(), namespace);
    let accounts: KubeApi<ServiceAccount> = KubeApi::namespaced(client.clone(), namespace);
    let end = Instant::now() + Duration::from_secs(20);
    while Instant::now() < end {
        let quota = quotas.get(contract::names::QUOTA_NAME).await?;
        let filled = quota.status.and_then(|status| status.hard).is_some();
        if filled && accounts.get_opt("default").await?.is_some() {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    bail!("the quota of {namespace} was not filled within 20 s: the controller manager does not keep up")
}
