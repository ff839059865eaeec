//! What would be hit if the gate refused everywhere: asked before anything is enforced.

use std::collections::BTreeMap;

use super::pods::{is_exempt, maker};
use crate::{
    admission::policy::Policy,
    cluster::store::{Namespace, Pod},
};

/// A namespace whose pods could not be made again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hit {
    /// The namespace.
    pub namespace: String,
    /// What makes its pods, and how many of them may run.
    pub makers: BTreeMap<String, usize>,
    /// What its baseline lacks, in words; or why nobody knows.
    pub missing: Result<Vec<String>, String>,
}

/// The namespaces that would be hit, by name, without what they lack. Those in which nothing runs are not hit: nothing
/// there would be refused that is there today.
pub fn hits(policy: &Policy, namespaces: &[impl AsRef<Namespace>], pods: &[impl AsRef<Pod>]) -> Vec<Hit> {
    let mut hits: BTreeMap<&str, Hit> = BTreeMap::new();
    let gated: BTreeMap<&str, &Namespace> = namespaces
        .iter()
        .map(AsRef::as_ref)
        .filter(|namespace| !is_exempt(policy, namespace) && !namespace.is_ready() && !namespace.terminating)
        .map(|namespace| (namespace.name.as_ref(), namespace))
        .collect();
    for pod in pods.iter().map(AsRef::as_ref).filter(|pod| pod.may_run() && !pod.mirror) {
        if let Some(namespace) = gated.get(pod.namespace.as_ref()) {
            let hit = hits.entry(&namespace.name).or_insert_with(|| Hit {
                namespace: namespace.name.to_string(),
                makers: BTreeMap::new(),
                missing: Ok(Vec::new()),
            });
            *hit.makers.entry(maker(pod)).or_default() += 1;
        }
    }
    hits.into_values().collect()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::audit::pods::testing::{namespace, pod};

    #[test]
    fn only_what_runs_in_gated_unready_namespaces_is_hit() {
        let namespaces = [
            namespace("shop", &[]),
            namespace("warned", &[("agent-ready.io/gate", "warn")]),
            namespace("ready", &[("isolation-ready", "true")]),
            namespace("free", &[("agent-ready.io/gate", "exempt")]),
            namespace("kube-system", &[]),
            namespace("empty", &[]),
        ]
        .map(Arc::new);
        let pods =
            ["shop", "shop", "warned", "ready", "free", "kube-system"].map(|name| Arc::new(pod(name, "web")));
        let hits = hits(&Policy::new("image"), &namespaces, &pods);
        let seen: Vec<_> =
            hits.iter().map(|hit| (hit.namespace.as_str(), hit.makers["ReplicaSet web"])).collect();
        assert_eq!(seen, [("shop", 2), ("warned", 1)]);
    }
}
