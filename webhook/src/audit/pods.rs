//! Findings about pods: where they run, and what they lack.

use contract::names;

use super::finding::{Finding, Kind, Object};
use crate::{
    admission::policy::Policy,
    cluster::store::{Namespace, Pod},
};

/// What is wrong with a pod, by what is known of its namespace. `revoked` is when the ready label was seen to go, in seconds
/// since 1970, if this process saw it.
pub fn examine(policy: &Policy, namespace: &Namespace, pod: &Pod, revoked: Option<i64>) -> Vec<Finding> {
    if is_exempt(policy, namespace) {
        return Vec::new();
    }
    let mut findings = Vec::new();
    let mut find = |kind, message| findings.push(Finding { kind, object: object(pod), message });
    if pod.mirror {
        find(Kind::StaticPod, static_pod(pod));
    }
    if pod.may_run() && !namespace.is_ready() {
        if !pod.mirror {
            find(Kind::PodInUnreadyNamespace, unready(namespace, pod));
        }
        // The API server's clock and ours may differ by a second, and creation times are cut to seconds.
        if revoked.is_some_and(|revoked| pod.created + 1 >= revoked) {
            find(Kind::PodAfterRevocation, after_revocation(pod));
        }
    }
    let injects = namespace.label(names::INJECT_LABEL) == Some("enabled");
    let wanted = !pod.mirror && !pod.host_network && !pod.windows && !pod.opted_out && pod.may_run();
    if injects && wanted && !pod.sidecar {
        find(Kind::PodWithoutSidecar, without_sidecar(pod));
    }
    findings
}

/// Whether the gate does not look at the namespace at all.
pub fn is_exempt(policy: &Policy, namespace: &Namespace) -> bool {
    policy.exempts(&namespace.name) || namespace.label(names::MODE_LABEL) == Some("exempt")
}

fn object(pod: &Pod) -> Object {
    Object {
        api_version: "v1",
        kind: "Pod",
        namespace: pod.namespace.to_string(),
        name: pod.name.to_string(),
        uid: pod.uid.to_string(),
    }
}

/// The pod's maker, for who has to change something.
pub fn maker(pod: &Pod) -> String {
    pod.owner.as_ref().map_or("no controller".to_owned(), |owner| format!("{} {}", owner.kind, owner.name))
}

fn static_pod(pod: &Pod) -> String {
    format!(
        "The pod comes from a file of the kubelet on node {:?}: neither the gate nor any other admission sees such pods. \
         To do: take the file off the node, or make the namespace exempt if the pod belongs to the platform.",
        pod.node.as_deref().unwrap_or("unknown")
    )
}

fn unready(namespace: &Namespace, pod: &Pod) -> String {
    format!(
        "The pod (made by {}) runs in a namespace that is not proved isolated (it has no label {}={}): it came in before \
         the gate, or while the namespace was ready, or its mode is not to refuse ({}: {}). To do: make the namespace \
         ready, or delete the pod and what makes it.",
        maker(pod),
        names::GATE_LABEL,
        names::GATE_OPEN,
        names::MODE_LABEL,
        namespace.label(names::MODE_LABEL).unwrap_or("not set"),
    )
}

fn after_revocation(pod: &Pod) -> String {
    format!(
        "The pod (made by {}) came in after label {} was taken off its namespace: the API server's selector lags behind a \
         change of labels by up to a second. To do: delete the pod; its controller makes it anew when the namespace is \
         ready.",
        maker(pod),
        names::GATE_LABEL,
    )
}

fn without_sidecar(pod: &Pod) -> String {
    format!(
        "The pod (made by {}) has no config sidecar though its namespace asks for it ({}=enabled): it was made before that, \
         or while the injection did not answer. To do: have it made anew (kubectl rollout restart), or opt it out with \
         the annotation {}: disabled.",
        maker(pod),
        names::INJECT_LABEL,
        names::INJECT_LABEL,
    )
}

#[cfg(test)]
#[path = "pods_tests.rs"]
mod tests;

/// Records for the tests of this module and its neighbours.
#[cfg(test)]
pub(in crate::audit) mod testing {
    use serde_json::json;

    use crate::cluster::store::{Namespace, Pod, Record};

    /// A namespace with these labels.
    pub fn namespace(name: &str, labels: &[(&str, &str)]) -> Namespace {
        let labels: serde_json::Map<_, _> =
            labels.iter().map(|(key, value)| ((*key).to_owned(), json!(value))).collect();
        let wire = json!({"metadata": {"name": name, "uid": format!("uid-{name}"), "labels": labels}});
        Namespace::from_wire(serde_json::from_value(wire).unwrap())
    }

    /// A running pod of a ReplicaSet.
    pub fn pod(namespace: &str, name: &str) -> Pod {
        let wire = json!({
            "metadata": {"name": name, "namespace": namespace, "uid": format!("uid-{name}"),
                "creationTimestamp": "2026-01-01T00:00:00Z",
                "ownerReferences": [{"kind": "ReplicaSet", "name": name, "controller": true}]},
            "spec": {"nodeName": "node-1"}, "status": {"phase": "Running"},
        });
        Pod::from_wire(serde_json::from_value(wire).unwrap())
    }
}
