//! The place a platform's components run in, and how the caller reaches them.
//!
//! As root: namespaces of its own, joined to the machine by one veth pair, where every port is the usual one. Otherwise
//! the machine itself, on 127.0.0.1 with free ports.

mod cgroups;
mod create;
mod identity;
mod leftovers;
mod network;

use std::collections::BTreeMap;
use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use serde::{Deserialize, Serialize};

pub use create::Network;
pub use identity::Identity;

use crate::process::{Component, Output, Phase, Ready, Status};
use crate::supervisor::client::Supervisor;

/// The state folder as isolated programs see it.
const INSIDE: &str = "/run/agent-ready";

/// Written to `platform.json` when the place is made.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Layout {
    /// Why there are no process ids and mounts of its own, if so.
    plain: Option<String>,
    /// A network of its own, too.
    isolated: bool,
    node_ip: IpAddr,
    host_ip: IpAddr,
    ports: BTreeMap<u16, u16>,
}

/// The place a platform's components run in.
#[derive(Clone, Debug)]
pub struct Host {
    state: PathBuf,
    identity: Identity,
    supervisor: Supervisor,
    supervisor_pid: i32,
    layout: Layout,
}

impl Host {
    /// The place that `state` describes, when its supervisor runs.
    pub async fn attach(state: &Path) -> Result<Self> {
        let state = state.canonicalize().context("no such platform")?;
        let identity = Identity::of(&state);
        let layout = fs::read(state.join("platform.json")).context("no platform was started here")?;
        let layout = serde_json::from_slice(&layout).context("read platform.json")?;
        let supervisor = Supervisor::of(&state);
        let supervisor_pid = supervisor.pid().await?;
        Ok(Self { state, identity, supervisor, supervisor_pid, layout })
    }

    /// Ends everything of the platform in `state` and removes it from the machine; the folder keeps only logs.
    pub async fn destroy(state: &Path) -> Result<()> {
        let Ok(state) = state.canonicalize() else { return Ok(()) };
        leftovers::clear(&state, &Identity::of(&state)).await
    }

    /// What the platform of a state folder has on this machine, in words; nothing after [`Host::destroy`].
    pub fn traces(state: &Path) -> Vec<String> {
        leftovers::traces(state, &Identity::of(state))
    }

    /// The supervisor's process id on this machine.
    pub fn supervisor_pid(&self) -> i32 {
        self.supervisor_pid
    }

    /// The state folder as the caller sees it.
    pub fn state(&self) -> &Path {
        &self.state
    }

    /// A path below the state folder as the components see it.
    pub fn inside(&self, path: &Path) -> PathBuf {
        match path.strip_prefix(&self.state) {
            Ok(rest) if self.layout.plain.is_none() => Path::new(INSIDE).join(rest),
            _ => path.to_owned(),
        }
    }

    /// A folder `name` of a component's own data, made if need be and given to `user` (as root). It is given as the
    /// caller sees it; arguments take it through [`Host::inside`].
    pub fn data_folder(&self, name: &str, user: Option<&str>) -> Result<PathBuf> {
        let folder = self.state.join(name);
        fs::create_dir_all(&folder).with_context(|| format!("create {}", folder.display()))?;
        fs::set_permissions(&folder, fs::Permissions::from_mode(0o700))?;
        if let Some(user) = user {
            self.give(&folder, user)?;
        }
        Ok(folder)
    }

    /// Gives a file or folder to `user`, as root; otherwise everything has one owner anyway.
    pub fn give(&self, path: &Path, user: &str) -> Result<()> {
        if nix::unistd::geteuid().is_root() {
            let (uid, gid) = crate::supervisor::ids(user)?;
            std::os::unix::fs::chown(path, Some(uid), Some(gid))
                .with_context(|| format!("give {} to {user}", path.display()))?;
        }
        Ok(())
    }

    /// What no other platform on this machine is called: goes into names in the kernel.
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// Whether the components have a network of their own, and root's rights in it.
    pub fn isolated(&self) -> bool {
        self.layout.isolated
    }

