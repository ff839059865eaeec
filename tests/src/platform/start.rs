//! Making a platform.

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result};
use serde_json::Value;

use super::{Platform, Purpose, STARTED, Say, Started, authority};
use crate::cluster::source::Source;
use crate::cluster::{build, control_plane, external, node};
use crate::data::DataServices;
use crate::host::{Host, Identity, Network};
use crate::images::{self, IMAGES};

/// How long the node may take from the kubelet's start to Ready.
const NODE_LIMIT: Duration = Duration::from_secs(90);

/// Makes a platform in `state` on a cluster from `source`; one that was there is ended.
pub async fn start(state: &Path, source: Source, purpose: Purpose, say: Say<'_>) -> Result<Platform> {
    let platform = match &source {
        Source::Build => local(state, source, None, purpose, say).await?,
        Source::Envtest(assets) => {
            let assets = assets.clone();
            local(state, source, Some(&assets), purpose, say).await?
        }
        Source::Kind | Source::Kubeconfig(_) => joined(state, source, purpose, say).await?,
    };
    fs::write(platform.host.state().join(STARTED), serde_json::to_vec(&platform.started)?)?;
    Ok(platform)
}

/// A cluster of its own processes, with a node where that can be.
async fn local(
    state: &Path,
    source: Source,
    assets: Option<&Path>,
    purpose: Purpose,
    say: Say<'_>,
) -> Result<Platform> {
    let program = build::controlplane(&|line| say(line))?;
    let mut keep = vec![crate::workspace::root(), build::cache_folder()?];
    keep.extend(assets.map(Path::to_owned));
    let host = Host::create(state, Network::Own, &keep).await?;
    let from_assets = build::link_applets(&program, assets, &host.state().join("bin"))?;
    if assets.is_some() {
        say(&format!("from KUBEBUILDER_ASSETS: {}; the rest is built", from_assets.join(", ")));
    }
    let authority = authority(&host)?;
    let no_node = node::obstacle(&host);
    if let Some(reason) = &no_node {
        say(&format!("no node, so no pods run: {reason}"));
    }
    let containers = async {
        if no_node.is_none() {
            node::start_containerd(&host).await?;
            for image in IMAGES.iter().filter(|image| image.program == "probe") {
                images::import(&host, None, image).await?;
            }
        }
        anyhow::Ok(())
    };
    let (control_plane, containers, data) = tokio::join!(
        control_plane::start(&host, &authority),
        containers,
        DataServices::start(&host, &authority)
    );
    control_plane.context("start the control plane")?;
    containers.context("start containerd")?;
    let data = data.context("start the data services")?;
    let node_address = host.node_ip();
    let platform = Platform { host, data, started: Started { purpose, source, no_node, node_address } };
    if platform.has_node() {
        start_node(&platform).await.context("start the node")?;
    }
    Ok(platform)
}

async fn start_node(platform: &Platform) -> Result<()> {
    let proxy = [
        "create",
        "clusterrolebinding",
        "local-kube-proxy",
        "--clusterrole=system:node-proxier",
        "--user=system:kube-proxy",
    ];
    platform.kubectl(&proxy).await?.success()?;
    node::start(&platform.host).await?;
    let limit = format!("--timeout={}s", NODE_LIMIT.as_secs());
    // The kubelet registers the node a moment after its start.
    let created = ["wait", "--for=create", "node/local", &limit];
    platform.kubectl(&created).await?.success().context("the kubelet does not register")?;
    let ready = ["wait", "--for=condition=Ready", "node/local", &limit];
    platform.kubectl(&ready).await?.success().context("the node is not Ready")?;
    Ok(())
}

/// A cluster that is there already, or kind's: only the data services run here.
async fn joined(state: &Path, source: Source, purpose: Purpose, say: Say<'_>) -> Result<Platform> {
    fs::create_dir_all(state)?;
    let identity = Identity::of(&state.canonicalize()?);
    let kubeconfig = external::kubeconfig(&source, &identity).await?;
    let address = external::own_address(&source, &kubeconfig).await?;
    let host = Host::create(state, Network::Shared(address), &[crate::workspace::root()]).await?;
    external::adopt(&host, &kubeconfig)?;
    let data = DataServices::start(&host, &authority(&host)?).await.context("start the data services")?;
    let mut no_node = None;
    if source != Source::Kind {
        let reason = "images cannot be put on the nodes of a caller's cluster: the programs run here";
        say(reason);
        no_node = Some(reason.to_owned());
    }
    let mut platform =
        Platform { host, data, started: Started { purpose, source, no_node, node_address: address } };
    if platform.has_node() {
        platform.started.node_address = first_node(&platform).await?;
    }
    Ok(platform)
}

/// The address of a node, where the ports of Services are.
async fn first_node(platform: &Platform) -> Result<std::net::IpAddr> {
    let nodes = platform.kubectl(&["get", "nodes", "--output=json"]).await?.success()?;
    let nodes: Value = serde_json::from_str(&nodes)?;
    let addresses = nodes["items"][0]["status"]["addresses"].as_array().context("the cluster has no node")?;
    let internal = addresses.iter().find(|address| address["type"] == "InternalIP");
    let address =
        internal.and_then(|address| address["address"].as_str()).context("the node has no address")?;
    Ok(address.parse()?)
}
