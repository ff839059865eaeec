//! A whole platform: cluster, data services and, once deployed, our programs on it.

use std::fs::{self, File};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result};
use tokio::sync::OnceCell;

use crate::cluster::kubeconfig::{self, Credential};
use crate::cluster::{build, control_plane, node};
use crate::data::DataServices;
use crate::host::Host;
use crate::images::{self, IMAGES, Image};
use crate::kubectl::Kubectl;
use crate::namespace::Namespace;
use crate::pki::Authority;
use crate::process::{Component, Phase, Ready, Status};

/// Says what takes long, and why something is left out.
pub type Say<'a> = &'a (dyn Fn(&str) + Send + Sync);

/// How long the node may take from the kubelet's start to Ready.
const NODE_LIMIT: Duration = Duration::from_secs(90);

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
#[derive(serde::Serialize, serde::Deserialize)]
struct Started {
    purpose: Purpose,
    no_node: Option<String>,
}

/// A running platform.
#[derive(Clone, Debug)]
pub struct Platform {
    host: Host,
    data: DataServices,
    purpose: Purpose,
    /// Why there is no node, if so.
    no_node: Option<String>,
}

impl Platform {
    /// The platform of the journeys, `.local/test`: attached to when it runs, started and deployed otherwise.
    pub async fn shared() -> Result<&'static Self> {
        static SHARED: OnceCell<Platform> = OnceCell::const_new();
        let start = async || {
            let state = crate::workspace::root().join(".local/test");
            // The test runner shows it only with a failed test.
            Self::up(&state, Purpose::Journeys, &|line| eprintln!("{line}")).await
        };
        SHARED.get_or_try_init(start).await
    }

    /// The platform in `state`: what runs is kept, what is missing or older than its program is brought up to date.
    pub async fn up(state: &Path, purpose: Purpose, say: Say<'_>) -> Result<Self> {
        let _lock = lock(state)?;
        let platform = match Self::attach(state).await {
            Ok(platform) => platform.or_again(say).await?,
            Err(_) => Self::start(state, purpose, say).await?,
        };
        crate::deploy::deploy(&platform, say).await?;
        Ok(platform)
    }

    /// The platform in `state`, without our programs.
    pub async fn bare(state: &Path, purpose: Purpose, say: Say<'_>) -> Result<Self> {
        let _lock = lock(state)?;
        Self::start(state, purpose, say).await
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
        Self::start(self.host.state(), self.purpose, say).await
    }

    /// Attaches to a platform that runs.
    pub async fn attach(state: &Path) -> Result<Self> {
        let host = Host::attach(state).await?;
        let data = DataServices::attach(&host, &authority(&host)?)?;
        let started = fs::read(host.state().join("started.json")).context("its start was not finished")?;
        let Started { purpose, no_node } = serde_json::from_slice(&started)?;
        Ok(Self { host, data, purpose, no_node })
    }

    /// Ends a platform and removes what it made on this machine; its logs stay.
    pub async fn down(state: &Path) -> Result<()> {
        if !state.exists() {
            return Ok(());
        }
        let _lock = lock(state)?;
        Host::destroy(state).await
    }

    async fn start(state: &Path, purpose: Purpose, say: Say<'_>) -> Result<Self> {
        let program = build::controlplane(&|line| say(line))?;
        let keep = [crate::workspace::root(), build::cache_folder()?];
        let host = Host::create(state, &keep).await?;
        build::link_applets(&program, &host.state().join("bin"))?;
        let authority = authority(&host)?;
        let no_node = node::obstacle(&host);
        if let Some(reason) = &no_node {
            say(&format!("no node, so no pods run: {reason}"));
        }
        let containers = async {
            if no_node.is_some() {
                return Ok(());
            }
            node::start_containerd(&host).await?;
            let pause: Vec<&Image> = IMAGES.iter().filter(|image| image.program == "probe").collect();
            for image in pause {
                images::import(&host, image).await?;
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
        let platform = Self { data: data.context("start the data services")?, host, purpose, no_node };
        if platform.has_node() {
            platform.start_node().await.context("start the node")?;
        }
        let started = Started { purpose, no_node: platform.no_node.clone() };
        fs::write(platform.host.state().join("started.json"), serde_json::to_vec(&started)?)?;
        Ok(platform)
    }

    async fn start_node(&self) -> Result<()> {
        let proxy = [
            "create",
            "clusterrolebinding",
            "local-kube-proxy",
            "--clusterrole=system:node-proxier",
            "--user=system:kube-proxy",
        ];
        self.kubectl(&proxy).await?.success()?;
        node::start(&self.host).await?;
        let limit = format!("--timeout={}s", NODE_LIMIT.as_secs());
        // The kubelet registers the node a moment after its start.
        let created = ["wait", "--for=create", "node/local", &limit];
        self.kubectl(&created).await?.success().context("the kubelet does not register")?;
        let ready = ["wait", "--for=condition=Ready", "node/local", &limit];
        self.kubectl(&ready).await?.success().context("the node is not Ready")?;
        Ok(())
    }

    /// Where the platform's processes run.
    pub fn host(&self) -> &Host {
        &self.host
    }

    /// PostgreSQL, PgBouncer and Redis.
    pub fn data(&self) -> &DataServices {
        &self.data
    }

    /// Whether pods run. Without root there is an apiserver but no node.
    pub fn has_node(&self) -> bool {
        self.no_node.is_none()
    }

    /// What it is for.
    pub fn purpose(&self) -> Purpose {
        self.purpose
    }

    /// The provisioner's base URL.
    pub fn provisioner_url(&self) -> String {
        if self.has_node() {
            format!("http://{}:{PROVISIONER_NODE_PORT}", self.node_ip())
        } else {
            format!("http://{}", self.host.address(8080))
        }
    }

    /// The webhook's base URL.
    pub fn webhook_url(&self) -> String {
        if self.has_node() {
            format!("https://{}:{WEBHOOK_NODE_PORT}", self.node_ip())
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
        kubeconfig::write(
            &path,
            &control_plane::server(&self.host),
            &self.ca_file(),
            &Credential::Token(token),
        )
    }

    /// Where every server is reached.
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

/// A component under a test's control.
pub struct Control<'a> {
    host: &'a Host,
    name: String,
}

impl Control<'_> {
    /// Ends it with SIGTERM and waits for its end.
    pub async fn stop(&self) -> Result<()> {
        self.host.stop(&self.name, false).await
    }

    /// Ends it with SIGKILL and waits for its end.
    pub async fn kill(&self) -> Result<()> {
        self.host.stop(&self.name, true).await
    }

    /// Starts it again as it was; waits for nothing more.
    pub async fn start(&self) -> Result<()> {
        self.host.restart(&self.name).await
    }

    /// Starts it again as it was and waits until it serves.
    pub async fn start_ready(&self, ready: &Ready, limit: Duration) -> Result<()> {
        self.start().await?;
        self.host.wait(&self.name, ready, limit).await
    }
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
