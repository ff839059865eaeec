//! One test per defect: start from the baseline that the builders make, break one thing, name what is seen.

use k8s_openapi::api::core::v1::{Namespace, ResourceQuotaStatus};
use k8s_openapi::api::networking::v1::{
    NetworkPolicyEgressRule, NetworkPolicyIngressRule, NetworkPolicySpec,
};
use k8s_openapi::api::rbac::v1::Subject;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as Amount;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use serde_json::json;
use uuid::Uuid;

use super::*;
use crate::baseline::{self, PlatformPeer, PodSecurity, Tenant};
use crate::{OrganizationId, Owner, Quota, Slug};

struct Cluster {
    namespace: Namespace,
    network_policies: Vec<NetworkPolicy>,
    resource_quotas: Vec<ResourceQuota>,
    role_bindings: Vec<RoleBinding>,
    limit_ranges: Vec<LimitRange>,
}

impl Cluster {
    fn whole() -> Self {
        let tenant = Tenant {
            organization: OrganizationId(Uuid::nil()),
            slug: Slug::from_name("acme").unwrap(),
            owner: Owner::from_email("agent-ready:", "a@b.example").unwrap(),
            quota: Quota::default(),
            operation: Uuid::nil(),
            pod_security: PodSecurity::default(),
        };
        let mut quota = baseline::resource_quota(&tenant);
        let hard = quota.spec.as_ref().unwrap().hard.clone().unwrap();
        let used = hard.keys().map(|key| (key.clone(), Amount("0".into())));
        quota.status = Some(ResourceQuotaStatus { used: Some(used.collect()), hard: Some(hard) });
        // A peer in each direction: without one, allow-platform would deny that direction by itself.
        let peers: Vec<PlatformPeer> = serde_json::from_value(json!([
            {"cidr": "10.0.0.1/32", "ports": [{"port": 6432}]},
            {"direction": "ingress", "namespace": {"kubernetes.io/metadata.name": "monitoring"}, "ports": [{"port": 7071}]}
        ]))
        .unwrap();
        Self {
            network_policies: vec![
                baseline::default_deny("org-acme"),
                baseline::allow_platform("org-acme", &peers),
            ],
            resource_quotas: vec![quota],
            role_bindings: vec![baseline::owner_binding(&tenant)],
            limit_ranges: vec![baseline::limit_range("org-acme")],
            namespace: baseline::namespace(&tenant),
        }
    }

    fn seen(&self) -> Vec<&'static str> {
        let none = BTreeMap::new();
        let defects = prove(&Observed {
            labels: self.namespace.metadata.labels.as_ref().unwrap_or(&none),
            annotations: self.namespace.metadata.annotations.as_ref().unwrap_or(&none),
            network_policies: &self.network_policies,
            resource_quotas: &self.resource_quotas,
            role_bindings: &self.role_bindings,
            limit_ranges: &self.limit_ranges,
        });
        defects.iter().map(Defect::code).collect()
    }
}

#[track_caller]
fn check(break_one_thing: impl FnOnce(&mut Cluster), expect: &[&str]) {
    let mut cluster = Cluster::whole();
    break_one_thing(&mut cluster);
    assert_eq!(cluster.seen(), expect);
}

fn policy(spec: &serde_json::Value) -> NetworkPolicy {
    serde_json::from_value(json!({"metadata": {"name": "beside"}, "spec": spec})).unwrap()
}

#[test]
fn the_baseline_as_built_is_proved() {
    check(|_| {}, &[]);
}

#[test]
fn nothing_at_all_is_every_defect() {
    check(
        |c| {
            *c = Cluster {
                namespace: Namespace::default(),
                network_policies: vec![],
                resource_quotas: vec![],
                role_bindings: vec![],
                limit_ranges: vec![],
            }
        },
        &[
            "ingress-not-denied",
            "egress-not-denied",
            "quota-annotation",
            "owner-annotation",
            "limit-range-missing",
            "pod-security",
            "organization-label",
        ],
    );
}

#[test]
fn the_organization_is_a_uuid() {
    for other in ["", "acme", "0198B1F2-0000-7000-8000-000000000001"] {
        check(
            |c| {
                let labels = c.namespace.metadata.labels.as_mut().unwrap();
                labels.insert(names::ORGANIZATION_LABEL.into(), other.into());
            },
            &["organization-label"],
        );
    }
}

#[test]
fn what_kubernetes_is_to_delete_does_not_count() {
    fn check_passing(passing: impl Fn(&mut ObjectMeta)) {
        check(
            |c| passing(&mut c.network_policies[0].metadata),
            &["ingress-not-denied", "egress-not-denied", "passing"],
        );
        check(|c| passing(&mut c.resource_quotas[0].metadata), &["quota-missing", "passing"]);
        check(|c| passing(&mut c.role_bindings[0].metadata), &["owner-not-bound", "passing"]);
        check(|c| passing(&mut c.limit_ranges[0].metadata), &["limit-range-missing", "passing"]);
        check(|c| passing(&mut c.network_policies[1].metadata), &[]);
        check(
            |c| {
                c.limit_ranges.push(c.limit_ranges[0].clone());
                passing(&mut c.limit_ranges[0].metadata);
            },
            &[],
        );
    }
    check_passing(|metadata| metadata.owner_references = Some(vec![OwnerReference::default()]));
    check_passing(|metadata| {
        metadata.deletion_timestamp = Some(serde_json::from_str("\"2026-01-01T00:00:00Z\"").unwrap());
    });
}

