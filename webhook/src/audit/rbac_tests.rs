use serde_json::json;

use super::*;
use crate::audit::powers;

fn rbac(rules: &serde_json::Value) -> Rbac {
    let role = json!({"metadata": {"name": "r"}, "rules": rules});
    let binding = |subject: &str| {
        json!({"metadata": {"name": "b", "namespace": "agent-ready-system"},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "r"},
            "subjects": [{"kind": "User", "name": subject}]})
    };
    let of = |value: serde_json::Value| vec![value];
    Rbac {
        cluster_roles: serde_json::from_value(json!(of(role))).unwrap(),
        cluster_role_bindings: serde_json::from_value(json!(of(binding("everywhere")))).unwrap(),
        roles: Vec::new(),
        role_bindings: serde_json::from_value(json!(of(binding("here")))).unwrap(),
    }
}

/// Codes of the powers that a rule gives to who is bound everywhere, and to who is bound in our namespace.
fn powers_of(rule: &serde_json::Value) -> (Vec<&'static str>, Vec<&'static str>) {
    let held = powers::examine(&rbac(&json!([rule])));
    let of = |subject: &str| {
        let subject = format!("User {subject}");
        let has = |held: &&powers::Held| held.holders.iter().any(|holder| holder.subject == subject);
        held.iter().filter(has).map(|held| held.power.code).collect()
    };
    (of("everywhere"), of("here"))
}

#[test]
fn everything_is_every_power() {
    let (everywhere, here) = powers_of(&json!({"apiGroups": ["*"], "resources": ["*"], "verbs": ["*"]}));
    assert_eq!(everywhere.len(), powers::POWERS.len());
    assert_eq!(here, ["impersonate", "mint-tokens", "enter-pods", "run-as-us", "hold-our-keys"]);
}

#[test]
fn each_power_is_recognised_by_the_narrowest_rule_that_gives_it() {
    for (group, resource, verb, power, here) in [
        ("", "users", "impersonate", "impersonate", false),
        ("authentication.k8s.io", "groups", "impersonate:user-info", "impersonate", false),
        ("", "serviceaccounts", "impersonate", "impersonate", true),
        ("", "serviceaccounts/token", "create", "mint-tokens", true),
        ("", "pods/exec", "create", "enter-pods", true),
        ("", "*/exec", "get", "enter-pods", true),
        ("", "pods/ephemeralcontainers", "patch", "enter-pods", true),
        ("", "nodes/proxy", "get", "enter-pods", false),
        ("", "pods", "create", "run-as-us", true),
        ("apps", "deployments", "patch", "run-as-us", true),
        ("batch", "cronjobs", "update", "run-as-us", true),
        ("admissionregistration.k8s.io", "validatingwebhookconfigurations", "delete", "edit-guards", false),
        ("admissionregistration.k8s.io", "validatingadmissionpolicybindings", "patch", "edit-guards", false),
        ("", "secrets", "get", "hold-our-keys", true),
        ("rbac.authorization.k8s.io", "clusterroles", "escalate", "give-rights", false),
        ("certificates.k8s.io", "certificatesigningrequests/approval", "update", "sign-identities", false),
    ] {
        let rule = json!({"apiGroups": [group], "resources": [resource], "verbs": [verb]});
        let expected = if here { vec![power] } else { vec![] };
        assert_eq!(powers_of(&rule), (vec![power], expected), "{verb} {resource}");
    }
}

#[test]
fn what_gives_no_power_is_not_named() {
    for (group, resource, verb) in [
        ("", "pods", "get"),
        ("apps", "pods/exec", "create"),
        ("", "pods/log", "get"),
        ("", "secrets", "create"),
        ("admissionregistration.k8s.io", "validatingwebhookconfigurations", "get"),
    ] {
        let rule = json!({"apiGroups": [group], "resources": [resource], "verbs": [verb]});
        assert_eq!(powers_of(&rule), (vec![], vec![]), "{verb} {resource}");
    }
    let other =
        json!({"apiGroups": [""], "resources": ["secrets"], "verbs": ["get"], "resourceNames": ["theirs"]});
    assert_eq!(powers_of(&other), (vec![], vec![]));
    let ours = json!({"apiGroups": [""], "resources": ["secrets"], "verbs": ["get"], "resourceNames": ["webhook-tls"]});
    assert_eq!(powers_of(&ours).1, ["hold-our-keys"]);
}

#[test]
fn a_binding_names_its_subjects_and_its_way() {
    let holders =
        rbac(&json!([{"apiGroups": [""], "resources": ["pods"], "verbs": ["create"]}])).holders(&[Right {
            verbs: &["create"],
            group: "",
            resources: &["pods"],
            names: &[],
            in_our_namespace: true,
        }]);
    let words: Vec<String> =
        holders.iter().map(|holder| format!("{}: {}", holder.subject, holder.by)).collect();
    assert_eq!(
        words,
        [
            "User everywhere: ClusterRoleBinding b -> ClusterRole r",
            "User here: RoleBinding agent-ready-system/b -> ClusterRole r"
        ]
    );
}
