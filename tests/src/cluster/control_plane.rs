//! etcd, kube-apiserver, kube-controller-manager and kube-scheduler.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rcgen::KeyPair;
use serde_json::json;

use super::kubeconfig;
use crate::host::Host;
use crate::pki::{Authority, write_secret};
use crate::process::{Component, Ready};

/// Addresses of services.
pub const SERVICES: &str = "10.96.0.0/16";
/// Addresses of pods.
pub const PODS: &str = "10.244.0.0/24";

/// How far a heap grows, in per cent of what is in use, before it is collected. Processor time is what a platform on two
/// cores lacks, not memory.
const GARBAGE: &str = "400";

/// How long the apiserver may take, on a slow machine with cold files.
const API_LIMIT: Duration = Duration::from_mins(2);

/// The files of a control plane below the state folder.
pub struct Files {
    folder: PathBuf,
    pki: PathBuf,
}

impl Files {
    /// The files of the platform on `host`.
    pub fn of(host: &Host) -> Self {
        Self { folder: host.state().join("kubernetes"), pki: host.state().join("pki") }
    }

    /// The kubeconfig of `user`.
    pub fn kubeconfig(&self, user: &str) -> PathBuf {
        self.folder.join(format!("{user}.kubeconfig"))
    }
}

/// The apiserver's URL, for the caller and for components.
pub fn server(host: &Host) -> String {
    format!("https://{}", host.address(6443))
}

/// An applet as the components see it.
pub fn applet(host: &Host, name: &str) -> String {
    text(&host.inside(&host.state().join("bin").join(name)))
}

/// Starts all of it and waits until the apiserver is ready.
pub async fn start(host: &Host, authority: &Authority) -> Result<()> {
    let files = Files::of(host);
    issue(host, authority, &files)?;
    host.start(etcd(host)?, &Ready::Started, API_LIMIT).await?;
    let ready = Ready::Http(format!("{}/readyz", server(host)));
    host.start(apiserver(host, &files), &ready, API_LIMIT).await?;
    // Both give up when they find no apiserver, so they come after it.
    host.start(controller_manager(host, &files), &Ready::Started, API_LIMIT).await?;
    host.start(scheduler(host, &files), &Ready::Started, API_LIMIT).await
}

/// Certificates, kubeconfigs and keys.
fn issue(host: &Host, authority: &Authority, files: &Files) -> Result<()> {
    std::fs::create_dir_all(&files.folder).context("create the folder of the control plane")?;
    let (node, outer) = (host.node_ip().to_string(), host.host_ip().to_string());
    let names =
        ["localhost", "kubernetes.default.svc", "kubernetes", "127.0.0.1", "10.96.0.1", &node, &outer];
    authority.issue("apiserver", "kube-apiserver", &[], &names)?;
    authority.issue("apiserver-kubelet", "kube-apiserver-kubelet-client", &["system:masters"], &[])?;
    let users = [
        ("admin", "admin", "system:masters"),
        ("controller-manager", "system:kube-controller-manager", ""),
        ("scheduler", "system:kube-scheduler", ""),
        ("kube-proxy", "system:kube-proxy", ""),
        ("kubelet", "system:node:local", "system:nodes"),
    ];
    for (file, name, group) in users {
        let groups: &[&str] = if group.is_empty() { &[] } else { &[group] };
        let servers: &[&str] = if file == "kubelet" { &["local", &node, "127.0.0.1"] } else { &[] };
        let issued = authority.issue(file, name, groups, servers)?;
        let ca = authority.certificate_file();
        kubeconfig::write(&files.kubeconfig(file), &server(host), &ca, &issued)?;
    }
    let key = KeyPair::generate().context("generate the service accounts' key")?;
    write_secret(&files.pki.join("service-accounts.key"), &key.serialize_pem())?;
    std::fs::write(files.pki.join("service-accounts.pub"), key.public_key_pem())?;
    write_secret(&files.folder.join("encryption.json"), &encryption().to_string())
}

/// Secrets are encrypted before etcd sees them (O2).
fn encryption() -> serde_json::Value {
    let key = STANDARD.encode(rand::random::<[u8; 32]>());
    json!({
        "apiVersion": "apiserver.config.k8s.io/v1",
        "kind": "EncryptionConfiguration",
        "resources": [{
            "resources": ["secrets"],
            "providers": [{ "secretbox": { "keys": [{ "name": "local", "secret": key }] } }],
        }],
    })
}