#[test]
fn an_opening_counts_until_it_is_gone() {
    check(
        |c| {
            let mut open = policy(&json!({"podSelector": {}, "ingress": [{}]}));
            open.metadata.owner_references = Some(vec![OwnerReference::default()]);
            c.network_policies.push(open);
        },
        &["open-network-policy"],
    );
}

/// Changes the default-deny policy's spec.
#[track_caller]
fn check_deny(change: impl FnOnce(&mut NetworkPolicySpec), expect: &[&str]) {
    check(|c| change(c.network_policies[0].spec.as_mut().unwrap()), expect);
}

#[test]
fn a_default_deny_counts_by_content() {
    check(|c| c.network_policies[0].metadata.name = Some("anything".into()), &[]);
    check_deny(
        |spec| spec.ingress = Some(vec![NetworkPolicyIngressRule::default()]),
        &["ingress-not-denied", "open-network-policy"],
    );
    check_deny(
        |spec| spec.egress = Some(vec![NetworkPolicyEgressRule::default()]),
        &["egress-not-denied", "open-network-policy"],
    );
    check_deny(|spec| spec.policy_types = Some(vec!["Ingress".into()]), &["egress-not-denied"]);
    check_deny(|spec| spec.policy_types = None, &["egress-not-denied"]);
    check_deny(
        |spec| {
            let some = [("a".to_owned(), "b".to_owned())].into();
            spec.pod_selector.as_mut().unwrap().match_labels = Some(some);
        },
        &["ingress-not-denied", "egress-not-denied"],
    );
    let one_way = |way: &str| policy(&json!({"podSelector": {}, "policyTypes": [way]}));
    check(|c| c.network_policies = vec![one_way("Ingress"), one_way("Egress")], &[]);
}

#[test]
fn what_opens_everything_beside_it_is_seen() {
    let open = ["open-network-policy"];
    for spec in [
        json!({"podSelector": {}, "ingress": [{}]}),
        json!({"podSelector": {"matchExpressions": [{"key": "x", "operator": "DoesNotExist"}]}, "ingress": [{}]}),
        json!({"podSelector": {}, "egress": [{"to": [{"ipBlock": {"cidr": "0.0.0.0/0"}}]}]}),
        json!({"podSelector": {}, "egress": [{"to": [{"ipBlock": {"cidr": "0.0.0.0/1"}}, {"ipBlock": {"cidr": "128.0.0.0/1"}}]}]}),
        json!({"podSelector": {}, "egress": [{"to": [{"ipBlock": {"cidr": "::/0", "except": ["fe80::/10"]}}]}]}),
        json!({"podSelector": {}, "egress": [{"to": [{"ipBlock": {"cidr": "0.0.0.0/2"}}, {"ipBlock": {"cidr": "64.0.0.0/2"}},
            {"ipBlock": {"cidr": "128.0.0.0/2"}}, {"ipBlock": {"cidr": "192.0.0.0/2"}}]}]}),
        json!({"podSelector": {}, "ingress": [{"from": [{"namespaceSelector": {}}]}]}),
        json!({"podSelector": {}, "ingress": [{"from": [{"namespaceSelector": {"matchExpressions": [
            {"key": "kubernetes.io/metadata.name", "operator": "Exists"}]}}]}]}),
        json!({"podSelector": {}, "ingress": [{"from": [{"namespaceSelector": {"matchExpressions": [
            {"key": "x", "operator": "NotIn", "values": ["y"]}]}}]}]}),
        json!({"podSelector": {}, "ingress": [{"ports": [
            {"protocol": "TCP", "port": 30001, "endPort": 65535}, {"port": 1, "endPort": 30000}]}]}),
        json!({"podSelector": {}, "ingress": [{"ports": [{"protocol": "TCP"}]}]}),
        json!({"podSelector": {}, "ingress": [{"ports": [{"protocol": "TCP", "port": 1, "endPort": 65535}]}]}),
    ] {
        check(|c| c.network_policies.push(policy(&spec)), &open);
    }
}

#[test]
fn narrower_policies_are_the_tenants_right() {
    for spec in [
        json!({"podSelector": {}, "ingress": [{"ports": [{"port": 80}]}]}),
        json!({"podSelector": {}, "ingress": [{"from": [{"podSelector": {}}]}]}),
        json!({"podSelector": {}, "egress": [{"to": [{"ipBlock": {"cidr": "10.0.0.0/8"}}]}]}),
        json!({"podSelector": {}, "ingress": [{"from": [{"namespaceSelector": {}, "podSelector": {"matchLabels": {"a": "b"}}}]}]}),
        json!({"podSelector": {}, "policyTypes": ["Ingress"], "egress": [{}]}),
        json!({"podSelector": {}, "ingress": [{"from": [{"namespaceSelector": {"matchExpressions": [
            {"key": "team", "operator": "In", "values": ["web"]}]}}]}]}),
        json!({"podSelector": {}, "ingress": [{"ports": [
            {"protocol": "UDP", "port": 1, "endPort": 30000}, {"port": 30001, "endPort": 65535}]}]}),
    ] {
        check(|c| c.network_policies.push(policy(&spec)), &[]);
    }
}

