//! G7: the whole cluster stopped and started, and the apiserver out of the webhook's reach. Alone in its binary: nothing works
//! meanwhile.

mod gate;

use std::{
    env,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use contract::names;
use gate::{Gate, POD_GATE, eventually, pod};
use serde_json::{Value, json};
use tests::{
    cluster::{control_plane, node},
    platform::Platform,
    process::{Component, Ready},
};

/// In the order of their start.
const COMPONENTS: [&str; 7] = [
    "etcd",
    "containerd",
    "kube-apiserver",
    "kube-controller-manager",
    "kube-scheduler",
    "kubelet",
    "kube-proxy",
];
/// How long the cluster may take to be itself again.
const PATIENCE: Duration = Duration::from_mins(3);
/// How long the apiserver is out of reach; `UNREACHABLE_SECONDS` says otherwise.
const UNREACHABLE: Duration = Duration::from_secs(40);
/// After this long the gate knows again.
const RIGHT_AGAIN: Duration = Duration::from_secs(10);

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_that_was_stopped_comes_up_by_itself_and_is_never_open() -> Result<()> {
    let gate = Gate::shared().await?;
    if !gate.runs_pods() {
        return Ok(());
    }
    let (unready, ready) = (gate.namespace().await?, gate.ready().await?);
    stop(gate.platform).await?;
    let started = Instant::now();
    start(gate.platform).await?;
    let (create, manifest) = ask(&unready);
    let (mut refused, mut first) = (0, None);
    loop {
        // Whatever it is refused for: it is not let in.
        let why =
            gate.admin.may_not("Error", &create, &manifest).await.context("an ungated pod was let in")?;
        refused += 1;
        first.get_or_insert_with(|| started.elapsed());
        if why.contains(POD_GATE) {
            break;
        }
        ensure!(started.elapsed() < PATIENCE, "the gate does not come back: {why}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    println!(
        "cold start: asked {refused} times from {:?} on, refused for its reason after {:?}",
        first.unwrap_or_default(),
        started.elapsed()
    );
    gate.admin.may(&format!("create -f - --namespace={ready}"), &manifest).await?;
    gate.admin
        .may(&format!("wait pod/a --namespace={ready} --for=condition=Ready --timeout=60s"), "")
        .await?;
    for program in ["webhook", "provisioner"] {
        let status =
            format!("rollout status deployment/{program} --namespace=agent-ready-system --timeout=120s");
        gate.admin.may(&status, "").await?;
    }
    gate.delete(&[&unready, &ready]).await
}

fn ask(namespace: &str) -> (String, String) {
    // Without the sidecar: nobody has made the credentials that it would wait for.
    let manifest = pod(&json!({"name": "a", "annotations": {names::INJECT_LABEL: "disabled"}}));
    (format!("create -f - --namespace={namespace}"), manifest.to_string())
}

/// Everything at once, as a power cut does.
async fn stop(platform: &Platform) -> Result<()> {
    for name in
        ["kubelet", "kube-proxy", "kube-scheduler", "kube-controller-manager", "kube-apiserver", "etcd"]
    {
        platform.component(name).kill().await?;
    }
    let tasks = node::ctr(platform.host(), &["tasks", "list", "--quiet"]).await?;
    for task in tasks.split_whitespace() {
        // A pod's first process takes its others with it.
        let _ = node::ctr(platform.host(), &["tasks", "kill", "--signal", "SIGKILL", task]).await;
    }
    platform.component("containerd").kill().await?;
    // As after a power cut: what stands there says that it is up.
    std::fs::remove_file(platform.host().outside(node::CONTAINERD)).context("remove the socket")
}

async fn start(platform: &Platform) -> Result<()> {
    for name in COMPONENTS {
        let ready = match name {
            "kube-apiserver" => Ready::Http(format!("{}/readyz", control_plane::server(platform.host()))),
            "containerd" => Ready::Exists(platform.host().outside(node::CONTAINERD)),
            _ => Ready::Started,
        };
        platform.component(name).start_ready(&ready, PATIENCE).await.context(name)?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_apiserver_out_of_reach_opens_nothing_and_is_right_again_within_seconds() -> Result<()> {
    let gate = Gate::shared().await?;
    if !gate.runs_pods() {
        return Ok(());
    }
    let length = env::var("UNREACHABLE_SECONDS").ok().map(|length| length.parse()).transpose()?;
    let length = length.map_or(UNREACHABLE, Duration::from_secs);
    let reborn = gate.ready().await?;
    let (create, manifest) = ask(&reborn);
    let dry = format!("{create} --dry-run=server");
    gate.admin.may(&dry, &manifest).await?;
    cut(&gate).await?;
    let outcome = async {
        let started = Instant::now();
        gate.admin.may(&format!("delete namespace {reborn} --timeout=60s"), "").await?;
        gate.admin.may(&format!("create namespace {reborn}"), "").await?;
        let mut refused = 0_u32;
        while started.elapsed() < length {
            gate.admin.may_not("Error", &dry, &manifest).await.context("taken for the one before")?;
            refused += 1;
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
        anyhow::Ok(refused)
    }
    .await;
    join(gate.platform).await?;
    let refused = outcome?;
    let joined = Instant::now();
    let why = eventually("the gate's own reason", async || {
        let why = gate.admin.may_not("Error", &dry, &manifest).await?;
        Ok(why.contains("Missing or wrong in its baseline").then_some(why))
    })
    .await?;
    println!(
        "out of reach for {length:?}: refused {refused} times; right again after {:?}",
        joined.elapsed()
    );
    ensure!(joined.elapsed() < RIGHT_AGAIN, "right again only after {:?}: {why}", joined.elapsed());
    gate.delete(&[&reborn]).await
}

/// Packets of the webhook's pods to the apiserver are dropped from now on, those of running connections too.
async fn cut(gate: &Gate) -> Result<()> {
    let pods = gate.admin.get(gate::replicas::PODS).await?;
    let pods = pods["items"].as_array().into_iter().flatten();
    let addresses: Vec<String> =
        pods.filter_map(|pod: &Value| pod["status"]["podIP"].as_str().map(str::to_owned)).collect();
    ensure!(!addresses.is_empty(), "no pod has an address");
    let rules = format!(
        "table ip cut {{\n chain input {{\n type filter hook input priority filter; policy accept;\n \
         ip saddr {{ {} }} tcp dport {} drop\n }}\n}}\n",
        addresses.join(", "),
        gate.platform.host().port(6443)
    );
    let nft = Component::new("nft", ["nft", "-f", "-"]).input(rules);
    gate.platform.run_inside(nft).await?.success().context("drop packets").map(drop)
}

async fn join(platform: &Platform) -> Result<()> {
    let nft = Component::new("nft", ["nft", "delete", "table", "ip", "cut"]);
    platform.run_inside(nft).await?.success().context("let packets pass").map(drop)
}
