//! NetworkPolicies: what denies all, and what opens all.
//!
//! Source: <https://kubernetes.io/docs/concepts/services-networking/network-policies/>; policies add up, so one that
//! allows everything undoes a default-deny beside it.

use std::collections::BTreeMap;

use k8s_openapi::api::networking::v1::{
    NetworkPolicy, NetworkPolicyPeer, NetworkPolicyPort, NetworkPolicySpec,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::{Defect, find, name_of};
use crate::names;

pub(super) fn examine(policies: &[NetworkPolicy], defects: &mut Vec<Defect>) {
    let mut passing = Vec::new();
    let mut denied = |direction: &str, rules: fn(&NetworkPolicySpec) -> bool| {
        let denies = |policy: &NetworkPolicy| {
            policy
                .spec
                .as_ref()
                .is_some_and(|spec| selects_everything(spec) && covers(spec, direction) && rules(spec))
        };
        find("NetworkPolicy", policies, |policy| &policy.metadata, denies, &mut passing).is_some()
    };
    if !denied("Ingress", |spec| is_empty(spec.ingress.as_ref())) {
        defects.push(Defect::IngressNotDenied);
    }
    if !denied("Egress", |spec| is_empty(spec.egress.as_ref())) {
        defects.push(Defect::EgressNotDenied);
    }
    defects.append(&mut passing);
    let open = policies.iter().filter(|policy| policy.spec.as_ref().is_some_and(is_open));
    defects.extend(open.map(|policy| Defect::OpenNetworkPolicy(name_of(&policy.metadata))));
}

fn is_empty<T>(rules: Option<&Vec<T>>) -> bool {
    rules.is_none_or(Vec::is_empty)
}

fn matches_all(selector: &LabelSelector) -> bool {
    selector.match_labels.as_ref().is_none_or(BTreeMap::is_empty)
        && is_empty(selector.match_expressions.as_ref())
}

fn selects_everything(spec: &NetworkPolicySpec) -> bool {
    spec.pod_selector.as_ref().is_none_or(matches_all)
}

/// Whether the policy speaks of a direction. Where types are not said, ingress always is, egress if it has rules.
fn covers(spec: &NetworkPolicySpec, direction: &str) -> bool {
    match spec.policy_types.as_ref().filter(|types| !types.is_empty()) {
        Some(types) => types.iter().any(|kind| kind == direction),
        None => direction == "Ingress" || !is_empty(spec.egress.as_ref()),
    }
}

/// Whether a rule lets every peer use every port. Which pods the policy selects is not asked: a selector that matches
/// all of them is easily written without being empty.
fn is_open(spec: &NetworkPolicySpec) -> bool {
    let open = |peers: Option<&Vec<NetworkPolicyPeer>>, ports: Option<&Vec<NetworkPolicyPort>>| {
        (is_empty(peers) || peers.is_some_and(|peers| peers.iter().any(is_everyone)))
            && (is_empty(ports) || ports.is_some_and(|ports| are_every_port(ports)))
    };
    let ingress = covers(spec, "Ingress")
        && spec.ingress.iter().flatten().any(|rule| open(rule.from.as_ref(), rule.ports.as_ref()));
    let egress = covers(spec, "Egress")
        && spec.egress.iter().flatten().any(|rule| open(rule.to.as_ref(), rule.ports.as_ref()));
    ingress || egress
}

/// Blocks of fewer fixed bits are everyone: a few of them side by side are the whole internet.
const CIDR_PREFIX_MIN: u8 = 8;

fn is_everyone(peer: &NetworkPolicyPeer) -> bool {
    if let Some(block) = &peer.ip_block {
        // An exception does not close the rest.
        let prefix = block.cidr.rsplit_once('/').and_then(|(_, prefix)| prefix.parse::<u8>().ok());
        return prefix.is_none_or(|prefix| prefix < CIDR_PREFIX_MIN);
    }
    // Without a namespaceSelector a podSelector means the policy's own namespace.
    peer.namespace_selector.as_ref().is_some_and(excludes_only)
        && peer.pod_selector.as_ref().is_none_or(excludes_only)
}

/// Whether a selector names nothing that it wants: it is empty, or only says what it does not want, or asks for the
/// label that every namespace has.
fn excludes_only(selector: &LabelSelector) -> bool {
    let wants = |key: &str, operator: &str| {
        operator == "In" || operator == "Exists" && key != names::NAMESPACE_NAME_LABEL
    };
    selector.match_labels.as_ref().is_none_or(BTreeMap::is_empty)
        && !selector
            .match_expressions
            .iter()
            .flatten()
            .any(|expression| wants(&expression.key, &expression.operator))
}

/// Whether the ports of a rule together are all ports of a protocol.
fn are_every_port(ports: &[NetworkPolicyPort]) -> bool {
    let protocol = |port: &NetworkPolicyPort| port.protocol.clone().unwrap_or_else(|| "TCP".to_owned());
    ports.iter().any(|one| {
        let mut ranges: Vec<_> =
            ports.iter().filter(|port| protocol(port) == protocol(one)).filter_map(range).collect();
        ranges.sort_unstable();
        let end = ranges
            .into_iter()
            .fold(0, |end, (first, last)| if first <= end + 1 { last.max(end) } else { end });
        end >= 65_535
    })
}

/// First and last port; none for a named port, which is one port of each pod.
fn range(port: &NetworkPolicyPort) -> Option<(i32, i32)> {
    match &port.port {
        None => Some((1, 65_535)),
        Some(IntOrString::Int(first)) => Some((*first, port.end_port.unwrap_or(*first))),
        Some(IntOrString::String(_)) => None,
    }
}