fn etcd(host: &Host) -> Result<Component> {
    let data = text(&host.inside(&host.data_folder("etcd", None)?));
    // On the loopback of the platform: pods and the machine do not reach it.
    let client = format!("http://127.0.0.1:{}", host.port(2379));
    let peer = format!("http://127.0.0.1:{}", host.port(2380));
    let arguments = [
        ("--data-dir", data.as_str()),
        ("--listen-client-urls", &client),
        ("--advertise-client-urls", &client),
        ("--listen-peer-urls", &peer),
        ("--initial-advertise-peer-urls", &peer),
        ("--initial-cluster", &format!("default={peer}")),
        ("--log-level", "warn"),
        // A platform is made anew after a crash of the machine.
        ("--unsafe-no-fsync", "true"),
    ];
    Ok(component(host, "etcd", &arguments))
}

fn apiserver(host: &Host, files: &Files) -> Component {
    let pki = |name: &str| text(&host.inside(&files.pki.join(name)));
    let (address, port) = (host.node_ip().to_string(), host.port(6443).to_string());
    let bind = if host.isolated() { "0.0.0.0" } else { "127.0.0.1" };
    let etcd = format!("http://127.0.0.1:{}", host.port(2379));
    let encryption = text(&host.inside(&files.folder.join("encryption.json")));
    let arguments = [
        ("--etcd-servers", etcd.as_str()),
        ("--bind-address", bind),
        ("--secure-port", &port),
        ("--advertise-address", &address),
        // A loopback address cannot be an endpoint of the Service `kubernetes`; without a node nobody uses it.
        ("--endpoint-reconciler-type", if host.isolated() { "lease" } else { "none" }),
        ("--tls-cert-file", &pki("apiserver.crt")),
        ("--tls-private-key-file", &pki("apiserver.key")),
        ("--client-ca-file", &pki("ca.crt")),
        ("--kubelet-certificate-authority", &pki("ca.crt")),
        ("--kubelet-client-certificate", &pki("apiserver-kubelet.crt")),
        ("--kubelet-client-key", &pki("apiserver-kubelet.key")),
        ("--kubelet-preferred-address-types", "InternalIP"),
        ("--service-account-key-file", &pki("service-accounts.pub")),
        ("--service-account-signing-key-file", &pki("service-accounts.key")),
        ("--service-account-issuer", "https://kubernetes.default.svc"),
        ("--authorization-mode", "Node,RBAC"),
        ("--enable-admission-plugins", "NodeRestriction"),
        ("--service-cluster-ip-range", SERVICES),
        ("--encryption-provider-config", &encryption),
        ("--allow-privileged", "true"),
        ("--profiling", "false"),
    ];
    component(host, "kube-apiserver", &arguments)
}

fn controller_manager(host: &Host, files: &Files) -> Component {
    let pki = |name: &str| text(&host.inside(&files.pki.join(name)));
    let plugins = text(&host.inside(&host.state().join("plugins")));
    let arguments = [
        ("--kubeconfig", text(&host.inside(&files.kubeconfig("controller-manager")))),
        ("--service-account-private-key-file", pki("service-accounts.key")),
        ("--root-ca-file", pki("ca.crt")),
        ("--use-service-account-credentials", "true".into()),
        ("--leader-elect", "false".into()),
        ("--cluster-cidr", PODS.into()),
        ("--allocate-node-cidrs", "false".into()),
        ("--flex-volume-plugin-dir", plugins),
        ("--secure-port", "0".into()),
        // Hundreds of tenants are made and deleted in a test run.
        ("--kube-api-qps", "200".into()),
        ("--kube-api-burst", "400".into()),
    ];
    component(host, "kube-controller-manager", &arguments)
}

fn scheduler(host: &Host, files: &Files) -> Component {
    let arguments = [
        ("--kubeconfig", text(&host.inside(&files.kubeconfig("scheduler")))),
        ("--leader-elect", "false".into()),
        ("--secure-port", "0".into()),
    ];
    component(host, "kube-scheduler", &arguments)
}

/// A component that is an applet with `--flag=value` arguments.
pub fn component<V: AsRef<str>>(host: &Host, name: &str, arguments: &[(&str, V)]) -> Component {
    let arguments = arguments.iter().map(|(flag, value)| format!("{flag}={}", value.as_ref()));
    Component::new(name, std::iter::once(applet(host, name)).chain(arguments)).env("GOGC", GARBAGE)
}

/// A path of ours as text: state folders are UTF-8 or the platform does not start.
pub fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}
