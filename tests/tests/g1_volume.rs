//! G1, in volume: refusals are stored nowhere. `REFUSALS` says how many; 1,000 unless set.

mod gate;

use std::{sync::Arc, time::Instant};

use anyhow::{Context as _, Result, bail, ensure};
use gate::{Gate, eventually, pod};
use k8s_openapi::api::core::v1::Pod;
use kube::{Api, api::PostParams};
use serde_json::json;

/// Creations that run at once.
const AT_ONCE: usize = 32;
/// Events of a controller about its refused pods: each is counted up, and their number is bounded by the API server's client.
const EVENTS_MAX: usize = 30;

#[tokio::test(flavor = "multi_thread")]
async fn refusals_leave_nothing_behind_but_a_bounded_number_of_events() -> Result<()> {
    let gate = Gate::shared().await?;
    let namespace = gate.namespace().await?;
    let total: usize = std::env::var("REFUSALS").ok().map_or(Ok(1_000), |text| text.parse())?;
    let client = gate.platform.client().await?;
    let manifest: Pod = serde_json::from_value(pod(&json!({"generateName": "refused-"})))?;
    gate.admin
        .may(&format!("create deployment web --image=a --replicas=5 --namespace={namespace}"), "")
        .await?;
    let (manifest, started) = (Arc::new(manifest), Instant::now());
    let mut workers = tokio::task::JoinSet::new();
    for _ in 0..AT_ONCE {
        let pods: Api<Pod> = Api::namespaced(client.clone(), &namespace);
        let manifest = Arc::clone(&manifest);
        workers.spawn(async move {
            for _ in 0..total / AT_ONCE {
                match pods.create(&PostParams::default(), &manifest).await {
                    Err(kube::Error::Api(status)) if status.message.contains(gate::POD_GATE) => {}
                    other => bail!("not refused by the gate: {other:?}"),
                }
            }
            Ok(())
        });
    }
    while let Some(worker) = workers.join_next().await {
        worker??;
    }
    let took = started.elapsed();
    eventually("the deployment's pods are refused too", async || {
        let events = gate.admin.get(&format!("events --namespace={namespace}")).await?;
        Ok(events.to_string().contains("FailedCreate").then_some(()))
    })
    .await?;
    let left = stored(&gate, &namespace).await?;
    let events = left.iter().filter(|name| name.starts_with("event")).count();
    let others: Vec<&String> = left.iter().filter(|name| !name.starts_with("event")).collect();
    println!(
        "{} refusals in {took:?}: {events} events, {} other objects",
        total / AT_ONCE * AT_ONCE,
        others.len()
    );
    ensure!(events <= EVENTS_MAX, "{events} events: {left:?}");
    let made = |name: &str| {
        [
            "serviceaccount/default",
            "configmap/kube-root-ca.crt",
            "deployment.apps/web",
            "replicaset.apps/web-",
        ]
        .iter()
        .any(|known| name.starts_with(known))
    };
    ensure!(others.iter().all(|name| made(name)), "{others:?}");
    gate.delete(&[&namespace]).await
}

/// Every object of the namespace, of every kind that can be listed.
async fn stored(gate: &Gate, namespace: &str) -> Result<Vec<String>> {
    let kinds = gate.admin.may("api-resources --namespaced --verbs=list -o name", "").await?;
    let kinds: Vec<&str> = kinds
        .lines()
        .filter(|kind| !kind.ends_with("metrics.k8s.io") && *kind != "events.events.k8s.io")
        .collect();
    ensure!(kinds.len() > 10, "{kinds:?}");
    let list = format!("get {} --namespace={namespace} --ignore-not-found -o name", kinds.join(","));
    let names = gate.admin.may(&list, "").await.context("list everything")?;
    // kubectl says on the same occasion which kinds are deprecated.
    Ok(names.lines().filter(|line| !line.starts_with("Warning:")).map(str::to_owned).collect())
}
