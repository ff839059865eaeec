//! What each thing that the apiserver serves could do to the gate. What no rule here knows has no class.

use super::Served;

/// What a write could do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Class {
    /// It reads.
    Read,
    /// It makes or changes a pod.
    Pod,
    /// It is done to a pod that is there.
    PartOfPod,
    /// Its controller makes pods from a template in it.
    PodMaker,
    /// It changes how many pods a controller makes.
    Scale,
    /// It changes a namespace, its labels too.
    Namespace,
    /// It changes what a baseline is made of.
    Baseline,
    /// It gives rights, or decides what the apiserver asks: for administrators of the cluster, whom the gate trusts.
    Control,
    /// It makes no pod, changes no label and is no part of a baseline.
    Harmless,
}

/// Parts of pods. `binding` exists twice.
const PARTS_OF_PODS: [&str; 10] = [
    "attach",
    "binding",
    "ephemeralcontainers",
    "eviction",
    "exec",
    "log",
    "portforward",
    "proxy",
    "resize",
    "status",
];

/// Resources with a pod's template in them: a journey makes one of each.
pub const POD_MAKERS: [(&str, &str); 8] = [
    ("", "podtemplates"),
    ("", "replicationcontrollers"),
    ("apps", "daemonsets"),
    ("apps", "deployments"),
    ("apps", "replicasets"),
    ("apps", "statefulsets"),
    ("batch", "cronjobs"),
    ("batch", "jobs"),
];

/// What a baseline is made of.
pub const BASELINE: [(&str, &str); 4] = [
    ("", "limitranges"),
    ("", "resourcequotas"),
    ("networking.k8s.io", "networkpolicies"),
    ("rbac.authorization.k8s.io", "rolebindings"),
];

