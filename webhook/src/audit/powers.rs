//! Who can pass the gate or undo it, by Kubernetes' own rights: what the gate trusts, with names.

use std::collections::BTreeSet;

use super::rbac::{Holder, Rbac, Right};

/// A power over the gate.
#[derive(Debug, Clone, Copy)]
pub struct Power {
    /// Short name, for JSON.
    pub code: &'static str,
    /// What who has it can do.
    pub means: &'static str,
    rights: &'static [Right],
}

/// A power and who has it.
#[derive(Debug, Clone)]
pub struct Held {
    /// The power.
    pub power: Power,
    /// Who has it.
    pub holders: BTreeSet<Holder>,
}

const WRITE: &[&str] = &["create", "update", "patch", "delete", "deletecollection"];
const OUR_ACCOUNTS: &[&str] = &["webhook", "provisioner"];
const OUR_SECRETS: &[&str] = &["webhook-tls"];
const WORKLOADS: &[&str] = &["deployments", "replicasets", "statefulsets", "daemonsets"];

const fn core(verbs: &'static [&'static str], resources: &'static [&'static str]) -> Right {
    Right { verbs, group: "", resources, names: &[], in_our_namespace: true }
}

const fn cluster(
    verbs: &'static [&'static str],
    group: &'static str,
    resources: &'static [&'static str],
) -> Right {
    Right { verbs, group, resources, names: &[], in_our_namespace: false }
}

/// All powers. Members of `system:masters` have every one of them, without any role.
pub const POWERS: [Power; 8] = [
    Power {
        code: "impersonate",
        means: "may act as the label writers or as a member of the break-glass group",
        rights: &[
            cluster(&["impersonate*"], "", &["users", "groups"]),
            cluster(&["impersonate*"], "authentication.k8s.io", &["users", "groups", "userextras", "uids"]),
            Right { names: OUR_ACCOUNTS, ..core(&["impersonate*"], &["serviceaccounts"]) },
            Right {
                group: "authentication.k8s.io",
                names: OUR_ACCOUNTS,
                ..core(&["impersonate*"], &["serviceaccounts"])
            },
        ],
    },
    Power {
        code: "mint-tokens",
        means: "may make tokens of our service accounts, and so be the label writer",
        rights: &[Right { names: OUR_ACCOUNTS, ..core(&["create"], &["serviceaccounts/token"]) }],
    },
    Power {
        code: "enter-pods",
        means: "may run commands in our pods, or put a container into them",
        rights: &[
            core(&["create", "get"], &["pods/exec", "pods/attach"]),
            core(&["update", "patch"], &["pods/ephemeralcontainers"]),
            cluster(&["create", "get"], "", &["nodes/proxy"]),
        ],
    },
    Power {
        code: "run-as-us",
        means: "may start a pod in our namespace, with our service accounts, or change ours",
        rights: &[
            core(&["create"], &["pods", "replicationcontrollers"]),
            Right { group: "apps", ..core(&["create", "update", "patch"], WORKLOADS) },
            Right { group: "batch", ..core(&["create", "update", "patch"], &["jobs", "cronjobs"]) },
        ],
    },
    Power {
        code: "edit-guards",
        means: "may change or remove the webhook configurations and the admission policies",
        rights: &[cluster(
            WRITE,
            "admissionregistration.k8s.io",
            &[
                "validatingwebhookconfigurations",
                "mutatingwebhookconfigurations",
                "validatingadmissionpolicies",
                "validatingadmissionpolicybindings",
                "mutatingadmissionpolicies",
                "mutatingadmissionpolicybindings",
            ],
        )],
    },
    Power {
        code: "hold-our-keys",
        means: "may read or write the Secret with the gate's certificates, and so answer in its place",
        rights: &[Right {
            names: OUR_SECRETS,
            ..core(&["get", "list", "watch", "update", "patch", "delete", "deletecollection"], &["secrets"])
        }],
    },
    Power {
        code: "give-rights",
        means: "may give itself or others any right (verbs escalate and bind)",
        rights: &[cluster(&["escalate", "bind"], "rbac.authorization.k8s.io", &["clusterroles", "roles"])],
    },
    Power {
        code: "sign-identities",
        means: "may approve or sign client certificates with any name and group",
        rights: &[cluster(
            &["update", "patch"],
            "certificates.k8s.io",
            &["certificatesigningrequests/approval", "certificatesigningrequests/status"],
        )],
    },
];

/// Who has which power.
pub fn examine(rbac: &Rbac) -> Vec<Held> {
    POWERS.iter().map(|power| Held { power: *power, holders: rbac.holders(power.rights) }).collect()
}
