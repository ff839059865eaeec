//! NetworkPolicies of a tenant.

use std::collections::BTreeMap;
use std::net::IpAddr;

use k8s_openapi::api::networking::v1::{
    IPBlock, NetworkPolicy, NetworkPolicyEgressRule, NetworkPolicyIngressRule, NetworkPolicyPeer,
    NetworkPolicyPort, NetworkPolicySpec,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use serde::{Deserialize, Serialize};

use super::metadata;
use crate::names;

/// Which way a peer's traffic goes, seen from the tenant's pods.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Direction {
    /// From the tenant's pods to the peer.
    #[default]
    Egress,
    /// From the peer to the tenant's pods.
    Ingress,
}

/// Transport protocol of a port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Protocol {
    /// TCP.
    #[default]
    Tcp,
    /// UDP.
    Udp,
}

/// A port of a peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PeerPort {
    /// Transport protocol; TCP where not said.
    #[serde(default)]
    pub protocol: Protocol,
    /// Port number.
    pub port: u16,
}

/// One thing of the platform that tenant pods may reach (DNS, Redis, the database pooler) or be reached from
/// (monitoring): a CIDR or label selectors, with ports. The list comes from settings and feeds builder and verifier.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "RawPeer")]
pub struct PlatformPeer {
    direction: Direction,
    #[serde(skip_serializing_if = "Option::is_none")]
    cidr: Option<String>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    namespace: BTreeMap<String, String>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pods: BTreeMap<String, String>,
    ports: Vec<PeerPort>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawPeer {
    #[serde(default)]
    direction: Direction,
    cidr: Option<String>,
    #[serde(default)]
    namespace: BTreeMap<String, String>,
    #[serde(default)]
    pods: BTreeMap<String, String>,
    ports: Vec<PeerPort>,
}

/// Why an entry of the peer list is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidPeer {
    /// A peer is a CIDR or selectors.
    #[error("a platform peer has either cidr, or namespace labels (and pods labels), not both and not none")]
    Target,
    /// Everything to everyone is not a peer.
    #[error("a platform peer needs at least one port")]
    Ports,
    /// Not a CIDR.
    #[error("cidr must be an address and a prefix length of at least 8, as 10.0.0.7/32")]
    Cidr,
}

impl TryFrom<RawPeer> for PlatformPeer {
    type Error = InvalidPeer;

    fn try_from(raw: RawPeer) -> Result<Self, Self::Error> {
        if raw.cidr.is_some() != raw.namespace.is_empty() || (raw.cidr.is_some() && !raw.pods.is_empty()) {
            return Err(InvalidPeer::Target);
        }
        if raw.ports.is_empty() {
            return Err(InvalidPeer::Ports);
        }
        if raw.cidr.as_deref().is_some_and(|cidr| !is_narrow_cidr(cidr)) {
            return Err(InvalidPeer::Cidr);
        }
        let RawPeer { direction, cidr, namespace, pods, ports } = raw;
        Ok(Self { direction, cidr, namespace, pods, ports })
    }
}

/// A peer of under eight fixed bits would be no peer but half the internet.
fn is_narrow_cidr(cidr: &str) -> bool {
    let Some((address, prefix)) = cidr.split_once('/') else { return false };
    let (Ok(address), Ok(prefix)) = (address.parse::<IpAddr>(), prefix.parse::<u8>()) else { return false };
    (8..=if address.is_ipv4() { 32 } else { 128 }).contains(&prefix)
}

impl PlatformPeer {
    /// A peer at a CIDR with TCP ports, reached from the tenant's pods.
    pub fn egress(cidr: &str, ports: &[u16]) -> Result<Self, InvalidPeer> {
        let ports = ports.iter().map(|port| PeerPort { protocol: Protocol::Tcp, port: *port }).collect();
        let (direction, namespace, pods) = (Direction::Egress, BTreeMap::new(), BTreeMap::new());
        RawPeer { direction, cidr: Some(cidr.to_owned()), namespace, pods, ports }.try_into()
    }

