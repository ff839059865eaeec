//! NetworkPolicies: what denies all, and what opens all.
//!
//! Source: <https://kubernetes.io/docs/concepts/services-networking/network-policies/>; policies add up, so one that
//! allows everything undoes a default-deny beside it.

use k8s_openapi::api::networking::v1::{
    NetworkPolicy, NetworkPolicyPeer, NetworkPolicyPort, NetworkPolicySpec,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::{Defect, name_of};

pub(super) fn examine(policies: &[NetworkPolicy], defects: &mut Vec<Defect>) {
    let denies =
        |deny: fn(&NetworkPolicySpec) -> bool| policies.iter().filter_map(|p| p.spec.as_ref()).any(deny);
    if !denies(|spec| selects_everything(spec) && covers(spec, "Ingress") && is_empty(spec.ingress.as_ref()))
    {
        defects.push(Defect::IngressNotDenied);
    }
    if !denies(|spec| selects_everything(spec) && covers(spec, "Egress") && is_empty(spec.egress.as_ref())) {
        defects.push(Defect::EgressNotDenied);
    }
    let open = policies.iter().filter(|policy| policy.spec.as_ref().is_some_and(is_open));
    defects.extend(open.map(|policy| Defect::OpenNetworkPolicy(name_of(&policy.metadata))));
}

fn is_empty<T>(rules: Option<&Vec<T>>) -> bool {
    rules.is_none_or(Vec::is_empty)
}

fn matches_all(selector: &LabelSelector) -> bool {
    selector.match_labels.as_ref().is_none_or(std::collections::BTreeMap::is_empty)
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
            && (is_empty(ports) || ports.is_some_and(|ports| ports.iter().any(is_every_port)))
    };
    let ingress = covers(spec, "Ingress")
        && spec.ingress.iter().flatten().any(|rule| open(rule.from.as_ref(), rule.ports.as_ref()));
    let egress = covers(spec, "Egress")
        && spec.egress.iter().flatten().any(|rule| open(rule.to.as_ref(), rule.ports.as_ref()));
    ingress || egress
}

fn is_everyone(peer: &NetworkPolicyPeer) -> bool {
    if let Some(block) = &peer.ip_block {
        // Two halves make a whole: 0.0.0.0/1 beside 128.0.0.0/1 is 0.0.0.0/0. An exception does not close the rest.
        let prefix = block.cidr.rsplit_once('/').and_then(|(_, prefix)| prefix.parse::<u8>().ok());
        return prefix.is_none_or(|prefix| prefix <= 1);
    }
    // Without a namespaceSelector a podSelector means the policy's own namespace.
    peer.namespace_selector.as_ref().is_some_and(matches_all)
        && peer.pod_selector.as_ref().is_none_or(matches_all)
}

fn is_every_port(port: &NetworkPolicyPort) -> bool {
    match (&port.port, port.end_port) {
        (None, _) => true,
        (Some(IntOrString::Int(first)), Some(last)) => *first <= 1 && last >= 65_535,
        _ => false,
    }
}