/// A group, its resources, and the subresources that they have among them besides `status`.
type Known = (&'static str, &'static [&'static str], &'static [&'static str]);

/// What gives rights, or decides what the apiserver asks and serves.
const CONTROL: [Known; 9] = [
    (
        "admissionregistration.k8s.io",
        &[
            "mutatingadmissionpolicies",
            "mutatingadmissionpolicybindings",
            "mutatingwebhookconfigurations",
            "validatingadmissionpolicies",
            "validatingadmissionpolicybindings",
            "validatingwebhookconfigurations",
        ],
        &[],
    ),
    ("apiextensions.k8s.io", &["customresourcedefinitions"], &[]),
    ("apiregistration.k8s.io", &["apiservices"], &[]),
    ("authentication.k8s.io", &["selfsubjectreviews", "tokenreviews"], &[]),
    (
        "authorization.k8s.io",
        &[
            "localsubjectaccessreviews",
            "selfsubjectaccessreviews",
            "selfsubjectrulesreviews",
            "subjectaccessreviews",
        ],
        &[],
    ),
    ("certificates.k8s.io", &["certificatesigningrequests"], &["approval"]),
    ("flowcontrol.apiserver.k8s.io", &["flowschemas", "prioritylevelconfigurations"], &[]),
    ("rbac.authorization.k8s.io", &["clusterrolebindings", "clusterroles", "roles"], &[]),
    // A token lets its bearer act as the account, whose rights are what was given to it; through a node's or service's
    // proxy one speaks to what runs already.
    ("", &["nodes", "serviceaccounts", "services"], &["proxy", "token"]),
];

/// What makes no pod.
const HARMLESS: [Known; 13] = [
    (
        "",
        &[
            "componentstatuses",
            "configmaps",
            "endpoints",
            "events",
            "persistentvolumeclaims",
            "persistentvolumes",
            "secrets",
        ],
        &[],
    ),
    // Revisions are read by the controllers of what they are revisions of.
    ("apps", &["controllerrevisions"], &[]),
    // It scales what makes pods.
    ("autoscaling", &["horizontalpodautoscalers"], &[]),
    ("coordination.k8s.io", &["leases"], &[]),
    ("discovery.k8s.io", &["endpointslices"], &[]),
    ("events.k8s.io", &["events"], &[]),
    ("networking.k8s.io", &["ingressclasses", "ingresses", "ipaddresses", "servicecidrs"], &[]),
    ("node.k8s.io", &["runtimeclasses"], &[]),
    ("policy", &["poddisruptionbudgets"], &[]),
    (
        "resource.k8s.io",
        &["deviceclasses", "resourceclaims", "resourceclaimtemplates", "resourceslices"],
        &[],
    ),
    ("scheduling.k8s.io", &["priorityclasses"], &[]),
    (
        "storage.k8s.io",
        &[
            "csidrivers",
            "csinodes",
            "csistoragecapacities",
            "storageclasses",
            "volumeattachments",
            "volumeattributesclasses",
        ],
        &[],
    ),
    // Writes every object back unchanged.
    ("storagemigration.k8s.io", &["storageversionmigrations"], &[]),
];

/// The class of one verb on one resource; none if no rule knows it.
pub fn class(served: &Served, verb: &str) -> Option<Class> {
    let known_verb = ["get", "list", "watch", "create", "update", "patch", "delete", "deletecollection"];
    if !known_verb.contains(&verb) {
        return None;
    }
    let reads = ["get", "list", "watch"].contains(&verb);
    // A connection is opened by a GET too.
    let connects = ["attach", "exec", "portforward", "proxy"].contains(&served.subresource.as_str());
    if reads && !connects {
        return Some(Class::Read);
    }
    match (served.name(), served.subresource.as_str()) {
        (("", "pods"), "") => Some(Class::Pod),
        (("", "pods"), part) => PARTS_OF_PODS.contains(&part).then_some(Class::PartOfPod),
        (("", "bindings"), "") => Some(Class::PartOfPod),
        (("", "namespaces"), "" | "status" | "finalize") => Some(Class::Namespace),
        (("", "namespaces"), _) => None,
        (name, "" | "status") if BASELINE.contains(&name) => Some(Class::Baseline),
        (name, _) if BASELINE.contains(&name) => None,
        (name, "scale") => POD_MAKERS.contains(&name).then_some(Class::Scale),
        (name, "" | "status") if served.has_pod_spec => POD_MAKERS.contains(&name).then_some(Class::PodMaker),
        _ if served.has_pod_spec => None,
        (name, part) => others(served, name, part),
    }
}

fn others(served: &Served, (group, resource): (&str, &str), part: &str) -> Option<Class> {
    if served.custom {
        // No controller of Kubernetes makes a pod of it, and what others make comes to the gate as a pod.
        return Some(Class::Harmless);
    }
    let is_known = |table: &[Known]| {
        table.iter().any(|(known, resources, parts)| {
            *known == group
                && resources.contains(&resource)
                && (part.is_empty() || part == "status" || parts.contains(&part))
        })
    };
    if is_known(&CONTROL) { Some(Class::Control) } else { is_known(&HARMLESS).then_some(Class::Harmless) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn served(group: &str, resource: &str, subresource: &str, has_pod_spec: bool) -> Served {
        Served {
            group: group.into(),
            version: "v1".into(),
            resource: resource.into(),
            subresource: subresource.into(),
            kind: String::new(),
            namespaced: true,
            verbs: ["create".to_owned()].into(),
            has_pod_spec,
            custom: false,
        }
    }

    #[test]
    fn what_is_new_has_no_class() {
        for new in [
            served("", "pods", "clone", false),
            served("", "namespaces", "relabel", false),
            served("networking.k8s.io", "networkpolicies", "scale", false),
            served("batch", "workflows", "", true),
            served("batch", "workflows", "", false),
            served("", "secrets", "scale", false),
            served("storage.k8s.io", "volumes", "", true),
            served("", "secrets", "rotate", false),
            served("scheduling.k8s.io", "workloads", "", false),
        ] {
            assert_eq!(class(&new, "create"), None, "{new}");
        }
        assert_eq!(class(&served("", "pods", "", true), "conjure"), None);
    }

    #[test]
    fn a_connection_is_no_read() {
        assert_eq!(class(&served("", "pods", "exec", false), "get"), Some(Class::PartOfPod));
        assert_eq!(class(&served("", "pods", "log", false), "get"), Some(Class::Read));
    }
}
