//! G5: the ready label only on proof by content, one journey a defect, with the provisioner's own account.

mod gate;

use anyhow::{Result, ensure};
use gate::{Gate, LABEL_GUARD};
use serde_json::{Value, json};

/// One thing wrong: kubectl commands with their input that make it so, and what the refusal says. `NS` is the namespace.
struct Defect {
    by_admin: Vec<(&'static str, Value)>,
    by_provisioner: Vec<&'static str>,
    says: &'static str,
}

/// Breaks a whole baseline, and expects every label writer to be refused for it.
async fn refused_while(defect: Defect) -> Result<()> {
    let gate = Gate::shared().await?;
    let namespace = gate.baseline().await?;
    for (command, input) in &defect.by_admin {
        let command = format!("{command} --namespace={namespace}");
        // Nobody else may break a whole baseline (G6).
        gate.break_glass.may(&command, &input.to_string()).await?;
    }
    for command in &defect.by_provisioner {
        gate.provisioner.may(&command.replace("NS", &namespace), "").await?;
    }
    let label = format!("label namespace {namespace} isolation-ready=true");
    for actor in [&gate.provisioner, &gate.break_glass] {
        let message = actor.may_not(LABEL_GUARD, &label, "").await?;
        ensure!(message.contains(defect.says), "the message does not say {:?}: {message}", defect.says);
    }
    let labels = gate.admin.get(&format!("namespace {namespace}")).await?;
    ensure!(labels["metadata"]["labels"]["isolation-ready"].is_null(), "{labels}");
    gate.delete(&[&namespace]).await
}

fn policy(name: &str, spec: &Value) -> Value {
    json!({"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": {"name": name}, "spec": spec})
}

fn binding(name: &str, role: &str, kind: &str, subject: &str) -> Value {
    let group = "rbac.authorization.k8s.io";
    json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding", "metadata": {"name": name},
        "roleRef": {"apiGroup": group, "kind": "ClusterRole", "name": role},
        "subjects": [{"apiGroup": group, "kind": kind, "name": subject}]})
}

const REPLACE_POLICY: &str = "replace -f -";
const CREATE: &str = "create -f -";
const OWNER: &str = "agent-ready:ann@acme.example";

macro_rules! defects {
    ($($name:ident: admin $admin:expr, provisioner $provisioner:expr, says $says:expr;)*) => {$(
        #[tokio::test(flavor = "multi_thread")]
        async fn $name() -> Result<()> {
            refused_while(Defect { by_admin: $admin, by_provisioner: $provisioner, says: $says }).await
        }
    )*};
}

