//! A whole platform: cluster, data services and, once deployed, our programs on it.

mod control;
mod start;

use std::fs::{self, File};
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use tokio::sync::OnceCell;

use crate::cluster::source::{self, Source, Surroundings};
use crate::cluster::{control_plane, external, kubeconfig};
use crate::data::DataServices;
use crate::host::{Host, Identity};
use crate::kubectl::Kubectl;
use crate::namespace::Namespace;
use crate::pki::Authority;
use crate::process::{Component, Phase, Status};

pub use control::Control;

/// The file that says a start was finished, in the state folder.
const STARTED: &str = "started.json";

/// Says what takes long, and why something is left out.
pub type Say<'a> = &'a (dyn Fn(&str) + Send + Sync);

/// Where the provisioner is on the node (`manifests/overlays/local/node-ports.yaml`).
const PROVISIONER_NODE_PORT: u16 = 30080;
/// Where the webhook is on the node.
const WEBHOOK_NODE_PORT: u16 = 30443;

/// What a platform is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize, clap::ValueEnum)]
pub enum Purpose {
    /// To be looked at and built against: settings as they are by default.
    Demonstration,
    /// For the journeys: limits that protect from strangers are wide.
    Journeys,
}

/// What is written down when the start is finished.
#[derive(Clone, Debug, serde::Serialize, serde::Deserialize)]
struct Started {
    purpose: Purpose,
    source: Source,
    /// Why there is no node of its own or of kind, if so.
    no_node: Option<String>,
    /// Where the node's ports are.
    node_address: IpAddr,
}

/// A running platform.
#[derive(Clone, Debug)]
pub struct Platform {
    host: Host,
    data: DataServices,
    started: Started,
}