    fn peer(&self) -> NetworkPolicyPeer {
        let selector = |labels: &BTreeMap<String, String>| {
            (!labels.is_empty())
                .then(|| LabelSelector { match_labels: Some(labels.clone()), ..LabelSelector::default() })
        };
        NetworkPolicyPeer {
            ip_block: self.cidr.clone().map(|cidr| IPBlock { cidr, except: None }),
            namespace_selector: selector(&self.namespace),
            pod_selector: selector(&self.pods),
        }
    }

    fn ports(&self) -> Vec<NetworkPolicyPort> {
        let protocol = |protocol| match protocol {
            Protocol::Tcp => "TCP",
            Protocol::Udp => "UDP",
        };
        let port = |port: &PeerPort| NetworkPolicyPort {
            protocol: Some(protocol(port.protocol).to_owned()),
            port: Some(IntOrString::Int(i32::from(port.port))),
            end_port: None,
        };
        self.ports.iter().map(port).collect()
    }
}

fn both_directions() -> Vec<String> {
    vec!["Ingress".to_owned(), "Egress".to_owned()]
}

/// NetworkPolicy `default-deny`: no pod of the namespace sends or receives anything.
pub fn default_deny(namespace: &str) -> NetworkPolicy {
    NetworkPolicy {
        metadata: metadata(namespace, names::DEFAULT_DENY_NAME),
        spec: Some(NetworkPolicySpec {
            pod_selector: Some(LabelSelector::default()),
            policy_types: Some(both_directions()),
            ..NetworkPolicySpec::default()
        }),
    }
}

/// NetworkPolicy `allow-platform`: the few ways that a tenant's pods need, taken from the peer list.
pub fn allow_platform(namespace: &str, peers: &[PlatformPeer]) -> NetworkPolicy {
    let of = |direction| peers.iter().filter(move |peer| peer.direction == direction);
    let egress = of(Direction::Egress)
        .map(|peer| NetworkPolicyEgressRule { to: Some(vec![peer.peer()]), ports: Some(peer.ports()) })
        .collect();
    let ingress = of(Direction::Ingress)
        .map(|peer| NetworkPolicyIngressRule { from: Some(vec![peer.peer()]), ports: Some(peer.ports()) })
        .collect();
    NetworkPolicy {
        metadata: metadata(namespace, names::ALLOW_PLATFORM_NAME),
        spec: Some(NetworkPolicySpec {
            pod_selector: Some(LabelSelector::default()),
            policy_types: Some(both_directions()),
            egress: Some(egress),
            ingress: Some(ingress),
        }),
    }
}

/// Whether `policy` says what [`allow_platform`] builds for `peers`, whatever its metadata.
pub fn is_allow_platform(policy: &NetworkPolicy, peers: &[PlatformPeer]) -> bool {
    let normal = |policy: &NetworkPolicy| {
        policy.spec.clone().map(|mut spec| {
            spec.egress = spec.egress.filter(|rules| !rules.is_empty());
            spec.ingress = spec.ingress.filter(|rules| !rules.is_empty());
            spec.pod_selector = spec.pod_selector.filter(|selector| *selector != LabelSelector::default());
            spec
        })
    };
    normal(policy) == normal(&allow_platform("", peers))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_is_narrow() {
        let parse =
            |text: &str| serde_json::from_str::<PlatformPeer>(text).map_err(|error| error.to_string());
        assert!(parse(r#"{"cidr":"10.0.0.1/32","ports":[{"port":1}]}"#).is_ok());
        for bad in [
            r#"{"ports":[{"port":1}]}"#,
            r#"{"cidr":"10.0.0.1/32","ports":[]}"#,
            r#"{"cidr":"0.0.0.0/0","ports":[{"port":1}]}"#,
            r#"{"cidr":"10.0.0.1","ports":[{"port":1}]}"#,
            r#"{"cidr":"10.0.0.1/32","namespace":{"a":"b"},"ports":[{"port":1}]}"#,
            r#"{"cidr":"10.0.0.1/32","ports":[{"port":1}],"except":[]}"#,
        ] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn the_verifier_knows_what_the_builder_built() {
        let peers = [PlatformPeer::egress("10.0.0.1/32", &[6432]).unwrap()];
        assert!(is_allow_platform(&allow_platform("ns", &peers), &peers));
        assert!(!is_allow_platform(&allow_platform("ns", &[]), &peers));
        assert!(!is_allow_platform(&default_deny("ns"), &peers));
    }
}