defects! {
    no_default_deny:
        admin vec![("delete networkpolicy default-deny allow-platform", json!(""))], provisioner vec![],
        says "(1) no NetworkPolicy denies ingress to all pods; (2) no NetworkPolicy denies egress from all pods.";
    a_default_deny_that_allows_everything:
        admin vec![
            (REPLACE_POLICY, policy("default-deny", &json!({"podSelector": {}, "policyTypes": ["Ingress", "Egress"],
                "ingress": [{}], "egress": [{}]}))),
        ],
        provisioner vec![], says "NetworkPolicy default-deny allows everything to everyone";
    a_default_deny_of_ingress_alone:
        admin vec![
            (REPLACE_POLICY, policy("default-deny", &json!({"podSelector": {}, "policyTypes": ["Ingress"]}))),
        ],
        provisioner vec![], says "(1) no NetworkPolicy denies egress from all pods.";
    a_default_deny_of_some_pods:
        admin vec![
            (REPLACE_POLICY, policy("default-deny",
                &json!({"podSelector": {"matchLabels": {"a": "b"}}, "policyTypes": ["Ingress", "Egress"]}))),
        ],
        provisioner vec![], says "(1) no NetworkPolicy denies egress from all pods.";
    an_open_policy_beside_the_default_deny:
        admin vec![(CREATE, policy("open", &json!({"podSelector": {}, "ingress": [{}]})))],
        provisioner vec![], says "(1) NetworkPolicy open allows everything to everyone.";
    an_open_policy_in_pieces:
        admin vec![(CREATE, policy("pieces", &json!({"podSelector": {}, "policyTypes": ["Egress"], "egress": [{
            "to": [{"ipBlock": {"cidr": "0.0.0.0/1"}}, {"ipBlock": {"cidr": "128.0.0.0/1"}}],
            "ports": [{"port": 1, "endPort": 1000}, {"port": 1001, "endPort": 65535}]}]})))],
        provisioner vec![], says "(1) NetworkPolicy pieces allows everything to everyone.";
    no_quota:
        admin vec![("delete resourcequota tenant-quota", json!(""))],
        provisioner vec![], says "(1) no ResourceQuota with limits.cpu=10,";
    a_larger_quota:
        admin vec![(
            "patch resourcequota tenant-quota --type=merge --patch={\"spec\":{\"hard\":{\"requests.cpu\":\"1000\"}}}",
            json!(""),
        )],
        provisioner vec![], says "(1) no ResourceQuota with limits.cpu=10,";
    a_quota_without_one_of_its_keys:
        admin vec![(
            "patch resourcequota tenant-quota --type=merge --patch={\"spec\":{\"hard\":{\"requests.storage\":null}}}",
            json!(""),
        )],
        provisioner vec![], says "(1) no ResourceQuota with limits.cpu=10,";
    a_quota_of_some_pods:
        admin vec![
            ("delete resourcequota tenant-quota", json!("")),
            (CREATE, json!({"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "tenant-quota"},
                "spec": {"scopes": ["NotTerminating"], "hard": {"requests.cpu": "10", "limits.cpu": "10",
                    "requests.memory": "20Gi", "limits.memory": "20Gi"}}})),
        ],
        provisioner vec![], says "(1) no ResourceQuota with limits.cpu=10,";
    no_quota_annotation:
        admin vec![], provisioner vec!["annotate namespace NS agent-ready.io/quota-"],
        says "(1) annotation agent-ready.io/quota: missing.";
    a_broken_quota_annotation:
        admin vec![], provisioner vec!["annotate namespace NS agent-ready.io/quota={} --overwrite"],
        says "(1) annotation agent-ready.io/quota: the quota annotation must be";
    no_owner_annotation:
        admin vec![], provisioner vec!["annotate namespace NS agent-ready.io/owner-"],
        says "(1) annotation agent-ready.io/owner: missing.";
    another_owner_than_the_bound_one:
        admin vec![], provisioner vec!["annotate namespace NS agent-ready.io/owner=User:bob --overwrite"],
        says "(1) no RoleBinding of User bob to ClusterRole admin.";
    no_binding:
        admin vec![("delete rolebinding tenant-owner", json!(""))],
        provisioner vec![], says "(1) no RoleBinding of User agent-ready:ann@acme.example to ClusterRole admin.";
    a_binding_to_another_role:
        admin vec![
            ("delete rolebinding tenant-owner", json!("")),
            (CREATE, binding("tenant-owner", "view", "User", OWNER)),
        ],
        provisioner vec![], says "(1) no RoleBinding of User agent-ready:ann@acme.example to ClusterRole admin.";
    a_binding_of_another_subject:
        admin vec![
            ("delete rolebinding tenant-owner", json!("")),
            (CREATE, binding("tenant-owner", "admin", "Group", OWNER)),
        ],
        provisioner vec![], says "(1) no RoleBinding of User agent-ready:ann@acme.example to ClusterRole admin.";
    a_binding_for_everybody:
        admin vec![(CREATE, binding("all", "view", "Group", "system:authenticated"))],
        provisioner vec![], says "(1) RoleBinding all gives a role to everybody.";
    no_limit_range:
        admin vec![("delete limitrange tenant-limits", json!(""))],
        provisioner vec![], says "(1) no LimitRange with default requests, limits and a positive min of cpu and memory";
    a_limit_range_without_defaults:
        admin vec![
            ("replace -f -", json!({"apiVersion": "v1", "kind": "LimitRange", "metadata": {"name": "tenant-limits"},
                "spec": {"limits": [{"type": "Container", "max": {"cpu": "1"}}]}})),
        ],
        provisioner vec![], says "(1) no LimitRange with default requests, limits and a positive min of cpu and memory";
    a_limit_range_that_lets_containers_ask_for_nothing:
        admin vec![
            ("replace -f -", json!({"apiVersion": "v1", "kind": "LimitRange", "metadata": {"name": "tenant-limits"},
                "spec": {"limits": [{"type": "Container", "default": {"cpu": "500m", "memory": "512Mi"},
                    "defaultRequest": {"cpu": "50m", "memory": "64Mi"}}]}})),
        ],
        provisioner vec![], says "(1) no LimitRange with default requests, limits and a positive min of cpu and memory";
    no_pod_security_label:
        admin vec![], provisioner vec!["label namespace NS pod-security.kubernetes.io/enforce-"],
        says "(1) label pod-security.kubernetes.io/enforce is missing";
    privileged_pod_security:
        admin vec![], provisioner vec!["label namespace NS pod-security.kubernetes.io/enforce=privileged --overwrite"],
        says "(1) label pod-security.kubernetes.io/enforce is \"privileged\"";
}

#[tokio::test(flavor = "multi_thread")]
async fn a_whole_baseline_is_accepted_whatever_its_objects_are_called() -> Result<()> {
    let gate = Gate::shared().await?;
    let namespace = gate.baseline().await?;
    let deny = policy("another-name", &json!({"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}));
    gate.admin.may(&format!("create -f - --namespace={namespace}"), &deny.to_string()).await?;
    gate.admin.may(&format!("delete networkpolicy default-deny --namespace={namespace}"), "").await?;
    // A tenant's own narrower policy is its right.
    let narrow = json!({"podSelector": {}, "ingress": [{"from": [{"podSelector": {}}]}]});
    gate.admin
        .may(&format!("create -f - --namespace={namespace}"), &policy("narrow", &narrow).to_string())
        .await?;
    let label = format!("label namespace {namespace} isolation-ready=true");
    gate.admin.may_not(LABEL_GUARD, &label, "").await?;
    gate.provisioner.may(&label, "").await?;
    gate.delete(&[&namespace]).await
}
