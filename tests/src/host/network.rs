//! The veth pair between the machine and a platform.

use std::net::Ipv4Addr;
use std::process::Command;

use anyhow::{Context as _, Result, bail};
use rand::seq::SliceRandom as _;

use super::{Host, Identity};
use crate::process::Component;

/// The platform's end.
const INNER_LINK: &str = "eth0";

/// Pods reach the machine's processes by the platform's own address, so that no route to them is needed outside.
const MASQUERADE: &str = "table ip agent-ready {
  chain postrouting {
    type nat hook postrouting priority srcnat; policy accept;
    ip saddr 10.244.0.0/24 oifname \"eth0\" masquerade
  }
}
";

/// Makes the pair and gives the addresses (machine's end, platform's end).
pub fn join(identity: &Identity, pid: i32) -> Result<(Ipv4Addr, Ipv4Addr)> {
    let (link, pid) = (identity.link(), pid.to_string());
    ip(&["link", "add", &link, "type", "veth", "peer", "name", INNER_LINK, "netns", &pid])?;
    ip(&["link", "set", &link, "up"])?;
    let mut candidates: Vec<u8> = (1..=254).collect();
    candidates.shuffle(&mut rand::rng());
    for n in candidates {
        let (outer, inner) = (Ipv4Addr::new(10, 213, n, 1), Ipv4Addr::new(10, 213, n, 2));
        if in_use(outer, &link)? {
            continue;
        }
        let address = format!("{outer}/30");
        ip(&["addr", "add", &address, "dev", &link])?;
        // Looks after it has taken: of two that took one address at least one sees the other and gives way.
        if !in_use(outer, &link)? {
            return Ok((outer, inner));
        }
        ip(&["addr", "del", &address, "dev", &link])?;
    }
    bail!("no free network in 10.213.0.0/16")
}

/// Whether another interface has an address of that network.
fn in_use(outer: Ipv4Addr, link: &str) -> Result<bool> {
    let listed = ip(&["-4", "-oneline", "addr"])?;
    let prefix = format!(" {}.", outer.octets()[..3].iter().map(u8::to_string).collect::<Vec<_>>().join("."));
    let ours = format!(" {link} ");
    Ok(listed.lines().any(|line| line.contains(&prefix) && !line.contains(&ours)))
}

/// Sets up the inside: addresses, forwarding, masquerading.
pub async fn furnish(host: &Host) -> Result<()> {
    let (inner, outer) = (format!("{}/30", host.node_ip()), host.host_ip().to_string());
    let script = format!(
        "ip link set lo up && ip addr add {inner} dev {INNER_LINK} && ip link set {INNER_LINK} up \
         && ip route add default via {outer} && echo 1 >/proc/sys/net/ipv4/ip_forward"
    );
    host.run_ok(["sh", "-c", &script]).await.context("set up the network inside")?;
    let rules = Component::new("nft", ["nft", "-f", "-"]).input(MASQUERADE);
    host.run(rules).await?.success().context("set up masquerading")?;
    Ok(())
}

fn ip(arguments: &[&str]) -> Result<String> {
    let output = Command::new("ip").args(arguments).output().context("run ip")?;
    if !output.status.success() {
        bail!("ip {}: {}", arguments.join(" "), String::from_utf8_lossy(&output.stderr))
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
