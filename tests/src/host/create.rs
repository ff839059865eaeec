//! Making the place: namespaces where that may be, the supervisor in them, the network to them.

use std::collections::BTreeMap;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, TcpListener};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};

use super::{Host, Identity, Layout, leftovers, network};
use crate::supervisor::MARKER;
use crate::supervisor::client::Supervisor;

/// Ports by their usual number: with a network of its own a platform uses just these.
const PORTS: [u16; 10] = [2379, 2380, 5432, 6379, 6432, 6443, 8080, 8443, 8081, 9090];

/// The namespaces of a platform, but for the network.
const NAMESPACES: [&str; 6] = ["unshare", "--pid", "--fork", "--kill-child=KILL", "--mount", "--mount-proc"];

/// The network that components use.
#[derive(Clone, Copy, Debug)]
pub enum Network {
    /// One of their own as root, 127.0.0.1 otherwise.
    Own,
    /// The machine's, at this address of it.
    Shared(IpAddr),
}

impl Host {
    /// Makes the place: clears what an earlier platform left in `state`, starts the supervisor, joins the network.
    pub async fn create(state: &Path, network: Network, keep: &[PathBuf]) -> Result<Self> {
        fs::create_dir_all(state).with_context(|| format!("create {}", state.display()))?;
        let state = state.canonicalize()?;
        let identity = Identity::of(&state);
        leftovers::clear(&state, &identity).await?;
        keep_logs(&state)?;
        // Users of components pass through it; what is secret below it has a mode of its own.
        fs::set_permissions(&state, fs::Permissions::from_mode(0o711))?;
        let plain = why_plain();
        let contained = plain.is_none();
        let isolated = contained && matches!(network, Network::Own);
        let supervisor = Supervisor::of(&state);
        launch_supervisor(&state, &identity, (contained, isolated), keep)?;
        let supervisor_pid = wait_for(&supervisor, &state).await?;
        let (node_ip, host_ip, ports) = match network {
            Network::Own if isolated => {
                let (host_ip, node_ip) = network::join(&identity, supervisor_pid)?;
                (node_ip.into(), host_ip.into(), PORTS.iter().map(|port| (*port, *port)).collect())
            }
            Network::Own => {
                let local = IpAddr::V4(Ipv4Addr::LOCALHOST);
                (local, local, free_ports(local)?)
            }
            Network::Shared(address) => (address, address, free_ports(address)?),
        };
        let layout = Layout { plain, isolated, node_ip, host_ip, ports };
        fs::write(state.join("platform.json"), serde_json::to_vec_pretty(&layout)?)?;
        let host = Self { state, identity, supervisor, supervisor_pid, layout };
        if isolated {
            network::furnish(&host).await?;
        }
        Ok(host)
    }
}

/// Why components share the machine's process ids, mounts and network, if so.
fn why_plain() -> Option<String> {
    if !nix::unistd::geteuid().is_root() {
        return Some("not root".to_owned());
    }
    match Command::new(NAMESPACES[0]).args(&NAMESPACES[1..]).args(["--net", "true"]).output() {
        Ok(output) if output.status.success() => None,
        Ok(output) => {
            let message = String::from_utf8_lossy(&output.stderr).trim().to_owned();
            Some(format!("root without the right to make namespaces ({message})"))
        }
        Err(error) => Some(format!("unshare cannot be run ({error})")),
    }
}

/// The logs of the last platform stay beside those of the new one.
fn keep_logs(state: &Path) -> Result<()> {
    let (log, previous) = (state.join("log"), state.join("log.previous"));
    if log.exists() {
        if previous.exists() {
            fs::remove_dir_all(&previous).context("remove the logs of the last but one")?;
        }
        fs::rename(&log, &previous).context("move the logs of the last platform")?;
    }
    fs::create_dir_all(&log).context("create the folder of logs")
}

fn launch_supervisor(
    state: &Path,
    identity: &Identity,
    (contained, isolated): (bool, bool),
    keep: &[PathBuf],
) -> Result<()> {
    let program = crate::workspace::binary("platform")?;
    let log = fs::File::create(state.join("log/supervisor.log"))?;
    let mut command = Command::new("setsid");
    if contained {
        command.args(NAMESPACES);
    }
    if isolated {
        command.arg("--net");
    }
    command.arg(program).arg("supervise").arg("--state").arg(state);
    if contained {
        command.arg("--isolated");
        for folder in keep {
            command.arg("--keep").arg(folder);
        }
    }
    command.env(MARKER, &identity.id).current_dir("/");
    command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
    // Not waited for: it outlives the caller; a supervisor that ends early is seen by its silent socket.
    command.spawn().context("start the supervisor")?;
    Ok(())
}

async fn wait_for(supervisor: &Supervisor, state: &Path) -> Result<i32> {
    for _ in 0..400 {
        if let Ok(pid) = supervisor.pid().await {
            return Ok(pid);
        }
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    let log = fs::read_to_string(state.join("log/supervisor.log")).unwrap_or_default();
    bail!("the supervisor does not answer:\n{log}")
}

fn free_ports(address: IpAddr) -> Result<BTreeMap<u16, u16>> {
    // All are held until the last is found, so that they differ.
    let mut held = Vec::new();
    for usual in PORTS {
        held.push((usual, TcpListener::bind((address, 0)).context("find a free port")?));
    }
    held.iter().map(|(usual, listener)| Ok((*usual, listener.local_addr()?.port()))).collect()
}
