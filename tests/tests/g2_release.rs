//! G2: how fast held pods are released, and by whom when a controller dies. Alone in its binary, because it ends the webhook.

mod gate;

use std::{
    process::Stdio,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use contract::names;
use futures::{StreamExt as _, TryStreamExt as _, stream};
use gate::{Gate, eventually, pod};
use k8s_openapi::api::core::v1::Pod;
use kube::{Api, api::PostParams};
use serde_json::{Value, json};
use tests::held::released;

/// Pods made at once.
const AT_ONCE: usize = 16;
/// How long all may take from the label on.
const ALL: Duration = Duration::from_secs(5);
/// How long the first may take.
const FIRST: Duration = Duration::from_secs(1);
/// How long another replica may take when one has died.
const TAKEOVER: Duration = Duration::from_secs(2);

/// A tenant in mode hold with its baseline in force and `count` held pods, bare ones that no node would take.
///
/// Says too how long they took to make, by which a machine that is busy with other things is told.
async fn tenant(gate: &Gate, count: usize) -> Result<(String, Api<Pod>, Duration)> {
    let name = gate.baseline().await?;
    let labels = format!("{}=hold {}=disabled", names::MODE_LABEL, names::INJECT_LABEL);
    gate.provisioner.may(&format!("label namespace {name} --overwrite {labels}"), "").await?;
    // The apiserver's selector lags behind the label.
    let dry = format!("create -f - --dry-run=server -o json --namespace={name}");
    eventually("pods are held", async || {
        let answer = gate.admin.ask(&dry, &held_pod().to_string()).await?;
        Ok(answer.stdout.contains(names::HOLD_GATE).then_some(()))
    })
    .await?;
    let pods: Api<Pod> = Api::namespaced(gate.platform.client().await?, &name);
    let manifest: Pod = serde_json::from_value(held_pod())?;
    let (started, params) = (Instant::now(), PostParams::default());
    stream::iter(0..count)
        .map(|_| pods.create(&params, &manifest))
        .buffer_unordered(AT_ONCE)
        .try_collect::<Vec<_>>()
        .await?;
    let made = started.elapsed();
    eprintln!("{count} pods made and held in {made:?}");
    Ok((name, pods, made))
}

fn held_pod() -> Value {
    let mut pod = pod(&json!({"generateName": "held-"}));
    let amount = json!({"cpu": "1m", "memory": "4Mi"});
    pod["spec"]["containers"][0]["resources"] = json!({"requests": amount, "limits": amount});
    pod["spec"]["nodeSelector"] = json!({"nowhere": "true"});
    pod
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_are_released_in_time_and_another_replica_takes_over() -> Result<()> {
    let gate = Gate::shared().await?;
    a_thousand(&gate).await?;
    takeover(&gate).await
}

async fn a_thousand(gate: &Gate) -> Result<()> {
    const PODS: usize = 1000;
    let (name, pods, made) = tenant(gate, PODS).await?;
    let label = async {
        gate.provisioner.may(&format!("label namespace {name} {}=true", names::GATE_LABEL), "").await?;
        Ok(Instant::now())
    };
    let (first, last) = released(pods, PODS, label).await?;
    eprintln!(
        "{PODS} held pods of one namespace: the first released after {first:?}, the last after {last:?}"
    );
    // Where the API server made them slowly, it releases them slowly.
    ensure!(first <= FIRST.max(made / 20) && last <= ALL.max(made), "not in time: {first:?}, {last:?}");
    gate.delete(&[&name]).await
}

/// Two replicas; the one that the apiserver calls is killed in the middle of a release.
async fn takeover(gate: &Gate) -> Result<()> {
    const PODS: usize = 300;
    let (name, pods, made) = tenant(gate, PODS).await?;
    let mut other = if gate.platform.has_node() { None } else { Some(second_replica(gate).await?) };
    let label_and_kill = async {
        gate.provisioner.may(&format!("label namespace {name} {}=true", names::GATE_LABEL), "").await?;
        if gate.platform.has_node() {
            let list = gate.admin.get(gate::replicas::PODS).await?;
            let victim = list["items"][0]["metadata"]["name"].as_str().context("a replica")?;
            let kill = format!(
                "delete pod {victim} --namespace=agent-ready-system --grace-period=0 --force --wait=false"
            );
            gate.admin.may(&kill, "").await?;
        } else {
            gate.platform.component("webhook").kill().await?;
        }
        Ok(Instant::now())
    };
    let outcome = released(pods, PODS, label_and_kill).await;
    if let Some(other) = &mut other {
        gate.platform.component("webhook").start().await?;
        other.kill().await?;
    }
    let (first, last) = outcome?;
    eprintln!(
        "{PODS} held pods, one replica killed: the next release after {first:?}, the last after {last:?}"
    );
    ensure!(last <= TAKEOVER.max(made / 2), "nobody took over in time: {first:?}, {last:?}");
    gate.delete(&[&name]).await
}

/// A second replica as a process of this machine, which nobody calls but which releases.
async fn second_replica(gate: &Gate) -> Result<tokio::process::Child> {
    let mut command = gate.webhook_process().await?;
    // A port that was free a moment ago.
    let plain = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?;
    command.env("LISTEN", "127.0.0.1:0").env("PLAIN_LISTEN", plain.to_string());
    let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
    let client = tests::http::unverified()?;
    eventually("the second replica is ready", async || {
        let answer = client.get(format!("http://{plain}/readyz")).send().await;
        Ok(answer.is_ok_and(|answer| answer.status().is_success()).then_some(()))
    })
    .await?;
    Ok(child)
}