impl Platform {
    /// The platform of the journeys, `.local/test` or what PLATFORM_STATE names: attached to when it runs, started and
    /// deployed otherwise.
    pub async fn shared() -> Result<&'static Self> {
        static SHARED: OnceCell<Platform> = OnceCell::const_new();
        let start = async || {
            let named = std::env::var_os("PLATFORM_STATE").map(PathBuf::from);
            let state = named.unwrap_or_else(|| crate::workspace::root().join(".local/test"));
            // The test runner shows it only with a failed test.
            Self::up(&state, Purpose::Journeys, &|line| eprintln!("{line}")).await
        };
        SHARED.get_or_try_init(start).await
    }

    /// The platform in `state`: what runs is kept, what is missing or older than its program is brought up to date.
    pub async fn up(state: &Path, purpose: Purpose, say: Say<'_>) -> Result<Self> {
        let _lock = lock(state)?;
        let platform = if let Ok(platform) = Self::attach(state).await {
            platform.or_again(say).await?
        } else {
            let (source, reason) = source::choose(&Surroundings::look())?;
            say(&format!("cluster: {reason}"));
            start::start(state, source, purpose, say).await?
        };
        crate::deploy::deploy(&platform, say).await?;
        Ok(platform)
    }

    /// A new platform in `state` built from Go modules, without our programs.
    pub async fn bare(state: &Path, purpose: Purpose, say: Say<'_>) -> Result<Self> {
        let _lock = lock(state)?;
        start::start(state, Source::Build, purpose, say).await
    }

    /// Itself if all of it runs; otherwise says what does not, and is made anew.
    async fn or_again(self, say: Say<'_>) -> Result<Self> {
        let fallen = self.status().await?.into_iter().filter(|status| status.phase != Phase::Running);
        let fallen: Vec<String> = fallen.map(|status| status.name).collect();
        if fallen.is_empty() {
            return Ok(self);
        }
        say(&format!("making the platform anew, for these do not run: {}", fallen.join(", ")));
        for crash in self.crashed().await? {
            say(&crash);
        }
        start::start(self.host.state(), self.started.source, self.started.purpose, say).await
    }

    /// Attaches to a platform that runs.
    pub async fn attach(state: &Path) -> Result<Self> {
        let host = Host::attach(state).await?;
        let data = DataServices::attach(&host, &authority(&host)?)?;
        let started = fs::read(host.state().join(STARTED)).context("its start was not finished")?;
        Ok(Self { host, data, started: serde_json::from_slice(&started)? })
    }

    /// Ends a platform and removes what it made on this machine; its logs stay.
    pub async fn down(state: &Path) -> Result<()> {
        if !state.exists() {
            return Ok(());
        }
        let _lock = lock(state)?;
        let state = state.canonicalize()?;
        let started = fs::read(state.join(STARTED)).ok().and_then(|text| serde_json::from_slice(&text).ok());
        if let Some(Started { source, .. }) = started {
            let kubeconfig = state.join("kubernetes/admin.kubeconfig");
            external::leave(&source, &Identity::of(&state), &kubeconfig).await?;
        }
        Host::destroy(&state).await
    }

    /// Where the platform's processes run.
    pub fn host(&self) -> &Host {
        &self.host
    }

    /// PostgreSQL, PgBouncer and Redis.
    pub fn data(&self) -> &DataServices {
        &self.data
    }

    /// Whether the cluster's network enforces NetworkPolicies: kind's does, the local node's bridge does not.
    pub fn enforces_network_policies(&self) -> bool {
        self.started.source == Source::Kind
    }

    /// Whether pods run. Without root there is an apiserver but no node.
    pub fn has_node(&self) -> bool {
        self.started.no_node.is_none()
    }

    /// Why no pods run, if they do not.
    pub fn no_node(&self) -> &str {
        self.started.no_node.as_deref().unwrap_or_default()
    }

    /// What it is for.
    pub fn purpose(&self) -> Purpose {
        self.started.purpose
    }

    /// The name of its kind cluster, if it is one.
    pub fn kind(&self) -> Option<String> {
        (self.started.source == Source::Kind).then(|| external::kind_name(self.host.identity()))
    }

    /// The provisioner's base URL.
    pub fn provisioner_url(&self) -> String {
        if self.has_node() {
            format!("http://{}:{PROVISIONER_NODE_PORT}", self.started.node_address)
        } else {
            format!("http://{}", self.host.address(8080))
        }
    }

    /// The webhook's base URL.
    pub fn webhook_url(&self) -> String {
        if self.has_node() {
            format!("https://{}:{WEBHOOK_NODE_PORT}", self.started.node_address)
        } else {
            format!("https://{}", self.host.address(8443))
        }
    }

    /// A namespace of a test's own, deleted with the value.
    pub async fn namespace(&self, prefix: &str) -> Result<Namespace> {
        Namespace::create(self, prefix, &[]).await
    }

    /// A kubeconfig of a program's service account (`webhook`, `provisioner`), with a token of its own.
    pub async fn service_account_kubeconfig(&self, account: &str) -> Result<PathBuf> {
        crate::deploy::service_account_kubeconfig(self, account).await
    }

    /// Writes a kubeconfig for the bearer of a token.
    pub fn write_kubeconfig(&self, name: &str, token: &str) -> Result<PathBuf> {
        let path = control_plane::Files::of(&self.host).kubeconfig(&format!("account-{name}"));
        kubeconfig::with_token(&self.kubeconfig(), &path, token)?;
        Ok(path)
    }

    /// Where PostgreSQL, Redis and (unless it is someone else's) the apiserver are reached.
    pub fn node_ip(&self) -> IpAddr {
        self.host.node_ip()
    }

    /// Where the apiserver and pods reach a process of this machine.
    pub fn host_ip(&self) -> IpAddr {
        self.host.host_ip()
    }

    /// The authority's certificate (PEM), which signs every server on the platform.
    pub fn ca_file(&self) -> PathBuf {
        self.host.state().join("pki/ca.crt")
    }

    /// The authority, to sign a test's own servers.
    pub fn authority(&self) -> Result<Authority> {
        authority(&self.host)
    }

    /// The administrator's kubeconfig. Nothing of ours uses it; tests look with it and play the cluster-admin.
    pub fn kubeconfig(&self) -> PathBuf {
        control_plane::Files::of(&self.host).kubeconfig("admin")
    }

    /// A client with the administrator's rights.
    pub async fn client(&self) -> Result<kube::Client> {
        client_of(&self.kubeconfig()).await
    }

    /// `kubectl` as administrator, to be given arguments and input.
    pub fn kubectl_command(&self) -> Kubectl {
        Kubectl::new(self.host.state().join("bin/kubectl"), self.kubeconfig())
    }

    /// Runs `kubectl` as administrator.
    pub async fn kubectl(&self, arguments: &[&str]) -> Result<crate::process::Output> {
        self.kubectl_command().run(arguments).await
    }

    /// A component of the platform, to be stopped, killed and started.
    pub fn component(&self, name: &str) -> Control<'_> {
        Control { host: &self.host, name: name.to_owned() }
    }

    /// All components.
    pub async fn status(&self) -> Result<Vec<Status>> {
        self.host.status().await
    }

    /// The components that ended by themselves, with how and their last log lines.
    pub async fn crashed(&self) -> Result<Vec<String>> {
        let crash = |status: Status| match status.phase {
            Phase::Crashed { how, log } => {
                Some(format!("{} ended by itself ({how}); its last lines:\n{log}", status.name))
            }
            _ => None,
        };
        Ok(self.status().await?.into_iter().filter_map(crash).collect())
    }

    /// Runs a program to its end as the components do (inside their namespaces).
    pub async fn run_inside(&self, component: Component) -> Result<crate::process::Output> {
        self.host.run(component).await
    }
}

/// A client with the rights of a kubeconfig file.
pub async fn client_of(kubeconfig: &Path) -> Result<kube::Client> {
    runtime::crypto::install();
    let content = kube::config::Kubeconfig::read_from(kubeconfig)?;
    let options = kube::config::KubeConfigOptions::default();
    let config = kube::Config::from_custom_kubeconfig(content, &options).await?;
    Ok(kube::Client::try_from(config)?)
}

fn authority(host: &Host) -> Result<Authority> {
    Authority::open_or_create(&host.state().join("pki"))
}

/// One caller at a time changes a platform; the lock goes with the value.
fn lock(state: &Path) -> Result<File> {
    fs::create_dir_all(state).with_context(|| format!("create {}", state.display()))?;
    let file = File::create(state.join("lock")).context("open the platform's lock")?;
    tokio::task::block_in_place(|| file.lock()).context("wait for the platform's lock")?;
    Ok(file)
}