/// Sets `limits.cpu` in the quota's spec, or removes it.
#[track_caller]
fn check_cpu_limit(value: Option<&str>, expect: &[&str]) {
    check(
        |c| {
            let hard = c.resource_quotas[0].spec.as_mut().unwrap().hard.as_mut().unwrap();
            hard.remove("limits.cpu");
            hard.extend(value.map(|value| ("limits.cpu".to_owned(), Amount(value.to_owned()))));
        },
        expect,
    );
}

/// Changes the quota's status.
#[track_caller]
fn check_status(change: impl FnOnce(&mut ResourceQuotaStatus), expect: &[&str]) {
    check(|c| change(c.resource_quotas[0].status.as_mut().unwrap()), expect);
}

#[test]
fn the_quota_counts_by_keys_values_and_status() {
    check(|c| c.resource_quotas.clear(), &["quota-missing"]);
    check_cpu_limit(None, &["quota-missing"]);
    check_cpu_limit(Some("11"), &["quota-missing"]);
    check_cpu_limit(Some("10000m"), &[]);
    check(
        |c| c.resource_quotas[0].spec.as_mut().unwrap().scopes = Some(vec!["BestEffort".into()]),
        &["quota-missing"],
    );
    check(|c| c.resource_quotas[0].status = None, &["quota-not-enforced"]);
    check_status(|status| status.used = None, &["quota-not-enforced"]);
    check_status(
        |status| {
            status.hard.as_mut().unwrap().insert("limits.cpu".into(), Amount("9".into()));
        },
        &["quota-not-enforced"],
    );
    check(
        |c| {
            let annotations = c.namespace.metadata.annotations.as_mut().unwrap();
            annotations.insert(names::QUOTA_ANNOTATION.into(), "{}".into());
        },
        &["quota-annotation"],
    );
}

#[test]
fn the_owner_counts_by_subject_and_role() {
    check(|c| c.role_bindings.clear(), &["owner-not-bound"]);
    check(|c| c.role_bindings[0].role_ref.name = "view".into(), &["owner-not-bound"]);
    check(|c| c.role_bindings[0].role_ref.kind = "Role".into(), &["owner-not-bound"]);
    check(
        |c| c.role_bindings[0].subjects.as_mut().unwrap()[0].name = "agent-ready:eve@b.example".into(),
        &["owner-not-bound"],
    );
    check(|c| c.role_bindings[0].subjects.as_mut().unwrap()[0].kind = "Group".into(), &["owner-not-bound"]);
    check(
        |c| {
            c.namespace.metadata.annotations.as_mut().unwrap().remove(names::OWNER_ANNOTATION);
        },
        &["owner-annotation"],
    );
}

#[test]
fn a_binding_for_everybody_is_seen() {
    for (kind, name) in [
        ("Group", "system:authenticated"),
        ("Group", "system:unauthenticated"),
        ("Group", "system:serviceaccounts"),
        ("User", "system:anonymous"),
    ] {
        let subject = Subject { kind: kind.into(), name: name.into(), ..Subject::default() };
        check(
            |c| {
                let mut beside = c.role_bindings[0].clone();
                beside.role_ref.name = "view".into();
                beside.subjects = Some(vec![subject]);
                c.role_bindings.push(beside);
            },
            &["binding-for-everybody"],
        );
    }
}

#[test]
fn limits_and_pod_security_are_part_of_it() {
    check(|c| c.limit_ranges.clear(), &["limit-range-missing"]);
    check(
        |c| c.limit_ranges[0].spec.as_mut().unwrap().limits[0].default_request = None,
        &["limit-range-missing"],
    );
    check(
        |c| c.limit_ranges[0].spec.as_mut().unwrap().limits[0].type_ = "Pod".into(),
        &["limit-range-missing"],
    );
    check(|c| c.limit_ranges[0].spec.as_mut().unwrap().limits[0].min = None, &["limit-range-missing"]);
    let least = |c: &mut Cluster, cpu: &str| {
        let min = c.limit_ranges[0].spec.as_mut().unwrap().limits[0].min.as_mut().unwrap();
        min.insert("cpu".to_owned(), Amount(cpu.to_owned()));
    };
    check(|c| least(c, "0"), &["limit-range-missing"]);
    check(|c| least(c, "1m"), &[]);
    let level = |c: &mut Cluster, level: &str| {
        c.namespace
            .metadata
            .labels
            .as_mut()
            .unwrap()
            .insert("pod-security.kubernetes.io/enforce".into(), level.into());
    };
    check(|c| level(c, "privileged"), &["pod-security"]);
    check(|c| level(c, ""), &["pod-security"]);
    check(|c| level(c, "restricted"), &[]);
}
