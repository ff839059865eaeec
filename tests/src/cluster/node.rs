//! containerd, kubelet and kube-proxy: a node on which pods run and services work.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result};
use nix::sys::statfs::{OVERLAYFS_SUPER_MAGIC, statfs};
use serde_json::json;

use super::control_plane::{Files, PODS, component, text};
use crate::host::Host;
use crate::process::{Component, Ready};

/// Where pods' gateway is: the bridge.
const GATEWAY: &str = "10.244.0.1";
/// containerd's socket, inside.
pub const CONTAINERD: &str = "/run/containerd/containerd.sock";
/// The image of the process that holds a pod's namespaces.
pub const PAUSE_IMAGE: &str = "localhost/agent-ready/pause:local";

const LIMIT: Duration = Duration::from_mins(1);

/// Why no node can run here, or `None`.
pub fn obstacle(host: &Host) -> Option<String> {
    if let Some(reason) = host.why_plain() {
        return Some(format!("{reason}, so no containers"));
    }
    let programs = ["containerd", "runc", "nft", "ip"];
    let missing: Vec<&str> = programs.into_iter().filter(|program| find(program).is_none()).collect();
    if !missing.is_empty() {
        return Some(format!("not installed: {}", missing.join(", ")));
    }
    cni_folder().is_none().then(|| "no CNI plugins (containernetworking-plugins)".into())
}

/// Starts containerd and waits for its socket: images can be imported from then on.
pub async fn start_containerd(host: &Host) -> Result<()> {
    let folder = host.state().join("node");
    fs::create_dir_all(folder.join("cni")).context("create the folder of the node")?;
    let plugins = cni_folder().context("no CNI plugins")?;
    fs::write(folder.join("cni/10-local.conflist"), cni(host).to_string())?;
    fs::write(folder.join("containerd.toml"), containerd_toml(host, &plugins))?;
    let config = text(&host.inside(&folder.join("containerd.toml")));
    let containerd =
        Component::new("containerd", ["containerd", "--config", &config]).env("TMPDIR", "/run/tmp");
    host.start(containerd, &Ready::Exists(host.outside(CONTAINERD)), LIMIT).await
}

/// Starts the kubelet and kube-proxy.
pub async fn start(host: &Host) -> Result<()> {
    host.make_cgroups()?;
    let files = Files::of(host);
    let folder = host.state().join("node");
    fs::create_dir_all(static_pods(host)).context("create the folder of static pods")?;
    fs::write(folder.join("kubelet.json"), kubelet_config(host).to_string())?;
    let kubelet = [
        ("--kubeconfig", text(&host.inside(&files.kubeconfig("kubelet")))),
        ("--config", text(&host.inside(&folder.join("kubelet.json")))),
        ("--root-dir", text(&host.inside(&host.data_folder("kubelet", None)?))),
        ("--hostname-override", "local".into()),
        ("--node-ip", host.node_ip().to_string()),
    ];
    host.start(component(host, "kubelet", &kubelet), &Ready::Started, LIMIT).await?;
    let proxy = [
        ("--kubeconfig", text(&host.inside(&files.kubeconfig("kube-proxy")))),
        ("--proxy-mode", "nftables".into()),
        ("--hostname-override", "local".into()),
        ("--cluster-cidr", PODS.into()),
        // The machine's connection tracking is not ours to tune.
        ("--conntrack-max-per-core", "0".into()),
        ("--conntrack-tcp-timeout-established", "0".into()),
        ("--conntrack-tcp-timeout-close-wait", "0".into()),
    ];
    host.start(component(host, "kube-proxy", &proxy), &Ready::Started, LIMIT).await
}

/// Where the kubelet looks for pods that the apiserver does not know of; it is there only with a node of our own.
pub fn static_pods(host: &Host) -> PathBuf {
    host.state().join("node/static")
}

/// Runs `ctr` on the platform's images and containers.
pub async fn ctr(host: &Host, arguments: &[&str]) -> Result<String> {
    let fixed = ["ctr", "--address", CONTAINERD, "--namespace", "k8s.io"];
    host.run_ok(fixed.iter().chain(arguments).copied()).await
}

fn cni(host: &Host) -> serde_json::Value {
    let data = text(&host.inside(&host.state().join("node/ipam")));
    json!({
        "cniVersion": "1.0.0",
        "name": "local",
        "plugins": [
            {
                "type": "bridge", "bridge": "pods", "isGateway": true, "ipMasq": false, "hairpinMode": true,
                "ipam": {
                    "type": "host-local", "dataDir": data,
                    "ranges": [[{ "subnet": PODS, "gateway": GATEWAY }]],
                    "routes": [{ "dst": "0.0.0.0/0" }],
                },
            },
            { "type": "loopback" },
        ],
    })
}

fn containerd_toml(host: &Host, plugins: &Path) -> String {
    let root = text(&host.inside(&host.state().join("containerd")));
    let conf = text(&host.inside(&host.state().join("node/cni")));
    let plugins = plugins.display();
    let snapshotter = snapshotter(host.state());
    format!(
        r#"version = 2
root = "{root}"
state = "/run/containerd"
[grpc]
  address = "{CONTAINERD}"
[plugins."io.containerd.internal.v1.opt"]
  path = "{root}/opt"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{PAUSE_IMAGE}"
  restrict_oom_score_adj = true
  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "{snapshotter}"
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "{plugins}"
    conf_dir = "{conf}"
"#
    )
}

/// overlayfs, unless the folder is itself on one (a container), where a second cannot be mounted.
fn snapshotter(folder: &Path) -> &'static str {
    match statfs(folder) {
        Ok(fs) if fs.filesystem_type() == OVERLAYFS_SUPER_MAGIC => "native",
        _ => "overlayfs",
    }
}

fn kubelet_config(host: &Host) -> serde_json::Value {
    let pki = |name: &str| text(&host.inside(&host.state().join("pki").join(name)));
    json!({
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "failCgroupV1": false,
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": format!("/{}", host.identity().cgroup()),
        "failSwapOn": false,
        "makeIPTablesUtilChains": false,
        "authentication": {
            "anonymous": { "enabled": false },
            "webhook": { "enabled": false },
            "x509": { "clientCAFile": pki("ca.crt") },
        },
        // Only the apiserver has a client certificate that gets here.
        "authorization": { "mode": "AlwaysAllow" },
        "tlsCertFile": pki("kubelet.crt"),
        "tlsPrivateKeyFile": pki("kubelet.key"),
        "containerRuntimeEndpoint": format!("unix://{CONTAINERD}"),
        "resolvConf": "/run/resolv.conf",
        "volumePluginDir": text(&host.inside(&host.state().join("plugins"))),
        "maxPods": 250,
        "kubeAPIQPS": 100,
        "kubeAPIBurst": 200,
        "registerNode": true,
        "staticPodPath": text(&host.inside(&static_pods(host))),
        // Disk pressure on a developer's machine is not what is tried here.
        "evictionHard": { "nodefs.available": "1%", "imagefs.available": "1%", "memory.available": "100Mi" },
        "imageGCHighThresholdPercent": 100,
    })
}

fn cni_folder() -> Option<PathBuf> {
    let folders = ["/usr/lib/cni", "/opt/cni/bin", "/usr/libexec/cni"];
    folders.into_iter().map(PathBuf::from).find(|folder| folder.join("bridge").exists())
}

fn find(program: &str) -> Option<PathBuf> {
    let folders = std::env::var_os("PATH")?;
    let mut candidates = std::env::split_paths(&folders).map(|folder| folder.join(program));
    candidates.find(|candidate| candidate.is_file())
}
