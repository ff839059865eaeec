//! Clusters that are not made of the platform's own processes: kind, or a caller's own.

use std::fs;
use std::net::{IpAddr, ToSocketAddrs as _, UdpSocket};
use std::path::Path;

use anyhow::{Context as _, Result, bail};
use serde_json::Value;
use tokio::process::Command;

use super::control_plane::Files;
use super::source::Source;
use crate::host::{Host, Identity};
use crate::pki::write_secret;

/// What the webhook registers (webhook/src/cluster/configurations.rs): left there, it would refuse for ever.
const GATE: [&str; 2] = ["agent-ready-gate", "agent-ready-inject"];

/// The name of a platform's kind cluster.
pub fn kind_name(identity: &Identity) -> String {
    identity.cgroup()
}

/// Makes the kind cluster if need be, and gives the kubeconfig of the cluster.
pub async fn kubeconfig(source: &Source, identity: &Identity) -> Result<Value> {
    let text = if let Source::Kubeconfig(path) = source {
        let path = path.to_string_lossy();
        let view =
            ["config", "view", "--flatten", "--minify", "--raw", "--output=json", "--kubeconfig", &path];
        run("kubectl", &view).await?
    } else {
        let name = kind_name(identity);
        if !run("kind", &["get", "clusters"]).await?.lines().any(|line| line == name) {
            // The caller's own kubeconfig stays as it is: kind writes into this one.
            let folder = tempfile::tempdir()?;
            let file = format!("--kubeconfig={}", folder.path().join("kubeconfig").display());
            run("kind", &["create", "cluster", "--name", &name, "--wait=180s", &file]).await?;
        }
        run("kind", &["get", "kubeconfig", "--name", &name]).await?
    };
    serde_norway::from_str(&text).context("read the cluster's kubeconfig")
}

/// The address of this machine that the cluster's nodes reach.
pub async fn own_address(source: &Source, kubeconfig: &Value) -> Result<IpAddr> {
    if *source == Source::Kind {
        let format = "{{range .IPAM.Config}}{{println .Gateway}}{{end}}";
        let gateways = run("docker", &["network", "inspect", "kind", "--format", format]).await?;
        let mut addresses = gateways.lines().filter_map(|line| line.trim().parse::<IpAddr>().ok());
        return addresses.find(IpAddr::is_ipv4).context("the network of kind has no IPv4 gateway");
    }
    let server =
        kubeconfig["clusters"][0]["cluster"]["server"].as_str().context("the kubeconfig names no server")?;
    let uri: http::Uri = server.parse().context("read the server's URL")?;
    let host = (uri.host().context("no host")?.trim_matches(['[', ']']), uri.port_u16().unwrap_or(443));
    let peer = host.to_socket_addrs().context("resolve the server")?.next().context("no address")?;
    // Nothing is sent: the kernel tells by which address it would go there.
    let socket = UdpSocket::bind(if peer.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" })?;
    socket.connect(peer)?;
    Ok(socket.local_addr()?.ip())
}

/// Keeps the kubeconfig as the platform's, and puts a `kubectl` beside it.
pub fn adopt(host: &Host, kubeconfig: &Value) -> Result<()> {
    let path = Files::of(host).kubeconfig("admin");
    fs::create_dir_all(path.parent().context("a file in a folder")?)?;
    write_secret(&path, &kubeconfig.to_string())?;
    let programs = std::env::var_os("PATH").unwrap_or_default();
    let found =
        std::env::split_paths(&programs).map(|folder| folder.join("kubectl")).find(|path| path.is_file());
    let bin = host.state().join("bin");
    fs::create_dir_all(&bin)?;
    std::os::unix::fs::symlink(found.context("kubectl is not installed")?, bin.join("kubectl"))?;
    Ok(())
}

/// Puts an image archive on the nodes of a kind cluster.
pub async fn load(cluster: &str, archive: &Path) -> Result<()> {
    let archive = archive.to_string_lossy();
    run("kind", &["load", "image-archive", &archive, "--name", cluster]).await?;
    Ok(())
}

/// Takes the platform out of the cluster: deletes its kind cluster, or, from a caller's, the gate and the programs.
/// Tenants' namespaces stay there, as anyone's data.
pub async fn leave(source: &Source, identity: &Identity, kubeconfig: &Path) -> Result<()> {
    match source {
        Source::Kind => run("kind", &["delete", "cluster", "--name", &kind_name(identity)]).await.map(drop),
        Source::Kubeconfig(_) => {
            let kubeconfig = format!("--kubeconfig={}", kubeconfig.display());
            let kinds = "validatingwebhookconfigurations,mutatingwebhookconfigurations";
            run("kubectl", &[&kubeconfig, "delete", kinds, "--ignore-not-found", GATE[0], GATE[1]]).await?;
            let overlay = crate::workspace::root().join("manifests/overlays/local");
            let overlay = overlay.to_string_lossy();
            let delete = [&kubeconfig, "delete", "--ignore-not-found", "--wait=false", "-k", &*overlay];
            run("kubectl", &delete).await.map(drop)
        }
        Source::Envtest(_) | Source::Build => Ok(()),
    }
}

async fn run(program: &str, arguments: &[&str]) -> Result<String> {
    let output = Command::new(program).args(arguments).output().await;
    let output = output.with_context(|| format!("run {program}"))?;
    if !output.status.success() {
        bail!("{program} {}: {}", arguments.join(" "), String::from_utf8_lossy(&output.stderr))
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