    /// Why the components share the machine's process ids, mounts and network, if so.
    pub fn why_plain(&self) -> Option<&str> {
        self.layout.plain.as_deref()
    }

    /// Where every server of the platform is reached, from this machine and from pods.
    pub fn node_ip(&self) -> IpAddr {
        self.layout.node_ip
    }

    /// Where components and pods reach a process of this machine.
    pub fn host_ip(&self) -> IpAddr {
        self.layout.host_ip
    }

    /// The port used instead of a usual one; itself unless the platform shares the machine's network.
    pub fn port(&self, usual: u16) -> u16 {
        self.layout.ports.get(&usual).copied().unwrap_or(usual)
    }

    /// The address of the server with that usual port.
    pub fn address(&self, usual: u16) -> SocketAddr {
        SocketAddr::new(self.node_ip(), self.port(usual))
    }

    /// Makes the cgroup below which the kubelet keeps this platform's pods.
    pub fn make_cgroups(&self) -> Result<()> {
        cgroups::make(&self.identity)
    }

    /// A path inside the components' mount namespace as the caller can open it.
    pub fn outside(&self, inside: &str) -> PathBuf {
        if self.layout.plain.is_none() {
            PathBuf::from(format!("/proc/{}/root{inside}", self.supervisor_pid))
        } else {
            PathBuf::from(inside)
        }
    }

    /// Starts a component and waits until it serves.
    pub async fn start(&self, component: Component, ready: &Ready, limit: Duration) -> Result<()> {
        let name = component.name.clone();
        self.supervisor.start(component).await?;
        self.wait(&name, ready, limit).await
    }

    /// Starts a known component again, as it was, without waiting for more.
    pub async fn restart(&self, name: &str) -> Result<()> {
        self.supervisor.restart(name).await
    }

    /// Ends a component with SIGTERM, or SIGKILL with `kill`, and waits for its end.
    pub async fn stop(&self, name: &str, kill: bool) -> Result<()> {
        self.supervisor.stop(name, kill).await
    }

    /// Runs a program to its end, inside.
    pub async fn run(&self, component: Component) -> Result<Output> {
        self.supervisor.run(component).await
    }

    /// Runs a program to its end, inside, and gives its standard output; fails unless it succeeds.
    pub async fn run_ok<I>(&self, argv: I) -> Result<String>
    where
        I: IntoIterator,
        I::Item: Into<String>,
    {
        let component = Component::new("run", argv);
        let words = component.argv.join(" ");
        self.run(component).await?.success().context(words)
    }

    /// All components.
    pub async fn status(&self) -> Result<Vec<Status>> {
        self.supervisor.status().await
    }

    /// Waits until a component serves; its crash ends the wait with its last log lines.
    pub async fn wait(&self, name: &str, ready: &Ready, limit: Duration) -> Result<()> {
        let deadline = Instant::now() + limit;
        loop {
            if is_ready(ready).await {
                return Ok(());
            }
            for status in self.status().await? {
                if let (true, Phase::Crashed { how, log }) = (status.name == name, status.phase) {
                    bail!("{name} ended by itself ({how}); its last lines:\n{log}")
                }
            }
            if Instant::now() > deadline {
                let log = self.state.join("log").join(format!("{name}.log"));
                bail!("{name} does not serve after {limit:?} ({ready:?}): see {}", log.display())
            }
            tokio::time::sleep(Duration::from_millis(25)).await;
        }
    }
}

async fn is_ready(ready: &Ready) -> bool {
    match ready {
        Ready::Started => true,
        Ready::Tcp(address) => tokio::net::TcpStream::connect(address).await.is_ok(),
        Ready::Exists(path) => path.exists(),
        Ready::Http(url) => match crate::http::unverified() {
            Ok(client) => client.get(url).send().await.is_ok_and(|answer| answer.status().is_success()),
            Err(_) => false,
        },
    }
}
